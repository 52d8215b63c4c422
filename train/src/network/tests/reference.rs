//! Forward and backward passes as plain loops over f64: slow, and with nothing to go wrong.

use super::super::{Architecture, LayerSpec};

/// Gradients of the mean cross-entropy, and how far the pass stayed from kinks.
pub(super) struct Gradients {
    pub(super) loss: f64,
    /// In the order of the architecture's parameters.
    pub(super) parameters: Vec<Vec<f64>>,
    /// Example after example.
    pub(super) images: Vec<f64>,
    /// The smallest |x| before a ReLU, and the smallest gap between a maximum and its runner-up.
    pub(super) margin: f64,
}

pub(super) fn gradients(
    architecture: &Architecture,
    parameters: &[Vec<f64>],
    images: &[f64],
    labels: &[usize],
) -> Gradients {
    let size = images.len() / labels.len();
    let zeros = parameters.iter().map(|p| vec![0.0; p.len()]).collect();
    let mut sum = Gradients { loss: 0.0, parameters: zeros, images: vec![], margin: f64::MAX };
    for (image, label) in images.chunks(size).zip(labels) {
        example(architecture, parameters, image, *label, 1.0 / labels.len() as f64, &mut sum);
    }
    sum
}

fn example(
    architecture: &Architecture,
    parameters: &[Vec<f64>],
    image: &[f64],
    label: usize,
    weight: f64,
    sum: &mut Gradients,
) {
    let stages: Vec<_> = architecture.stages();
    let mut signals = vec![image.to_vec()];
    let (mut p, mut firsts) = (0, Vec::new());
    for stage in &stages {
        firsts.push(p);
        let x = signals.last().unwrap();
        let mut y = vec![0.0; stage.output.features()];
        connections(stage, |i, o, w| match w {
            Some(w) => y[o] += x[i] * parameters[p][w],
            None => y[o] += x[i],
        });
        match stage.layer {
            LayerSpec::Conv { .. } | LayerSpec::Dense { .. } => {
                let pixels = stage.output.height * stage.output.width;
                y.iter_mut().enumerate().for_each(|(o, y)| *y += parameters[p + 1][o / pixels]);
                p += 2;
            }
            LayerSpec::Relu => {
                sum.margin = x.iter().fold(sum.margin, |m, x| m.min(x.abs()));
                y = x.iter().map(|x| x.max(0.0)).collect();
            }
            LayerSpec::MaxPool { .. } => {
                y = windows(stage)
                    .iter()
                    .map(|window| {
                        let mut inside: Vec<f64> = window.iter().map(|i| x[*i]).collect();
                        inside.sort_by(|a, b| b.total_cmp(a));
                        // Ties of zeros are those behind a ReLU, which passes no gradient on.
                        if inside[0] != 0.0 {
                            sum.margin = sum.margin.min(inside[0] - inside[1]);
                        }
                        inside[0]
                    })
                    .collect();
            }
            LayerSpec::GlobalMean => {
                let pixels = (stage.input.height * stage.input.width) as f64;
                y.iter_mut().for_each(|y| *y /= pixels);
            }
            LayerSpec::Flatten => {}
            other => panic!("{other:?}: see blocks.rs"),
        }
        signals.push(y);
    }
    let logits = signals.last().unwrap();
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    sum.loss += weight * (total.ln() - logits[label]);
    let mut dy: Vec<f64> = logits.iter().map(|z| weight * z.exp() / total).collect();
    dy[label] -= weight;
    for (s, stage) in stages.iter().enumerate().rev() {
        dy = backward(stage, &signals[s], &dy, parameters, firsts[s], &mut sum.parameters);
    }
    sum.images.extend(dy);
}

/// The gradient of a layer's input from that of its output; adds that of its parameters.
fn backward(
    stage: &super::super::stage::Stage<'_>,
    x: &[f64],
    dy: &[f64],
    parameters: &[Vec<f64>],
    p: usize,
    sums: &mut [Vec<f64>],
) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    match stage.layer {
        LayerSpec::Conv { .. } | LayerSpec::Dense { .. } => {
            connections(stage, |i, o, w| {
                let w = w.unwrap();
                dx[i] += parameters[p][w] * dy[o];
                sums[p][w] += x[i] * dy[o];
            });
            let pixels = stage.output.height * stage.output.width;
            dy.iter().enumerate().for_each(|(o, dy)| sums[p + 1][o / pixels] += dy);
        }
        LayerSpec::Relu => {
            dx = x.iter().zip(dy).map(|(x, dy)| if *x > 0.0 { *dy } else { 0.0 }).collect();
        }
        LayerSpec::MaxPool { .. } => {
            for (window, dy) in windows(stage).iter().zip(dy) {
                let largest = window.iter().max_by(|a, b| x[**a].total_cmp(&x[**b])).unwrap();
                dx[*largest] += dy;
            }
        }
        LayerSpec::GlobalMean => {
            let pixels = (stage.input.height * stage.input.width) as f64;
            connections(stage, |i, o, _| dx[i] += dy[o] / pixels);
        }
        LayerSpec::Flatten => dx.copy_from_slice(dy),
        other => panic!("{other:?}: see blocks.rs"),
    }
    dx
}

/// Calls back for every (input, output, weight) that a linear layer multiplies and adds.
fn connections(
    stage: &super::super::stage::Stage<'_>,
    mut each: impl FnMut(usize, usize, Option<usize>),
) {
    let (input, output) = (stage.input, stage.output);
    match stage.layer {
        LayerSpec::Dense { out, .. } => {
            for i in 0..input.features() {
                (0..*out).for_each(|o| each(i, o, Some(i * out + o)));
            }
        }
        LayerSpec::Conv { kernel, stride, padding, .. } => {
            for (o, c) in
                (0..output.channels).flat_map(|o| (0..input.channels).map(move |c| (o, c)))
            {
                for y in 0..output.height {
                    for x in 0..output.width {
                        for (ky, kx) in (0..*kernel).flat_map(|a| (0..*kernel).map(move |b| (a, b)))
                        {
                            let (iy, ix) = (y * stride + ky, x * stride + kx);
                            let (Some(iy), Some(ix)) =
                                (iy.checked_sub(*padding), ix.checked_sub(*padding))
                            else {
                                continue;
                            };
                            if iy < input.height && ix < input.width {
                                let from = (c * input.height + iy) * input.width + ix;
                                let to = (o * output.height + y) * output.width + x;
                                let w = ((o * input.channels + c) * kernel + ky) * kernel + kx;
                                each(from, to, Some(w));
                            }
                        }
                    }
                }
            }
        }
        LayerSpec::GlobalMean => {
            let pixels = input.height * input.width;
            (0..input.features()).for_each(|i| each(i, i / pixels, None));
        }
        LayerSpec::Flatten => (0..input.features()).for_each(|i| each(i, i, None)),
        _ => {}
    }
}

/// The inputs under each output of a pool.
fn windows(stage: &super::super::stage::Stage<'_>) -> Vec<Vec<usize>> {
    let (input, output) = (stage.input, stage.output);
    let size = input.height / output.height;
    let mut windows = Vec::new();
    for c in 0..output.channels {
        for y in 0..output.height {
            for x in 0..output.width {
                let inside =
                    (0..size).flat_map(|a| (0..size).map(move |b| (y * size + a, x * size + b)));
                windows.push(
                    inside.map(|(iy, ix)| (c * input.height + iy) * input.width + ix).collect(),
                );
            }
        }
    }
    windows
}
