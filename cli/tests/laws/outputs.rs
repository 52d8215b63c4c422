//! What becomes of output files, in good times and bad.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::room::{FEDPRESS, Room, code, model, said};

#[test]
fn an_existing_output_is_not_touched_without_force() {
    let room = Room::with_model();
    room.write("model.fp", b"precious");
    for line in ["encode model.safetensors -o model.fp", "demo -o model.fp"] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(said(&output).contains("-f"), "{}", said(&output));
        assert_eq!(room.read("model.fp"), b"precious");
    }
    room.ok("encode model.safetensors -o model.fp -f");
    assert_eq!(code(&room.run("decode model.fp")), 2, "the source is kept");
    assert_eq!(room.read("model.safetensors"), model());
    assert_eq!(room.files(), ["model.fp", "model.safetensors"]);
}

#[test]
fn a_failed_command_leaves_no_output() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    let mut damaged = room.read("m.fp");
    damaged[5000] ^= 0x10;
    room.write("damaged.fp", &damaged);
    room.write("short.fp", &damaged[..20_000]);
    room.write("short.safetensors", &model()[..100_000]);
    let before = room.files();
    for line in [
        "decode damaged.fp -o x.npz",
        "decode damaged.fp -o m.fp -f",
        "decode short.fp -o x.safetensors",
        "encode short.safetensors",
    ] {
        assert_eq!(code(&room.run(line)), 3, "{line}");
        assert_eq!(room.files(), before, "{line}");
    }
    room.ok("verify m.fp");
}

#[test]
fn a_full_disk_is_an_i_o_error() {
    if !Path::new("/dev/full").exists() {
        return println!("skipped: no /dev/full here");
    }
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    for line in [
        "encode model.safetensors -o /dev/full",
        "decode m.fp -o /dev/full",
        "decode m.fp -o /dev/full --to npz",
        "decode m.fp --tensor fc1.weight --raw -o /dev/full",
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 5, "{line}: {}", said(&output));
        assert!(said(&output).contains("space"), "{line}: {}", said(&output));
        assert_eq!(room.files(), ["m.fp", "model.safetensors"]);
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(FEDPRESS);
    command.args(["inspect", "m.fp"]).current_dir(room.path("")).stdout(full);
    assert_eq!(command.stderr(Stdio::null()).status().unwrap().code(), Some(5));
}

#[test]
fn new_files_have_ordinary_permissions() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    room.write("plain", b"");
    assert_eq!(room.mode("m.fp"), room.mode("plain"));
}

#[test]
fn a_replaced_file_keeps_its_permissions() {
    let room = Room::with_model();
    room.write("m.fp", b"private");
    std::fs::set_permissions(room.path("m.fp"), std::fs::Permissions::from_mode(0o600)).unwrap();
    room.ok("encode model.safetensors -o m.fp -f");
    assert_eq!(room.mode("m.fp"), 0o600);
    room.ok("verify m.fp");
}

#[test]
fn the_input_is_never_the_output() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp");
    std::fs::hard_link(room.path("model.safetensors"), room.path("hard")).unwrap();
    symlink("model.safetensors", room.path("soft")).unwrap();
    symlink("hard", room.path("both")).unwrap();
    for name in ["model.safetensors", "./model.safetensors", "hard", "soft", "both"] {
        let output = room.run(&format!("encode model.safetensors -o {name} -f"));
        assert_eq!(code(&output), 2, "{name}");
        assert!(said(&output).contains("input itself"), "{}", said(&output));
    }
    assert_eq!(code(&room.run("decode m.fp -o m.fp -f")), 2);
    assert_eq!(code(&room.run("decode m.fp --tensor steps -o m.fp -f")), 2);
    assert_eq!(room.read("model.safetensors"), model());
    room.ok("verify m.fp");
}

#[test]
fn the_name_of_a_folder_is_no_file() {
    let room = Room::with_model();
    std::fs::create_dir(room.path("folder")).unwrap();
    for line in [
        "encode model.safetensors -o folder",
        "encode model.safetensors -o new/",
        "encode folder -o x",
        "encode folder --non-finite lossless -o x",
        "decode folder -o x",
        "inspect folder",
        "diff folder model.safetensors",
        "bench folder",
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}: {}", said(&output));
        assert!(said(&output).contains("folder"), "{line}: {}", said(&output));
    }
}

/// An encoding that has written its temporary file and waits for more.
fn begun(room: &Room, command: &mut Command) -> (Child, ChildStdin) {
    let command = command.current_dir(room.path("")).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[0; 1 << 16]).unwrap();
    let start = Instant::now();
    while room.files().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "no temporary file appears");
        std::thread::sleep(Duration::from_millis(5));
    }
    (child, stdin)
}

