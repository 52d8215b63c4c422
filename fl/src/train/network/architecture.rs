//! [`Architecture`]: a sequential network as data, with what follows from it.

use super::flow::{Flow, Stage};
use crate::{Error, Parameter, Result};
use serde::{Deserialize, Serialize};

/// One layer of an [`Architecture`]. In files: `kind = "conv"`, then the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerSpec {
    /// Convolution with a square kernel and a bias; images in, images out.
    Conv {
        /// The prefix of its parameters, and the group of its units.
        name: String,
        /// Filters.
        out: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between applications, both ways.
        #[serde(default = "one")]
        stride: usize,
        /// Zeros on every side.
        #[serde(default)]
        padding: usize,
    },
    /// Fully connected with a bias; vectors in, vectors out.
    Dense {
        /// The prefix of its parameters, and the group of its units.
        name: String,
        /// Outputs.
        out: usize,
    },
    /// max(x, 0).
    Relu,
    /// The largest of each square of `size` by `size`; a rest at the edge is left out.
    MaxPool {
        /// Side and step.
        size: usize,
    },
    /// The mean of each channel: images to vectors.
    GlobalMean,
    /// Images to vectors, channel by channel: a channel becomes `height * width` neighbours.
    Flatten,
}

fn one() -> usize {
    1
}

impl LayerSpec {
    /// The name of a layer that has parameters.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Conv { name, .. } | Self::Dense { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// A sequential network as data: what an experiment file says, and what a client gets told.
///
/// Every value is checked when it is made ([`new`](Self::new) or deserialised), so that the rest
/// cannot fail. Its parameters, in order, are `NAME.weight` and `NAME.bias` of each layer that has
/// any: a convolution's weight is `[out, in, kernel, kernel]` as in PyTorch, a dense weight is
/// `[in, out]` as in burn, Keras and JAX (PyTorch's is the transpose), a bias is `[out]`.
///
/// ```
/// let model = fedpress_fl::train::Architecture::mnist_cnn(10)?;
/// assert_eq!(model.n_parameters(), 1_663_370);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Architecture {
    input: [usize; 3],
    layers: Vec<LayerSpec>,
    /// `flows[i]` goes into layer i; one more comes out at the end.
    flows: Vec<Flow>,
}

/// How an [`Architecture`] travels.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    input: [usize; 3],
    layers: Vec<LayerSpec>,
}

impl TryFrom<Plain> for Architecture {
    type Error = Error;

    fn try_from(plain: Plain) -> Result<Self> {
        Self::new(plain.input, plain.layers)
    }
}

impl From<Architecture> for Plain {
    fn from(architecture: Architecture) -> Self {
        Self { input: architecture.input, layers: architecture.layers }
    }
}

