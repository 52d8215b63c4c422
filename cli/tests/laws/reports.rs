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
fn inspect_describes_the_tensors_of_a_file() {
    let room = Room::new();
    let values = [f32::NAN, f32::INFINITY, 0.0, -0.0, 1.0, 3.0, 5.0, 7.0];
    let w = bytes(&values);
    let gauss = bytes(&weights("w", 1 << 16));
    room.write(
        "t.safetensors",
        &file_of(&[
            ("gauss", DType::F32, &[256, 256], &gauss),
            ("special", DType::F32, &[2, 4], &w),
            ("steps", DType::I64, &[], &42i64.to_le_bytes()),
        ]),
    );
    room.ok("encode t.safetensors -o t.fp -s lossless");
    room.ok("decode t.fp -o t.npz");
    for file in ["t.safetensors", "t.npz"] {
        let report = room.json(&format!("inspect {file}"));
        let tensor = |name: &str| {
            let tensors = report["tensors"].as_array().unwrap();
            tensors.iter().find(|t| t["name"] == name).unwrap().clone()
        };
        let special = tensor("special");
        for (key, expected) in [("nan", 1), ("infinite", 1), ("zeros", 2), ("bytes", 32)] {
            assert_eq!(special[key], expected, "{key}");
        }
        assert_eq!(special["mean"].as_f64().unwrap(), 16.0 / 6.0);
        let gauss = tensor("gauss");
        // A sum of four uniform numbers: deviation sqrt(4 / 12), kurtosis 3 - 6 / 20.
        let near = |key: &str, expected: f64, by: f64| {
            let found = gauss[key].as_f64().unwrap();
            assert!((found - expected).abs() < by, "{key}: {found}");
        };
        near("deviation", (1f64 / 3.0).sqrt(), 0.01);
        near("kurtosis", 2.7, 0.05);
        assert_eq!(tensor("steps")["mean"], 42.0);
        assert_eq!(report["total"]["tensors"], 3);
        let text = room.ok(&format!("inspect {file}"));
        assert!(text.contains("3 tensors, 65545 values") && text.contains("kurtosis"), "{text}");
    }
    let raw = room.json("inspect t.npz t.fp t.safetensors");
    assert_eq!(raw["files"].as_array().unwrap().len(), 3);
}

