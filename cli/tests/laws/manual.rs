//! The help is for people, the manual pages and completions for their tools.

use std::process::Command;

use crate::room::{FEDPRESS, Room, said};

const COMMANDS: [&str; 12] = [
    "encode",
    "decode",
    "inspect",
    "verify",
    "diff",
    "estimate",
    "sweep",
    "bench",
    "demo",
    "submodel",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_and_a_manual_page() {
    let room = Room::new();
    room.ok("man --dir pages");
    for command in COMMANDS {
        let help = room.ok(&format!("{command} --help"));
        assert!(help.contains("Usage: fedpress"), "{help}");
        let page = String::from_utf8(room.read(&format!("pages/fedpress-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME"));
    }
    assert!(room.ok("man").contains("SUBCOMMANDS"));
    assert_eq!(room.ok("help compress"), room.ok("encode --help"));
}

/// The lines of the help that are examples, without what is said beside them.
fn examples(help: &str) -> Vec<String> {
    let example = |line: &str| {
        let line = line.strip_prefix("  ")?;
        let line = line.split("   ").next()?.trim();
        // A rule of grammar, and what other programs do, are none.
        let is_run = line.starts_with("fedpress ") && !line.contains('[');
        is_run.then(|| line.replace("FILE", "model.safetensors"))
    };
    help.lines().filter_map(example).collect()
}

/// A folder with what the examples of a verb read.
fn room_for(verb: &str) -> Room {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o model.fp -s lossless");
    for name in ["copy.safetensors", "update.safetensors", "update.npz"] {
        room.ok(&format!("decode model.fp -o {name}"));
    }
    room.ok("decode model.fp --tensor fc1.weight -o w.npy");
    std::fs::copy(room.path("model.fp"), room.path("update.fp")).unwrap();
    if verb == "submodel merge" {
        room.ok("submodel pack model.safetensors -o small.safetensors --seed 3");
    }
    let made = match verb {
        "encode" => &["model.fp"][..],
        "decode" => &["model.safetensors", "copy.safetensors", "update.npz"],
        _ => &[],
    };
    made.iter().for_each(|name| std::fs::remove_file(room.path(name)).unwrap());
    room
}

#[test]
fn the_examples_of_the_help_run() {
    let room = Room::new();
    let commands = COMMANDS.iter().map(|command| format!("{command} --help"));
    let helps = commands.chain(["--help".to_owned()]).map(|line| room.ok(&line));
    let mut examples: Vec<_> = helps.flat_map(|help| examples(&help)).collect();
    examples.sort();
    examples.dedup();
    assert!(examples.len() >= 10, "{examples:?}");
    let program = std::path::Path::new(FEDPRESS).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    // The demonstration has a test of its own; xxd is not everywhere.
    for example in examples.iter().filter(|example| *example != "fedpress demo") {
        let line = example.replace("| xxd", "| wc -c");
        let words = if line.contains(" submodel ") { 2 } else { 1 };
        let verb: Vec<_> = line.split(' ').skip(1).take(words).collect();
        let room = room_for(&verb.join(" "));
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &line]).current_dir(room.path("")).env("PATH", &path);
        match bash.output() {
            Err(error) => return println!("skipped: no bash here: {error}"),
            Ok(output) => assert!(output.status.success(), "{line}\n{}", said(&output)),
        }
    }
}

#[test]
fn the_manual_says_what_is_spooled_and_what_is_not_atomic() {
    let page = Room::new().ok("man");
    for word in ["temporary file", "not atomic", "private seed", "random rotation", "Exit codes"] {
        assert!(page.contains(word), "{word}");
    }
    for preset in fedpress::PRESETS {
        assert!(page.contains(&preset.name.replace('-', "\\-")), "{}", preset.name);
    }
}

#[test]
fn every_shell_has_completions() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(room.ok(&format!("completions {shell}")).contains("fedpress"));
    }
}

#[test]
fn the_examples_of_the_readme_run() {
    let readme = include_str!("../../README.md");
    let examples: Vec<_> = readme
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .filter(|block| !block.contains("cargo install"))
        .collect();
    assert!(examples.len() >= 5);
    let room = Room::with_model();
    let program = std::path::Path::new(FEDPRESS).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    for example in examples {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", example]).current_dir(room.path(""));
        match bash.env("PATH", &path).output() {
            Err(error) => return println!("skipped: no bash here: {error}"),
            Ok(output) => assert!(
                output.status.success(),
                "{example}\n{}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}
