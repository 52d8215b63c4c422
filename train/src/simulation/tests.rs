use super::*;
use crate::{Augment, LocalTraining, Partition};
use fedpress_fl::DeltaOptions;

fn small() -> TrainConfig {
    let local = LocalTraining { learning_rate: 0.05, ..LocalTraining::default() };
    TrainConfig {
        clients: 8,
        clients_per_round: 8,
        train_examples: Some(160),
        test_examples: Some(50),
        rounds: 2,
        local,
        ..TrainConfig::default()
    }
}

/// With such a rate one step is a very long one, and a second cannot be made: clients with more than a
/// batch of examples diverge, the others do not.
#[test]
fn a_client_that_diverges_drops_out_and_the_round_goes_on() {
    let mut config = small();
    config.partition = Partition::Unbalanced { sigma: 1.0 };
    config.local.learning_rate = 1e8;
    let mut simulation = Simulation::new(config.clone()).unwrap();
    let small = simulation.shards.iter().filter(|shard| shard.len() <= 11).count();
    assert!(small > 0 && small < 8, "{small}");
    let before = simulation.model().to_vec();
    let record = simulation.round(2).unwrap();
    assert_eq!((record.updates, record.clients_missing), (small, 8 - small));
    assert!(record.bytes_up > 0 && simulation.model() != before);
    assert!(simulation.model().iter().all(|p| p.values.iter().all(|x| x.is_finite())));
    // Saved and gone on with as any other.
    let saved = simulation.save().unwrap();
    let mut restored = Simulation::restore(config, &saved).unwrap();
    assert_eq!(restored.records(), simulation.records());
    restored.round(1).unwrap();
    simulation.round(2).unwrap();
    assert_eq!(restored.model(), simulation.model());
}

/// Nobody's training lasts, or what it brings is too large to be summed: the model stays.
#[test]
fn a_round_in_which_all_diverge_changes_nothing() {
    for (rate, trained) in [(1e30, false), (1e10, true)] {
        let mut config = small();
        config.local.learning_rate = rate;
        config.evaluate_every = 2;
        let mut simulation = Simulation::new(config.clone()).unwrap();
        let before = simulation.model().to_vec();
        let record = simulation.round(1).unwrap();
        assert_eq!((record.updates, record.clients_missing), (0, 8));
        assert_eq!(record.train_loss.is_some(), trained, "{:?}", record.train_loss);
        let saved = simulation.save().unwrap();
        let mut simulation = Simulation::restore(config, &saved).unwrap();
        assert_eq!(simulation.round(2).unwrap().round, 2);
        assert_eq!(simulation.model(), before);
    }
}

/// Whoever comes back gets what changed, which is less than the model, and restarts do not show.
#[test]
fn deltas_cost_less_than_models() {
    let deltas = Some(fedpress_fl::DeltaOptions::default());
    let config = TrainConfig { deltas, rounds: 4, evaluate_every: 4, ..small() };
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
    let empty = TrainConfig::from_toml("[deltas]").unwrap();
    assert_eq!(empty.deltas, deltas);
    let mut simulation = Simulation::new(config.clone()).unwrap();
    let first = simulation.round(2).unwrap().bytes_down;
    let second = simulation.round(2).unwrap().bytes_down;
    assert!(second < first, "{first} and {second} bytes");
    let mut restored = Simulation::restore(config, &simulation.save().unwrap()).unwrap();
    for threads in [1, 2] {
        let through = simulation.round(threads).unwrap().bytes_down;
        assert_eq!(restored.round(3 - threads).unwrap().bytes_down, through);
    }
    assert_eq!(restored.model(), simulation.model());
}