#[test]
fn inspect_takes_several_files_and_goes_on_behind_a_bad_one() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.write("bad.fp", b"noise");
    let output = room.run("inspect m.fp bad.fp model.safetensors missing.fp");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 3, "that of the first error");
    assert!(
        text.contains("file     m.fp") && text.contains("file     model.safetensors"),
        "{text}"
    );
    assert!(said(&output).contains("bad.fp") && said(&output).contains("missing.fp"));
    // A file alone is inspected.
    assert_eq!(room.ok("m.fp"), room.ok("inspect m.fp"));
    assert_eq!(room.ok("model.safetensors"), room.ok("inspect model.safetensors"));
    std::fs::create_dir(room.path("net")).unwrap();
    room.write("net/model.safetensors", &room.read("model.safetensors"));
    assert_eq!(room.ok("net"), room.ok("inspect net"));
    assert_eq!(code(&room.run("no-such-verb")), 2);
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
fn diff_tells_the_truth_on_special_values() {
    let room = Room::new();
    let file = |name: &str, values: &[f32], count: i64| {
        let content = file_of(&[
            ("count", DType::I64, &[], &count.to_le_bytes()),
            ("w", DType::F32, &[values.len()], &bytes(values)),
        ]);
        room.write(name, &content);
    };
    let a = [f32::NAN, f32::INFINITY, 0.0, -0.0, 1.0, -2.0, 0.0, 4.0];
    file("a.safetensors", &a, (1 << 60) + 1);
    let same =
        room.json("diff a.safetensors a.safetensors --fail-above nmse=0 --fail-above differ=0");
    assert_eq!((&same["total"]["different"], &same["total"]["nmse"]), (&0.into(), &0.0.into()));
    assert_eq!(same["total"]["cosine"], 1.0);

    file("b.safetensors", &[f32::NAN, f32::INFINITY, -0.0, -0.0, -1.0, -2.0, 3.0, 4.0], 1 << 60);
    let diff = room.json("diff a.safetensors b.safetensors");
    let row = |name: &str| {
        diff["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap().clone()
    };
    let w = row("w");
    for (key, expected) in [
        ("different", 2),
        ("zero_signs", 1),
        ("sign_flips", 1),
        ("zeros_lost", 1),
        ("non_finite", 0),
    ] {
        assert_eq!(w[key], expected, "{key}");
    }
    assert_eq!(w["nmse"], 13.0 / 21.0);
    let count = row("count");
    assert_eq!((&count["different"], &count["max_error"]), (&1.into(), &1.0.into()));

    // NaN where there was a number is beyond every limit, and so is an infinity of the other sign.
    for (place, value) in [(4, f32::NAN), (1, f32::NEG_INFINITY), (1, 3e38)] {
        let mut lost = a;
        lost[place] = value;
        file("c.safetensors", &lost, (1 << 60) + 1);
        let line = "diff a.safetensors c.safetensors";
        let total = &room.json(line)["total"];
        assert_eq!((&total["non_finite"], &total["cosine"]), (&1.into(), &serde_json::Value::Null));
        assert_eq!(total["sign_flips"], u64::from(value == f32::NEG_INFINITY));
        for limit in
            ["above nmse=1e9", "above max_error=inf", "below cosine=-1", "above nonfinite=0"]
        {
            assert_eq!(code(&room.run(&format!("{line} --fail-{limit}"))), 1, "{value} {limit}");
        }
    }
}

#[test]
fn a_quiet_diff_says_only_why_it_fails() {
    let room = Room::new();
    let file = |name: &str, values: &[f32]| {
        room.write(name, &file_of(&[("w", DType::F32, &[values.len()], &bytes(values))]));
    };
    file("a.safetensors", &[0.0, 1.0]);
    file("b.safetensors", &[-0.0, 2.0]);
    assert_eq!(room.ok("diff a.safetensors b.safetensors -q"), "");
    for (limit, line) in [
        ("+-0=0", "\"w\": +-0 1 is above 0"),
        ("zero_signs=0", "\"w\": +-0 1 is above 0"),
        ("differ=0", "\"w\": differ 1 is above 0"),
        ("max_error=0.5", "\"w\": max_error 1 is above 0.5"),
        ("nmse=1e-3", "\"w\": nmse 1 is above 1e-3"),
    ] {
        let output = room.run(&format!("diff a.safetensors b.safetensors -q --fail-above {limit}"));
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!((code(&output), text.lines().next()), (1, Some(line)));
    }
    file("c.safetensors", &[0.0]);
    let output = room.run("diff a.safetensors c.safetensors -q");
    assert_eq!(code(&output), 1);
    assert_eq!(output.stdout, b"differs: \"w\" is F32 [2] in A, F32 [1] in B\n");
}

#[test]
fn diff_fails_where_scripts_want_it_to() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp -s hadamard|q=4");
    let diff = room.json("diff model.safetensors m.fp");
    let nmse = diff["tensors"].as_array().unwrap().iter().map(|t| t["nmse"].as_f64().unwrap());
    let worst = nmse.fold(0.0, f64::max);
    let line = "diff model.safetensors m.fp";
    room.ok(&format!("{line} --fail-above nmse={worst:e} --fail-below cosine=0.9"));
    let output = room.run(&format!("{line} --fail-above nmse={:e}", worst / 2.0));
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nmse"));
    assert_eq!(code(&room.run(&format!("{line} --fail-below cosine=0.99999"))), 1);
}

#[test]
fn floats_of_less_than_a_byte_are_counted_and_described() {
    let room = Room::new();
    let file = |data: &[u8]| {
        let header = r#"{"w":{"dtype":"F4","shape":[2,8],"data_offsets":[0,8]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    // 0.5, 1, then 14 times 0; and the same with 6 in the place of the last.
    room.write("a.safetensors", &file(&[0x21, 0, 0, 0, 0, 0, 0, 0]));
    room.write("b.safetensors", &file(&[0x21, 0, 0, 0, 0, 0, 0, 0x70]));
    let a = room.json("inspect a.safetensors");
    assert_eq!((&a["tensors"][0]["values"], &a["tensors"][0]["zeros"]), (&16.into(), &14.into()));
    assert_eq!(a["tensors"][0]["mean"], 1.5 / 16.0);
    let diff = room.json("diff a.safetensors b.safetensors");
    for (key, expected) in [("values", 16), ("different", 1), ("zeros_lost", 1)] {
        assert_eq!(diff["total"][key], expected, "{key}");
    }
    assert_eq!(diff["total"]["max_error"], 6.0);
    room.ok("encode a.safetensors");
    room.ok("decode a.safetensors.fp -o back.safetensors");
    assert_eq!(room.json("diff a.safetensors back.safetensors")["total"]["different"], 0);
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
    assert!(text.contains("rotation|lm=4"));
}
