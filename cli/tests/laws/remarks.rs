//! What was asked for and is not done is said: one line each, in JSON, and as an error if asked.

use crate::room::{Room, bytes, code, file_of, said, weights};
use fedpress::DType;
use serde_json::Value;

/// A model with a matrix of f64, norms deep in their names, and a counter.
fn room() -> Room {
    let room = Room::new();
    let w = bytes(&weights("w", 4096));
    let doubles: Vec<u8> =
        weights("d", 4096).iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    room.write(
        "m.safetensors",
        &file_of(&[
            ("head.weight", DType::F64, &[64, 64], &doubles),
            ("layer4.0.bn3.weight", DType::F32, &[64, 64], &w),
            ("layer4.0.conv1.weight", DType::F32, &[64, 64], &w),
            ("steps", DType::I64, &[], &42i64.to_le_bytes()),
        ]),
    );
    room
}

fn kinds(report: &Value) -> Vec<String> {
    let remarks = report["remarks"].as_array().unwrap();
    remarks.iter().map(|r| r["kind"].as_str().unwrap().to_owned()).collect()
}

fn spec_of(report: &Value, name: &str) -> String {
    let tensors = report["tensors"].as_array().unwrap();
    tensors.iter().find(|t| t["name"] == name).unwrap()["spec"].as_str().unwrap().to_owned()
}

#[test]
fn f64_that_stays_lossless_is_said_and_can_become_f32() {
    let room = room();
    let output = room.run("encode m.safetensors -o m.fp --spec q=8");
    let lines: Vec<_> = said(&output).lines().map(str::to_owned).collect();
    let about = |line: &&String| line.contains("1 tensor of f64 is left lossless");
    assert_eq!(lines.iter().filter(about).count(), 1, "{lines:?}");
    assert_eq!(said(&room.run("encode m.safetensors -o m.fp -f --spec q=8 -q")), "");
    let report = room.json("encode m.safetensors -o m.fp -f --spec q=8");
    assert_eq!(kinds(&report), ["f64"]);
    assert_eq!(report["remarks"][0]["tensors"], 1);

    // Nothing is said where nothing lossy was asked for.
    let lossless = room.json("encode m.safetensors -o l.fp --spec lossless --strict");
    assert_eq!(kinds(&lossless), Vec::<String>::new());

    let strict = room.run("encode m.safetensors -o s.fp --spec q=8 --strict");
    assert_eq!(code(&strict), 1);
    assert!(said(&strict).contains("f64") && !room.path("s.fp").exists(), "{}", said(&strict));

    let report = room.json("encode m.safetensors -o m.fp -f --spec q=8 --f64 as-f32 --strict");
    assert_eq!(spec_of(&report, "head.weight"), "identity|q=8");
    room.ok("decode m.fp -o back.safetensors");
    let diff = room.run("diff m.safetensors back.safetensors");
    assert!(String::from_utf8_lossy(&diff.stdout).contains("F64 [64, 64] in A, F32 [64, 64] in B"));
    room.ok("decode m.fp --tensor head.weight --raw -o head.raw");
    let back: Vec<f32> = room
        .read("head.raw")
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let near = back.iter().zip(weights("d", 4096)).all(|(a, b)| (a - b).abs() < 0.05);
    assert!(near, "values are those of f64");
}

