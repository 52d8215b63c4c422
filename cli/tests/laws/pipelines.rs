//! Pipelines, rules and seeds.

use crate::room::{Room, bytes, code, file_of, said, weights};
use fedpress::DType;
use serde_json::Value;

fn tensor<'a>(inspect: &'a Value, name: &str) -> &'a Value {
    inspect["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap()
}

fn spec_of(inspect: &Value, name: &str) -> String {
    tensor(inspect, name)["spec"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_rule_that_matches_wins() {
    let room = Room::with_model();
    let words = |rules: [&str; 2]| {
        let [a, b] = rules;
        let line = ["encode", "model.safetensors", "-o", "m.fp", "-f", "--spec", "q=8"];
        let output = room.run_words(line.iter().chain(&["--rule", a, "--rule", b]), b"");
        assert_eq!(code(&output), 0, "{}", said(&output));
        (room.json("inspect m.fp"), said(&output))
    };
    let (inspect, _) = words(["fc1.*=hadamard|q=2", "fc*.weight=hadamard|q=3"]);
    assert_eq!(spec_of(&inspect, "fc1.weight"), "hadamard|q=2");
    assert_eq!(spec_of(&inspect, "fc2.weight"), "hadamard|q=3");
    assert_eq!(spec_of(&inspect, "steps"), "shuffle|zstd");
    let (inspect, said) = words(["fc*.weight=hadamard|q=3", "fc1.w*=hadamard|q=2"]);
    assert_eq!(spec_of(&inspect, "fc1.weight"), "hadamard|q=3");
    assert!(said.contains("fc1.w*"), "a rule without effect is mentioned: {said}");
}

#[test]
fn what_is_neither_matched_nor_lossy_follows_the_rest_of_the_flags() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp --spec q=8 --min-values 100 --chunk-values 4K --spare nothing");
    let inspect = room.json("inspect m.fp");
    assert_eq!(spec_of(&inspect, "fc1.bias"), "identity|q=8");
    assert_eq!(tensor(&inspect, "fc1.weight")["chunks"], 10);
}

#[test]
fn the_same_seeds_make_the_same_bytes_and_fresh_ones_do_not() {
    let room = Room::with_model();
    let encode = |out: &str, more: &str| {
        room.json(&format!(
            "encode model.safetensors -o {out} -f --spec hadamard|q=4 --seed 7 {more}"
        ))
    };
    let first = encode("a.fp", "");
    encode("b.fp", "");
    assert_ne!(room.read("a.fp"), room.read("b.fp"), "the private seed is drawn");
    let private = first["private_seed"].as_str().unwrap();
    encode("b.fp", &format!("--private-seed {private} -T 3"));
    assert_eq!(room.read("a.fp"), room.read("b.fp"));
    encode("b.fp", &format!("--private-seed {private} --client-id 1"));
    assert_ne!(room.read("a.fp"), room.read("b.fp"));
    let said = said(&room.run("encode model.safetensors -c -v --private-seed 0x1f"));
    assert!(said.contains("private seed 31"), "{said}");
}

#[test]
fn seed_and_round_are_in_the_stream() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp --spec hadamard|q=4 --seed 18446744073709551615 --round 3");
    let inspect = room.json("inspect m.fp");
    let tensors = inspect["tensors"].as_array().unwrap();
    let lossy = tensors.iter().find(|t| t["lossy"] == true).unwrap();
    assert_eq!((&lossy["seed"], &lossy["round"]), (&u64::MAX.to_string().into(), &3.into()));
}

#[test]
fn nan_is_refused_with_its_tensor_and_may_pass_losslessly() {
    let room = Room::new();
    let mut values = weights("w", 600_000);
    values[590_000] = f32::NAN;
    let good = bytes(&weights("good", 2000));
    let bad = bytes(&values);
    let file =
        file_of(&[("good", DType::F32, &[2000], &good), ("bad", DType::F32, &[600_000], &bad)]);
    room.write("w.safetensors", &file);
    let output = room.run("encode w.safetensors --spare nothing");
    assert_eq!(code(&output), 1);
    let words = said(&output);
    assert!(words.contains("\"bad\"") && words.contains("590000"), "{words}");
    assert!(words.contains("--non-finite lossless"), "{words}");
    assert_eq!(room.files(), ["w.safetensors"]);

    let piped = room.pipe("encode - --spare nothing --non-finite lossless", &file);
    assert_eq!(code(&piped), 0, "{}", said(&piped));
    room.write("piped.fp", &piped.stdout);
    room.ok("encode w.safetensors -o file.fp --spare nothing --non-finite lossless");
    for name in ["piped.fp", "file.fp"] {
        let inspect = room.json(&format!("inspect {name}"));
        let careful = fedpress::PRESETS.iter().find(|p| p.name == "careful").unwrap();
        for tensor in ["bad", "good"] {
            assert!(careful.spec.starts_with(&spec_of(&inspect, tensor)), "the default");
        }
        // All of it is one group.
        assert_eq!(room.run(&format!("decode {name} --tensor bad --raw -c")).stdout, bad);
    }
}

#[test]
fn a_lossy_copy_is_near() {
    let room = Room::with_model();
    for (spec, bound) in [("careful", 0.001), ("balanced", 0.1), ("kashin|q=6", 0.01)] {
        room.ok(&format!("encode model.safetensors -o m.fp -f --spec {spec}"));
        let diff = room.json("diff model.safetensors m.fp");
        let nmse = diff["total"]["nmse"].as_f64().unwrap();
        assert!(nmse > 0.0 && nmse < bound, "{spec}: {nmse}");
    }
}
