//! Commands that take several files and do the same with each.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::console::Console;
use crate::exit::Outcome;

/// Does it with each file. One that fails does not keep the others from it: the first error is that of the
/// whole, the others are said as they come. With `--json` the report on one file is the document, those on
/// several are its `files`.
pub fn run<R: Serialize>(
    verb: &str,
    inputs: &[PathBuf],
    console: &Console,
    mut one: impl FnMut(&Path) -> Result<R>,
) -> Result<Outcome> {
    if let [input] = inputs {
        let report = one(input)?;
        if console.json {
            console.print_json(verb, report)?;
        }
        return Ok(Outcome::Done);
    }
    let (mut files, mut first) = (Vec::new(), None);
    for input in inputs {
        match one(input) {
            Ok(report) if console.json => files.push(serde_json::to_value(report)?),
            Ok(_) => {}
            Err(error) => {
                let (name, said) = (input.display().to_string(), format!("{error:#}"));
                let error = if said.starts_with(&name) { error } else { error.context(name) };
                match first {
                    None => first = Some(error),
                    Some(_) => console.error(&error),
                }
            }
        }
    }
    if console.json {
        console.print_json(verb, json!({ "files": files }))?;
    }
    first.map_or(Ok(Outcome::Done), Err)
}
