//! FedGKT as a whole: it learns, repeats itself, goes on where it was stopped, and waits for whom it
//! is told to.

use super::edge::{Cycle, Teacher};
use super::*;
use crate::train::{Algorithm, Architecture, Augment, LayerSpec, LocalTraining, Network};

fn config() -> TrainConfig {
    let mut config = TrainConfig::of(Algorithm::FedGkt);
    (config.train_examples, config.test_examples) = (Some(120), Some(50));
    (config.clients, config.rounds, config.seed) = (3, 3, 7);
    (config.local.batch, config.gkt.training.batch, config.gkt.training.epochs) = (20, 20, 2);
    config.local.learning_rate = 0.01;
    config.gkt.training.learning_rate = 0.01;
    config
}

/// The log without what depends on the machine.
fn log(simulation: &GktSimulation) -> Vec<RoundRecord> {
    let plain =
        |record: &RoundRecord| RoundRecord { seconds: Default::default(), ..record.clone() };
    simulation.records().iter().map(plain).collect()
}

fn bits(parameters: &[Parameter]) -> Vec<u32> {
    parameters.iter().flat_map(|p| p.values.iter().map(|x| x.to_bits())).collect()
}

fn run(config: &TrainConfig, threads: usize) -> GktSimulation {
    let mut simulation = GktSimulation::new(config.clone()).unwrap();
    while !simulation.is_done() {
        simulation.round(threads).unwrap();
    }
    simulation
}

fn asynchronous() -> TrainConfig {
    let mut config = config();
    config.rounds = 6;
    config.gkt.pace = Pace { quorum: Some(1), lead: 1, staleness: 3, ..Pace::default() };
    config.gkt.clock = Clock { spread: 1.0, server_speed: 1e10, ..Clock::default() };
    config
}

#[test]
fn the_server_learns_from_features_alone() {
    let mut config = config();
    (config.train_examples, config.test_examples) = (Some(600), Some(200));
    (config.rounds, config.gkt.training.epochs) = (6, 3);
    let simulation = run(&config, 2);
    let (first, last) = (&simulation.records()[0], &simulation.records()[5]);
    let own = last.gkt.as_ref().unwrap().client_accuracy.unwrap();
    // Ten classes; the clients' own networks have a tenth of the server's parameters.
    assert!(last.accuracy.unwrap() > 0.5, "{last:?}");
    assert!(last.accuracy.unwrap() > own && last.accuracy > first.accuracy, "{last:?}");
}

/// What the uploads have: ids, features and logits, and labels in the first one.
#[test]
fn labels_travel_once() {
    let simulation = run(&config(), 2);
    for uploads in simulation.uploads.values() {
        let names = uploads.each_ref().map(|upload| {
            let tensors = fedpress::decode(upload, &DecodeOptions::default()).unwrap();
            tensors.into_iter().map(|tensor| tensor.name).collect::<Vec<_>>()
        });
        assert_eq!(names[0], ["0/ids", "0/labels", "0/features", "0/logits"]);
        assert_eq!(names[1], ["0/ids", "0/features", "0/logits"]);
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    for config in [config(), asynchronous()] {
        let (one, two) = (run(&config, 1), run(&config, 2));
        assert_eq!(log(&one), log(&two));
        assert_eq!(bits(one.server()), bits(two.server()));
        assert_eq!(bits(one.client(2).unwrap()), bits(two.client(2).unwrap()));
    }
}

#[test]
fn a_training_goes_on_where_it_was_stopped() {
    for mut config in [config(), asynchronous()] {
        config.gkt.augment = Augment::CropFlip;
        let whole = run(&config, 2);
        let shorter = TrainConfig { rounds: 2, evaluate_every: 1, ..config.clone() };
        let saved = run(&shorter, 2).save().unwrap();
        let mut resumed = GktSimulation::restore(config.clone(), &saved).unwrap();
        while !resumed.is_done() {
            resumed.round(1).unwrap();
        }
        assert_eq!(log(&resumed), log(&whole));
        assert_eq!(bits(resumed.server()), bits(whole.server()));
        let other = TrainConfig { seed: 8, ..config.clone() };
        assert!(GktSimulation::restore(other, &saved).is_err());
        for cut in [0, 10, saved.len() / 2, saved.len() - 1] {
            assert!(GktSimulation::restore(config.clone(), &saved[..cut]).is_err());
        }
    }
}

#[test]
fn features_in_files_give_the_same_result_as_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut spilled = config();
    spilled.gkt.memory = 0;
    spilled.gkt.folder = Some(folder.path().to_owned());
    assert_eq!(bits(run(&spilled, 2).server()), bits(run(&config(), 2).server()));
    let mut full = config();
    full.gkt.memory = 0;
    assert!(GktSimulation::new(full).unwrap().round(1).is_err());
}

