//! What follows from an architecture: counts, shapes, layout, submodels.

use super::super::*;
use crate::cpu;

/// The architecture with every hidden width times `keep`, rounded half up.
fn narrow(architecture: &Architecture, keep: f64) -> Architecture {
    let last = architecture.layers().iter().rposition(|l| l.name().is_some()).unwrap();
    let mut layers = architecture.layers().to_vec();
    for layer in &mut layers[..last] {
        if let LayerSpec::Conv { out, .. } | LayerSpec::Dense { out, .. } = layer {
            *out = (*out as f64 * keep + 0.5).floor() as usize;
        }
    }
    Architecture::new(architecture.input(), layers).unwrap()
}

/// Caldas et al. (2018), and what follows from their tables for submodels.
#[test]
fn parameter_counts_are_those_of_the_papers() {
    let mnist = Architecture::mnist_cnn(10).unwrap();
    let emnist = Architecture::emnist_cnn().unwrap();
    let cifar = Architecture::all_cnn_c(10, 1.0).unwrap();
    for (keep, expected) in [
        (1.0, [1_663_370, 6_603_710, 1_369_738]),
        (0.875, [1_274_234, 5_070_190, 1_049_338]),
        (0.75, [936_874, 3_738_974, 771_562]),
        (0.625, [651_290, 2_610_062, 536_410]),
        (0.5, [417_482, 1_683_454, 343_882]),
    ] {
        let found = [&mnist, &emnist, &cifar].map(|a| narrow(a, keep).n_parameters());
        assert_eq!(found, expected, "{keep}");
        assert_eq!(Architecture::all_cnn_c(10, keep).unwrap(), narrow(&cifar, keep));
    }
    let small = Architecture::small_cnn([1, 16, 16], 10).unwrap();
    assert_eq!(small.n_parameters(), 160 + 4640 + 5130);
    // McMahan et al. 2017 have it as their 2NN.
    assert_eq!(Architecture::mnist_2nn(10).unwrap().n_parameters(), 199_210);
}

#[test]
fn multiply_adds_are_those_of_the_papers() {
    let mnist = Architecture::mnist_cnn(10).unwrap();
    let emnist = Architecture::emnist_cnn().unwrap();
    assert_eq!(mnist.multiply_adds(), 627_200 + 10_035_200 + 1_605_632 + 5_120);
    let ratio =
        |a: &Architecture| a.multiply_adds() as f64 / narrow(a, 0.75).multiply_adds() as f64;
    assert!((ratio(&mnist) - 1.748).abs() < 5e-4, "{}", ratio(&mnist));
    assert!((ratio(&emnist) - 1.752).abs() < 5e-4, "{}", ratio(&emnist));
}

#[test]
fn shapes_are_in_order() {
    let shapes = Architecture::mnist_cnn(10).unwrap().parameter_shapes();
    let expected: [(&str, &[usize]); 8] = [
        ("conv1.weight", &[32, 1, 5, 5]),
        ("conv1.bias", &[32]),
        ("conv2.weight", &[64, 32, 5, 5]),
        ("conv2.bias", &[64]),
        ("fc1.weight", &[3136, 512]),
        ("fc1.bias", &[512]),
        ("fc2.weight", &[512, 10]),
        ("fc2.bias", &[10]),
    ];
    assert_eq!(shapes.len(), 8);
    for ((name, shape), (expected_name, expected_shape)) in shapes.iter().zip(expected) {
        assert_eq!((name.as_str(), shape.as_slice()), (expected_name, expected_shape));
    }
}

