//! Layouts of plain sequences of dense and convolutional layers, from names and shapes.

use super::{Axis, Group, Layout, ParamLayout, Role, Segment};
use crate::{Error, Result};
use std::collections::HashSet;

/// How a framework stores weights and flattens images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// Dense `[out, in]`, convolutions `[out, in, height, width]`, flattened channel first.
    Torch,
    /// Dense `[in, out]`, convolutions `[out, in, height, width]`, flattened channel first.
    Burn,
    /// Dense `[in, out]`, convolutions `[height, width, in, out]`, flattened channel last.
    Keras,
}

impl Convention {
    /// The axes of outputs and inputs in a weight of this rank.
    fn axes(self, rank: usize) -> Option<(usize, usize)> {
        match (self, rank) {
            (Self::Torch, 2) | (Self::Torch | Self::Burn, 4) => Some((0, 1)),
            (Self::Burn | Self::Keras, 2) => Some((1, 0)),
            (Self::Keras, 4) => Some((3, 2)),
            _ => None,
        }
    }

    /// The axis of a dense layer behind an image of `pixels` per channel.
    fn flattened(self, group: usize, pixels: usize) -> Axis {
        let (outer, inner) = if self == Self::Keras { (pixels, 1) } else { (1, pixels) };
        Axis(vec![Segment { outer, group: Some(group), inner }])
    }
}

/// A weight and perhaps a bias.
struct Layer<'a> {
    name: &'a str,
    /// Position in the list of shapes.
    weight: usize,
    bias: Option<usize>,
    /// Of the weight.
    shape: &'a [usize],
    output_axis: usize,
    input_axis: usize,
}

impl Layer<'_> {
    fn n_outputs(&self) -> usize {
        self.shape[self.output_axis]
    }

    fn n_inputs(&self) -> usize {
        self.shape[self.input_axis]
    }

    fn is_dense(&self) -> bool {
        self.shape.len() == 2
    }
}

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("no layout can be inferred: {why}"))
}

pub(super) fn infer(shapes: &[(String, Vec<usize>)], convention: Convention) -> Result<Layout> {
    let layers = find_layers(shapes, convention)?;
    let order = find_order(&layers)?;
    let mut groups = Vec::new();
    let mut axes: Vec<Vec<Axis>> =
        shapes.iter().map(|(_, shape)| shape.iter().copied().map(Axis::whole).collect()).collect();
    let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); shapes.len()];
    let mut before: Option<&Layer<'_>> = None;
    for (position, index) in order.iter().enumerate() {
        let layer = &layers[*index];
        inputs[layer.weight] = vec![layer.input_axis];
        if let Some(before) = before {
            let pixels = layer.n_inputs() / before.n_outputs();
            axes[layer.weight][layer.input_axis] = convention.flattened(position - 1, pixels);
        }
        if position + 1 < order.len() {
            axes[layer.weight][layer.output_axis] = Axis::units(position);
            if let Some(bias) = layer.bias {
                axes[bias] = vec![Axis::units(position)];
            }
            groups.push(Group { name: group_name(layer.name, &groups), units: layer.n_outputs() });
        }
        before = Some(layer);
    }
    let params = shapes.iter().zip(axes).zip(inputs);
    let param = |((shape, axes), inputs): ((&(String, Vec<usize>), _), _)| ParamLayout {
        name: shape.0.clone(),
        role: Role::Weight,
        axes,
        inputs,
    };
    Layout::new(groups, params.map(param).collect())
}

/// Splits `features.0.weight` into layer and rest; `dense/kernel:0` is Keras' way of saying it.
fn split_name(name: &str) -> (&str, &str) {
    let name = name.strip_suffix(":0").unwrap_or(name);
    name.rsplit_once(['.', '/']).unwrap_or(("", name))
}

