//! Heads of attention as groups of units.

use super::super::{Axis, Segment};
use super::transformer::{block_of, dense, output_axis, stranger};
use super::wiring::{Flow, Wiring};
use super::{Heads, Kept};
use crate::{Error, Result};
use std::collections::HashSet;

/// How queries, keys and values are stored.
enum Inputs {
    /// A layer each.
    Apart([&'static str; 3]),
    /// One layer, all queries before all keys before all values.
    Stacked(&'static str),
    /// One layer, query, key and value of a head beside each other.
    ByHead(&'static str),
    /// As `Stacked`, one tensor with this name and one for its bias.
    Parameters(&'static str, &'static str),
}

/// How a family names the layers of attention, relative to its block.
struct Attention {
    inputs: Inputs,
    output: &'static str,
}

const fn attention(inputs: Inputs, output: &'static str) -> Attention {
    Attention { inputs, output }
}

const ATTENTIONS: [Attention; 20] = [
    attention(
        Inputs::Apart(["attention.self.query", "attention.self.key", "attention.self.value"]),
        "attention.output.dense",
    ),
    attention(
        Inputs::Apart([
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
        ]),
        "attention.output.dense",
    ),
    attention(
        Inputs::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
        "attention.out_lin",
    ),
    attention(
        Inputs::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        "self_attn.o_proj",
    ),
    attention(
        Inputs::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        "self_attn.out_proj",
    ),
    attention(
        Inputs::Apart(["encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"]),
        "encoder_attn.out_proj",
    ),
    attention(
        Inputs::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        "self_attn.dense",
    ),
    attention(
        Inputs::Apart(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
        "attn.attention.out_proj",
    ),
    attention(
        Inputs::Apart(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
        "attention.o_proj",
    ),
    attention(
        Inputs::Apart(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
        "attention.out_proj",
    ),
    attention(Inputs::Apart(["attn.q_proj", "attn.k_proj", "attn.v_proj"]), "attn.out_proj"),
    attention(
        Inputs::Apart(["attention.query", "attention.key", "attention.value"]),
        "attention.dense",
    ),
    attention(Inputs::Stacked("self_attn.qkv_proj"), "self_attn.o_proj"),
    attention(Inputs::Stacked("attn.qkv"), "attn.proj"),
    attention(Inputs::Stacked("attn.c_attn"), "attn.c_proj"),
    attention(Inputs::ByHead("attention.query_key_value"), "attention.dense"),
    attention(Inputs::ByHead("self_attention.query_key_value"), "self_attention.dense"),
    attention(
        Inputs::Parameters("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
        "self_attn.out_proj",
    ),
    attention(
        Inputs::Parameters("multihead_attn.in_proj_weight", "multihead_attn.in_proj_bias"),
        "multihead_attn.out_proj",
    ),
    attention(
        Inputs::Parameters("self_attention.in_proj_weight", "self_attention.in_proj_bias"),
        "self_attention.out_proj",
    ),
];

/// Weights of attention whose heads are never units, and why.
const WHOLE: [(&str, &str); 4] = [
    ("SelfAttention.q.weight", SHARED),
    ("EncDecAttention.q.weight", SHARED),
    ("attention.attn.q.weight", SHARED),
    ("attention.self.query_proj.weight", "positions have queries and keys of their own"),
];
const SHARED: &str = "all layers share the biases of its heads by position";

/// A tensor of [positions, heads].
const BIAS_TABLE: &str = "relative_position_bias_table";

/// Wires the heads of all attention layers; the blocks that have such layers.
pub(super) fn wire(
    wiring: &mut Wiring<'_>,
    heads: Heads,
    kept: &mut Kept,
) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for name in wiring.names() {
        for (weight, why) in WHOLE {
            if let Some(block) = block_of(&name, weight) {
                kept.note("heads", name.trim_end_matches(".weight"), why);
                found.insert(block.to_owned());
            }
        }
        for attention in &ATTENTIONS {
            let weights = attention.weights();
            let Some(block) = block_of(&name, &weights[0]) else { continue };
            if weights.iter().all(|weight| wiring.has(&format!("{block}{weight}"))) {
                wire_layer(wiring, block, attention, heads, kept)?;
                found.insert(block.to_owned());
                // The end of its name may be that of another pattern.
                break;
            }
        }
    }
    Ok(found)
}

impl Attention {
    /// Names of the weights; the first one tells the layer.
    fn weights(&self) -> Vec<String> {
        let output = format!("{}.weight", self.output);
        match &self.inputs {
            Inputs::Apart(layers) => {
                let inputs = layers.iter().map(|layer| format!("{layer}.weight"));
                inputs.chain([output]).collect()
            }
            Inputs::Stacked(layer) | Inputs::ByHead(layer) => {
                vec![format!("{layer}.weight"), output]
            }
            Inputs::Parameters(weight, _) => vec![(*weight).to_owned(), output],
        }
    }
}

/// One attention layer of a model.
struct Layer<'a> {
    block: &'a str,
    attention: &'a Attention,
    /// What the names of its tensors begin with.
    folder: String,
    /// Name of the layer that leads back.
    output: String,
    /// Axis of its weight with what it gives.
    output_axis: usize,
    /// Channels of all queries, and of all keys.
    queries: usize,
    keys: usize,
}

/// How channels are made of heads: `key` heads of keys and values, `width` channels each, and with each
/// of them `group` heads of queries.
#[derive(Clone, Copy)]
struct Split {
    key: usize,
    group: usize,
    width: usize,
}

/// Makes the heads of a layer units; says why where they are kept whole.
fn wire_layer(
    wiring: &mut Wiring<'_>,
    block: &str,
    attention: &Attention,
    heads: Heads,
    kept: &mut Kept,
) -> Result<()> {
    let output = format!("{block}{}", attention.output);
    let Some(output_axis) = output_axis(wiring, block, &output)? else {
        kept.note("heads", &output, "shapes do not tell inputs from outputs");
        return Ok(());
    };
    let dims = wiring.dims::<2>(&format!("{output}.weight"))?;
    let queries = dims[1 - output_axis];
    let Some(keys) = keys(wiring, block, attention, output_axis, queries)? else {
        kept.note("heads", &output, "queries, keys and values are not stored in a known way");
        return Ok(());
    };
    let folder = attention.output.split('.').next().unwrap_or_default();
    let folder = format!("{block}{folder}.");
    let layer = Layer { block, attention, folder, output, output_axis, queries, keys };
    let Some(n) = layer.heads(wiring, heads)? else {
        kept.note("heads", &layer.output, "shapes do not show how many there are");
        return Ok(());
    };
    let split = layer.split(n, heads)?;
    let flow = wiring.flow(&format!("{}heads", layer.folder), split.key);
    layer.wire(wiring, flow, split, dims[output_axis])?;
    let dimensions = [queries, keys, n];
    if let Some(stranger) = stranger(wiring, std::slice::from_ref(&layer.folder), &dimensions) {
        wiring.keep_whole(flow);
        kept.note("heads", &layer.output, &format!("{stranger:?} may belong to them"));
        return Ok(());
    }
    kept.n_attentions += 1;
    Ok(())
}

/// Channels of all keys, which are as many as those of all values; `None` for what is not known.
fn keys(
    wiring: &Wiring<'_>,
    block: &str,
    attention: &Attention,
    output_axis: usize,
    queries: usize,
) -> Result<Option<usize>> {
    let outputs =
        |weight: &str| wiring.dims::<2>(&format!("{block}{weight}")).map(|dims| dims[output_axis]);
    let weights = attention.weights();
    Ok(match &attention.inputs {
        Inputs::Apart(_) => {
            let [q, k, v] = [outputs(&weights[0])?, outputs(&weights[1])?, outputs(&weights[2])?];
            (q == queries && k == v && k > 0).then_some(k)
        }
        Inputs::Stacked(_) | Inputs::Parameters(..) => {
            let both = outputs(&weights[0])?.checked_sub(queries);
            both.filter(|both| *both > 0 && both % 2 == 0).map(|both| both / 2)
        }
        Inputs::ByHead(_) => {
            (Some(outputs(&weights[0])?) == queries.checked_mul(3)).then_some(queries)
        }
    })
}

impl Layer<'_> {
    /// How many heads of queries there are: as told, or as a tensor shows.
    fn heads(&self, wiring: &Wiring<'_>, told: Heads) -> Result<Option<usize>> {
        let mut shown = None;
        for name in wiring.within(&self.folder) {
            let last = &name[self.folder.len()..];
            shown = shown.or(match (last, wiring.shape(name)?) {
                ("q_norm.weight", [width]) if *width < self.queries && *width > 0 => {
                    self.queries.is_multiple_of(*width).then(|| self.queries / width)
                }
                (last, [_, heads]) if last.ends_with(BIAS_TABLE) => Some(*heads),
                _ => None,
            });
        }
        match (told.query, shown) {
            (Some(told), Some(shown)) if told != shown => {
                let message = format!("told are {told} heads, its tensors show {shown}");
                Err(Error::invalid(message).in_parameter(&self.output))
            }
            (told, shown) => Ok(told.or(shown)),
        }
    }

    fn split(&self, n: usize, told: Heads) -> Result<Split> {
        let refuse = |why: String| Err(Error::invalid(why).in_parameter(&self.output));
        let Self { queries, keys, .. } = self;
        if *queries == 0 || n == 0 || queries % n != 0 {
            return refuse(format!("{queries} channels are no {n} heads"));
        }
        let width = queries / n;
        let key = keys / width;
        if keys % width != 0 || key == 0 || !n.is_multiple_of(key) {
            return refuse(format!("{keys} channels of keys are no heads of {width}"));
        }
        if let Some(told) = told.key.filter(|told| *told != key) {
            return refuse(format!("told are {told} heads of keys, its shapes say {key}"));
        }
        Ok(Split { key, group: n / key, width })
    }

    fn wire(&self, wiring: &mut Wiring<'_>, flow: Flow, split: Split, width: usize) -> Result<()> {
        let block = self.block;
        let query = flow.times(1, split.group * split.width);
        let key = flow.times(1, split.width);
        dense(wiring, &self.output, self.output_axis, query.clone(), Axis::whole(width))?;
        let parts = [&query, &key, &key].map(|axis| axis.0.clone());
        match &self.attention.inputs {
            Inputs::Apart(layers) => {
                for (layer, axis) in layers.iter().zip([&query, &key, &key]) {
                    self.wire_input(wiring, &format!("{block}{layer}"), axis.clone())?;
                }
            }
            Inputs::Stacked(layer) => {
                self.wire_input(wiring, &format!("{block}{layer}"), stacked(parts, split))?;
            }
            Inputs::ByHead(layer) => {
                let axis = flow.times(1, 3 * split.width);
                self.wire_input(wiring, &format!("{block}{layer}"), axis)?;
            }
            Inputs::Parameters(weight, bias) => {
                let (weight, axis) = (format!("{block}{weight}"), stacked(parts, split));
                let [_, inputs] = wiring.dims::<2>(&weight)?;
                wiring.set(&weight, vec![axis.clone(), Axis::whole(inputs)], &[1])?;
                wiring.set_if_there(&format!("{block}{bias}"), axis)?;
            }
        }
        self.wire_beside(wiring, flow, split)
    }

    fn wire_input(&self, wiring: &mut Wiring<'_>, layer: &str, output: Axis) -> Result<()> {
        let dims = wiring.dims::<2>(&format!("{layer}.weight"))?;
        let inputs = Axis::whole(dims[1 - self.output_axis]);
        dense(wiring, layer, self.output_axis, inputs, output)
    }

    /// Norms of queries and keys, over a head or over all of them, and biases by position.
    fn wire_beside(&self, wiring: &mut Wiring<'_>, flow: Flow, split: Split) -> Result<()> {
        let names: Vec<String> = wiring.within(&self.folder).map(str::to_owned).collect();
        for name in names {
            let last = &name[self.folder.len()..];
            let shape = wiring.shape(&name)?;
            let (layer, _) = last.rsplit_once('.').unwrap_or(("", last));
            let all = [("q_norm", self.queries, split.group), ("k_norm", self.keys, 1)];
            let norm = all.iter().find(|(norm, ..)| *norm == layer);
            match (norm, shape) {
                (Some(_), [n]) if *n == split.width => {
                    wiring.set(&name, vec![Axis::whole(*n)], &[])?;
                }
                (Some((_, all, group)), [n]) if n == all => {
                    wiring.set(&name, vec![flow.times(1, group * split.width)], &[])?;
                }
                (None, [n, _]) if last.ends_with(BIAS_TABLE) => {
                    let axes = vec![Axis::whole(*n), flow.times(1, split.group)];
                    wiring.set(&name, axes, &[])?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Queries, keys and values of all heads behind each other; as one segment where they are alike.
fn stacked(parts: [Vec<Segment>; 3], split: Split) -> Axis {
    if split.group == 1 {
        return Axis(parts[0].iter().map(|part| Segment { outer: 3, ..*part }).collect());
    }
    Axis(parts.concat())
}
