//! Which units of which layout: what the command line says, and what the model shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fedpress_fl::{Choice, Convention, Heads, Keep, Layout, Rule, Selection};
use serde_json::Value;

use super::model::Model;
use crate::exit::Usage;

/// Which units.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which units")]
pub struct Which {
    /// What belongs together; recognized or inferred if absent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["order", "heads", "kv_heads"])]
    layout: Option<PathBuf>,
    /// Layers from the input to the output, for a plain sequence that names and shapes do not order
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',', conflicts_with_all = ["heads", "kv_heads"])]
    order: Vec<String>,
    /// Attention heads of each layer, which makes them units; else what config.json beside the model
    /// says
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Heads of keys and values where there are fewer
    #[arg(long, value_name = "N", requires = "heads")]
    kv_heads: Option<usize>,
    /// How the model's framework writes weights; for inference
    #[arg(long, value_enum, default_value = "torch")]
    convention: Framework,
    /// Fraction of the units of each group that is kept
    #[arg(long, value_name = "FRACTION", default_value = "0.75")]
    keep: f64,
    /// The same for one group; may be repeated
    #[arg(long, value_name = "GROUP=FRACTION", value_parser = parse_group)]
    keep_group: Vec<(String, f64)>,
    /// Fraction of the model's values that is kept, in the place of one of the units: more is dropped
    /// where units cost more
    #[arg(long, value_name = "FRACTION", conflicts_with_all = ["keep", "keep_group"])]
    keep_values: Option<f64>,
    /// How units are chosen
    #[arg(long, value_enum, default_value = "random")]
    strategy: How,
    /// What a random choice derives from
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Where a rolling window starts, such as the number of the round; of balanced stretches, whose it is
    #[arg(long, value_name = "N", default_value = "0")]
    offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Framework {
    /// dense [out, in], convolution [out, in, height, width], flattened channel first
    Torch,
    /// dense [in, out], convolution [out, in, height, width], flattened channel first
    Burn,
    /// dense [in, out], convolution [height, width, in, out], flattened channel last
    Keras,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Drawn without replacement, from the seed
    Random,
    /// The first ones
    Ordered,
    /// A window from the offset on, around the end
    Rolling,
    /// Of a permutation from the seed the stretch number OFFSET, so that clients 0, 1, 2 and so on have
    /// every unit equally often
    Balanced,
}

fn parse_group(text: &str) -> Result<(String, f64), String> {
    let parsed =
        text.split_once('=').and_then(|(name, f)| Some((name.to_owned(), f.parse().ok()?)));
    parsed.ok_or_else(|| "expected is GROUP=FRACTION, such as fc1=0.5".to_owned())
}

/// A layout, and where it comes from.
pub struct Found {
    pub layout: Layout,
    /// Such as `recognized as torchvision ResNet`.
    pub origin: String,
    /// What could be units if more were known.
    pub notes: Vec<String>,
}

/// Why there is no layout, and where to start from.
#[derive(Debug)]
pub struct NoLayout {
    why: fedpress_fl::Error,
    /// Orders of the layers that shapes and names allow.
    candidates: Vec<Vec<String>>,
    /// A layout file to correct.
    pub text: String,
}

impl std::fmt::Display for NoLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.why)?;
        if !self.candidates.is_empty() {
            writeln!(f, "if one of these is the order from the input to the output, say so:")?;
        }
        for order in &self.candidates {
            writeln!(f, "--order {}", order.join(","))?;
        }
        let what = match self.candidates.is_empty() {
            true => "nothing is dropped yet",
            false => "for the first of these orders",
        };
        let text = self.text.trim_end();
        write!(f, "or correct this layout ({what}) and give it to --layout:\n{text}")
    }
}

impl std::error::Error for NoLayout {}