/// Two of eight clients keep a quarter of the units, two a half, the others all.
#[test]
fn weak_clients_train_less() {
    let tier = |share, keep| Tier { share, keep, down: None, up: None };
    let tiers = vec![tier(0.25, 0.25), tier(0.25, 0.5)];
    let cost = |tiers: Vec<Tier>| {
        let mut simulation = Simulation::new(TrainConfig { tiers, ..small() }).unwrap();
        let record = simulation.round(2).unwrap().clone();
        (record.multiply_adds, record.bytes_down)
    };
    let keep = |client| {
        let layout = Simulation::new(small()).unwrap().coordinator.layout().clone();
        let policy = TrainConfig { tiers: tiers.clone(), ..small() }.policy(&layout).unwrap();
        policy.keep_of(client).default
    };
    assert_eq!([1, 2, 3, 4].map(keep), [0.25, 0.5, 0.5, 1.0]);
    let (full, some) = (cost(vec![]), cost(tiers.clone()));
    let each = [0.25, 0.5].map(|keep| cost(vec![tier(1.0, keep)]));
    // Equal parts: a quarter of the cost each, half of the full one.
    assert_eq!(4 * some.0, each[0].0 + each[1].0 + 2 * full.0);
    assert!(some.1 < full.1);
    for wrong in [
        vec![tier(0.7, 0.5), tier(0.7, 0.5)],
        vec![tier(f64::NAN, 0.5)],
        vec![tier(0.5, 0.0)],
        vec![tier(0.01, 7.0)],
    ] {
        assert!(
            Simulation::new(TrainConfig { tiers: wrong.clone(), ..small() }).is_err(),
            "{wrong:?}"
        );
    }
    let config = TrainConfig { tiers, ..small() };
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
}

/// Half of the model's values, and most of the units.
#[test]
fn units_are_dropped_where_they_cost_most() {
    let config = TrainConfig { keep_values: Some(0.5), model: Some("small-cnn".into()), ..small() };
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
    let simulation = Simulation::new(config.clone()).unwrap();
    assert!((2.0..2.1).contains(&simulation.fewer_parameters().unwrap()));
    assert!(config.drops());
    let both = TrainConfig { keep: 0.5, ..config };
    assert!(Simulation::new(both).is_err());
}

/// A quarter of the clients have thin links: their messages are smaller, and only theirs.
#[test]
fn a_tier_has_specs_of_its_own() {
    let bytes = |tiers: Vec<Tier>| {
        let config = TrainConfig { tiers, ..small() };
        assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
        let mut simulation = Simulation::new(config).unwrap();
        let record = simulation.round(2).unwrap();
        (record.bytes_down, record.bytes_up)
    };
    let thin = |down: Option<&str>, up: Option<&str>| {
        let [down, up] = [down, up].map(|spec| spec.map(str::to_owned));
        vec![Tier { share: 0.25, keep: 1.0, down, up }]
    };
    let plain = bytes(vec![]);
    let (down, up) = (bytes(thin(Some("rotation|lm=4"), None)), bytes(thin(None, Some("uplink"))));
    let share = |some: u64, of: u64| some as f64 / of as f64;
    // But for the names of specs in headers.
    assert!([share(down.1, plain.1), share(up.0, plain.0)].iter().all(|x| (x - 1.0).abs() < 0.01));
    // Three quarters and a little of raw f32.
    assert!((0.76..0.85).contains(&share(down.0, plain.0)), "{down:?} of {plain:?}");
    assert!((0.76..0.85).contains(&share(up.1, plain.1)), "{up:?} of {plain:?}");
    let wrong = TrainConfig { tiers: thin(Some("nonsense"), None), ..small() };
    assert!(Simulation::new(wrong).is_err());
}

/// Caldas et al. 2018: 14x down and 28x up are 8 and 16 times what dropping a quarter of
/// the units leaves out.
#[test]
fn the_formula_gives_the_ratios_of_the_paper() {
    let ratio = |model: &str, keep| {
        let network = match model {
            "mnist-cnn" => Architecture::mnist_cnn(10).unwrap(),
            _ => Architecture::all_cnn_c(10, 1.0).unwrap(),
        };
        let layout = Layout::from_toml(&network.layout_toml()).unwrap();
        fewer_parameters(&layout, &TrainConfig { keep, ..TrainConfig::default() }).unwrap()
    };
    assert_eq!(ratio("mnist-cnn", 1.0), 1.0);
    let [down, up] = ["hadamard|q=4", "kashin|subsample=0.25|q=8"]
        .map(|spec| spec.parse::<fedpress::Spec>().unwrap().formula_ratio());
    for model in ["mnist-cnn", "all-cnn-c"] {
        let fewer = ratio(model, 0.75);
        assert!((down * fewer - 14.2).abs() < 0.05, "{model}: {}", down * fewer);
        assert!((up * fewer - 28.4).abs() < 0.1, "{model}: {}", up * fewer);
    }
}

