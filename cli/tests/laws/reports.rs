//! inspect, verify, diff and bench.

use crate::room::{Room, bytes, code, file_of, said, weights};
use fedpress::DType;

#[test]
fn inspect_does_not_need_payloads() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp --spec hadamard|q=4");
    let healthy = room.ok("inspect m.fp");
    let mut damaged = room.read("m.fp");
    damaged[5000] ^= 1;
    room.write("m.fp", &damaged);
    assert_eq!(room.ok("inspect m.fp"), healthy);
    assert_eq!(
        String::from_utf8(room.pipe("inspect -", &damaged).stdout).unwrap(),
        healthy.replace("m.fp", "-")
    );
    let verify = room.run("verify m.fp");
    assert_eq!(code(&verify), 1);
    assert!(String::from_utf8_lossy(&verify.stdout).starts_with("m.fp: FAILED: corrupt stream"));
}

#[test]
fn inspect_tells_what_is_there() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp --spec hadamard|q=4 --seed 9 --index");
    let text = room.ok("inspect m.fp");
    for part in
        ["m.fp", "0.1", "\"format\" = \"pt\"", "[200,200]", "hadamard|q=4", "  9  ", "45201 values"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = room.json("inspect m.fp");
    assert_eq!(json["total"]["bytes"], room.read("m.fp").len());
    assert_eq!(json["total"]["original_bytes"], 4 * 45_200 + 8);
    assert_eq!(json["metadata"]["format"], "pt");
    assert_eq!(json["index"], true);
}

#[test]
fn every_report_is_json_with_a_schema() {
    let room = Room::with_model();
    assert_eq!(room.json("encode model.safetensors -o m.fp")["command"], "encode");
    assert_eq!(room.json("decode m.fp -o x.npz")["tensors"][1]["shape"], serde_json::json!([200]));
    assert_eq!(room.json("inspect m.fp")["version"], "0.2");
    assert_eq!(room.json("verify m.fp m.fp")["files"][1]["values"], 45_201);
    assert_eq!(room.json("diff m.fp m.fp")["total"]["cosine"], 1.0);
    let bench = room.json("bench model.safetensors --iters 1 -s none -s q=4");
    assert_eq!(bench["results"][1]["spec"], "identity|q=4");
    assert_eq!(bench["results"][0]["nmse"], 0.0);
    room.write("noise", b"noise");
    let failed = room.run("verify noise --json");
    assert_eq!(code(&failed), 1);
    let failed: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((&failed["schema"], &failed["ok"]), (&1.into(), &false.into()));
}

#[test]
fn verify_answers_for_each_file() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.write("noise", b"noise");
    let output = room.run("verify m.fp noise missing m.fp");
    let text = String::from_utf8(output.stdout).unwrap();
    let starts: Vec<_> = text.lines().map(|l| l.split(": ").take(2).collect::<Vec<_>>()).collect();
    assert_eq!(
        starts,
        [["m.fp", "OK"], ["noise", "FAILED"], ["missing", "FAILED"], ["m.fp", "OK"]]
    );
    assert_eq!(
        String::from_utf8(room.run("verify -q m.fp noise").stdout).unwrap().lines().count(),
        1
    );
    assert_eq!(room.pipe("verify -", &room.read("m.fp")).stdout, b"-: OK\n");
}

#[test]
fn diff_matches_tensors_by_name_in_any_order() {
    let room = Room::new();
    let [a, b] = ["a", "b"].map(|n| bytes(&weights(n, 2000)));
    let longer = bytes(&weights("b", 2001));
    let shape: &[usize] = &[2000];
    let f32 = DType::F32;
    room.write("1.npz", &[]);
    // safetensors sorts by offset, so streams of one tensor each make the order.
    for (name, data) in [("a", &a), ("b", &b)] {
        room.write("x.safetensors", &file_of(&[(name, f32, shape, data)]));
        room.ok(&format!("encode x.safetensors -o {name}.fp -s lossless"));
    }
    let [a_fp, b_fp] = ["a.fp", "b.fp"].map(|n| room.read(n));
    room.write("ab.fp", &[&a_fp[..], &b_fp].concat());
    room.write("ba.fp", &[&b_fp[..], &a_fp].concat());
    assert_eq!(room.json("diff ab.fp ba.fp")["total"]["different"], 0);
    let piped = room.pipe("diff - ba.fp", &room.read("ab.fp"));
    assert_eq!(code(&piped), 0, "{}", said(&piped));

    // One stream in the other order, read by its index and by its headers.
    room.ok("decode ba.fp -o ba.npz");
    for more in ["", " --index"] {
        room.ok(&format!("encode ba.npz -o one.fp -f -s lossless{more}"));
        for line in ["diff ab.fp one.fp", "diff one.fp ab.fp", "diff one.fp one.fp"] {
            assert_eq!(room.json(line)["total"]["different"], 0, "{line}{more}");
        }
    }

    let only = room.run("diff ab.fp a.fp");
    assert_eq!(code(&only), 1);
    assert!(String::from_utf8_lossy(&only.stdout).contains("only in A: \"b\""));
    room.write("c.safetensors", &file_of(&[("a", f32, shape, &a), ("b", f32, &[2001], &longer)]));
    let output = room.run("diff ab.fp c.safetensors");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 1);
    assert!(text.contains("F32 [2000] in A, F32 [2001] in B") && text.contains("total"), "{text}");
}

#[test]
fn diff_takes_the_options_for_raw_bytes_to_the_side_that_is_raw() {
    let room = Room::new();
    let data = bytes(&weights("w", 2000));
    room.write("w.raw", &data);
    room.write("w.safetensors", &file_of(&[("w", DType::F32, &[2000], &data)]));
    room.ok("encode w.safetensors -o w.fp -s lossless");
    for line in ["w.raw w.safetensors", "w.safetensors w.raw", "w.raw w.fp", "w.fp w.raw"] {
        let diff = room.json(&format!("diff {line} --dtype f32 --shape 2000 --name w"));
        assert_eq!(
            (&diff["total"]["values"], &diff["total"]["different"]),
            (&2000.into(), &0.into())
        );
    }
}

#[test]
fn names_cannot_play_tricks_with_the_terminal() {
    let room = Room::new();
    let data = bytes(&weights("a", 2000));
    room.write("x.safetensors", &file_of(&[("\u{1b}[2J two", DType::F32, &[2000], &data)]));
    let said = said(&room.run("encode x.safetensors -v"));
    let texts =
        [said, room.ok("inspect x.safetensors.fp"), room.ok("diff x.safetensors x.safetensors.fp")];
    for text in texts {
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J two"), "{text}");
    }
}

#[test]
fn bench_measures_presets_by_default() {
    let room = Room::with_model();
    let text = room.ok("bench model.safetensors --iters 1");
    assert!(text.lines().count() > 2 + fedpress::PRESETS.len(), "{text}");
    assert!(text.contains("hadamard|q=4|zstd"));
}
