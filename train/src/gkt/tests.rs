//! FedGKT as a whole: it learns, repeats itself, goes on where it was stopped, and waits for whom it
//! is told to.

use super::edge::{Cycle, Teacher};
use super::*;
use crate::{Algorithm, Architecture, Augment, LayerSpec, LocalTraining, Network};
use fedpress::ErrorKind;

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
    let mut simulation = GktSimulation::new(asynchronous()).unwrap();
    let mut seen = [false; 3];
    for _ in 0..4 {
        simulation.round(2).unwrap();
        for (k, upload) in &simulation.uploads {
            let tensors = fedpress::decode(upload, &DecodeOptions::default()).unwrap();
            let names: Vec<String> = tensors.into_iter().map(|tensor| tensor.name).collect();
            match simulation.clients[*k as usize].uploads {
                1 => assert_eq!(names, ["0/ids", "0/labels", "0/features", "0/logits"]),
                _ => {
                    assert_eq!(names, ["0/ids", "0/features", "0/logits"]);
                    seen[*k as usize] = true;
                }
            }
        }
    }
    assert!(seen.contains(&true), "nobody has sent twice");
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
fn a_client_that_diverges_drops_out_and_the_others_go_on() {
    for config in [config(), asynchronous()] {
        let mut simulation = GktSimulation::new(config.clone()).unwrap();
        simulation.clients[1].parameters[0].values.fill(f32::NAN);
        simulation.round(2).unwrap();
        assert!(simulation.clients[1].lost);
        let mut resumed = GktSimulation::restore(config, &simulation.save().unwrap()).unwrap();
        for simulation in [&mut simulation, &mut resumed] {
            while !simulation.is_done() {
                simulation.round(1).unwrap();
            }
        }
        let missing = simulation.records().iter().map(|record| record.clients_missing);
        assert_eq!(missing.collect::<Vec<_>>()[..2], [1, 0]);
        let n_clients = |record: &RoundRecord| record.gkt.as_ref().unwrap().clients;
        assert!(simulation.records().iter().all(|record| n_clients(record) <= 2));
        assert_eq!(log(&resumed), log(&simulation));
    }
    let mut simulation = GktSimulation::new(config()).unwrap();
    simulation.clients.iter_mut().for_each(|c| c.parameters[0].values.fill(f32::NAN));
    assert!(simulation.round(1).unwrap_err().is_divergence());
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
    let error = GktSimulation::new(full).err().unwrap();
    assert!(error.to_string().contains("gkt.folder"), "{error}");
}

