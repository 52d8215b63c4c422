//! Laws of the private seed: who is asked and which units are kept follow from it alone, and from
//! what a client is told nobody finds it, nor what others are told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress_fl::{Download, PrivateSeed, RoundOptions, Rule, Scope, Strategy};
use std::collections::BTreeSet;

const KNOWN: u64 = 0x5eed_0f12_3456_789a;

fn options_of(seed: u64, private: u64, scope: Scope) -> RoundOptions {
    let policy = policy(Strategy::Random, scope, 0.5);
    let private = PrivateSeed::from_number(private);
    RoundOptions { seed, private, policy, ..options(10, 1, 0.0) }
}

/// Who is asked in some rounds, and the seed of each submodel.
fn foreseen(options: RoundOptions) -> Vec<(u64, u64)> {
    let mut server = server(options);
    let everyone: Vec<u64> = (0..1000).collect();
    let mut seen = Vec::new();
    for _ in 0..3 {
        for (client, message) in begin(&mut server, &everyone, 0) {
            let download = Download::decode(&message, &Default::default()).unwrap();
            let Rule::Random { seed } = download.header.choice.rule else { panic!() };
            seen.push((client, seed));
        }
        server.tick(100).unwrap();
    }
    seen
}

#[test]
fn cohorts_and_masks_follow_from_the_private_seed_alone() {
    for scope in [Scope::Client, Scope::Round] {
        let of = |seed, private| foreseen(options_of(seed, private, scope));
        let (base, other_public, other_private) = (of(1, KNOWN), of(2, KNOWN), of(1, KNOWN + 1));
        assert_eq!(base, other_public);
        let clients = |seen: &[(u64, u64)]| seen.iter().map(|s| s.0).collect::<BTreeSet<u64>>();
        let seeds = |seen: &[(u64, u64)]| seen.iter().map(|s| s.1).collect::<BTreeSet<u64>>();
        assert!(seeds(&base).is_disjoint(&seeds(&other_private)));
        assert_eq!(seeds(&base).len(), if scope == Scope::Client { 30 } else { 3 });
        // Thirty of a thousand, twice: about one in common, and more than ten once in 10^8.
        assert!(clients(&base).intersection(&clients(&other_private)).count() <= 10);
    }
}

/// The SplitMix64 finalizer backwards.
fn unmix(mut z: u64) -> u64 {
    let unshift = |z: u64, by: u32| (1..64 / by + 1).fold(z, |x, _| z ^ (x >> by));
    let inverse =
        |m: u64| (0..6).fold(m, |x, _| x.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(x))));
    z = unshift(z, 31).wrapping_mul(inverse(0x94D0_49BB_1331_11EB));
    z = unshift(z, 27).wrapping_mul(inverse(0xBF58_476D_1CE4_E5B9));
    unshift(z, 30)
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The first part of a list whose key is known, as are the parts behind it.
fn first_part(key: u64, known: &[u64]) -> u64 {
    const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;
    let unabsorb = |hash, part: &u64| unmix(hash) ^ mix(part.wrapping_add(INCREMENT));
    let hash = known.iter().rev().fold(key, unabsorb);
    unmix(unmix(hash) ^ 0x6665_6470_7265_7373).wrapping_sub(INCREMENT)
}

/// Keys of public seeds can be run backwards, so nothing private may go through them: the attack finds
/// the seed of such a key, and no seed that explains what clients are sent.
#[test]
fn what_a_client_is_sent_does_not_give_the_seed_away() {
    let key = fedpress::derive_key(&[KNOWN, 5, 8, 0x10]);
    assert_eq!(first_part(key, &[5, 8, 0x10]), KNOWN);

    let mut server = server(options_of(1, KNOWN, Scope::Client));
    let asked = begin(&mut server, &CLIENTS, 0);
    for (client, message) in &asked {
        let download = Download::decode(message, &Default::default()).unwrap();
        let Rule::Random { seed } = download.header.choice.rule else { panic!() };
        for known in [&[0, *client, 0x10][..], &[0, *client], &[0, *client, 2], &[*client]] {
            assert_ne!(first_part(seed, known), KNOWN);
        }
        let public = fedpress::derive_key(&[1, 0]);
        assert_eq!(download.header.seed, public, "that of rotations is no secret");
    }
}

#[test]
fn logs_do_not_show_a_private_seed() {
    let shown = format!("{:?}", options_of(1, KNOWN, Scope::Client));
    assert!(shown.contains("PrivateSeed(..)"));
    let bytes = KNOWN.to_le_bytes();
    for part in [KNOWN.to_string(), format!("{KNOWN:x}"), format!("{bytes:?}")] {
        assert!(!shown.contains(part.trim_matches(['[', ']'])), "{shown}");
    }
}
