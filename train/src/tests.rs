//! Training as a whole: it learns, it repeats itself, and it says when it cannot.

use super::*;
use fedpress::ErrorKind;
use fedpress_fl::{Parameter, Result};

fn small() -> Architecture {
    Architecture::small_cnn([1, 16, 16], 10).unwrap()
}

fn fit(data: &Dataset, settings: &LocalTraining, seed: u64) -> Result<Trained> {
    let start = small().initial_parameters(seed);
    train(&small(), &start, data, &data.indices(), settings, seed, &cpu())
}

fn pool<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn bits(parameters: &[Parameter]) -> Vec<u32> {
    parameters.iter().flat_map(|p| p.values.iter().map(|x| x.to_bits())).collect()
}

/// A convolutional network learns the procedural set in seconds; a linear one, given the same
/// steps, stays behind.
#[test]
fn a_small_network_learns_and_a_linear_one_does_not() {
    let (data, test) = procedural(7, 3000, 500).unwrap();
    let momentum =
        LocalTraining { epochs: 6, learning_rate: 0.02, momentum: 0.9, ..Default::default() };
    let accuracy = |architecture: &Architecture, settings: &LocalTraining| {
        let start = architecture.initial_parameters(7);
        let trained =
            train(architecture, &start, &data, &data.indices(), settings, 7, &cpu()).unwrap();
        let steps = u64::from(settings.epochs) * 3000u64.div_ceil(settings.batch as u64);
        assert_eq!((trained.examples, trained.steps), (3000, steps));
        evaluate(architecture, &trained.parameters, &test, &test.indices(), &cpu())
            .unwrap()
            .accuracy()
    };
    let network = accuracy(&small(), &LocalTraining { batch: 32, ..momentum.clone() });
    let layers = vec![LayerSpec::Flatten, LayerSpec::Dense { name: "fc".to_owned(), out: 10 }];
    let linear = Architecture::new([1, 16, 16], layers).unwrap();
    let linear = accuracy(&linear, &LocalTraining { batch: 32, learning_rate: 0.01, ..momentum });
    println!("accuracy: convolutional {network}, linear {linear}");
    assert!(network > 0.9 && linear < 0.75, "{network} {linear}");
}

/// Real digits: a thousand of them are enough for a model far beyond guessing.
#[test]
fn a_small_network_learns_real_digits() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/mnist-tiny");
    let dir = std::path::Path::new(path);
    if !dir.is_dir() {
        println!("skipped: no {path}");
        return;
    }
    let (data, test) = Dataset::open("mnist", dir).unwrap();
    let architecture = Architecture::small_cnn([1, 28, 28], 10).unwrap();
    let start = architecture.initial_parameters(7);
    let settings = LocalTraining { epochs: 3, ..Default::default() };
    let trained =
        train(&architecture, &start, &data, &data.indices(), &settings, 7, &cpu()).unwrap();
    let score = evaluate(&architecture, &trained.parameters, &test, &test.indices(), &cpu());
    let accuracy = score.unwrap().accuracy();
    println!("accuracy: {accuracy}");
    assert!(accuracy > 0.8, "{accuracy}");
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let (data, _) = procedural(7, 100, 0).unwrap();
    let settings = LocalTraining { momentum: 0.5, weight_decay: 1e-4, ..Default::default() };
    let run = |threads, seed| pool(threads, || fit(&data, &settings, seed).unwrap());
    let one = run(1, 7);
    for threads in [1, 2, 3] {
        let again = run(threads, 7);
        assert_eq!(bits(&again.parameters), bits(&one.parameters), "{threads} threads");
        assert_eq!(again.loss.to_bits(), one.loss.to_bits());
    }
    assert_ne!(bits(&run(1, 8).parameters), bits(&one.parameters));
    assert_eq!((one.steps, one.examples), (10, 100));
}

