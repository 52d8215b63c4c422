//! Which tensor gets which pipeline.

use std::str::FromStr;

use fedpress::Spec;
use fedpress_fl::SpecRule;

use crate::spec_argument;

/// `GLOB=SPEC`: tensors whose name, or some of whose parts in a row, match get that pipeline.
#[derive(Debug, Clone)]
pub struct Rule(SpecRule);

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        SpecRule::parse_with(text, spec_argument::parse).map(Self)
    }
}

impl Rule {
    /// The pattern as it was written.
    pub fn glob(&self) -> &str {
        self.0.glob()
    }
}

/// How a rule fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It decided for some tensor.
    Decided,
    /// All that it matches was decided by rules before it.
    Shadowed,
    /// It matches nothing.
    MatchedNothing,
}

/// Rules in their order, and what applies where none of them does.
pub struct Rules<'a> {
    rules: &'a [Rule],
    default: &'a Spec,
    uses: Vec<Use>,
}

impl<'a> Rules<'a> {
    /// In the order of the command line.
    pub fn new(rules: &'a [Rule], default: &'a Spec) -> Self {
        Self { rules, default, uses: vec![Use::MatchedNothing; rules.len()] }
    }

    /// The pipeline of the first rule that matches, and which one that is.
    pub fn spec_for(&mut self, name: &str) -> (&'a Spec, Option<usize>) {
        let rules = self.rules;
        let mut decided = None;
        for (i, rule) in rules.iter().enumerate() {
            // Where all later ones are known to be of use, nothing is to be learnt from them.
            if decided.is_some() && self.uses[i] != Use::MatchedNothing {
                continue;
            }
            if rule.0.matches(name) {
                let use_ = if decided.is_none() { Use::Decided } else { Use::Shadowed };
                if self.uses[i] != Use::Decided {
                    self.uses[i] = use_;
                }
                decided.get_or_insert(i);
            }
        }
        (decided.map_or(self.default, |i| rules[i].0.spec()), decided)
    }

    /// How each rule fared, for those names that were asked for.
    pub fn uses(&self) -> impl Iterator<Item = (&Rule, Use)> {
        self.rules.iter().zip(self.uses.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_match_wins_and_the_others_are_reported() {
        let rules = ["fc1.*=none", "fc*=hadamard|q=2", "fc1.w*=q=8", "conv*=q=8"].map(rule);
        let default = Spec::lossless();
        let mut rules = Rules::new(&rules, &default);
        assert_eq!(rules.spec_for("fc1.weight").0.to_string(), "none");
        assert_eq!(rules.spec_for("fc2.weight").0.to_string(), "hadamard|q=2");
        assert_eq!(rules.spec_for("bias"), (&default, None));
        let uses: Vec<Use> = rules.uses().map(|(_, use_)| use_).collect();
        assert_eq!(uses, [Use::Decided, Use::Decided, Use::Shadowed, Use::MatchedNothing]);
        for bad in ["fc1", "[=q=2", "a=nothing"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
