//! Choices on the wire: every choice has one form, and every other form is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress::ErrorKind;
use fedpress_fl::{Choice, Error, Keep, Rule};
use layouts::{cases, mask};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn bytes(choice: &Choice) -> Vec<u8> {
    let mut out = Vec::new();
    choice.write_to(&mut out);
    out
}

fn read(mut bytes: &[u8]) -> Result<Choice, Error> {
    Choice::read_from(&mut bytes)
}

fn any_choice() -> impl Strategy<Value = Choice> {
    let mask = prop::collection::vec(any::<bool>(), 1..40).prop_map(|mut bits| {
        bits[0] |= bits.iter().all(|bit| !bit);
        bits.into_iter().collect()
    });
    let rule = prop_oneof![
        any::<u64>().prop_map(|seed| Rule::Random { seed }),
        Just(Rule::Ordered),
        any::<u64>().prop_map(|offset| Rule::Rolling { offset }),
        any::<[u64; 2]>().prop_map(|[seed, position]| Rule::Permuted { seed, position }),
        prop::collection::vec(mask, 0..4).prop_map(Rule::Explicit),
    ];
    let groups = prop::collection::btree_map("[a-zé]{0,5}", 0.001f64..=1.0, 0..4);
    (rule, 0.001f64..=1.0, groups)
        .prop_map(|(rule, default, groups)| Choice { rule, keep: Keep { default, groups } })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn choices_survive_and_leave_the_rest(choice in any_choice(), rest in any::<[u8; 3]>()) {
        let mut stream = bytes(&choice);
        stream.extend(rest);
        let mut left = &stream[..];
        prop_assert_eq!(Choice::read_from(&mut left).unwrap(), choice);
        prop_assert_eq!(left, &rest[..]);
    }

    #[test]
    fn every_truncation_is_corrupt_and_consumes_nothing(choice in any_choice()) {
        let whole = bytes(&choice);
        for n in 0..whole.len() {
            let mut left = &whole[..n];
            let error = Choice::read_from(&mut left).unwrap_err();
            prop_assert_eq!(error.kind(), &ErrorKind::Corrupt);
            prop_assert_eq!(left.len(), n);
        }
    }

    #[test]
    fn every_flipped_bit_is_an_error_or_another_choice(choice in any_choice()) {
        let whole = bytes(&choice);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut left = &flipped[..];
            if let Ok(other) = Choice::read_from(&mut left) {
                prop_assert_ne!(&other, &choice);
                prop_assert_eq!(&bytes(&other)[..], &flipped[..flipped.len() - left.len()]);
            }
        }
    }

    #[test]
    fn no_bytes_make_a_panic(noise in prop::collection::vec(any::<u8>(), 0..64), rule in 0u8..6) {
        let _ = read(&noise);
        let _ = read(&[&[rule][..], &noise].concat());
    }
}

#[test]
fn the_bytes_are_these() {
    let choice = Choice {
        rule: Rule::Explicit(vec![mask("x.......x."), mask(".x")]),
        keep: Keep { default: 1.0, groups: BTreeMap::from([("fc".to_owned(), 0.5)]) },
    };
    let expected = [
        &[3, 2, 0, 0, 0, 10, 0, 0, 0, 0b1, 0b1, 2, 0, 0, 0, 0b10][..],
        &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 1, 0, 0, 0],
        &[2, 0, b'f', b'c', 0, 0, 0, 0, 0, 0, 0xe0, 0x3f],
    ];
    assert_eq!(bytes(&choice), expected.concat());
    let rule = |rule| bytes(&Choice { rule, keep: Keep::from(1.0) });
    assert_eq!(rule(Rule::Random { seed: 0x0102 })[..9], [0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rule(Rule::Ordered)[..1], [1]);
    assert_eq!(rule(Rule::Rolling { offset: 3 })[..9], [2, 3, 0, 0, 0, 0, 0, 0, 0]);
    let permuted = rule(Rule::Permuted { seed: 3, position: 4 });
    assert_eq!(permuted[..17], [4, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_has_another_form_is_refused() {
    let one = 1f64.to_le_bytes();
    let group = |name: &[u8], fraction: f64| {
        [&(name.len() as u16).to_le_bytes()[..], name, &fraction.to_le_bytes()].concat()
    };
    let ordered = |default: f64, groups: &[Vec<u8>]| {
        let count = (groups.len() as u32).to_le_bytes();
        [&[1][..], &default.to_le_bytes(), &count, &groups.concat()].concat()
    };
    let explicit = |masks: &[u8]| [&[3][..], masks, &one, &[0; 4]].concat();
    for (bytes, why) in [
        (ordered(0.0, &[]), "fraction"),
        (ordered(-0.0, &[]), "fraction"),
        (ordered(1.5, &[]), "fraction"),
        (ordered(f64::NAN, &[]), "fraction"),
        (ordered(1.0, &[group(b"a", 2.0)]), "fraction"),
        (ordered(1.0, &[group(b"a", 0.5), group(b"a", 0.5)]), "ascending"),
        (ordered(1.0, &[group(b"b", 0.5), group(b"a", 0.5)]), "ascending"),
        (ordered(1.0, &[group(b"\xff", 0.5)]), "UTF-8"),
        (explicit(&[1, 0, 0, 0, 3, 0, 0, 0, 0b1001]), "spare bits"),
        (explicit(&[1, 0, 0, 0, 3, 0, 0, 0, 0]), "keeps no unit"),
        (explicit(&[1, 0, 0, 0, 0, 0, 0, 0]), "keeps no unit"),
        // Numbers that would need gigabytes.
        (vec![3, 0xff, 0xff, 0xff, 0xff], "more bytes"),
        (explicit(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), "more bytes"),
        ([&[1][..], &one, &[0xff; 4]].concat(), "more bytes"),
        ([&[1][..], &one, &[1, 0, 0, 0, 0xff, 0xff]].concat(), "more bytes"),
    ] {
        let error = read(&bytes).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{bytes:?}");
        assert!(error.to_string().contains(why), "{bytes:?}: {error}");
    }
    let error = read(&[5, 0, 0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported { found, .. } if found == "rule 5"));
}
