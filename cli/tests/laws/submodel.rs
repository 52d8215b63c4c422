//! Submodels of tensor files.

use crate::room::{Room, code, said};

#[test]
fn a_submodel_put_back_unchanged_changes_nothing() {
    let room = Room::with_model();
    for options in ["--keep 0.75 --seed 3", "--strategy ordered", "--strategy rolling --offset 150"]
    {
        room.ok(&format!("submodel pack model.safetensors -o sub.safetensors -f {options}"));
        let merge = "submodel merge model.safetensors sub.safetensors -o back.safetensors -f";
        room.ok(&format!("{merge} {options}"));
        room.ok("diff model.safetensors back.safetensors");
        assert_eq!(room.read("model.safetensors"), room.read("back.safetensors"), "{options}");
    }
}

#[test]
fn a_submodel_is_smaller_by_its_rows_and_columns() {
    let room = Room::with_model();
    let report = room.json("submodel inspect model.safetensors --keep 0.5");
    assert_eq!(report["groups"][0]["kept"], 100);
    let kept = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["kept"].to_string()
    };
    assert_eq!(kept("fc1.weight"), "[100,200]");
    assert_eq!(kept("fc1.bias"), "[100]");
    assert_eq!(kept("fc2.weight"), "[25,100]");
    room.ok("submodel pack model.safetensors -o sub.safetensors --keep 0.5");
    let listed = room.json("submodel inspect sub.safetensors --keep 1");
    assert_eq!(listed["values"], report["values_kept"]);
}

#[test]
fn another_seed_keeps_other_units_and_merge_writes_only_those() {
    let room = Room::with_model();
    room.ok("submodel pack model.safetensors -o a.safetensors --keep 0.5 --seed 1");
    room.ok("submodel pack model.safetensors -o b.safetensors --keep 0.5 --seed 2");
    assert_ne!(room.read("a.safetensors"), room.read("b.safetensors"));
    room.ok("submodel merge model.safetensors a.safetensors -o m.safetensors --keep 0.5 --seed 2");
    room.ok("submodel pack m.safetensors -o a2.safetensors --keep 0.5 --seed 2");
    assert_eq!(room.read("a.safetensors"), room.read("a2.safetensors"));
}

#[test]
fn a_printed_layout_is_one_that_is_read() {
    let room = Room::with_model();
    let layout = room.ok("submodel inspect model.safetensors --print-layout");
    room.write("layout.toml", layout.as_bytes());
    let line = "submodel inspect model.safetensors --print-layout --layout layout.toml";
    assert_eq!(room.ok(line), layout);
}

#[test]
fn mistakes_are_told() {
    let room = Room::with_model();
    room.write(
        "wrong.toml",
        b"[groups]\nfc1 = 7\n[[parameters]]\nname = \"fc1.weight\"\naxes = [\"fc1\", \"7\"]\n",
    );
    room.ok("submodel pack model.safetensors -o sub.safetensors --keep 0.5");
    for (line, says) in [
        ("submodel pack model.safetensors -o x.safetensors --keep 0", "fraction"),
        ("submodel pack model.safetensors -o x.safetensors --keep-group no=0.5", "no group"),
        ("submodel pack model.safetensors -o x.safetensors --layout wrong.toml", "fc1.weight"),
        ("submodel pack model.safetensors --keep 0.5", "-o FILE"),
        ("submodel merge model.safetensors model.safetensors -o x.safetensors", "expected"),
    ] {
        let output = room.run(line);
        assert!(code(&output) != 0, "{line}");
        assert!(said(&output).contains(says), "{line}: {}", said(&output));
        assert!(!room.path("x.safetensors").exists());
    }
}
