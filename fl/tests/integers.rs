//! Laws of integer updates: the sum of the codes is the code of the sum, whoever adds them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::{
    Action, Aggregator, AggregatorOptions, Averaging, Broadcast, Choice, ClientPrivacy,
    Coordinator, Digest, Download, IntegerOptions, IntegerSpec, IntegerSum, Parameter, PrivateSeed,
    Reason, Received, RoundOptions, RoundingSeed, Scope, Strategy, Weighting,
};
use proptest::prelude::*;
use std::sync::Arc;

/// The updates of these tests have norms up to this.
const CLIP: f64 = 4.0;

fn spec(bits: u8, clients: u32, n: usize) -> IntegerSpec {
    IntegerOptions::new(bits, clients, CLIP).spec(n, None, 0).unwrap()
}

/// A download that asks for integers, of the full model.
fn download(integers: IntegerSpec) -> Download {
    let layout = plain_layout();
    let up = lossless().into();
    let header = Broadcast { up, integers: Some(integers), ..broadcast(Choice::full(), "none") };
    let message = header.encode(&model(&layout, 1), &lossless().into(), RoundingSeed(5)).unwrap();
    Download::decode(&message, &Default::default()).unwrap()
}

fn n_values() -> usize {
    values(&model(&plain_layout(), 1)).len()
}

fn secret(number: u64) -> ClientPrivacy {
    ClientPrivacy::new(PrivateSeed::from_number(number))
}

fn codes(download: &Download, client: u64) -> Vec<u32> {
    download.codes(client, &trained(&download.base, client), &secret(client)).unwrap()
}

/// The number that a code modulo 2^bits stands for.
fn centered(code: u32, bits: u8) -> i64 {
    let code = i64::from(code);
    if code >> (bits - 1) == 1 { code - (1 << bits) } else { code }
}

fn sum_of(spec: IntegerSpec, all: &[Vec<u32>]) -> IntegerSum {
    let mut sum = IntegerSum::new(spec, 11, ROUND, all[0].len()).unwrap();
    all.iter().for_each(|codes| sum.add(codes).unwrap());
    sum
}

fn mean_of(spec: IntegerSpec, all: &[Vec<u32>]) -> Vec<f32> {
    sum_of(spec, all).mean(all.len() as f64, || 0).unwrap()
}

proptest! {
    #![proptest_config(cases(24))]

    /// As integers, without a wrap; and so as values, up to the rounding of f32.
    #[test]
    fn the_sum_of_clients_is_the_sum_of_their_codes(
        bits in 6u8..=32,
        n_clients in 1u64..12,
        spare in 0u32..20,
    ) {
        let spec = spec(bits, n_clients as u32 + spare, n_values());
        let download = download(spec);
        let all: Vec<_> = (0..n_clients).map(|client| codes(&download, client)).collect();
        let sum = sum_of(spec, &all);
        for (i, sum) in sum.sums().iter().enumerate() {
            let exact: i64 = all.iter().map(|codes| centered(codes[i], bits)).sum();
            prop_assert_eq!(centered(*sum, bits), exact);
        }
        let mean = mean_of(spec, &all);
        let each: Vec<_> = all.iter().map(|codes| mean_of(spec, std::slice::from_ref(codes))).collect();
        for (i, mean) in mean.iter().enumerate() {
            let expected = each.iter().map(|v| f64::from(v[i])).sum::<f64>() / n_clients as f64;
            prop_assert!((f64::from(*mean) - expected).abs() < 1e-5);
        }
    }

    /// What a secure aggregation adds for each pair of clients, one it and the other its negative, is gone
    /// in the sum; and every client's masked codes are uniform integers.
    #[test]
    fn pairwise_masks_cancel(bits in 6u8..=32, n_clients in 2usize..6, seed: u64) {
        let spec = spec(bits, n_clients as u32, n_values());
        let download = download(spec);
        let plain: Vec<_> = (0..n_clients as u64).map(|client| codes(&download, client)).collect();
        let mask = u32::MAX >> (32 - bits);
        let mut masked = plain.clone();
        for (a, b) in (0..n_clients).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let shared = |i: u64| fedpress::derive_key(&[seed, a as u64, b as u64, i]) as u32;
            let add = |code: &mut u32, i| *code = code.wrapping_add(shared(i)) & mask;
            masked[a].iter_mut().zip(0..).for_each(|(code, i)| add(code, i));
            let subtract = |code: &mut u32, i| *code = code.wrapping_sub(shared(i)) & mask;
            masked[b].iter_mut().zip(0..).for_each(|(code, i)| subtract(code, i));
        }
        prop_assert_eq!(sum_of(spec, &masked), sum_of(spec, &plain));
        // Uniform: the mean of numbers below 2^bits, five standard deviations either way.
        let n = n_values() as f64;
        let mean = masked[0].iter().map(|c| f64::from(*c)).sum::<f64>() / n / f64::from(mask);
        prop_assert!((mean - 0.5).abs() < 5.0 / (12.0 * n).sqrt());
    }
}

