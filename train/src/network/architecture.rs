//! [`Architecture`]: a sequential network as data, with what follows from it.

use super::LayerSpec;
use super::flow::Flow;
use super::stage::{ParameterSpec, Stage, stages};
use fedpress_fl::{Error, Parameter, Result};
use serde::{Deserialize, Serialize};

/// A sequential network as data: what an experiment file says, and what a client gets told.
///
/// Every value is checked when it is made ([`new`](Self::new) or deserialised), so that the rest
/// cannot fail. Its parameters, in order, are `NAME.weight` and `NAME.bias` of each layer that has
/// any: a convolution's weight is `[out, in, kernel, kernel]` as in PyTorch, a dense weight is
/// `[in, out]` as in burn, Keras and JAX (PyTorch's is the transpose), a bias is `[out]`. A batch
/// norm also has `NAME.running_mean` and `NAME.running_var`, which are counted, not trained. Of a
/// sum the body comes first, then the shortcut.
///
/// ```
/// let model = fedpress_train::Architecture::mnist_cnn(10)?;
/// assert_eq!(model.n_parameters(), 1_663_370);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Architecture {
    input: [usize; 3],
    layers: Vec<LayerSpec>,
    /// What comes out.
    output: Flow,
    /// By what the inputs of each parameter are multiplied; empty: by 1. A client's matter, which is
    /// not part of what travels as data.
    gains: Vec<f32>,
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
    /// digits and `_`, no layer with parameters, paths of different ends, an end that is not a
    /// vector of logits, or more than 2^31 values anywhere.
    pub fn new(input: [usize; 3], layers: Vec<LayerSpec>) -> Result<Self> {
        let mut output = Flow::image(input)?;
        let mut names: Vec<&str> = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let of_layer = |why: String| Error::invalid(format!("layer {i} ({layer:?}): {why}"));
            for name in layer.leaves().iter().filter_map(|leaf| leaf.name()) {
                check_name(name, &names).map_err(of_layer)?;
                names.push(name);
            }
            output = output.through(layer).map_err(of_layer)?;
        }
        if names.is_empty() {
            return Err(Error::invalid("an architecture needs a layer with parameters"));
        }
        if !output.flat {
            return Err(Error::invalid(
                "an architecture ends with a vector of logits: flatten or global-mean is missing",
            ));
        }
        let made = Self { input, layers, output, gains: Vec::new() };
        made.check_size()?;
        Ok(made)
    }

    /// No more parameters than any machine here could train.
    fn check_size(&self) -> Result<()> {
        let total = self.parameter_specs().into_iter().try_fold(0usize, |sum, spec| {
            sum.checked_add(spec.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?)
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
        self.output.features()
    }

    /// Channels, height and width of what the first `cut` layers make of an image.
    ///
    /// # Errors
    /// `InvalidArgument` if there are not so many, or a vector comes out.
    pub fn features(&self, cut: usize) -> Result<[usize; 3]> {
        let (all, found) = (self.layers.len(), || format!("cut {cut}"));
        let layers = self.layers.get(..cut);
        let layers = layers.ok_or_else(|| Error::invalid(format!("{}: {all} layers", found())))?;
        let input = Flow::image(self.input)?;
        let flow = layers.iter().try_fold(input, |flow, layer| flow.through(layer));
        match flow.map_err(Error::invalid)? {
            Flow { flat: true, .. } => Err(Error::invalid(format!("{}: no image", found()))),
            Flow { channels, height, width, .. } => Ok([channels, height, width]),
        }
    }

    /// The layers that do something alone, with what flows in and out.
    pub(super) fn stages(&self) -> Vec<Stage<'_>> {
        stages(self.input, &self.layers)
    }

    /// What is known of every parameter, in order.
    pub(super) fn parameter_specs(&self) -> Vec<ParameterSpec> {
        self.stages().iter().flat_map(Stage::parameters).collect()
    }

    /// Name and shape of every parameter, in the order of all lists of parameters here.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.parameter_specs().into_iter().map(|spec| (spec.name, spec.shape)).collect()
    }

    /// Weights and biases in all; running statistics do not count.
    pub fn n_parameters(&self) -> usize {
        let trained = self.parameter_specs().into_iter().filter(|spec| !spec.is_statistic());
        trained.map(|spec| spec.shape.iter().product::<usize>()).sum()
    }

    /// Multiply-adds of a forward pass over one example: output pixels times the values of the
    /// weight for a convolution, the values of the weight for a dense layer, nothing for the rest.
    pub fn multiply_adds(&self) -> u64 {
        self.stages().iter().map(Stage::multiply_adds).sum()
    }

    /// The same architecture with the layer widths that `parameters` have: that of a submodel whose
    /// parameters were packed.
    ///
    /// # Errors
    /// `InvalidArgument`, with the parameter, where names, ranks or sizes are not those of any
    /// submodel; the number of logits stays.
    pub fn with_widths_of(&self, parameters: &[Parameter]) -> Result<Self> {
        if parameters.len() != self.parameter_specs().len() {
            return Err(self.wrong_count(parameters));
        }
        let mut layers = self.layers.clone();
        layers.iter_mut().try_for_each(|layer| set_width(layer, parameters))?;
        let made = Self::new(self.input, layers)?;
        if made.n_classes() != self.n_classes() {
            let (expected, found) = (self.n_classes(), made.n_classes());
            return Err(Error::invalid(format!("expected {expected} logits, found {found}")));
        }
        made.check(parameters)?;
        Ok(made)
    }

    /// The same, with the inputs of each parameter's layer multiplied by its gain: what
    /// [`Broadcast::gains`](fedpress_fl::Broadcast) ask of who trains a submodel. Of a layer, the gain of
    /// its weight counts.
    ///
    /// # Errors
    /// `InvalidArgument` unless there are as many as parameters, or none.
    pub fn with_gains(self, gains: Vec<f32>) -> Result<Self> {
        let (expected, found) = (self.parameter_specs().len(), gains.len());
        match found == 0 || found == expected {
            true => Ok(Self { gains, ..self }),
            false => Err(Error::invalid(format!("expected {expected} gains, found {found}"))),
        }
    }

    /// The gain of the parameter with this index.
    pub(super) fn gain(&self, parameter: usize) -> f32 {
        self.gains.get(parameter).copied().unwrap_or(1.0)
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

/// Gives a layer the width that its weight has in `parameters`.
fn set_width(layer: &mut LayerSpec, parameters: &[Parameter]) -> Result<()> {
    let (name, axis, width) = match layer {
        LayerSpec::Conv { name, out, .. } => (name, 0, out),
        LayerSpec::Dense { name, out } => (name, 1, out),
        LayerSpec::Residual { body, shortcut } => {
            let mut both = body.iter_mut().chain(shortcut);
            return both.try_for_each(|layer| set_width(layer, parameters));
        }
        _ => return Ok(()),
    };
    let expected = format!("{name}.weight");
    let weight = parameters.iter().find(|p| p.name == expected);
    let weight = weight.ok_or_else(|| Error::invalid("not there").in_parameter(&expected))?;
    let found = weight.shape.get(axis).ok_or_else(|| {
        Error::invalid(format!("expected an axis {axis}, found shape {:?}", weight.shape))
            .in_parameter(&expected)
    })?;
    *width = *found;
    Ok(())
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
