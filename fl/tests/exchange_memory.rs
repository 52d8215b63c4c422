//! Law: an exchange takes the memory of a batch and of what the receiver allows, not of an upload,
//! nor of what it claims.
//!
//! Every allocation of this test binary is counted. Tests take turns, so that each sees its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod exchange;
#[path = "../../codec/tests/common/heap.rs"]
mod heap;

use exchange::*;
use fedpress::{DType, EncodeOptions, Encoder, Seeds, Spec, TensorDesc};
use fedpress_fl::{
    FeatureSpecs, FeatureStore, FeatureWriter, Features, Reason, RoundingSeed, StoreOptions, Upload,
};
use heap::{grown, live, peak_of};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

const MIB: usize = 1 << 20;
const WIDE: [usize; 3] = [16, 32, 32];
const WIDE_BYTES: usize = 4 << 14;
const N: u32 = 1024;
const BATCH: u32 = 16;

fn wide(folder: Option<&Path>) -> StoreOptions {
    StoreOptions {
        memory: 0,
        folder: folder.map(Path::to_owned),
        ..StoreOptions::new(RUN, &WIDE, 10)
    }
}

/// Writes 64 MiB of features in batches of 1 MiB.
fn write(out: impl Write) {
    let header = Features { run: RUN, round: 0, client: 1, shape: WIDE.into(), classes: 10 };
    let mut writer =
        FeatureWriter::new(out, header, FeatureSpecs::default(), 1, RoundingSeed(2)).unwrap();
    let mut values = vec![0.0f32; (BATCH * 16 * 1024) as usize];
    for from in (0..N).step_by(BATCH as usize) {
        let ids: Vec<u32> = (from..from + BATCH).collect();
        values.iter_mut().zip(u64::from(from)..).for_each(|(v, i)| *v = value(&[i]).max(0.0));
        let labels = [3; BATCH as usize];
        writer.batch(&ids, &values, &[0.5; 10 * BATCH as usize], Some(&labels)).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn an_upload_takes_the_memory_of_a_batch_on_both_sides() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("message");
    let ((), peak) = peak_of(|| write(std::fs::File::create(&path).unwrap()));
    println!("written in {peak} bytes");
    assert!(peak < 4 * MIB, "{peak}");

    let mut store = FeatureStore::open(wide(Some(&folder.path().join("store")))).unwrap();
    let before = live();
    let (last, peak) = peak_of(|| {
        let mut file = std::fs::File::open(&path).unwrap();
        let mut piece = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut piece).unwrap();
            match store.receive(1, 0, &piece[..n]).unwrap() {
                Upload::More => {}
                done => return done,
            }
        }
    });
    assert_eq!(last, Upload::Taken { samples: N as usize });
    println!("received in {peak} bytes, {} kept", grown(before));
    assert!(peak < 8 * MIB, "{peak}");
    // Buffers of a chunk; and for each sample 18 bytes and 40 of logits.
    assert!(grown(before) < 3 * MIB + 58 * N as usize, "{}", grown(before));

    // A batch of training, from all over the file.
    let samples: Vec<(u64, u32)> = (0..64).map(|i| (1, (i * 517) % N)).collect();
    let (result, peak) = peak_of(|| {
        let mut out = (vec![], vec![], vec![]);
        store.read(&samples, &mut out.0, &mut out.1, &mut out.2)
    });
    result.unwrap();
    // What is asked for, in a vector that grew by doubling.
    assert!(peak < 2 * 64 * WIDE_BYTES + MIB, "{peak}");
}

/// Whoever claims much and sends little takes little, on disk or in memory.
#[test]
fn claims_take_no_memory() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let seeds = Seeds::new(1, 2);
    let message = |client: u64, n: u64, features: bool| {
        let mut encoder = Encoder::new(EncodeOptions::new(seeds)).unwrap();
        encoder.record(0xA0, &header_body(RUN, 0, client, 10, &[16, 32, 32])).unwrap();
        encoder.begin(&TensorDesc::new("0/ids", DType::U32, &[n]), &Spec::lossless()).unwrap();
        if features {
            let ids: Vec<u8> = (0..n as u32).flat_map(u32::to_le_bytes).collect();
            encoder.push(&ids).unwrap();
            encoder.end().unwrap();
            let labels = TensorDesc::new("0/labels", DType::U8, &[n]);
            encoder.begin(&labels, &Spec::lossless()).unwrap();
            encoder.push(&vec![1; n as usize]).unwrap();
            encoder.end().unwrap();
            let shape = [n, 16, 32, 32];
            let features = TensorDesc::new("0/features", DType::F32, &shape);
            encoder.begin(&features, &Spec::lossless()).unwrap();
        }
        encoder.output().to_vec()
    };
    let in_memory = StoreOptions { memory: 64 << 20, ..wide(None) };
    for options in [in_memory, wide(Some(folder.path()))] {
        let in_memory = options.folder.is_none();
        let mut store = FeatureStore::open(options).unwrap();
        let tall = message(1, 1 << 40, false);
        let (upload, peak) = peak_of(|| store.receive(1, 0, &tall).unwrap());
        assert_eq!(reason(upload), Reason::BadSamples);
        assert!(peak < MIB, "{peak}");
        let many = message(1, 60_000, true);
        let (upload, peak) = peak_of(|| store.receive(1, 0, &many).unwrap());
        println!("4 GB claimed: {peak} bytes");
        assert!(peak < 5 * MIB, "{peak}");
        match in_memory {
            true => assert_eq!(reason(upload), Reason::TooLarge),
            false => assert_eq!(upload, Upload::More),
        }
        store.forget(1);
        assert_eq!(store.held(), 0);
    }
}
