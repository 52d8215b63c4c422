//! The loss that passes knowledge from one network to another.

use burn::nn::loss::{KLDivLossConfig, Reduction};
use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

/// T^2 KL(teacher || student), the mean over the batch, of logits `[examples, classes]` divided by
/// the temperature T (Hinton et al. 2015, where T^2 keeps the size of gradients). The teacher's are
/// data: no gradient reaches them.
pub(crate) fn distillation(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let student = log_softmax(student.div_scalar(temperature), 1);
    let teacher = softmax(teacher.detach().div_scalar(temperature), 1);
    let mean = KLDivLossConfig::new().init().forward(student, teacher, Reduction::BatchMean);
    mean.mul_scalar(temperature * temperature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;
    use burn::tensor::TensorData;

    fn exact(student: &[f64], teacher: &[f64], t: f64) -> f64 {
        let log_softmax = |z: &[f64]| -> Vec<f64> {
            let total: f64 = z.iter().map(|z| (z / t).exp()).sum();
            z.iter().map(|z| z / t - total.ln()).collect()
        };
        let row = |(s, z): (&[f64], &[f64])| -> f64 {
            let (p, q) = (log_softmax(s), log_softmax(z));
            q.iter().zip(p).map(|(q, p)| q.exp() * (q - p)).sum()
        };
        let rows = student.chunks(3).zip(teacher.chunks(3));
        t * t * rows.map(row).sum::<f64>() / (student.len() / 3) as f64
    }

    const STUDENT: [f64; 6] = [0.5, -1.0, 2.0, 3.0, 0.25, -0.5];
    const TEACHER: [f64; 6] = [1.5, 0.5, -2.0, 2.5, 1.0, 0.0];

    fn tensor(values: &[f64]) -> Tensor<2> {
        let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
        Tensor::from_data(TensorData::new(values, [2, 3]), &cpu().autodiff())
    }

    /// By hand: student (0, 0), teacher (ln 3, 0), T = 1: 3/4 ln(3/2) + 1/4 ln(1/2).
    #[test]
    fn the_loss_is_what_a_hand_finds() {
        let (zero, ln3) = (0.0f64, 3f64.ln());
        let two = |a: f64, b: f64| {
            let data = TensorData::new(vec![a as f32, b as f32], [1, 2]);
            Tensor::<2>::from_data(data, &cpu())
        };
        let by_hand = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let found = distillation(two(zero, zero), two(ln3, zero), 1.0).into_scalar::<f32>();
        assert!((f64::from(found) - by_hand).abs() < 1e-6, "{found} {by_hand}");
        let at_t = distillation(two(zero, zero), two(3.0 * ln3, zero), 3.0).into_scalar::<f32>();
        assert!((f64::from(at_t) - 9.0 * by_hand).abs() < 1e-5, "{at_t}");
    }

    #[test]
    fn the_loss_is_that_of_plain_loops_and_zero_for_equals() {
        for t in [1.0, 3.0, 100.0] {
            let found = distillation(tensor(&STUDENT), tensor(&TEACHER), t).into_scalar::<f32>();
            let expected = exact(&STUDENT, &TEACHER, t);
            assert!(
                (f64::from(found) - expected).abs() < 2e-3 * expected,
                "{t} {found} {expected}"
            );
            let equal = distillation(tensor(&STUDENT), tensor(&STUDENT), t).into_scalar::<f32>();
            assert!(equal.abs() < 1e-2, "{equal}");
        }
    }

    #[test]
    fn the_gradient_is_the_difference_quotient_and_stops_at_the_teacher() {
        let (student, teacher) = (tensor(&STUDENT).require_grad(), tensor(&TEACHER).require_grad());
        let loss = distillation(student.clone(), teacher.clone(), 3.0);
        let gradients = loss.backward();
        assert!(teacher.grad(&gradients).is_none());
        let found = student.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
        for i in 0..6 {
            let at = |step: f64| {
                let mut moved = STUDENT;
                moved[i] += step;
                exact(&moved, &TEACHER, 3.0)
            };
            let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((f64::from(found[i]) - expected).abs() < 1e-4, "{i}");
        }
    }
}
