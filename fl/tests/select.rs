//! Laws of selections: how many units each rule keeps, which, and how often.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress_fl::{Choice, Keep, Layout, Policy, PrivateSeed, Rule, Scope, Selection, Strategy};
use layouts::{any_layout, cases, line, mask};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn choice(rule: Rule, keep: f64) -> Choice {
    Choice { rule, keep: Keep::from(keep) }
}

fn kept(layout: &Layout, choice: &Choice) -> Vec<usize> {
    choice.select(layout).unwrap().kept(0).collect()
}

/// Groups `a` and `b` of 16 units.
fn pair() -> Layout {
    Layout::from_toml(
        "[groups]\na = 16\nb = 16\n[[parameters]]\nname = \"w\"\naxes = [\"a\", \"b\"]\n",
    )
    .unwrap()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_rule_keeps_exactly_its_count(
        layout in any_layout(), keep in 0.001f64..=1.0, number in any::<u64>()
    ) {
        for rule in [
            Rule::Random { seed: number },
            Rule::Ordered,
            Rule::Rolling { offset: number },
            Rule::Permuted { seed: number, position: number ^ 1 },
        ] {
            let choice = choice(rule, keep);
            let selection = choice.select(&layout).unwrap();
            prop_assert_eq!(&choice.select(&layout).unwrap(), &selection);
            for (i, group) in layout.groups().iter().enumerate() {
                let expected = ((keep * group.units as f64 + 0.5).floor() as usize).max(1);
                prop_assert_eq!(selection.n_kept(i), expected);
                prop_assert_eq!(selection.kept(i).count(), expected);
                prop_assert_eq!(selection.mask(i).len(), group.units);
            }
        }
    }

    #[test]
    fn ordered_selections_nest(units in 1usize..200, p in 0.001f64..=1.0, q in 0.001f64..=1.0) {
        let layout = line(units);
        let [few, many] = [p.min(q), p.max(q)].map(|keep| kept(&layout, &choice(Rule::Ordered, keep)));
        prop_assert_eq!(&many[..few.len()], &few[..]);
        prop_assert_eq!(many.last(), Some(&(many.len() - 1)));
    }

    #[test]
    fn a_window_covers_every_unit_equally_over_a_cycle(
        units in 1usize..40, keep in 0.01f64..=1.0, start in 0..=u64::MAX - 40
    ) {
        let layout = line(units);
        let mut times = vec![0; units];
        let mut n_kept = 0;
        for step in 0..units as u64 {
            let units = kept(&layout, &choice(Rule::Rolling { offset: start + step }, keep));
            n_kept = units.len();
            units.into_iter().for_each(|unit| times[unit] += 1);
        }
        prop_assert!(times.iter().all(|n| *n == n_kept), "{:?}", times);
    }
}

#[test]
fn a_balanced_round_trains_every_unit_equally_often() {
    let of_tier = |keep| Keep { default: keep, groups: BTreeMap::from([("a".to_owned(), 0.3)]) };
    let policy = Policy {
        strategy: Strategy::Balanced,
        scope: Scope::Client,
        keep: of_tier(0.75),
        clients: (5..9).map(|client| (client, of_tier(0.4))).collect(),
        masks: BTreeMap::new(),
    };
    let (layout, seed) = (pair(), PrivateSeed::from_number(3));
    for round in 0..50 {
        let cohort = [1, 4, 5, 6, 8, 11, 12];
        let positions = policy.positions(cohort);
        for tier in [&[1, 4, 11, 12][..], &[5, 6, 8]] {
            let mut times = [[0; 16]; 2];
            for client in tier {
                let choice = policy.choice(&seed, round, *client, positions[client]);
                let selection = choice.select(&layout).unwrap();
                for (group, times) in times.iter_mut().enumerate() {
                    selection.kept(group).for_each(|unit| times[unit] += 1);
                }
            }
            for times in times {
                let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
                assert!(most - least <= 1, "{times:?}");
            }
        }
    }
}

