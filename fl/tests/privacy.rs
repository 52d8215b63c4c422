//! Laws of differential privacy in rounds: what one client can change is bounded, and hidden by noise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::{
    Accountant, Action, Aggregator, AggregatorOptions, Averaging, Broadcast, Choice, ClientPrivacy,
    Cohort, Coordinator, Download, Excess, IntegerOptions, Noise, NoiseBy, Parameter, Policy,
    Privacy, PrivateSeed, Received, RoundOptions, RoundingSeed, Scope, Strategy, Weighting,
};

const CLIP: f64 = 1.0;

fn privacy(noise_multiplier: f64, noise: NoiseBy) -> Option<Privacy> {
    Some(Privacy { clip: CLIP, noise_multiplier, noise })
}

/// Each of a population with probability n / population.
fn private_options(n_updates: usize, population: u64, noise_multiplier: f64) -> RoundOptions {
    RoundOptions {
        cohort: Cohort::Poisson { population },
        privacy: privacy(noise_multiplier, NoiseBy::Server),
        ..options(n_updates, 0, 0.0)
    }
}

fn integers(bits: u8, clients: u32) -> Option<IntegerOptions> {
    Some(IntegerOptions::new(bits, clients, CLIP))
}

fn clipping(client: u64) -> ClientPrivacy {
    ClientPrivacy::new(PrivateSeed::from_number(client)).with_clip(CLIP)
}

/// A round in which everyone is asked, and these answer by `train`.
fn round(
    server: &mut Coordinator,
    answering: &[u64],
    train: impl Fn(u64, &[Parameter]) -> Vec<Parameter>,
) -> Vec<f64> {
    let before = server.model().to_vec();
    let asked = begin(server, &CLIENTS, 0);
    for (client, message) in asked {
        if answering.contains(&client) {
            let download = Download::decode(&message, &Default::default()).unwrap();
            let trained = train(client, &download.base);
            let update = download.private_update(client, &trained, 9, &clipping(client)).unwrap();
            assert_eq!(
                server.receive(client, &update, 0).unwrap()[0],
                Action::Taken { client, samples: if server_is_integer(server) { 1 } else { 9 } }
            );
        } else {
            server.gone(client, 0).unwrap();
        }
    }
    assert!(!server.is_open());
    change(&before, server.model())
}

fn server_is_integer(server: &Coordinator) -> bool {
    server.options().integers.is_some()
}

fn mean_square(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64
}

