//! Speed of two builds of the codec in one run: see `run.sh`.
//! Arguments: log2 of the number of values, how often, pipelines. With SIMD=avx2 in the environment both do
//! without AVX-512.

use std::hint::black_box;
use std::time::Instant;

/// What both builds are asked for, each by its own API.
trait Build {
    fn encode<T>(x: &[f32], spec: &str, then: impl FnOnce(&[u8]) -> T) -> T;
    fn decode(bytes: &[u8], y: &mut [f32]);
    fn add(bytes: &[u8], y: &mut [f32]);
}

macro_rules! simd {
    ($krate:ident) => {
        match std::env::var("SIMD").as_deref() {
            Ok("avx2") => $krate::Simd::Avx2,
            _ => $krate::Simd::Auto,
        }
    };
}

macro_rules! common {
    ($krate:ident, $options:expr) => {
        fn encode<T>(x: &[f32], spec: &str, then: impl FnOnce(&[u8]) -> T) -> T {
            let spec: $krate::Spec = spec.parse().unwrap();
            let mut options = $options;
            options.simd = simd!($krate);
            let mut encoder = $krate::Encoder::new(options).unwrap();
            let shape = [x.len() as _];
            encoder.tensor(&$krate::TensorView::f32("x", &shape, x), &spec).unwrap();
            encoder.finish().unwrap();
            then(encoder.output())
        }

        fn add(bytes: &[u8], y: &mut [f32]) {
            let mut options = $krate::DecodeOptions::default();
            options.simd = simd!($krate);
            let mut reader = $krate::Reader::new(bytes, options);
            reader.next_tensor().unwrap().unwrap().add_into(y, 0.5).unwrap();
        }
    };
}

struct New;

impl Build for New {
    common!(new, {
        let mut options = new::EncodeOptions::new(new::Seeds::new(7, 99));
        options.smaller = false; // which the old build does not look for
        options
    });

    fn decode(bytes: &[u8], y: &mut [f32]) {
        let options = new::DecodeOptions::default().with_simd(simd!(new));
        let mut reader = new::Reader::new(bytes, options);
        reader.next_tensor().unwrap().unwrap().read_f32_into(y).unwrap();
    }
}

struct Old;

impl Build for Old {
    common!(
        old,
        old::EncodeOptions::new(old::Seeds { shared: 7, private: 99, round: 0, client: 0 })
    );

    fn decode(bytes: &[u8], y: &mut [f32]) {
        let mut options = old::DecodeOptions::default();
        options.simd = simd!(old);
        let mut reader = old::Reader::new(bytes, options);
        let mut tensor = reader.next_tensor().unwrap().unwrap();
        let (mut rest, mut at) = (bytemuck::cast_slice_mut::<f32, u8>(y), 0);
        while let Some(chunk) = tensor.next_chunk().unwrap() {
            rest[at..at + chunk.len()].copy_from_slice(chunk);
            at += chunk.len();
        }
        rest = &mut rest[..at];
        black_box(rest);
    }
}

/// About normal.
fn values(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| uniform()).sum()).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let n = 1 << arguments[0].parse::<u32>().unwrap();
    let repeats: usize = arguments[1].parse().unwrap();
    let (x, mut y) = (values(n), vec![0f32; n]);
    for spec in &arguments[2..] {
        let (old, new) =
            (Old::encode(&x, spec, <[u8]>::to_vec), New::encode(&x, spec, <[u8]>::to_vec));
        let mut best = [f64::MAX; 7];
        let mut time = |i: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            best[i] = best[i].min(start.elapsed().as_secs_f64());
        };
        for _ in 0..repeats {
            time(0, &mut || {
                y.copy_from_slice(&x);
                black_box(&y);
            });
            time(1, &mut || {
                black_box(Old::encode(&x, spec, <[u8]>::len));
            });
            time(2, &mut || {
                black_box(New::encode(&x, spec, <[u8]>::len));
            });
            time(3, &mut || Old::decode(&old, &mut y));
            time(4, &mut || New::decode(&new, &mut y));
            time(5, &mut || Old::add(&old, &mut y));
            time(6, &mut || New::add(&new, &mut y));
        }
        print!("{spec}, 2^{}, memcpy {:.1} GB/s", n.ilog2(), 4e-9 * n as f64 / best[0]);
        for (what, i) in [("encode", 1), ("decode", 3), ("add", 5)] {
            let (ratio, share) = (best[i] / best[i + 1], best[0] / best[i + 1]);
            let speed = 4e-9 * n as f64 / best[i + 1];
            print!("; {what} x{ratio:.2} ({speed:.2} GB/s, {share:.2} of memcpy)");
        }
        println!();
    }
}
