//! [`Layout`]: which axis of which parameter belongs to which group of units.

mod axis;
mod infer;
mod known;
mod order;
mod text;
mod verify;

pub use axis::{Axis, Segment};
pub use infer::Convention;
pub use known::{Heads, Recognized};

use crate::{Error, Parameter, Result, Selection};
use serde::Deserialize;
use std::collections::HashSet;

/// A set of units that are kept or dropped one by one: the filters of a convolution, the neurons of
/// a hidden layer, the heads of an attention layer. Channels that are added share a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// An identifier, unique in the layout: ASCII letters, digits and `_`, no digit first, at most
    /// 255 of them.
    pub name: String,
    /// How many there are in the full model; 1 to 2^32 - 1.
    pub units: usize,
}

/// What a parameter is to training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trained.
    #[default]
    Weight,
    /// Counted and not trained, as a running mean or variance: it is averaged as it is, no server
    /// optimizer moves it, and it travels without loss. Of a submodel, which has smaller sums, it is
    /// not averaged: take statistics on the full model afterwards
    /// ([`Coordinator::set_statistics`](crate::Coordinator::set_statistics)), or use a norm without.
    Statistic,
}

/// How one parameter is made of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    /// As in [`Parameter::name`].
    pub name: String,
    /// Whether it is trained.
    pub role: Role,
    /// One per dimension, outermost first; none for a scalar.
    pub axes: Vec<Axis>,
    /// The axes that the layer sums over, ascending: what [`gains`](crate::gains) compensate.
    pub inputs: Vec<usize>,
}

/// Which axis of which parameter belongs to which group of units: all that is needed to cut a
/// smaller dense model out of a full one and to put it back.
///
/// ```
/// use fedpress_fl::Layout;
/// // A hidden layer of 200 units between 784 inputs and 10 logits, which are never dropped.
/// let layout = Layout::from_toml(r#"
///     [groups]
///     hidden = 200
///     [[parameters]]
///     name = "fc1.weight"
///     axes = ["hidden", "784"]
///     inputs = [1]
///     [[parameters]]
///     name = "fc2.weight"
///     axes = ["10", "hidden"]
///     inputs = [1]
/// "#)?;
/// assert_eq!(layout.shape(0), [200, 784]);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    groups: Vec<Group>,
    params: Vec<ParamLayout>,
}

impl Layout {
    /// From its parts, checked and brought into the canonical form of [`Axis`].
    ///
    /// # Errors
    /// `InvalidArgument`, naming the group or the parameter and axis: no parameter at all, a name
    /// that is empty, taken or (of a group) no identifier, a size of 0 or too large for memory, a
    /// group that does not exist or that nothing uses, inputs that are no axes or not ascending.
    pub fn new(groups: Vec<Group>, mut params: Vec<ParamLayout>) -> Result<Self> {
        check_groups(&groups)?;
        check_params(&groups, &params)?;
        for axis in params.iter_mut().flat_map(|param| &mut param.axes) {
            axis.normalize();
        }
        let used: HashSet<usize> = params
            .iter()
            .flat_map(|p| &p.axes)
            .flat_map(|a| &a.0)
            .filter_map(|s| s.group)
            .collect();
        match (0..groups.len()).find(|group| !used.contains(group)) {
            Some(group) => {
                Err(Error::invalid(format!("group {:?}: no axis uses it", groups[group].name)))
            }
            None => Ok(Self { groups, params }),
        }
    }

    /// From the text of a layout file: a table `groups` of names and sizes, whose order is that of
    /// the file, and an array `parameters` of tables with `name`, `axes`, and where needed `inputs`
    /// and `role = "statistic"`.
    ///
    /// An axis is `segment ("+" segment)*`, and a segment `[number "*"] group ["*" number]` or a
    /// number: `"fc1"`, `"conv2*49"`, `"3*heads*64"`, `"a+b"`, `"10"`.
    ///
    /// What layers are made of:
    ///
    /// | layer | axes |
    /// |---|---|
    /// | dense, conv | its own group out, that of the layer before in; `inputs` names the latter |
    /// | depthwise conv, batch norm | the group of the layer before |
    /// | conv with G groups, group norm of G groups | `"G*c"`, the same channels of each, or `"g*n"`, whole groups of n channels; the layer before alike, so that what is left meets what it met |
    /// | flattened image of n places | `"c*n"` channels first, `"n*c"` channels last |
    /// | sum of two paths | one group for both |
    /// | concatenation | `"a+b"` |
    /// | attention of width n a head | `"heads*n"`, query, key and value in one `"3*heads*n"` |
    /// | embedding | its width; words are an input |
    ///
    /// # Errors
    /// `InvalidArgument` with the line where the text is not such a file, with the parameter and
    /// the axis where it is and makes no sense.
    pub fn from_toml(text: &str) -> Result<Self> {
        text::read(text)
    }