/// Mean 0 and this deviation, five standard deviations of either either way.
#[track_caller]
fn assert_gaussian(noise: &[f64], deviation: f64) {
    let n = noise.len() as f64;
    let mean = noise.iter().sum::<f64>() / n / deviation;
    assert!(mean.abs() < 5.0 / n.sqrt(), "mean {mean}");
    let square = mean_square(noise) / (deviation * deviation);
    assert!((square - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "mean square {square}");
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn unchanged(_: u64, base: &[Parameter]) -> Vec<Parameter> {
    base.to_vec()
}

/// Whoever adds it and however updates travel: noise_multiplier times the clip, over how many were
/// expected.
#[test]
fn noise_has_the_deviation_that_is_asked_for() {
    for z in [0.5, 4.0] {
        let mut server = plain_server(private_options(6, 6, z)).unwrap();
        assert_gaussian(&round(&mut server, &CLIENTS, unchanged), z * CLIP / 6.0);
        // Of integers the clip is a little more, by what rounding adds.
        let options = RoundOptions { integers: integers(24, 8), ..private_options(6, 6, z) };
        let mut server = plain_server(options).unwrap();
        assert_gaussian(&round(&mut server, &CLIENTS, unchanged), z * CLIP / 6.0);
        // All of it by all clients, who have a share each.
        let options = RoundOptions {
            integers: integers(24, 8),
            min_updates: 6,
            privacy: privacy(z, NoiseBy::Clients),
            ..private_options(6, 6, z)
        };
        let mut server = plain_server(options).unwrap();
        assert_gaussian(&round(&mut server, &CLIENTS, unchanged), z * CLIP / 6.0);
    }
}

/// What was trained is there under the noise, over how many were expected.
#[test]
fn sums_are_divided_by_how_many_were_expected() {
    let z = 2f64.powi(-10);
    for integer in [None, integers(24, 8)] {
        let options = RoundOptions { integers: integer, ..private_options(6, 6, z) };
        let of = |answering: &[u64]| {
            round(&mut plain_server(options.clone()).unwrap(), answering, |client, base| {
                let mut trained = base.to_vec();
                trained[0].values[client as usize] += 0.5;
                trained
            })
        };
        let some = of(&CLIENTS[..2]);
        // Two of six answered: each is a sixth.
        for (at, moved) in some.iter().enumerate() {
            let expected = if [3, 5].contains(&at) { 0.5 / 6.0 } else { 0.0 };
            assert!((moved - expected).abs() < 6.0 * z * CLIP / 6.0 + 1e-5, "{at}: {moved}");
        }
        // Nobody answered: there is noise, and the round is committed.
        assert_gaussian(&of(&[]), z * CLIP / 6.0);
    }
}

/// A client that sends whatever it likes moves the model no further than by the clip, whether it clips or
/// not and however it is encoded.
#[test]
fn no_client_moves_the_sum_further_than_the_clip() {
    let z = 2f64.powi(-10);
    for (up, integer) in [("none", None), ("rotation|lm=2", None), ("none", integers(24, 8))] {
        let up: fedpress::Spec = up.parse().unwrap();
        let options =
            RoundOptions { up: up.clone().into(), integers: integer, ..private_options(6, 6, z) };
        let mut server = plain_server(options).unwrap();
        let before = server.model().to_vec();
        let asked = begin(&mut server, &CLIENTS, 0);
        let (client, message) = &asked[0];
        let download = Download::decode(message, &Default::default()).unwrap();
        let mut trained = trained(&download.base, 1);
        trained.iter_mut().flat_map(|p| &mut p.values).for_each(|v| *v *= 1e4);
        // It does not clip.
        let update = download.update(*client, &trained, 1_000_000, RoundingSeed(5)).unwrap();
        server.receive(*client, &update, 0).unwrap();
        CLIENTS.iter().for_each(|client| drop(server.gone(*client, 0).unwrap()));
        let moved = change(&before, server.model());
        let noise = z * CLIP / 6.0 * (moved.len() as f64).sqrt();
        let expected = (CLIP / 6.0).hypot(noise);
        assert!((norm(&moved) / expected - 1.0).abs() < 0.01, "{up}: {}", norm(&moved));
    }
}

/// The same sums get the same noise, after a restart, too; a client more or less, and all of it is
/// another: subtracting two results leaves no sum bare.
#[test]
fn noise_depends_on_what_it_hides() {
    let options = private_options(6, 6, 1.0);
    let result = |answering: &[u64], restart: bool| {
        let mut server = plain_server(options.clone()).unwrap();
        let before = server.model().to_vec();
        for (client, message) in begin(&mut server, &CLIENTS, 0) {
            if restart {
                let (layout, state) = (server.layout().clone(), server.save().unwrap());
                let options = options.clone();
                server =
                    Coordinator::restore(&state, layout, options, &Default::default()).unwrap();
            }
            match answering.contains(&client) {
                true => drop(server.receive(client, &untouched(client, &message), 0).unwrap()),
                false => drop(server.gone(client, 0).unwrap()),
            }
        }
        change(&before, server.model())
    };
    let all = result(&CLIENTS, false);
    assert_eq!(all, result(&CLIENTS, true));
    // An update of zeros adds nothing to sums: they are the same.
    assert_eq!(all, result(&CLIENTS[1..], false));
    let mut server = plain_server(options).unwrap();
    let other = round(&mut server, &CLIENTS, |client, base| {
        let mut trained = base.to_vec();
        trained[0].values[0] += if client == 3 { 1e-6 } else { 0.0 };
        trained
    });
    // Of independent noise the difference is sqrt(2) as large.
    assert_gaussian(&minus(&all[..2560], &other[..2560]), CLIP / 6.0 * 2f64.sqrt());
    // And another round has another.
    let next = round(&mut server, &CLIENTS, unchanged);
    assert_gaussian(&minus(&next, &all), CLIP / 6.0 * 2f64.sqrt());
}

/// Of 300 rounds of a population of 40, each asked with probability 1/4, for itself.
#[test]
fn a_poisson_cohort_is_drawn_client_by_client() {
    let clients: Vec<u64> = (0..40).collect();
    let mut server = plain_server(private_options(10, 40, 1.0)).unwrap();
    let (mut sizes, mut times, mut together) = (Vec::new(), [0.0; 40], 0.0);
    let rounds = 300;
    for _ in 0..rounds {
        let asked = server.begin(&clients, 0).unwrap();
        sizes.push(asked.len() as f64);
        asked.iter().for_each(|client| times[*client as usize] += 1.0);
        together += f64::from(asked.contains(&3) && asked.contains(&4));
        asked.iter().for_each(|client| drop(server.gone(*client, 0).unwrap()));
        server.tick(0).unwrap();
    }
    let rounds = f64::from(rounds);
    let mean = sizes.iter().sum::<f64>() / rounds;
    let variance = sizes.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / (rounds - 1.0);
    // Binomial: 40/4, and 40 * 3/16.
    assert!((mean - 10.0).abs() < 5.0 * (7.5 / rounds).sqrt(), "{mean}");
    assert!((variance / 7.5 - 1.0).abs() < 5.0 * (2.0 / rounds).sqrt(), "{variance}");
    for (client, times) in times.iter().enumerate() {
        assert!((times / rounds - 0.25).abs() < 5.0 * (0.1875 / rounds).sqrt(), "{client}");
    }
    assert!((together / rounds - 0.0625).abs() < 5.0 * (0.0586 / rounds).sqrt(), "{together}");
}

#[test]
fn a_round_may_ask_nobody_and_is_committed() {
    let mut server = plain_server(private_options(1, 1_000_000, 1.0)).unwrap();
    let before = server.model().to_vec();
    assert_eq!(server.begin(&CLIENTS, 0).unwrap(), []);
    let actions = server.tick(0).unwrap();
    assert!(matches!(actions[..], [Action::Committed(summary)] if summary.n_folded == 0));
    assert_gaussian(&change(&before, server.model()), CLIP);
    // Without privacy such a round moves nothing.
    let cohort = Cohort::Poisson { population: 1_000_000 };
    let mut plain = plain_server(RoundOptions { cohort, ..options(1, 0, 0.0) }).unwrap();
    plain.begin(&CLIENTS, 0).unwrap();
    plain.tick(0).unwrap();
    assert_eq!(plain.model(), before);
}

/// It ends when all have answered, not when as many have as were expected.
#[test]
fn a_poisson_round_waits_for_all_it_asked() {
    let mut server = plain_server(private_options(2, 2, 1.0)).unwrap();
    let asked = begin(&mut server, &CLIENTS, 0);
    assert_eq!(asked.len(), CLIENTS.len());
    for (i, (client, message)) in asked.iter().enumerate() {
        assert!(server.is_open(), "{i}");
        server.receive(*client, &untouched(*client, message), 0).unwrap();
    }
    assert!(!server.is_open());
    // Integers that have room for two ask two; which ones differs by round.
    let options = RoundOptions { integers: integers(16, 2), ..private_options(2, 2, 1.0) };
    let mut narrow = plain_server(options).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let asked = narrow.begin(&CLIENTS, 0).unwrap();
        assert_eq!(asked.len(), 2);
        asked.iter().for_each(|client| drop(narrow.gone(*client, 0).unwrap()));
        seen.extend(asked);
    }
    assert_eq!(seen.len(), CLIENTS.len());
}

/// Without enough clients to share the noise there is too little, and nothing is released.
#[test]
fn noise_by_clients_needs_enough_of_them() {
    let options = RoundOptions {
        integers: integers(24, 8),
        min_updates: 4,
        privacy: privacy(1.0, NoiseBy::Clients),
        ..private_options(6, 6, 1.0)
    };
    let mut server = plain_server(options.clone()).unwrap();
    let before = server.model().to_vec();
    round(&mut server, &CLIENTS[..3], unchanged);
    assert_eq!(server.model(), before);
    // Four have all of the noise between them, six a little more.
    let mut server = plain_server(options).unwrap();
    assert_gaussian(&round(&mut server, &CLIENTS[..4], unchanged), CLIP / 6.0);
    let more = CLIP / 6.0 * (6.0f64 / 4.0).sqrt();
    assert_gaussian(&round(&mut server, &CLIENTS, unchanged), more);
}

/// A submodel that all of a round have gets noise where it is, and nowhere else; where each has its own,
/// who was asked would show by where there is none, so there is some everywhere.
#[test]
fn noise_is_wherever_a_client_may_have_trained() {
    let moved = |scope| {
        let policy = policy(Strategy::Random, scope, 0.5);
        let mut server =
            plain_server(RoundOptions { policy, ..private_options(6, 6, 1.0) }).unwrap();
        let change = round(&mut server, &CLIENTS[..1], unchanged);
        change.iter().filter(|v| **v != 0.0).count() as f64 / change.len() as f64
    };
    assert!((moved(Scope::Round) - 0.5).abs() < 0.01);
    assert_eq!(moved(Scope::Client), 1.0);
}

#[test]
fn what_rounds_tell_is_counted() {
    let mut server = plain_server(private_options(2, 20, 1.5)).unwrap();
    for _ in 0..7 {
        let asked = server.begin(&CLIENTS, 0).unwrap();
        asked.iter().for_each(|client| drop(server.gone(*client, 0).unwrap()));
        server.tick(0).unwrap();
    }
    let mut expected = Accountant::new();
    expected.add(0.1, 1.5, 7).unwrap();
    assert_eq!(server.accountant().unwrap(), Some(expected));
    assert_eq!(plain_server(options(2, 1, 0.0)).unwrap().accountant().unwrap(), None);
}

#[test]
fn options_that_are_not_private_are_refused() {
    let good = || private_options(6, 6, 1.0);
    plain_server(good()).unwrap();
    let with =
        |clip, noise_multiplier| Some(Privacy { clip, noise_multiplier, noise: NoiseBy::Server });
    let averaging = Averaging::Median;
    let robust =
        AggregatorOptions { averaging, weighting: Weighting::Uniform, ..Default::default() };
    let shared = RoundOptions {
        integers: integers(24, 8),
        min_updates: 6,
        privacy: privacy(1.0, NoiseBy::Clients),
        ..good()
    };
    plain_server(shared.clone()).unwrap();
    let other_clip = Some(IntegerOptions::new(24, 8, 2.0 * CLIP));
    let own = Policy { scope: Scope::Client, ..Policy::full() };
    let balanced = policy(Strategy::Balanced, Scope::Client, 0.5);
    for bad in [
        RoundOptions { policy: balanced, ..good() },
        RoundOptions { cohort: Cohort::Fixed, min_updates: 1, ..good() },
        RoundOptions { cohort: Cohort::Poisson { population: 5 }, ..good() },
        RoundOptions { over_selection: 0.1, ..good() },
        RoundOptions { min_updates: 1, ..good() },
        RoundOptions { privacy: with(0.0, 1.0), ..good() },
        RoundOptions { privacy: with(f64::INFINITY, 1.0), ..good() },
        RoundOptions { privacy: with(1.0, 0.0), ..good() },
        RoundOptions { privacy: with(1.0, f64::NAN), ..good() },
        RoundOptions { aggregator: robust, ..good() },
        RoundOptions { privacy: privacy(1.0, NoiseBy::Clients), min_updates: 6, ..good() },
        RoundOptions { min_updates: 0, ..shared.clone() },
        RoundOptions { integers: other_clip, ..shared.clone() },
        RoundOptions { integers: integers(8, 8), ..shared.clone() },
        RoundOptions { policy: own, ..shared },
        RoundOptions { min_updates: 0, ..options(2, 0, 0.0) },
    ] {
        let error = plain_server(bad).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let (layout, model) = (layout(), model(&layout(), 1));
    let error = Coordinator::new(fedpress_fl::Layout::clone(&layout), model, good()).err().unwrap();
    assert_eq!(error.parameter(), Some("norm.mean"));
}

/// An aggregator by itself.
#[test]
fn noise_needs_a_bound_and_a_divisor() {
    let noise = |deviation| Some(Noise { deviation, seed: PrivateSeed::from_number(1) });
    let good = AggregatorOptions {
        averaging: Averaging::ZeroFilled,
        weighting: Weighting::Uniform,
        divisor: Some(4),
        max_norm: 1.0,
        noise: noise(1.0),
        ..Default::default()
    };
    let new = |options| Aggregator::new(plain_layout(), RUN, ROUND, options);
    let sums = new(good.clone()).unwrap();
    let noise_of: Vec<f64> = (0..3).flat_map(|i| sums.mean(i)).map(Option::unwrap).collect();
    assert_gaussian(&noise_of, 0.25);
    for bad in [
        AggregatorOptions { divisor: None, ..good.clone() },
        AggregatorOptions { divisor: Some(0), ..good.clone() },
        AggregatorOptions { max_norm: f64::INFINITY, ..good.clone() },
        AggregatorOptions { excess_norm: Excess::Refuse, ..good.clone() },
        AggregatorOptions { weighting: Weighting::Samples, ..good.clone() },
        AggregatorOptions { averaging: Averaging::Counted, ..good.clone() },
        AggregatorOptions { noise: noise(0.0), ..good.clone() },
    ] {
        assert_eq!(*new(bad).err().unwrap().kind(), ErrorKind::InvalidArgument);
    }
    // A leaf without noise is no leaf of this tree.
    let without = new(AggregatorOptions { noise: None, ..good }).unwrap().save().unwrap();
    let mut sums = sums;
    let error = sums.merge(&without, &Default::default()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
}

/// Clip, noise, compress: what is compressed is the noisy update, all of it, whatever the spec.
#[test]
fn a_client_adds_its_noise_before_compression() {
    let layout = plain_layout();
    for up in ["none", "rotation|lm=6"] {
        let header = Broadcast { up: up.parse().unwrap(), ..broadcast(Choice::full(), "none") };
        let message =
            header.encode(&model(&layout, 1), &lossless().into(), RoundingSeed(5)).unwrap();
        let download = Download::decode(&message, &Default::default()).unwrap();
        let decoded = |privacy: &ClientPrivacy| {
            let update = download.private_update(1, &trained(&download.base, 1), 1, privacy);
            let (_, delta) =
                fedpress_fl::message::decode(&update.unwrap(), &Default::default()).unwrap();
            values(&delta)
        };
        let exact = change(&download.base, &trained(&download.base, 1));
        let clipped = decoded(&clipping(1));
        let cosine = clipped.iter().zip(&exact).map(|(a, b)| a * b).sum::<f64>();
        assert!((norm(&clipped) / CLIP - 1.0).abs() < 0.01, "{up}: {}", norm(&clipped));
        assert!(cosine / norm(&clipped) / norm(&exact) > 0.99);
        let noisy = decoded(&clipping(1).with_deviation(0.3));
        let noise =
            minus(&noisy, &exact.iter().map(|v| v * CLIP / norm(&exact)).collect::<Vec<_>>());
        // What compression loses of it is a thousandth.
        assert!((mean_square(&noise).sqrt() / 0.3 - 1.0).abs() < 0.08, "{up}");
    }
    // A server that takes it has to leave room: its own bound still holds.
    let options = AggregatorOptions { max_norm: CLIP, ..Default::default() };
    let mut sums = Aggregator::new(layout.clone(), RUN, ROUND, options).unwrap();
    let header = Broadcast { up: lossless().into(), ..broadcast(Choice::full(), "none") };
    let message = header.encode(&model(&layout, 1), &lossless().into(), RoundingSeed(5)).unwrap();
    let download = Download::decode(&message, &Default::default()).unwrap();
    sums.expect(1, download.digest, &Choice::full()).unwrap();
    let privacy = clipping(1).with_deviation(0.3);
    let update = download.private_update(1, &download.base, 1, &privacy).unwrap();
    assert_eq!(sums.receive(1, &update), Received::Folded { samples: 1 });
    assert_eq!(sums.n_clipped(), 1);
}
