//! [`View`]: an image as one pass over the data sees it.

use crate::random::{Draws, Purpose};
use serde::{Deserialize, Serialize};

/// How far an image may be moved, in pixels.
const SHIFT: u32 = 4;

/// How images are varied from pass to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// Not at all.
    #[default]
    None,
    /// Moved by up to four pixels each way; black comes in from the edge.
    Crop,
    /// Moved, and mirrored left to right half of the time.
    CropFlip,
    /// Moved, mirrored, and a square of half the width grey (Cutout, DeVries & Taylor 2017).
    CropFlipCutout,
}

impl Augment {
    /// What pass `number` sees of an example: a function of its arguments, so that teacher and
    /// student, in different places and at different times, see the same pixels.
    pub(crate) fn view(self, [height, width]: [usize; 2], seed: u64, number: u64, i: u32) -> View {
        let mut view = View::plain();
        if self == Self::None {
            return view;
        }
        let key = fedpress::derive_key(&[seed, number]);
        let mut draws = Draws::new(key, Purpose::View, u64::from(i));
        let mut shift = || draws.below(2 * SHIFT + 1) as isize - SHIFT as isize;
        (view.down, view.right) = (shift(), shift());
        let (flip, [y, x]) =
            (draws.below(2) == 1, [height, width].map(|n| draws.below(n as u32) as usize));
        view.flip = flip && self != Self::Crop;
        if self == Self::CropFlipCutout {
            let half = width / 4;
            view.hole = Some([y.saturating_sub(half), y + half, x.saturating_sub(half), x + half]);
        }
        view
    }
}

/// What is done to an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    down: isize,
    right: isize,
    flip: bool,
    /// First row, row behind the last, first column, column behind the last.
    hole: Option<[usize; 4]>,
}

impl View {
    /// Nothing.
    pub(crate) fn plain() -> Self {
        Self { down: 0, right: 0, flip: false, hole: None }
    }

    /// Appends a channel as the view shows it; `table` has what each byte becomes. A hole has the
    /// value 0 whatever the normalisation.
    pub(crate) fn show(
        self,
        channel: &[u8],
        [height, width]: [usize; 2],
        table: &[f32; 256],
        out: &mut Vec<f32>,
    ) {
        if self == Self::plain() {
            out.extend(channel.iter().map(|x| table[usize::from(*x)]));
            return;
        }
        for y in 0..height {
            for x in 0..width {
                let hole = self.hole.is_some_and(|[top, bottom, left, right]| {
                    (top..bottom).contains(&y) && (left..right).contains(&x)
                });
                let from_y = y.checked_add_signed(-self.down).filter(|y| *y < height);
                let unflipped = if self.flip { width - 1 - x } else { x };
                let from_x = unflipped.checked_add_signed(-self.right).filter(|x| *x < width);
                let byte = match (from_y, from_x) {
                    (Some(y), Some(x)) => channel[y * width + x],
                    _ => 0,
                };
                out.push(if hole { 0.0 } else { table[usize::from(byte)] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: [usize; 2] = [3, 4];

    fn shown(view: View) -> Vec<f32> {
        let channel: Vec<u8> = (1..=12).collect();
        let table = std::array::from_fn(|x| x as f32);
        let mut out = Vec::new();
        view.show(&channel, SIDE, &table, &mut out);
        out
    }

    #[test]
    fn views_move_mirror_and_blank() {
        let plain = View::plain();
        assert_eq!(shown(plain)[..4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(shown(View { flip: true, ..plain })[..4], [4.0, 3.0, 2.0, 1.0]);
        let moved = shown(View { down: 1, right: -1, ..plain });
        assert_eq!(moved, [0., 0., 0., 0., 2., 3., 4., 0., 6., 7., 8., 0.]);
        let hole = shown(View { hole: Some([1, 2, 2, 9]), ..plain });
        assert_eq!(hole, [1., 2., 3., 4., 5., 6., 0., 0., 9., 10., 11., 12.]);
    }

    #[test]
    fn a_view_is_a_function_of_seed_number_and_example() {
        let views = |seed, number| -> Vec<View> {
            (0..50).map(|i| Augment::CropFlipCutout.view([32, 32], seed, number, i)).collect()
        };
        assert_eq!(views(1, 2), views(1, 2));
        assert_ne!(views(1, 2), views(1, 3));
        assert_ne!(views(1, 2), views(2, 2));
        let all: Vec<View> = (0..40).flat_map(|number| views(7, number)).collect();
        assert!(all.iter().all(|v| v.down.abs() <= 4 && v.right.abs() <= 4));
        assert!([-4, 4].iter().all(|s| all.iter().any(|v| v.down == *s)));
        // 2,000 fair draws: 4 standard errors are 179.
        let flips = all.iter().filter(|v| v.flip).count();
        assert!(flips.abs_diff(1000) < 179, "{flips}");
        assert!((0..9).all(|i| Augment::None.view([8, 8], 1, 2, i) == View::plain()));
        assert!((0..9).all(|i| !Augment::Crop.view([8, 8], 1, 2, i).flip));
    }
}
