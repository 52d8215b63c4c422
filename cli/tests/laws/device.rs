//! `--device` changes where the work is done, never the bytes.

use crate::room::{Room, code, said};

#[test]
fn streams_do_not_depend_on_the_device() {
    let room = Room::with_model();
    let common = "encode model.safetensors --spec hadamard|q=4 --private-seed 3";
    room.ok(&format!("{common} --device cpu -o cpu.fp"));
    room.ok(&format!("{common} --device auto -o auto.fp"));
    assert_eq!(room.read("cpu.fp"), room.read("auto.fp"));
    room.ok("decode cpu.fp -o cpu.npz");
    room.ok("decode cpu.fp --device auto -o auto.npz");
    assert_eq!(room.read("cpu.npz"), room.read("auto.npz"));
}

#[test]
fn what_codes_is_told() {
    let room = Room::with_model();
    let told = said(&room.run("encode model.safetensors -v --device auto -o a.fp"));
    assert!(told.contains("on the processor: no CUDA") || told.contains("\non "), "{told}");
}

#[test]
fn a_missing_device_is_an_error() {
    let room = Room::with_model();
    let output = room.run("encode model.safetensors --device cuda -o a.fp");
    if output.status.success() {
        return; // there is one
    }
    assert_eq!(code(&output), 5);
    assert!(said(&output).contains("CUDA"), "{}", said(&output));
}
