//! Inputs of strangers, and command lines that nobody should type.

use fedpress::DType;

use crate::room::{Room, bytes, code, file_of, said, weights};

/// A name that clears the screen, forges a line, and turns the direction of writing around.
const TRICKS: &str = "x\u{1b}[2J\nall.fp: OK\u{9b}2J\u{202e}";

/// Everything the program said on both streams.
fn all_of(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &said(output)
}

fn is_tame(text: &str) -> bool {
    !text.contains(['\u{1b}', '\u{9b}', '\u{202e}'])
}

#[test]
fn names_of_files_cannot_play_tricks_either() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.write(TRICKS, &room.read("m.fp"));
    let missing = format!("no{TRICKS}");
    for (words, expected) in [
        (vec!["verify", TRICKS, &missing], 1),
        (vec!["inspect", TRICKS], 0),
        (vec!["inspect", TRICKS, "--json"], 0),
        (vec!["inspect", &missing], 5),
        (vec!["decode", TRICKS, "-v", "-o", "x.npz"], 0),
        (vec!["decode", TRICKS, "-o", &missing, "--raw"], 2),
        (vec!["encode", &missing], 5),
    ] {
        let output = room.run_words(&words, b"");
        let text = all_of(&output);
        assert_eq!(code(&output), expected, "{words:?}: {text}");
        assert!(is_tame(&text), "{words:?}: {text:?}");
        assert!(!text.contains("\nall.fp: OK"), "{words:?}: {text}");
    }
    let map = serde_json::json!({ "weight_map": { "w": TRICKS.replace("x", "gone") } });
    room.write("model.safetensors.index.json", map.to_string().as_bytes());
    let output = room.run("encode model.safetensors.index.json");
    assert_eq!(code(&output), 3);
    assert!(is_tame(&said(&output)) && !said(&output).contains("\nall.fp"), "{}", said(&output));
}

#[test]
fn json_obeys_nobody_and_says_everything() {
    let room = Room::new();
    let data = bytes(&weights("w", 2000));
    room.write("x.safetensors", &file_of(&[(TRICKS, DType::F32, &[2000], &data)]));
    room.ok("encode x.safetensors");
    let text = room.ok("inspect x.safetensors.fp --json");
    assert!(is_tame(&text), "{text:?}");
    assert_eq!(room.json("inspect x.safetensors.fp")["tensors"][0]["name"], TRICKS);
}

#[test]
fn impossible_wishes_are_wrong_arguments() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.write("w.raw", &[0; 40]);
    for line in [
        "encode w.raw --dtype f32 --shape 4294967296,4294967296",
        "encode w.raw --dtype f32 --shape -1,0",
        "encode w.raw --dtype f32 --shape 99999999999999999999",
        "encode w.raw --dtype f32 --shape 5,-1",
        "encode model.safetensors -T 1000000",
        "encode model.safetensors -T -1",
        "encode model.safetensors --rule [=q=4",
        "encode model.safetensors --rule w=q=99",
        "encode model.safetensors --rule w",
        "decode m.fp -o x --memory-limit 1X",
        "decode m.fp -o x --memory-limit 99999999999T",
        "decode m.fp -o x --to gguf",
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}: {}", said(&output));
    }
    room.ok("encode model.safetensors -T 0 -f -o m.fp");
    room.ok("decode m.fp -T 0 -o x.npz");
}

#[test]
fn a_format_that_cannot_hold_the_tensors_is_a_wrong_argument() {
    let room = Room::new();
    let shape: &[usize] = &[500];
    room.write("x.safetensors", &file_of(&[("half", DType::BF16, shape, &[0x3f; 1000])]));
    room.ok("encode x.safetensors -o half.fp");
    room.ok("encode x.safetensors -o index.fp --index");
    for line in ["half.fp -o x.npy", "half.fp -o x.npz", "index.fp --tensor half -o x.npy"] {
        let output = room.run(&format!("decode {line}"));
        assert_eq!(code(&output), 2, "{line}: {}", said(&output));
        assert!(said(&output).contains("safetensors instead"), "{line}: {}", said(&output));
    }
    assert_eq!(room.run("decode half.fp --raw -c").stdout, [0x3f; 1000]);
}

#[test]
fn of_tensors_of_one_name_the_last_counts_and_all_are_compared() {
    let room = Room::new();
    let [old, new] = ["old", "new"].map(|n| bytes(&weights(n, 2000)));
    for (name, data) in [("old", &old), ("new", &new)] {
        room.write("x.safetensors", &file_of(&[("w", DType::F32, &[2000], data)]));
        room.ok(&format!("encode x.safetensors -o {name}.fp -s lossless"));
    }
    let both = [room.read("old.fp"), room.read("new.fp")].concat();
    room.write("both.fp", &both);
    for format in ["safetensors", "npz"] {
        let output = room.run(&format!("decode both.fp -o x.{format} -f"));
        assert_eq!(code(&output), 2);
        assert!(said(&output).contains("two tensors called \"w\""), "{}", said(&output));
    }
    assert_eq!(room.run("decode both.fp --tensor w --raw -c").stdout, new);
    let piped = room.pipe("decode - --tensor w --raw -o x", &both);
    assert_eq!(code(&piped), 2);
    assert!(said(&piped).contains("several tensors \"w\""), "{}", said(&piped));
    let diff = room.json("diff both.fp both.fp");
    assert_eq!((&diff["total"]["values"], &diff["total"]["different"]), (&4000.into(), &0.into()));
    let fewer = room.run("diff old.fp both.fp");
    assert_eq!(code(&fewer), 1);
    let text = all_of(&fewer);
    assert!(text.contains("only in B: \"w\"") && text.contains("2000       0"), "{text}");
}

#[test]
fn a_stream_is_not_encoded_again() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    let output = room.run("encode m.fp");
    assert_eq!(code(&output), 4);
    assert!(said(&output).contains("a stream already"), "{}", said(&output));
}

#[test]
fn a_zip_with_an_unknown_compression_is_unsupported() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.ok("decode m.fp -o m.npz");
    let mut zip = room.read("m.npz");
    for (mark, method) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let places: Vec<_> = (0..zip.len() - 4).filter(|i| zip[*i..].starts_with(mark)).collect();
        places.into_iter().for_each(|at| zip[at + method] = 97);
    }
    room.write("m.npz", &zip);
    assert_eq!(code(&room.run("encode m.npz -o x")), 4);
}

#[test]
fn nan_is_counted_from_the_start_of_the_tensor() {
    let room = Room::new();
    let mut values = vec![0.5; 1_300_000];
    values[1_200_003] = f32::INFINITY;
    for more in ["", " -T 2 --chunk-values 64K"] {
        let output = room.pipe(&format!("encode - --dtype f32 --shape -1{more}"), &bytes(&values));
        assert_eq!(code(&output), 1);
        assert!(said(&output).contains("index 1200003;"), "{}", said(&output));
    }
}
