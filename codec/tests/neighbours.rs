//! Law: of feature maps and fields, each value tells of those beside it, whatever the layout, and nothing that
//! was made up decodes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

mod common;

use common::*;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, EncodeOptions, Event, Simd, Tensor, TensorDesc, TensorView,
    Writer,
};

/// Maps of a smooth field behind a ReLU: channels of a side each, about half of them zeros.
fn maps(channels: usize, side: usize, seed: u64) -> Vec<f32> {
    let mut out = Vec::new();
    for channel in 0..channels {
        let mut rng = Rng(seed + channel as u64);
        let waves: Vec<[f64; 4]> = (0..12)
            .map(|_| [rng.gauss() * 0.2, rng.gauss() * 0.2, rng.unit() * 6.3, rng.gauss()])
            .collect();
        for at in 0..side * side {
            let (y, x) = ((at / side) as f64, (at % side) as f64);
            let wave = |[a, b, phase, size]: &[f64; 4]| size * (a * x + b * y + phase).sin();
            let value = waves.iter().map(wave).sum::<f64>() + 0.1 * rng.gauss();
            out.push(value.max(0.0) as f32);
        }
    }
    out
}

/// Channels last.
fn channels_last(x: &[f32], channels: usize) -> Vec<f32> {
    let area = x.len() / channels;
    (0..x.len()).map(|i| x[i % channels * area + i / channels]).collect()
}

fn encode(shape: &[usize], x: &[f32], text: &str, options: &EncodeOptions) -> Vec<u8> {
    fedpress::encode(&[TensorView::f32("w", shape, x)], &spec(text), options).unwrap()
}

fn error(shape: &[usize], x: &[f32], text: &str) -> f64 {
    let bytes = encode(shape, x, text, &options());
    let (bits, asked) = (bytes.len() as f64 * 8.0 / x.len() as f64, text.find('=').unwrap() + 1);
    let asked: f64 = text[asked..].trim_end_matches(",biased").parse().unwrap();
    assert!(bits < 1.03 * asked + 0.02, "{text} of {shape:?}: {bits} bits");
    nmse(x, &decode_f32(&bytes))
}

#[test]
fn a_shape_that_tells_of_neighbours_saves_most_of_the_error() {
    let (channels, side) = (16, 64);
    let x = maps(channels, side, 1);
    let last = channels_last(&x, channels);
    for (text, gain) in
        [("step=1,biased", 2.0), ("step=0.5,biased", 2.0), ("step=2", 2.0), ("step=4,biased", 2.0)]
    {
        // Columns that are no neighbours, as in a matrix of weights.
        let mut shuffled = x.clone();
        let mut rng = Rng(9);
        (1..x.len()).rev().for_each(|i| shuffled.swap(i, rng.below(i + 1)));
        let without = error(&[channels, side, side], &shuffled, text);
        let with = error(&[channels, side, side], &x, text);
        let with_last = error(&[side, side, channels], &last, text);
        assert!(with * gain < without, "{text}: {with} beside neighbours, {without} without");
        assert!(with_last * gain < without, "{text}: {with_last} with channels last, {without}");
    }
}

