//! Pipelines with a name.

use crate::{Error, Result, Spec};

/// A pipeline with a name.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Stands for the spec wherever a spec is parsed.
    pub name: &'static str,
    /// The spec it stands for.
    pub spec: &'static str,
    /// What it is good for, in a sentence.
    pub purpose: &'static str,
}

/// The presets, from exact to smallest.
pub const PRESETS: &[Preset] = &[
    Preset { name: "lossless", spec: "shuffle|zstd", purpose: "every bit back" },
    Preset {
        name: "careful",
        spec: "rotation|trellis=7,biased or identity|step=7,biased",
        purpose: "weights, and when in doubt; biased by a ten thousandth",
    },
    Preset {
        name: "auto",
        spec: "rotation|trellis=4 or identity|step=4",
        purpose: "what is averaged or trained on, any kind; another rate as in 'auto|rate=0.5'",
    },
    Preset {
        name: "balanced",
        spec: "rotation|lm=4",
        purpose: "weights, server to clients; twice the error of auto, twice as fast to encode",
    },
    Preset {
        name: "small",
        spec: "rotation|trellis=2",
        purpose: "Gaussian-like weights and updates, likewise at any rate",
    },
    Preset {
        name: "uplink",
        spec: "rotation|trellis=1 or identity|step=1",
        purpose: "updates, averaged over clients (each with its own id) or rounds",
    },
    Preset {
        name: "tiny",
        spec: "rotation|trellis=0.25 or identity|step=0.25",
        purpose: "updates of very many clients, likewise",
    },
    Preset {
        name: "features",
        spec: "identity|step=2,biased",
        purpose: "activations, whose neighbours tell of each other; biased, zeros stay zeros",
    },
    Preset {
        name: "paper-hadamard",
        spec: "hadamard|subsample=0.5|q=2|zstd",
        purpose: "updates as in Caldas et al. 2018",
    },
    Preset {
        name: "paper-kashin",
        spec: "kashin|q=2|zstd",
        purpose: "the paper's spread representation at few bits",
    },
];

/// A preset whose rate may be asked for, and its pipelines, to which that is put.
const RATED: [(&str, &[&str]); 2] =
    [("auto", &["rotation|trellis=", "identity|step="]), ("small", &["rotation|trellis="])];

/// The spec of a preset, with a rate behind it or not; `None` if the text is none.
pub(crate) fn named(text: &str) -> Result<Option<Spec>> {
    match PRESETS.iter().find(|preset| preset.name == text) {
        Some(preset) => preset.spec.parse().map(Some),
        None => rated(text),
    }
}

/// `auto|rate=R`, `small|rate=R`, and `|biased` behind it; `None` if the text does not begin so.
fn rated(text: &str) -> Result<Option<Spec>> {
    let mut parts = text.split('|').map(str::trim);
    let name = parts.next().unwrap_or("");
    let Some((_, pipelines)) = RATED.iter().find(|(rated, _)| *rated == name) else {
        return Ok(None);
    };
    let rate = parts.next().and_then(|part| part.strip_prefix("rate=")).map(str::trim);
    let rate = rate.filter(|rate| rate.parse::<f64>().is_ok());
    let biased = match parts.next() {
        None => Some(""),
        Some("biased") => Some(",biased"),
        Some(_) => None,
    };
    let (Some(rate), Some(biased), None) = (rate, biased, parts.next()) else {
        return Err(Error::invalid(format!(
            "spec {text:?}: expected {name}, {name}|rate=R, or {name}|rate=R|biased, R in bits a value"
        )));
    };
    let mut specs = pipelines.iter().map(|spec| format!("{spec}{rate}{biased}").parse::<Spec>());
    let first = specs.next().unwrap_or(Ok(Spec::none()))?;
    specs.try_fold(first, |spec, other| spec.or(other?)).map(Some)
}