impl Architecture {
    /// A network for images of `input` = `[channels, height, width]`.
    ///
    /// # Errors
    /// `InvalidArgument`, with the layer, where something does not fit: a kernel or pool larger
    /// than the image, zero sizes, dense layers without a [`Flatten`](LayerSpec::Flatten) or
    /// [`GlobalMean`](LayerSpec::GlobalMean) before them, names that are taken or not of letters,
    /// digits and `_`, no layer with parameters, an end that is not a vector of logits, or more
    /// than 2^31 values anywhere.
    pub fn new(input: [usize; 3], layers: Vec<LayerSpec>) -> Result<Self> {
        let mut flows = vec![Flow::image(input)?];
        let mut names: Vec<&str> = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let of_layer = |why: String| Error::invalid(format!("layer {i} ({layer:?}): {why}"));
            if let Some(name) = layer.name() {
                check_name(name, &names).map_err(of_layer)?;
                names.push(name);
            }
            let next = flows[i].through(layer).map_err(of_layer)?;
            flows.push(next);
        }
        if names.is_empty() {
            return Err(Error::invalid("an architecture needs a layer with parameters"));
        }
        if !flows[layers.len()].flat {
            return Err(Error::invalid(
                "an architecture ends with a vector of logits: flatten or global-mean is missing",
            ));
        }
        let made = Self { input, layers, flows };
        made.check_size()?;
        Ok(made)
    }

    /// No more parameters than any machine here could train.
    fn check_size(&self) -> Result<()> {
        let shapes = self.stages().filter_map(|stage| stage.parameters()).flatten();
        let total = shapes.map(|(_, shape)| shape).try_fold(0usize, |sum, shape| {
            sum.checked_add(shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?)
        });
        match total {
            Some(total) if total <= super::flow::MAX_VALUES => Ok(()),
            _ => Err(Error::invalid("an architecture has at most 2^31 parameters")),
        }
    }

    /// Channels, height and width of the images it takes.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// Its layers, first to last.
    pub fn layers(&self) -> &[LayerSpec] {
        &self.layers
    }

    /// How many logits come out.
    pub fn n_classes(&self) -> usize {
        self.flows[self.layers.len()].features()
    }

    /// The layers with what flows in and out.
    pub(super) fn stages(&self) -> impl Iterator<Item = Stage<'_>> {
        let mut units = None;
        self.layers.iter().zip(self.flows.windows(2)).map(move |(layer, flows)| {
            let stage = Stage { layer, input: flows[0], output: flows[1], units };
            units = layer.name().or(units);
            stage
        })
    }

    /// Name and shape of every parameter, in the order of all lists of parameters here.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.stages().filter_map(|stage| stage.parameters()).flatten().collect()
    }

    /// Weights and biases in all.
    pub fn n_parameters(&self) -> usize {
        self.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Multiply-adds of a forward pass over one example: output pixels times the values of the
    /// weight for a convolution, the values of the weight for a dense layer, nothing for the rest.
    pub fn multiply_adds(&self) -> u64 {
        self.stages().map(|stage| stage.multiply_adds()).sum()
    }

    /// The same architecture with the layer widths that `parameters` have: that of a submodel whose
    /// parameters were packed.
    ///
    /// # Errors
    /// `InvalidArgument`, with the parameter, where names, ranks or sizes are not those of any
    /// submodel; the number of logits stays.
    pub fn with_widths_of(&self, parameters: &[Parameter]) -> Result<Self> {
        let mut layers = self.layers.clone();
        let mut given = parameters.chunks(2);
        for layer in &mut layers {
            let (axis, width) = match layer {
                LayerSpec::Conv { out, .. } => (0, out),
                LayerSpec::Dense { out, .. } => (1, out),
                _ => continue,
            };
            let weight = given.next().and_then(<[Parameter]>::first);
            let weight = weight.ok_or_else(|| self.wrong_count(parameters))?;
            *width = *weight.shape.get(axis).ok_or_else(|| {
                Error::invalid(format!("expected an axis {axis}, found shape {:?}", weight.shape))
                    .in_parameter(&weight.name)
            })?;
        }
        let made = Self::new(self.input, layers)?;
        if made.n_classes() != self.n_classes() {
            let (expected, found) = (self.n_classes(), made.n_classes());
            return Err(Error::invalid(format!("expected {expected} logits, found {found}")));
        }
        made.check(parameters)?;
        Ok(made)
    }

    /// Whether `parameters` are this architecture's, by name, shape and number of values.
    ///
    /// # Errors
    /// `InvalidArgument`, with the first parameter that differs.
    pub fn check(&self, parameters: &[Parameter]) -> Result<()> {
        let shapes = self.parameter_shapes();
        if shapes.len() != parameters.len() {
            return Err(self.wrong_count(parameters));
        }
        for ((name, shape), found) in shapes.iter().zip(parameters) {
            let wrong = |why: String| Err(Error::invalid(why).in_parameter(&found.name));
            if *name != found.name {
                return wrong(format!("expected parameter {name:?} here"));
            }
            if *shape != found.shape {
                return wrong(format!("expected shape {shape:?}, found {:?}", found.shape));
            }
            let n: usize = shape.iter().product();
            if n != found.values.len() {
                return wrong(format!("expected {n} values, found {}", found.values.len()));
            }
        }
        Ok(())
    }

    fn wrong_count(&self, parameters: &[Parameter]) -> Error {
        let (expected, found) = (self.parameter_shapes().len(), parameters.len());
        Error::invalid(format!("expected {expected} parameters, found {found}"))
    }
}

/// Names become parameter names and groups of a layout.
fn check_name(name: &str, taken: &[&str]) -> std::result::Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(word) {
        return Err("a name is a letter, then letters, digits and _".to_owned());
    }
    if taken.contains(&name) {
        return Err(format!("the name {name:?} is taken"));
    }
    Ok(())
}
