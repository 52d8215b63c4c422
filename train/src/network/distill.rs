//! The loss that passes knowledge from one network to another.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// What a teacher says of a batch.
pub(crate) struct Lesson {
    /// `[examples, classes]`.
    pub(crate) logits: Tensor<2>,
    /// How much each example counts, `[examples, 1]`; all alike if absent.
    pub(crate) weights: Option<Tensor<2>>,
    /// Classes to compare, `[examples, classes]`: 0 for one that is, and far below 0 for one that is not;
    /// all if absent.
    pub(crate) classes: Option<Tensor<2>>,
}

/// T^2 KL(teacher || student), the weighted sum over the number of examples, of logits `[examples, classes]`
/// divided by the temperature T (Hinton et al. 2015, where T^2 keeps the size of gradients). The teacher's are
/// data: no gradient reaches them.
pub(crate) fn distillation(student: Tensor<2>, teacher: Lesson, temperature: f64) -> Tensor<1> {
    let among = |logits: Tensor<2>| {
        let logits = logits.div_scalar(temperature);
        match &teacher.classes {
            Some(classes) => logits + classes.clone(),
            None => logits,
        }
    };
    let student = log_softmax(among(student), 1);
    let teacher_log = log_softmax(among(teacher.logits.clone().detach()), 1);
    let rows = (teacher_log.clone().exp() * (teacher_log - student)).sum_dim(1);
    let rows = match &teacher.weights {
        Some(weights) => rows * weights.clone(),
        None => rows,
    };
    rows.mean().mul_scalar(temperature * temperature)
}

/// How sure each row of `logits` is of its label: the softmax there.
pub(crate) fn confidence(
    logits: &[f32],
    classes: usize,
    labels: impl Iterator<Item = usize>,
) -> Vec<f32> {
    let of = |(row, label): (&[f32], usize)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |x: f32| libm::expf(x - max);
        power(row[label]) / row.iter().map(|x| power(*x)).sum::<f32>()
    };
    logits.chunks_exact(classes).zip(labels).map(of).collect()
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

    fn lesson(logits: Tensor<2>) -> Lesson {
        Lesson { logits, weights: None, classes: None }
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
        let found = distillation(two(zero, zero), lesson(two(ln3, zero)), 1.0).into_scalar::<f32>();
        assert!((f64::from(found) - by_hand).abs() < 1e-6, "{found} {by_hand}");
        let at_t =
            distillation(two(zero, zero), lesson(two(3.0 * ln3, zero)), 3.0).into_scalar::<f32>();
        assert!((f64::from(at_t) - 9.0 * by_hand).abs() < 1e-5, "{at_t}");
    }

    #[test]
    fn the_loss_is_that_of_plain_loops_and_zero_for_equals() {
        for t in [1.0, 3.0, 100.0] {
            let found =
                distillation(tensor(&STUDENT), lesson(tensor(&TEACHER)), t).into_scalar::<f32>();
            let expected = exact(&STUDENT, &TEACHER, t);
            assert!(
                (f64::from(found) - expected).abs() < 2e-3 * expected,
                "{t} {found} {expected}"
            );
            let equal =
                distillation(tensor(&STUDENT), lesson(tensor(&STUDENT)), t).into_scalar::<f32>();
            assert!(equal.abs() < 1e-2, "{equal}");
        }
    }

    /// Weights count examples, and of two classes the third is as if there were none.
    #[test]
    fn examples_count_by_weight_and_classes_can_be_left_out() {
        let weights = Tensor::<1>::from_floats([0.5, 2.0], &cpu().autodiff()).reshape([2, 1]);
        let weighted = Lesson { weights: Some(weights), ..lesson(tensor(&TEACHER)) };
        let found = distillation(tensor(&STUDENT), weighted, 3.0).into_scalar::<f32>();
        let row = |i: usize| exact(&STUDENT[3 * i..3 * i + 3], &TEACHER[3 * i..3 * i + 3], 3.0);
        let expected = (0.5 * row(0) + 2.0 * row(1)) / 2.0;
        assert!((f64::from(found) - expected).abs() < 1e-3 * expected, "{found} {expected}");

        let classes = tensor(&[0.0, 0.0, -1e9, 0.0, 0.0, -1e9]);
        let some = Lesson { classes: Some(classes), ..lesson(tensor(&TEACHER)) };
        let found = distillation(tensor(&STUDENT), some, 3.0).into_scalar::<f32>();
        let with_none = |values: &[f64]| [values[0], values[1], -1e12, values[3], values[4], -1e12];
        let expected = exact(&with_none(&STUDENT), &with_none(&TEACHER), 3.0);
        assert!((f64::from(found) - expected).abs() < 1e-3 * expected, "{found} {expected}");
    }

    #[test]
    fn confidence_is_the_softmax_at_the_label() {
        let found = confidence(&[0.0, 0.0, 3f32.ln(), 0.0], 2, [1, 0].into_iter());
        assert!((found[0] - 0.5).abs() < 1e-6 && (found[1] - 0.75).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn the_gradient_is_the_difference_quotient_and_stops_at_the_teacher() {
        let (student, teacher) = (tensor(&STUDENT).require_grad(), tensor(&TEACHER).require_grad());
        let loss = distillation(student.clone(), lesson(teacher.clone()), 3.0);
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
