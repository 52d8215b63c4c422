//! Gradients of each layer against plain loops in f64: an update of the backend could break any of
//! them silently, and models still train with a gradient that is wrong by a factor.

use super::super::*;
use super::reference;
use crate::cpu;
use crate::random::{Draws, Purpose};
use burn::optim::GradientsParams;

/// Largest error over largest gradient.
const TOLERANCE: f64 = 1e-4;

fn conv(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    LayerSpec::Conv { name: name.to_owned(), out, kernel, stride, padding, bias: true }
}

fn dense(name: &str, out: usize) -> LayerSpec {
    LayerSpec::Dense { name: name.to_owned(), out }
}

/// Loss, gradients of all parameters, and of the images, by burn.
fn computed(
    architecture: &Architecture,
    parameters: &[Parameter],
    images: &[f64],
    labels: &[usize],
) -> (f64, Vec<Vec<f32>>, Vec<f32>) {
    let device = cpu().autodiff();
    let network = Network::new(architecture, parameters, &device).unwrap();
    let [c, h, w] = architecture.input();
    let values: Vec<f32> = images.iter().map(|x| *x as f32).collect();
    let images = TensorData::new(values, [labels.len(), c, h, w]);
    let images = Tensor::<4>::from_data(images, &device).require_grad();
    let labels: Vec<i64> = labels.iter().map(|l| *l as i64).collect();
    let n = labels.len();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [n]), &device);
    let loss = cross_entropy(network.forward(images.clone()), labels);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = loss.backward();
    let of_images = images.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
    let gradients = GradientsParams::from_grads(gradients, &network);
    let flat = |x: Option<TensorData>| x.unwrap().try_into_vec::<f32>().unwrap();
    let mut all = Vec::new();
    for layer in &network.layers {
        match layer {
            Layer::Conv(l) => {
                all.push(flat(gradients.get::<4>(l.weight.id).map(|g| g.into_data())));
                all.push(flat(
                    gradients.get::<1>(l.bias.as_ref().unwrap().id).map(|g| g.into_data()),
                ));
            }
            Layer::Dense(l) => {
                all.push(flat(gradients.get::<2>(l.weight.id).map(|g| g.into_data())));
                all.push(flat(
                    gradients.get::<1>(l.bias.as_ref().unwrap().id).map(|g| g.into_data()),
                ));
            }
            _ => {}
        }
    }
    (value, all, of_images)
}

fn compare(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    assert!(largest > 1e-6, "{what}: a gradient of zero shows nothing");
    let error =
        found.iter().zip(expected).fold(0.0, |m: f64, (f, e)| m.max((f64::from(*f) - e).abs()));
    assert!(error / largest < TOLERANCE, "{what}: {:e}", error / largest);
}

/// Values far from zero and from each other (0.01), in random order, within about +-2.
fn spaced(n: usize, draws: &mut Draws) -> Vec<f64> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    draws.shuffle(&mut order);
    let value = |i: u32| (f64::from(i) - n as f64 / 2.0) * 0.01 + 0.005;
    // Exact in f32, so that both sides see the same.
    order.into_iter().map(|i| f64::from(value(i) as f32)).collect()
}

fn check(input: [usize; 3], layers: Vec<LayerSpec>, margin: f64) {
    let architecture = Architecture::new(input, layers).unwrap();
    let labels: Vec<usize> = (0..3).map(|i| (i * 5 + 1) % architecture.n_classes()).collect();
    // The first seed that stays away from kinks, where f32 and f64 could take different sides.
    for seed in 0..100 {
        let mut draws = Draws::new(seed, Purpose::Procedural, 0);
        let mut parameters = architecture.initial_parameters(seed);
        for bias in parameters.iter_mut().skip(1).step_by(2) {
            bias.values.fill_with(|| draws.between(-0.2, 0.2) as f32);
        }
        let images = spaced(labels.len() * input.iter().product::<usize>(), &mut draws);
        let exact: Vec<Vec<f64>> =
            parameters.iter().map(|p| p.values.iter().map(|x| f64::from(*x)).collect()).collect();
        let expected = reference::gradients(&architecture, &exact, &images, &labels);
        if expected.margin < margin {
            continue;
        }
        let (loss, found, of_images) = computed(&architecture, &parameters, &images, &labels);
        assert!((loss - expected.loss).abs() < 1e-5 * expected.loss.max(1.0));
        for ((name, _), (found, expected)) in
            architecture.parameter_shapes().iter().zip(found.iter().zip(&expected.parameters))
        {
            compare(name, found, expected);
        }
        compare("images", &of_images, &expected.images);
        return;
    }
    panic!("no seed stays {margin} away from kinks");
}

#[test]
fn dense_and_cross_entropy() {
    check([1, 3, 4], vec![LayerSpec::Flatten, dense("fc", 7)], 0.0);
}

#[test]
fn convolution() {
    check([3, 6, 5], vec![conv("c", 4, 3, 1, 0), LayerSpec::Flatten], 0.0);
    check([3, 6, 5], vec![conv("c", 4, 1, 1, 0), LayerSpec::Flatten], 0.0);
    check([1, 9, 9], vec![conv("c", 33, 5, 1, 2), LayerSpec::Flatten], 0.0);
}

#[test]
fn convolution_with_stride_and_padding() {
    check([3, 7, 6], vec![conv("c", 4, 3, 2, 1), LayerSpec::Flatten], 0.0);
    check([2, 8, 8], vec![conv("c", 5, 4, 3, 2), LayerSpec::Flatten], 0.0);
}

#[test]
fn max_pool() {
    let layers = |size| vec![LayerSpec::MaxPool { size }, LayerSpec::Flatten, dense("fc", 4)];
    check([2, 6, 6], layers(2), 1e-3);
    check([2, 6, 6], layers(3), 1e-3);
    // The last row and column belong to no window.
    check([2, 5, 5], layers(2), 1e-3);
}

#[test]
fn relu() {
    check([2, 3, 3], vec![LayerSpec::Relu, LayerSpec::Flatten, dense("fc", 4)], 1e-3);
    check([2, 3, 3], vec![LayerSpec::Flatten, LayerSpec::Relu, dense("fc", 4)], 1e-3);
}

#[test]
fn global_mean() {
    check([4, 3, 5], vec![LayerSpec::GlobalMean, dense("fc", 4)], 0.0);
}

#[test]
fn whole_models() {
    let small = Architecture::small_cnn([1, 8, 8], 5).unwrap();
    check(small.input(), small.layers().to_vec(), 1e-5);
    let deep = Architecture::all_cnn_c(5, 0.04).unwrap();
    check([3, 12, 12], deep.layers().to_vec(), 1e-5);
}
