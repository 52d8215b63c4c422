//! Batch norm and sums: gradients against differences of a forward pass in f64, and counts.

use super::super::*;
use crate::cpu;
use crate::random::{Draws, Purpose};
use burn::module::ModuleVisitor;
use burn::optim::GradientsParams;

/// A batch of images or vectors, example by example, channel by channel.
#[derive(Clone)]
struct Batch {
    values: Vec<f64>,
    examples: usize,
    channels: usize,
}

impl Batch {
    /// Values of one channel of one example.
    fn pixels(&self) -> usize {
        self.values.len() / self.examples / self.channels
    }

    /// Mean and biased variance of a channel.
    fn moments(&self, channel: usize) -> (f64, f64) {
        let pixels = self.pixels();
        let of = |n: usize| {
            let start = (n * self.channels + channel) * pixels;
            &self.values[start..start + pixels]
        };
        let all: Vec<f64> = (0..self.examples).flat_map(of).copied().collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        (mean, all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / all.len() as f64)
    }
}

/// Runs `layers` on a batch, taking parameters off the front; statistics are those of the batch.
fn run(
    layers: &[LayerSpec],
    mut x: Batch,
    parameters: &mut &[Vec<f64>],
    side: &mut usize,
) -> Batch {
    for layer in layers {
        x = match layer {
            LayerSpec::Conv { out, kernel: 1, stride, padding: 0, .. } => {
                let weight = take(parameters);
                conv_1x1(&x, weight, *out, *stride, side)
            }
            LayerSpec::BatchNorm { .. } => {
                let [gamma, beta] = [take(parameters), take(parameters)];
                [take(parameters), take(parameters)]
                    .iter()
                    .for_each(|s| assert_eq!(s.len(), gamma.len()));
                let pixels = x.pixels();
                let moments: Vec<_> = (0..x.channels).map(|c| x.moments(c)).collect();
                let channels = x.channels;
                for (i, v) in x.values.iter_mut().enumerate() {
                    let c = i / pixels % channels;
                    let (mean, variance) = moments[c];
                    *v = (*v - mean) / (variance + 1e-5).sqrt() * gamma[c] + beta[c];
                }
                x
            }
            LayerSpec::Relu => {
                x.values.iter_mut().for_each(|v| *v = v.max(0.0));
                x
            }
            LayerSpec::Residual { body, shortcut } => {
                let mut end = *side;
                let mut y = run(body, x.clone(), parameters, &mut end);
                let z = run(shortcut, x, parameters, side);
                *side = end;
                y.values.iter_mut().zip(z.values).for_each(|(y, z)| *y += z);
                y
            }
            LayerSpec::GlobalMean => {
                let pixels = x.pixels();
                let mean = |v: &[f64]| v.iter().sum::<f64>() / pixels as f64;
                let values = x.values.chunks(pixels).map(mean).collect();
                Batch { values, ..x }
            }
            LayerSpec::Dense { out, .. } => {
                let (weight, bias) = (take(parameters), take(parameters));
                let inputs = x.values.len() / x.examples;
                let mut values = Vec::new();
                for row in x.values.chunks(inputs) {
                    for o in 0..*out {
                        let sum: f64 = (0..inputs).map(|i| row[i] * weight[i * out + o]).sum();
                        values.push(sum + bias[o]);
                    }
                }
                Batch { values, channels: *out, ..x }
            }
            other => panic!("{other:?}: not here"),
        };
    }
    x
}

fn take<'a>(parameters: &mut &'a [Vec<f64>]) -> &'a [f64] {
    let (first, rest) = parameters.split_first().unwrap();
    *parameters = rest;
    first
}

fn conv_1x1(x: &Batch, weight: &[f64], out: usize, stride: usize, side: &mut usize) -> Batch {
    let (inputs, pixels) = (x.channels, x.pixels());
    let to = (*side - 1) / stride + 1;
    let mut values = Vec::new();
    for n in 0..x.examples {
        for o in 0..out {
            for at in (0..to * to).map(|p| p / to * stride * *side + p % to * stride) {
                let input = |i: usize| x.values[(n * inputs + i) * pixels + at];
                values.push((0..inputs).map(|i| input(i) * weight[o * inputs + i]).sum());
            }
        }
    }
    *side = to;
    Batch { values, examples: x.examples, channels: out }
}

