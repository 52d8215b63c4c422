//! Every instruction set gives the bits of the portable twin, and that those of FORMAT.md.

use super::*;
use crate::random::{word, word32};

/// Miri takes minutes for what is longer, and finds nothing more in it.
const LONGEST: usize = if cfg!(miri) { 64 } else { 1 << 16 };

fn levels() -> Vec<Kernel> {
    vec![Kernel::new(Simd::Scalar), Kernel::new(Simd::Avx2), Kernel::new(Simd::Auto)]
}

/// Ordinary values, and the awkward ones: zeros of both signs, subnormals, huge spans.
fn vectors(n: usize) -> Vec<Vec<f32>> {
    let unit = |key: u64| (0..n).map(move |i| (word(key, i as u64) >> 40) as f32 - 8e6);
    vec![
        unit(1).collect(),
        unit(2).map(|v| v * 1e-44).collect(),
        unit(3).map(|v| if (v as i32) % 3 == 0 { -0.0 } else { v * 1e11 }).collect(),
        unit(4).map(|v| if v > 0.0 { 0.0 } else { -0.0 }).collect(),
        unit(5).enumerate().map(|(i, v)| v * 10f32.powi(i as i32 % 40 - 30)).collect(),
    ]
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_level_gives_the_same_bits() {
    let lengths = [1usize, 2, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768];
    for n in lengths.into_iter().filter(|n| *n <= LONGEST) {
        for x in vectors(n) {
            let rotated: Vec<_> = levels()
                .iter()
                .map(|kernel| {
                    let mut y = vec![0.0; n];
                    let range = kernel.rotate(&x, &mut y, 99, &x);
                    assert_eq!(range, kernel.min_max(&y));
                    let forward = bits(&y);
                    let (mut work, mut back) = (vec![0.0; n], x.clone());
                    kernel.rotate_in_place(&mut back, 99);
                    assert_eq!(bits(&back), forward);
                    kernel.unrotate(&y, &mut work, &mut back, 99);
                    kernel.unrotate(&y, &mut [], &mut work, 99);
                    let mut through = [&[1.0, 2.0, 3.0], &y[..]].concat();
                    kernel.unrotate_through(&mut through, &mut vec![0.0; n], 99);
                    let mut shifted = [&[1.0], &y[..]].concat();
                    kernel.unrotate_in_place(&mut shifted[1..], 99);
                    kernel.unrotate_in_place(&mut y, 99);
                    assert_eq!(bits(&y), bits(&back));
                    assert_eq!(bits(&y), bits(&shifted[1..]));
                    assert_eq!(bits(&y), bits(&through[..n]));
                    assert_eq!(bits(&y), bits(&work));
                    (forward, bits(&y), kernel.peak_bits(&x))
                })
                .collect();
            assert_eq!(rotated[0], rotated[1], "n = {n}");
            assert_eq!(rotated[0], rotated[2], "n = {n}");
        }
    }
}

#[test]
fn every_level_shuffles_to_the_same_bytes_and_back() {
    for size in [1, 2, 3, 4, 8] {
        for n in (0..40).chain([63, 64, 65, 100, 1000].into_iter().filter(|n| *n <= LONGEST)) {
            let bytes: Vec<u8> = (0..n * size).map(|i| word(1, i as u64) as u8).collect();
            let expected: Vec<u8> =
                (0..size).flat_map(|p| bytes.iter().skip(p).step_by(size).copied()).collect();
            for kernel in levels() {
                let (mut planes, mut back) = (vec![0; bytes.len()], vec![0; bytes.len()]);
                kernel.shuffle(&bytes, size, &mut planes);
                assert_eq!(planes, expected, "{n} of {size}");
                kernel.unshuffle(&planes, size, &mut back);
                assert_eq!(back, bytes, "{n} of {size}");
            }
        }
    }
}

#[test]
fn every_level_moves_columns_alike_and_back() {
    for (stride, width, rows) in
        [(1, 1, 5), (7, 7, 9), (8, 8, 8), (40, 16, 24), (41, 15, 23), (16, 9, 7), (19, 19, 17)]
    {
        let columns = Columns { stride, width, rows };
        let matrix: Vec<f32> = (0..(rows - 1) * stride + width).map(|i| i as f32).collect();
        let places = (0..width).flat_map(|i| (0..rows).map(move |row| row * stride + i));
        let expected: Vec<f32> = places.map(|place| place as f32).collect();
        for kernel in levels() {
            let (mut found, mut back) = (vec![-1.0; width * rows], vec![-1.0; matrix.len()]);
            kernel.gather_columns(&matrix, columns, &mut found);
            assert_eq!(found, expected, "{columns:?}");
            kernel.scatter_columns(&found, columns, &mut back);
            let is_moved = |i: usize| i % stride < width;
            let kept = |(i, v): (usize, &f32)| if is_moved(i) { *v } else { -1.0 };
            let expected: Vec<f32> = matrix.iter().enumerate().map(kept).collect();
            assert_eq!(back, expected, "{columns:?}");
        }
    }
}

#[test]
fn every_level_rotates_columns_in_their_place_alike() {
    for (stride, from) in [(16, 0), (19, 3), (40, 24)] {
        for x in vectors(ROWS * stride) {
            let columns = Columns { stride, width: COLUMNS, rows: ROWS };
            let kernel = Kernel::new(Simd::Scalar);
            let mut unit = vec![0.0; ROWS * COLUMNS];
            let mut expected = [x.clone(), x.clone()];
            for (expected, inverse) in expected.iter_mut().zip([false, true]) {
                kernel.gather_columns(&x[from..], columns, &mut unit);
                match inverse {
                    false => kernel.rotate_in_place(&mut unit, 99),
                    true => kernel.unrotate_in_place(&mut unit, 99),
                }
                kernel.scatter_columns(&unit, columns, &mut expected[from..]);
            }
            for kernel in levels() {
                let (mut forward, mut back) = (x.clone(), x.clone());
                kernel.rotate_columns(&mut forward[from..], stride, &mut unit, 99);
                kernel.unrotate_columns(&mut back[from..], stride, &mut unit, 99);
                assert_eq!([forward, back].map(|y| bits(&y)), expected.each_ref().map(|y| bits(y)));
            }
        }
    }
}

#[test]
fn every_level_moves_values_by_masks_alike() {
    for x in vectors(16 * 64) {
        for key in 0..8 {
            // All densities, none and all among them.
            let mask = |i: u64| match (key, i % 5) {
                (_, 0) => 0,
                (_, 1) => u64::MAX,
                (0..4, _) => word(key, i) & word(key + 9, i),
                _ => word(key, i) | word(key + 9, i),
            };
            let masks: Vec<_> = (0..16).map(mask).collect();
            let chosen = |i: &usize| masks[i / 64] >> (i % 64) & 1 == 1;
            let expected: Vec<_> = (0..x.len()).filter(chosen).map(|i| x[i]).collect();
            for kernel in levels() {
                let mut kept = vec![f32::NAN; expected.len() + MASK_SLACK];
                assert_eq!(kernel.compress(&x, &masks, &mut kept), expected.len());
                assert_eq!(bits(&kept[..expected.len()]), bits(&expected));
                kept[expected.len()..].fill(f32::NAN);
                let mut back = vec![f32::NAN; x.len()];
                assert_eq!(kernel.expand(&kept, &masks, 0.75, &mut back), expected.len());
                let spread = |i| if chosen(&i) { x[i] * 0.75 } else { 0.0 };
                assert_eq!(bits(&back), bits(&(0..x.len()).map(spread).collect::<Vec<_>>()));
            }
        }
    }
}

#[test]
fn every_level_finds_the_code_of_a_number_between_thresholds() {
    let middles = |n: i32| (1 - n..n).map(|i| i as f32 * 0.0169 + (i as f32 * 0.01).powi(3));
    for q in 1..=8u32 {
        let all: Vec<f32> = middles(1 << (q - 1)).collect();
        let thresholds = Thresholds::new(all.clone());
        let beside = |t: &f32| [t.next_down(), *t, t.next_up()];
        let mut x: Vec<f32> = all.iter().flat_map(beside).collect();
        x.extend([0.0, -0.0, 1e-40, -9.0, 9.0, -1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]);
        x.extend((0..5000).map(|i| (word(3, i) >> 40) as f32 * 1e-6 - 8.4));
        let expected: Vec<_> = x.iter().map(|x| all.partition_point(|t| t <= x) as f32).collect();
        let table = std::array::from_fn(|i| i as f32);
        for kernel in levels() {
            let mut packed = vec![0; crate::code::packed_len(x.len(), q) + 16];
            kernel.count_below(&x, 1.0, &thresholds, q, &mut packed);
            let mut codes = vec![f32::NAN; x.len()];
            kernel.look_up(&packed, q, &table, &mut codes);
            for ((code, expected), x) in codes.iter().zip(&expected).zip(&x) {
                assert_eq!(code, expected, "{x} in {q} bits");
            }
        }
    }
}

#[test]
fn sums_of_products_do_not_depend_on_the_level_or_on_cuts() {
    for (a, b) in vectors(5003).into_iter().zip(vectors(5003).into_iter().rev()) {
        let expected = Kernel::new(Simd::Scalar).sum_of_products(&a, &b);
        for kernel in levels() {
            assert_eq!(kernel.sum_of_products(&a, &b).to_bits(), expected.to_bits());
            let mut sums = [0.0; 16];
            for at in [0..32, 32..4096, 4096..5003] {
                kernel.add_products(&mut sums, &a[at.clone()], &b[at]);
            }
            assert_eq!(sums.iter().sum::<f64>().to_bits(), expected.to_bits());
        }
    }
}

#[test]
fn every_level_counts_and_measures_multiples_alike() {
    let step = Step::Nearest { dead: 0.1, shifts: [0.0; 2] };
    for (x, inverse) in vectors(5003).into_iter().flat_map(|x| [(x.clone(), 1e-6), (x, 1.0)]) {
        let mut k = vec![f32::NAN; x.len()];
        Kernel::new(Simd::Scalar).divide(&x, 0, inverse, step, &mut k);
        let count = |token| k.iter().filter(|k| rans::token(**k as i32) == token).count();
        let counts: Vec<usize> = (0..256).map(count).collect();
        let those = |of: fn(f32) -> bool| {
            let pairs = k.iter().zip(&x).filter(move |(k, _)| of(k.abs()));
            pairs.map(|(k, x)| (f64::from(k.abs()), f64::from(x.abs())))
        };
        for kernel in levels() {
            let mut tally = Tally::new();
            kernel.count(&k, &mut tally);
            assert!((0..256).all(|token| tally.of(token) as usize == counts[token]));
            let [ones, more] = kernel.measure(&x, inverse, step);
            assert_eq!([ones, more], Kernel::new(Simd::Scalar).measure(&x, inverse, step));
            for (found, of) in [(ones, (|k| k == 1.0) as fn(f32) -> bool), (more, |k| k > 1.0)] {
                assert_eq!(found.n as usize, those(of).count());
                assert_eq!(found.multiples, those(of).map(|(k, _)| k).sum::<f64>());
                let numbers: f64 = those(of).map(|(_, x)| x).sum();
                assert!((found.numbers - numbers).abs() <= 1e-9 * numbers);
            }
        }
    }
}

/// FORMAT.md, section 9, a value at a time; many are the largest, whose position is rounded above the last
/// level now and then.
#[test]
fn every_level_rounds_by_the_draws_of_the_format() {
    for (key, q) in (0..50).flat_map(|key| (1..=16).map(move |q| (key, q))) {
        let number = |i| (word(key, i) >> 40) as f32 * 1e-3;
        let (lo, hi) = (number(0) - 1e4, number(0) - 1e4 + number(1) + 1e-2);
        let grid = Grid::cover(lo, hi, q);
        let x: Vec<_> = (0..100).map(|i| if i % 3 == 0 { lo + number(i) } else { hi }).collect();
        let x: Vec<_> = x.into_iter().map(|x| x.min(hi)).collect();
        let (top, scale) = (((1u32 << q) - 1) as f32 * 32768.0, grid.inverse * 32768.0);
        let expected = x.iter().enumerate().map(|(i, x)| {
            let draw = word32(key, i as u32 / 2) >> (16 * (i % 2) + 1) & 0x7fff;
            let fixed = ((x - lo) * scale).min(top).round_ties_even() as u32;
            lo + ((fixed + draw) >> 15) as f32 * grid.step
        });
        let expected: Vec<_> = expected.collect();
        for kernel in levels() {
            let mut packed = vec![0; crate::code::packed_len(x.len(), q) + 16];
            kernel.quantize(&x, &grid, Rounding::Stochastic(key), &mut packed);
            packed.truncate(crate::code::packed_len(x.len(), q));
            let mut out = vec![f32::NAN; x.len()];
            kernel.dequantize(&packed, &grid, &mut out);
            assert_eq!(out, expected, "{lo} to {hi} in {q} bits");
        }
    }
}

#[test]
fn every_level_quantizes_to_the_same_bytes() {
    let lengths = [1usize, 3, 15, 16, 17, 250, 256, 1000, 4096, 5000];
    for n in lengths.into_iter().filter(|n| *n <= LONGEST) {
        for (q, x) in (1..=16).flat_map(|q| vectors(n).into_iter().map(move |x| (q, x))) {
            for rounding in [Rounding::Stochastic(5), Rounding::Nearest] {
                let results: Vec<_> = levels()
                    .iter()
                    .map(|kernel| {
                        let (lo, hi) = kernel.min_max(&x);
                        let grid = Grid::cover(lo, hi, q);
                        let mut packed = vec![0xAA; crate::code::packed_len(n, q) + 16];
                        kernel.quantize(&x, &grid, rounding, &mut packed);
                        packed.truncate(crate::code::packed_len(n, q));
                        let mut out = vec![f32::NAN; n];
                        kernel.dequantize(&packed, &grid, &mut out);
                        kernel.add_scaled(&mut out, &x, 0.25);
                        (packed, bits(&out), lo.to_bits(), hi.to_bits())
                    })
                    .collect();
                assert_eq!(results[0], results[1], "n = {n}, q = {q}");
                assert_eq!(results[0], results[2], "n = {n}, q = {q}");
            }
        }
    }
}
