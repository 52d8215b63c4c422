//! [`Stage`]: a layer at its place, and the parameters it has there.

use super::LayerSpec;
use super::flow::Flow;
use std::collections::HashSet;

/// A layer that does something alone, with what flows in and out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) layer: &'a LayerSpec,
    pub(super) input: Flow,
    pub(super) output: Flow,
    /// The group of units that the input's channels are; none where they are never dropped.
    pub(super) units_in: Option<&'a str>,
    /// The same for the output's channels.
    pub(super) units_out: Option<&'a str>,
}

/// What a parameter starts as, and whether it is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Start {
    /// Drawn.
    Drawn,
    /// The same value everywhere.
    Constant(f32),
    /// The same, and counted rather than trained.
    Statistic(f32),
}

/// What is known of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParameterSpec {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// For each axis, what a layout says of it.
    pub(super) axes: Vec<String>,
    /// The axis that is summed over.
    pub(super) input: Option<usize>,
    pub(super) start: Start,
}

impl ParameterSpec {
    pub(super) fn is_statistic(&self) -> bool {
        matches!(self.start, Start::Statistic(_))
    }
}

/// The stages of checked layers, in the order of their parameters.
pub(super) fn stages(input: [usize; 3], layers: &[LayerSpec]) -> Vec<Stage<'_>> {
    let mut pinned = HashSet::new();
    pin(layers, true, &mut pinned);
    let [channels, height, width] = input;
    let from = (Flow { channels, height, width, flat: false }, None);
    let mut stages = Vec::new();
    walk(layers, from, &pinned, &mut stages);
    stages
}

/// Finds the layers whose outputs are never dropped: those that make logits, and those that make
/// what is added up. `fixed` says whether what comes out of `layers` is; what is returned, whether
/// what goes in is.
fn pin<'a>(layers: &'a [LayerSpec], mut fixed: bool, pinned: &mut HashSet<&'a str>) -> bool {
    for layer in layers.iter().rev() {
        match layer {
            LayerSpec::Conv { name, .. } | LayerSpec::Dense { name, .. } => {
                if fixed {
                    pinned.insert(name);
                }
                fixed = false;
            }
            LayerSpec::Residual { body, shortcut } => {
                let body = pin(body, true, pinned);
                fixed = pin(shortcut, true, pinned) || body;
            }
            _ => {}
        }
    }
    fixed
}

/// What flows, and which units its channels are.
type Signal<'a> = (Flow, Option<&'a str>);

fn walk<'a>(
    layers: &'a [LayerSpec],
    mut signal: Signal<'a>,
    pinned: &HashSet<&'a str>,
    stages: &mut Vec<Stage<'a>>,
) -> Signal<'a> {
    for layer in layers {
        let (input, units_in) = signal;
        if let LayerSpec::Residual { body, shortcut } = layer {
            let (output, _) = walk(body, signal, pinned, stages);
            walk(shortcut, signal, pinned, stages);
            signal = (output, None);
            continue;
        }
        let units_out = match layer {
            LayerSpec::Conv { name, .. } | LayerSpec::Dense { name, .. } => {
                Some(name.as_str()).filter(|name| !pinned.contains(name))
            }
            _ => units_in,
        };
        // Checked when the architecture was made.
        let output = input.through(layer).unwrap_or(input);
        stages.push(Stage { layer, input, output, units_in, units_out });
        signal = (output, units_out);
    }
    signal
}

impl Stage<'_> {
    /// Its parameters, in order.
    pub(super) fn parameters(&self) -> Vec<ParameterSpec> {
        let name = self.layer.name().unwrap_or_default();
        let out = self.units_out.map_or(self.output.channels.to_string(), str::to_owned);
        let vector = |part: &str, start| ParameterSpec {
            name: format!("{name}.{part}"),
            shape: vec![self.output.channels],
            axes: vec![out.clone()],
            input: None,
            start,
        };
        let weight = |shape: Vec<usize>, axes: Vec<String>, input| ParameterSpec {
            name: format!("{name}.weight"),
            shape,
            axes,
            input: Some(input),
            start: Start::Drawn,
        };
        match self.layer {
            LayerSpec::Conv { out: filters, kernel, bias, .. } => {
                let channels = self.input.channels;
                let units = self.units_in.map_or(channels.to_string(), str::to_owned);
                let side = kernel.to_string();
                let axes = vec![out.clone(), units, side.clone(), side];
                let weight = weight(vec![*filters, channels, *kernel, *kernel], axes, 1);
                let bias = bias.then(|| vector("bias", Start::Constant(0.0)));
                std::iter::once(weight).chain(bias).collect()
            }
            LayerSpec::Dense { out: units, .. } => {
                let axes = vec![self.features_in(), out.clone()];
                let weight = weight(vec![self.input.features(), *units], axes, 0);
                vec![weight, vector("bias", Start::Constant(0.0))]
            }
            LayerSpec::BatchNorm { .. } => vec![
                vector("weight", Start::Constant(1.0)),
                vector("bias", Start::Constant(0.0)),
                vector("running_mean", Start::Statistic(0.0)),
                vector("running_var", Start::Statistic(1.0)),
            ],
            LayerSpec::GroupNorm { .. } => {
                vec![vector("weight", Start::Constant(1.0)), vector("bias", Start::Constant(0.0))]
            }
            _ => vec![],
        }
    }

    /// The values of a vector that goes in, as an axis.
    fn features_in(&self) -> String {
        match (self.units_in, self.input.height * self.input.width) {
            (None, _) => self.input.features().to_string(),
            (Some(units), 1) => units.to_owned(),
            (Some(units), pixels) => format!("{units}*{pixels}"),
        }
    }

    /// Multiply-adds for one example: of what multiplies and adds, which a batch norm could be
    /// folded into.
    pub(super) fn multiply_adds(&self) -> u64 {
        let weight: u64 = match (self.layer, self.parameters().first()) {
            (LayerSpec::Conv { .. } | LayerSpec::Dense { .. }, Some(weight)) => {
                weight.shape.iter().map(|n| *n as u64).product()
            }
            _ => return 0,
        };
        weight * (self.output.height * self.output.width) as u64
    }
}
