//! Law: the sum of coefficients that share a rotation is the sum of the values, and nothing else is added.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    BasisSum, ChunkDecoder, DType, DecodeOptions, Decoder, EncodeOptions, EncodedChunk, ErrorKind,
    Event, Rotation, Seeds, TensorMeta, TensorView,
};
use std::sync::Arc;

fn shared(client: u64) -> Seeds {
    Seeds::new(7, 100 + client).of_client(client, 4).with_rotation(Rotation::Shared)
}

fn with_seeds(seeds: Seeds) -> EncodeOptions {
    let mut options = small_groups();
    options.seeds = seeds;
    options
}

/// Header and chunks of a stream of one tensor.
fn parts(bytes: &[u8]) -> (Arc<TensorMeta>, Vec<EncodedChunk>) {
    let (mut decoder, mut input) = (Decoder::new(DecodeOptions::default()), bytes);
    let (mut meta, mut chunks) = (None, Vec::new());
    while let Some(event) = decoder.next(&mut input).unwrap() {
        match event {
            Event::Tensor(found) => meta = Some(found),
            Event::Chunk(chunk) => chunks.push(chunk),
            _ => {}
        }
    }
    (meta.unwrap(), chunks)
}

/// Both sums of some streams with weights.
fn sums(streams: &[(Vec<u8>, f32)], n: usize) -> (Vec<f32>, Vec<f32>) {
    let mut worker = ChunkDecoder::new(&DecodeOptions::default());
    let mut sum = BasisSum::new(&parts(&streams[0].0).0, n).unwrap();
    let (mut by_values, mut by_coefficients) = (vec![0.0; n], vec![f32::NAN; n]);
    for (bytes, weight) in streams {
        for chunk in parts(bytes).1 {
            sum.add(&mut worker, &chunk, *weight).unwrap();
            let at = chunk.first_value() as usize;
            let place = &mut by_values[at..at + chunk.n_values()];
            chunk.add_into(&mut worker, place, *weight).unwrap();
        }
    }
    sum.finish(&mut worker, &mut by_coefficients).unwrap();
    (by_values, by_coefficients)
}

#[test]
fn both_sums_are_the_same_for_every_transform() {
    let n = 2 * 4096 + 777;
    let texts = [
        "hadamard|q=4",
        "hadamard,block=256|subsample=0.3|q=2|zstd",
        "kashin|q=2",
        "kashin,lambda=1.7|subsample=0.5|q=3",
        "rotation|lm=2",
        "rotation|trellis=1.5",
        "rotation,levels=2|q=5",
        "rotation",
        "identity|subsample=0.5|q=4",
    ];
    for text in texts {
        let streams: Vec<_> = (0..4)
            .map(|client| {
                let x = gaussian(n, client);
                let bytes = encode_f32(&x, &spec(text), &with_seeds(shared(client)));
                (bytes, 0.3 * (client as f32 + 1.0))
            })
            .collect();
        let (by_values, by_coefficients) = sums(&streams, n);
        let error = nmse(&by_values, &by_coefficients);
        assert!(error < 1e-10, "{text}: {error}");
    }
}

#[test]
fn groups_that_fell_back_or_carry_an_exponent_are_added_as_what_they_are() {
    let n = 3 * 4096;
    let mut mixed = gaussian(n, 1);
    mixed[..4096].fill(0.0);
    mixed[4096..8192].iter_mut().for_each(|v| *v *= 1e21);
    let small: Vec<_> = gaussian(n, 2).iter().map(|v| v * 1e-30).collect();
    for text in ["hadamard|q=8", "kashin|q=8", "rotation|lm=6"] {
        let streams = [(&mixed, 0.5), (&small, 2.0)].map(|(x, weight)| {
            let options = with_seeds(shared(0)).with_smaller(true);
            (encode_f32(x, &spec(text), &options), weight)
        });
        assert!(parts(&streams[0].0).1.iter().any(|chunk| !chunk.spec().is_lossy()), "{text}");
        let (by_values, by_coefficients) = sums(&streams, n);
        for group in 0..3 {
            let place = group * 4096..(group + 1) * 4096;
            let (a, b) = (&by_values[place.clone()], &by_coefficients[place]);
            // The first group is of tiny values alone.
            let error = nmse(a, b);
            assert!(error < 1e-9, "{text}, group {group}: {error}");
        }
    }
}

