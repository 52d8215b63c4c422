//! Which tensor gets which pipeline.

use std::str::FromStr;

use fedpress::Spec;
use glob::Pattern;

/// `GLOB=SPEC`: tensors whose name matches get that pipeline.
#[derive(Debug, Clone)]
pub struct Rule {
    pattern: Pattern,
    spec: Spec,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, spec) = text
            .split_once('=')
            .ok_or_else(|| "expected is GLOB=SPEC, such as 'fc*.weight=hadamard|q=2'".to_owned())?;
        Ok(Self {
            pattern: Pattern::new(pattern).map_err(|e| format!("{pattern:?}: {e}"))?,
            spec: spec.parse().map_err(|e: fedpress::Error| e.to_string())?,
        })
    }
}

/// Rules in their order, and what applies where none of them does.
pub struct Rules<'a> {
    rules: &'a [Rule],
    default: &'a Spec,
    used: Vec<bool>,
}

impl<'a> Rules<'a> {
    /// In the order of the command line.
    pub fn new(rules: &'a [Rule], default: &'a Spec) -> Self {
        Self { rules, default, used: vec![false; rules.len()] }
    }

    /// The pipeline of the first rule that matches, and whether one does.
    pub fn spec_for(&mut self, name: &str) -> (&'a Spec, bool) {
        let rules = self.rules;
        match rules.iter().position(|rule| rule.pattern.matches(name)) {
            Some(i) => {
                self.used[i] = true;
                (&rules[i].spec, true)
            }
            None => (self.default, false),
        }
    }

    /// The patterns that were the first match for no tensor: probably a slip.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .zip(&self.used)
            .filter(|(_, used)| !**used)
            .map(|(r, _)| r.pattern.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_wins_and_the_others_are_reported() {
        let rules: Vec<Rule> =
            ["fc1.*=none", "fc*=hadamard|q=2", "conv*=q=8"].map(|r| r.parse().unwrap()).into();
        let default = Spec::lossless();
        let mut rules = Rules::new(&rules, &default);
        assert_eq!(rules.spec_for("fc1.weight").0.to_string(), "none");
        assert_eq!(rules.spec_for("fc2.weight").0.to_string(), "hadamard|q=2");
        assert_eq!(rules.spec_for("bias"), (&default, false));
        assert_eq!(rules.unused().collect::<Vec<_>>(), ["conv*"]);
        for bad in ["fc1", "[=q=2", "a=nothing"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