#[test]
fn zeros_stay_zeros_and_the_error_is_right_in_the_mean_with_dither() {
    let x = maps(8, 48, 5);
    let y = decode_f32(&encode(&[8, 48, 48], &x, "step=1,biased", &options()));
    assert!(x.iter().zip(&y).all(|(x, y)| *x != 0.0 || y.to_bits() == 0));
    let mut sums = vec![0.0f64; x.len()];
    let (trials, mut single) = (40, 0.0);
    for seed in 0..trials {
        let mut options = options();
        options.seeds = fedpress::Seeds::new(seed, 1);
        let y = decode_f32(&encode(&[8, 48, 48], &x, "step=1", &options));
        single += nmse(&x, &y) / trials as f64;
        sums.iter_mut().zip(&y).for_each(|(sum, y)| *sum += f64::from(*y) / trials as f64);
    }
    let mean: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
    // The error of the mean of n unbiased ones is an n-th; over 18,432 values that is within 3 %.
    let ratio = nmse(&x, &mean) * trials as f64 / single;
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

#[test]
fn bytes_do_not_depend_on_instructions_threads_or_how_values_arrive() {
    let (channels, side) = (24, 40);
    let x = maps(channels, side, 3);
    let shape = [channels, side, side];
    for (text, group_log2) in [("step=1,biased", 12), ("step=1.5", 14), ("max-error=0.02", 20)] {
        let with = |simd, threads| {
            let mut options = options().with_simd(simd).with_threads(threads);
            options.group_log2 = group_log2;
            encode(&shape, &x, text, &options)
        };
        let expected = with(Simd::Scalar, 1);
        let values = decode_f32(&expected);
        for (simd, threads) in [(Simd::Auto, 1), (Simd::Avx2, 3)] {
            assert!(with(simd, threads) == expected, "{text} at {simd:?}");
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let found = fedpress::decode(&expected, &options).unwrap()[0].to_f32().unwrap();
            assert!(found.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
        }
        // With an open first dimension, a few bytes at a time: the same chunks.
        let mut writer = Writer::new(Vec::new(), options().with_group_log2(group_log2)).unwrap();
        let desc = TensorDesc::open("w", DType::F32, &[side as u64, side as u64]);
        writer.begin(&desc, &spec(text)).unwrap();
        le_bytes(&x).chunks(12_345).for_each(|part| writer.push(part).unwrap());
        writer.end().unwrap();
        let open = writer.finish().unwrap();
        assert_eq!(decode_f32(&open), values, "{text}");
    }
}

/// P of the only chunk.
fn payload(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = fedpress::Decoder::new(DecodeOptions::default());
    let mut input = bytes;
    loop {
        if let Some(Event::Chunk(chunk)) = decoder.next(&mut input).unwrap() {
            return chunk.unpack(&mut ChunkDecoder::new(&DecodeOptions::default())).unwrap();
        }
    }
}

/// What becomes of a group of these values from made-up codes.
fn try_coded(n: usize, payload: &[u8]) -> fedpress::Result<Vec<u8>> {
    let mut encoder = fedpress::Encoder::new(options()).unwrap();
    let desc = TensorDesc::new("w", DType::F32, &[n as u64]);
    encoder.begin(&desc, &spec("step=1,biased")).unwrap();
    encoder.push_coded(payload)?;
    encoder.end()?;
    encoder.finish()?;
    Ok(encoder.output().to_vec())
}

#[test]
fn codes_that_no_encoder_writes_are_refused() {
    let (channels, side) = (16, 64);
    let x = maps(channels, side, 2);
    let n = x.len();
    let good = payload(&encode(&[channels, side, side], &x, "step=1,biased", &options()));
    // Exponent, size, two shifts; then no class: neighbours.
    const C: usize = 7;
    assert_eq!(good[C], 0);
    assert_eq!(&good[C + 2..C + 4], [1, side as u8], "distances");
    let (weights, halvings, edges) = (C + 4, C + 8, C + 9);
    let values = decode_f32(&try_coded(n, &good).unwrap());
    assert!(nmse(&x, &values) < 0.1);
    for (what, at, byte) in [
        ("more classes than there may be", C, 13),
        ("more lanes than there may be", C + 1, 5),
        ("lanes beyond a shift", C + 1, 200),
        ("a value beside itself", C + 2, 0),
        ("a value above that stands beside", C + 3, 1),
        ("parts that are reserved", halvings, 4),
        ("more edges than there may be", edges, 8),
        ("an edge at level 0", edges + 1, 0),
        ("an edge behind the last level", edges + good[edges] as usize, 49),
    ] {
        let mut bad = good.clone();
        bad[at] = byte;
        let error = try_coded(n, &bad).expect_err(what);
        assert!(error.to_string().contains("coded group"), "{what}: {error}");
    }
    assert!(good[edges] >= 2, "{} edges", good[edges]);
    let mut flipped = good.clone();
    flipped.swap(edges + 1, edges + 2);
    assert!(try_coded(n, &flipped).is_err(), "edges that descend");
    for length in (0..good.len()).step_by(97).chain(good.len() - 9..good.len()) {
        assert!(try_coded(n, &good[..length]).is_err(), "cut to {length} bytes");
    }
    // Weights are what the sender likes: they lead to other values, or to words that do not end.
    for weight in [0x7f, 0x80] {
        let mut other = good.clone();
        other[weights..weights + 4].fill(weight);
        if let Ok(stream) = try_coded(n, &other) {
            assert_eq!(decode_f32(&stream).len(), n);
        }
    }
    // Whatever single bit is wrong, nothing panics, and every instruction set says the same.
    let mut rng = Rng(4);
    for _ in 0..200 {
        let mut bad = good.clone();
        let at = 1 + rng.below(bad.len() - 1);
        bad[at] ^= 1 << rng.below(8);
        let Ok(stream) = try_coded(n, &bad) else { continue };
        let mut options = DecodeOptions::default();
        options.simd = Simd::Scalar;
        let scalar = fedpress::decode(&stream, &options).unwrap()[0].to_f32().unwrap();
        assert!(scalar.iter().all(|v| v.is_finite()));
        assert_eq!(scalar, decode_f32(&stream));
    }
}

/// The tensor of that name in a safetensors file of the shared ones.
fn shared(file: &str, name: &str) -> Option<Tensor> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tensors");
    let Ok(bytes) = std::fs::read(folder.join(file)) else {
        eprintln!("skipped: no ../shared/tensors");
        return None;
    };
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = std::str::from_utf8(header).unwrap();
    let entry = &header[header.find(&format!("\"{name}\"")).unwrap()..];
    let numbers = |key: &str| -> Vec<usize> {
        let list = &entry[entry.find(key).unwrap()..];
        let list = &list[list.find('[').unwrap() + 1..list.find(']').unwrap()];
        list.split(',').map(|n| n.trim().parse().unwrap()).collect()
    };
    let (range, shape) = (numbers("data_offsets"), numbers("shape"));
    let data = data[range[0]..range[1]].to_vec();
    Some(Tensor { name: name.into(), dtype: DType::F16, shape, data })
}

#[test]
fn features_of_a_real_network_take_what_was_promised() {
    let Some(features) = shared("gkt-features.safetensors", "features") else { return };
    let x = features.to_f32().unwrap();
    let shape = &features.shape;
    for (rate, most_bits, most_error) in [("0.75", 0.76, 3e-2), ("1.1", 1.12, 1e-2)] {
        let text = format!("step={rate},biased");
        let view = TensorView { name: "f", dtype: DType::F16, shape, data: &features.data };
        let bytes = fedpress::encode(&[view], &spec(&text), &options()).unwrap();
        let bits = bytes.len() as f64 * 8.0 / x.len() as f64;
        let found = nmse(&x, &decode_f32(&bytes));
        eprintln!("{text}: {bits:.4} bits, NMSE {found:.3e}");
        assert!(bits <= most_bits && found <= most_error, "{text}: {bits} bits, NMSE {found}");
    }
}