#[test]
fn everyone_waits_for_the_slowest_only_where_told_to() {
    let mut synchronous = asynchronous();
    synchronous.gkt.pace = Pace::default();
    let (waiting, free) = (run(&synchronous, 2), run(&asynchronous(), 2));
    let last = |s: &GktSimulation| s.records().last().unwrap().gkt.clone().unwrap();
    let (waiting_end, free_end) = (last(&waiting), last(&free));
    assert!(free_end.clock < waiting_end.clock, "{free_end:?} {waiting_end:?}");
    let share = |r: &GktRecord| r.client_idle / (3.0 * r.clock);
    assert!(share(&free_end) < share(&waiting_end), "{free_end:?} {waiting_end:?}");
    assert!(waiting.records().iter().all(|r| r.gkt.as_ref().unwrap().clients == 3));
    assert!(free.records().iter().any(|r| r.gkt.as_ref().unwrap().clients < 3));
    assert!(free.records().iter().any(|r| r.updates < 3));
}

#[test]
fn clients_that_vanish_do_not_stop_the_others() {
    let mut config = asynchronous();
    (config.rounds, config.gkt.pace) = (8, Pace { deadline: Some(5.0), ..Pace::default() });
    config.gkt.pace.staleness = 1;
    config.gkt.clock.vanish = 0.08;
    let simulation = run(&config, 2);
    let clients = |r: &RoundRecord| r.gkt.as_ref().unwrap().clients;
    let counts: Vec<usize> = simulation.records().iter().map(clients).collect();
    assert_eq!(counts[0], 3);
    assert!((1..3).contains(counts.last().unwrap()), "{counts:?}");
    config.gkt.clock.vanish = 0.99;
    let mut nobody = GktSimulation::new(config.clone()).unwrap();
    let error = (0..8).find_map(|_| nobody.round(1).err()).unwrap();
    assert!(error.to_string().contains("no client is left"), "{error}");
    config.gkt.pace.deadline = None;
    assert!(GktSimulation::new(config).is_err());
}

/// A pair without batch norm, whose logits are the same in training and evaluation.
fn plain_pair() -> SplitModel {
    let conv = |name: &str, out| LayerSpec::Conv {
        name: name.into(),
        out,
        kernel: 3,
        stride: 2,
        padding: 1,
        bias: true,
    };
    let end = |name: &str| [LayerSpec::GlobalMean, LayerSpec::Dense { name: name.into(), out: 10 }];
    let client = [conv("stem", 4), LayerSpec::Relu].into_iter().chain(end("own"));
    let client = Architecture::new([1, 16, 16], client.collect()).unwrap();
    let server = [conv("c", 4), LayerSpec::Relu].into_iter().chain(end("fc"));
    let server = Architecture::new([4, 8, 8], server.collect()).unwrap();
    SplitModel::new(client, 2, server).unwrap()
}