/// Of the stretches of a permutation every unit and every pair are in each equally often.
#[test]
fn permutations_are_uniform() {
    const SEEDS: usize = 20_000;
    let layout = line(16);
    let (mut units, mut pairs) = ([0; 16], 0);
    for seed in 0..SEEDS as u64 {
        let kept = kept(&layout, &choice(Rule::Permuted { seed, position: 1 }, 0.375));
        kept.iter().for_each(|unit| units[*unit] += 1);
        pairs += usize::from(kept.contains(&3) && kept.contains(&4));
    }
    for (unit, times) in units.into_iter().enumerate() {
        assert_proportion(times, SEEDS, 0.375, &format!("unit {unit}"));
    }
    assert_proportion(pairs, SEEDS, 6.0 / 16.0 * 5.0 / 15.0, "pairs");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_kept_by_cost_fits_and_every_group_keeps_half_of_its_share(
        layout in any_layout(), share in 0.05f64..=1.0
    ) {
        let keep = Keep::by_cost(&layout, share).unwrap();
        let choice = Choice { rule: Rule::Ordered, keep };
        let left = layout.submodel(&choice.select(&layout).unwrap()).unwrap();
        let mut at_least = true;
        for (full, left) in layout.groups().iter().zip(left.groups()) {
            let least = ((share / 2.0 * full.units as f64) as usize).max(1);
            prop_assert!(left.units >= least);
            at_least &= left.units == least;
        }
        // All groups at their least, where what is never dropped is too much.
        prop_assert!(at_least || left.n_values() as f64 <= share * layout.n_values() as f64);
    }
}

/// A step less of what was dropped, and the model would be too large.
#[test]
fn no_more_is_dropped_than_has_to_be() {
    let layout = Layout::from_toml(&layouts::cnn_toml(512, 10)).unwrap();
    for share in [0.9, 0.5625, 0.25, 0.1] {
        let keep = Keep::by_cost(&layout, share).unwrap();
        let values = |keep: Keep| {
            let selection = Choice { rule: Rule::Ordered, keep }.select(&layout).unwrap();
            layout.submodel(&selection).unwrap().n_values() as f64 / layout.n_values() as f64
        };
        assert!(values(keep.clone()) <= share, "{share}");
        // Of the first layer nothing has to be dropped, as there is nothing to win.
        assert_eq!(keep.groups["conv1"], 1.0, "{share}");
        let mut more = keep.clone();
        more.groups.insert("fc1".to_owned(), (keep.groups["fc1"] + 0.01).min(1.0));
        more.groups.insert("conv2".to_owned(), (keep.groups["conv2"] + 1.0 / 64.0).min(1.0));
        assert!(values(more) > share, "{share}: {keep:?}");
        // The one has about as many weights as the other: they give alike.
        assert!((keep.groups["fc1"] - keep.groups["conv2"]).abs() < 0.05, "{keep:?}");
    }
    for wrong in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(Keep::by_cost(&layout, wrong).is_err());
    }
}

#[test]
fn keeping_rounds_half_up_and_keeps_at_least_one() {
    for (units, keep, expected) in
        [(5, 0.5, 3), (4, 0.625, 3), (3, 0.5, 2), (10, 0.04, 1), (1, 1e-300, 1), (7, 1.0, 7)]
    {
        assert_eq!(kept(&line(units), &choice(Rule::Ordered, keep)).len(), expected);
    }
}

#[test]
fn a_group_may_keep_its_own_fraction() {
    let mut keep = Keep::from(0.5);
    keep.groups.insert("b".to_owned(), 0.25);
    let selection = Choice { rule: Rule::Random { seed: 1 }, keep }.select(&pair()).unwrap();
    assert_eq!([selection.n_kept(0), selection.n_kept(1)], [8, 4]);
}

#[test]
fn a_window_wraps_around() {
    let layout = line(5);
    let at = |offset| kept(&layout, &choice(Rule::Rolling { offset }, 0.6));
    assert_eq!(at(1), [1, 2, 3]);
    assert_eq!(at(3), [0, 3, 4]);
    assert_eq!(at(5), [0, 1, 2]);
    assert_eq!(at(u64::MAX), [0, 1, 2]); // 2^64 - 1 is a multiple of 5
}

