use super::*;
use crate::{LocalTraining, Partition};

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
    let tier = |share, keep| Tier { share, keep };
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
