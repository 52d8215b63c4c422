//! Blocks of transformers: hidden units of their MLPs and heads of their attention are groups.
//!
//! Both are the block's own, so that whatever else a model has stays whole: embeddings, the width of
//! the stream between blocks, last layers of any kind. Heads are units only where their number is
//! known: shapes show the product of heads and width alone.

use super::super::Axis;
use super::attention;
use super::wiring::Wiring;
use super::{Heads, Kept};
use crate::Result;

/// How a family names the dense layers of an MLP, relative to its block.
struct Mlp {
    family: &'static str,
    /// Layers that read the stream: one, or one and its gate.
    up: &'static [&'static str],
    /// The layer that writes to it.
    down: &'static str,
    /// How many layers each of the first is: its outputs are those of one behind those of the other.
    stacked: usize,
}

const fn mlp(family: &'static str, up: &'static [&'static str], down: &'static str) -> Mlp {
    Mlp { family, up, down, stacked: 1 }
}

const MLPS: [Mlp; 16] = [
    mlp("BERT-like", &["intermediate.dense"], "output.dense"),
    mlp("DistilBERT", &["ffn.lin1"], "ffn.lin2"),
    mlp("ViT-like", &["mlp.fc1"], "mlp.fc2"),
    mlp("torchvision ViT", &["mlp.0"], "mlp.3"),
    mlp("torchvision ViT", &["mlp.linear_1"], "mlp.linear_2"),
    mlp("GPT-2-like", &["mlp.c_fc"], "mlp.c_proj"),
    mlp("GPT-NeoX-like", &["mlp.dense_h_to_4h"], "mlp.dense_4h_to_h"),
    mlp("Llama-like", &["mlp.gate_proj", "mlp.up_proj"], "mlp.down_proj"),
    Mlp { stacked: 2, ..mlp("Phi-3-like", &["mlp.gate_up_proj"], "mlp.down_proj") },
    mlp("GPT-J", &["mlp.fc_in"], "mlp.fc_out"),
    mlp("ALBERT", &["ffn"], "ffn_output"),
    mlp("wav2vec2-like", &["feed_forward.intermediate_dense"], "feed_forward.output_dense"),
    mlp("torch transformer", &["linear1"], "linear2"),
    mlp("OPT-like", &["fc1"], "fc2"),
    mlp("T5", &["DenseReluDense.wi_0", "DenseReluDense.wi_1"], "DenseReluDense.wo"),
    mlp("T5", &["DenseReluDense.wi"], "DenseReluDense.wo"),
];

/// Wires all blocks; the families whose names were found, each once.
pub(super) fn wire(wiring: &mut Wiring<'_>, heads: Heads, kept: &mut Kept) -> Result<Vec<String>> {
    let mut families: Vec<String> = Vec::new();
    let mut blocks: Vec<String> = Vec::new();
    for name in wiring.names() {
        for mlp in &MLPS {
            let Some(block) = block_of(&name, &format!("{}.weight", mlp.up[0])) else { continue };
            if is_block(wiring, block, mlp) {
                wire_mlp(wiring, block, mlp, kept)?;
                blocks.push(block.to_owned());
                let family = format!("{} transformer", mlp.family);
                if !families.contains(&family) {
                    families.push(family);
                }
            }
        }
    }
    let attentions = attention::wire(wiring, heads, kept)?;
    if !attentions.is_empty() && families.is_empty() {
        families.push("transformer".to_owned());
    }
    // Blocks of T5 are two of these names, one with attention and one without.
    let is_unknown = |block: &&String| !attentions.contains(*block) && has_attention(wiring, block);
    for block in blocks.iter().filter(is_unknown) {
        kept.note("heads", block.trim_end_matches('.'), "the names of their layers are not known");
    }
    Ok(families)
}

/// What stands before the end of a name, up to a dot.
pub(super) fn block_of<'n>(name: &'n str, end: &str) -> Option<&'n str> {
    name.strip_suffix(end).filter(|block| block.is_empty() || block.ends_with('.'))
}

/// Whether these are the layers of an MLP beside attention; pairs of dense layers alone are none.
fn is_block(wiring: &Wiring<'_>, block: &str, mlp: &Mlp) -> bool {
    let mut layers = mlp.up.iter().chain([&mlp.down]);
    layers.all(|layer| wiring.has(&format!("{block}{layer}.weight")))
        && (mlp.family == "T5" || has_attention(wiring, block))
}

/// Whether a block has something that is called attention.
fn has_attention(wiring: &Wiring<'_>, block: &str) -> bool {
    let is_attention = |name: &str| name[block.len()..].to_ascii_lowercase().contains("att");
    wiring.within(block).any(is_attention)
}

