//! Layout files: TOML in, canonical TOML out.

use super::{Axis, Group, Layout, ParamLayout, Role};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Where each stands gives the order, which a table of TOML does not have.
    #[serde(default)]
    groups: BTreeMap<String, Spanned<usize>>,
    #[serde(default)]
    parameters: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    role: Role,
    axes: Vec<String>,
    #[serde(default)]
    inputs: Vec<usize>,
}

pub(super) fn read(text: &str) -> Result<Layout> {
    let file: File = toml::from_str(text).map_err(|e| Error::invalid(format!("layout: {e}")))?;
    let mut groups: Vec<_> = file.groups.into_iter().collect();
    groups.sort_by_key(|(_, units)| units.span().start);
    let group = |(name, units): (String, Spanned<usize>)| Group { name, units: units.into_inner() };
    let groups: Vec<Group> = groups.into_iter().map(group).collect();
    let param = |entry| read_param(entry, &groups);
    let params = file.parameters.into_iter().map(param).collect::<Result<_>>()?;
    Layout::new(groups, params)
}

fn read_param(entry: Entry, groups: &[Group]) -> Result<ParamLayout> {
    let Entry { name, role, axes, inputs } = entry;
    let axis = |(i, text): (usize, &String)| {
        Axis::from_text(text, groups)
            .map_err(|e| Error::invalid(format!("axis {i}, {text:?}: {e}")).in_parameter(&name))
    };
    let axes = axes.iter().enumerate().map(axis).collect::<Result<_>>()?;
    Ok(ParamLayout { name, role, axes, inputs })
}

pub(super) fn write(layout: &Layout) -> String {
    let mut text = String::new();
    if !layout.groups.is_empty() {
        text.push_str("[groups]\n");
    }
    for group in &layout.groups {
        text.push_str(&format!("{} = {}\n", group.name, group.units));
    }
    for param in &layout.params {
        let gap = if text.is_empty() { "" } else { "\n" };
        let axes: Vec<String> =
            param.axes.iter().map(|axis| quote(&axis.to_text(&layout.groups))).collect();
        let (name, axes) = (quote(&param.name), axes.join(", "));
        text.push_str(&format!("{gap}[[parameters]]\nname = {name}\naxes = [{axes}]\n"));
        if !param.inputs.is_empty() {
            text.push_str(&format!("inputs = {:?}\n", param.inputs));
        }
        if param.role == Role::Statistic {
            text.push_str("role = \"statistic\"\n");
        }
    }
    text
}

/// A basic string of TOML.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
