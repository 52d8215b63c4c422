//! Laws of packing and merging, over arbitrary layouts and against the definition, index by index.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use bitvec::vec::BitVec;
use fedpress_fl::{Axis, Choice, Gather, Keep, Layout, Rule, Selection, gains, merge, pack};
use layouts::{any_layout, cases, line, masks, numbered};
use proptest::prelude::*;

fn selection(layout: &Layout, bits: u64) -> Selection {
    Selection::from_masks(layout, masks(layout, bits)).unwrap()
}

/// The kept indices of an axis by the definition: index = (a * units + u) * inner + b.
fn kept_indices(axis: &Axis, layout: &Layout, selection: &Selection) -> Vec<usize> {
    let mut base = 0;
    let mut kept = Vec::new();
    for segment in &axis.0 {
        let units = segment.group.map_or(1, |group| layout.groups()[group].units);
        for a in 0..segment.outer {
            for u in (0..units).filter(|u| segment.group.is_none_or(|g| selection.mask(g)[*u])) {
                kept.extend((0..segment.inner).map(|b| base + (a * units + u) * segment.inner + b));
            }
        }
        base += segment.outer * units * segment.inner;
    }
    kept
}

/// The kept elements of a parameter by the definition.
fn kept_elements(layout: &Layout, selection: &Selection, param: usize) -> Vec<usize> {
    let axes = &layout.params()[param].axes;
    let widen = |rows: Vec<usize>, (axis, n): (&Axis, usize)| {
        let kept = kept_indices(axis, layout, selection);
        rows.iter().flat_map(|row| kept.iter().map(move |i| row * n + i)).collect()
    };
    axes.iter().zip(layout.shape(param)).fold(vec![0], widen)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_gather_takes_the_elements_of_the_definition(layout in any_layout(), bits in any::<u64>()) {
        let selection = selection(&layout, bits);
        let sub = layout.submodel(&selection).unwrap();
        for param in 0..layout.params().len() {
            let gather = Gather::new(&layout, &selection, param).unwrap();
            let elements: Vec<usize> = (0..gather.n_full()).collect();
            let kept = kept_elements(&layout, &selection, param);
            prop_assert_eq!(&gather.gather(&elements), &kept);
            prop_assert_eq!(gather.n_packed(), kept.len());
            prop_assert_eq!(gather.shape(), &sub.shape(param)[..]);
            let runs: Vec<usize> = gather.runs().flat_map(|(start, len)| start..start + len).collect();
            prop_assert_eq!(runs, kept);
        }
    }

    #[test]
    fn merging_writes_what_was_kept_and_nothing_else(layout in any_layout(), bits in any::<u64>()) {
        let selection = selection(&layout, bits);
        let original = numbered(&layout);
        let mut packed = pack(&layout, &selection, &original).unwrap();
        layout.submodel(&selection).unwrap().check(&packed).unwrap();
        let mut full = original.clone();
        merge(&layout, &selection, &packed, &mut full).unwrap();
        prop_assert_eq!(&full, &original);
        for value in packed.iter_mut().flat_map(|param| &mut param.values) {
            *value = -1.0 - *value;
        }
        merge(&layout, &selection, &packed, &mut full).unwrap();
        for (i, (full, original)) in full.iter().zip(&original).enumerate() {
            let mut expected = original.values.clone();
            for element in kept_elements(&layout, &selection, i) {
                expected[element] = -1.0 - expected[element];
            }
            prop_assert_eq!(&full.values, &expected);
        }
        prop_assert_eq!(pack(&layout, &selection, &full).unwrap(), packed);
    }

    #[test]
    fn the_full_selection_changes_nothing(layout in any_layout()) {
        let full = Selection::full(&layout);
        let params = numbered(&layout);
        prop_assert_eq!(layout.submodel(&full).unwrap(), layout.clone());
        prop_assert_eq!(pack(&layout, &full, &params).unwrap(), params);
        for param in 0..layout.params().len() {
            let gather = Gather::new(&layout, &full, param).unwrap();
            prop_assert_eq!(gather.runs().collect::<Vec<_>>(), vec![(0, gather.n_full())]);
        }
        prop_assert!(gains(&layout, &full).iter().all(|gain| *gain == 1.0));
    }

    #[test]
    fn a_submodel_of_a_submodel_is_that_of_both_selections(
        layout in any_layout(), first in any::<u64>(), second in any::<u64>()
    ) {
        let outer = selection(&layout, first);
        let sub = layout.submodel(&outer).unwrap();
        let inner = selection(&sub, second);
        let both = |group: usize| -> BitVec {
            let mut mask = BitVec::repeat(false, layout.groups()[group].units);
            let kept: Vec<usize> = outer.kept(group).collect();
            inner.kept(group).for_each(|unit| mask.set(kept[unit], true));
            mask
        };
        let composed = (0..layout.groups().len()).map(both).collect();
        let composed = Selection::from_masks(&layout, composed).unwrap();
        let params = numbered(&layout);
        let step = pack(&layout, &outer, &params).unwrap();
        prop_assert_eq!(
            pack(&sub, &inner, &step).unwrap(),
            pack(&layout, &composed, &params).unwrap()
        );
        prop_assert_eq!(sub.submodel(&inner).unwrap(), layout.submodel(&composed).unwrap());
    }
}

