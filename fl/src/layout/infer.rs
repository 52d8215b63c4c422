//! Layouts of plain sequences of dense and convolutional layers, from names and shapes.

use super::order::{by_name, orders};
use super::{Axis, Group, Layout, ParamLayout, Role, Segment};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

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
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
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

    /// Whether that layer takes what this one gives, flattened where it is an image.
    pub(super) fn can_precede(&self, next: &Self) -> bool {
        let (given, taken) = (self.n_outputs(), next.n_inputs());
        match (self.is_dense(), next.is_dense()) {
            (false, true) => taken % given == 0,
            (true, false) => false,
            _ => taken == given,
        }
    }
}

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("no layout can be inferred: {why}"))
}

/// The layout of a chain, in the order that the user names, or else in the only one there is.
pub(super) fn infer(
    shapes: &[(String, Vec<usize>)],
    convention: Convention,
    order: Option<&[String]>,
) -> Result<Layout> {
    let layers = find_layers(shapes, convention)?;
    let order = match order {
        Some(names) => given_order(&layers, names)?,
        None => find_order(&layers)?,
    };
    lay_out(shapes, convention, &layers, &order)
}

/// Names of the layers in each order that their shapes and names allow, a few at most; none where it
/// is no chain at all.
pub(super) fn candidates(
    shapes: &[(String, Vec<usize>)],
    convention: Convention,
) -> Vec<Vec<String>> {
    let Ok(layers) = find_layers(shapes, convention) else { return Vec::new() };
    let names = |order: &Vec<usize>| order.iter().map(|i| layers[*i].name.to_owned()).collect();
    orders(&layers).found.iter().map(names).collect()
}

fn lay_out(
    shapes: &[(String, Vec<usize>)],
    convention: Convention,
    layers: &[Layer<'_>],
    order: &[usize],
) -> Result<Layout> {
    let (mut groups, mut taken) = (Vec::new(), HashSet::new());
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
            let (name, units) = (group_name(layer.name, &mut taken), layer.n_outputs());
            groups.push(Group { name, units });
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
    let mut names = HashSet::new();
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
        let lower = name.to_ascii_lowercase();
        if lower.contains("embed") {
            return Err(refuse("looks like an embedding".to_owned()));
        }
        if lower.contains("lora_") {
            return Err(refuse("looks like half of a LoRA adapter".to_owned()));
        }
        if !names.insert(name) {
            return Err(refuse("is the second weight of its layer".to_owned()));
        }
        layers.push(Layer { name, weight: i, bias: None, shape, output_axis, input_axis });
    }
    attach_biases(shapes, &mut layers)?;
    Ok(layers)
}

fn attach_biases(shapes: &[(String, Vec<usize>)], layers: &mut [Layer<'_>]) -> Result<()> {
    let places: HashMap<&str, usize> = layers.iter().map(|l| l.name).zip(0..).collect();
    for (i, (full_name, shape)) in shapes.iter().enumerate() {
        let (name, part) = split_name(full_name);
        if part != "bias" {
            continue;
        }
        let Some(layer) = places.get(name).map(|place| &mut layers[*place]) else {
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
    let mut orders = orders(layers);
    match (orders.found.len(), orders.gave_up) {
        (1, false) => Ok(orders.found.remove(0)),
        (0, false) => Err(refuse(chain(layers, &by_name(layers)).err().unwrap_or_else(|| {
            "the numbers in the names contradict the only orders that the shapes allow".to_owned()
        }))),
        (0, true) => Err(refuse("there are too many ways in which the layers could follow")),
        _ => Err(refuse(
            "the layers chain in more than one order, and nothing in their shapes or in the \
             numbers of their names tells which is right",
        )),
    }
}

/// The order that the user names, of all layers once each.
fn given_order(layers: &[Layer<'_>], names: &[String]) -> Result<Vec<usize>> {
    let places: HashMap<&str, usize> = layers.iter().map(|l| l.name).zip(0..).collect();
    let (mut order, mut given) = (Vec::new(), HashSet::new());
    for name in names {
        let position = places.get(name.as_str()).copied().ok_or_else(|| {
            let known: Vec<_> = layers.iter().map(|layer| layer.name).collect();
            Error::invalid(format!("no layer {name:?}: there are {}", known.join(", ")))
        })?;
        if !given.insert(position) {
            return Err(Error::invalid(format!("layer {name:?} is named twice")));
        }
        order.push(position);
    }
    if let Some(missing) = (0..layers.len()).find(|i| !given.contains(i)) {
        let name = layers[missing].name;
        return Err(Error::invalid(format!("the order lacks layer {name:?}")));
    }
    chain(layers, &order).map(|()| order).map_err(refuse)
}

/// Whether each layer takes what the one before gives.
fn chain(layers: &[Layer<'_>], order: &[usize]) -> std::result::Result<(), String> {
    for pair in order.windows(2) {
        let (before, layer) = (&layers[pair[0]], &layers[pair[1]]);
        if !before.can_precede(layer) {
            let (given, taken) = (before.n_outputs(), layer.n_inputs());
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

/// An identifier made of a layer's name, different from those that are taken, which it joins.
pub(super) fn group_name(layer: &str, taken: &mut HashSet<String>) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = layer.chars().take(200).map(word).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert_str(0, "layer");
    }
    let numbered = (2..).map(|i| format!("{name}_{i}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    let name = free.unwrap_or(name);
    taken.insert(name.clone());
    name
}
