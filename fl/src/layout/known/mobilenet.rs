//! MobileNetV2 and V3, and EfficientNet, with the names of torchvision.
//!
//! A block widens, filters each channel by itself, perhaps weighs channels by each other, and narrows.
//! Where it gives as many channels as it takes they may be added, which shapes do not show: they are
//! one group then, which is right for both.

use super::super::order::natural_key;
use super::Kept;
use super::wiring::{Flow, Wiring};
use crate::{Error, Result};

/// What stands between the name of a block and those of its layers.
const INSIDE: [&str; 2] = [".conv.", ".block."];

pub(super) fn prefix(wiring: &Wiring<'_>) -> Option<String> {
    let names = wiring.names();
    let stem = names.iter().find_map(|name| name.strip_suffix("features.0.0.weight"))?;
    let features = format!("{stem}features.");
    // A convolution with its norm; blocks of ConvNeXt have both by themselves.
    let first = |rest: &str| rest == "0.0.weight";
    let inside = |name: &String| {
        INSIDE.iter().any(|inside| name.split_once(inside).is_some_and(|(_, rest)| first(rest)))
    };
    let in_blocks = names.iter().any(|name| name.starts_with(&features) && inside(name));
    ((stem.is_empty() || stem.ends_with('.')) && in_blocks).then(|| stem.to_owned())
}

pub(super) fn wire(wiring: &mut Wiring<'_>, stem: &str, kept: &mut Kept) -> Result<()> {
    let features = format!("{stem}features.");
    let [_, colours, ..] = wiring.dims::<4>(&format!("{features}0.0.weight"))?;
    let mut stream = wiring.fixed(colours);
    let mut streams = vec![stream];
    for (block, layers) in blocks(&wiring.names(), &features) {
        let input = stream;
        for layer in &layers {
            stream = wire_layer(wiring, layer, stream)?;
        }
        if INSIDE.iter().any(|inside| layers[0].contains(inside)) {
            if wiring.units(input) == wiring.units(stream) {
                wiring.join(input, stream, &block)?;
            }
            streams.push(stream);
        }
    }
    streams.push(stream);
    let has_head = wire_classifier(wiring, &format!("{stem}classifier."), stream)?;
    let stranger = wiring.unwired().min().map(str::to_owned);
    if let Some(stranger) = stranger.iter().find(|name| name.starts_with(&features)) {
        return Err(Error::invalid("is no part of a MobileNet").in_parameter(stranger));
    }
    let why = match stranger {
        Some(stranger) => format!("{stranger:?} may read what the blocks give"),
        None if !has_head => "there is no classifier".to_owned(),
        None => return Ok(()),
    };
    streams.into_iter().for_each(|stream| wiring.keep_whole(stream));
    kept.note("channels between blocks", features.trim_end_matches('.'), &why);
    Ok(())
}

/// Each block with its layers, which are convolutions, in their order: `features.3` with
/// `features.3.conv.0.0`, ...
fn blocks(names: &[String], features: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(features)) {
        let Some((layer, "weight")) = name.rsplit_once('.') else { continue };
        let inside = INSIDE.iter().find_map(|inside| layer.split_once(inside));
        let block = inside.map_or_else(|| layer.rsplit_once('.'), Some).map_or(layer, |(b, _)| b);
        match blocks.iter_mut().find(|(known, _)| known == block) {
            Some((_, layers)) => layers.push(layer.to_owned()),
            None => blocks.push((block.to_owned(), vec![layer.to_owned()])),
        }
    }
    blocks.sort_by_cached_key(|(block, _)| natural_key(block));
    for (_, layers) in &mut blocks {
        layers.sort_by_cached_key(|layer| natural_key(layer));
    }
    blocks
}

/// One layer behind another; returns what it gives.
fn wire_layer(wiring: &mut Wiring<'_>, layer: &str, input: Flow) -> Result<Flow> {
    let shape = wiring.shape(&format!("{layer}.weight"))?;
    let units = wiring.units(input);
    match (shape, layer.rsplit_once('.')) {
        ([_], _) => wiring.norm(layer, input.axis())?,
        (_, Some((around, "fc1"))) => {
            let squeezed = wiring.conv(layer, input)?;
            wiring.conv_into(&format!("{around}.fc2"), squeezed.axis(), input.axis())?;
        }
        (_, Some((_, "fc2"))) => {}
        ([outputs, 1, ..], _) if *outputs == units && units > 1 => {
            let one = wiring.fixed(1);
            wiring.conv_into(layer, one.axis(), input.axis())?;
        }
        _ => return wiring.conv(layer, input),
    }
    Ok(input)
}

/// The dense layers behind the last block; false where there are none.
fn wire_classifier(wiring: &mut Wiring<'_>, classifier: &str, stream: Flow) -> Result<bool> {
    let is_dense = |name: &String| name.starts_with(classifier) && name.ends_with(".weight");
    let weights: Vec<String> = wiring.names().into_iter().filter(is_dense).collect();
    let mut input = stream;
    for (i, weight) in weights.iter().enumerate() {
        let layer = weight.trim_end_matches(".weight");
        let [outputs, _] = wiring.dims::<2>(weight)?;
        let last = i + 1 == weights.len();
        let output = if last { wiring.fixed(outputs) } else { wiring.flow(layer, outputs) };
        wiring.dense(layer, input.axis(), output.axis())?;
        input = output;
    }
    Ok(!weights.is_empty())
}
