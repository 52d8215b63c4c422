//! Made-up tensors in the shape of a small CNN, the same on every run.

use std::f64::consts::TAU;

use fedpress::{DType, Tensor};

/// SplitMix64 (Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0 and up to 1.
    fn uniform(&mut self) -> f64 {
        ((self.word() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

/// The tensors whose curves are drawn.
pub const CURVES: [(&str, &str); 2] = [("fc1.weight", "weights"), ("fc1.weight.grad", "gradient")];

/// All tensors.
pub fn tensors() -> Vec<Tensor> {
    vec![
        weights("conv1.weight", &[32, 3, 3, 3]),
        near_zero("conv1.bias", 32),
        weights("conv2.weight", &[64, 32, 3, 3]),
        near_zero("conv2.bias", 64),
        weights("conv3.weight", &[128, 64, 3, 3]),
        near_zero("conv3.bias", 128),
        counter("bn.num_batches_tracked", 1875),
        weights("fc1.weight", &[512, 2048]),
        near_zero("fc1.bias", 512),
        weights("fc2.weight", &[10, 512]),
        near_zero("fc2.bias", 10),
        gradient("fc1.weight.grad", &[512, 2048]),
        features("features", &[64, 128, 8, 8]),
    ]
}

/// Weights: normal, every row with a scale of its own.
fn weights(name: &str, shape: &[usize]) -> Tensor {
    let row = shape.iter().skip(1).product::<usize>() as u64;
    let mut scale = 0.0;
    let deviation = (2.0 / row as f64).sqrt();
    floats(name, shape, |i, random| {
        if i.is_multiple_of(row) {
            scale = deviation * (0.5 + random.uniform());
        }
        scale * random.normal()
    })
}

/// A gradient: most values tiny, a few very large.
fn gradient(name: &str, shape: &[usize]) -> Tensor {
    floats(name, shape, |_, random| 1e-4 * random.normal() * (1.5 * random.normal()).exp())
}

/// What a layer sends on after ReLU: about two thirds zeros.
fn features(name: &str, shape: &[usize]) -> Tensor {
    floats(name, shape, |_, random| (random.normal() - 0.4).max(0.0))
}

fn near_zero(name: &str, n: usize) -> Tensor {
    floats(name, &[n], |_, random| 0.01 * random.normal())
}

fn counter(name: &str, value: i64) -> Tensor {
    let data = value.to_le_bytes().to_vec();
    Tensor { name: name.into(), dtype: DType::I64, shape: Vec::new(), data }
}

fn floats(name: &str, shape: &[usize], mut value: impl FnMut(u64, &mut Random) -> f64) -> Tensor {
    let mut random = Random(name.bytes().fold(7, |h, b| 31 * (h % (1 << 56)) + u64::from(b)));
    let n = shape.iter().product::<usize>() as u64;
    let data = (0..n).flat_map(|i| (value(i, &mut random) as f32).to_le_bytes()).collect();
    Tensor { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_are_what_they_claim() {
        let all = tensors();
        let of = |name: &str| all.iter().find(|t| t.name == name).unwrap().to_f32().unwrap();
        let features = of("features");
        let zeros = features.iter().filter(|v| **v == 0.0).count() as f64 / features.len() as f64;
        assert!((0.6..0.7).contains(&zeros), "{zeros}");
        let moment = |values: &[f32], k| {
            values.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / values.len() as f64
        };
        let kurtosis = |values: &[f32]| moment(values, 4) / moment(values, 2).powi(2);
        assert!(kurtosis(&of("fc1.weight")) < 5.0);
        assert!(kurtosis(&of("fc1.weight.grad")) > 100.0);
        assert!(all.iter().map(|t| 8 * t.data.len() / t.dtype.bits()).sum::<usize>() > 2_000_000);
        assert_eq!(all, tensors());
    }
}
