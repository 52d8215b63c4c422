//! Laws: training a submodel is training the full model with the dropped units masked; a gain is a
//! multiplied input.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use fedpress_fl::{Choice, Keep, Layout, Parameter, Rule, merge, pack};
use fedpress_train::{Architecture, Dataset, LocalTraining, SplitModel, cpu, procedural, train};

/// With weights of dropped units at zero, these units give zero, and no gradient reaches them.
#[test]
fn training_a_submodel_is_training_the_full_model_with_dropped_units_masked() {
    let (data, _) = procedural(3, 60, 1).unwrap();
    let (shape, classes) = (data.shape(), data.n_classes());
    masked_is_packed(&data, &Architecture::small_cnn(shape, classes).unwrap());
    // With batch norm, whose dropped units have gain and shift 0, inside of sums.
    let pair = SplitModel::gkt_small(shape, classes).unwrap();
    masked_is_packed(&data, &pair.joined().unwrap());
}

fn masked_is_packed(data: &Dataset, full: &Architecture) {
    let layout = Layout::from_toml(&full.layout_toml()).unwrap();
    let settings = LocalTraining { epochs: 2, learning_rate: 0.05, ..LocalTraining::default() };
    let fit = |architecture: &Architecture, start: &[Parameter]| {
        train(architecture, start, data, &data.indices(), &settings, 9, &cpu()).unwrap()
    };
    for seed in 0..3 {
        let choice = Choice { rule: Rule::Random { seed }, keep: Keep::from(0.5) };
        let selection = choice.select(&layout).unwrap();
        let packed = pack(&layout, &selection, &full.initial_parameters(seed)).unwrap();
        let zeros = |(name, shape): (String, Vec<usize>)| Parameter::zeros(name, &shape);
        let nothing: Vec<Parameter> = full.parameter_shapes().into_iter().map(zeros).collect();
        let masked = |packed: &[Parameter]| {
            let mut model = nothing.clone();
            merge(&layout, &selection, packed, &mut model).unwrap();
            model
        };

        let small = fit(&full.with_widths_of(&packed).unwrap(), &packed);
        let large = fit(full, &masked(&packed));
        assert!((small.loss - large.loss).abs() < 1e-4, "{} {}", small.loss, large.loss);
        let mut moved = 0.0f32;
        for (small, large) in masked(&small.parameters).iter().zip(&large.parameters) {
            let scale = small.values.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            for (small, large) in small.values.iter().zip(&large.values) {
                // Sums of different lengths round differently, 12 steps long.
                assert!((small - large).abs() < 1e-3 * scale, "{small} {large}");
            }
        }
        for (before, after) in packed.iter().zip(&small.parameters) {
            let pairs = before.values.iter().zip(&after.values);
            moved = pairs.fold(moved, |m, (b, a)| m.max((b - a).abs()));
        }
        assert!(moved > 0.01, "training did nothing, which proves nothing");
    }
}