/// The first round has the rate that is given, the second less.
#[test]
fn a_decaying_rate_begins_as_it_is_given() {
    let models = |decay| {
        let mut simulation = Simulation::new(TrainConfig { decay, ..small() }).unwrap();
        [0, 1].map(|_| {
            simulation.round(2).unwrap();
            simulation.model().to_vec()
        })
    };
    let (constant, decaying, none) = (models(1.0), models(0.5), models(1e-9));
    assert_eq!(constant[0], decaying[0]);
    let moved = |models: &[Vec<Parameter>; 2]| {
        let of = |(a, b): (&Parameter, &Parameter)| {
            a.values.iter().zip(&b.values).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
        };
        models[0].iter().zip(&models[1]).map(of).sum::<f32>().sqrt()
    };
    let [full, half, none] = [&constant, &decaying, &none].map(moved);
    assert!(half < 0.75 * full && none < 1e-6 * full, "{full} {half} {none}");
    assert!(Simulation::new(TrainConfig { decay: 0.0, ..small() }).is_err());
}

#[test]
fn validation_examples_are_the_last_ones_and_are_not_trained_on() {
    let simulation = Simulation::new(TrainConfig { validation: 40, ..small() }).unwrap();
    let (train, test) = small().datasets().unwrap();
    assert_eq!((train.len(), test.len()), (160, 50));
    assert_eq!(simulation.n_examples(), 120);
    assert_eq!(simulation.test, train.behind(120));
    assert!(Simulation::new(TrainConfig { validation: 160, ..small() }).is_err());
}

#[test]
fn varied_images_are_another_training_and_the_same_again() {
    let trained = |augment| {
        let mut config = small();
        config.local.augment = augment;
        let mut simulation = Simulation::new(config).unwrap();
        simulation.round(2).unwrap();
        simulation.model().to_vec()
    };
    let [plain, crop, again] = [Augment::None, Augment::Crop, Augment::Crop].map(trained);
    assert_ne!(plain, crop);
    assert_eq!(crop, again);
}

/// Statistics of submodels would be of smaller sums; those that the model ends with are its own.
#[test]
fn statistics_after_submodels_are_those_of_the_full_model() {
    let config = TrainConfig {
        model: Some("gkt-small".into()),
        keep: 0.5,
        train_examples: Some(1600),
        test_examples: Some(200),
        rounds: 6,
        evaluate_every: 6,
        ..small()
    };
    let mut simulation = Simulation::new(config).unwrap();
    while !simulation.is_done() {
        simulation.round(2).unwrap();
    }
    let accuracy = simulation.records()[5].accuracy.unwrap();
    assert!(accuracy > 0.5, "{accuracy}");
    let some: Vec<u32> = (0..STATISTICS_EXAMPLES as u32).collect();
    let (images, _) = simulation.train.batch(&some, &cpu()).unwrap();
    let taken = Network::statistics(&simulation.architecture, simulation.model(), images).unwrap();
    for (ours, taken) in simulation.model().iter().zip(&taken) {
        let wrong = ours.values.iter().zip(&taken.values).any(|(a, b)| (a - b).abs() > 1e-4);
        assert!(!wrong, "{}", ours.name);
    }
}

/// Silo mode, where every client is sent each change; and devices that return now and then, with
/// submodels. What they train from is within a quantum of the server's model.
#[test]
fn deltas_cost_less_and_teach_as_much() {
    let run = |deltas: bool, per_round: usize, keep: f64| {
        let config = TrainConfig {
            clients_per_round: per_round,
            keep,
            rounds: 8,
            evaluate_every: 8,
            train_examples: Some(800),
            test_examples: Some(300),
            deltas: deltas.then(DeltaOptions::default),
            ..small()
        };
        let mut simulation = Simulation::new(config.clone()).unwrap();
        for _ in 0..4 {
            simulation.round(2).unwrap();
        }
        // Saved and gone on with as any other.
        let saved = simulation.save().unwrap();
        let mut simulation = Simulation::restore(config, &saved).unwrap();
        for _ in 4..8 {
            simulation.round(2).unwrap();
        }
        let late: u64 = simulation.records()[4..].iter().map(|record| record.bytes_down).sum();
        (late, simulation.records()[7].accuracy.unwrap())
    };
    for (per_round, keep, fewer) in [(8, 1.0, 10), (4, 0.75, 4)] {
        let ((plain, accuracy), (deltas, other)) =
            (run(false, per_round, keep), run(true, per_round, keep));
        assert!(deltas * fewer < plain, "{per_round} {keep}: {deltas} {plain}");
        // 300 images: five errors of a difference of proportions at the worst.
        assert!(other > accuracy - 5.0 * (0.5f64 / 300.0).sqrt(), "{other} {accuracy}");
    }
}