#[test]
fn any_type_of_element_can_be_gathered() {
    let layout = line(4);
    let gather = Gather::new(&layout, &selection(&layout, 0b1010), 0).unwrap();
    let packed = gather.gather(&[[0u8, 1], [2, 3], [4, 5], [6, 7]]);
    assert_eq!(packed, [[2, 3], [6, 7]]);
    let mut full = [[9u8; 2]; 4];
    gather.scatter(&packed, &mut full);
    assert_eq!(full, [[9, 9], [2, 3], [9, 9], [6, 7]]);
}

#[test]
fn whole_rows_move_as_one_run() {
    let layout = Layout::from_toml(
        "[groups]\nout = 4\n[[parameters]]\nname = \"w\"\naxes = [\"out\", \"3\", \"5\"]\n",
    )
    .unwrap();
    let runs = |bits| {
        let gather = Gather::new(&layout, &selection(&layout, bits), 0).unwrap();
        gather.runs().collect::<Vec<_>>()
    };
    assert_eq!(runs(0b0110), [(15, 30)]);
    assert_eq!(runs(0b1011), [(0, 30), (45, 15)]);
}

#[test]
fn what_does_not_belong_together_is_refused_before_anything_is_written() {
    let (layout, other) = (line(4), line(5));
    let kept = selection(&layout, 0b0011);
    let full = numbered(&layout);
    let packed = pack(&layout, &kept, &full).unwrap();
    let mut target = full.clone();
    assert!(pack(&layout, &kept, &numbered(&other)).is_err());
    assert!(pack(&layout, &Selection::full(&other), &full).is_err());
    assert!(layout.submodel(&Selection::full(&other)).is_err());
    assert!(Gather::new(&layout, &kept, 1).is_err());
    assert!(Gather::new(&layout, &Selection::full(&other), 0).is_err());
    assert!(merge(&layout, &Selection::full(&layout), &packed, &mut target).is_err());
    assert!(merge(&layout, &kept, &full, &mut target).is_err());
    assert!(merge(&layout, &kept, &packed, &mut numbered(&other)).is_err());
    assert_eq!(target, full);
}

#[test]
fn sums_times_gain_have_the_expectation_of_full_sums() {
    const SEEDS: u64 = 4000;
    // 7 channels of 2 pixels each in front of a dense layer of one output.
    let layout = Layout::from_toml(
        "[groups]\nconv = 7\n[[parameters]]\nname = \"w\"\naxes = [\"1\", \"conv*2\"]\ninputs = [1]\n\
         [[parameters]]\nname = \"b\"\naxes = [\"1\"]\n",
    )
    .unwrap();
    let mut model = numbered(&layout);
    model[0].values = (0..14).map(|i| ((i * i) as f32).sin()).collect();
    let full_sum: f64 = model[0].values.iter().map(|v| f64::from(*v)).sum();
    let sums: Vec<f64> = (0..SEEDS)
        .map(|seed| {
            let choice = Choice { rule: Rule::Random { seed }, keep: Keep::from(0.5) };
            let selection = choice.select(&layout).unwrap();
            assert_eq!(gains(&layout, &selection), [7.0 / 4.0, 1.0]);
            let packed = pack(&layout, &selection, &model).unwrap();
            let sum: f64 = packed[0].values.iter().map(|v| f64::from(*v)).sum();
            sum * f64::from(gains(&layout, &selection)[0])
        })
        .collect();
    let n = SEEDS as f64;
    let mean = sums.iter().sum::<f64>() / n;
    let variance = sums.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    assert!((mean - full_sum).abs() <= 5.0 * error, "{mean} against {full_sum} +- {error}");
}
