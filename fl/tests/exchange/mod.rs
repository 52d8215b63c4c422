//! Clients with samples, their uploads, messages written by hand from MESSAGES.md, and all that a
//! store has.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use fedpress::{DType, EncodeOptions, Encoder, Seeds, Spec, TensorView};
use fedpress_fl::{
    FeatureSpecs, FeatureStore, FeatureWriter, Features, Reason, Rejection, RoundingSeed,
    StoreOptions, Upload,
};
use std::path::{Path, PathBuf};

pub const RUN: u64 = 7;
pub const SHAPE: [usize; 3] = [3, 10, 10];
pub const EACH: usize = 300;
pub const CLASSES: usize = 5;

pub fn options() -> StoreOptions {
    StoreOptions { max_samples: 100, max_clients: 4, ..StoreOptions::new(RUN, &SHAPE, CLASSES) }
}

pub fn in_folder(path: &Path, memory: u64) -> StoreOptions {
    StoreOptions { folder: Some(path.to_owned()), memory, ..options() }
}

pub fn open(options: StoreOptions) -> FeatureStore {
    FeatureStore::open(options).unwrap()
}

/// From -1 to 1.
pub fn value(keys: &[u64]) -> f32 {
    fedpress::derive_key(keys) as i64 as f32 / 2f32.powi(63)
}

/// Rectified, so half zeros.
pub fn features(client: u64, round: u64, id: u32) -> Vec<f32> {
    let value = |i| value(&[1, client, round, u64::from(id), i]).max(0.0);
    (0..EACH as u64).map(value).collect()
}

pub fn logits(client: u64, round: u64, id: u32) -> Vec<f32> {
    (0..CLASSES as u64).map(|i| 3.0 * value(&[2, client, round, u64::from(id), i])).collect()
}

pub fn label(client: u64, id: u32) -> u16 {
    (fedpress::derive_key(&[3, client, u64::from(id)]) % CLASSES as u64) as u16
}

/// Not in order, as a client may name them.
pub fn ids(client: u64) -> Vec<u32> {
    (0..7 + client as u32).map(|i| (i * 7919 + 13) % 1000).collect()
}

pub fn header(client: u64, round: u64) -> Features {
    Features { run: RUN, round, client, shape: SHAPE.into(), classes: CLASSES }
}

pub fn specs(features: &str) -> FeatureSpecs {
    FeatureSpecs { features: features.parse().unwrap(), logits: Spec::lossless() }
}

/// An upload of these samples in batches of `batch`.
pub fn upload_of(
    client: u64,
    round: u64,
    ids: &[u32],
    batch: usize,
    spec: &str,
    labelled: bool,
) -> Vec<u8> {
    let header = header(client, round);
    let mut writer =
        FeatureWriter::new(Vec::new(), header, specs(spec), 11, RoundingSeed(0x5eed)).unwrap();
    for ids in ids.chunks(batch) {
        let values: Vec<f32> = ids.iter().flat_map(|id| features(client, round, *id)).collect();
        let logits: Vec<f32> = ids.iter().flat_map(|id| logits(client, round, *id)).collect();
        let labels: Vec<u16> = ids.iter().map(|id| label(client, *id)).collect();
        writer.batch(ids, &values, &logits, labelled.then_some(&labels[..])).unwrap();
    }
    writer.finish().unwrap()
}

/// The client's whole upload; labels go with round 0.
pub fn upload(client: u64, round: u64) -> Vec<u8> {
    upload_of(client, round, &ids(client), 4, "lossless", round == 0)
}

#[track_caller]
pub fn take(store: &mut FeatureStore, client: u64, round: u64) {
    let taken = Upload::Taken { samples: ids(client).len() };
    assert_eq!(store.receive(client, round, &upload(client, round)).unwrap(), taken);
}

/// Client, round, ids, then features, logits and labels in the order of the ids.
pub type Contents = Vec<(u64, u64, Vec<u32>, Vec<u32>, Vec<u32>, Vec<u16>)>;

