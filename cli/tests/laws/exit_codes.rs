//! The table of exit codes, line by line.

use crate::room::{Room, bytes, code, said, weights};

/// Good and bad inputs of every kind.
fn room_with_every_fault() -> Room {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    let good = room.read("m.fp");
    let mut newer = good.clone();
    newer[9] = 9;
    room.write("newer.fp", &newer);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    room.write("damaged.fp", &damaged);
    room.write("short.fp", &good[..good.len() - 1]);
    room.write("empty.fp", b"");
    room.write("noise", &[0x55; 100]);
    room.write("noise.fp", &[0x55; 100]);
    room.write("broken.safetensors", b"\x08\0\0\0\0\0\0\0{       ");
    room.write("nan.raw", &bytes(&[f32::NAN; 2000]));
    room.write("w.raw", &bytes(&weights("w", 1000)));
    room
}

#[test]
fn exit_codes_are_those_of_the_manual() {
    let room = room_with_every_fault();
    for (expected, line) in [
        (0, "inspect m.fp"),
        (0, "verify m.fp"),
        (0, "inspect model.safetensors"),
        (0, "m.fp"),
        (1, "diff m.fp model.safetensors --fail-above nmse=1e-9"),
        (2, "diff m.fp model.safetensors --fail-above nsme=1"),
        (0, "diff m.fp model.safetensors"),
        (0, "--version"),
        (1, "verify m.fp damaged.fp"),
        (1, "diff m.fp w.raw --dtype f32 --shape 1000"),
        (1, "encode nan.raw --dtype f32 --shape -1"),
        (2, ""),
        (2, "encode"),
        (2, "encode model.safetensors --spec nonsense"),
        (2, "encode model.safetensors --rule nonsense"),
        (2, "encode model.safetensors --chunk-values 1000"),
        (2, "encode model.safetensors --dtype f32 --shape 3"),
        (2, "encode model.safetensors --json -c"),
        (2, "decode m.fp --raw -c"),
        (2, "decode model.safetensors"),
        (2, "diff - -"),
        (3, "decode damaged.fp -o x.npz"),
        (3, "decode short.fp -o x.npz"),
        (3, "decode empty.fp -o x.npz"),
        (3, "decode damaged.fp --tensor fc1.weight -o x.npz"),
        (3, "decode short.fp --tensor fc1.weight -o x.npz"),
        (3, "decode empty.fp --tensor fc1.weight -o x.npz"),
        (3, "inspect short.fp"),
        (3, "inspect noise.fp"),
        (4, "inspect noise"),
        (3, "encode broken.safetensors"),
        (4, "inspect newer.fp"),
        (4, "decode newer.fp -o x.npz"),
        (4, "decode newer.fp --tensor fc1.weight -o x.npz"),
        (4, "encode noise"),
        (5, "inspect missing.fp"),
        (5, "encode missing.safetensors"),
        (6, "decode m.fp -o x.npz --memory-limit 1K"),
        (6, "decode m.fp --tensor fc1.weight --raw -o x --memory-limit 1K"),
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), expected, "{line}: {}", said(&output));
        assert_eq!(
            said(&output).is_empty(),
            [0, 1].contains(&expected) && !line.contains("nan"),
            "{line}: {}",
            said(&output)
        );
    }
    let manual = room.ok("man");
    for code in [0, 1, 2, 3, 4, 5, 6, 130] {
        assert!(manual.contains(&format!("\n  {code} ")), "{code} is in the manual");
    }
}

#[test]
fn quiet_is_quiet_and_twice_quiet_is_silent() {
    let room = Room::with_model();
    assert!(!said(&room.run("encode model.safetensors -o a.fp")).is_empty());
    assert_eq!(said(&room.run("encode model.safetensors -o b.fp -q")), "");
    assert_ne!(said(&room.run("inspect missing.fp -q")), "");
    let silent = room.run("inspect missing.fp -qq");
    assert_eq!((code(&silent), said(&silent).as_str()), (5, ""));
}

/// The manual speaks of the trainer; who lacks it is told how to get it.
#[test]
#[cfg(not(feature = "train"))]
fn a_build_without_the_trainer_says_so() {
    let room = Room::with_model();
    for line in ["train --demo", "train config.toml --out x -T 2", "train --help"] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(said(&output).contains("--features train"), "{line}");
    }
}