// A change of these would make sender and receiver disagree.
#[test]
fn seeds_mean_these_units_for_ever() {
    let layout = pair();
    let selection = choice(Rule::Random { seed: 7 }, 0.5).select(&layout).unwrap();
    assert_eq!(selection.kept(0).collect::<Vec<_>>(), PINNED_A);
    assert_eq!(selection.kept(1).collect::<Vec<_>>(), PINNED_B);
    let policy = |strategy, scope| Policy {
        strategy,
        scope,
        keep: Keep::from(0.5),
        clients: BTreeMap::new(),
        masks: BTreeMap::new(),
    };
    let rule = |strategy, scope| {
        policy(strategy, scope).choice(&PrivateSeed::from_number(7), 3, 5, 2).rule
    };
    assert_eq!(rule(Strategy::Random, Scope::Round), Rule::Random { seed: PINNED_ROUND });
    assert_eq!(rule(Strategy::Random, Scope::Client), Rule::Random { seed: PINNED_CLIENT });
    assert_eq!(rule(Strategy::Rolling, Scope::Round), Rule::Rolling { offset: 3 });
    assert_eq!(rule(Strategy::Rolling, Scope::Client), Rule::Rolling { offset: PINNED_OFFSET });
    assert_eq!(rule(Strategy::Ordered, Scope::Client), Rule::Ordered);
    let permuted = |position| Rule::Permuted { seed: PINNED_ROUND, position };
    assert_eq!(rule(Strategy::Balanced, Scope::Client), permuted(2));
    assert_eq!(rule(Strategy::Balanced, Scope::Round), permuted(0));
    let stretch = |position| kept(&layout, &choice(Rule::Permuted { seed: 7, position }, 0.375));
    assert_eq!([stretch(0), stretch(1), stretch(2)], PINNED_STRETCHES);
}

// By forty lines of Python from MESSAGES.md 2.
const PINNED_STRETCHES: [[usize; 6]; 3] =
    [[0, 1, 3, 9, 11, 13], [6, 7, 8, 12, 14, 15], [1, 2, 3, 4, 5, 10]];
const PINNED_A: [usize; 8] = [0, 1, 2, 4, 5, 7, 8, 11];
const PINNED_B: [usize; 8] = [1, 2, 4, 5, 7, 11, 13, 15];
// By BLAKE3's Python package: keyed by the seed, of the purpose in a byte and round and client in eight.
const PINNED_ROUND: u64 = 0x8c98_9246_8143_90c9;
const PINNED_CLIENT: u64 = 0x7717_70e8_f847_5194;
const PINNED_OFFSET: u64 = 0x0000_0000_a353_a4e8;

#[test]
fn the_draw_of_a_group_depends_on_its_name_and_on_no_other_group() {
    let alone = kept(&line(16), &choice(Rule::Random { seed: 7 }, 0.5));
    let both = choice(Rule::Random { seed: 7 }, 0.5).select(&pair()).unwrap();
    assert_eq!(both.kept(0).collect::<Vec<_>>(), alone);
    assert_ne!(both.kept(1).collect::<Vec<_>>(), alone);
}

/// Within 5 standard errors of a proportion.
fn assert_proportion(times: usize, n: usize, p: f64, what: &str) {
    let (frequency, error) = (times as f64 / n as f64, (p * (1.0 - p) / n as f64).sqrt());
    assert!((frequency - p).abs() <= 5.0 * error, "{what}: {frequency} against {p} +- {error}");
}

#[test]
fn random_keeps_every_unit_and_every_pair_equally_often() {
    const SEEDS: usize = 20_000;
    let layout = pair();
    let mut units = [0; 32];
    let (mut neighbours, mut across) = (0, 0);
    for seed in 0..SEEDS as u64 {
        let selection = choice(Rule::Random { seed }, 0.375).select(&layout).unwrap();
        selection.kept(0).for_each(|unit| units[unit] += 1);
        selection.kept(1).for_each(|unit| units[16 + unit] += 1);
        let (a, b) = (selection.mask(0), selection.mask(1));
        neighbours += usize::from(a[3] && a[4]);
        across += usize::from(a[3] && b[3]);
    }
    for (unit, times) in units.into_iter().enumerate() {
        assert_proportion(times, SEEDS, 0.375, &format!("unit {unit}"));
    }
    // Without replacement in a group, independent between groups.
    assert_proportion(neighbours, SEEDS, 6.0 / 16.0 * 5.0 / 15.0, "neighbours");
    assert_proportion(across, SEEDS, 0.375 * 0.375, "same unit of two groups");
}

