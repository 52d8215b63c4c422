//! [`Network`]: an [`Architecture`] with weights, on a device.

mod architecture;
mod distill;
mod flow;
mod initial;
mod layer;
mod layout;
mod models;
mod split;
mod stage;
#[cfg(test)]
mod tests;

pub use architecture::Architecture;
pub use initial::Initial;
pub use layer::LayerSpec;
pub use split::SplitModel;

pub(crate) use distill::{Lesson, confidence, distillation};

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::Conv2d;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, GroupNorm, Linear, PaddingConfig2d, Relu};
use burn::tensor::{Device, Int, Tensor, TensorData};
use fedpress::ErrorKind;
use fedpress_fl::{Error, Parameter, Result};

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
    BatchNorm(BatchNorm),
    GroupNorm(GroupNorm),
    Relu(Relu),
    MaxPool(MaxPool2d),
    GlobalMean(GlobalMean),
    Flatten(Flatten),
    Residual(Residual),
    Gain(Gain),
}

/// Multiplies what goes into the layer behind it.
#[derive(Module, Debug)]
struct Gain {
    factor: f32,
}

/// The sum of two paths.
#[derive(Module, Debug)]
struct Residual {
    body: Vec<Layer>,
    shortcut: Vec<Layer>,
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
        Self::with_momentum(architecture, parameters, device, 0.1)
    }

    /// The same, with batch norms whose running statistics move to those of a batch by `momentum`.
    fn with_momentum(
        architecture: &Architecture,
        parameters: &[Parameter],
        device: &Device,
        momentum: f64,
    ) -> Result<Self> {
        architecture.check(parameters)?;
        let mut source = Source { architecture, parameters, next: 0, device, momentum };
        Ok(Self { layers: source.layers(architecture.layers()) })
    }

    /// `parameters` with the running statistics that one pass over `images` gives (static batch norm,
    /// Diao et al. 2021), which need not fit those that were there.
    ///
    /// # Errors
    /// As [`new`](Self::new); `Io` if the device fails.
    ///
    /// # Panics
    /// In burn as [`forward`](Self::forward).
    pub(crate) fn statistics(
        architecture: &Architecture,
        parameters: &[Parameter],
        images: Tensor<4>,
    ) -> Result<Vec<Parameter>> {
        let device = images.device().autodiff();
        let network = Self::with_momentum(architecture, parameters, &device, 1.0)?;
        network.forward(images.to_device(&device));
        network.parameters(architecture)
    }

    /// The weights, named by `architecture`, which has to be the one it was made with. Call it on
    /// the thread that trained: running statistics belong to it.
    ///
    /// # Errors
    /// `InvalidArgument` for another architecture, `Io` if the device fails.
    pub fn parameters(&self, architecture: &Architecture) -> Result<Vec<Parameter>> {
        let mut values = Vec::new();
        self.layers.iter().try_for_each(|layer| layer.read(&mut values))?;
        let shapes = architecture.parameter_shapes().into_iter();
        let named = shapes.zip(values);
        let parameters: Vec<Parameter> =
            named.map(|((name, shape), values)| Parameter { name, shape, values }).collect();
        architecture.check(&parameters)?;
        Ok(parameters)
    }

    /// Images `[examples, channels, height, width]` to logits `[examples, classes]`.
    ///
    /// # Panics
    /// In burn, where images are not of the architecture's size or on another device.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        forward(&self.layers, Signal::Image(images)).vector()
    }

    /// The same up to layer `cut`, where images come out: what an extractor of features does. Of an
    /// architecture without gains.
    ///
    /// # Panics
    /// In burn as [`forward`](Self::forward).
    pub fn features(&self, images: Tensor<4>, cut: usize) -> Tensor<4> {
        forward(&self.layers[..cut], Signal::Image(images)).image()
    }

    /// The rest: what the layers behind `cut` make of features. Of an architecture without gains.
    ///
    /// # Panics
    /// In burn as [`forward`](Self::forward).
    pub fn forward_from(&self, features: Tensor<4>, cut: usize) -> Tensor<2> {
        forward(&self.layers[cut..], Signal::Image(features)).vector()
    }
}

fn forward(layers: &[Layer], input: Signal) -> Signal {
    layers.iter().fold(input, |signal, layer| layer.forward(signal))
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

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(device_failed)
}

/// Where layers are made from: checked parameters, of which the next is due.
struct Source<'a> {
    architecture: &'a Architecture,
    parameters: &'a [Parameter],
    next: usize,
    device: &'a Device,
    momentum: f64,
}

