//! Sizes and errors that are asked for, and what is said of a file before it is encoded.

use crate::room::{Room, bytes, code, file_of, said, weights};
use fedpress::DType;

/// Two layers of different size, and a bias, which is spared.
fn room() -> Room {
    let (a, b, bias) = (weights("a", 1 << 16), weights("b", 1 << 15), weights("bias", 100));
    let b: Vec<f32> = b.iter().map(|v| v * 0.01).collect();
    let room = Room::new();
    let file = file_of(&[
        ("a.weight", DType::F32, &[256, 256], &bytes(&a)),
        ("b.weight", DType::F32, &[128, 256], &bytes(&b)),
        ("b.bias", DType::F32, &[100], &bytes(&bias)),
    ]);
    room.write("model.safetensors", &file);
    room
}

const VALUES: f64 = ((1 << 16) + (1 << 15) + 100) as f64;

#[test]
fn a_size_that_is_asked_for_is_met_and_not_passed() {
    let room = room();
    for (flag, most) in [
        ("--target-bytes 20K", 20480.0),
        ("--target-ratio 25", VALUES * 4.0 / 25.0),
        ("--target-bits 1.5 --manifest --index", VALUES * 1.5 / 8.0),
        ("--target-bits 1.5 --spec small -T 2", VALUES * 1.5 / 8.0),
    ] {
        let report = room.json(&format!("encode model.safetensors -o m.fp -f {flag} --seed 7"));
        let len = room.read("m.fp").len() as f64;
        assert_eq!(report["bytes"].as_f64(), Some(len), "{flag}");
        assert!(len <= most && len > 0.99 * most, "{flag}: {len} of {most}");
        room.ok("verify m.fp");
    }
}

#[test]
fn an_error_that_is_asked_for_is_met() {
    let room = room();
    room.ok("encode model.safetensors -o m.fp --target-nmse 0.01 --seed 7 --spare nothing");
    let diff = room.json("diff model.safetensors m.fp");
    let nmse = diff["total"]["nmse"].as_f64().unwrap();
    assert!((nmse / 0.01 - 1.0).abs() < 0.06, "{nmse}");
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let room = room();
    let fails = |line: &str, with: i32| {
        let output = room.run(line);
        assert_eq!(code(&output), with, "{line}: {}", said(&output));
        said(&output)
    };
    let said = fails("encode model.safetensors -o m.fp --target-bytes 500", 1);
    assert!(said.contains("500 bytes"), "{said}");
    fails("encode model.safetensors -o m.fp --target-bytes 9K --target-bits 1", 2);
    fails("encode model.safetensors -o m.fp --target-bits 1 --spec q=4", 2);
    fails("encode model.safetensors -o m.fp --target-ratio 0", 2);
    let output = room.pipe("encode - -o m.fp --target-bits 1", &room.read("model.safetensors"));
    assert_eq!(code(&output), 2);
    assert!(!room.files().contains(&"m.fp".to_owned()), "nothing is written");
}

#[test]
fn an_estimate_is_near_what_comes_out() {
    let room = room();
    let estimate = room.json("estimate model.safetensors --sample 100K --seed 7");
    for preset in estimate["presets"].as_array().unwrap() {
        let name = preset["preset"].as_str().unwrap();
        let report =
            room.json(&format!("encode model.safetensors -o m.fp -f --spec {name} --seed 7"));
        let (guess, found) = (preset["bytes"].as_f64().unwrap(), report["bytes"].as_f64().unwrap());
        assert!((guess / found - 1.0).abs() < 0.1, "{name}: {guess}, {found}");
    }
    assert!(room.ok("estimate model.safetensors").contains("careful"));
}

#[test]
fn a_sweep_measures_every_pipeline_at_every_rate_and_draws_it() {
    let room = room();
    let line = "sweep model.safetensors --rates 1,2,4 --svg s.svg --seed 7";
    let sweep = room.json(line);
    let pipelines = sweep["pipelines"].as_array().unwrap();
    assert_eq!(pipelines.len(), 4);
    for swept in pipelines.iter().take(3) {
        let results = swept["results"].as_array().unwrap();
        let nmse: Vec<_> = results.iter().map(|r| r["nmse"].as_f64().unwrap()).collect();
        assert!(nmse.len() == 3 && nmse.is_sorted_by(|a, b| a > b), "{nmse:?}");
    }
    let svg = String::from_utf8(room.read("s.svg")).unwrap();
    assert!(svg.contains("hadamard|q=4|zstd") && !svg.contains("NaN"));
    assert!(
        room.ok("sweep model.safetensors --rates 1 --spec small").contains("rotation|trellis=1")
    );
    assert_eq!(code(&room.run("sweep model.safetensors --rates 99")), 2);
}
