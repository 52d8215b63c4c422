//! Uploads of features: what a hostile client can send to a server's store.

use crate::input::Input;
use crate::{MEMORY, options};
use fedpress::Simd;
use fedpress_fl::{
    FeatureSpecs, FeatureStore, FeatureWriter, Features, LogitWriter, Logits, RoundingSeed,
    StoreOptions, Upload, decode_logits,
};

const CLIENT: u64 = 3;
const IDS: [u32; 5] = [9, 2, 70_000, 0, 4];
const CLASSES: usize = 3;
const SHAPE: [usize; 3] = [4, 9, 9];

/// Arbitrary bytes as an answer; then right uploads whose records were dropped, doubled or changed,
/// with right checks, as the first of a client and as a later one: each is taken whole or changes
/// nothing, and the right upload is welcome afterwards.
pub fn exchange(data: &[u8]) {
    let _ = decode_logits(data, &options(Simd::Auto));
    let mut input = Input::new(data);
    let _ = decode_logits(&input.forged(&answer()), &options(Simd::Auto));

    let limits = StoreOptions {
        decode_memory: MEMORY,
        max_message_bytes: 1 << 16,
        max_samples: 16,
        ..StoreOptions::new(1, &SHAPE, CLASSES)
    };
    let mut store = FeatureStore::open(limits).unwrap();
    for round in 0..3 {
        let cuts = input.cuts();
        let first = store.samples(CLIENT).is_empty();
        let right = upload(round, first);
        let before = contents(&store);
        match in_pieces(&mut store, round, &input.forged(&right), &cuts) {
            Upload::Taken { samples } => assert_eq!(samples, store.samples(CLIENT).len()),
            other => assert_eq!(contents(&store), before, "{other:?}"),
        }
        let first = store.samples(CLIENT).is_empty();
        if first || store.samples(CLIENT) == [0, 2, 4, 9, 70_000] {
            let right = store.receive(CLIENT, round + 10, &upload(round + 10, first)).unwrap();
            assert_eq!(right, Upload::Taken { samples: IDS.len() });
        }
        assert!(contents(&store).1.iter().all(|value| value.is_finite()));
    }
}

fn in_pieces(store: &mut FeatureStore, round: u64, bytes: &[u8], cuts: &[usize]) -> Upload {
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let cut = cut.clamp(at, bytes.len());
        match store.receive(CLIENT, round, &bytes[at..cut]).unwrap() {
            Upload::More => at = cut,
            done => return done,
        }
    }
    store.forget(CLIENT);
    Upload::More
}

/// Samples, features and logits, labels of the client.
fn contents(store: &FeatureStore) -> (Vec<u32>, Vec<f32>, Vec<u16>) {
    let ids = store.samples(CLIENT).to_vec();
    let samples: Vec<_> = ids.iter().map(|id| (CLIENT, *id)).collect();
    let (mut values, mut logits, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    store.read(&samples, &mut values, &mut logits, &mut labels).unwrap();
    values.extend(logits);
    (ids, values, labels)
}

fn upload(round: u64, labelled: bool) -> Vec<u8> {
    let shape = SHAPE.to_vec();
    let header = Features { run: 1, round, client: CLIENT, shape, classes: CLASSES };
    let specs = FeatureSpecs::default();
    let mut writer = FeatureWriter::new(Vec::new(), header, specs, 7, RoundingSeed(5)).unwrap();
    for ids in IDS.chunks(4) {
        let n = ids.len();
        let values: Vec<f32> = (0..n * 324).map(|i| (i % 17) as f32 - 8.0).collect();
        let labels = &[1, 0, 2, 1][..n];
        writer.batch(ids, &values, &vec![0.5; n * CLASSES], labelled.then_some(labels)).unwrap();
    }
    writer.finish().unwrap()
}

fn answer() -> Vec<u8> {
    let header = Logits { run: 1, round: 0, client: CLIENT, classes: CLASSES };
    let spec = fedpress::Spec::lossless();
    let mut writer = LogitWriter::new(Vec::new(), header, spec, 7, RoundingSeed(5)).unwrap();
    for ids in IDS.chunks(2) {
        writer.batch(ids, &vec![0.25; ids.len() * CLASSES]).unwrap();
    }
    writer.finish().unwrap()
}