/// The model of the papers, whose larger products are cut into more pieces.
#[test]
fn the_model_of_the_papers_repeats_itself() {
    let architecture = Architecture::mnist_cnn(10).unwrap();
    let start = architecture.initial_parameters(7);
    let pixels = (0..784 * 60u32).map(|i| (i * 31 % 256) as u8).collect();
    let data = Dataset::new([1, 28, 28], 10, pixels, (0..60).map(|i| i % 10).collect()).unwrap();
    let settings = LocalTraining { batch: 20, ..Default::default() };
    let run = |threads| {
        pool(threads, || {
            let trained =
                train(&architecture, &start, &data, &data.indices(), &settings, 7, &cpu()).unwrap();
            let score =
                evaluate(&architecture, &trained.parameters, &data, &data.indices(), &cpu())
                    .unwrap();
            (bits(&trained.parameters), score.loss.to_bits())
        })
    };
    assert!(run(1) == run(2));
}

#[test]
fn clients_side_by_side_train_as_they_do_alone() {
    let (data, _) = procedural(7, 240, 0).unwrap();
    let parts = Partition::Dirichlet { alpha: 1.0, smallest: 10 };
    let parts = parts.split(data.labels(), 6, 7).unwrap();
    let (architecture, settings) = (small(), LocalTraining::default());
    let start = architecture.initial_parameters(7);
    let one = |i: usize| {
        let seed = fedpress::derive_key(&[7, i as u64]);
        train(&architecture, &start, &data, &parts[i], &settings, seed, &cpu()).unwrap()
    };
    let one = &one;
    let alone: Vec<Trained> = (0..6).map(one).collect();
    let together = in_parallel(3, (0..6).map(|i| move || one(i)).collect()).unwrap();
    assert_eq!(together, alone);
}

/// One step of plain SGD, momentum and weight decay against the formulas.
#[test]
fn steps_follow_the_formulas() {
    let (data, _) = procedural(7, 10, 0).unwrap();
    let start = small().initial_parameters(7);
    let after = |learning_rate, momentum, weight_decay, epochs| {
        let settings =
            LocalTraining { epochs, learning_rate, momentum, weight_decay, ..Default::default() };
        fit(&data, &settings, 7).unwrap().parameters
    };
    let weight = |p: &[Parameter]| p[2].values.clone();
    let close =
        |found: f32, expected: f32| (found - expected).abs() <= 1e-6 + 1e-4 * expected.abs();
    let w0 = weight(&start);
    // One batch of all examples: the gradient does not depend on the order, but for rounding.
    let w1 = weight(&after(0.1, 0.0, 0.0, 1));
    let w2 = weight(&after(0.1, 0.0, 0.0, 2));
    let with_momentum = weight(&after(0.1, 0.9, 0.0, 2));
    let with_decay = weight(&after(0.1, 0.0, 0.5, 1));
    assert_eq!(weight(&after(0.1, 0.9, 0.0, 1)), w1);
    assert_ne!(w0, w1);
    for i in 0..w0.len() {
        assert!(close(with_decay[i], w1[i] - 0.1 * 0.5 * w0[i]));
        assert!(close(with_momentum[i], w2[i] + 0.9 * (w1[i] - w0[i])));
    }
    assert_eq!(after(0.0, 0.0, 0.0, 1), start);
}