#[test]
fn what_rotates_otherwise_is_refused_and_changes_nothing() {
    let n = 5000;
    let x = gaussian(n, 1);
    let encode = |text: &str, options: &EncodeOptions| encode_f32(&x, &spec(text), options);
    let base = encode("hadamard|q=4", &with_seeds(shared(0)));
    let other_key = {
        let view = TensorView::f32("v", &[5000], &x);
        fedpress::encode(&[view], &spec("hadamard|q=4"), &with_seeds(shared(0))).unwrap()
    };
    let halves = {
        let data = elements(DType::BF16, n, 1);
        let view = TensorView { name: "w", dtype: DType::BF16, shape: &[5000], data: &data };
        fedpress::encode(&[view], &spec("hadamard|q=4"), &with_seeds(shared(0))).unwrap()
    };
    let others = [
        ("another block", encode("hadamard,block=512|q=4", &with_seeds(shared(0)))),
        ("another transform", encode("rotation|q=4", &with_seeds(shared(0)))),
        ("another round", encode("hadamard|q=4", &with_seeds(shared(0).in_round(5)))),
        ("another seed", encode("hadamard|q=4", &with_seeds(Seeds::new(8, 1)))),
        ("its own", encode("hadamard|q=4", &with_seeds(shared(1).with_rotation(Rotation::Own)))),
        ("other groups", encode("hadamard|q=4", &with_seeds(shared(0)).with_group_log2(13))),
        ("other values", encode_f32(&x[..4999], &spec("hadamard|q=4"), &with_seeds(shared(0)))),
        ("another name", other_key),
        ("another type", halves),
    ];
    let mut worker = ChunkDecoder::new(&DecodeOptions::default());
    let (meta, chunks) = parts(&base);
    let mut sum = BasisSum::new(&meta, n).unwrap();
    for chunk in &chunks {
        sum.add(&mut worker, chunk, 1.0).unwrap();
    }
    for (what, bytes) in others {
        let error = sum.add(&mut worker, &parts(&bytes).1[0], 1.0).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{what}");
    }
    // Other codes and another fraction of the same rotation are fine.
    for text in ["hadamard|q=7", "hadamard|subsample=0.5|q=4"] {
        let chunks = parts(&encode(text, &with_seeds(shared(3)))).1;
        sum.add(&mut worker, &chunks[0], 0.0).unwrap();
    }
    let mut out = vec![0.0; n];
    sum.finish(&mut worker, &mut out).unwrap();
    assert!(nmse(&decode_f32(&base), &out) < 1e-10);

    let wrong = |bytes: &[u8], n| BasisSum::new(&parts(bytes).0, n).err().unwrap().kind().clone();
    assert_eq!(wrong(&base, n + 1), ErrorKind::InvalidArgument);
    let integers = fedpress::encode(&[("i", [1i32; 9])], &spec("none"), &options()).unwrap();
    assert_eq!(wrong(&integers, 9), ErrorKind::InvalidArgument);
    let sum = BasisSum::new(&meta, n).unwrap();
    let refused = sum.finish(&mut worker, &mut [0.0; 7]).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn groups_that_took_another_basis_are_added_in_that_of_the_sum() {
    let n = 2 * 4096 + 777;
    let streams: Vec<_> = (0..4)
        .map(|client| {
            let mut x = gaussian(n, client);
            // Takes no rotation.
            x[..4096].iter_mut().enumerate().for_each(|(i, v)| *v *= f32::from(i % 64 == 0));
            let options = with_seeds(shared(client));
            (encode_f32(&x, &spec("auto|rate=3"), &options), 0.25 + client as f32)
        })
        .collect();
    let specs: Vec<_> =
        parts(&streams[0].0).1.iter().map(|chunk| chunk.spec().to_string()).collect();
    assert_eq!(specs, ["identity|step=3", "rotation|trellis=3", "rotation|trellis=3"]);
    let (by_values, by_coefficients) = sums(&streams, n);
    let error = nmse(&by_values, &by_coefficients);
    assert!(error < 1e-11, "{error}");
}
