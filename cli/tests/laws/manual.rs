//! The help is for people, the manual pages and completions for their tools.

use std::process::Command;

use crate::room::{FEDPRESS, Room};

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