/// The last layer stays: it is in no message, each client has its own, and restarts do not show.
#[test]
fn heads_stay_with_their_clients() {
    let config = TrainConfig {
        personal: vec!["fc".into()],
        partition: Partition::Shards { per_client: 2 },
        rounds: 4,
        keep: 0.75,
        scaled: true,
        clients_per_round: 5,
        evaluate_every: 2,
        ..small()
    };
    let run = |rounds: u64, from: Option<Vec<u8>>| {
        let mut simulation = match from {
            None => Simulation::new(config.clone()).unwrap(),
            Some(saved) => Simulation::restore(config.clone(), &saved).unwrap(),
        };
        for _ in 0..rounds {
            simulation.round(2).unwrap();
        }
        simulation
    };
    let names: Vec<String> = run(0, None).model().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names, ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]);
    let (through, halfway) = (run(4, None), run(2, None));
    let restored = run(2, Some(halfway.save().unwrap()));
    assert_eq!((restored.model(), &restored.own), (through.model(), &through.own));
    let heads: Vec<&[Parameter]> = through.owners().map(|(_, own)| own).collect();
    assert!(heads.len() > 5);
    assert!(heads.iter().enumerate().all(|(i, head)| heads[..i].iter().all(|other| other != head)));
    let last = &through.records()[3];
    assert!(last.worst_tenth.unwrap() <= last.accuracy.unwrap());
    assert!(through.records()[0].accuracy.is_none());
    let unknown = TrainConfig { personal: vec!["fc9".into()], ..small() };
    let error = Simulation::new(unknown).err().unwrap().to_string();
    assert!(error.contains("no layer \"fc9\""), "{error}");
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
}

/// Clients with two classes each: with a head of its own each tells these two apart, and is better than
/// one model for all is to it.
#[test]
fn own_heads_are_better_to_clients_that_differ() {
    let accuracy = |personal: &[&str]| {
        let config = TrainConfig {
            personal: personal.iter().map(|name| (*name).to_owned()).collect(),
            by_client: true,
            partition: Partition::Shards { per_client: 2 },
            train_examples: Some(800),
            test_examples: Some(500),
            rounds: 6,
            evaluate_every: 6,
            ..small()
        };
        let mut simulation = Simulation::new(config).unwrap();
        for _ in 0..6 {
            simulation.round(2).unwrap();
        }
        let last = &simulation.records()[5];
        (last.accuracy.unwrap(), last.worst_tenth.unwrap())
    };
    let (one, own) = (accuracy(&[]), accuracy(&["fc"]));
    // Of about 100 images for each of 8 clients; five errors of a difference of proportions at the worst.
    assert!(own.0 > one.0 + 5.0 * (0.5f64 / 800.0).sqrt(), "{own:?} {one:?}");
    assert!(own.1 > one.1, "{own:?} {one:?}");
}

/// By client or by image, one model for all is as good where clients are alike.
#[test]
fn by_client_is_by_image_where_all_have_every_class_alike() {
    let accuracy = |by_client| {
        let config = TrainConfig {
            by_client,
            train_examples: Some(4000),
            test_examples: Some(1000),
            evaluate_every: 1,
            ..small()
        };
        let mut simulation = Simulation::new(config).unwrap();
        simulation.round(2).unwrap().accuracy.unwrap()
    };
    let (client, image) = (accuracy(true), accuracy(false));
    // Classes are about as frequent in 500 examples of a client as in 1,000 of the test set: the
    // mean of eight clients' frequencies is off by little.
    assert!((client - image).abs() < 0.02, "{client} {image}");
}

