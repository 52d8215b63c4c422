//! What is said: results on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Talk;
use crate::table::visible;

/// The two standard streams with the wishes of the user.
#[derive(Clone)]
pub struct Console {
    quiet: u8,
    verbose: bool,
    /// Whether results are JSON.
    pub json: bool,
}

/// A JSON document with its version.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    command: &'a str,
    #[serde(flatten)]
    content: T,
}

impl Console {
    /// Remembers the wishes.
    pub fn new(talk: &Talk) -> Self {
        Self { quiet: talk.quiet, verbose: talk.verbose > 0, json: talk.json }
    }

    /// Whether results that need no action are left out.
    pub fn is_quiet(&self) -> bool {
        self.quiet > 0
    }

    /// Whether everything is to be known.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// A result; ends with a line end of its own if it needs one.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A result as a JSON document.
    pub fn print_json(&self, command: &str, content: impl Serialize) -> Result<()> {
        let document = Document { schema: 1, command, content };
        self.print(&(tame(&serde_json::to_string_pretty(&document)?) + "\n"))
    }

    /// A remark.
    pub fn note(&self, text: &str) {
        if self.quiet == 0 {
            self.to_stderr(text);
        }
    }

    /// A remark for those who want to know everything.
    pub fn detail(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.to_stderr(&text());
        }
    }

    /// An error with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        if self.quiet < 2 {
            self.to_stderr(&format!("fedpress: {error:#}"));
        }
    }

    fn to_stderr(&self, text: &str) {
        // Names of files and what is in them come from strangers: nothing they hold is obeyed by a
        // terminal, or looks like a line of its own.
        let lines: Vec<_> = text.split('\n').map(|line| visible(line.trim_start())).collect();
        // Nobody is left to be told when standard error itself is gone.
        let _ = writeln!(io::stderr().lock(), "{}", lines.join("\n  "));
    }

    /// A progress bar over bytes, drawn on a terminal only.
    pub fn progress(&self, total: Option<u64>) -> ProgressBar {
        if self.quiet > 0 || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let style = ProgressStyle::with_template(match total {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        });
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

#[cfg(feature = "train")]
impl Console {
    /// A progress bar over rounds of training, drawn on a terminal only.
    pub fn rounds(&self, total: u64, name: &str) -> ProgressBar {
        if self.quiet > 0 || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        let template = "{prefix} {bar:30} {pos}/{len} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(visible(name));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// The same JSON with escapes for what is left in it that a terminal could take for a command.
fn tame(json: &str) -> String {
    let mut tame = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || (' '..='~').contains(&c) || c.escape_debug().count() == 1 {
            tame.push(c);
        } else {
            tame.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_commands_for_terminals_and_says_the_same() {
        let text = "ä\u{1f600}\u{1b}\u{7f}\u{9b}\u{202e}\u{e0001}\"\\\n";
        let json = tame(&serde_json::to_string(text).unwrap());
        assert!(json.starts_with("\"ä\u{1f600}\\u001b\\u007f\\u009b\\u202e\\udb40"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
