//! ResNet, ResNeXt and wide ResNet, with the names of torchvision.
//!
//! Within a block channels are its own; what is added along the shortcuts of a stage is one group.

use super::Kept;
use super::wiring::{Flow, Wiring};
use crate::{Error, Result};

/// What tells the family; what stands before it is the prefix.
const SIGN: &str = "layer1.0.conv1.weight";
/// Names of what changes the width of a shortcut.
const SHORTCUTS: [&str; 2] = ["downsample", "shortcut"];
/// Names of the last layer.
const HEADS: [&str; 3] = ["fc", "linear", "head"];

pub(super) fn prefix(wiring: &Wiring<'_>) -> Option<String> {
    let names = wiring.names();
    let prefix = names.iter().find_map(|name| name.strip_suffix(SIGN))?;
    let at_start = prefix.is_empty() || prefix.ends_with('.');
    (at_start && wiring.has(&format!("{prefix}conv1.weight"))).then(|| prefix.to_owned())
}

pub(super) fn wire(wiring: &mut Wiring<'_>, prefix: &str, kept: &mut Kept) -> Result<()> {
    let name = |layer: &str| format!("{prefix}{layer}");
    let [_, colours, ..] = wiring.dims::<4>(&name("conv1.weight"))?;
    let image = wiring.fixed(colours);
    let mut stream = wiring.conv(&name("conv1"), image)?;
    wiring.norm(&name("bn1"), stream.axis())?;
    let mut streams = vec![stream];
    for block in blocks(wiring, prefix) {
        stream = wire_block(wiring, &block, stream)?;
        streams.push(stream);
    }
    let heads = HEADS.iter().map(|head| name(head));
    let head = heads.into_iter().find(|head| wiring.has(&format!("{head}.weight")));
    if let Some(head) = &head {
        wire_head(wiring, head, stream)?;
    }
    let stranger = wiring.unwired().min().map(str::to_owned);
    if let Some(stranger) = stranger.iter().find(|name| name.starts_with(&format!("{prefix}layer")))
    {
        return Err(Error::invalid("is no part of a ResNet").in_parameter(stranger));
    }
    let why = match (stranger, head) {
        (Some(stranger), _) => format!("{stranger:?} may read what the blocks give"),
        (None, None) => "there is no last layer".to_owned(),
        (None, Some(_)) => return Ok(()),
    };
    streams.into_iter().for_each(|stream| wiring.keep_whole(stream));
    kept.note("channels between blocks", &name("layer1"), &why);
    Ok(())
}

/// Names of the blocks, in their order.
fn blocks(wiring: &Wiring<'_>, prefix: &str) -> Vec<String> {
    let has = |block: &String| wiring.has(&format!("{block}.conv1.weight"));
    let stage = |stage: usize| {
        let block = move |i: usize| format!("{prefix}layer{stage}.{i}");
        (0..).map(block).take_while(has).collect::<Vec<_>>()
    };
    (1..).map(stage).take_while(|blocks| !blocks.is_empty()).flatten().collect()
}

fn wire_head(wiring: &mut Wiring<'_>, head: &str, stream: Flow) -> Result<()> {
    let [classes, inputs] = wiring.dims::<2>(&format!("{head}.weight"))?;
    let units = wiring.units(stream);
    if inputs % units != 0 {
        let message = format!("takes {inputs} inputs, the last block gives {units} channels");
        return Err(Error::invalid(message).in_parameter(head));
    }
    let classes = wiring.fixed(classes);
    wiring.dense(head, stream.times(1, inputs / units), classes.axis())
}

/// Returns what is left behind the sum.
fn wire_block(wiring: &mut Wiring<'_>, block: &str, input: Flow) -> Result<Flow> {
    let output = match wiring.has(&format!("{block}.conv3.weight")) {
        true => wire_three(wiring, block, input)?,
        false => {
            let inner = wire_layer(wiring, block, 1, input)?;
            wire_layer(wiring, block, 2, inner)?
        }
    };
    let mut shortcuts = SHORTCUTS.iter().map(|shortcut| format!("{block}.{shortcut}"));
    let around = match shortcuts.find(|shortcut| wiring.has(&format!("{shortcut}.0.weight"))) {
        Some(shortcut) => {
            let around = wiring.conv(&format!("{shortcut}.0"), input)?;
            wiring.norm(&format!("{shortcut}.1"), around.axis())?;
            around
        }
        None => input,
    };
    wiring.join(output, around, block)?;
    Ok(output)
}

fn wire_layer(wiring: &mut Wiring<'_>, block: &str, i: usize, input: Flow) -> Result<Flow> {
    let output = wiring.conv(&format!("{block}.conv{i}"), input)?;
    wiring.norm(&format!("{block}.bn{i}"), output.axis())?;
    Ok(output)
}

/// Convolutions of 1x1, 3x3, perhaps in groups, and 1x1.
fn wire_three(wiring: &mut Wiring<'_>, block: &str, input: Flow) -> Result<Flow> {
    let conv = |i: usize| format!("{block}.conv{i}");
    let [width, within, ..] = wiring.dims::<4>(&format!("{}.weight", conv(2)))?;
    if within == width {
        let one = wire_layer(wiring, block, 1, input)?;
        let two = wire_layer(wiring, block, 2, one)?;
        return wire_layer(wiring, block, 3, two);
    }
    if within == 0 || width % within != 0 {
        let message = format!("{width} channels are no groups of {within}");
        return Err(Error::invalid(message).in_parameter(&conv(2)));
    }
    // The same channels of each group, before the grouped convolution and behind it.
    let inner = wiring.flow(&conv(1), within);
    let all = inner.times(width / within, 1);
    wiring.conv_into(&conv(1), input.axis(), all.clone())?;
    wiring.norm(&format!("{block}.bn1"), all.clone())?;
    wiring.conv_into(&conv(2), inner.axis(), all.clone())?;
    wiring.norm(&format!("{block}.bn2"), all.clone())?;
    let [outputs, ..] = wiring.dims::<4>(&format!("{}.weight", conv(3)))?;
    let output = wiring.flow(&conv(3), outputs);
    wiring.conv_into(&conv(3), all, output.axis())?;
    wiring.norm(&format!("{block}.bn3"), output.axis())?;
    Ok(output)
}
