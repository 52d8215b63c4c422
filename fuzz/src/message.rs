//! Federated messages: what a hostile client can send to a server.

use crate::input::Input;
use crate::{MEMORY, options};
use fedpress::Simd;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Averaging, Broadcast, Choice, Coordinator, DeltaOptions, Digest,
    Download, IntegerOptions, IntegerSpec, Layout, Parameter, PrivateSeed, Received, Replica,
    RoundOptions, RoundingSeed, Weighting,
};
use std::sync::Arc;

const LAYOUT: &str = r#"
    [groups]
    hidden = 64
    [[parameters]]
    name = "in"
    axes = ["hidden", "20"]
    [[parameters]]
    name = "out"
    axes = ["10", "hidden"]
    inputs = [1]
"#;

const CLIENT: u64 = 3;

/// Arbitrary bytes as a message; then a right update whose records were dropped, doubled or changed,
/// with right checks, at an aggregator: it is folded, or nothing of the sums changes. Either way the
/// right update of another client is welcome afterwards. The same where updates are clipped and kept, and where
/// they are integers.
pub fn message(data: &[u8]) {
    let _ = fedpress_fl::message::decode(data, &options(Simd::Auto));
    let limits = AggregatorOptions {
        decode_memory: MEMORY,
        max_update_bytes: 1 << 16,
        ..AggregatorOptions::default()
    };
    update(data, limits.clone());
    let (averaging, weighting) = (Averaging::Median, Weighting::Uniform);
    update(data, AggregatorOptions { averaging, weighting, max_norm: 1.0, ..limits.clone() });
    let integers = IntegerOptions::new(11, 2, 1.0).spec(64 * 30, None, 0).unwrap();
    let (averaging, submodel) = (Averaging::ZeroFilled, Some(Choice::full()));
    let integers = Some((integers, 7));
    update(data, AggregatorOptions { averaging, weighting, submodel, integers, ..limits });
}

fn update(data: &[u8], limits: AggregatorOptions) {
    let mut input = Input::new(data);
    let layout = Arc::new(Layout::from_toml(LAYOUT).unwrap());
    let (broadcast, sent) = broadcast(&layout, limits.integers.map(|(spec, _)| spec));
    let download = Download::decode(&sent, &options(Simd::Auto)).unwrap();
    let update = |client| download.update(client, &download.base, 600, RoundingSeed(5)).unwrap();

    let mut aggregator = Aggregator::new(layout.clone(), 1, 0, limits.clone()).unwrap();
    for client in [CLIENT, CLIENT + 1] {
        aggregator.expect(client, Digest::of(&sent), &broadcast.choice).unwrap();
    }
    let before = aggregator.save().unwrap();
    let cuts = input.cuts();
    let forged = input.forged(&update(CLIENT));
    let received = in_pieces(&mut aggregator, &forged, &cuts);
    if !matches!(received, Received::Folded { .. }) {
        assert_eq!(aggregator.save().unwrap(), before, "{received:?}");
    }
    let right = aggregator.receive(CLIENT + 1, &update(CLIENT + 1));
    let samples = if limits.integers.is_some() { 1 } else { 600 };
    assert_eq!(right, Received::Folded { samples });

    let state = input.forged(&aggregator.save().unwrap());
    if let Ok(mut restored) =
        Aggregator::restore(&state, layout.clone(), limits, &options(Simd::Auto))
    {
        let _ = aggregator.merge(&state, &options(Simd::Auto));
        let _ = restored.receive(CLIENT, &update(CLIENT));
        restored.save().unwrap();
    }
    delta(&layout, &mut input);
}

/// A delta whose records were dropped, doubled or changed, with right checks, and a replica: it is brought to
/// the version, or it is as before and takes the right delta.
fn delta(layout: &Layout, input: &mut Input<'_>) {
    let mut rounds = RoundOptions::new(1, 7, PrivateSeed::from_number(3));
    (rounds.n_updates, rounds.min_updates) = (1, 1);
    rounds.deltas = Some(DeltaOptions::default());
    let zeros = |i: usize| Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
    let mut model: Vec<Parameter> = (0..layout.params().len()).map(zeros).collect();
    model.iter_mut().flat_map(|p| &mut p.values).zip(0..).for_each(|(v, i)| *v = 0.1 * i as f32);
    let mut server = Coordinator::new(layout.clone(), model, rounds).unwrap();
    let mut replica = Replica::new(layout.clone());
    server.begin(&[CLIENT], 0).unwrap();
    let first = replica.decode(&server.send(CLIENT).unwrap(), &options(Simd::Auto)).unwrap();
    let mut trained = first.base.clone();
    trained[0].values.iter_mut().for_each(|v| *v += 0.3);
    server
        .receive(CLIENT, &first.update(CLIENT, &trained, 5, RoundingSeed(5)).unwrap(), 0)
        .unwrap();
    server.begin(&[CLIENT], 1).unwrap();
    let sent = server.send(CLIENT).unwrap();

    let before = replica.clone();
    if replica.decode(&input.forged(&sent), &options(Simd::Auto)).is_err() {
        assert_eq!(replica, before);
        replica.decode(&sent, &options(Simd::Auto)).unwrap();
    }
}

fn in_pieces(aggregator: &mut Aggregator, bytes: &[u8], cuts: &[usize]) -> Received {
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let cut = cut.clamp(at, bytes.len());
        match aggregator.receive(CLIENT, &bytes[at..cut]) {
            Received::More => at = cut,
            done => return done,
        }
    }
    aggregator.forget(CLIENT);
    Received::More
}

fn broadcast(layout: &Layout, integers: Option<IntegerSpec>) -> (Broadcast, Vec<u8>) {
    let broadcast = Broadcast {
        run: 1,
        round: 0,
        client: None,
        seed: 7,
        choice: Choice::full(),
        gains: vec![],
        up: "hadamard,block=256|q=4|zstd".parse().unwrap(),
        task: String::new(),
        integers,
    };
    let fill = |i: usize| {
        let mut parameter = Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
        let values = parameter.values.iter_mut();
        values.zip((0..17u8).cycle()).for_each(|(v, i)| *v = f32::from(i) - 8.0);
        parameter
    };
    let model: Vec<_> = (0..2).map(fill).collect();
    let sent =
        broadcast.encode(&model, &fedpress::Spec::lossless().into(), RoundingSeed(5)).unwrap();
    (broadcast, sent)
}