    /// The layout file of this layout, in its canonical form; [`from_toml`](Self::from_toml) makes
    /// an equal layout of it.
    pub fn to_toml(&self) -> String {
        text::write(self)
    }

    /// The layout of a plain sequence of dense and convolutional layers, from names and shapes
    /// alone.
    ///
    /// A layer is `X.weight` (or `X.kernel`, or with a slash) of 2 or 4 dimensions and perhaps
    /// `X.bias`. Each takes what the one before gives, or, dense behind a convolution, a multiple
    /// of it: the flattened image. The order needs evidence that no other order of the same shapes
    /// has: layers whose names differ in numbers alone follow these (`conv2` before `conv10`), and
    /// otherwise exactly one order must chain. The order of the list says nothing: safetensors sorts by
    /// name. Outputs of every layer but the last become a group named after the layer; parameters stay
    /// in the order given.
    ///
    /// Shapes do not show everything: a model with residual sums and without norms looks like a
    /// sequence. Such a model needs a layout file, or one of the families that
    /// [`recognize`](Self::recognize) knows.
    ///
    /// # Errors
    /// `InvalidArgument` that says why, for anything else: norms, embeddings, branches, grouped
    /// convolutions, adapters, two orders that both chain ([`candidates`](Self::candidates) names them).
    pub fn infer(shapes: &[(String, Vec<usize>)], convention: Convention) -> Result<Self> {
        infer::infer(shapes, convention, None)
    }

    /// Like [`infer`](Self::infer), in the order in which the user names the layers, from the input
    /// to the output.
    ///
    /// # Errors
    /// `InvalidArgument` where they do not chain so, or the names are not those of the layers.
    pub fn infer_in_order(
        shapes: &[(String, Vec<usize>)],
        convention: Convention,
        order: &[String],
    ) -> Result<Self> {
        infer::infer(shapes, convention, Some(order))
    }

    /// The orders of layers, as [`infer_in_order`](Self::infer_in_order) takes them, that shapes and
    /// names allow: a few at most, none where it is no chain.
    pub fn candidates(shapes: &[(String, Vec<usize>)], convention: Convention) -> Vec<Vec<String>> {
        infer::candidates(shapes, convention)
    }

    /// The layout of a model of a family that is known by its names: torchvision's ResNets (ResNeXt, wide)
    /// and MobileNets (EfficientNet), transformers with the names of BERT, ViT, GPT-2, GPT-NeoX, Llama, T5
    /// and their kin, and LoRA adapters, alone or on any of these; weights as torch stores them. Shapes
    /// verify every tensor that is taken for one of the family.
    ///
    /// Units are the channels within and between the blocks of convolutional networks, the hidden units
    /// of MLPs and, where `heads` or a tensor tell their number, heads (with grouped queries, heads of
    /// keys with all of their queries), and the rank of adapters. All else is whole; what could be units
    /// if more were known is told in [`Recognized::notes`]. `None` for a family that is not known.
    ///
    /// # Errors
    /// `InvalidArgument` where the names are those of a family and the shapes are not.
    pub fn recognize(shapes: &[(String, Vec<usize>)], heads: Heads) -> Result<Option<Recognized>> {
        known::recognize(shapes, heads)
    }

    /// A layout of which nothing is ever dropped: the text to start from where nothing can be inferred.
    ///
    /// # Errors
    /// `InvalidArgument` for no tensors at all, a name that is taken, or one without values.
    pub fn whole(shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let param = |(name, shape): &(String, Vec<usize>)| ParamLayout {
            name: name.clone(),
            role: Role::Weight,
            axes: shape.iter().copied().map(Axis::whole).collect(),
            inputs: Vec::new(),
        };
        Self::new(Vec::new(), shapes.iter().map(param).collect())
    }

    /// The groups, in the order of masks in a [`Selection`].
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The parameters, in the order of the model.
    pub fn params(&self) -> &[ParamLayout] {
        &self.params
    }

