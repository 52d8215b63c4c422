//! [`Axis`]: one dimension of a parameter as a concatenation of segments, and its text.

use super::Group;
use std::fmt::Write;

/// One dimension of a parameter: segments, one behind the other.
///
/// In a [`Layout`](crate::Layout) it is in canonical form: what is never dropped has all of its
/// length in `outer`, and two such segments in a row are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis(pub Vec<Segment>);

/// A stretch of an axis, of length `outer * units * inner`: unit `u` of the group has the indices
/// `(a * units + u) * inner + b` for all `a` below `outer` and `b` below `inner`. Without a group
/// nothing of it is ever dropped, and units count as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// How many times the group comes: 49 for an image of 7x7 flattened channel last, 3 for query,
    /// key and value in one tensor.
    pub outer: usize,
    /// Index in [`Layout::groups`](crate::Layout::groups).
    pub group: Option<usize>,
    /// How many neighbours make a unit: 49 for an image of 7x7 flattened channel first, the width
    /// of an attention head.
    pub inner: usize,
}

impl Segment {
    fn checked_len(&self, groups: &[Group]) -> Result<usize, String> {
        let units = match self.group {
            None => 1,
            Some(group) => match groups.get(group) {
                Some(group) => group.units,
                None => return Err(format!("no group {group}, there are {}", groups.len())),
            },
        };
        let length = self.outer.checked_mul(units).and_then(|n| n.checked_mul(self.inner));
        match length {
            None => Err("longer than can be counted".to_owned()),
            Some(0) => Err("expected sizes above 0".to_owned()),
            Some(length) => Ok(length),
        }
    }
}

impl Axis {
    /// An axis of which nothing is ever dropped: input channels, logits, the size of a kernel.
    pub fn whole(n: usize) -> Self {
        Self(vec![Segment { outer: n, group: None, inner: 1 }])
    }

    /// An axis that is the units of a group, by its index in the layout.
    pub fn units(group: usize) -> Self {
        Self(vec![Segment { outer: 1, group: Some(group), inner: 1 }])
    }

    /// The length of the axis in a model whose groups are these.
    ///
    /// # Panics
    /// If it refers to a group that is not there; in a [`Layout`](crate::Layout) it never does.
    pub fn len(&self, groups: &[Group]) -> usize {
        let units = |segment: &Segment| segment.group.map_or(1, |group| groups[group].units);
        self.0.iter().map(|segment| segment.outer * units(segment) * segment.inner).sum()
    }

    /// The length, or what is wrong with it.
    pub(super) fn checked_len(&self, groups: &[Group]) -> Result<usize, String> {
        if self.0.is_empty() {
            return Err("expected at least one segment".to_owned());
        }
        self.0.iter().try_fold(0usize, |sum, segment| {
            let length = segment.checked_len(groups)?;
            sum.checked_add(length).ok_or_else(|| "longer than can be counted".to_owned())
        })
    }

    /// Brings a checked axis into canonical form.
    pub(super) fn normalize(&mut self) {
        let mut canonical: Vec<Segment> = Vec::with_capacity(self.0.len());
        for segment in &self.0 {
            match (segment.group, canonical.last_mut()) {
                (None, Some(last)) if last.group.is_none() => {
                    last.outer += segment.outer * segment.inner;
                }
                (None, _) => {
                    let outer = segment.outer * segment.inner;
                    canonical.push(Segment { outer, group: None, inner: 1 });
                }
                (Some(_), _) => canonical.push(*segment),
            }
        }
        self.0 = canonical;
    }

    /// As a layout file has it.
    pub(super) fn to_text(&self, groups: &[Group]) -> String {
        let mut text = String::new();
        for (i, segment) in self.0.iter().enumerate() {
            let plus = if i > 0 { "+" } else { "" };
            // Writing to a string cannot fail.
            let _ = match segment.group {
                None => write!(text, "{plus}{}", segment.outer * segment.inner),
                Some(group) => {
                    let outer = factor(segment.outer, "", "*");
                    let inner = factor(segment.inner, "*", "");
                    write!(text, "{plus}{outer}{}{inner}", groups[group].name)
                }
            };
        }
        text
    }

    /// From the text of a layout file.
    pub(super) fn from_text(text: &str, groups: &[Group]) -> Result<Self, String> {
        text.split('+')
            .map(|segment| parse_segment(segment.trim(), groups))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A factor of a segment; 1 is not written.
fn factor(n: usize, before: &str, after: &str) -> String {
    if n == 1 { String::new() } else { format!("{before}{n}{after}") }
}

/// One side of a `*`.
enum Token {
    Number(usize),
    Group(usize),
}

fn parse_segment(text: &str, groups: &[Group]) -> Result<Segment, String> {
    use Token::{Group, Number};
    let mut tokens = Vec::new();
    for part in text.split('*') {
        tokens.push(parse_token(part.trim(), text, groups)?);
    }
    let (outer, group, inner) = match tokens[..] {
        [Number(n)] => (n, None, 1),
        [Group(group)] => (1, Some(group), 1),
        [Number(outer), Group(group)] => (outer, Some(group), 1),
        [Group(group), Number(inner)] => (1, Some(group), inner),
        [Number(outer), Group(group), Number(inner)] => (outer, Some(group), inner),
        _ => {
            return Err(format!(
                "expected a number, or a group with at most one number on either side, found {text:?}"
            ));
        }
    };
    Ok(Segment { outer, group, inner })
}

fn parse_token(part: &str, segment: &str, groups: &[Group]) -> Result<Token, String> {
    if part.is_empty() {
        return Err(format!("expected a group or a number, found nothing in {segment:?}"));
    }
    if part.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = part.parse().map_err(|_| format!("{part} is too large"))?;
        return Ok(Token::Number(number));
    }
    match groups.iter().position(|group| group.name == part) {
        Some(group) => Ok(Token::Group(group)),
        None => Err(format!("no group {part:?}")),
    }
}

/// Whether a group may have this name: it can never be read as a number, needs no quotes in a
/// layout file, and its length fits every message.
pub(super) fn is_identifier(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit_first = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
    !digit_first && name.len() <= 255 && name.bytes().all(word)
}
