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
        let policy = TrainConfig { tiers: tiers.clone(), ..small() }.policy();
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
