//! `--device` changes where the work is done, never the bytes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

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

/// The program with these words, on the simulated device; none where that cannot be built.
fn on_simulated(room: &Room, line: &str, shared: &str) -> Option<Output> {
    static DRIVER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda-kernels/sim/build.sh");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-driver");
        let can = cfg!(all(target_os = "linux", target_arch = "x86_64")) && script.exists();
        let built = can.then(|| Command::new("sh").arg(script).arg(&folder).status());
        built?.ok()?.success().then_some(folder)
    });
    let Some(driver) = &*DRIVER else {
        eprintln!("skipped: no simulated device here");
        return None;
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedpress"));
    command.current_dir(room.path("")).args(line.split(' '));
    command.env("LD_LIBRARY_PATH", driver).env("SIMULATED_SHARED", shared);
    Some(command.output().unwrap())
}

#[test]
fn a_gpu_gives_the_same_files_and_what_it_leaves_is_told() {
    let room = Room::with_model();
    // Shared memory of an H200, and of a card that has too little for blocks of 2^15.
    for (shared, block, is_told) in
        [("232448", 4096, false), ("232448", 32768, false), ("101376", 32768, true)]
    {
        let line = format!(
            "encode model.safetensors -f --private-seed 3 --spec hadamard,block={block}|q=4 -o"
        );
        room.ok(&format!("{line} cpu.fp"));
        let Some(output) = on_simulated(&room, &format!("{line} gpu.fp --device cuda"), shared)
        else {
            return;
        };
        assert_eq!(code(&output), 0, "{}", said(&output));
        assert_eq!(said(&output).matches("partly on the processor").count(), usize::from(is_told));
        assert_eq!(room.read("cpu.fp"), room.read("gpu.fp"));
        room.ok("decode -f cpu.fp -o cpu.npz");
        let output = on_simulated(&room, "decode -f gpu.fp -o gpu.npz --device cuda", shared);
        assert_eq!(code(&output.unwrap()), 0);
        assert_eq!(room.read("cpu.npz"), room.read("gpu.npz"));
    }
}