fn find_layers(shapes: &[(String, Vec<usize>)], convention: Convention) -> Result<Vec<Layer<'_>>> {
    let mut layers: Vec<Layer<'_>> = Vec::new();
    for (i, (full_name, shape)) in shapes.iter().enumerate() {
        let (name, part) = split_name(full_name);
        let refuse = |why: String| refuse(format!("{full_name:?} {why}"));
        match part {
            "bias" => continue,
            "weight" | "kernel" => {}
            _ => return Err(refuse("is neither a weight nor a bias".to_owned())),
        }
        let Some((output_axis, input_axis)) = convention.axes(shape.len()) else {
            return Err(refuse(format!(
                "has shape {shape:?}, not that of a dense layer or a convolution"
            )));
        };
        if shape.contains(&0) {
            return Err(refuse(format!("has shape {shape:?}, which is empty")));
        }
        if name.to_ascii_lowercase().contains("embed") {
            return Err(refuse("looks like an embedding".to_owned()));
        }
        if layers.iter().any(|layer| layer.name == name) {
            return Err(refuse("is the second weight of its layer".to_owned()));
        }
        layers.push(Layer { name, weight: i, bias: None, shape, output_axis, input_axis });
    }
    attach_biases(shapes, &mut layers)?;
    Ok(layers)
}

fn attach_biases(shapes: &[(String, Vec<usize>)], layers: &mut [Layer<'_>]) -> Result<()> {
    for (i, (full_name, shape)) in shapes.iter().enumerate() {
        let (name, part) = split_name(full_name);
        if part != "bias" {
            continue;
        }
        let Some(layer) = layers.iter_mut().find(|layer| layer.name == name) else {
            return Err(refuse(format!("{full_name:?} has no weight beside it")));
        };
        if *shape != [layer.n_outputs()] {
            let n = layer.n_outputs();
            return Err(refuse(format!(
                "{full_name:?} has shape {shape:?}, its layer {n} outputs"
            )));
        }
        if layer.bias.replace(i).is_some() {
            return Err(refuse(format!("{full_name:?} is the second bias of its layer")));
        }
    }
    Ok(())
}

/// The one order in which the layers chain.
fn find_order(layers: &[Layer<'_>]) -> Result<Vec<usize>> {
    let file: Vec<usize> = (0..layers.len()).collect();
    let mut natural = file.clone();
    natural.sort_by_cached_key(|i| natural_key(layers[*i].name));
    if file == natural {
        return chain(layers, &file).map(|()| file).map_err(refuse);
    }
    match (chain(layers, &file), chain(layers, &natural)) {
        (Ok(()), Err(_)) => Ok(file),
        (Err(_), Ok(())) => Ok(natural),
        (Ok(()), Ok(())) => Err(refuse(
            "the layers chain in the order of the file and in the order of their names alike",
        )),
        (Err(in_file), Err(by_name)) => {
            Err(refuse(format!("in the order of the file {in_file}; by name {by_name}")))
        }
    }
}

/// Whether each layer takes what the one before gives.
fn chain(layers: &[Layer<'_>], order: &[usize]) -> std::result::Result<(), String> {
    for pair in order.windows(2) {
        let (before, layer) = (&layers[pair[0]], &layers[pair[1]]);
        let (given, taken) = (before.n_outputs(), layer.n_inputs());
        let fits = match (before.is_dense(), layer.is_dense()) {
            (false, true) => taken % given == 0,
            (true, false) => false,
            _ => taken == given,
        };
        if !fits {
            let kind = |layer: &Layer<'_>| if layer.is_dense() { "dense" } else { "convolution" };
            return Err(format!(
                "{:?} ({}) takes {taken} inputs and cannot follow {:?} ({}), which gives {given}",
                layer.name,
                kind(layer),
                before.name,
                kind(before),
            ));
        }
    }
    Ok(())
}

/// Text and numbers in turn; a number is compared by its digits without leading zeros.
fn natural_key(name: &str) -> Vec<(String, usize, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(end);
        let digits = digits.trim_start_matches('0');
        parts.push((text.to_owned(), digits.len(), digits.to_owned()));
        rest = after;
    }
    parts
}

/// An identifier made of a layer's name, different from those of the groups so far.
fn group_name(layer: &str, groups: &[Group]) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = layer.chars().take(200).map(word).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert_str(0, "layer");
    }
    let taken: HashSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let numbered = (2..).map(|i| format!("{name}_{i}"));
    std::iter::once(name.clone())
        .chain(numbered)
        .find(|n| !taken.contains(n.as_str()))
        .unwrap_or(name)
}
