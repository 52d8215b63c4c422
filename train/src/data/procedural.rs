//! A data set that is made, so that examples and tests need no download.

use super::Dataset;
use crate::random::{Draws, Purpose};
use fedpress_fl::{Error, Result};

const SIDE: usize = 16;
const CLASSES: usize = 10;

/// The ends of the seven segments of a digit, in half heights: top, both right, bottom, both left,
/// middle.
const SEGMENTS: [[[f64; 2]; 2]; 7] = [
    [[-0.6, -1.0], [0.6, -1.0]],
    [[0.6, -1.0], [0.6, 0.0]],
    [[0.6, 0.0], [0.6, 1.0]],
    [[-0.6, 1.0], [0.6, 1.0]],
    [[-0.6, 0.0], [-0.6, 1.0]],
    [[-0.6, -1.0], [-0.6, 0.0]],
    [[-0.6, 0.0], [0.6, 0.0]],
];

/// Which segments each digit has, the first in the lowest bit.
const DIGITS: [u8; CLASSES] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];

/// A training and a test set of grey images, 16 x 16: seven-segment digits, each with its own
/// shift, size, rotation, slant, stroke and brightness, a faint stray stroke and noise. Classes take
/// turns, so any ten examples in a row have all of them.
///
/// Digits differ by single strokes and move about by more than a stroke is wide, so a linear model
/// stays far behind a small convolutional one, which learns them in seconds. Example i depends on
/// `seed` and i alone, by arithmetic that is the same on every platform; test examples are numbered
/// from 2^32, so growing one set does not change the other.
///
/// # Errors
/// `InvalidArgument` for more than 2^32 - 1 examples.
pub fn procedural(seed: u64, n_train: usize, n_test: usize) -> Result<(Dataset, Dataset)> {
    let make = |first: u64, n: usize| {
        if u32::try_from(n).is_err() {
            return Err(Error::invalid(format!("expected under 2^32 examples, found {n}")));
        }
        let mut images = Vec::with_capacity(n.saturating_mul(SIDE * SIDE).min(1 << 30));
        let mut labels = Vec::new();
        for i in 0..n {
            let label = i % CLASSES;
            draw(
                DIGITS[label],
                &mut Draws::new(seed, Purpose::Procedural, first + i as u64),
                &mut images,
            );
            labels.push(label as u16);
        }
        Dataset::new([1, SIDE, SIDE], CLASSES, images, labels)
    };
    Ok((make(0, n_train)?, make(1 << 32, n_test)?))
}

/// Appends the image of the segments in `digit`.
fn draw(digit: u8, draws: &mut Draws, out: &mut Vec<u8>) {
    let middle = (SIDE as f64 - 1.0) / 2.0;
    let place = Place::draw(draws, middle);
    let stroke = draws.between(0.6, 1.1);
    let ink = draws.between(120.0, 230.0);
    let lines: Vec<[[f64; 2]; 2]> = (0..SEGMENTS.len())
        .filter(|s| digit >> s & 1 == 1)
        .map(|s| SEGMENTS[s].map(|point| place.of(point)))
        .collect();
    let mut anywhere = || [draws.between(0.0, 15.0), draws.between(0.0, 15.0)];
    let stray = anywhere();
    let end = anywhere();
    // A third of the way: short.
    let stray = [stray, [0, 1].map(|i| stray[i] + (end[i] - stray[i]) / 3.0)];
    let covered = |distance: f64| (stroke + 0.5 - distance).clamp(0.0, 1.0);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let at = [x as f64, y as f64];
            let nearest = lines.iter().map(|line| distance(at, line)).fold(f64::MAX, f64::min);
            let covered = covered(nearest).max(covered(distance(at, &stray)) / 2.0);
            let noise = (draws.unit() + draws.unit() - 1.0) * 60.0;
            out.push((covered * ink + noise).clamp(0.0, 255.0) as u8);
        }
    }
}

/// Where a digit is and how it is turned: a linear map and a shift.
struct Place {
    map: [[f64; 2]; 2],
    centre: [f64; 2],
}

impl Place {
    fn draw(draws: &mut Draws, middle: f64) -> Self {
        let half_height = draws.between(4.0, 5.5);
        let aspect = draws.between(0.8, 1.2);
        let slant = draws.between(-0.25, 0.25);
        // Up to 17 degrees: (1 - t^2, 2t) / (1 + t^2) is on the unit circle, without sine or cosine.
        let t = draws.between(-0.15, 0.15);
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let [a, b] = [half_height * aspect, half_height * slant];
        let map = [[cos * a, cos * b - sin * half_height], [sin * a, sin * b + cos * half_height]];
        let centre = [0; 2].map(|_: i32| middle + draws.between(-2.0, 2.0));
        Self { map, centre }
    }

    fn of(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [0, 1].map(|i| self.centre[i] + self.map[i][0] * x + self.map[i][1] * y)
    }
}

/// From a point to a line segment.
fn distance([x, y]: [f64; 2], [[ax, ay], [bx, by]]: &[[f64; 2]; 2]) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((x - ax) * dx + (y - ay) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    let (ex, ey) = (x - ax - along * dx, y - ay - along * dy);
    (ex * ex + ey * ey).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_depend_on_seed_and_index_alone() {
        let (train, test) = procedural(7, 40, 20).unwrap();
        let (longer, _) = procedural(7, 60, 0).unwrap();
        assert_eq!(longer.first(40), train);
        assert_ne!(procedural(8, 40, 0).unwrap().0, train);
        assert_ne!(train.image(0), test.image(0));
        assert_eq!(&train.labels()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    /// Frozen: experiments on this set keep their meaning.
    #[test]
    fn pixels_are_pinned() {
        let (train, _) = procedural(7, 100, 0).unwrap();
        let sum: u64 = train
            .indices()
            .iter()
            .enumerate()
            .map(|(i, _)| {
                train
                    .image(i)
                    .unwrap()
                    .iter()
                    .enumerate()
                    .map(|(j, x)| u64::from(*x) * (j as u64 + 1))
                    .sum::<u64>()
            })
            .sum();
        assert_eq!(sum, 122_771_664);
    }
}