#[test]
fn the_layout_that_an_architecture_trains_by_is_the_one_that_is_inferred() {
    for full in [
        Architecture::mnist_cnn(10).unwrap(),
        Architecture::emnist_cnn().unwrap(),
        Architecture::all_cnn_c(10, 0.5).unwrap(),
    ] {
        let layout = Layout::from_toml(&full.layout_toml()).unwrap();
        let shapes = full.parameter_shapes();
        assert_eq!(layout.n_values(), full.n_parameters());
        let inferred = Layout::infer(&shapes, fedpress_fl::Convention::Burn).unwrap();
        let axes = |layout: &Layout| {
            let of = |p: &fedpress_fl::ParamLayout| (p.name.clone(), p.axes.clone());
            layout.params().iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(axes(&layout), axes(&inferred));
    }
}

/// One step with gains, and one with the weights multiplied by them: where the second moves a weight
/// by d, the first moves it by gain * d, so that g^2 times the rate and a division by g make up for it.
#[test]
fn a_gain_is_a_weight_multiplied_at_the_square_of_the_rate() {
    let (data, _) = procedural(3, 60, 1).unwrap();
    let full = Architecture::small_cnn(data.shape(), data.n_classes()).unwrap();
    let layout = Layout::from_toml(&full.layout_toml()).unwrap();
    let choice = Choice { rule: Rule::Random { seed: 4 }, keep: Keep::from(0.5) };
    let selection = choice.select(&layout).unwrap();
    let packed = pack(&layout, &selection, &full.initial_parameters(1)).unwrap();
    let gains = fedpress_fl::gains(&layout, &selection);
    assert_eq!(gains, [1.0, 1.0, 2.0, 1.0, 2.0, 1.0]);
    let settings =
        LocalTraining { max_steps: Some(1), batch: 60, learning_rate: 0.01, ..Default::default() };
    let step = |architecture: &Architecture, start: &[Parameter]| {
        let end = train(architecture, start, &data, &data.indices(), &settings, 9, &cpu()).unwrap();
        let moved = |(a, b): (&Parameter, &Parameter)| -> Vec<f32> {
            a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect()
        };
        end.parameters.iter().zip(start).map(moved).collect::<Vec<_>>()
    };
    let plain = full.with_widths_of(&packed).unwrap();
    let by_gain = step(&plain.clone().with_gains(gains.clone()).unwrap(), &packed);
    let mut multiplied = packed.clone();
    for (parameter, gain) in multiplied.iter_mut().zip(&gains) {
        parameter.values.iter_mut().for_each(|v| *v *= gain);
    }
    let by_weight = step(&plain, &multiplied);
    for ((a, b), gain) in by_gain.iter().zip(&by_weight).zip(&gains) {
        let size = a.iter().map(|a| a * a).sum::<f32>().sqrt();
        let wrong = a.iter().zip(b).map(|(a, b)| (a - b * gain).powi(2)).sum::<f32>().sqrt();
        // Steps are differences of weights up to 1: each is off by at most 2^-24, twice.
        let rounding = 4.0 * 2f32.powi(-24) * (a.len() as f32).sqrt();
        assert!(size > 100.0 * rounding && wrong <= 1e-3 * size + rounding, "{wrong} of {size}");
    }
    assert_ne!(step(&plain, &packed), by_gain, "gains do something");
}

/// With residual sums, batch norms and a flattened convolution.
#[test]
fn layouts_of_networks_compute_what_they_say() {
    let verify = |full: &Architecture, text: &str| {
        let layout = Layout::from_toml(text).unwrap();
        let [channels, height, width] = full.input();
        let pixels = (0..2 * channels * height * width).map(|i| (i * 37 % 256) as u8).collect();
        let data = Dataset::new(full.input(), full.n_classes(), pixels, vec![0, 1]).unwrap();
        let mut model = full.initial_parameters(5);
        // Statistics and shifts as after training.
        for (i, parameter) in model.iter_mut().enumerate() {
            if parameter.shape.len() == 1 {
                let value = |j: usize| 0.5 + ((i + 3 * j) % 7) as f32 / 7.0;
                parameter.values.iter_mut().enumerate().for_each(|(j, v)| *v = value(j));
            }
        }
        layout.verify(&model, 1e-3, |parameters| {
            let architecture = full.with_widths_of(parameters)?;
            let network = fedpress_train::Network::new(&architecture, parameters, &cpu())?;
            let (images, _) = data.batch(&[0, 1], &cpu())?;
            Ok(network.forward(images).try_into_vec_as::<f32>().unwrap())
        })
    };
    let small = Architecture::small_cnn([1, 8, 8], 5).unwrap();
    verify(&small, &small.layout_toml()).unwrap();
    let deep = SplitModel::gkt_resnet(1, 5).unwrap().joined().unwrap();
    verify(&deep, &deep.layout_toml()).unwrap();
    // Pixel by pixel where it is channel by channel: every shape fits.
    let wrong = small.layout_toml().replace("conv2*4", "4*conv2");
    assert_ne!(wrong, small.layout_toml());
    let error = verify(&small, &wrong).unwrap_err().to_string();
    assert!(error.contains("group conv2"), "{error}");
}
