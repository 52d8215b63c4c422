//! Numbers on a lattice: multiples of powers of two, whose sums and differences in f32 are exact.

/// No quantum is so fine that a value is further from zero, so that two values differ by a multiple that f32 and
/// the codec (FORMAT.md 7, below 2^22) have exactly, however they grow from then on by half.
const MOST: f64 = (1u64 << 20) as f64;
/// Largest multiple that is sent as one.
const LARGEST_MULTIPLE: f32 = (1u32 << 22) as f32;
/// A quantum is at least this part of the root mean square of the values: finer ones would cost a client that
/// has nothing more bits than the model is worth.
const FINEST: f64 = 1.0 / 4096.0;
/// Of the root mean square of the values: what a first change is taken to be.
const FIRST_CHANGE: f64 = 1.0 / 32.0;

/// The root mean square; 0 of nothing.
pub(super) fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}

/// 2^e, exact also where f32 has it only as a subnormal number.
fn power(exponent: i16) -> f64 {
    f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52)
}

/// The quantum for values whose last change had this root mean square, or that have not changed yet: the
/// greatest power of two up to `step` times that, within what the values allow. `None` where there is no
/// change, or no finite one.
pub(super) fn quantum(values: &[f32], change: Option<f64>, step: f64) -> Option<f32> {
    let rms = rms(values.iter().map(|v| f64::from(*v)));
    let peak = values.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
    let change = change.unwrap_or(rms * FIRST_CHANGE);
    if !(change > 0.0 && change.is_finite()) {
        return None;
    }
    let least = (f64::from(peak) / MOST).max(rms * FINEST);
    let exponent = |of: f64| ((of.to_bits() >> 52) as i64 - 1023) as i16;
    let wanted = exponent(step * change).max(exponent(least) + 1);
    Some(power(wanted.clamp(-126, 126)) as f32)
}

/// The next version of values that stand at `version`: moved by multiples of the quantum, and only where
/// they are further away than `dead_zone` quanta. With NaN or infinity among them it is the values as they are.
pub(super) fn advance(
    version: &[f32],
    values: &[f32],
    quantum: Option<f32>,
    dead_zone: f32,
) -> Vec<f32> {
    if values.iter().any(|v| !v.is_finite()) {
        return values.to_vec();
    }
    let Some(quantum) = quantum else {
        // Nothing moves, unless there is nowhere to move from.
        let is_version = version.iter().all(|v| v.is_finite());
        return if is_version { version } else { values }.to_vec();
    };
    let next = |(version, value): (&f32, &f32)| {
        let steps = (value - version) / quantum;
        if steps.abs() <= dead_zone { *version } else { version + quantum * steps.round() }
    };
    let next: Vec<f32> = version.iter().zip(values).map(next).collect();
    // Values that have grown far beyond a lattice that they began on get another one.
    match is_on_lattice(&next) {
        true => next,
        false => values.iter().map(|value| 0.0 + quantum * (value / quantum).round()).collect(),
    }
}

/// Whether these are multiples of a power of two, and no large ones.
fn is_on_lattice(values: &[f32]) -> bool {
    let lowest = values.iter().filter(|v| **v != 0.0).map(|v| lowest_bit(*v)).min();
    let peak = values.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
    peak.is_finite()
        && values.iter().all(|v| !v.is_nan())
        && f64::from(peak) <= f64::from(LARGEST_MULTIPLE) / 2.0 * power(lowest.unwrap_or(0))
}

/// The difference between two versions: integers, in units of a power of two.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Multiples {
    /// Of the unit.
    pub(crate) exponent: i16,
    /// Integers of up to 2^22, for each value one.
    pub(crate) values: Vec<f32>,
}

impl Multiples {
    /// What [`add_to`](Self::add_to) makes `target` of `base`, bit for bit; the unit is the largest there is.
    /// `None` where there is none, as between numbers that are on no lattice.
    pub(crate) fn between(base: &[f32], target: &[f32]) -> Option<Self> {
        let mut exponent = None;
        for (base, target) in base.iter().zip(target) {
            let difference = target - base;
            if (base + difference).to_bits() != target.to_bits() || !difference.is_finite() {
                return None;
            }
            if difference != 0.0 {
                let own = lowest_bit(difference);
                exponent = Some(exponent.map_or(own, |least: i16| least.min(own)));
            }
        }
        let exponent = exponent.unwrap_or(0);
        let per_unit = power(-exponent);
        let multiple = |(base, target): (&f32, &f32)| {
            let multiple = (f64::from(target - base) * per_unit) as f32;
            (multiple.abs() <= LARGEST_MULTIPLE).then_some(multiple)
        };
        let values = base.iter().zip(target).map(multiple).collect::<Option<_>>()?;
        Some(Self { exponent, values })
    }

    /// The same unit, and other multiples.
    pub(crate) fn map(self, change: impl FnOnce(&[f32]) -> Vec<f32>) -> Self {
        Self { values: change(&self.values), ..self }
    }

    /// The other version. Each multiple is the integer next to what was decoded, which came with an error
    /// below a half.
    pub(crate) fn add_to(&self, base: &mut [f32]) {
        let unit = power(self.exponent);
        for (base, multiple) in base.iter_mut().zip(&self.values) {
            *base += (f64::from(multiple.round()) * unit) as f32;
        }
    }
}