#[test]
fn the_layout_says_which_axis_has_which_units() {
    let layout: toml::Table = Architecture::mnist_cnn(10).unwrap().layout_toml().parse().unwrap();
    let expected: toml::Table = r#"
        groups = { conv1 = 32, conv2 = 64, fc1 = 512 }
        parameters = [
            { name = "conv1.weight", axes = ["conv1", "1", "5", "5"], inputs = [1] },
            { name = "conv1.bias", axes = ["conv1"] },
            { name = "conv2.weight", axes = ["conv2", "conv1", "5", "5"], inputs = [1] },
            { name = "conv2.bias", axes = ["conv2"] },
            { name = "fc1.weight", axes = ["conv2*49", "fc1"], inputs = [0] },
            { name = "fc1.bias", axes = ["fc1"] },
            { name = "fc2.weight", axes = ["fc1", "10"], inputs = [0] },
            { name = "fc2.bias", axes = ["10"] },
        ]
    "#
    .parse()
    .unwrap();
    assert_eq!(layout, expected);
    let layout = Architecture::all_cnn_c(10, 1.0).unwrap().layout_toml();
    assert!(layout.contains("\"10\", \"conv8\", \"1\", \"1\""), "{layout}");
    assert!(!layout.contains("conv9 ="), "{layout}");
}

