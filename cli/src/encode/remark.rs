//! What was asked for and is not done, or not as its author may think.

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::plan::{Planned, Reason};
use crate::phrase::{bytes, counted};
use crate::rules::{Rules, Use};

/// One thing to know about what was encoded.
#[derive(Debug, Clone, Serialize)]
pub struct Remark {
    /// For scripts: f64, rule, left_out, spared, larger.
    kind: &'static str,
    /// For people, in one line.
    message: String,
    /// How many tensors it is about.
    tensors: usize,
}

impl Remark {
    fn new(kind: &'static str, tensors: usize, message: String) -> Self {
        Self { kind, message, tensors }
    }

    /// The line.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// An error of all remarks, if there are any.
pub fn strictly(remarks: &[Remark]) -> Result<()> {
    if remarks.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = remarks.iter().map(Remark::message).collect();
    Err(anyhow!("--strict:\n{}", lines.join("\n")))
}

/// What is known before anything is encoded.
pub fn before(tensors: &[Planned<'_>], rules: &Rules<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let n = count(tensors, |t| t.reason == Some(Reason::F64));
    if n > 0 {
        let (tensors, is) = (counted(n, "tensor"), if n == 1 { "is" } else { "are" });
        let message = format!(
            "{tensors} of f64 {is} left lossless; --f64 as-f32 makes f32 of such, to be lossy"
        );
        remarks.push(Remark::new("f64", n, message));
    }
    remarks.extend(rules.uses().enumerate().filter_map(|(i, (rule, use_))| {
        let glob = rule.glob();
        let of_rule = |t: &&Planned<'_>| t.rule == Some(i);
        let in_vain = |t: &Planned<'_>| matches!(t.reason, Some(Reason::Small | Reason::Type(_)));
        let message = match use_ {
            Use::MatchedNothing => format!("the rule for {glob:?} matches no tensor"),
            Use::Shadowed => {
                format!(
                    "the rule for {glob:?} decides nothing: rules before it match the same tensors"
                )
            }
            Use::Decided => {
                let vain: Vec<_> = tensors.iter().filter(of_rule).filter(|t| in_vain(t)).collect();
                let n = vain.len();
                let why = vain.first()?.reason?.sentence();
                let all = tensors.iter().filter(of_rule).count();
                let message = format!(
                    "the rule for {glob:?}: {n} of {} stay lossless, {why}",
                    counted(all, "tensor")
                );
                return Some(Remark::new("rule", n, message));
            }
        };
        Some(Remark::new("rule", 0, message))
    }));
    remarks
}

/// What the input has and is not encoded.
pub fn left_out(sentences: &[String]) -> Option<Remark> {
    let first = sentences.first()?;
    let more = match sentences.len() {
        1 => String::new(),
        n => format!("; so {} more", n - 1),
    };
    Some(Remark::new("left_out", sentences.len(), format!("left out: {first}{more}")))
}

/// What is known when the bytes are there: what sparing cost, and which pipelines did not pay.
pub fn spared(n: usize, cost: u64) -> Option<Remark> {
    let (which, was) = (counted(n, "tensor"), if n == 1 { "is" } else { "are" });
    let message = format!(
        "{which} {was} spared loss (-v says which; --spare nothing does not), at a cost of about {}",
        bytes(cost)
    );
    (n > 0).then(|| Remark::new("spared", n, message))
}

/// Lossy tensors that would be smaller without loss.
pub fn larger(names: &[&str]) -> Option<Remark> {
    let first = names.first()?;
    let more = match names.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let message = format!(
        "{first:?}{more} would take fewer bytes without loss: --spec lossless, or a --rule"
    );
    Some(Remark::new("larger", names.len(), message))
}

fn count<'a>(tensors: &[Planned<'a>], which: impl Fn(&Planned<'a>) -> bool) -> usize {
    tensors.iter().filter(|t| which(t)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_counted_with_the_first_name() {
        assert!(larger(&[]).is_none());
        let two = larger(&["a.weight", "b.weight"]).unwrap();
        assert_eq!((two.kind, two.tensors), ("larger", 2));
        assert!(two.message.starts_with("\"a.weight\" and 1 more would take fewer bytes"));
        assert!(strictly(&[]).is_ok());
        assert!(strictly(&[two]).unwrap_err().to_string().contains("a.weight"));
    }
}
