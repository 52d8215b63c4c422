//! Layouts that several tests use, and arbitrary ones.
#![allow(dead_code, reason = "each test takes what it needs")]

use bitvec::vec::BitVec;
use fedpress_fl::{Axis, Convention, Group, Layout, ParamLayout, Parameter, Role, Segment};
use proptest::prelude::*;

/// Without files of failed cases.
pub fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Names and shapes of a model.
pub type Shapes = Vec<(String, Vec<usize>)>;

fn dense(convention: Convention, inputs: usize, outputs: usize) -> Vec<usize> {
    match convention {
        Convention::Torch => vec![outputs, inputs],
        Convention::Burn | Convention::Keras => vec![inputs, outputs],
    }
}

fn conv(convention: Convention, inputs: usize, outputs: usize, kernel: usize) -> Vec<usize> {
    match convention {
        Convention::Torch | Convention::Burn => vec![outputs, inputs, kernel, kernel],
        Convention::Keras => vec![kernel, kernel, inputs, outputs],
    }
}

fn with_bias(name: &str, weight: Vec<usize>, outputs: usize) -> [(String, Vec<usize>); 2] {
    [(format!("{name}.weight"), weight), (format!("{name}.bias"), vec![outputs])]
}

/// The convolutional network of McMahan et al. 2017 for images of 28x28.
pub fn cnn(convention: Convention, hidden: usize, classes: usize) -> Shapes {
    [
        with_bias("conv1", conv(convention, 1, 32, 5), 32),
        with_bias("conv2", conv(convention, 32, 64, 5), 64),
        with_bias("fc1", dense(convention, 64 * 49, hidden), hidden),
        with_bias("fc2", dense(convention, hidden, classes), classes),
    ]
    .concat()
}

/// All-CNN-C (Springenberg et al. 2015) for CIFAR-10, with names that sort wrongly as text when
/// `first` is 8 or more.
pub fn all_cnn(convention: Convention, first: usize) -> Shapes {
    let widths = [3, 96, 96, 96, 192, 192, 192, 192, 192, 10];
    let kernels = [3, 3, 3, 3, 3, 3, 3, 1, 1];
    let layer = |i: usize| {
        let weight = conv(convention, widths[i], widths[i + 1], kernels[i]);
        with_bias(&format!("conv{}", first + i), weight, widths[i + 1])
    };
    (0..9).flat_map(layer).collect()
}

/// The layout file of [`cnn`] as written by hand, for Torch.
pub fn cnn_toml(hidden: usize, classes: usize) -> String {
    format!(
        r#"
        [groups]
        conv1 = 32
        conv2 = 64
        fc1 = {hidden}

        [[parameters]]
        name = "conv1.weight"
        axes = ["conv1", "1", "5", "5"]
        inputs = [1]
        [[parameters]]
        name = "conv1.bias"
        axes = ["conv1"]
        [[parameters]]
        name = "conv2.weight"
        axes = ["conv2", "conv1", "5", "5"]
        inputs = [1]
        [[parameters]]
        name = "conv2.bias"
        axes = ["conv2"]
        [[parameters]]
        name = "fc1.weight"
        axes = ["fc1", "conv2*49"]
        inputs = [1]
        [[parameters]]
        name = "fc1.bias"
        axes = ["fc1"]
        [[parameters]]
        name = "fc2.weight"
        axes = ["{classes}", "fc1"]
        inputs = [1]
        [[parameters]]
        name = "fc2.bias"
        axes = ["{classes}"]
        "#
    )
}

/// One group `a` of this many units and one parameter `w` along it.
pub fn line(units: usize) -> Layout {
    let group = Group { name: "a".to_owned(), units };
    let param = ParamLayout {
        name: "w".to_owned(),
        role: Role::Weight,
        axes: vec![Axis::units(0)],
        inputs: vec![0],
    };
    Layout::new(vec![group], vec![param]).unwrap()
}

/// Parameters of these shapes whose values are all different.
pub fn numbered(layout: &Layout) -> Vec<Parameter> {
    let mut next = 0;
    let param = |i: usize| {
        let shape = layout.shape(i);
        let n: usize = shape.iter().product();
        next += n;
        let values = (next - n..next).map(|v| v as f32).collect();
        Parameter { name: layout.params()[i].name.clone(), shape, values }
    };
    (0..layout.params().len()).map(param).collect()
}

/// A mask from text: `x` keeps.
pub fn mask(text: &str) -> BitVec {
    text.chars().map(|c| c == 'x').collect()
}

/// Arbitrary layouts of small tensors: up to 4 dimensions of up to 3 segments.
pub fn any_layout() -> impl Strategy<Value = Layout> {
    let segment = (0usize..6, 1usize..4, 1usize..4);
    let axis = prop::collection::vec(segment, 1..3);
    let param = (prop::collection::vec(axis, 0..4), any::<bool>(), any::<u8>());
    let groups = prop::collection::vec(1usize..7, 1..4);
    (groups, prop::collection::vec(param, 1..4)).prop_map(|(sizes, params)| {
        let n = sizes.len();
        let segment = |(group, outer, inner): (usize, usize, usize)| Segment {
            outer,
            group: Some(group).filter(|group| *group < n),
            inner,
        };
        let mut all: Vec<ParamLayout> = Vec::new();
        for (axes, statistic, inputs) in params {
            let axes: Vec<Axis> = axes
                .into_iter()
                .map(|segments| Axis(segments.into_iter().map(segment).collect()))
                .collect();
            let inputs = (0..axes.len()).filter(|i| inputs >> i & 1 == 1).collect();
            let role = if statistic { Role::Statistic } else { Role::Weight };
            all.push(ParamLayout { name: format!("p{}", all.len()), role, axes, inputs });
        }
        // Every group has to be used.
        let biases = (0..n).map(|group| ParamLayout {
            name: format!("bias{group}"),
            role: Role::Weight,
            axes: vec![Axis::units(group)],
            inputs: vec![],
        });
        all.extend(biases);
        let group = |(i, units)| Group { name: format!("g{i}"), units };
        Layout::new(sizes.into_iter().enumerate().map(group).collect(), all).unwrap()
    })
}

/// Masks for a layout out of arbitrary bits, none of them empty.
pub fn masks(layout: &Layout, bits: u64) -> Vec<BitVec> {
    let mask = |(i, group): (usize, &Group)| {
        let bits = bits >> (8 * i);
        let mut mask: BitVec = (0..group.units).map(|unit| bits >> unit & 1 == 1).collect();
        if mask.not_any() {
            mask.set(0, true);
        }
        mask
    };
    layout.groups().iter().enumerate().map(mask).collect()
}
