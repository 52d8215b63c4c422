//! How the encoder of [`super::Trellis`] searches: what suits Gaussian numbers at a rate. Nothing here is
//! part of the format.

use super::frequencies;
use crate::kernel::Penalty;
use crate::kernel::rans::{MIDDLE, PROBABILITY_BITS};

/// How to search.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// In units of the root mean square of the numbers.
    pub(super) step: f32,
    pub(super) penalty: Option<Penalty>,
    pub(super) low: u8,
}

/// A rate that was measured on 2^19 Gaussian numbers, and what gave it.
struct Knot {
    /// In thousandths of a bit.
    rate: f32,
    step: f32,
    /// What a bit costs, in squares of the step.
    lambda: f32,
    /// Of the tables that bits are counted by.
    width: u8,
}

const fn knot(rate: f32, step: f32, lambda: f32, width: u8) -> Knot {
    Knot { rate, step, lambda, width }
}

/// Ascending rates. `cargo test -p fedpress --release -- --ignored scan --nocapture` measures.
const KNOTS: &[Knot] = &[
    knot(101.7, 1.4, 1.3, 5),
    knot(113.6, 1.4, 0.7, 5),
    knot(123.2, 1.4, 0.6, 5),
    knot(134.9, 1.4, 0.54, 5),
    knot(153.1, 1.4, 0.5, 5),
    knot(183.3, 1.4, 0.46, 5),
    knot(251.4, 1.4, 0.42, 6),
    knot(282.6, 1.35, 0.46, 6),
    knot(338.9, 1.35, 0.42, 6),
    knot(390.9, 1.3, 0.46, 7),
    knot(462.2, 1.2, 0.54, 7),
    knot(503.2, 1.2, 0.5, 7),
    knot(564.1, 1.2, 0.46, 8),
    knot(658.4, 1.2, 0.38, 9),
    knot(742.6, 1.2, 0.3, 10),
    knot(837.9, 1.2, 0.2, 11),
    knot(929.7, 1.2, 0.1, 12),
    knot(1076.0, 1.1, 0.05, 14),
    knot(1218.7, 1.0, 0.0, 16),
    knot(1304.6, 0.9296, 0.0, 16),
    knot(1412.6, 0.8484, 0.0, 18),
    knot(1525.4, 0.7743, 0.0, 19),
    knot(1640.6, 0.7067, 0.0, 20),
    knot(1757.0, 0.6450, 0.0, 21),
    knot(1876.4, 0.5886, 0.0, 22),
    knot(2000.4, 0.5372, 0.0, 23),
    knot(2123.8, 0.4903, 0.0, 24),
    knot(2246.9, 0.4475, 0.0, 25),
    knot(2373.4, 0.4084, 0.0, 26),
    knot(2500.6, 0.3728, 0.0, 27),
    knot(2629.4, 0.3402, 0.0, 28),
    knot(2758.2, 0.3105, 0.0, 29),
    knot(2887.6, 0.2834, 0.0, 31),
    knot(3015.8, 0.2586, 0.0, 32),
    knot(3145.3, 0.2361, 0.0, 33),
];

/// 2^(-i/8): beyond the last knot a bit more halves the step.
const HALVING: [f32; 9] = [
    1.0,
    0.917_004,
    0.840_896_4,
    0.771_105_4,
    0.707_106_77,
    0.648_419_8,
    0.594_603_54,
    0.545_253_9,
    0.5,
];

/// Steps whose indices the tables of [`frequencies`] hold at this size.
const LEAST_STEP: f32 = 0.046;

impl Setting {
    /// For a rate in thousandths of a bit.
    pub(super) fn of(rate: u16) -> Self {
        let rate = f32::from(rate);
        let at = KNOTS.partition_point(|knot| knot.rate <= rate);
        let (lower, upper) = (&KNOTS[at.saturating_sub(1)], &KNOTS[at.min(KNOTS.len() - 1)]);
        let part = match upper.rate > lower.rate {
            true => (rate - lower.rate) / (upper.rate - lower.rate),
            false => 0.0,
        };
        let between = |a: f32, b: f32| a + (b - a) * part;
        let width = if part < 0.5 { lower.width } else { upper.width };
        let step = between(lower.step, upper.step) * beyond(rate - KNOTS[KNOTS.len() - 1].rate);
        Self::with(step, between(lower.lambda, upper.lambda), width)
    }

    pub(super) fn with(step: f32, lambda: f32, width: u8) -> Self {
        let mut low = 0;
        while step * f32::from(1u16 << low) < LEAST_STEP && low < frequencies::MOST_LOW {
            low += 1;
        }
        Self { step, penalty: (lambda > 0.0).then(|| penalty(lambda, width)), low }
    }
}

/// Squared error of Gaussian numbers, of their energy, at the scale that makes it least: that of a rate less
/// by what the quantizer is from Shannon's bound.
pub(super) fn distortion(rate: u16) -> f64 {
    const GAP: f32 = 80.0;
    let root = f64::from(beyond(f32::from(rate) - GAP));
    root * root
}

/// 2^(-excess / 1000), from straight lines between eighths; 1 where there is no excess.
fn beyond(excess: f32) -> f32 {
    let eighths = (excess / 125.0).max(0.0);
    let whole = eighths as usize;
    let (a, b) = (HALVING[whole % 8], HALVING[whole % 8 + 1]);
    let within = a + (b - a) * (eighths - whole as f32);
    within / (1u32 << (whole / 8)) as f32
}