#[test]
fn nohup_is_respected() {
    if !Path::new("/proc/self/status").exists() {
        return println!("skipped: no /proc here");
    }
    let room = Room::new();
    let script = "trap '' HUP; exec \"$0\" encode - --dtype f32 --shape -1 -o x.fp";
    let (mut child, stdin) = begun(&room, Command::new("sh").args(["-c", script, FEDPRESS]));
    let mut kill = Command::new("kill");
    assert!(kill.args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(100));
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(room.files(), ["x.fp"]);
    room.ok("verify x.fp");
}

#[test]
fn links_and_devices_are_written_in_place() {
    let room = Room::with_model();
    room.write("target", b"old");
    symlink("target", room.path("link")).unwrap();
    assert_eq!(code(&room.run("encode model.safetensors -o link")), 2);
    room.ok("encode model.safetensors -o link -f");
    assert!(room.path("link").is_symlink());
    room.ok("verify target");
    room.ok("encode model.safetensors -o /dev/null");
    symlink("model.safetensors", room.path("self")).unwrap();
    assert_eq!(code(&room.run("encode model.safetensors -o self -f")), 2);
    assert_eq!(room.read("model.safetensors"), model());
}

#[test]
fn a_folder_that_cannot_be_written_is_an_i_o_error() {
    let room = Room::with_model();
    assert_eq!(code(&room.run("encode model.safetensors -o no/such/folder/x.fp")), 5);
    assert_eq!(code(&room.run("encode model.safetensors -o .")), 2);
    let folder = room.path("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(folder.join("x"), b"").is_ok() {
        return println!("skipped: this user may write everywhere");
    }
    let output = room.run("encode model.safetensors -o locked/x.fp");
    assert_eq!(code(&output), 5);
    assert!(said(&output).contains("locked/x.fp"));
}

/// Whether this process was started under `nohup`, which the command respects.
fn under_nohup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|m| m & 1 != 0)
}

#[test]
fn an_interrupt_removes_the_temporary_file() {
    if under_nohup() {
        return println!("skipped: these tests run under nohup");
    }
    for signal in ["INT", "TERM"] {
        let room = Room::new();
        let words = ["encode", "-", "--dtype", "f32", "--shape", "-1", "-o", "x.fp"];
        let (mut child, stdin) = begun(&room, Command::new(FEDPRESS).args(words));
        assert!(room.files()[0].ends_with(".tmp"));
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &child.id().to_string()]);
        assert!(kill.status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        drop(stdin);
        assert_eq!(room.files(), [""; 0]);
    }
}

#[test]
fn several_files_are_encoded_and_decoded_each_to_its_own_name() {
    let room = Room::with_model();
    room.write("b.safetensors", &model());
    let inputs = "model.safetensors gone.npy b.safetensors";
    let output = room.run(&format!("encode {inputs} -s lossless"));
    assert_eq!(code(&output), 5, "{}", said(&output));
    assert!(said(&output).contains("gone.npy"), "{}", said(&output));
    let streams = ["b.safetensors.fp", "model.safetensors.fp"];
    assert_eq!(
        room.files(),
        [&["b.safetensors"], &streams[..1], &["model.safetensors"], &streams[1..]].concat()
    );
    let refused = room.run("decode model.safetensors b.safetensors");
    assert_eq!(code(&refused), 2);
    let line = "model.safetensors is safetensors by its name; decode reads streams";
    assert_eq!(said(&refused).matches(line).count(), 1, "{}", said(&refused));
    let report = room.json("encode model.safetensors b.safetensors -f -s careful");
    assert_eq!(report["files"].as_array().unwrap().len(), 2);
    assert_eq!(report["files"][1]["output"], "b.safetensors.fp");
    assert_ne!(report["files"][0]["private_seed"], report["files"][1]["private_seed"]);
    for line in
        ["encode model.safetensors b.safetensors", "decode b.safetensors.fp model.safetensors.fp"]
    {
        for output in ["-o x", "-c"] {
            let output = room.run(&format!("{line} -f {output}"));
            assert_eq!(code(&output), 2, "{}", said(&output));
            assert!(said(&output).contains("each to its own name"), "{}", said(&output));
        }
    }
    room.ok(&format!("encode {inputs} -f -s lossless").replace("gone.npy ", ""));
    room.write("b.safetensors", b"");
    room.ok(&format!("decode -f {}", streams.join(" ")));
    assert!(room.read("b.safetensors") == model() && room.read("model.safetensors") == model());
}