    /// The index of the group of this name.
    pub fn group(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name == name)
    }

    /// The dimensions of a parameter of the full model.
    ///
    /// # Panics
    /// If there is no parameter of this index.
    pub fn shape(&self, param: usize) -> Vec<usize> {
        self.params[param].axes.iter().map(|axis| axis.len(&self.groups)).collect()
    }

    /// How many values the full model has.
    pub fn n_values(&self) -> usize {
        (0..self.params.len()).map(|param| self.shape(param).iter().product::<usize>()).sum()
    }

    /// Whether these are the parameters of this layout: same names, order, shapes and lengths.
    ///
    /// # Errors
    /// `InvalidArgument` with what was expected and what was found, for the first that is not.
    pub fn check(&self, params: &[Parameter]) -> Result<()> {
        if params.len() != self.params.len() {
            return Err(Error::invalid(format!(
                "expected {} parameters, found {}",
                self.params.len(),
                params.len()
            )));
        }
        for (i, (expected, found)) in self.params.iter().zip(params).enumerate() {
            let shape = self.shape(i);
            let n_values: usize = shape.iter().product();
            let problem = if expected.name != found.name {
                format!("at position {i} expected this name, found {:?}", found.name)
            } else if shape != found.shape {
                format!("expected shape {shape:?}, found {:?}", found.shape)
            } else if n_values != found.values.len() {
                format!("expected {n_values} values, found {}", found.values.len())
            } else {
                continue;
            };
            return Err(Error::invalid(problem).in_parameter(&expected.name));
        }
        Ok(())
    }

    /// The layout of the model that is left: the same groups with fewer units.
    ///
    /// # Errors
    /// `InvalidArgument` where the selection belongs to another layout.
    pub fn submodel(&self, selection: &Selection) -> Result<Self> {
        selection.check(self)?;
        let left = |(i, group): (usize, &Group)| Group {
            name: group.name.clone(),
            units: selection.n_kept(i),
        };
        let groups = self.groups.iter().enumerate().map(left).collect();
        Ok(Self { groups, params: self.params.clone() })
    }
}

fn check_groups(groups: &[Group]) -> Result<()> {
    let mut names = HashSet::new();
    for Group { name, units } in groups {
        let problem = if !axis::is_identifier(name) {
            "expected a name of at most 255 ASCII letters, digits and _, no digit first".to_owned()
        } else if !names.insert(name) {
            "the name is taken".to_owned()
        } else if *units == 0 || u32::try_from(*units).is_err() {
            format!("expected 1 to {} units, found {units}", u32::MAX)
        } else {
            continue;
        };
        return Err(Error::invalid(format!("group {name:?}: {problem}")));
    }
    Ok(())
}

fn check_params(groups: &[Group], params: &[ParamLayout]) -> Result<()> {
    if params.is_empty() {
        return Err(Error::invalid("a layout needs at least one parameter"));
    }
    let mut names = HashSet::new();
    let mut n_values = 0usize;
    for param in params {
        let invalid = |problem: String| Error::invalid(problem).in_parameter(&param.name);
        if param.name.is_empty() {
            return Err(invalid("the name is empty".to_owned()));
        }
        if !names.insert(&param.name) {
            return Err(invalid("the name is taken".to_owned()));
        }
        let mut length = 1usize;
        for (i, axis) in param.axes.iter().enumerate() {
            let n = axis.checked_len(groups).map_err(|e| invalid(format!("axis {i}: {e}")))?;
            let product = length.checked_mul(n);
            length =
                product.ok_or_else(|| invalid("more values than can be counted".to_owned()))?;
        }
        let sum = n_values.checked_add(length).filter(|sum| *sum <= MAX_VALUES);
        n_values = sum.ok_or_else(|| invalid(format!("more than {MAX_VALUES} values in all")))?;
        check_inputs(param).map_err(invalid)?;
    }
    Ok(())
}

/// Values of a model, for each of which an aggregator has 21 bytes.
const MAX_VALUES: usize = isize::MAX as usize / 32;

fn check_inputs(param: &ParamLayout) -> std::result::Result<(), String> {
    let ascending = param.inputs.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = param.inputs.last().is_none_or(|last| *last < param.axes.len());
    if ascending && in_range {
        return Ok(());
    }
    let (found, rank) = (&param.inputs, param.axes.len());
    Err(format!("inputs: expected ascending numbers of its {rank} axes, found {found:?}"))
}
