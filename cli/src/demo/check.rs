//! Whether what came back is what was sent, as far as the pipeline promises.

use anyhow::{Result, bail, ensure};
use fedpress::{EncodeOptions, Spec, Tensor};

use crate::measure::{is_lossy, nmse};

/// Checks names, types, shapes, exactness of what travels losslessly, and the error of the rest.
pub fn check(sent: &[Tensor], back: &[Tensor], spec: &Spec, options: &EncodeOptions) -> Result<()> {
    ensure!(sent.len() == back.len(), "{} tensors became {}", sent.len(), back.len());
    for (a, b) in sent.iter().zip(back) {
        let name = &a.name;
        ensure!(a.name == b.name, "tensor {name:?} came back as {:?}", b.name);
        ensure!(a.dtype == b.dtype, "{name:?}: {} became {}", a.dtype, b.dtype);
        ensure!(a.shape == b.shape, "{name:?}: shape {:?} became {:?}", a.shape, b.shape);
        if !is_lossy(a, spec, options) {
            ensure!(a.data == b.data, "{name:?} should be the same, bit by bit");
            continue;
        }
        let (error, bound) = (nmse(a, b)?, bound(a, spec)?);
        // False for NaN, too.
        let within = error <= bound;
        ensure!(within, "{name:?} by {spec}: the nmse is {error:.3e}, above {bound:.3e}");
    }
    Ok(())
}

/// The value of a stage in the canonical text of a spec.
fn stage_value(spec: &str, name: &str) -> Option<f64> {
    let stage = spec.split('|').find_map(|s| s.strip_prefix(name)?.strip_prefix('='))?;
    stage.split(',').next()?.parse().ok()
}

/// An nmse that a pipeline stays below on this tensor.
///
/// Rounding at random between two levels a step apart has at most a variance of (step / 2)^2, and
/// a block has 2^q - 1 steps between its extremes: as they are without a transform, and within 10
/// deviations after one that makes the values of a block all but normal. Keeping a fraction S and
/// scaling by 1 / S adds 1 / S - 1, and scales the rest. At a rate of R bits Gaussian values have at
/// least 1 / (4^R - 1) without bias (Shannon 1959): a trellis is within a tenth of a bit of that, steps
/// within one, and levels of Lloyd and Max have less than 3 / 4^q (Panter and Dite 1951). Of two pipelines a group may take either.
fn bound(tensor: &Tensor, spec: &Spec) -> Result<f64> {
    let text = spec.to_string();
    let mut bounds = text.split(" or ").map(|text| bound_of_one(tensor, text));
    bounds.try_fold(0.0, |most: f64, bound| Ok(most.max(bound?)))
}

fn bound_of_one(tensor: &Tensor, text: &str) -> Result<f64> {
    let fraction = stage_value(text, "subsample").unwrap_or(1.0);
    let shannon = |rate: f64| 1.0 / (4f64.powf(rate) - 1.0);
    let rounding = if let Some(q) = stage_value(text, "q") {
        spread(tensor, text)? / (4.0 * (q.exp2() - 1.0).powi(2))
    } else if let Some(q) = stage_value(text, "lm") {
        3.0 / 4f64.powf(q)
    } else if let Some(rate) = stage_value(text, "trellis") {
        1.1 * shannon(rate - 0.1)
    } else if let Some(rate) = stage_value(text, "step") {
        4.0 * shannon(rate)
    } else {
        0.0
    };
    // Sampling has a spread of its own, and f32 arithmetic an error of its own.
    Ok((1.1 * (1.0 / fraction - 1.0)) + rounding / fraction + 1e-9)
}

/// Squared range of a block over the mean square of its values.
fn spread(tensor: &Tensor, spec: &str) -> Result<f64> {
    const BLOCK: usize = 4096;
    if !spec.starts_with("identity") {
        return Ok(100.0);
    }
    let Some(values) = tensor.to_f32() else { bail!("{} values are lossless", tensor.dtype) };
    let (mut ranges, mut squares) = (0.0, 0.0);
    for block in values.chunks(BLOCK) {
        let min = block.iter().fold(f32::INFINITY, |m, v| m.min(*v));
        let max = block.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        ranges += block.len() as f64 * f64::from(max - min).powi(2);
        squares += block.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    Ok(ranges / squares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedpress::{DType, Seeds};

    fn tensor(values: &[f32]) -> Tensor {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![values.len()];
        Tensor { name: "w".into(), dtype: DType::F32, shape, data }
    }

    #[test]
    fn a_check_finds_what_is_wrong() {
        let options = EncodeOptions::new(Seeds::new(1, 2));
        let a = tensor(&(0..2000).map(|i| (i as f32).sin()).collect::<Vec<_>>());
        let fails = |b: &Tensor, spec: &Spec| {
            check(std::slice::from_ref(&a), std::slice::from_ref(b), spec, &options).is_err()
        };
        let lossy: Spec = "hadamard|q=8".parse().unwrap();
        assert!(!fails(&a, &lossy));
        assert!(!fails(&a, &Spec::lossless()));
        let mut near = a.clone();
        near.data[0] ^= 1;
        assert!(!fails(&near, &lossy));
        assert!(fails(&near, &Spec::lossless()));
        assert!(fails(&tensor(&[0.0; 2000]), &lossy));
        let mut nan = a.clone();
        nan.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(fails(&nan, &lossy));
        assert!(fails(&Tensor { name: "v".into(), ..a.clone() }, &lossy));
        assert!(fails(&Tensor { shape: vec![2, 1000], ..a.clone() }, &lossy));
    }

    #[test]
    fn stages_are_found_in_the_text() {
        assert_eq!(stage_value("hadamard|subsample=0.25|q=3,nearest|zstd", "q"), Some(3.0));
        assert_eq!(stage_value("hadamard|subsample=0.25|q=3", "subsample"), Some(0.25));
        assert_eq!(stage_value("shuffle|zstd", "q"), None);
    }

    #[test]
    fn rates_bound_the_error_of_either_pipeline() {
        let a = tensor(&(0..2000).map(|i| (i as f32).sin()).collect::<Vec<_>>());
        let bound = |spec: &str| bound(&a, &spec.parse().unwrap()).unwrap();
        let (one, other) = (bound("rotation|trellis=2"), bound("identity|step=2"));
        assert!((0.0667..0.1).contains(&one) && other > one);
        assert_eq!(bound("auto|rate=2"), other);
    }
}