fn loss(model: &Architecture, parameters: &[Vec<f64>], x: &Batch, labels: &[usize]) -> f64 {
    let mut side = model.input()[1];
    let logits = run(model.layers(), x.clone(), &mut &parameters[..], &mut side);
    let surprise =
        |(z, label): (&[f64], &usize)| z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[*label];
    let rows = logits.values.chunks(logits.channels);
    rows.zip(labels).map(surprise).sum::<f64>() / labels.len() as f64
}

/// Every gradient, in the order of visiting, which is that of the parameters; none for statistics.
struct Read<'a>(&'a GradientsParams, Vec<Option<Vec<f32>>>);

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let gradient = self.0.get::<D>(parameter.id);
        self.1.push(gradient.map(|g| g.try_into_vec_as::<f32>().unwrap()));
    }
}

fn check(input: [usize; 3], layers: Vec<LayerSpec>) {
    let model = Architecture::new(input, layers).unwrap();
    let labels: Vec<usize> = (0..4).map(|i| (i * 5 + 1) % model.n_classes()).collect();
    let mut draws = Draws::new(3, Purpose::Procedural, 0);
    let mut parameters = model.initial_parameters(3);
    for parameter in &mut parameters {
        parameter.values.iter_mut().for_each(|x| *x += draws.between(-0.2, 0.2) as f32);
    }
    let n = labels.len() * input.iter().product::<usize>();
    let images: Vec<f32> = (0..n).map(|_| draws.between(-1.0, 1.0) as f32).collect();
    let device = cpu().autodiff();
    let network = Network::new(&model, &parameters, &device).unwrap();
    let [c, h, w] = input;
    let tensor = TensorData::new(images.clone(), [labels.len(), c, h, w]);
    let targets: Vec<i64> = labels.iter().map(|l| *l as i64).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [labels.len()]), &device);
    let value = cross_entropy(network.forward(Tensor::from_data(tensor, &device)), targets);
    let gradients = GradientsParams::from_grads(value.backward(), &network);
    let mut read = Read(&gradients, Vec::new());
    network.visit(&mut read);
    let exact: Vec<Vec<f64>> =
        parameters.iter().map(|p| p.values.iter().map(|x| f64::from(*x)).collect()).collect();
    let values = images.iter().map(|x| f64::from(*x)).collect();
    let x = Batch { values, examples: labels.len(), channels: c };
    assert_eq!(read.1.len(), parameters.len());
    for (p, (parameter, found)) in parameters.iter().zip(read.1).enumerate() {
        let Some(found) = found else {
            assert!(parameter.name.contains("running_"), "{}", parameter.name);
            continue;
        };
        let difference = |i: usize| {
            let at = |step: f64| {
                let mut moved = exact.clone();
                moved[p][i] += step;
                loss(&model, &moved, &x, &labels)
            };
            (at(1e-6) - at(-1e-6)) / 2e-6
        };
        let expected: Vec<f64> = (0..found.len()).map(difference).collect();
        let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        let error = found.iter().zip(&expected);
        let error = error.fold(0.0, |m: f64, (f, e)| m.max((f64::from(*f) - e).abs()));
        assert!(error < 1e-4 * largest.max(1e-2), "{}: {error:e} of {largest:e}", parameter.name);
    }
}

fn conv(name: &str, out: usize, stride: usize) -> LayerSpec {
    LayerSpec::Conv { name: name.into(), out, kernel: 1, stride, padding: 0, bias: false }
}

fn norm(name: &str) -> LayerSpec {
    LayerSpec::BatchNorm { name: name.into() }
}

fn end() -> [LayerSpec; 2] {
    [LayerSpec::GlobalMean, LayerSpec::Dense { name: "fc".into(), out: 3 }]
}