#[test]
fn scope_says_who_shares_a_submodel() {
    let layout = pair();
    for strategy in [Strategy::Random, Strategy::Rolling, Strategy::Balanced] {
        let select = |scope, round, client| {
            let (keep, clients) = (Keep::from(0.5), BTreeMap::new());
            Policy { strategy, scope, keep, clients, masks: BTreeMap::new() }
                .choice(&PrivateSeed::from_number(9), round, client, client)
                .select(&layout)
                .unwrap()
        };
        assert_eq!(select(Scope::Round, 4, 1), select(Scope::Round, 4, 2));
        assert_ne!(select(Scope::Round, 4, 1), select(Scope::Round, 5, 1));
        assert_ne!(select(Scope::Client, 4, 1), select(Scope::Client, 4, 2));
        assert_ne!(select(Scope::Client, 4, 1), select(Scope::Client, 5, 1));
    }
}

#[test]
fn a_weak_client_keeps_less() {
    let clients = BTreeMap::from([(3, Keep::from(0.25))]);
    let keep = Keep::from(0.5);
    let policy = Policy {
        strategy: Strategy::Random,
        scope: Scope::Round,
        keep,
        clients,
        masks: BTreeMap::new(),
    };
    let layout = pair();
    policy.check(&layout).unwrap();
    let n_kept = |client| {
        policy.choice(&PrivateSeed::from_number(1), 0, client, 0).select(&layout).unwrap().n_kept(0)
    };
    assert_eq!([n_kept(2), n_kept(3)], [8, 4]);
    let wrong = Policy { clients: BTreeMap::from([(3, Keep::from(2.0))]), ..policy };
    assert!(wrong.check(&layout).unwrap_err().to_string().contains("found 2"));
}

#[test]
fn full_keeps_everything() {
    let layout = pair();
    assert!(Selection::full(&layout).is_full());
    assert_eq!(Choice::full().select(&layout).unwrap(), Selection::full(&layout));
    assert!(!choice(Rule::Ordered, 0.5).select(&layout).unwrap().is_full());
}

#[test]
fn fractions_and_names_are_checked() {
    let layout = pair();
    for keep in [0.0, -0.5, 1.0001, f64::NAN, f64::INFINITY] {
        let error = choice(Rule::Ordered, keep).select(&layout).unwrap_err().to_string();
        assert!(error.contains("above 0 and up to 1"), "{error}");
    }
    for (name, fraction, why) in [("c", 0.5, "no group \"c\""), ("b", 0.0, "group \"b\"")] {
        let keep = Keep { default: 1.0, groups: BTreeMap::from([(name.to_owned(), fraction)]) };
        let error = Choice { rule: Rule::Ordered, keep }.select(&layout).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn explicit_masks_are_taken_as_they_are_and_checked() {
    let layout = Layout::from_toml(
        "[groups]\na = 3\nb = 2\n[[parameters]]\nname = \"w\"\naxes = [\"a\", \"b\"]\n",
    )
    .unwrap();
    let select = |masks: &[&str]| {
        let masks = masks.iter().map(|text| mask(text)).collect();
        choice(Rule::Explicit(masks), 0.1).select(&layout)
    };
    let selection = select(&["x.x", ".x"]).unwrap();
    assert_eq!(selection.kept(0).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(selection.kept(1).collect::<Vec<_>>(), [1]);
    for (masks, why) in [
        (&["xxx"][..], "expected 2 masks, found 1"),
        (&["xxx", "xx", "x"], "expected 2 masks, found 3"),
        (&["xx", "xx"], "group \"a\": expected a mask of 3 units, found 2"),
        (&["xxx", "xxx"], "group \"b\": expected a mask of 2 units, found 3"),
        (&["xxx", ".."], "group \"b\": the mask keeps no unit"),
    ] {
        let error = select(masks).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