/// All that can be read from a store.
pub fn contents(store: &FeatureStore) -> Contents {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let read = |(client, round, n): (u64, u64, usize)| {
        let ids = store.samples(client).to_vec();
        assert_eq!(ids.len(), n);
        let samples: Vec<_> = ids.iter().map(|id| (client, *id)).collect();
        let (mut values, mut logits, mut labels) = (vec![0.5], vec![0.5], vec![9]);
        store.read(&samples, &mut values, &mut logits, &mut labels).unwrap();
        assert!(ids.iter().zip(&labels).all(|(id, l)| store.label(client, *id) == Some(*l)));
        (client, round, ids, bits(values), bits(logits), labels)
    };
    store.clients().map(read).collect()
}

/// What a store has to have after lossless uploads of these rounds.
pub fn expected(uploads: &[(u64, u64)]) -> Contents {
    let of = |(client, round): &(u64, u64)| {
        let (client, round) = (*client, *round);
        let mut ids = ids(client);
        ids.sort_unstable();
        let bits = |f: &dyn Fn(u64, u64, u32) -> Vec<f32>| {
            ids.iter().flat_map(|id| f(client, round, *id)).map(f32::to_bits).collect()
        };
        let labels = ids.iter().map(|id| label(client, *id)).collect();
        (client, round, ids.clone(), bits(&features), bits(&logits), labels)
    };
    uploads.iter().map(of).collect()
}

#[track_caller]
pub fn rejection(upload: Upload) -> Rejection {
    match upload {
        Upload::Rejected(rejection) => rejection,
        other => panic!("{other:?}"),
    }
}

/// The body of a header of features, as MESSAGES.md has it.
pub fn header_body(run: u64, round: u64, client: u64, classes: u32, shape: &[u32]) -> Vec<u8> {
    let mut body = vec![0, 4];
    [run, round, client].iter().for_each(|n| body.extend(n.to_le_bytes()));
    body.extend(classes.to_le_bytes());
    body.push(shape.len() as u8);
    shape.iter().for_each(|n| body.extend(n.to_le_bytes()));
    body
}

/// A tensor of a message that is written by hand.
#[derive(Clone, Debug)]
pub struct Raw {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<u64>,
    pub data: Vec<u8>,
}

pub fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The tensors of one batch of an upload: ids, labels, features, logits.
pub fn raw_batch(client: u64, round: u64, batch: u64, ids: &[u32], labelled: bool) -> Vec<Raw> {
    let n = ids.len() as u64;
    let raw = |part: &str, dtype, shape: &[u64], data| Raw {
        name: format!("{batch}/{part}"),
        dtype,
        shape: shape.into(),
        data,
    };
    let values: Vec<f32> = ids.iter().flat_map(|id| features(client, round, *id)).collect();
    let logits: Vec<f32> = ids.iter().flat_map(|id| logits(client, round, *id)).collect();
    let labels = ids.iter().map(|id| label(client, *id) as u8).collect();
    let mut tensors =
        vec![raw("ids", DType::U32, &[n], ids.iter().flat_map(|id| id.to_le_bytes()).collect())];
    if labelled {
        tensors.push(raw("labels", DType::U8, &[n], labels));
    }
    tensors.push(raw("features", DType::F32, &[n, 3, 10, 10], f32s(&values)));
    tensors.push(raw("logits", DType::F32, &[n, CLASSES as u64], f32s(&logits)));
    tensors
}

/// A stream with these records in front of these tensors.
pub fn stream(records: &[(u8, Vec<u8>)], tensors: &[Raw]) -> Vec<u8> {
    let seeds = Seeds::new(1, 2);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds)).unwrap();
    records.iter().for_each(|(kind, body)| encoder.record(*kind, body).unwrap());
    for Raw { name, dtype, shape, data } in tensors {
        let shape: Vec<_> = shape.iter().map(|n| *n as usize).collect();
        let view = TensorView { name, dtype: *dtype, shape: &shape, data };
        encoder.tensor(&view, &Spec::lossless()).unwrap();
    }
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

/// A message with the header of this client and round.
pub fn message(client: u64, round: u64, tensors: &[Raw]) -> Vec<u8> {
    stream(&[(0xA0, header_body(RUN, round, client, CLASSES as u32, &[3, 10, 10]))], tensors)
}

pub fn reason(upload: Upload) -> Reason {
    rejection(upload).reason
}

/// The files of a folder, but the lock.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| !path.ends_with("lock")).collect();
    paths.sort();
    paths
}