impl Which {
    /// The layout of that model: told, recognized, or inferred.
    pub fn layout(&self, path: &Path, model: &Model) -> Result<Found> {
        let found = |layout, origin: &str| Found { layout, origin: origin.into(), notes: vec![] };
        let shapes = model.float_shapes();
        if let Some(file) = &self.layout {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let layout = Layout::from_toml(&text).with_context(|| file.display().to_string())?;
            return Ok(found(layout, "layout file"));
        }
        let convention = self.convention();
        if !self.order.is_empty() {
            let layout = Layout::infer_in_order(&shapes, convention, &self.order)?;
            return Ok(found(layout, "sequence in the order given"));
        }
        if convention == Convention::Torch {
            let recognized = Layout::recognize(&shapes, self.heads(path)?)
                .map_err(|why| no_layout(&shapes, convention, why))?;
            if let Some(recognized) = recognized {
                if self.heads.is_some() && recognized.n_attentions == 0 {
                    let why = match recognized.notes.is_empty() {
                        true => "no attention layer is known in this model".to_owned(),
                        false => recognized.notes.join("; "),
                    };
                    Err(Usage::new(format!("--heads makes nothing units here: {why}")))?;
                }
                let origin = format!("recognized as {}", recognized.family);
                return Ok(Found { layout: recognized.layout, origin, notes: recognized.notes });
            }
        }
        if self.heads.is_some() {
            Err(Usage::new("--heads: no attention layer is known in this model"))?;
        }
        match Layout::infer(&shapes, convention) {
            Ok(layout) => Ok(found(layout, "sequence, in the only order that fits")),
            Err(why) => Err(no_layout(&shapes, convention, why).into()),
        }
    }

    fn convention(&self) -> Convention {
        match self.convention {
            Framework::Torch => Convention::Torch,
            Framework::Burn => Convention::Burn,
            Framework::Keras => Convention::Keras,
        }
    }

    /// Heads as told, or as a config.json beside the model says.
    fn heads(&self, model: &Path) -> Result<Heads> {
        let (heads, keys) = match self.heads {
            Some(heads) => (Some(heads), self.kv_heads),
            None => configured(model)?,
        };
        Ok(match (heads, keys) {
            (Some(heads), Some(keys)) => Heads::new(heads).with_keys(keys),
            (Some(heads), None) => Heads::new(heads),
            (None, _) => Heads::default(),
        })
    }

    /// Which units are kept.
    pub fn selection(&self, layout: &Layout) -> Result<Selection> {
        let groups: BTreeMap<_, _> = self.keep_group.iter().cloned().collect();
        let keep = match self.keep_values {
            Some(share) => Keep::by_cost(layout, share)?,
            None => Keep { default: self.keep, groups },
        };
        let rule = match self.strategy {
            How::Random => Rule::Random { seed: self.seed },
            How::Ordered => Rule::Ordered,
            How::Rolling => Rule::Rolling { offset: self.offset },
            How::Balanced => Rule::Permuted { seed: self.seed, position: self.offset },
        };
        Ok(Choice { rule, keep }.select(layout)?)
    }
}

fn no_layout(
    shapes: &[(String, Vec<usize>)],
    convention: Convention,
    why: fedpress_fl::Error,
) -> NoLayout {
    let candidates = Layout::candidates(shapes, convention);
    let first = candidates.first();
    let sequence = first.and_then(|order| Layout::infer_in_order(shapes, convention, order).ok());
    let layout = sequence.or_else(|| Layout::whole(shapes).ok());
    NoLayout { why, candidates, text: layout.map(|l| l.to_toml()).unwrap_or_default() }
}

/// What transformers calls the number of heads in the config.json beside a model.
const HEADS: [&str; 4] = ["num_attention_heads", "n_head", "n_heads", "num_heads"];
/// The same for keys and values.
const KEY_HEADS: &str = "num_key_value_heads";

/// Heads, and heads of keys, by the config.json in the folder of the model, where there is one that tells:
/// of all layers in one number.
fn configured(model: &Path) -> Result<(Option<usize>, Option<usize>)> {
    let folder = if model.is_dir() { model } else { model.parent().unwrap_or(Path::new("")) };
    let path = folder.join("config.json");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok((None, None)) };
    let config: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let number = |key: &str| config.get(key)?.as_u64()?.try_into().ok();
    Ok((HEADS.iter().copied().find_map(number), number(KEY_HEADS)))
}