fn wire_mlp(wiring: &mut Wiring<'_>, block: &str, mlp: &Mlp, kept: &mut Kept) -> Result<()> {
    let [up, down] = [mlp.up[0], mlp.down].map(|layer| format!("{block}{layer}"));
    let Some(output_axis) = output_axis(wiring, block, &up)? else {
        kept.note("hidden units", &up, "its shape does not tell inputs from outputs");
        return Ok(());
    };
    let dims = wiring.dims::<2>(&format!("{up}.weight"))?;
    let (width, outputs) = (dims[1 - output_axis], dims[output_axis]);
    let back = wiring.dims::<2>(&format!("{down}.weight"))?;
    let units = back[1 - output_axis];
    if back[output_axis] != width || units.checked_mul(mlp.stacked) != Some(outputs) {
        kept.note("hidden units", &up, "the layer behind it does not lead back");
        return Ok(());
    }
    let hidden = wiring.flow(&format!("{block}mlp"), units);
    let ups: Vec<String> = mlp.up.iter().map(|layer| format!("{block}{layer}")).collect();
    for layer in &ups {
        let outputs = hidden.times(mlp.stacked, 1);
        dense(wiring, layer, output_axis, Axis::whole(width), outputs)?;
    }
    dense(wiring, &down, output_axis, hidden.axis(), Axis::whole(width))?;
    let folder = |layer: &String| match layer.rsplit_once('.') {
        Some((folder, _)) if folder.len() > block.len() => format!("{folder}."),
        _ => format!("{layer}."),
    };
    let folders: Vec<String> = ups.iter().chain([&down]).map(folder).collect();
    if let Some(stranger) = stranger(wiring, &folders, &[units]) {
        wiring.keep_whole(hidden);
        kept.note("hidden units", &up, &format!("{stranger:?} may belong to them"));
    }
    Ok(())
}

/// A dense layer whose outputs are on that axis of its weight.
pub(super) fn dense(
    wiring: &mut Wiring<'_>,
    layer: &str,
    output_axis: usize,
    input: Axis,
    output: Axis,
) -> Result<()> {
    let axes = match output_axis {
        0 => vec![output.clone(), input],
        _ => vec![input, output.clone()],
    };
    wiring.set(&format!("{layer}.weight"), axes, &[1 - output_axis])?;
    wiring.set_if_there(&format!("{layer}.bias"), output)
}

/// On which axis of the weight the outputs of a layer are: the first, but for layers named `c_...`,
/// which are the second axis in GPT-2 and the first in its descendants. There the two layers of
/// attention tell, which have to lead from the stream to three times as many channels and back, or the
/// bias.
pub(super) fn output_axis(wiring: &Wiring<'_>, block: &str, layer: &str) -> Result<Option<usize>> {
    if !layer.rsplit('.').next().is_some_and(|last| last.starts_with("c_")) {
        return Ok(Some(0));
    }
    let [inputs, back] = ["c_attn", "c_proj"].map(|layer| format!("{block}attn.{layer}.weight"));
    if wiring.has(&inputs) && wiring.has(&back) {
        let (inputs, back) = (wiring.dims::<2>(&inputs)?, wiring.dims::<2>(&back)?);
        let leads_back = |axis: &usize| {
            let all = back[1 - axis].checked_mul(3);
            inputs[1 - axis] == back[*axis] && Some(inputs[*axis]) == all
        };
        let mut fitting = [0, 1].into_iter().filter(leads_back);
        if let (Some(axis), None) = (fitting.next(), fitting.next()) {
            return Ok(Some(axis));
        }
    }
    let bias = format!("{layer}.bias");
    if !wiring.has(&bias) {
        return Ok(None);
    }
    let ([n], [rows, columns]) =
        (wiring.dims::<1>(&bias)?, wiring.dims::<2>(&format!("{layer}.weight"))?);
    Ok(match (n == rows, n == columns) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    })
}

/// A tensor in one of these folders of which nothing is known, and one of whose dimensions is one of
/// these.
pub(super) fn stranger(
    wiring: &Wiring<'_>,
    folders: &[String],
    dimensions: &[usize],
) -> Option<String> {
    let is_strange = |name: &&str| {
        let shape = wiring.shape(name).unwrap_or_default();
        let is_mask = matches!(shape, [1, 1, _, _]);
        let is_known = wiring.wired(name).is_some() || name.contains("lora_");
        // A norm of the stream between blocks.
        let is_norm = name.contains("output.LayerNorm.") || name.contains("attention.LayerNorm.");
        !is_known && !is_mask && !is_norm && shape.iter().any(|n| dimensions.contains(n))
    };
    let mut names = folders.iter().flat_map(|folder| wiring.within(folder));
    names.find(is_strange).map(str::to_owned)
}
