//! Models of many tensors: small ones are coded side by side, equal ones travel once.

use fedpress::DType;
use serde_json::{Value, json};

use crate::room::{Room, bytes, code, file_of, said, weights};

/// Sixty small matrices and biases, and one that takes several pieces.
fn sixty() -> Vec<u8> {
    let names: Vec<_> = (0..60).map(|i| format!("layer{i:02}.weight")).collect();
    let rows = |i: usize| if i == 30 { 4000 } else { 20 + 17 * i };
    let data: Vec<_> =
        names.iter().zip(0..).map(|(n, i)| bytes(&weights(n, 100 * rows(i)))).collect();
    let shapes: Vec<_> = (0..60).map(|i| [rows(i), 100]).collect();
    let tensors = names.iter().zip(&shapes).zip(&data);
    let tensors: Vec<_> = tensors
        .map(|((name, shape), data)| (&name[..], DType::F32, &shape[..], &data[..]))
        .collect();
    file_of(&tensors)
}

#[test]
fn many_small_tensors_are_the_same_on_any_number_of_threads() {
    let room = Room::new();
    room.write("m.safetensors", &sixty());
    for spec in ["careful", "rotation|trellis=2", "lossless"] {
        let words = |threads: usize| {
            let words = ["encode", "m.safetensors", "-f", "-s", spec, "-o"].map(str::to_owned);
            let more =
                format!("m{threads}.fp -T {threads} --seed 7 --private-seed 11 --json --index");
            words.into_iter().chain(more.split(' ').map(str::to_owned)).collect::<Vec<_>>()
        };
        let report = |threads| -> Value {
            let output = room.run_words(words(threads), b"");
            assert_eq!(code(&output), 0, "{}", said(&output));
            let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
            report["output"] = json!(null);
            report
        };
        let (one, two, five) = (report(1), report(2), report(5));
        assert!(one == two && one == five, "{spec}: bytes and error of each tensor are the same");
        let stream = room.read("m1.fp");
        assert!(stream == room.read("m2.fp") && stream == room.read("m5.fp"), "{spec}");
        for to in ["safetensors", "npz"] {
            for threads in [1, 2, 5] {
                room.ok(&format!("decode m1.fp -f -T {threads} -o back{threads}.{to}"));
            }
            let back = room.read(&format!("back1.{to}"));
            assert!(back == room.read(&format!("back2.{to}")), "{spec} {to}");
            assert!(back == room.read(&format!("back5.{to}")), "{spec} {to}");
        }
    }
    assert_eq!(room.read("back1.safetensors"), sixty(), "lossless came last");
}

#[test]
fn what_fits_into_the_memory_limit_on_one_thread_does_on_many() {
    let room = Room::new();
    room.write("m.safetensors", &sixty());
    room.ok("encode m.safetensors -o m.fp -s lossless --chunk-values 4K");
    for threads in [1, 2, 4] {
        let line = format!("decode m.fp -f -T {threads} --memory-limit 1M");
        let output = room.run(&line);
        assert_eq!(code(&output), 0, "{line}: {}", said(&output));
        assert!(room.read("m.safetensors") == sixty(), "{line}");
    }
}

#[test]
fn a_tensor_that_no_lossy_pipeline_takes_is_named_on_any_number_of_threads() {
    let room = Room::new();
    let (good, mut bad) = (bytes(&weights("good", 5000)), weights("bad", 5000));
    bad[77] = f32::NAN;
    let tensors = [("a", &good), ("b", &bytes(&bad)), ("c", &good)];
    let tensors = tensors.map(|(name, data)| (name, DType::F32, &[50usize, 100][..], &data[..]));
    room.write("m.safetensors", &file_of(&tensors));
    for threads in [1, 3] {
        let output = room.run(&format!("encode m.safetensors -T {threads}"));
        assert_eq!(code(&output), 1);
        assert!(said(&output).contains("\"b\""), "{}", said(&output));
        assert!(said(&output).contains("--non-finite"), "{}", said(&output));
        assert_eq!(room.files(), ["m.safetensors"]);
    }
}