/// What values cost by the tables of a width.
fn penalty(lambda: f32, width: u8) -> Penalty {
    let tables = [false, true].map(|odd| frequencies::gaussian(width, odd, 0));
    let mut costs = [0.0; 256];
    for (cost, x) in costs.iter_mut().zip(-128i32..) {
        let frequency = tables[(x & 1) as usize][((x >> 1) + MIDDLE) as usize];
        *cost = lambda * bits(frequency);
    }
    Penalty { costs }
}

/// Bits of a token of this frequency, twice as many as of the rarest where it has none.
fn bits(frequency: u16) -> f32 {
    if frequency == 0 {
        return 2.0 * PROBABILITY_BITS as f32;
    }
    // Eight binary places, each by a square: the same on every machine, as no logarithm is.
    let mut log2 = frequency.ilog2() as f32;
    let mut mantissa = f32::from(frequency) / (1u32 << frequency.ilog2()) as f32;
    for place in 1..=8 {
        mantissa *= mantissa;
        if mantissa >= 2.0 {
            mantissa /= 2.0;
            log2 += 1.0 / (1u32 << place) as f32;
        }
    }
    PROBABILITY_BITS as f32 - log2
}

/// Root mean squares of values from which on the tables of width 1, 2, ... take fewer bits than those
/// before them: measured on Gaussian numbers.
const WIDENING: [f32; 29] = [
    0.03, 0.06, 0.09, 0.18, 0.26, 0.385, 0.545, 0.641, 0.7256, 0.786, 0.8377, 0.889, 0.936, 0.985,
    1.04, 1.12, 1.207, 1.267, 1.37, 1.485, 1.567, 1.70, 1.85, 1.96, 2.15, 2.3, 2.53, 2.74, 2.98,
];
/// From there on: the geometric mean of two widths, whose squares these are, and four times those.
const ONE_MORE: [f64; 4] = [10.374_716, 12.337_686, 14.672_065, 17.448_128];

/// The width of the tables that suit values of this mean square.
pub(super) fn width(mean_square: f64) -> u8 {
    let small = WIDENING.partition_point(|rms| f64::from(*rms) * f64::from(*rms) <= mean_square);
    let mut width = small as u8;
    let mut octave = 1.0;
    while width >= WIDENING.len() as u8 && width < frequencies::WIDTHS - 1 {
        let place = usize::from(width) - WIDENING.len();
        octave = if place > 0 && place % 4 == 0 { 2.0 * octave } else { octave };
        if ONE_MORE[place % 4] * octave > mean_square {
            break;
        }
        width += 1;
    }
    width
}

#[cfg(test)]
mod calibrate {
    use super::*;
    use crate::code::trellis::{Head, put_values, search};
    use crate::kernel::{Kernel, Simd, sum_of_products};

    fn gauss(n: usize, seed: u64) -> Vec<f32> {
        (0..n / 2)
            .flat_map(|i| {
                let u = |j| {
                    (crate::random::word(seed, 2 * i as u64 + j) >> 11) as f64 / (1u64 << 53) as f64
                };
                let (r, t) = ((-2.0 * (1.0 - u(0)).ln()).sqrt(), std::f64::consts::TAU * u(1));
                [(r * t.cos()) as f32, (r * t.sin()) as f32]
            })
            .collect()
    }

    /// Rate, distortion at the best scale, root mean square of values, best width.
    fn measure(y: &[f32], setting: &Setting) -> (f64, f64, f64, u8) {
        let (kernel, n) = (Kernel::new(Simd::Auto), y.len());
        let energy = sum_of_products(y, y);
        let mut x = y.to_vec();
        let found = search(kernel, &mut x, (energy / n as f64).sqrt(), setting);
        let product = sum_of_products(&x, y);
        let distortion = 1.0 - product * product / sum_of_products(&x, &x) / energy;
        let rms = (found.energy / n as f64).sqrt();
        let near = (8.0 * (rms.log2() + 2.0)) as u8;
        let length = |width| {
            let (mut words, mut out) = (Vec::new(), Vec::new());
            put_values(
                kernel,
                &x,
                Head { scale: 1.0, width, low: setting.low },
                &mut words,
                &mut out,
            );
            out.len()
        };
        let widths = near.saturating_sub(8)..=near + 8;
        let (length, width) = widths.map(|w| (length(w), w)).min().unwrap();
        (length as f64 * 8.0 / n as f64, distortion, rms, width)
    }

    fn numbers(name: &str) -> Vec<f32> {
        let list = std::env::var(name).unwrap_or_default();
        list.split(',').filter_map(|number| number.parse().ok()).collect()
    }

    #[test]
    #[ignore = "measures what the constants above come from, at the STEPS and LAMBDAS of the environment"]
    fn scan() {
        let y = gauss(1 << 19, 5);
        println!("step lambda rate gap rms width");
        for step in numbers("STEPS") {
            for lambda in numbers("LAMBDAS") {
                let mut width = 16;
                for _ in 0..5 {
                    width = measure(&y, &Setting::with(step, lambda, width)).3;
                }
                let (rate, d, rms, best) = measure(&y, &Setting::with(step, lambda, width));
                println!("{step} {lambda} {rate:.4} {:.4} {rms:.4} {best}", rate + 0.5 * d.log2());
            }
        }
    }

    #[test]
    fn gaussian_numbers_take_the_rate_that_was_asked_for_and_lie_near_the_bound() {
        let y = gauss(1 << 19, 7);
        for rate in [
            100, 150, 250, 333, 500, 700, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000,
            11_000,
        ] {
            let (found, d, ..) = measure(&y, &Setting::of(rate));
            let asked = f64::from(rate) / 1000.0;
            let gap = found + 0.5 * d.log2();
            assert!((found / asked - 1.0).abs() < 0.03, "asked for {asked}, found {found}");
            assert!(gap < 0.087, "{gap} bits from the bound at {asked}");
        }
    }
}