#[test]
fn batch_norm_has_the_gradient_of_its_definition() {
    let layers = [conv("c", 4, 1), norm("n"), LayerSpec::Relu];
    check([2, 3, 3], layers.into_iter().chain(end()).collect());
}

#[test]
fn sums_pass_gradients_to_both_paths() {
    let body = vec![conv("a", 3, 1), norm("an"), LayerSpec::Relu, conv("b", 2, 1), norm("bn")];
    let identity = LayerSpec::Residual { body, shortcut: vec![] };
    check([2, 3, 3], [identity, LayerSpec::Relu].into_iter().chain(end()).collect());
    let body = vec![conv("a", 3, 2), norm("an"), LayerSpec::Relu, conv("b", 4, 1)];
    let shortcut = vec![conv("s", 4, 2), norm("sn")];
    let strided = LayerSpec::Residual { body, shortcut };
    check([2, 4, 4], [strided, LayerSpec::Relu].into_iter().chain(end()).collect());
}

/// He et al. 2020: 9.07 and 17.41 times less compute, 53.7 and 105 times fewer parameters (of
/// 590,858 to 11 thousand, and of 1,147,274 to 10,586).
#[test]
fn counts_of_fedgkt_are_those_of_the_paper() {
    let pair = |blocks| SplitModel::gkt_resnet(blocks, 10).unwrap();
    let (r56, r110) = (pair(6), pair(12));
    assert_eq!(r56.client().n_parameters(), 10_586);
    assert_eq!(SplitModel::gkt_resnet(6, 100).unwrap().client().n_parameters(), 16_436);
    assert_eq!(r56.server().n_parameters(), 590_858);
    assert_eq!(r110.server().n_parameters(), 1_147_274);
    assert_eq!(r56.client().multiply_adds(), 9_618_048);
    assert_eq!(r56.joined().unwrap().multiply_adds(), 87_214_592);
    assert_eq!(r110.joined().unwrap().multiply_adds(), 167_430_656);
    assert_eq!(r56.client().features(r56.cut()).unwrap(), [16, 32, 32]);
    let ratio = |pair: &SplitModel| {
        let client = pair.client();
        let macs = pair.joined().unwrap().multiply_adds() as f64 / client.multiply_adds() as f64;
        (macs, pair.server().n_parameters() as f64 / client.n_parameters() as f64)
    };
    let ((macs56, parameters56), (macs110, parameters110)) = (ratio(&r56), ratio(&r110));
    assert!((macs56 - 9.07).abs() < 5e-3 && (macs110 - 17.41).abs() < 5e-3, "{macs56} {macs110}");
    // The paper rounds the client to 11 thousand parameters for the first of these.
    assert!((parameters56 * 10.586 / 11.0 - 53.7).abs() < 0.05, "{parameters56}");
    assert!((parameters110 * 10.586 / 11.0 - 104.3).abs() < 0.05, "{parameters110}");
}

/// What is added up is never dropped; what lies inside a block is.
#[test]
fn submodels_of_residual_networks_keep_what_is_added() {
    let model = SplitModel::gkt_resnet(1, 10).unwrap().joined().unwrap();
    let layout = fedpress_fl::Layout::from_toml(&model.layout_toml()).unwrap();
    let groups: Vec<&str> = layout.groups().iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups.len(), 7, "{groups:?}");
    assert!(groups.contains(&"stem") && groups.contains(&"stage3_block1_conv2"));
    assert!(!groups.iter().any(|g| g.contains("conv3") || g.contains("shortcut")));
    let parameters = model.initial_parameters(1);
    let half =
        fedpress_fl::Policy { keep: fedpress_fl::Keep::from(0.5), ..fedpress_fl::Policy::full() };
    let selection =
        half.choice(&fedpress_fl::PrivateSeed::from_number(1), 0, 0, 0).select(&layout).unwrap();
    let small = fedpress_fl::pack(&layout, &selection, &parameters).unwrap();
    let narrow = model.with_widths_of(&small).unwrap();
    assert!(narrow.n_parameters() < model.n_parameters());
    assert_eq!(narrow.n_classes(), 10);
    let statistic = |p: &&fedpress_fl::ParamLayout| p.role == fedpress_fl::Role::Statistic;
    assert_eq!(layout.params().iter().filter(statistic).count(), 2 * 13);
}