/// Numbers that no training has saved are refused, and break nothing.
#[test]
fn states_of_no_training_are_refused() {
    let config = asynchronous();
    let shorter = TrainConfig { rounds: 2, ..config.clone() };
    let saved = run(&shorter, 2).save().unwrap();
    let tensors = fedpress::decode(&saved, &DecodeOptions::default()).unwrap();
    let forged = |from: &str, to: &str| {
        let mut tensors = tensors.clone();
        let state = tensors.iter_mut().find(|tensor| tensor.name == "state").unwrap();
        let text = String::from_utf8(state.data.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        state.data = text.replacen(from, to, 1).into_bytes();
        state.shape = vec![state.data.len()];
        let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
        let seeds = fedpress::Seeds::new(0, 0);
        let options = fedpress::EncodeOptions::new(seeds);
        let bytes = fedpress::encode(&views, &Spec::lossless(), &options).unwrap();
        GktSimulation::restore(config.clone(), &bytes).map(drop)
    };
    forged("\"now\"", "\"now\"").unwrap();
    for (from, to) in [
        ("\"client\":", "\"client\":99"),
        ("\"answered\":", "\"answered\":9"),
        ("\"arrived\":", "\"arrived\":9"),
        ("\"now\":", "\"now\":-"),
        ("\"starting\":[", "\"starting\":[77"),
        ("\"teacher\":null", "\"teacher\":5"),
        ("\"time\":", "\"time\":-"),
    ] {
        let error = forged(from, to).err();
        let error = error.unwrap_or_else(|| panic!("{from} {to}: taken"));
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{from} {to}: {error}");
    }
}

/// Of a synchronous training without loss everything can be told beforehand: how long each cycle
/// and each turn takes, and so who waits for how long.
#[test]
fn the_clock_is_that_of_the_formulas() {
    let mut config = asynchronous();
    (config.gkt.pace, config.up, config.rounds) = (Pace::default(), "none".into(), 1);
    let (speed, turn_speed) = (config.gkt.clock.up, config.gkt.clock.server_speed);
    let mut simulation = GktSimulation::new(config.clone()).unwrap();
    simulation.round(1).unwrap();
    let model = simulation.model();
    let bytes = simulation.records()[0].bytes_up as f64 / 3.0;
    let working = |client: &client::Client| {
        (3.0 + 1.0) * 40.0 * model.client().multiply_adds() as f64 / client.speed + bytes / speed
    };
    let times: Vec<f64> = simulation.clients.iter().map(working).collect();
    let slowest = times.iter().fold(0.0, |a: f64, b| a.max(*b));
    let work = (3 * 2 * 120 + 120) as f64 * model.server().multiply_adds() as f64 / turn_speed;
    let gkt = simulation.records()[0].gkt.clone().unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 2e-3 * b;
    // Messages differ by a few bytes, which ids and checks take.
    assert!(close(gkt.clock, slowest + work), "{gkt:?} {slowest} {work}");
    assert!(close(gkt.server_idle, slowest), "{gkt:?} {slowest}");
    let idle: f64 = times.iter().map(|time| slowest + work - time).sum();
    assert!(close(gkt.client_idle, idle), "{gkt:?} {idle}");
}

/// What is left in a folder by other trainings is of no concern.
#[test]
fn a_folder_that_was_used_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [7, 8] {
        let mut spilled = config();
        (spilled.seed, spilled.gkt.memory, spilled.rounds) = (seed, 0, 1);
        spilled.gkt.folder = Some(folder.path().to_owned());
        spilled.clients = 4 - (seed as usize - 7);
        run(&spilled, 2);
    }
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
    while !nobody.is_done() {
        nobody.round(1).unwrap();
    }
    assert!((1..8).contains(&nobody.records().len()), "{:?}", nobody.records().len());
    assert!(nobody.records().last().unwrap().accuracy.is_some());
    assert!(nobody.round(1).is_err());
    let resumed = GktSimulation::restore(config.clone(), &nobody.save().unwrap()).unwrap();
    assert!(resumed.is_done());
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
    let (data, _) = crate::procedural(1, 40, 10).unwrap();
    let shard: Vec<u32> = (0..40).rev().collect();
    let local = LocalTraining { batch: 16, max_steps: Some(1), ..LocalTraining::default() };
    let specs = FeatureSpecs { features: Spec::lossless(), logits: Spec::lossless() };
    let mut parameters = model.client().initial_parameters(3);
    // So that views differ in what is made of them.
    parameters[2].values.iter_mut().for_each(|x| *x *= 20.0);
    let run = |cycle: u64, parameters: &[Parameter], teacher: Option<&Teacher>, weight: f64| {
        let gkt = GktConfig {
            augment: Augment::CropFlip,
            client_kl_weight: weight,
            ..GktConfig::default()
        };
        let cycle = Cycle {
            model: &model,
            data: &data,
            shard: &shard,
            local: &local,
            gkt: &gkt,
            specs: &specs,
            device: &device,
            seed: 5,
            client: 0,
            cycle,
            parameters,
            teacher,
        };
        cycle.run().unwrap()
    };
    // A server that thinks what the client thinks: its answer is the client's own logits.
    let first = run(0, &parameters, None, 0.0);
    let tensors = fedpress::decode(&first.message, &DecodeOptions::default()).unwrap();
    let logits = tensors.iter().find(|tensor| tensor.name == "0/logits").unwrap();
    let logits = logits.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let teacher = Teacher { cycle: 0, logits };
    let trained = &first.trained.parameters;
    let loss = |teacher, weight| run(1, trained, Some(teacher), weight).trained.loss;
    let alone = loss(&teacher, 0.0);
    let taught = loss(&teacher, 1000.0);
    // f32 keeps a KL of zero within about 1e-5; T^2 and the weight make 0.1 of it.
    assert!((taught - alone).abs() < 0.2, "{taught} {alone}");
    let of_another_view = Teacher { cycle: 1, ..teacher.clone() };
    let (taught, alone) = (loss(&of_another_view, 1000.0), loss(&of_another_view, 0.0));
    assert!(taught > alone + 1.0, "{taught} {alone}");
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
    let (data, _) = crate::procedural(1, 5, 1).unwrap();
    let (images, _) = data.batch(&data.indices(), &cpu()).unwrap();
    let found = pair.forward(images.clone()).unwrap().try_into_vec_as::<f32>().unwrap();
    assert_eq!(found, network.forward(images).try_into_vec_as::<f32>().unwrap());
    let evaluated = pair.evaluate(&model, &data, &data.indices()).unwrap();
    assert_eq!(evaluated.examples, 5);
    let coarse = pair.with_features(&"identity|q=1,nearest".parse().unwrap());
    let (images, _) = data.batch(&data.indices(), &cpu()).unwrap();
    assert_ne!(coarse.forward(images).unwrap().try_into_vec_as::<f32>().unwrap(), found);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let changes: [fn(&mut TrainConfig); 13] = [
        |c| c.keep = 0.5,
        |c| c.feedback = true,
        |c| c.seed = u64::MAX,
        |c| c.gkt.evaluated_clients = Some(0),
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

/// What is taught changes what is learned, on both sides, and repeats itself; a ramp begins with nothing.
#[test]
fn lessons_can_be_weighed() {
    let with = |change: &dyn Fn(&mut GktConfig)| {
        let mut config = config();
        config.partition = crate::Partition::Shards { per_client: 2 };
        config.rounds = 2;
        change(&mut config.gkt);
        assert_eq!(TrainConfig::from_toml(&config.to_toml()).unwrap(), config);
        let simulation = run(&config, 2);
        (bits(simulation.server()), bits(simulation.client(0).unwrap()))
    };
    let plain = with(&|_| {});
    let alone = with(&|gkt| (gkt.client_kl_weight, gkt.server_kl_weight) = (0.0, 0.0));
    let (confident, seen) = (with(&|gkt| gkt.confident = true), with(&|gkt| gkt.seen = true));
    let later = with(&|gkt| gkt.ramp = 100);
    let never = with(&|gkt| gkt.ramp = 1 << 62);
    assert_eq!(confident, with(&|gkt| gkt.confident = true));
    let all = [&plain, &alone, &confident, &seen, &later];
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other.0 != one.0));
    }
    // In the first turn there is no lesson; in the second one so small that no number has it.
    assert_eq!(never, alone);
}

#[test]
fn a_ramp_rises_from_nothing_to_all() {
    let risen = |ramp, turn| GktConfig { ramp, ..GktConfig::default() }.risen(turn);
    assert_eq!([0, 1, 4, 9].map(|turn| risen(4, turn)), [0.0, 0.25, 1.0, 1.0]);
    assert_eq!(risen(0, 0), 1.0);
}