/// The published code looks logits up by the number of the batch, in loaders that shuffle, and
/// varies images anew in each pass: its teacher speaks of other pixels. Here a client that is taught
/// its own logits has nothing to learn from them, in whatever order and view.
#[test]
fn the_teacher_has_seen_the_same_pixels() {
    let (model, device) = (plain_pair(), cpu());
    let (data, _) = crate::train::procedural(1, 40, 10).unwrap();
    let shard: Vec<u32> = (0..40).rev().collect();
    let local = LocalTraining { batch: 16, max_steps: Some(1), ..LocalTraining::default() };
    let specs = FeatureSpecs { features: Spec::lossless(), logits: Spec::lossless() };
    let mut parameters = model.client().initial_parameters(3);
    // So that views differ in what is made of them.
    parameters[2].values.iter_mut().for_each(|x| *x *= 20.0);
    let loss = |view: u64, teacher: Option<u64>, weight| {
        let gkt = GktConfig {
            augment: Augment::CropFlip,
            client_kl_weight: weight,
            ..GktConfig::default()
        };
        let mut cycle = Cycle {
            model: &model,
            data: &data,
            shard: &shard,
            local: &local,
            gkt: &gkt,
            specs: &specs,
            device: &device,
            seed: 5,
            client: 0,
            cycle: 0,
            parameters: &parameters,
            teacher: None,
        };
        let samples: Vec<u32> = (0..40).collect();
        let logits = |view| {
            let (images, _) = cycle.images(&samples, view, &device).unwrap();
            let network = Network::new(model.client(), &parameters, &device).unwrap();
            network.forward(images).try_into_vec_as::<f32>().unwrap()
        };
        let teacher = teacher.map(|of| Teacher { view, logits: logits(of) });
        cycle.teacher = teacher.as_ref();
        cycle.train().unwrap().loss
    };
    let alone = loss(4, Some(4), 0.0);
    let taught = loss(4, Some(4), 1000.0);
    // f32 keeps a KL of zero within about 1e-5; T^2 and the weight make 0.1 of it.
    assert!((taught - alone).abs() < 0.2, "{taught} {alone}");
    let other_view = loss(4, Some(5), 1000.0);
    assert!(other_view > alone + 1.0, "{other_view} {alone}");
}

#[test]
fn a_pair_is_the_extractor_and_then_the_server() {
    let model = plain_pair();
    let (client, server) =
        (model.client().initial_parameters(1), model.server().initial_parameters(2));
    let pair = Pair::new(&model, &client, &server, &cpu()).unwrap();
    let joined = model.joined().unwrap();
    let both: Vec<Parameter> = client[..2].iter().chain(&server).cloned().collect();
    let network = Network::new(&joined, &both, &cpu()).unwrap();
    let (data, _) = crate::train::procedural(1, 5, 1).unwrap();
    let (images, _) = data.batch(&data.indices(), &cpu()).unwrap();
    let found = pair.forward(images.clone()).try_into_vec_as::<f32>().unwrap();
    assert_eq!(found, network.forward(images).try_into_vec_as::<f32>().unwrap());
    let evaluated = pair.evaluate(&model, &data, &data.indices()).unwrap();
    assert_eq!(evaluated.examples, 5);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let changes: [fn(&mut TrainConfig); 9] = [
        |c| c.gkt.temperature = 0.0,
        |c| (c.gkt.server_ce_weight, c.gkt.server_kl_weight) = (0.0, 0.0),
        |c| c.gkt.client_kl_weight = f64::NAN,
        |c| c.gkt.pace.quorum = Some(0),
        |c| c.gkt.pace.quorum = Some(4),
        |c| c.gkt.pace.deadline = Some(-1.0),
        |c| c.gkt.clock.client_speed = 0.0,
        |c| c.gkt.training.epochs = 0,
        |c| c.model = Some("mnist-cnn".into()),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut config = config();
        change(&mut config);
        let error = GktSimulation::new(config).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{i}");
    }
}

#[test]
fn a_file_of_fedgkt_starts_from_its_defaults() {
    let text =
        "algorithm = \"fedgkt\"\nclients = 4\n[gkt.training]\nepochs = 5\n[local]\nbatch = 9\n";
    let config = TrainConfig::from_toml(text).unwrap();
    let mut expected = TrainConfig::of(Algorithm::FedGkt);
    (expected.clients, expected.gkt.training.epochs, expected.local.batch) = (4, 5, 9);
    assert_eq!(config, expected);
    assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
    let error =
        TrainConfig::from_toml("algorithm = \"fedgkt\"\n[gkt]\ntemprature = 3\n").unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
}
