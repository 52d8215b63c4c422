//! Laws of the rotation alone: it is that of streams, linear, and undone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use fedpress::{BasisSum, ChunkDecoder, Coefficients, Decoder, EncodeOptions, ErrorKind, Event};
use fedpress::{Rotation, Seeds, Spec, TensorView};

const SPECS: [&str; 4] = ["rotation", "hadamard,block=256", "kashin", "none"];
const N: [usize; 5] = [1, 7, 1000, 4096, 9001];

fn seeds() -> Seeds {
    Seeds::new(7, 0).in_round(3).with_rotation(Rotation::Shared)
}

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let number = |i| fedpress::derive_key(&[seed, i]) as i64 as f32 / 2f32.powi(63);
    (0..n as u64).map(number).collect()
}

fn of(spec: &Spec, values: &[f32]) -> Vec<f32> {
    let mut basis = Coefficients::new(spec, "w", &seeds());
    let mut out = vec![0.0; basis.count(values.len())];
    basis.of(values, &mut out).unwrap();
    out
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
}

#[test]
fn sums_of_coefficients_are_coefficients_of_sums() {
    for (spec, n) in SPECS.iter().flat_map(|spec| N.map(|n| (spec.parse().unwrap(), n))) {
        let (a, b) = (numbers(1, n), numbers(2, n));
        let sum: Vec<f32> = of(&spec, &a).iter().zip(of(&spec, &b)).map(|(a, b)| a + b).collect();
        let mut back = vec![0.0; n];
        Coefficients::new(&spec, "w", &seeds()).values(&sum, &mut back).unwrap();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert!(close(&back, &expected), "{spec}, {n} values");
    }
}

#[test]
fn the_rotation_is_that_of_a_stream() {
    for text in ["rotation", "hadamard,block=256"] {
        let (spec, values): (Spec, _) = (text.parse().unwrap(), numbers(1, 3000));
        let view = TensorView::f32("w", &[3000], &values);
        let bytes = fedpress::encode(&[view], &spec, &EncodeOptions::new(seeds())).unwrap();
        // What a stream adds to the negated coefficients leaves nothing.
        let mut decoder = Decoder::new(Default::default());
        let (mut input, mut worker) = (&bytes[..], ChunkDecoder::new(&Default::default()));
        let mut sum = None;
        while let Some(event) = decoder.next(&mut input).unwrap() {
            match event {
                Event::Tensor(meta) => sum = Some(BasisSum::new(&meta, 3000).unwrap()),
                Event::Chunk(chunk) => {
                    sum.as_mut().unwrap().add(&mut worker, &chunk, 1.0).unwrap();
                }
                _ => {}
            }
        }
        let mut decoded = vec![0.0; 3000];
        sum.unwrap().finish(&mut worker, &mut decoded).unwrap();
        let mut back = vec![0.0; 3000];
        let mut basis = Coefficients::new(&spec, "w", &seeds());
        basis.values(&of(&spec, &values), &mut back).unwrap();
        assert!(decoded.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits()), "{text}");
        // Under another name it is another one.
        let mut other = Coefficients::new(&spec, "v", &seeds());
        other.values(&of(&spec, &values), &mut back).unwrap();
        assert!(!close(&back, &values), "{text}");
    }
}

#[test]
fn what_cannot_be_rotated_is_refused() {
    let mut basis = Coefficients::new(&"rotation".parse().unwrap(), "w", &seeds());
    let refused = |result: fedpress::Result<()>| {
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    refused(basis.of(&[0.0; 3], &mut [0.0; 4]));
    refused(basis.values(&[0.0; 3], &mut [0.0; 4]));
    for bad in [f32::NAN, f32::INFINITY, 2f32.powi(81)] {
        refused(basis.of(&[0.0, bad], &mut [0.0; 2]));
        refused(basis.values(&[bad, 0.0], &mut [0.0; 2]));
    }
    let many = vec![0.0; (1 << 20) + 1];
    refused(basis.of(&many, &mut many.clone()));
}