#[test]
fn divergence_is_an_error() {
    let (data, _) = procedural(7, 100, 0).unwrap();
    let settings = LocalTraining { learning_rate: 1e30, ..Default::default() };
    let error = fit(&data, &settings, 7).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("training diverged at step"), "{error}");
    // The last step is checked too.
    let settings =
        LocalTraining { learning_rate: 1e38, max_steps: Some(1), weight_decay: 1e3, ..settings };
    let error = fit(&data, &settings, 7).unwrap_err();
    assert!(error.parameter().is_some(), "{error}");
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let (data, _) = procedural(7, 20, 0).unwrap();
    let d = LocalTraining::default;
    for settings in [
        LocalTraining { epochs: 0, ..d() },
        LocalTraining { batch: 0, ..d() },
        LocalTraining { max_steps: Some(0), ..d() },
        LocalTraining { learning_rate: f64::NAN, ..d() },
        LocalTraining { learning_rate: -0.1, ..d() },
        LocalTraining { momentum: f32::INFINITY, ..d() },
        LocalTraining { weight_decay: -1.0, ..d() },
    ] {
        assert_eq!(*fit(&data, &settings, 7).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let (architecture, start) = (small(), small().initial_parameters(7));
    let refused = |data: &Dataset, start: &[Parameter], indices: &[u32]| {
        let trained = train(&architecture, start, data, indices, &d(), 7, &cpu());
        let score = evaluate(&architecture, start, data, indices, &cpu());
        for error in [trained.unwrap_err(), score.unwrap_err()] {
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
    };
    refused(&data, &start, &[]);
    refused(&data, &start, &[0, 20]);
    refused(&data, &start[1..], &[0]);
    refused(&Dataset::new([1, 16, 15], 10, vec![0; 240], vec![1]).unwrap(), &start, &[0]);
    refused(&Dataset::new([1, 16, 16], 11, vec![0; 256], vec![10]).unwrap(), &start, &[0]);
}

#[test]
fn an_untrained_model_guesses() {
    let (data, _) = procedural(7, 600, 0).unwrap();
    let zeros: Vec<Parameter> = small()
        .parameter_shapes()
        .iter()
        .map(|(name, shape)| Parameter::zeros(name, shape))
        .collect();
    let found = evaluate(&small(), &zeros, &data, &data.indices()[..555], &cpu()).unwrap();
    // All logits are equal: the first class wins, and it is every tenth.
    assert_eq!((found.correct, found.examples), (56, 555));
    assert!((found.loss - 10f64.ln()).abs() < 1e-9);
}

/// What a unit sees and what it says, all zero: as if it were not there.
#[test]
fn units_without_weights_are_no_units() {
    let (data, _) = procedural(7, 20, 0).unwrap();
    let full = small();
    let mut masked = full.initial_parameters(7);
    for (i, value) in masked[0].values.iter_mut().enumerate() {
        *value = if i / 9 < 8 { *value } else { 0.0 };
    }
    for (i, value) in masked[2].values.iter_mut().enumerate() {
        *value = if i / 9 % 16 < 8 { *value } else { 0.0 };
    }
    let mut packed = masked.clone();
    packed[0] = Parameter {
        shape: vec![8, 1, 3, 3],
        values: masked[0].values[..72].to_vec(),
        ..masked[0].clone()
    };
    packed[1] =
        Parameter { shape: vec![8], values: masked[1].values[..8].to_vec(), ..masked[1].clone() };
    let kept = masked[2].values.chunks(16 * 9).flat_map(|filter| filter[..72].to_vec()).collect();
    packed[2] = Parameter { shape: vec![32, 8, 3, 3], values: kept, ..masked[2].clone() };
    let narrow = full.with_widths_of(&packed).unwrap();
    let score = |a: &Architecture, p: &[Parameter]| {
        evaluate(a, p, &data, &data.indices(), &cpu()).unwrap().loss
    };
    assert!((score(&full, &masked) - score(&narrow, &packed)).abs() < 1e-5);
}

/// Prints how long steps and evaluations take: `cargo test -p fedpress-fl --features train speed --
/// --ignored --nocapture`.
#[test]
#[ignore = "measures, asserts nothing"]
fn speed() {
    let architecture = Architecture::mnist_cnn(10).unwrap();
    let start = architecture.initial_parameters(7);
    let pixels = (0..784 * 1000u32).map(|i| (i * 31 % 256) as u8).collect();
    let data = Dataset::new([1, 28, 28], 10, pixels, (0..1000).map(|i| i % 10).collect()).unwrap();
    let settings = LocalTraining { learning_rate: 0.01, max_steps: Some(30), ..Default::default() };
    let step =
        || train(&architecture, &start, &data, &data.indices(), &settings, 7, &cpu()).unwrap();
    let score = || evaluate(&architecture, &start, &data, &data.indices(), &cpu()).unwrap();
    let milliseconds = |what: &str, n: f64, f: &(dyn Fn() + Sync)| {
        f();
        let best = (0..5).map(|_| {
            let clock = std::time::Instant::now();
            f();
            clock.elapsed().as_secs_f64() * 1e3 / n
        });
        println!("{what}: {:.2} ms", best.fold(f64::MAX, f64::min));
    };
    for threads in [1, 2] {
        let of = |what: &str| format!("{what}, {threads} threads");
        milliseconds(&of("step of 10"), 30.0, &|| pool(threads, || drop(step())));
        milliseconds(&of("evaluation of 10,000"), 0.1, &|| {
            pool(threads, score);
        });
    }
    milliseconds("step of 10, two clients side by side, each", 30.0, &|| {
        drop(in_parallel(2, vec![step, step]).unwrap());
    });
}
