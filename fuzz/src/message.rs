//! Federated messages: what a hostile client can send to a server.

use crate::input::Input;
use crate::{MEMORY, options};
use fedpress::Simd;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Averaging, Broadcast, Choice, Digest, Download, Layout,
    Parameter, Received, Weighting,
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
/// right update of another client is welcome afterwards. The same where updates are clipped and kept.
pub fn message(data: &[u8]) {
    let _ = fedpress_fl::message::decode(data, &options(Simd::Auto));
    let limits = AggregatorOptions {
        decode_memory: MEMORY,
        max_update_bytes: 1 << 16,
        ..AggregatorOptions::default()
    };
    update(data, limits.clone());
    let (averaging, weighting) = (Averaging::Median, Weighting::Uniform);
    update(data, AggregatorOptions { averaging, weighting, max_norm: 1.0, ..limits });
}

fn update(data: &[u8], limits: AggregatorOptions) {
    let mut input = Input::new(data);
    let layout = Arc::new(Layout::from_toml(LAYOUT).unwrap());
    let (broadcast, sent) = broadcast(&layout);
    let download = Download::decode(&sent, &options(Simd::Auto)).unwrap();
    let update = |client| download.update(client, &download.base, 600, 5).unwrap();

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
    assert_eq!(right, Received::Folded { samples: 600 });

    let state = input.forged(&aggregator.save().unwrap());
    if let Ok(mut restored) = Aggregator::restore(&state, layout, limits, &options(Simd::Auto)) {
        let _ = aggregator.merge(&state, &options(Simd::Auto));
        let _ = restored.receive(CLIENT, &update(CLIENT));
        restored.save().unwrap();
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

fn broadcast(layout: &Layout) -> (Broadcast, Vec<u8>) {
    let broadcast = Broadcast {
        run: 1,
        round: 0,
        client: None,
        seed: 7,
        choice: Choice::full(),
        gains: vec![],
        up: "hadamard,block=256|q=4|zstd".parse().unwrap(),
        task: String::new(),
    };
    let fill = |i: usize| {
        let mut parameter = Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
        let values = parameter.values.iter_mut();
        values.zip((0..17u8).cycle()).for_each(|(v, i)| *v = f32::from(i) - 8.0);
        parameter
    };
    let model: Vec<_> = (0..2).map(fill).collect();
    let sent = broadcast.encode(&model, &fedpress::Spec::lossless().into(), 5).unwrap();
    (broadcast, sent)
}