/// The exponent of the lowest bit that is set in a finite number other than 0.
fn lowest_bit(value: f32) -> i16 {
    let bits = value.to_bits();
    let (exponent, digits) = ((bits >> 23) as u8, bits & 0x007f_ffff);
    match exponent {
        0 => digits.trailing_zeros() as i16 - 149,
        _ => (digits | 1 << 23).trailing_zeros() as i16 + i16::from(exponent) - 150,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lowest_bits_of_all_powers() {
        for exponent in -149..=127 {
            assert_eq!(lowest_bit(power(exponent) as f32), exponent);
            if exponent < 125 && exponent > -148 {
                assert_eq!(lowest_bit((5.0 * power(exponent)) as f32), exponent);
            }
        }
    }

    #[test]
    fn quanta_are_powers_of_two_below_the_step() {
        for change in [1e-20, 0.013, 0.5, 3.0] {
            let values = [0.25, -1.5].map(|v| (v * change) as f32);
            let quantum = f64::from(quantum(&values, Some(change), 2.0).unwrap());
            assert_eq!(quantum.log2().fract(), 0.0);
            assert!(quantum <= 2.0 * change && quantum > change);
        }
        assert_eq!(quantum(&[1.0, 2.0], Some(0.0), 2.0), None);
        assert_eq!(quantum(&[0.0, 0.0], None, 2.0), None);
        // As fine as the values allow, however little they change.
        let finest = f64::from(quantum(&[1.0; 9], Some(1e-30), 2.0).unwrap());
        assert_eq!(finest, 2.0 * FINEST);
        let mut one_large = vec![0.0; 1 << 22];
        one_large[5] = 1.0;
        assert!(1.0 / f64::from(quantum(&one_large, Some(1e-30), 2.0).unwrap()) <= MOST);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
        /// However values move: each version is within the dead zone, and any two differ by multiples.
        #[test]
        fn versions_follow_within_the_dead_zone(
            moves in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 9), 1..12),
            scales in prop::collection::vec(-8i32..4, 12),
            dead_zone in 0.5f32..1.0,
        ) {
            let (mut values, mut versions, mut change) = (vec![0.0f32; 9], vec![vec![0.0f32; 9]], None);
            for (moved, scale) in moves.iter().zip(scales) {
                let moved: Vec<f32> = moved.iter().map(|v| v * 2f32.powi(scale)).collect();
                values.iter_mut().zip(&moved).for_each(|(v, m)| *v += m);
                change = Some(change.map_or(0.0, |_: f64| rms(moved.iter().map(|m| f64::from(*m)))));
                let Some(quantum) = quantum(&values, change.filter(|c| *c > 0.0), 3.5) else { continue };
                let last = &versions[versions.len() - 1];
                let next = advance(last, &values, Some(quantum), dead_zone);
                for (value, version) in values.iter().zip(&next) {
                    prop_assert!((value - version).abs() <= dead_zone * quantum * 1.000_001);
                }
                versions.push(next);
            }
            for base in &versions {
                for target in &versions {
                    let Some(multiples) = Multiples::between(base, target) else {
                        return Err(TestCaseError::fail("no lattice"));
                    };
                    prop_assert!(multiples.values.iter().all(|k| k.fract() == 0.0));
                    let mut landed = base.clone();
                    multiples.add_to(&mut landed);
                    prop_assert!(landed.iter().zip(target).all(|(l, t)| l.to_bits() == t.to_bits()));
                }
            }
        }

        /// However much they grow: there is a way to each version from nothing.
        #[test]
        fn versions_stay_on_a_lattice(
            values in prop::collection::vec(-1.0f32..1.0, 9),
            scales in prop::collection::vec(-40i32..40, 1..9),
        ) {
            let mut version = vec![0.0; 9];
            for scale in scales {
                let values: Vec<f32> = values.iter().map(|v| v * 2f32.powi(scale)).collect();
                let change = rms(values.iter().zip(&version).map(|(v, r)| f64::from(v - r)));
                let quantum = quantum(&values, Some(change), 3.5);
                version = advance(&version, &values, quantum, 0.75);
                prop_assert!(Multiples::between(&[0.0; 9], &version).is_some());
                let quantum = quantum.unwrap_or(f32::INFINITY);
                for (value, version) in values.iter().zip(&version) {
                    prop_assert!((value - version).abs() <= 0.750_001 * quantum);
                }
            }
        }

        /// Any numbers at all: between them are multiples that lead from one to the other, or none.
        #[test]
        fn a_difference_is_exact_or_none(pairs in prop::collection::vec(any::<(u32, u32)>(), 0..5)) {
            let base: Vec<f32> = pairs.iter().map(|p| f32::from_bits(p.0)).collect();
            let target: Vec<f32> = pairs.iter().map(|p| f32::from_bits(p.1)).collect();
            if let Some(multiples) = Multiples::between(&base, &target) {
                let mut landed = base;
                multiples.add_to(&mut landed);
                prop_assert!(landed.iter().zip(&target).all(|(l, t)| l.to_bits() == t.to_bits()));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_a_version_of_its_own() {
        let broken = advance(&[0.5, 0.5], &[f32::NAN, 1.0], Some(0.5), 0.5);
        assert!(broken[0].is_nan());
        assert_eq!(Multiples::between(&[0.5, 0.5], &broken), None);
        assert_eq!(advance(&broken, &[0.7, 1.0], Some(0.5), 0.5), [0.5, 1.0]);
    }
}
