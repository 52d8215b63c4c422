//! Which tensor travels by which spec: [`SpecRule`], [`Specs`], and [`TensorSpecs`] for a given model.

use crate::{Error, Layout, Result, Role};
use fedpress::Spec;
use glob::Pattern;
use std::collections::BTreeMap;
use std::str::FromStr;

/// What separates the parts of a name.
const SEPARATORS: [char; 2] = ['.', '/'];

/// `GLOB=SPEC`: tensors whose name, or some of whose parts in a row, match are encoded by that spec.
///
/// ```
/// let rule: fedpress_fl::SpecRule = "fc*.weight=hadamard|q=2".parse()?;
/// assert!(rule.matches("head.fc1.weight") && !rule.matches("head.fc1.bias"));
/// assert_eq!(rule.spec().to_string(), "hadamard|q=2");
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SpecRule {
    glob: String,
    pattern: Pattern,
    /// Whether the name as a whole has to match.
    anchored: bool,
    spec: Spec,
}

impl SpecRule {
    /// `glob` has `*`, `?` and `[...]`; behind a `^` it has to match the name as a whole.
    ///
    /// # Errors
    /// `InvalidArgument` if it is no pattern.
    pub fn new(glob: &str, spec: Spec) -> Result<Self> {
        let (anchored, rest) = glob.strip_prefix('^').map_or((false, glob), |rest| (true, rest));
        let pattern = Pattern::new(rest).map_err(|e| Error::invalid(format!("{rest:?}: {e}")))?;
        Ok(Self { glob: glob.to_owned(), pattern, anchored, spec })
    }

    /// From text, whose specs `parse` reads. Names may have `=` in them, as specs do: the spec is what
    /// stands behind the first one that makes sense.
    ///
    /// # Errors
    /// What `parse` makes of the text behind the first `=`; `InvalidArgument` as text if there is
    /// none, or no pattern before it.
    pub fn parse_with(
        text: &str,
        parse: impl Fn(&str) -> std::result::Result<Spec, String>,
    ) -> std::result::Result<Self, String> {
        let mut wrong = None;
        for (i, _) in text.match_indices('=') {
            match parse(&text[i + 1..]) {
                Ok(spec) => return Self::new(&text[..i], spec).map_err(|e| e.to_string()),
                Err(error) => {
                    wrong.get_or_insert(error);
                }
            }
        }
        Err(wrong.unwrap_or_else(|| {
            "expected is GLOB=SPEC, such as 'fc*.weight=hadamard|q=2'".to_owned()
        }))
    }

    /// The pattern as it was written.
    pub fn glob(&self) -> &str {
        &self.glob
    }

    /// What it asks for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether the pattern matches the name, or parts of it that follow each other: `bn*` matches
    /// `layer4.0.bn3.weight`, and `fc*.bias` matches `head.fc1.bias`.
    pub fn matches(&self, name: &str) -> bool {
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

impl FromStr for SpecRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_with(text, |spec| spec.parse::<Spec>().map_err(|e| e.to_string()))
            .map_err(|message| Error::invalid(format!("rule {text:?}: {message}")))
    }
}

/// How tensors are encoded, one way: by the first rule that matches the name of a tensor, else by the
/// default.
///
/// What no rule names is [spared](fedpress::spared) as in any stream: vectors, statistics and the
/// like travel losslessly, and so do [statistics](Role::Statistic) of the layout. A rule goes before
/// that, in either direction: `*=q=4` spares nothing, `embed*=lossless` more. Tensors of fewer than
/// 1,024 values travel losslessly in any case.
#[derive(Debug, Clone, PartialEq)]
pub struct Specs {
    /// In order; the first that matches decides.
    pub rules: Vec<SpecRule>,
    /// For what no rule matches.
    pub default: Spec,
}

impl Specs {
    /// What they mean for the parameters of a layout.
    ///
    /// # Errors
    /// `InvalidArgument` for a rule that matches no parameter, which was meant to.
    pub fn resolve(&self, layout: &Layout) -> Result<TensorSpecs> {
        let params = layout.params();
        let names = || params.iter().map(|param| &param.name[..]);
        if let Some(rule) = self.rules.iter().find(|rule| !names().any(|name| rule.matches(name))) {
            return Err(Error::invalid(format!("rule {:?} matches no parameter", rule.glob())));
        }
        let spec = |param: &crate::ParamLayout| {
            let rule = self.rules.iter().find(|rule| rule.matches(&param.name));
            let is_statistic = param.role == Role::Statistic;
            rule.map(|rule| rule.spec.clone()).or(is_statistic.then(Spec::lossless))
        };
        let by_tensor = params.iter().filter_map(|p| Some((p.name.clone(), spec(p)?))).collect();
        Ok(TensorSpecs { default: self.default.clone(), by_tensor })
    }
}

impl From<Spec> for Specs {
    /// Without rules.
    fn from(default: Spec) -> Self {
        Self { rules: Vec::new(), default }
    }
}

impl FromStr for Specs {
    type Err = Error;

    /// One spec, without rules.
    fn from_str(text: &str) -> Result<Self> {
        Ok(text.parse::<Spec>()?.into())
    }
}

/// How the tensors of one message are encoded: those that are named by the spec beside their name,
/// whatever would be [spared](fedpress::spared), the others by the default, unless spared.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpecs {
    /// For tensors that are not named.
    pub default: Spec,
    /// By name; up to 65,536 in a message.
    pub by_tensor: BTreeMap<String, Spec>,
}

impl TensorSpecs {
    /// The same with another spec for one tensor.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, spec: Spec) -> Self {
        self.by_tensor.insert(name.into(), spec);
        self
    }
}

impl From<Spec> for TensorSpecs {
    /// Without exceptions.
    fn from(default: Spec) -> Self {
        Self { default, by_tensor: BTreeMap::new() }
    }
}

impl FromStr for TensorSpecs {
    type Err = Error;

    /// One spec, without exceptions.
    fn from_str(text: &str) -> Result<Self> {
        Ok(text.parse::<Spec>()?.into())
    }
}

/// How a client is sent its broadcasts and is to send its updates.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientSpecs {
    /// Broadcasts.
    pub down: Specs,
    /// Updates.
    pub up: Specs,
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let rule = SpecRule::new(pattern, Spec::lossless()).unwrap();
            assert_eq!(rule.matches(name), matches, "{pattern} {name:?}");
        }
    }

    #[test]
    fn a_pattern_may_have_an_equals_sign() {
        for (text, pattern) in
            [("a=b=q=4", "a=b"), ("a=q=4", "a"), ("a=none=hadamard|q=4", "a=none"), ("=q=2", "")]
        {
            assert_eq!(text.parse::<SpecRule>().unwrap().glob(), pattern, "{text}");
        }
        for bad in ["fc1", "[=q=2", "a=nothing"] {
            assert!(bad.parse::<SpecRule>().is_err(), "{bad}");
        }
    }
}