#[test]
fn rules_without_effect_are_said() {
    let room = room();
    let report = |rules: &[&str]| {
        let line = [
            "encode",
            "m.safetensors",
            "-o",
            "m.fp",
            "-f",
            "--f64",
            "as-f32",
            "-s",
            "q=8",
            "--json",
        ];
        let rules = rules.iter().flat_map(|rule| ["--rule", rule]);
        let output = room.run_words(line.into_iter().chain(rules), b"");
        assert_eq!(code(&output), 0, "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    // The example of the help means what its author means.
    let deep = report(&["bn*=lossless"]);
    assert_eq!(kinds(&deep), Vec::<String>::new());
    assert_eq!(spec_of(&deep, "layer4.0.bn3.weight"), "shuffle|zstd");
    assert_eq!(spec_of(&deep, "layer4.0.conv1.weight"), "identity|q=8");
    for (rules, says) in [
        (&["convs*=lossless"][..], "\"convs*\" matches no tensor"),
        (&["^bn*=lossless"], "\"^bn*\" matches no tensor"),
        (&["bn*=lossless", "layer4.0.bn3*=q=2"], "rules before it match the same tensors"),
        (&["*steps=q=2"], "1 of 1 tensor stay lossless, I64 is always lossless"),
    ] {
        let report = report(rules);
        assert_eq!(kinds(&report), ["rule"], "{rules:?}");
        assert!(report["remarks"][0]["message"].as_str().unwrap().contains(says), "{report}");
    }
    let strict =
        room.run("encode m.safetensors -o s.fp -s lossless --rule convs*=lossless --strict");
    assert_eq!(code(&strict), 1);
}

#[test]
fn spared_tensors_and_pipelines_that_do_not_pay_are_said() {
    let room = Room::new();
    let w = bytes(&weights("w", 4096));
    // Values of a coarse grid: few bits without loss.
    let grid: Vec<u8> =
        weights("g", 1 << 16).iter().flat_map(|v| v.round().to_le_bytes()).collect();
    room.write(
        "m.safetensors",
        &file_of(&[
            ("bn.running_var", DType::F32, &[4096], &w),
            ("fc.weight", DType::F32, &[64, 64], &w),
        ]),
    );
    let spared = room.run("encode m.safetensors -o m.fp -s q=4");
    assert!(said(&spared).contains("1 tensor is spared"), "{}", said(&spared));
    assert_eq!(code(&room.run("encode m.safetensors -o s.fp -s q=4 --strict")), 1);
    assert!(!room.path("s.fp").exists());
    room.ok("encode m.safetensors -o s.fp -s q=4 --strict --spare nothing");
    // By a rule, it is no surprise.
    room.ok("encode m.safetensors -o s.fp -f -s q=4 --strict --rule running_var=lossless");

    room.write("g.safetensors", &file_of(&[("w", DType::F32, &[256, 256], &grid)]));
    let report = room.json("encode g.safetensors -o g.fp -s kashin,lambda=2|q=16");
    let lossless = room.json("encode g.safetensors -o l.fp -s lossless")["bytes"].as_u64().unwrap();
    let is_larger = report["bytes"].as_u64().unwrap() > lossless * 102 / 100;
    assert_eq!(report["tensors"][0]["larger"], is_larger);
    assert_eq!(kinds(&report).contains(&"larger".to_owned()), is_larger);
}

#[test]
fn without_a_spec_it_is_said_what_was_taken_and_what_it_cost() {
    let room = Room::with_model();
    let text = said(&room.run("encode model.safetensors"));
    for part in ["preset careful (rotation|trellis=7,biased or ", "nmse", "--spec auto", "estimate"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let cost: f64 =
        text.split("(nmse ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    let diff = room.json("diff model.safetensors model.safetensors.fp");
    let real = diff["total"]["nmse"].as_f64().unwrap();
    assert!((0.5..2.0).contains(&(cost / real)), "{cost} {real}");
    assert!(!said(&room.run("encode model.safetensors -f -s careful")).contains("preset"));
}

#[test]
fn few_bits_for_what_is_called_a_model_get_a_hint() {
    let room = Room::with_model();
    let hint = "for a model that is used as it comes back: --spec careful";
    for (line, few) in [
        ("encode model.safetensors -f -s auto", true),
        ("encode model.safetensors -f -s uplink --strict --spare nothing", true),
        ("encode model.safetensors -f -s careful", false),
        ("encode model.safetensors -f -s lossless", false),
        ("encode model.safetensors -f -s auto -q", false),
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 0, "{line}: {}", said(&output));
        assert_eq!(said(&output).contains(hint), few, "{line}: {}", said(&output));
    }
    std::fs::rename(room.path("model.safetensors"), room.path("update.safetensors")).unwrap();
    assert!(!said(&room.run("encode update.safetensors -s auto")).contains(hint));
    std::fs::create_dir(room.path("net")).unwrap();
    std::fs::rename(room.path("update.safetensors"), room.path("net/a.safetensors")).unwrap();
    assert!(said(&room.run("encode net -s auto")).contains(hint));
}

#[test]
fn a_dry_run_reports_the_same_bytes_and_writes_nothing() {
    let room = Room::with_model();
    let line = "encode model.safetensors -s hadamard|q=4 --private-seed 5";
    let dry = room.json(&format!("{line} --dry-run"));
    assert_eq!(room.files(), ["model.safetensors"]);
    let wet = room.json(&format!("{line} -o m.fp"));
    assert_eq!((&dry["bytes"], &dry["tensors"]), (&wet["bytes"], &wet["tensors"]));
    assert_eq!(dry["output"], Value::Null);
    assert!(said(&room.run(&format!("{line} --dry-run"))).contains("nothing was written"));
}

#[test]
fn verbose_is_a_table_of_tensors() {
    let room = Room::with_model();
    let text = said(&room.run("encode model.safetensors -v -s hadamard|q=8|zstd"));
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("{text}"))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // Heads stand above their columns.
    let column = |row: &str, word: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(row)).unwrap();
        line.find(word).unwrap()
    };
    assert_eq!(column("tensor ", "dtype"), column("fc1.weight", "F32"));
    assert_eq!(row("fc1.weight")[1..4], ["F32", "[200,200]", "hadamard|q=8|zstd"]);
    assert!(row("fc1.weight")[6].parse::<f64>().unwrap() < 1e-3);
    assert!(row("steps").join(" ").contains("I64 is always lossless"));
    assert!(row("fc1.bias").join(" ").contains("too few values"));
}

#[test]
fn one_is_singular_and_sizes_have_units() {
    let room = Room::new();
    room.write("w.raw", &bytes(&weights("w", 3000)));
    let text = said(&room.run("encode w.raw --dtype f32 --shape 3000"));
    assert!(text.contains(": 1 tensor, 12000 -> ") && text.contains("(12.00kB -> "), "{text}");
    let decoded = said(&room.run("decode w.raw.fp -o x.raw"));
    assert!(decoded.contains("1 tensor, 12000 bytes (12.00kB)"), "{decoded}");
    let inspected = room.ok("inspect w.raw.fp");
    assert!(inspected.contains("1 tensor, 3000 values"), "{inspected}");
}

#[test]
fn a_misspelt_stage_is_answered_with_the_nearest() {
    let room = Room::with_model();
    for (line, meant) in [
        ("encode model.safetensors -s hadamrd|q=4", "hadamard"),
        ("encode model.safetensors -s blanced", "balanced"),
        ("encode model.safetensors --rule fc*=hadamrd|q=4", "hadamard"),
        ("bench model.safetensors -s carefull", "careful"),
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}");
        let text = said(&output);
        assert!(text.contains(&format!("did you mean \"{meant}\"?")), "{text}");
    }
}
