//! Standard input and output.

use std::process::{Command, Stdio};

use crate::room::{FEDPRESS, Room, bytes, code, model, said, weights};

#[test]
fn stdin_to_stdout_streams() {
    let room = Room::new();
    let values = bytes(&weights("w", 3_000_000));
    for threads in ["1", "2"] {
        let line = format!("encode - --dtype f32 --shape -1,100 -s lossless -T {threads}");
        let stream = room.pipe(&line, &values);
        assert_eq!(code(&stream), 0, "{}", said(&stream));
        assert_eq!(said(&stream), "", "nothing to say");
        let back = room.pipe(&format!("decode - --raw -T {threads}"), &stream.stdout);
        assert!(code(&back) == 0 && back.stdout == values);
        room.write("s.fp", &stream.stdout);
        assert_eq!(
            room.json("inspect s.fp")["tensors"][0]["shape"],
            serde_json::json!([30_000, 100])
        );
    }
}

#[test]
fn formats_that_need_every_shape_are_spooled() {
    let room = Room::new();
    let stream = room.pipe("encode - -s lossless", &model());
    assert_eq!(code(&stream), 0, "{}", said(&stream));
    let safetensors = room.pipe("decode -", &stream.stdout);
    assert_eq!(safetensors.stdout, model());
    let npz = room.pipe("decode - --to npz", &stream.stdout);
    let again = room.pipe("encode - -s lossless", &npz.stdout);
    assert_eq!(code(&again), 0, "{}", said(&again));
    room.write("a.fp", &again.stdout);
    room.write("b.fp", &stream.stdout);
    assert_eq!(room.json("diff a.fp b.fp")["total"]["different"], 0);
}

#[test]
fn an_open_npy_needs_a_file() {
    let room = Room::new();
    let values = bytes(&weights("w", 2000));
    let open = room.pipe("encode - --dtype f32 --shape -1 -s lossless", &values).stdout;
    let closed = room.pipe("encode - --dtype f32 --shape 2000 -s lossless", &values).stdout;
    assert!(room.pipe("decode - --to npy", &closed).stdout.ends_with(&values));
    assert!(said(&room.pipe("decode - --to npy", &open)).contains("open first dimension"));
    assert_eq!(code(&room.pipe("decode - -o w.npy", &open)), 0);
    assert_eq!(room.read("w.npy"), room.pipe("decode - --to npy", &closed).stdout);
    room.write("open.fp", &open);
    assert_eq!(room.run("decode open.fp --to npy -c").stdout, room.read("w.npy"));
}

#[test]
fn raw_output_needs_exactly_one_tensor() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    let file = room.run("decode m.fp --raw -c");
    assert_eq!((code(&file), file.stdout.len()), (2, 0));
    assert!(said(&file).contains("--tensor"));
    let piped = room.pipe("decode - --raw -o x", &room.read("m.fp"));
    assert_eq!(code(&piped), 2);
    assert!(!room.path("x").exists());
    room.write("empty.safetensors", b"\x08\0\0\0\0\0\0\0{}      ");
    room.ok("encode empty.safetensors -o empty.fp");
    assert_eq!(code(&room.pipe("decode - --raw", &room.read("empty.fp"))), 2);
    room.ok("decode empty.fp -o again.safetensors");
    assert_eq!(room.read("again.safetensors").len(), 16);
}

#[test]
fn concatenated_streams_are_decoded_in_sequence() {
    let room = Room::new();
    let [a, b] = ["a", "b"].map(|name| {
        let line = format!("encode - --dtype f32 --shape 1000 --name {name}");
        room.pipe(&line, &bytes(&weights(name, 1000))).stdout
    });
    room.write("both.fp", &[a, b].concat());
    assert_eq!(room.json("inspect both.fp")["streams"], 2);
    room.ok("decode both.fp");
    assert_eq!(room.json("diff both.fp both.safetensors")["total"]["values"], 2000);
}

#[test]
fn a_closed_pipe_ends_the_program_without_a_word() {
    let room = Room::new();
    room.write("w.raw", &bytes(&weights("w", 2_000_000)));
    room.ok("encode w.raw --dtype f32 --shape -1 -s lossless");
    for line in ["decode w.raw.fp --raw -c", "encode w.raw --dtype f32 --shape -1 -c"] {
        let child = Command::new(FEDPRESS)
            .args(line.split(' '))
            .current_dir(room.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), said(&output).as_str()), (5, ""), "{line}");
    }
}

#[test]
fn a_named_pipe_is_read_and_written() {
    let room = Room::with_model();
    if !Command::new("mkfifo").arg(room.path("pipe")).status().is_ok_and(|s| s.success()) {
        return println!("skipped: no mkfifo here");
    }
    let reader = Command::new(FEDPRESS)
        .args(["decode", "-q", "pipe", "-o", "out.safetensors"])
        .current_dir(room.path(""))
        .spawn();
    room.ok("encode model.safetensors -o pipe --spec lossless");
    assert!(reader.unwrap().wait().unwrap().success());
    assert_eq!(room.read("out.safetensors"), model());
}