/// Of four clients that keep half, every unit is trained by two.
#[test]
fn a_balanced_round_is_trained_by_all_alike() {
    let config = TrainConfig {
        strategy: fedpress_fl::Strategy::Balanced,
        keep: 0.5,
        clients_per_round: 4,
        ..small()
    };
    let mut simulation = Simulation::new(config).unwrap();
    let layout = simulation.coordinator.layout().clone();
    let sent = simulation.send(0, &mut Seconds::default()).unwrap();
    let mut times: Vec<Vec<u32>> = layout.groups().iter().map(|g| vec![0; g.units]).collect();
    for sent in &sent {
        let download = Download::decode(&sent.message, &Default::default()).unwrap();
        let selection = download.header.choice.select(&layout).unwrap();
        for (group, times) in times.iter_mut().enumerate() {
            selection.kept(group).for_each(|unit| times[unit] += 1);
        }
    }
    assert!(times.iter().flatten().all(|n| *n == 2), "{times:?}");
}

/// A Poisson cohort, equal weights, noise by the budget; restarts do not show.
#[test]
fn a_private_training_has_the_noise_of_its_budget() {
    let private = |epsilon| TrainConfig {
        privacy: Some(Budget { epsilon, delta: 1e-5, clip: 0.5 }),
        clients_per_round: 4,
        rounds: 3,
        ..small()
    };
    let config = private(50.0);
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
    let rate = 0.5;
    let noise = |epsilon| private(epsilon).privacy.unwrap().noise_multiplier(rate, 3).unwrap();
    assert!(noise(1.0) > 2.0 * noise(50.0));
    let moved = |epsilon| {
        let mut simulation = Simulation::new(private(epsilon)).unwrap();
        let before = simulation.model().to_vec();
        simulation.round(2).unwrap();
        let pairs = before.iter().zip(simulation.model());
        let squares = |(a, b): (&Parameter, &Parameter)| -> f64 {
            a.values.iter().zip(&b.values).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        pairs.map(squares).sum::<f64>() / simulation.coordinator.layout().n_values() as f64
    };
    // Of 10,000 values: five errors of a mean of squares. What clients send adds up to 8 / 4 times the clip.
    let n = Simulation::new(private(1.0)).unwrap().coordinator.layout().n_values() as f64;
    let deviation = noise(0.5) * 0.5 / 4.0;
    let signal = 1.0 / n;
    let found = moved(0.5);
    let expected = deviation * deviation;
    let slack = 5.0 * expected * (2.0 / n).sqrt() + signal + 2.0 * (signal * expected).sqrt();
    assert!((found - expected).abs() < slack, "{found} {expected}");
    let mut through = Simulation::new(config.clone()).unwrap();
    through.round(2).unwrap();
    let mut restored = Simulation::restore(config, &through.save().unwrap()).unwrap();
    assert_eq!(through.round(1).unwrap().bytes_up, restored.round(2).unwrap().bytes_up);
    assert_eq!(through.model(), restored.model());
    let feedback =
        TrainConfig { feedback: true, up: "identity|q=4,nearest".into(), ..private(1.0) };
    assert!(Simulation::new(feedback).is_err());
}

/// Integers take their bits, and train.
#[test]
fn integers_train_as_floats_do() {
    let run = |integers| {
        let config = TrainConfig {
            integers,
            scope: fedpress_fl::Scope::Round,
            train_examples: Some(800),
            test_examples: Some(300),
            rounds: 6,
            evaluate_every: 6,
            weighting: fedpress_fl::Weighting::Uniform,
            ..small()
        };
        let mut simulation = Simulation::new(config).unwrap();
        for _ in 0..6 {
            simulation.round(2).unwrap();
        }
        let bytes: u64 = simulation.records().iter().map(|record| record.bytes_up).sum();
        let values = simulation.n_shared() as f64 * 48.0;
        (simulation.records()[5].accuracy.unwrap(), 8.0 * bytes as f64 / values)
    };
    let (plain, bits) = run(None);
    let (integers, fewer) = run(Some(Integers { bits: 16, clip: 2.0 }));
    assert!(bits > 32.0 && (16.0..16.5).contains(&fewer), "{bits} {fewer}");
    // 300 images: five errors of a difference of proportions at the worst.
    assert!(integers > plain - 5.0 * (0.5f64 / 300.0).sqrt(), "{integers} {plain}");
}