/// Running statistics are 0.9 of what they were and 0.1 of the batch's, with its biased variance, and
/// they are read without the delay that burn has.
#[test]
fn training_counts_running_statistics() {
    let layers = [conv("c", 2, 1), norm("n")].into_iter().chain(end()).collect();
    let model = Architecture::new([1, 2, 2], layers).unwrap();
    let mut parameters = model.initial_parameters(1);
    parameters[0].values = vec![2.0, -1.0];
    let images = [1.0f32, 2.0, 3.0, 6.0, 0.0, 1.0, 1.0, 2.0];
    let device = cpu().autodiff();
    let network = Network::new(&model, &parameters, &device).unwrap();
    let data = TensorData::new(images.to_vec(), [2, 1, 2, 2]);
    network.forward(Tensor::from_data(data, &device));
    let found = network.parameters(&model).unwrap();
    let (mean, variance) = (2.0, 3.0); // of the images, by hand
    let of = |name: &str| found.iter().find(|p| p.name == name).unwrap().values.clone();
    let close =
        |a: &[f32], b: [f64; 2]| a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5);
    assert!(close(&of("n.running_mean"), [0.1 * 2.0 * mean, -0.1 * mean]), "{found:?}");
    assert!(close(&of("n.running_var"), [0.9 + 0.1 * 4.0 * variance, 0.9 + 0.1 * variance]));
}

/// In evaluation a batch norm uses what training has counted, one example at a time or many.
#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let model = SplitModel::gkt_small([1, 8, 8], 3).unwrap();
    let mut parameters = model.client().initial_parameters(5);
    for parameter in parameters.iter_mut().filter(|p| p.name.contains("running")) {
        parameter.values.iter_mut().for_each(|x| *x += 0.25);
    }
    let network = Network::new(model.client(), &parameters, &cpu()).unwrap();
    let images: Vec<f32> = (0..2 * 64).map(|i| (i % 7) as f32 / 7.0).collect();
    let both = TensorData::new(images.clone(), [2, 1, 8, 8]);
    let one = TensorData::new(images[..64].to_vec(), [1, 1, 8, 8]);
    let logits = |data| network.forward(Tensor::from_data(data, &cpu())).try_into_vec_as::<f32>();
    let (both, one) = (logits(both).unwrap(), logits(one).unwrap());
    assert!(both.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-6));
    let again = network.parameters(model.client()).unwrap();
    assert_eq!(again, parameters);
}

/// By hand: 4 channels of 1 x 2 pixels; groups of two channels have mean and variance of their own,
/// and 4 groups are 2 where 2 channels are left.
#[test]
fn a_group_norm_is_its_formula_and_follows_the_width() {
    let norm = |groups| LayerSpec::GroupNorm { name: "gn".into(), groups };
    let output = |groups: usize, channels: usize, images: Vec<f32>| {
        let layers = vec![norm(groups), LayerSpec::Flatten];
        let architecture = Architecture::new([channels, 1, 2], layers).unwrap();
        let parameters = architecture.initial_parameters(1);
        let network = Network::new(&architecture, &parameters, &cpu()).unwrap();
        let images = TensorData::new(images, [1, channels, 1, 2]);
        network.forward(Tensor::from_data(images, &cpu())).try_into_vec_as::<f32>().unwrap()
    };
    let close = |found: &[f32], expected: &[f32]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?}");
    };
    let root = 1.25f32.sqrt();
    let group = [-1.5 / root, -0.5 / root, 0.5 / root, 1.5 / root];
    let images = vec![1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
    close(&output(2, 4, images.clone()), &[group, group].concat());
    close(&output(4, 2, images[..4].to_vec()), &[-1.0, 1.0, -1.0, 1.0]);
    assert!(Architecture::new([4, 1, 2], vec![norm(0), LayerSpec::Flatten]).is_err());
}