impl Source<'_> {
    fn weight<const D: usize>(&mut self) -> Param<Tensor<D>> {
        Param::from_tensor(self.take())
    }

    /// Takes the next parameter; as data, so that burn draws nothing.
    fn take<const D: usize>(&mut self) -> Tensor<D> {
        let (shape, values) = match self.parameters.get(self.next) {
            Some(next) => (next.shape.clone(), next.values.clone()),
            None => (vec![0; D], Vec::new()),
        };
        self.next += 1;
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    fn layers(&mut self, specs: &[LayerSpec]) -> Vec<Layer> {
        let mut layers = Vec::with_capacity(specs.len());
        for spec in specs {
            let factor = self.architecture.gain(self.next);
            if factor != 1.0 && matches!(spec, LayerSpec::Conv { .. } | LayerSpec::Dense { .. }) {
                layers.push(Layer::Gain(Gain { factor }));
            }
            layers.push(self.layer(spec));
        }
        layers
    }

    fn layer(&mut self, spec: &LayerSpec) -> Layer {
        match spec {
            LayerSpec::Conv { kernel, stride, padding, bias, .. } => Layer::Conv(Conv2d {
                weight: self.weight(),
                bias: bias.then(|| self.weight()),
                stride: [*stride; 2],
                kernel_size: [*kernel; 2],
                dilation: [1; 2],
                groups: 1,
                padding: PaddingConfig2d::Explicit(*padding, *padding, *padding, *padding),
            }),
            LayerSpec::Dense { .. } => {
                Layer::Dense(Linear { weight: self.weight(), bias: Some(self.weight()) })
            }
            LayerSpec::BatchNorm { .. } => Layer::BatchNorm(BatchNorm {
                gamma: self.weight(),
                beta: self.weight(),
                training: Param::from_bool(true),
                running_mean: RunningState::new(self.take()),
                running_var: RunningState::new(self.take()),
                momentum: self.momentum,
                epsilon: 1e-5,
            }),
            LayerSpec::GroupNorm { groups, .. } => {
                let [gamma, beta] = [self.weight(), self.weight()];
                let num_channels = gamma.dims()[0];
                Layer::GroupNorm(GroupNorm {
                    gamma: Some(gamma),
                    beta: Some(beta),
                    num_groups: common_divisor(*groups, num_channels),
                    num_channels,
                    epsilon: 1e-5,
                    affine: true,
                })
            }
            LayerSpec::Residual { body, shortcut } => {
                let body = self.layers(body);
                let shortcut = self.layers(shortcut);
                Layer::Residual(Residual { body, shortcut })
            }
            LayerSpec::Relu => Layer::Relu(Relu),
            LayerSpec::MaxPool { size } => {
                let config = MaxPool2dConfig::new([*size; 2]).with_strides([*size; 2]);
                Layer::MaxPool(config.init())
            }
            LayerSpec::GlobalMean => Layer::GlobalMean(GlobalMean),
            LayerSpec::Flatten => Layer::Flatten(Flatten),
        }
    }
}

impl Layer {
    /// Appends its parameters, in order.
    fn read(&self, out: &mut Vec<Vec<f32>>) -> Result<()> {
        match self {
            Self::Conv(conv) => {
                out.push(read(conv.weight.val())?);
                out.extend(conv.bias.as_ref().map(|bias| read(bias.val())).transpose()?);
            }
            Self::Dense(dense) => {
                out.push(read(dense.weight.val())?);
                out.extend(dense.bias.as_ref().map(|bias| read(bias.val())).transpose()?);
            }
            Self::BatchNorm(norm) => {
                let statistics = [norm.running_mean.value_sync(), norm.running_var.value_sync()];
                for tensor in [norm.gamma.val(), norm.beta.val()].into_iter().chain(statistics) {
                    out.push(read(tensor)?);
                }
            }
            Self::GroupNorm(norm) => {
                for tensor in norm.gamma.iter().chain(&norm.beta) {
                    out.push(read(tensor.val())?);
                }
            }
            Self::Residual(Residual { body, shortcut }) => {
                body.iter().chain(shortcut).try_for_each(|layer| layer.read(out))?;
            }
            Self::Relu(_)
            | Self::MaxPool(_)
            | Self::GlobalMean(_)
            | Self::Flatten(_)
            | Self::Gain(_) => {}
        }
        Ok(())
    }

    /// The architecture has checked which layers meet an image and which a vector; where it says a
    /// vector, [`Signal::vector`] is the identity.
    fn forward(&self, signal: Signal) -> Signal {
        match (self, signal) {
            (Self::Conv(conv), Signal::Image(x)) => Signal::Image(conv.forward(x)),
            (Self::BatchNorm(norm), Signal::Image(x)) => Signal::Image(norm.forward(x)),
            (Self::GroupNorm(norm), Signal::Image(x)) => Signal::Image(norm.forward(x)),
            (Self::MaxPool(pool), Signal::Image(x)) => Signal::Image(pool.forward(x)),
            (Self::Residual(sum), Signal::Image(x)) => {
                let body = forward(&sum.body, Signal::Image(x.clone())).image();
                Signal::Image(body + forward(&sum.shortcut, Signal::Image(x)).image())
            }
            (Self::Relu(relu), Signal::Image(x)) => Signal::Image(relu.forward(x)),
            (Self::Relu(relu), Signal::Vector(x)) => Signal::Vector(relu.forward(x)),
            (Self::Gain(gain), Signal::Image(x)) => Signal::Image(x * gain.factor),
            (Self::Gain(gain), Signal::Vector(x)) => Signal::Vector(x * gain.factor),
            (Self::GlobalMean(_), Signal::Image(x)) => Signal::Vector(global_mean(x)),
            (Self::Dense(dense), signal) => Signal::Vector(dense.forward(signal.vector())),
            (_, signal) => Signal::Vector(signal.vector()),
        }
    }
}

/// The greatest number that divides both.
fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn global_mean(images: Tensor<4>) -> Tensor<2> {
    let [examples, channels, height, width] = images.dims();
    let pixels = images.reshape([examples, channels, height * width]);
    pixels.mean_dim(2).reshape([examples, channels])
}

impl Signal {
    /// What the architecture says is an image; a vector would be one of 1 x 1.
    fn image(self) -> Tensor<4> {
        match self {
            Self::Image(x) => x,
            Self::Vector(x) => {
                let [examples, features] = x.dims();
                x.reshape([examples, features, 1, 1])
            }
        }
    }

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
