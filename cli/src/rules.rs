//! Which tensor gets which pipeline.

use std::str::FromStr;

use fedpress::Spec;
use glob::Pattern;

use crate::spec_argument;

/// What separates the parts of a name.
const SEPARATORS: [char; 2] = ['.', '/'];

/// `GLOB=SPEC`: tensors whose name, or some of whose parts in a row, match get that pipeline.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The pattern as it was written.
    pub glob: String,
    pattern: Pattern,
    /// Whether the name as a whole has to match.
    anchored: bool,
    spec: Spec,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names may have = in them, as specs do: what stands behind the first one that makes sense.
        let mut wrong = None;
        for (i, _) in text.match_indices('=') {
            match spec_argument::parse(&text[i + 1..]) {
                Ok(spec) => return Self::new(&text[..i], spec),
                Err(error) => {
                    wrong.get_or_insert(error);
                }
            }
        }
        Err(wrong.unwrap_or_else(|| {
            "expected is GLOB=SPEC, such as 'fc*.weight=hadamard|q=2'".to_owned()
        }))
    }
}

impl Rule {
    fn new(glob: &str, spec: Spec) -> Result<Self, String> {
        let (anchored, rest) = glob.strip_prefix('^').map_or((false, glob), |rest| (true, rest));
        let pattern = Pattern::new(rest).map_err(|e| format!("{rest:?}: {e}"))?;
        Ok(Self { glob: glob.to_owned(), pattern, anchored, spec })
    }

    /// Whether the pattern matches the name, or parts of it that follow each other: `bn*` matches
    /// `layer4.0.bn3.weight`, and `fc*.bias` matches `head.fc1.bias`.
    fn matches(&self, name: &str) -> bool {
        if self.pattern.matches(name) {
            return true;
        }
        if self.anchored {
            return false;
        }
        let ends = || name.match_indices(SEPARATORS).map(|(i, _)| i);
        let starts = || std::iter::once(0).chain(ends().map(|i| i + 1));
        let from = |start: usize| {
            let to_end = std::iter::once(name.len()).chain(ends().filter(move |end| *end > start));
            to_end.map(move |end| &name[start..end])
        };
        starts().flat_map(from).any(|parts| self.pattern.matches(parts))
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
            if rule.matches(name) {
                let use_ = if decided.is_none() { Use::Decided } else { Use::Shadowed };
                if self.uses[i] != Use::Decided {
                    self.uses[i] = use_;
                }
                decided.get_or_insert(i);
            }
        }
        (decided.map_or(self.default, |i| &rules[i].spec), decided)
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

    #[test]
    fn a_pattern_matches_any_parts_of_a_name() {
        for (pattern, name, matches) in [
            ("bn*", "layer4.0.bn3.weight", true),
            ("bn*", "layer4.0.bn3", true),
            ("bn3", "layer4.0.bn3.weight", true),
            ("fc*.bias", "head.fc1.bias", true),
            ("fc*.bias", "head.fc1.bias.x", true),
            ("0.bn?", "layer4.0.bn3.weight", true),
            ("kernel", "dense/kernel", true),
            ("n3*", "layer4.0.bn3.weight", false),
            ("bn", "layer4.0.bn3.weight", false),
            ("^bn*", "layer4.0.bn3.weight", false),
            ("^layer4*", "layer4.0.bn3.weight", true),
            ("layer?", "layer10", false),
            ("w?x", "w\0x", true),
        ] {
            let rule = rule(&format!("{pattern}=none"));
            assert_eq!(rule.matches(name), matches, "{pattern} {name:?}");
        }
    }

    #[test]
    fn a_pattern_may_have_an_equals_sign() {
        for (text, pattern) in
            [("a=b=q=4", "a=b"), ("a=q=4", "a"), ("a=none=hadamard|q=4", "a=none"), ("=q=2", "")]
        {
            assert_eq!(rule(text).pattern.as_str(), pattern, "{text}");
        }
    }
}