/// Over 400 secrets the mean of what is decoded is the update, coordinate by coordinate: the squares of
/// what is left, each over its variance, are a chi-square variable of as many degrees of freedom as there are values.
#[test]
fn rounding_by_own_draws_is_unbiased() {
    let (n, draws) = (n_values(), 400);
    let spec = spec(5, 5, n);
    assert_eq!(spec.levels, 3);
    let download = download(spec);
    let trained = trained(&download.base, 1);
    let all: Vec<_> =
        (0..draws).map(|i| download.codes(1, &trained, &secret(i)).unwrap()).collect();
    let decoded: Vec<_> =
        all.iter().map(|codes| mean_of(spec, std::slice::from_ref(codes))).collect();
    let exact = change(&download.base, &trained);
    let mut statistic = 0.0;
    for (i, exact) in exact.iter().enumerate() {
        let of = || decoded.iter().map(|v| f64::from(v[i]));
        let mean = of().sum::<f64>() / draws as f64;
        let variance = of().map(|v| (v - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
        statistic += (mean - exact).powi(2) / (variance / draws as f64);
    }
    // Student's t of so many draws has a variance of 1.005; six standard deviations.
    let n = n as f64;
    assert!((statistic / n - 1.005).abs() < 6.0 * (2.0 / n).sqrt(), "{}", statistic / n);
}

#[test]
fn the_error_is_that_of_the_step() {
    let n = n_values();
    for bits in [8, 12, 16] {
        let spec = spec(bits, 10, n);
        let download = download(spec);
        let trained = trained(&download.base, 1);
        let decoded = mean_of(spec, &[codes(&download, 1)]);
        let exact = change(&download.base, &trained);
        let errors: Vec<f64> = decoded.iter().zip(&exact).map(|(a, b)| f64::from(*a) - b).collect();
        // Rounding at random errs by up to a step; by sqrt(1/6) of it where what it rounds is spread.
        let root_mean_square = norm(&errors) / (n as f64).sqrt() / spec.step(n);
        assert!((0.35..0.45).contains(&root_mean_square), "{bits}: {root_mean_square}");
    }
}

#[test]
fn longer_updates_are_clipped_and_others_not() {
    let spec = spec(24, 2, n_values());
    let download = download(spec);
    let exact = change(&download.base, &trained(&download.base, 1));
    assert!(norm(&exact) < CLIP);
    let decode = |times: f32| -> Vec<f64> {
        let mut far = download.base.clone();
        let trained = trained(&download.base, 1);
        let pairs =
            far.iter_mut().zip(&trained).flat_map(|(f, t)| f.values.iter_mut().zip(&t.values));
        pairs.for_each(|(f, t)| *f += times * (t - *f));
        let codes = download.codes(1, &far, &secret(1)).unwrap();
        mean_of(spec, &[codes]).iter().map(|v| f64::from(*v)).collect()
    };
    assert!((norm(&decode(1.0)) / norm(&exact) - 1.0).abs() < 1e-3);
    let far = decode(1000.0);
    assert!((norm(&far) / CLIP - 1.0).abs() < 1e-3, "{}", norm(&far));
    let cosine = far.iter().zip(&exact).map(|(a, b)| a * b).sum::<f64>();
    assert!(cosine / norm(&far) / norm(&exact) > 0.999);
}

// A whole round.

fn integer_options(bits: u8, clients: u32, n_updates: usize) -> RoundOptions {
    let integers = Some(IntegerOptions::new(bits, clients, CLIP));
    RoundOptions { integers, ..options(n_updates, 1, 0.0) }
}

fn answer_by(client: u64, message: &[u8]) -> Vec<u8> {
    let download = Download::decode(message, &Default::default()).unwrap();
    let trained = trained(&download.base, client);
    download.private_update(client, &trained, 100, &secret(client)).unwrap()
}

/// The model after a round in which all answer, and what its mean should have been.
fn round(mut server: Coordinator) -> (Vec<f64>, Vec<f64>) {
    let before = server.model().to_vec();
    let asked = begin(&mut server, &CLIENTS, 0);
    let layout = server.layout().clone();
    let mut expected = vec![0.0; values(&before).len()];
    for (client, message) in &asked {
        let download = Download::decode(message, &Default::default()).unwrap();
        let selection = download.header.choice.select(&layout).unwrap();
        let mut full = before.clone();
        fedpress_fl::merge(&layout, &selection, &trained(&download.base, *client), &mut full)
            .unwrap();
        let own = change(&before, &full);
        expected.iter_mut().zip(own).for_each(|(e, c)| *e += c / asked.len() as f64);
        server.receive(*client, &answer_by(*client, message), 1).unwrap();
    }
    assert!(!server.is_open());
    (change(&before, server.model()), expected)
}

#[test]
fn a_round_of_integers_moves_the_model_by_the_mean() {
    let server = plain_server(integer_options(24, 8, 6)).unwrap();
    let (found, expected) = round(server);
    let error: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    assert!(norm(&error) < 1e-3 * norm(&expected));
    // With fewer bits there is more error, and still no more than that of the step.
    let (found, expected) = round(plain_server(integer_options(10, 8, 6)).unwrap());
    let error: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    assert!((1e-3..0.2).contains(&(norm(&error) / norm(&expected))));
}

/// The bytes are those of the codes, and little more.
#[test]
fn an_update_takes_its_bits() {
    for bits in [8, 13, 24] {
        let mut server = plain_server(integer_options(bits, 8, 6)).unwrap();
        let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
        let bytes = answer_by(client, &message).len();
        let packed = (n_values() * usize::from(bits)).div_ceil(8);
        assert!((packed..packed + 200).contains(&bytes), "{bits}: {bytes}");
    }
}

#[test]
fn a_submodel_of_the_round_is_summed_and_one_of_the_client_refused() {
    let shared = policy(Strategy::Random, Scope::Round, 0.5);
    let (found, expected) = round(
        plain_server(RoundOptions { policy: shared.clone(), ..integer_options(24, 8, 6) }).unwrap(),
    );
    let n_moved = |v: &[f64]| v.iter().filter(|v| **v != 0.0).count();
    assert_eq!(n_moved(&found), n_moved(&expected));
    assert!(n_moved(&found) < n_values() * 3 / 5);
    let error: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    assert!(norm(&error) < 1e-3 * norm(&expected));

    let own = policy(Strategy::Random, Scope::Client, 0.5);
    let refused = |result: fedpress_fl::Result<Coordinator>| {
        let Err(error) = result else { panic!("taken") };
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    };
    let options = |policy| RoundOptions { policy, ..integer_options(24, 8, 6) };
    assert!(refused(plain_server(options(own.clone()))).contains("one submodel"));
    let mut tiers = shared.clone();
    tiers.clients.insert(3, 0.25.into());
    refused(plain_server(options(tiers)));
    let mut server = plain_server(options(shared)).unwrap();
    assert_eq!(*server.set_policy(own).unwrap_err().kind(), ErrorKind::InvalidArgument);
    round(server);
    // Statistics have units of their own.
    refused(Coordinator::new(
        fedpress_fl::Layout::clone(&layout()),
        model(&layout(), 1),
        integer_options(24, 8, 6),
    ));
}

/// Whoever sums: the server by order of arrival, leaves of a tree, after a restart, a secure aggregation.
#[test]
fn who_sums_and_in_what_order_does_not_show() {
    let options = integer_options(12, 8, 6);
    let start = || plain_server(options.clone()).unwrap();
    let mut flat = start();
    let asked = begin(&mut flat, &CLIENTS, 0);
    let answers: Vec<_> = asked.iter().map(|(c, message)| (*c, answer_by(*c, message))).collect();
    for (client, bytes) in &answers {
        flat.receive(*client, bytes, 1).unwrap();
    }

    let mut backwards = start();
    begin(&mut backwards, &CLIENTS, 0);
    for (i, (client, bytes)) in answers.iter().rev().enumerate() {
        if i == 3 {
            let (layout, state) = (backwards.layout().clone(), backwards.save().unwrap());
            backwards =
                Coordinator::restore(&state, layout, options.clone(), &Default::default()).unwrap();
        }
        backwards.receive(*client, bytes, 1).unwrap();
    }
    assert_eq!(backwards.model(), flat.model());

    let mut root = start();
    begin(&mut root, &CLIENTS, 0);
    for part in answers.chunks(2) {
        let options = root.aggregator_options().unwrap();
        let mut leaf = Aggregator::new(plain_layout(), RUN, root.round(), options).unwrap();
        for (client, bytes) in part {
            let (_, message) = asked.iter().find(|(c, _)| c == client).unwrap();
            leaf.expect(
                *client,
                Digest::of(message),
                &Download::decode(message, &Default::default()).unwrap().header.choice,
            )
            .unwrap();
            leaf.receive(*client, bytes);
        }
        root.merge(&leaf.save().unwrap(), 1, &Default::default()).unwrap();
    }
    assert_eq!(root.model(), flat.model());

    let mut secure = start();
    begin(&mut secure, &CLIENTS, 0);
    let mut sums = vec![0u32; n_values()];
    for (client, message) in &asked {
        let download = Download::decode(message, &Default::default()).unwrap();
        let codes = download.codes(*client, &trained(&download.base, *client), &secret(*client));
        sums.iter_mut().zip(codes.unwrap()).for_each(|(sum, code)| *sum = sum.wrapping_add(code));
    }
    let actions = secure.receive_sum(&CLIENTS, &sums, 1).unwrap();
    assert_eq!(actions.len(), CLIENTS.len() + 1);
    assert!(matches!(actions.last(), Some(Action::Committed(summary)) if summary.n_folded == 6));
    assert_eq!(secure.model(), flat.model());
}

/// Written from MESSAGES.md 1.8, but for the rotation, which is FORMAT.md's: codes as they lie in the bytes,
/// and the values that they stand for.
#[test]
fn an_update_is_that_of_the_document() {
    let mut server = plain_server(integer_options(11, 8, 6)).unwrap();
    let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    let download = Download::decode(&message, &Default::default()).unwrap();
    let header = header_body(&message);
    // The last fields of the broadcast.
    let (flag, fields) = header[header.len() - 42..].split_at(1);
    assert_eq!((flag, fields[0]), (&[1][..], 11));
    let u32_at = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().unwrap());
    let f64_at = |at: usize| f64::from_le_bytes(fields[at..at + 8].try_into().unwrap());
    let (levels, clients, clip, range) = (u32_at(1), u32_at(5), f64_at(9), f64_at(17));
    assert_eq!((levels, clients, clip, range), (127, 8, CLIP, 5.0));
    assert_eq!((f64_at(25), f64_at(33)), (f64::INFINITY, 0.0));

    let update = answer_by(client, &message);
    let expected = update_header(RUN, 0, client, download.digest, 1);
    assert_eq!(header_body(&update), expected);
    let tensors = fedpress::decode(&update, &Default::default()).unwrap();
    let [tensor] = &tensors[..] else { panic!("{} tensors", tensors.len()) };
    let n = n_values();
    assert_eq!((&tensor.name[..], tensor.dtype), ("codes", fedpress::DType::U8));
    assert_eq!(tensor.shape, [(11 * n).div_ceil(8)]);
    let bit = |at: usize| u32::from(tensor.data[at / 8] >> (at % 8) & 1);
    let code = |i: usize| (0..11).map(|k| bit(11 * i + k) << k).sum::<u32>();
    let step = clip * range / (n as f64).sqrt() / f64::from(levels);
    let coefficients: Vec<f32> =
        (0..n).map(|i| (centered(code(i), 11) as f64 * step) as f32).collect();
    let seeds = fedpress::Seeds::new(download.header.seed, 0)
        .in_round(0)
        .with_rotation(fedpress::Rotation::Shared);
    let mut basis = fedpress::Coefficients::new(&"rotation".parse().unwrap(), "update/0", &seeds);
    let mut decoded = vec![0.0; n];
    basis.values(&coefficients, &mut decoded).unwrap();

    server.receive(client, &update, 1).unwrap();
    let before = server.model().to_vec();
    for other in CLIENTS.iter().filter(|other| **other != client) {
        server.gone(*other, 1).unwrap();
    }
    let moved = change(&before, server.model());
    assert!(moved.iter().zip(&decoded).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
}

// Hostile input.

/// A client, and its broadcast.
type Asked = (u64, Arc<[u8]>);

/// A round of which the first client has answered, and who was asked.
fn open_round(options: RoundOptions) -> (Coordinator, Vec<Asked>) {
    let mut server = plain_server(options).unwrap();
    let asked = begin(&mut server, &CLIENTS, 0);
    let (client, message) = &asked[0];
    server.receive(*client, &answer_by(*client, message), 1).unwrap();
    (server, asked)
}

/// The update of a client with other codes, as bytes.
fn forged(client: u64, message: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let update = update_header(RUN, 0, client, Digest::of(message), 1);
    let mut encoder = fedpress::Encoder::new(fedpress::EncodeOptions::new(seeds())).unwrap();
    encoder.record(0xA0, &update).unwrap();
    let (shape, dtype) = ([data.len()], fedpress::DType::U8);
    let view = fedpress::TensorView { name, dtype, shape: &shape, data };
    encoder.tensor(&view, &lossless()).unwrap();
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

#[test]
fn codes_that_no_update_makes_are_refused_and_the_round_goes_on() {
    let (mut server, asked) = open_round(integer_options(16, 8, 6));
    let state = server.save().unwrap();
    let (client, message) = &asked[1];
    let packed = |codes: &[i64]| -> Vec<u8> {
        let mut all = vec![0u8; 2 * n_values()];
        for (i, code) in codes.iter().enumerate() {
            all[2 * i..][..2].copy_from_slice(&(*code as u16).to_le_bytes());
        }
        all
    };
    let levels = i64::from(
        Download::decode(message, &Default::default()).unwrap().header.integers.unwrap().levels,
    );
    let mut refused = |bytes: &[u8], reason| {
        assert_eq!(rejected(&server.receive(*client, bytes, 1).unwrap()), reason);
        assert_eq!(server.save().unwrap(), state);
    };
    for bad in [levels + 1, -levels - 1, i64::from(i16::MIN)] {
        refused(&forged(*client, message, "codes", &packed(&[bad])), Reason::OutOfRange);
    }
    let zeros = packed(&[]);
    refused(&forged(*client, message, "codes", &zeros[1..]), Reason::WrongShape);
    refused(&forged(*client, message, "code", &zeros), Reason::WrongShape);
    let update = update_header(RUN, 0, *client, Digest::of(message), 1);
    let values = model(&plain_layout(), 2);
    refused(&stream(&[(0xA0, update.clone())], &values), Reason::WrongShape);
    let mut floats = Parameter::zeros("codes", &[zeros.len()]);
    floats.values.fill(0.5);
    refused(&stream(&[(0xA0, update.clone())], &[floats]), Reason::WrongShape);
    refused(&stream(&[(0xA0, update)], &[]), Reason::WrongShape);

    // The extremes themselves are codes; twice is once too often; who leaves is not waited for.
    let extremes = forged(*client, message, "codes", &packed(&[levels, -levels]));
    assert_eq!(
        server.receive(*client, &extremes, 1).unwrap(),
        [Action::Taken { client: *client, samples: 1 }]
    );
    let again = server.receive(*client, &extremes, 1).unwrap();
    assert_eq!(rejected(&again), Reason::Duplicate);
    let (slow, message) = &asked[2];
    let half = answer_by(*slow, message);
    assert_eq!(server.receive(*slow, &half[..half.len() / 2], 1).unwrap(), []);
    for (client, _) in &asked[2..] {
        server.gone(*client, 2).unwrap();
    }
    assert!(!server.is_open());
    assert!(values_are_finite(server.model()));
}

fn values_are_finite(model: &[Parameter]) -> bool {
    values(model).iter().all(|v| v.is_finite())
}

/// Of odd bits, behind the last code.
#[test]
fn spare_bits_are_zero() {
    let (mut server, asked) = open_round(integer_options(11, 8, 6));
    let (client, message) = &asked[1];
    let mut data = vec![0u8; (11 * n_values()).div_ceil(8)];
    assert_ne!(11 * n_values() % 8, 0);
    *data.last_mut().unwrap() = 0x80;
    let actions = server.receive(*client, &forged(*client, message, "codes", &data), 1).unwrap();
    assert_eq!(rejected(&actions), Reason::Malformed);
}

#[test]
fn headroom_that_would_overflow_is_refused() {
    // Not one level of 200 clients in 8 bits.
    let error = plain_server(integer_options(8, 200, 6)).err().unwrap();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("headroom"), "{error}");
    // More clients a round than fit.
    assert!(plain_server(integer_options(16, 5, 6)).is_err());

    let room_for_two = spec(16, 2, n_values());
    let integers = Some((room_for_two, 11));
    let (averaging, weighting) = (Averaging::ZeroFilled, Weighting::Uniform);
    let submodel = Some(Choice::full());
    let options =
        AggregatorOptions { integers, averaging, weighting, submodel, ..Default::default() };
    let new = || Aggregator::new(plain_layout(), RUN, ROUND, options.clone()).unwrap();
    let download = download(room_for_two);
    let expecting = |clients: &[u64]| {
        let mut sums = new();
        for client in clients {
            sums.expect(*client, download.digest, &Choice::full()).unwrap();
            let update = download.update(*client, &download.base, 1, RoundingSeed(5)).unwrap();
            assert_eq!(sums.receive(*client, &update), Received::Folded { samples: 1 });
        }
        sums
    };
    let mut two = expecting(&[1, 2]);
    let before = two.save().unwrap();
    let too_many = ErrorKind::LimitExceeded { limit: 2, needed: 3 };
    assert_eq!(*two.expect(3, download.digest, &Choice::full()).unwrap_err().kind(), too_many);
    let other = expecting(&[3]).save().unwrap();
    assert_eq!(*two.merge(&other, &Default::default()).unwrap_err().kind(), too_many);
    assert_eq!(two.save().unwrap(), before);
    // Sums of another range are none of these.
    let narrow =
        AggregatorOptions { integers: Some((spec(15, 2, n_values()), 11)), ..options.clone() };
    let narrow = Aggregator::new(plain_layout(), RUN, ROUND, narrow).unwrap().save().unwrap();
    assert_eq!(
        *new().merge(&narrow, &Default::default()).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let error = new().expect(1, download.digest, &random(1, 0.5)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn sums_of_a_secure_aggregation_are_of_clients_that_are_missing() {
    let (mut server, asked) = open_round(integer_options(16, 8, 6));
    let state = server.save().unwrap();
    let (first, second, third) = (asked[0].0, asked[1].0, asked[2].0);
    let sums = vec![0u32; n_values()];
    for (clients, sums) in [
        (vec![second, second], &sums[..]),
        (vec![first, second], &sums[..]),
        (vec![second, 999], &sums[..]),
        (vec![second], &sums[1..]),
    ] {
        let error = server.receive_sum(&clients, sums, 1).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(server.save().unwrap(), state);
    }
    server.receive_sum(&[second, third], &sums, 1).unwrap();
    let actions = server.receive(second, &answer_by(second, &asked[1].1), 1).unwrap();
    assert_eq!(rejected(&actions), Reason::Duplicate);
    // And not where updates are values.
    let mut plain = plain_server(options(6, 1, 0.0)).unwrap();
    begin(&mut plain, &CLIENTS, 0);
    assert!(plain.receive_sum(&[CLIENTS[0]], &sums, 1).is_err());
}

#[test]
fn a_broadcast_whose_integers_contradict_themselves_is_corrupt() {
    let good = spec(16, 8, n_values());
    let header = |integers| {
        let header = Broadcast { integers: Some(integers), ..broadcast(Choice::full(), "none") };
        header.encode(&[], &lossless().into(), RoundingSeed(5)).unwrap()
    };
    Download::decode(&header(good), &Default::default()).unwrap();
    for bad in [
        IntegerSpec { bits: 1, ..good },
        IntegerSpec { bits: 33, ..good },
        IntegerSpec { levels: 0, ..good },
        IntegerSpec { levels: good.levels + 1, ..good },
        IntegerSpec { clients: 0, ..good },
        IntegerSpec { clients: u32::MAX, ..good },
        IntegerSpec { clip: f64::NAN, ..good },
        IntegerSpec { range: 0.0, ..good },
        IntegerSpec { norm: f64::NAN, ..good },
        IntegerSpec { deviation: 2.9, levels: 1, ..good },
        IntegerSpec { deviation: f64::INFINITY, ..good },
    ] {
        let error = Download::decode(&header(bad), &Default::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{bad:?}");
    }
}

#[test]
fn clients_refuse_what_they_cannot_code() {
    let with = download(spec(16, 8, n_values()));
    let mut bad = with.base.clone();
    bad[0].values[3] = f32::NAN;
    for result in
        [with.update(1, &bad, 1, RoundingSeed(1)), with.private_update(1, &bad, 1, &secret(1))]
    {
        assert_eq!(result.unwrap_err().parameter(), Some("big"));
    }
    let noisy = IntegerSpec { levels: 1, deviation: 100.0, ..spec(16, 8, n_values()) };
    let noisy = download(noisy);
    assert!(noisy.update(1, &noisy.base, 1, RoundingSeed(1)).is_err());
    noisy.private_update(1, &noisy.base, 1, &secret(1)).unwrap();
    let header = Broadcast { up: lossless().into(), ..broadcast(Choice::full(), "none") };
    let plain =
        header.encode(&model(&plain_layout(), 1), &lossless().into(), RoundingSeed(5)).unwrap();
    let plain = Download::decode(&plain, &Default::default()).unwrap();
    assert!(plain.codes(1, &plain.base, &secret(1)).is_err());
    let mut feedback = fedpress_fl::Feedback::new(&plain_layout());
    let result = with.update_with_feedback(
        1,
        &with.base,
        1,
        RoundingSeed(1),
        &plain_layout(),
        &mut feedback,
    );
    assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
}
