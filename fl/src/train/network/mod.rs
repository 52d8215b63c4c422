//! [`Network`]: an [`Architecture`] with weights, on a device.

mod architecture;
mod flow;
mod initial;
mod layout;
mod models;
#[cfg(test)]
mod tests;

pub use architecture::{Architecture, LayerSpec};

use crate::{Error, Parameter, Result};
use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, PaddingConfig2d, Relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use fedpress::ErrorKind;

/// An [`Architecture`] with weights, on a device: what computes.
///
/// A network belongs to one thread while it trains. Its weights come from and go to lists of
/// [`Parameter`] in the order of [`Architecture::parameter_shapes`].
#[derive(Module, Debug)]
pub struct Network {
    layers: Vec<Layer>,
}

/// One layer as burn has it; each variant is a module, as its derive wants.
#[derive(Module, Debug)]
enum Layer {
    Conv(Conv2d),
    Dense(Linear),
    Relu(Relu),
    MaxPool(MaxPool2d),
    GlobalMean(GlobalMean),
    Flatten(Flatten),
}

#[derive(Module, Debug, Default)]
struct GlobalMean;

#[derive(Module, Debug, Default)]
struct Flatten;

/// What flows between layers.
enum Signal {
    /// `[examples, channels, height, width]`
    Image(Tensor<4>),
    /// `[examples, features]`
    Vector(Tensor<2>),
}

impl Network {
    /// With the given weights. It can be trained if `device` has autodiff
    /// (`device.clone().autodiff()`).
    ///
    /// # Errors
    /// `InvalidArgument` where the parameters are not the architecture's.
    pub fn new(
        architecture: &Architecture,
        parameters: &[Parameter],
        device: &Device,
    ) -> Result<Self> {
        architecture.check(parameters)?;
        let mut rest = parameters;
        let layers = architecture.layers().iter();
        Ok(Self { layers: layers.map(|spec| Layer::new(spec, &mut rest, device)).collect() })
    }

    /// The weights, named by `architecture`, which has to be the one it was made with.
    ///
    /// # Errors
    /// `InvalidArgument` for another architecture, `Io` if the device fails.
    pub fn parameters(&self, architecture: &Architecture) -> Result<Vec<Parameter>> {
        let mut shapes = architecture.parameter_shapes().into_iter();
        let mut parameters = Vec::new();
        for layer in &self.layers {
            let values = match layer {
                Layer::Conv(conv) => {
                    [Some(read(&conv.weight)?), conv.bias.as_ref().map(read).transpose()?]
                }
                Layer::Dense(dense) => {
                    [Some(read(&dense.weight)?), dense.bias.as_ref().map(read).transpose()?]
                }
                _ => continue,
            };
            for (values, (name, shape)) in values.into_iter().flatten().zip(shapes.by_ref().take(2))
            {
                parameters.push(Parameter { name, shape, values });
            }
        }
        architecture.check(&parameters)?;
        Ok(parameters)
    }

    /// Images `[examples, channels, height, width]` to logits `[examples, classes]`.
    ///
    /// # Panics
    /// In burn, where images are not of the architecture's size or on another device.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let input = Signal::Image(images);
        self.layers.iter().fold(input, |signal, layer| layer.forward(signal)).vector()
    }
}

/// Mean cross-entropy of logits `[examples, classes]` against classes `[examples]`.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let device = logits.device();
    CrossEntropyLossConfig::new().init(&device).forward(logits, labels)
}

/// A failure of the device, which is the world's and not the caller's.
pub(crate) fn device_failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io(std::io::ErrorKind::Other), format!("device: {error}"))
}

fn read<const D: usize>(parameter: &Param<Tensor<D>>) -> Result<Vec<f32>> {
    parameter.val().try_into_vec_as::<f32>().map_err(device_failed)
}

/// Takes the next of the checked parameters; as data, so that burn draws nothing.
fn write<const D: usize>(parameters: &mut &[Parameter], device: &Device) -> Param<Tensor<D>> {
    let (shape, values) = match parameters.split_first() {
        Some((first, rest)) => {
            *parameters = rest;
            (first.shape.clone(), first.values.clone())
        }
        None => (vec![0; D], Vec::new()),
    };
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

impl Layer {
    fn new(spec: &LayerSpec, parameters: &mut &[Parameter], device: &Device) -> Self {
        match spec {
            LayerSpec::Conv { kernel, stride, padding, .. } => Self::Conv(Conv2d {
                weight: write(parameters, device),
                bias: Some(write(parameters, device)),
                stride: [*stride; 2],
                kernel_size: [*kernel; 2],
                dilation: [1; 2],
                groups: 1,
                padding: PaddingConfig2d::Explicit(*padding, *padding, *padding, *padding),
            }),
            LayerSpec::Dense { .. } => Self::Dense(Linear {
                weight: write(parameters, device),
                bias: Some(write(parameters, device)),
            }),
            LayerSpec::Relu => Self::Relu(Relu),
            LayerSpec::MaxPool { size } => {
                let config = MaxPool2dConfig::new([*size; 2]).with_strides([*size; 2]);
                Self::MaxPool(config.init())
            }
            LayerSpec::GlobalMean => Self::GlobalMean(GlobalMean),
            LayerSpec::Flatten => Self::Flatten(Flatten),
        }
    }

    /// The architecture has checked which layers meet an image and which a vector; where it says a
    /// vector, [`Signal::vector`] is the identity.
    fn forward(&self, signal: Signal) -> Signal {
        match (self, signal) {
            (Self::Conv(conv), Signal::Image(x)) => Signal::Image(conv.forward(x)),
            (Self::MaxPool(pool), Signal::Image(x)) => Signal::Image(pool.forward(x)),
            (Self::Relu(relu), Signal::Image(x)) => Signal::Image(relu.forward(x)),
            (Self::Relu(relu), Signal::Vector(x)) => Signal::Vector(relu.forward(x)),
            (Self::GlobalMean(_), Signal::Image(x)) => Signal::Vector(global_mean(x)),
            (Self::Dense(dense), signal) => Signal::Vector(dense.forward(signal.vector())),
            (_, signal) => Signal::Vector(signal.vector()),
        }
    }
}

fn global_mean(images: Tensor<4>) -> Tensor<2> {
    let [examples, channels, height, width] = images.dims();
    let pixels = images.reshape([examples, channels, height * width]);
    pixels.mean_dim(2).reshape([examples, channels])
}

impl Signal {
    fn vector(self) -> Tensor<2> {
        match self {
            Self::Vector(x) => x,
            Self::Image(x) => {
                let [examples, channels, height, width] = x.dims();
                x.reshape([examples, channels * height * width])
            }
        }
    }
}
