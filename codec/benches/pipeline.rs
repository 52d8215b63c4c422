//! Speed end to end and by stage, with memcpy of the same bytes in the same run.
//! `cargo bench -p fedpress`. Throughput counts bytes of f32 values.
#![allow(missing_docs, reason = "criterion_group! makes public functions")]
#![allow(clippy::unwrap_used, reason = "a bench that fails has nothing to measure")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fedpress::{DecodeOptions, EncodeOptions, Encoder, Reader, Seeds, Simd, Spec, TensorView};
use std::hint::black_box;

const SEEDS: Seeds = Seeds::new(7, 99);

/// About normal, made fast.
fn values(n: usize) -> Vec<f32> {
    let uniform = |i: u64| {
        let mut z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)) >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..n as u64).map(|i| (0..4).map(|j| uniform(4 * i + j)).sum()).collect()
}

fn encode(x: &[f32], spec: &Spec, simd: Simd, threads: usize) -> Encoder {
    let mut options = EncodeOptions::new(SEEDS);
    options.simd = simd;
    options.threads = threads;
    let mut encoder = Encoder::new(options).unwrap();
    encoder.tensor(&TensorView::f32("x", &[x.len()], x), spec).unwrap();
    encoder.finish().unwrap();
    encoder
}

fn decode(bytes: &[u8], simd: Simd, threads: usize) {
    let mut options = DecodeOptions::default();
    options.simd = simd;
    options.threads = threads;
    let mut reader = Reader::new(bytes, options);
    let mut tensor = reader.next_tensor().unwrap().unwrap();
    while let Some(chunk) = tensor.next_chunk().unwrap() {
        black_box(chunk);
    }
}

/// The figure of the project: `hadamard|q=4` on 2^24 values on one thread against memcpy.
fn end_to_end(c: &mut Criterion) {
    let x = values(1 << 24);
    let mut copy = vec![0.0; x.len()];
    let mut group = c.benchmark_group("2^24 values, one thread");
    group.sample_size(10).throughput(Throughput::Bytes(4 << 24));
    group.bench_function("memcpy", |b| {
        b.iter(|| {
            copy.copy_from_slice(&x);
            black_box(&copy);
        });
    });
    for text in [
        "hadamard|q=4",
        "hadamard|q=1",
        "identity|q=4",
        "hadamard|subsample=0.5|q=4",
        "hadamard|q=4|zstd",
        "rotation|lm=4",
    ] {
        let spec: Spec = text.parse().unwrap();
        let encoded = encode(&x, &spec, Simd::Auto, 1);
        group.bench_function(BenchmarkId::new("encode", text), |b| {
            b.iter(|| encode(&x, &spec, Simd::Auto, 1));
        });
        group.bench_function(BenchmarkId::new("decode", text), |b| {
            b.iter(|| decode(encoded.output(), Simd::Auto, 1));
        });
    }
}

/// By instruction set and by threads, in cache.
fn levels(c: &mut Criterion) {
    let x = values(1 << 21);
    let spec: Spec = "hadamard|q=4".parse().unwrap();
    let encoded = encode(&x, &spec, Simd::Auto, 1);
    let mut group = c.benchmark_group("2^21 values, hadamard|q=4");
    group.sample_size(20).throughput(Throughput::Bytes(4 << 21));
    for (name, simd, threads) in [
        ("scalar", Simd::Scalar, 1),
        ("avx2", Simd::Avx2, 1),
        ("best", Simd::Auto, 1),
        ("best, 2 threads", Simd::Auto, 2),
    ] {
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| encode(&x, &spec, simd, threads));
        });
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| decode(encoded.output(), simd, threads));
        });
    }
}

/// What each stage adds: pipelines that differ by one of them.
fn stages(c: &mut Criterion) {
    let x = values(1 << 20);
    let mut group = c.benchmark_group("2^20 values, by stage");
    group.sample_size(20).throughput(Throughput::Bytes(4 << 20));
    for text in [
        "none",
        "shuffle",
        "lossless",
        "hadamard|lm=2",
        "rotation,levels=2|lm=2",
        "rotation|lm=1",
        "rotation|lm=2",
        "rotation|lm=8",
        "hadamard",
        "hadamard,block=32768",
        "kashin",
        "identity|subsample=0.5",
        "identity|q=1",
        "identity|q=3",
        "identity|q=4",
        "identity|q=4,nearest",
        "identity|q=8",
        "identity|q=11",
        "identity|q=4|zstd",
    ] {
        let spec: Spec = text.parse().unwrap();
        let encoded = encode(&x, &spec, Simd::Auto, 1);
        group.bench_function(BenchmarkId::new("encode", text), |b| {
            b.iter(|| encode(&x, &spec, Simd::Auto, 1));
        });
        group.bench_function(BenchmarkId::new("decode", text), |b| {
            b.iter(|| decode(encoded.output(), Simd::Auto, 1));
        });
    }
}

/// A model of sixty tensors, none of them as large as a group, and a sum over streams.
fn many(c: &mut Criterion) {
    let x = values(1 << 15);
    let names: Vec<_> = (0..60).map(|i| format!("layer{i}.weight")).collect();
    let views: Vec<_> =
        names.iter().map(|name| TensorView::f32(name, &[1 << 8, 1 << 7], &x)).collect();
    let spec: Spec = "hadamard|q=4".parse().unwrap();
    let mut group = c.benchmark_group("60 tensors of 2^15 values, hadamard|q=4");
    group.sample_size(50).throughput(Throughput::Bytes(60 * (4 << 15)));
    let bytes = fedpress::encode(&views, &spec, &EncodeOptions::new(SEEDS)).unwrap();
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("encode, threads", threads), |b| {
            b.iter(|| {
                let options = EncodeOptions::new(SEEDS).with_threads(threads);
                fedpress::encode(&views, &spec, &options).unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("decode, threads", threads), |b| {
            let mut options = DecodeOptions::default();
            options.threads = threads;
            b.iter(|| fedpress::decode(&bytes, &options).unwrap());
        });
    }
    group.finish();

    let x = values(1 << 22);
    let (mut sum, encoded) = (vec![0.0; x.len()], encode(&x, &spec, Simd::Auto, 1));
    let mut group = c.benchmark_group("2^22 values, hadamard|q=4");
    group.sample_size(20).throughput(Throughput::Bytes(4 << 22));
    group.bench_function("memcpy", |b| {
        b.iter(|| {
            sum.copy_from_slice(&x);
            black_box(&sum);
        });
    });
    group.bench_function("add into a sum", |b| {
        b.iter(|| {
            let mut reader = Reader::new(encoded.output(), DecodeOptions::default());
            reader.next_tensor().unwrap().unwrap().add_into(&mut sum, 0.5).unwrap();
        });
    });
}

criterion_group!(benches, end_to_end, levels, stages, many);
criterion_main!(benches);