/// Embeddings that the last layer shares, one that begins alike, and a large one twice.
fn tied() -> Vec<u8> {
    let embed = bytes(&weights("embed", 20_000));
    let mut other = embed.clone();
    *other.last_mut().unwrap() ^= 1;
    let large = bytes(&weights("large", 1_200_000));
    let matrix: &[usize] = &[200, 100];
    file_of(&[
        ("embed.weight", DType::F32, matrix, &embed),
        ("head.weight", DType::F32, &[100, 200], &embed),
        ("other.weight", DType::F32, matrix, &other),
        ("tail.weight", DType::F32, matrix, &embed),
        ("u.weight", DType::F32, &[1200, 1000], &large),
        ("v.weight", DType::F32, &[1200, 1000], &large),
    ])
}

/// Why each tensor is as it is, of a report.
fn reasons(report: &Value) -> Vec<Option<String>> {
    let tensors = report["tensors"].as_array().unwrap().iter();
    tensors.map(|t| t["reason"].as_str().map(str::to_owned)).collect()
}

#[test]
fn equal_tensors_of_a_file_travel_once() {
    let room = Room::new();
    room.write("m.safetensors", &tied());
    let same = |name: &str| Some(format!("the same bytes as {name}"));
    let expected = [None, same("embed.weight"), None, same("embed.weight"), None, same("u.weight")];
    let mut streams = Vec::new();
    for threads in [1, 2, 3] {
        let line = format!("encode m.safetensors -o m.fp -f -s careful -T {threads} --seed 7");
        let report = room.json(&format!("{line} --private-seed 11 --index --manifest"));
        assert_eq!(reasons(&report), expected);
        assert!(report["tensors"][1]["bytes"].as_u64().unwrap() < 100);
        let sum: u64 = (0..6).map(|i| report["tensors"][i]["bytes"].as_u64().unwrap()).sum();
        let all = report["bytes"].as_u64().unwrap();
        assert!(sum < all && all < sum + 1000, "{sum} of {all}");
        streams.push(room.read("m.fp"));
    }
    assert!(streams.iter().all(|stream| *stream == streams[0]));
    for threads in [1, 2] {
        room.ok(&format!("decode m.fp -f -T {threads}"));
        room.ok("diff m.fp m.safetensors --fail-above max_error=0");
    }
    room.ok("decode m.fp --tensor v.weight --raw -o v.raw");
    room.ok("decode m.fp --tensor u.weight --raw -o u.raw");
    assert!(room.read("v.raw") == room.read("u.raw"));
    assert_eq!(room.ok("verify m.fp"), "m.fp: OK\n");
}

#[test]
fn only_what_is_coded_alike_is_tied_and_nothing_of_a_pipe() {
    let room = Room::new();
    room.write("m.safetensors", &tied());
    let report = room.json("encode m.safetensors -o m.fp --rule head*=lossless --rule v*=balanced");
    let tied = reasons(&report).iter().filter(|r| r.is_some()).count();
    assert_eq!(tied, 1, "{report}");
    let piped = room.pipe("encode - -o p.fp -s lossless --json", &room.read("m.safetensors"));
    assert_eq!(code(&piped), 0, "{}", said(&piped));
    room.ok("encode m.safetensors -o m.fp -f -s lossless");
    assert!(room.read("m.fp").len() * 3 < room.read("p.fp").len() * 2);
    for stream in ["m.fp", "p.fp"] {
        assert_eq!(room.json(&format!("diff {stream} m.safetensors"))["total"]["different"], 0);
    }
}

#[test]
fn equal_tensors_of_several_shards_travel_once() {
    let room = Room::new();
    room.write("m.safetensors", &tied());
    room.ok("encode m.safetensors -o m.fp -s lossless");
    room.ok("decode m.fp -o model.safetensors.index.json --shard-size 100K");
    let report = room.json("encode model.safetensors.index.json -o again.fp -s lossless");
    assert_eq!(reasons(&report).iter().flatten().count(), 3);
    assert_eq!(room.json("diff again.fp m.safetensors")["total"]["different"], 0);
}
