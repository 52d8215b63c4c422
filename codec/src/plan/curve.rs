//! How the error of one tensor falls with its rate, and the rate at which that is worth the bits.

use crate::Spec;

/// Rates that are looked at, in thousandths of a bit; between two of them the logarithm of the error is taken
/// for a straight line.
const GRID: [u16; 15] =
    [100, 150, 200, 300, 400, 550, 750, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 12_000];

/// Expected squared errors of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub(super) spec: Spec,
    /// What a squared error of this tensor counts.
    weight: f64,
    /// Values that a rate is spent on.
    pub(super) n: u64,
    /// Sum of their squares.
    pub(super) energy: f64,
    /// Rates in bits, ascending, and the sum of squared errors at each.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Of a tensor without values yet; `None` if the spec has no rate.
    pub(super) fn new(spec: &Spec, weight: f64) -> Option<Self> {
        let rates = spec.rates()?;
        let grid = GRID.iter().map(|rate| f64::from(*rate) / 1000.0);
        let inner = grid.filter(|rate| rates.start() < rate && rate < rates.end());
        let all = std::iter::once(*rates.start()).chain(inner).chain([*rates.end()]);
        let points = all.map(|rate| (rate, 0.0)).collect();
        Some(Self { spec: spec.clone(), weight, n: 0, energy: 0.0, points })
    }

    /// Takes in values: how many, the sum of their squares, and the NMSE that is expected of a spec.
    pub(super) fn add(&mut self, n: usize, energy: f64, nmse: impl Fn(&Spec) -> f64) {
        self.n += n as u64;
        self.energy += energy;
        for (rate, error) in &mut self.points {
            let Ok(spec) = self.spec.at_rate(*rate) else { continue };
            *error += energy * nmse(&spec);
        }
    }

    pub(super) fn least(&self) -> f64 {
        self.points[0].0
    }

    pub(super) fn most(&self) -> f64 {
        self.points[self.points.len() - 1].0
    }

    /// The expected squared error at a rate.
    pub(super) fn error(&self, rate: f64) -> f64 {
        let at = self.points.partition_point(|point| point.0 <= rate);
        let [lower, upper] = [at.saturating_sub(1), at.min(self.points.len() - 1)];
        let ((r, error), slope) = (self.points[lower], self.slope(lower, upper));
        error * (-slope * (rate - r)).exp()
    }

    /// The rate at which error and bits together cost least, a bit costing `price` squared errors; to a
    /// thousandth.
    pub(super) fn rate(&self, price: f64) -> f64 {
        let n = self.n as f64;
        let cost = |rate: f64, error: f64| self.weight * error + price * n * rate;
        let mut best = (cost(self.points[0].0, self.points[0].1), self.points[0].0);
        for upper in 1..self.points.len() {
            let ((r, error), (end, _)) = (self.points[upper - 1], self.points[upper]);
            let slope = self.slope(upper - 1, upper);
            // Where the error falls by as much as bits cost.
            let beyond = (self.weight * error * slope / (price * n)).ln() / slope;
            let rate = if beyond > 0.0 { end.min(r + beyond) } else { r };
            let cost = cost(rate, error * (-slope * (rate - r)).exp());
            if cost < best.0 {
                best = (cost, rate);
            }
        }
        (best.1 * 1000.0).round() / 1000.0
    }

    /// By how much the logarithm of the error falls a bit; 0 where it does not.
    fn slope(&self, lower: usize, upper: usize) -> f64 {
        let ((r, error), (end, less)) = (self.points[lower], self.points[upper]);
        let slope = (error / less).ln() / (end - r);
        if slope.is_finite() && slope > 0.0 { slope } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaussian values at Shannon's bound.
    fn gaussian(n: usize, energy: f64) -> Curve {
        let mut curve = Curve::new(&"auto".parse().unwrap(), 1.0).unwrap();
        curve.add(n, energy, |spec| 4f64.powf(-spec.stages().trellis.unwrap().rate()));
        curve
    }

    #[test]
    fn between_the_points_errors_are_those_of_an_exponential() {
        let curve = gaussian(100, 7.0);
        for rate in [0.1, 0.17, 1.0, 2.5, 11.9, 12.0] {
            let expected = 7.0 * 4f64.powf(-rate);
            assert!((curve.error(rate) / expected - 1.0).abs() < 1e-9, "{rate}");
        }
    }

    #[test]
    fn a_fourth_of_the_energy_takes_a_bit_less() {
        let [loud, quiet] = [gaussian(100, 100.0), gaussian(100, 25.0)];
        for price in [0.01, 0.001, 1e-5] {
            let difference = loud.rate(price) - quiet.rate(price);
            assert!((difference - 1.0).abs() < 0.002, "{difference} at {price}");
        }
        assert_eq!((loud.rate(1e9), loud.rate(1e-30)), (0.1, 12.0));
    }

    #[test]
    fn zeros_take_the_lowest_rate() {
        let mut curve = Curve::new(&"auto".parse().unwrap(), 1.0).unwrap();
        curve.add(100, 0.0, |_| 0.0);
        assert_eq!((curve.rate(1e-9), curve.error(1.0)), (0.1, 0.0));
    }
}