#[test]
fn an_architecture_survives_a_file_and_is_checked_there() {
    let architecture = Architecture::mnist_cnn(10).unwrap();
    let text = toml::to_string(&architecture).unwrap();
    assert_eq!(toml::from_str::<Architecture>(&text).unwrap(), architecture);
    for (from, to) in
        [("kernel = 5", "kernel = 50"), ("out = 64", "out = 0"), ("[1, 28, 28]", "[0, 28, 28]")]
    {
        assert!(toml::from_str::<Architecture>(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let conv = |out, kernel, stride, padding| LayerSpec::Conv {
        name: "c".to_owned(),
        out,
        kernel,
        stride,
        padding,
        bias: true,
    };
    let dense = |name: &str, out| LayerSpec::Dense { name: name.to_owned(), out };
    let (flatten, pool) = (LayerSpec::Flatten, |size| LayerSpec::MaxPool { size });
    let huge = usize::MAX;
    let cases: Vec<Vec<LayerSpec>> = vec![
        vec![],
        vec![flatten.clone()],
        vec![dense("a", 10)],
        vec![conv(4, 3, 1, 1)],
        vec![flatten.clone(), dense("a", 0)],
        vec![flatten.clone(), dense("a", 10), dense("a", 10)],
        vec![flatten.clone(), dense("", 10)],
        vec![flatten.clone(), dense("a.b", 10)],
        vec![flatten.clone(), dense("a", huge)],
        vec![flatten.clone(), dense("a", 1 << 20), dense("b", 1 << 20)],
        vec![flatten.clone(), flatten.clone(), dense("a", 10)],
        vec![flatten.clone(), conv(4, 3, 1, 1)],
        vec![flatten.clone(), pool(2), dense("a", 10)],
        vec![pool(9), flatten.clone(), dense("a", 10)],
        vec![pool(0), flatten.clone(), dense("a", 10)],
        vec![conv(4, 9, 1, 0), flatten.clone()],
        vec![conv(4, 0, 1, 0), flatten.clone()],
        vec![conv(4, 3, 0, 0), flatten.clone()],
        vec![conv(0, 3, 1, 0), flatten.clone()],
        vec![conv(4, 3, 1, huge), flatten.clone()],
        vec![conv(4, huge, 1, huge / 2), flatten.clone()],
        vec![conv(4, 3, 1, 1 << 29), flatten.clone()],
        vec![conv(huge, 3, 1, 1), flatten.clone()],
    ];
    for layers in cases {
        assert!(Architecture::new([1, 8, 8], layers.clone()).is_err(), "{layers:?}");
    }
    assert!(Architecture::new([0, 8, 8], vec![flatten.clone(), dense("a", 1)]).is_err());
    assert!(Architecture::new([huge, huge, 8], vec![flatten, dense("a", 1)]).is_err());
    assert!(Architecture::all_cnn_c(10, f64::INFINITY).is_err());
}

#[test]
fn a_submodel_has_the_widths_of_its_parameters() {
    for (full, keep) in [
        (Architecture::mnist_cnn(10).unwrap(), 0.75),
        (Architecture::all_cnn_c(10, 0.1).unwrap(), 0.5),
        (Architecture::small_cnn([3, 8, 8], 4).unwrap(), 0.5),
    ] {
        let sub = narrow(&full, keep);
        let parameters = sub.initial_parameters(7);
        assert_eq!(full.with_widths_of(&parameters).unwrap(), sub);
        assert_eq!(full.with_widths_of(&full.initial_parameters(7)).unwrap(), full);

        let refused = |change: &dyn Fn(&mut Vec<Parameter>)| {
            let mut parameters = parameters.clone();
            change(&mut parameters);
            full.with_widths_of(&parameters).unwrap_err()
        };
        refused(&|p| drop(p.pop()));
        refused(&|p| p.clear());
        refused(&|p| p.swap(0, 1));
        refused(&|p| p[2].name.push('x'));
        refused(&|p| p[2].shape[1] += 1);
        refused(&|p| p[0].shape[0] = 0);
        refused(&|p| p[0].shape[0] = usize::MAX);
        refused(&|p| p[0].shape.clear());
        refused(&|p| p[0].values.truncate(1));
        let last = parameters.len() - 1;
        let error = refused(&|p| p[last] = Parameter::zeros(p[last].name.clone(), &[1]));
        assert_eq!(error.parameter(), Some(parameters[last].name.as_str()));
    }
}

#[test]
fn what_is_written_is_read_back() {
    for architecture in
        [Architecture::small_cnn([3, 8, 8], 5).unwrap(), Architecture::all_cnn_c(7, 0.05).unwrap()]
    {
        let parameters = architecture.initial_parameters(7);
        for device in [cpu(), cpu().autodiff()] {
            let network = Network::new(&architecture, &parameters, &device).unwrap();
            assert_eq!(network.parameters(&architecture).unwrap(), parameters);
            assert_eq!(network.num_params(), architecture.n_parameters());
        }
    }
    let small = Architecture::small_cnn([3, 8, 8], 5).unwrap();
    assert!(Network::new(&small, &small.initial_parameters(7)[1..], &cpu()).is_err());
}

#[test]
fn initial_weights_are_glorot_uniform_and_seeded() {
    let architecture = Architecture::mnist_cnn(10).unwrap();
    let parameters = architecture.initial_parameters(7);
    assert_eq!(architecture.initial_parameters(7), parameters);
    let other = architecture.initial_parameters(8);
    for (i, fans) in [(0, 33 * 25), (2, 96 * 25), (4, 3136 + 512), (6, 522)] {
        let limit = (6.0 / fans as f64).sqrt();
        let values = &parameters[i].values;
        let n = values.len() as f64;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        assert!(values.iter().all(|x| f64::from(x.abs()) <= limit));
        // The variance is limit^2 / 3, that of x^2 is 4/45 limit^4; five standard errors.
        let error = 5.0 * (4.0 / 45.0 / n).sqrt();
        assert!((square / (limit * limit) - 1.0 / 3.0).abs() < error, "{i}: {square}");
        assert_ne!(parameters[i], other[i]);
        assert!(parameters[i + 1].values.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn initial_weights_after_he_keep_the_size_of_what_flows_through_relus() {
    let architecture = Architecture::mnist_cnn(10).unwrap();
    let parameters = Initial::He.parameters(&architecture, 7);
    let glorot = architecture.initial_parameters(7);
    for (i, fan_in) in [(0, 25), (2, 32 * 25), (4, 3136), (6, 512)] {
        let limit = (6.0 / f64::from(fan_in)).sqrt() as f32;
        let largest = parameters[i].values.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(largest <= limit && largest > 0.97 * limit, "{i}: {largest} {limit}");
        // The same draws, another limit.
        let ratio = parameters[i].values[0] / glorot[i].values[0];
        let mut pairs = parameters[i].values.iter().zip(&glorot[i].values);
        assert!(pairs.all(|(he, glorot)| (he - glorot * ratio).abs() <= 1e-5 * limit));
    }
}
