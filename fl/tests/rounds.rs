//! Laws of rounds: who is asked, when a round ends, and what the server's model then is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::{
    Action, AggregatorOptions, Coordinator, Download, Keep, Layout, Policy, PrivateSeed, Reason,
    Received, RoundOptions, Scope, ServerOptimizer, ServerRule, Strategy, gains, pack,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn a_tenth_more_of_ten_is_eleven() {
    let all: Vec<u64> = (0..300).collect();
    for (n, over, asked) in [
        (10, 0.0, 10),
        (10, 0.1, 11),
        (10, 0.11, 12),
        (10, 0.3, 13),
        (100, 0.07, 107),
        (3, 100.0, 300),
        (3, 0.5, 5),
    ] {
        let mut server = server(options(n, 1, over));
        assert_eq!(server.begin(&all, 0).unwrap().len(), asked, "{n} {over}");
    }
    let mut server = server(options(10, 2, 0.5));
    assert_eq!(server.begin(&CLIENTS, 0).unwrap().len(), CLIENTS.len(), "all that are there");
}

#[test]
fn a_round_ends_with_the_last_update_it_needs() {
    let mut server = server(options(2, 1, 0.5));
    let asked = begin(&mut server, &CLIENTS, 5);
    assert_eq!((asked.len(), server.ends_at()), (3, Some(105)));
    let [a, b, c] = [0, 1, 2].map(|i| (asked[i].0, answer(asked[i].0, &asked[i].1)));
    assert_eq!(server.receive(c.0, &c.1, 6).unwrap(), [taken(c.0)]);
    assert_eq!(rejected(&server.receive(c.0, &c.1, 7).unwrap()), Reason::Duplicate);
    let actions = server.receive(a.0, &a.1, 8).unwrap();
    let [first, Action::Committed(summary)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*first, taken(a.0));
    assert_eq!((summary.round, summary.n_asked, summary.n_folded), (0, 3, 2));
    assert_eq!(summary.weight, a.0 + c.0);
    assert_eq!((server.round(), server.is_open(), server.ends_at()), (1, false, None));
    // Who was over-selected is late, before and after the next round begins.
    assert_eq!(rejected(&server.receive(b.0, &b.1, 9).unwrap()), Reason::Late);
    let asked: Vec<u64> = begin(&mut server, &CLIENTS, 10).iter().map(|s| s.0).collect();
    let again = if asked.contains(&b.0) { Reason::WrongRound } else { Reason::NotSelected };
    assert_eq!(rejected(&server.receive(b.0, &b.1, 11).unwrap()), again);
}

#[test]
fn at_the_deadline_enough_is_committed_and_too_few_abandoned() {
    for (n_sent, commits) in [(0, false), (1, false), (2, true), (3, true)] {
        let mut server = server(options(4, 2, 0.0));
        let before = server.model().to_vec();
        let asked = begin(&mut server, &CLIENTS, 0);
        for (client, message) in &asked[..n_sent] {
            assert_eq!(
                server.receive(*client, &answer(*client, message), 99).unwrap(),
                [taken(*client)]
            );
        }
        assert_eq!(server.tick(99).unwrap(), []);
        // An update that comes with the deadline is late.
        let (client, message) = &asked[3];
        let actions = server.receive(*client, &answer(*client, message), 100).unwrap();
        let (end, late) = actions.split_first().unwrap();
        assert_eq!(rejected(late), Reason::Late);
        match end {
            Action::Committed(summary) if commits => assert_eq!(summary.n_folded, n_sent),
            Action::Abandoned(summary) if !commits => assert_eq!(summary.n_folded, n_sent),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.model() != before, commits);
        assert_eq!(server.round(), 1, "so that no late update is taken for one of the next round");
        assert_eq!(server.tick(1000).unwrap(), []);
    }
}

#[test]
fn a_round_ends_when_nobody_is_left() {
    let mut server = server(options(3, 2, 0.0));
    let asked = begin(&mut server, &CLIENTS, 0);
    let ids = [0, 1, 2].map(|i| asked[i].0);
    assert_eq!(server.gone(ids[0], 1).unwrap(), []);
    assert_eq!(server.gone(ids[0], 1).unwrap(), []);
    for (client, message) in &asked[1..] {
        assert!(server.is_open());
        server.receive(*client, &answer(*client, message), 2).unwrap();
    }
    assert!(!server.is_open(), "two of three, and the third is gone");
    assert_eq!(server.round(), 1);
    let asked = begin(&mut server, &CLIENTS, 3);
    assert_eq!(server.gone(asked[0].0, 4).unwrap(), []);
    assert_eq!(server.gone(asked[1].0, 4).unwrap(), []);
    let actions = server.gone(asked[2].0, 4).unwrap();
    assert!(matches!(actions[..], [Action::Abandoned(_)]), "{actions:?}");
}

#[test]
fn who_vanished_may_come_back_and_begins_again() {
    let mut server = server(options(2, 2, 0.0));
    let asked = begin(&mut server, &CLIENTS, 0);
    let [a, b] = [0, 1].map(|i| (asked[i].0, answer(asked[i].0, &asked[i].1)));
    assert_eq!(server.receive(a.0, &a.1[..30], 1).unwrap(), []);
    assert_eq!(server.gone(a.0, 2).unwrap(), []);
    assert_eq!(resend(&mut server), asked[1..]);
    assert_eq!(server.receive(a.0, &a.1, 3).unwrap(), [taken(a.0)]);
    assert_eq!(server.gone(a.0, 4).unwrap(), [], "after its update is as good as staying");
    let actions = server.receive(b.0, &b.1, 5).unwrap();
    assert!(matches!(actions[..], [_, Action::Committed(_)]), "{actions:?}");
}

#[test]
fn strangers_change_nothing() {
    let mut server = server(options(2, 2, 0.0));
    let asked = begin(&mut server, &CLIENTS[..2], 0);
    let before = server.save().unwrap();
    for stranger in [1000, u64::MAX] {
        assert_eq!(rejected(&server.receive(stranger, b"x", 1).unwrap()), Reason::NotSelected);
        assert_eq!(server.gone(stranger, 1).unwrap(), []);
    }
    let (client, hostile) = (asked[0].0, [0; 10]);
    assert_eq!(rejected(&server.receive(client, &hostile, 1).unwrap()), Reason::Malformed);
    assert_eq!(server.save().unwrap(), before);
}

#[test]
fn the_step_is_that_of_aggregator_and_optimizer() {
    let rule = ServerRule::Sgd { rate: 0.7, momentum: 0.5 };
    let policy = policy(Strategy::Random, Scope::Client, 0.5);
    let mut server = server(RoundOptions { policy, rule, scaled: true, ..options(4, 1, 0.0) });
    let layout = layout();
    let mut model = model(&layout, 1);
    let mut optimizer = ServerOptimizer::new(rule, &model);
    for round in 0..3 {
        let mut sums =
            fedpress_fl::Aggregator::new(layout.clone(), RUN, round, Default::default()).unwrap();
        for (client, message) in begin(&mut server, &CLIENTS, 0) {
            let update = answer(client, &message);
            let download = Download::decode(&message, &Default::default()).unwrap();
            assert_eq!(download.header.client, Some(client));
            sums.expect(client, download.digest, &download.header.choice).unwrap();
            assert_eq!(sums.receive(client, &update), Received::Folded { samples: client });
            server.receive(client, &update, 1).unwrap();
        }
        optimizer.step(&mut model, &sums).unwrap();
        assert_eq!(server.model(), model);
    }
}

#[test]
fn statistics_of_the_full_model_are_put_in_their_place_and_nothing_else() {
    let mut server = server(options(2, 2, 0.0));
    let before = server.model().to_vec();
    let given = model(&layout(), 9);
    server.set_statistics(&given).unwrap();
    for ((found, before), given) in server.model().iter().zip(&before).zip(&given) {
        assert_eq!(found, if found.name == "norm.mean" { given } else { before });
    }
    assert!(server.set_statistics(&given[1..]).is_err());
    begin(&mut server, &CLIENTS, 0);
    assert!(server.set_statistics(&before).is_err(), "while clients train");
}

#[test]
fn a_scaled_broadcast_says_its_gains_and_has_the_weights_as_they_are() {
    let policy = policy(Strategy::Random, Scope::Client, 0.5);
    let layout = layout();
    for scaled in [true, false] {
        let policy = policy.clone();
        let mut server = server(RoundOptions { policy, scaled, ..options(4, 1, 0.0) });
        for (_, message) in begin(&mut server, &CLIENTS, 0) {
            let download = Download::decode(&message, &Default::default()).unwrap();
            let selection = download.header.choice.select(&layout).unwrap();
            assert_eq!(download.base, pack(&layout, &selection, &model(&layout, 1)).unwrap());
            let gains = gains(&layout, &selection);
            assert!(gains.iter().any(|gain| *gain > 1.0));
            assert_eq!(download.header.gains, if scaled { gains } else { vec![] });
        }
    }
}

/// Noise of the download does not accumulate: an update is measured against what was decoded.
#[test]
fn what_nobody_trains_stays_to_the_bit_whatever_the_downlink_loses() {
    for (down, scaled) in [("lossless", true), ("hadamard|q=1", false), ("hadamard|q=2", true)] {
        for up in ["lossless", "uplink"] {
            let policy = policy(Strategy::Random, Scope::Client, 0.5);
            let (down, up) = (down.parse().unwrap(), up.parse().unwrap());
            let mut server =
                server(RoundOptions { policy, down, up, scaled, ..options(3, 1, 0.0) });
            let before = server.model().to_vec();
            for _ in 0..3 {
                for (client, message) in begin(&mut server, &CLIENTS, 0) {
                    let update = untouched(client, &message);
                    let (_, delta) =
                        fedpress_fl::message::decode(&update, &Default::default()).unwrap();
                    assert!(delta.iter().flat_map(|p| &p.values).all(|v| *v == 0.0));
                    server.receive(client, &update, 1).unwrap();
                }
            }
            assert_eq!((server.round(), server.model()), (3, &before[..]));
        }
    }
}

#[test]
fn one_message_for_all_of_a_round_or_one_for_each_client() {
    for strategy in [Strategy::Random, Strategy::Ordered, Strategy::Rolling, Strategy::Balanced] {
        let of_scope = |scope| {
            let policy = policy(strategy, scope, 0.5);
            begin(&mut server(RoundOptions { policy, ..options(4, 1, 0.0) }), &CLIENTS, 0)
        };
        let shared = of_scope(Scope::Round);
        assert!(shared.iter().all(|(_, message)| Arc::ptr_eq(message, &shared[0].1)));
        let own = of_scope(Scope::Client);
        let bases: Vec<Download> =
            own.iter().map(|(_, m)| Download::decode(m, &Default::default()).unwrap()).collect();
        for (i, a) in bases.iter().enumerate() {
            assert_eq!(a.header.client, Some(own[i].0));
            assert!(bases[..i].iter().all(|b| a.digest != b.digest));
        }
        // Windows that roll from a start of each client's own may meet.
        let n_different = bases[1..].iter().filter(|b| b.base != bases[0].base).count();
        let expected = if strategy == Strategy::Ordered { 0..=0 } else { 2..=3 };
        assert!(expected.contains(&n_different), "{strategy:?}: {n_different}");
    }
    // Weak clients share a message of their own.
    let mut policy = policy(Strategy::Random, Scope::Round, 0.5);
    CLIENTS[..3].iter().for_each(|weak| drop(policy.clients.insert(*weak, Keep::from(0.2))));
    let all = begin(&mut server(RoundOptions { policy, ..options(6, 1, 0.0) }), &CLIENTS, 0);
    for (i, (_, message)) in all.iter().enumerate() {
        assert!(Arc::ptr_eq(message, &all[if i < 3 { 0 } else { 3 }].1));
    }
    assert!(all[0].1.len() < all[3].1.len());
}

#[test]
fn bytes_are_a_function_of_seeds_model_and_round() {
    let policy = policy(Strategy::Random, Scope::Client, 0.5);
    let down: fedpress_fl::Specs = "hadamard|q=4".parse().unwrap();
    let options = RoundOptions { policy, down, ..options(4, 1, 0.0) };
    let asked_by = |options: &RoundOptions, clients: &[u64]| {
        let mut server = server(options.clone());
        let asked = begin(&mut server, clients, 0);
        assert_eq!(resend(&mut server), asked);
        asked
    };
    let asked = asked_by(&options, &CLIENTS);
    let reversed: Vec<u64> = CLIENTS.iter().rev().chain(&CLIENTS).copied().collect();
    assert_eq!(asked_by(&options, &reversed), asked, "the order of clients does not matter");
    for other in [
        RoundOptions { seed: 99, ..options.clone() },
        RoundOptions { private: PrivateSeed::from_number(99), ..options.clone() },
        RoundOptions { run: 99, ..options.clone() },
    ] {
        assert!(asked_by(&other, &CLIENTS).iter().all(|(_, m)| asked.iter().all(|(_, a)| a != m)));
    }
    let mut server = server(options);
    server.begin(&CLIENTS, 0).unwrap();
    server.tick(100).unwrap();
    let next = begin(&mut server, &CLIENTS, 200);
    assert!(next.iter().all(|(_, m)| asked.iter().all(|(_, a)| a != m)), "fresh in each round");
}

#[test]
fn statistics_travel_without_loss_both_ways() {
    let (down, up) = ("hadamard|q=1".parse().unwrap(), "hadamard|q=1".parse().unwrap());
    let mut server = server(RoundOptions { down, up, ..options(1, 1, 0.0) });
    let before = server.model()[2].clone();
    let (_, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    let download = Download::decode(&message, &Default::default()).unwrap();
    assert_eq!(download.base[2], before);
    assert_eq!(download.header.up, exact("hadamard|q=1".parse().unwrap()));
    assert_ne!(download.base[0], server.model()[0]);
}

#[test]
fn a_round_that_cannot_be_is_refused_and_nothing_is_open() {
    let mut server = server(options(4, 3, 0.0));
    let invalid = |result: fedpress_fl::Result<Vec<u64>>| {
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    invalid(server.begin(&CLIENTS[..2], 0));
    invalid(server.begin(&[1, 1, 1, 1], 0));
    invalid(server.begin(&[1, 2, 3, u64::MAX], 0));
    assert!(!server.is_open() && server.missing().is_empty());
    assert_eq!(rejected(&server.receive(1, b"", 0).unwrap()), Reason::Late);
    assert_eq!(server.gone(1, 0).unwrap(), []);
    server.begin(&CLIENTS, 0).unwrap();
    invalid(server.begin(&CLIENTS, 0));
}

#[test]
fn options_that_contradict_each_other_or_the_layout_are_refused() {
    let layout = layout();
    let weak = BTreeMap::from([(3, Keep::from(2.0))]);
    let mut unknown = Policy::full();
    unknown.keep.groups.insert("nothing".into(), 0.5);
    let aggregator = AggregatorOptions { max_in_flight: 0, ..AggregatorOptions::default() };
    let good = || options(4, 2, 0.0);
    for bad in [
        options(0, 0, 0.0),
        options(4, 0, 0.0),
        options(4, 5, 0.0),
        options(4, 2, -0.1),
        options(4, 2, f64::NAN),
        options(4, 2, f64::INFINITY),
        RoundOptions { policy: unknown, ..good() },
        RoundOptions { policy: Policy { clients: weak, ..Policy::full() }, ..good() },
        RoundOptions { aggregator, ..good() },
        RoundOptions { patience: 0, ..good() },
    ] {
        let found = Coordinator::new(Layout::clone(&layout), model(&layout, 1), bad.clone());
        assert_eq!(*found.err().unwrap().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}

#[test]
fn what_is_refused_does_not_bring_back_who_vanished() {
    let mut server = server(options(2, 1, 0.0));
    let asked = begin(&mut server, &CLIENTS, 0);
    server.receive(asked[0].0, &answer(asked[0].0, &asked[0].1)[..30], 1).unwrap();
    assert_eq!(server.gone(asked[0].0, 2).unwrap(), []);
    assert_eq!(
        rejected(&server.receive(asked[0].0, b"the rest of it", 3).unwrap()),
        Reason::Malformed
    );
    assert_eq!(server.missing(), [asked[1].0]);
    let actions = server.receive(asked[1].0, &answer(asked[1].0, &asked[1].1), 4).unwrap();
    assert!(matches!(actions[..], [_, Action::Committed(_)]), "nobody is left: {actions:?}");
}

/// Masks that the server has chosen travel, are trained and folded like any others, over a restart
/// too; and it may choose again for the next round.
#[test]
fn masks_may_be_chosen_for_each_client_and_round() {
    let layout = Layout::clone(&layout());
    let masks = |odd: bool| -> Vec<_> {
        let mask = |group: &fedpress_fl::Group| (0..group.units).map(|i| (i % 2 == 1) == odd);
        layout.groups().iter().map(|group| mask(group).collect()).collect()
    };
    for scope in [Scope::Client, Scope::Round] {
        let policy = |odd| Policy {
            masks: BTreeMap::from([(CLIENTS[0], masks(odd))]),
            ..policy(Strategy::Random, scope, 0.5)
        };
        let options = RoundOptions { policy: policy(true), ..options(2, 2, 0.0) };
        let mut server = server(options.clone());
        for odd in [true, false] {
            server.set_policy(policy(odd)).unwrap();
            let before = server.model().to_vec();
            let asked = begin(&mut server, &CLIENTS[..2], 0);
            assert!(server.set_policy(policy(odd)).is_err(), "a round is open");
            let restored = RoundOptions { policy: policy(odd), ..options.clone() };
            let saved = server.save().unwrap();
            server = Coordinator::restore(&saved, layout.clone(), restored, &Default::default())
                .unwrap();
            assert_eq!(resend(&mut server), asked);
            let download = Download::decode(&asked[0].1, &Default::default()).unwrap();
            assert_eq!(download.header.choice.rule, fedpress_fl::Rule::Explicit(masks(odd)));
            // The head is 3 by c * 2: both values of units 1, 3, 5 or of 0, 2, 4.
            let head = |model: &[fedpress_fl::Parameter]| model[3].values.clone();
            let own: Vec<f32> = (0..36)
                .filter(|i| (i % 12 / 2 % 2 == 1) == odd)
                .map(|i| head(&before)[i])
                .collect();
            assert_eq!(head(&download.base), own);
            for (client, message) in &asked {
                server.receive(*client, &answer(*client, message), 1).unwrap();
            }
            assert!(!server.is_open());
            assert_ne!(server.model(), before);
        }
        assert!(
            server
                .set_policy(Policy { masks: BTreeMap::from([(3, vec![])]), ..policy(true) })
                .is_err()
        );
    }
}

#[test]
fn own_messages_are_made_when_asked_for_and_not_kept() {
    for (scope, kept) in [(Scope::Client, 0), (Scope::Round, 1)] {
        let policy = policy(Strategy::Random, scope, 0.5);
        let mut server = server(RoundOptions { policy, ..options(4, 1, 0.0) });
        for client in server.begin(&CLIENTS, 0).unwrap() {
            let message = server.send(client).unwrap();
            assert_eq!(Arc::strong_count(&message), 1 + kept);
            assert_eq!(server.send(client).unwrap(), message, "as often as it is asked for");
            assert_eq!(server.message(client).unwrap(), message, "and for a look at it");
        }
        server.tick(100).unwrap();
    }
}

#[test]
fn the_same_bytes_are_expected_whoever_made_them() {
    let mut server = server(options(3, 1, 0.0));
    let asked = server.begin(&CLIENTS, 0).unwrap();
    assert_eq!(server.missing(), asked);
    let before = server.save().unwrap();
    let message = server.message(asked[0]).unwrap();
    assert_eq!(server.save().unwrap(), before, "a look changes nothing");
    assert_eq!(server.send(asked[0]).unwrap(), message);
    assert_ne!(server.save().unwrap(), before, "what is sent may be answered");
    // Whoever was not even told may be gone, and come back.
    assert_eq!(server.gone(asked[1], 2).unwrap(), []);
    assert_eq!(server.missing(), [asked[0], asked[2]]);
    let layout = Layout::clone(&layout());
    let saved = server.save().unwrap();
    let restore = |options| {
        Coordinator::restore(&saved, layout.clone(), options, &Default::default()).unwrap()
    };
    let mut server = restore(options(3, 1, 0.0));
    assert_eq!(server.missing(), [asked[0], asked[2]]);
    // Those it has not been asked for after the restart either.
    for client in &asked {
        assert_eq!(
            server.receive(*client, &answer(*client, &message), 3).unwrap()[0],
            taken(*client)
        );
    }
    assert_eq!((server.is_open(), server.round()), (false, 1));
    assert!([asked[0], 1000].iter().all(|client| server.send(*client).is_err()));
    // Bytes that nobody could answer are not made.
    let mut other = restore(RoundOptions { seed: 99, ..options(3, 1, 0.0) });
    let errors = [other.message(asked[0]).err().unwrap(), other.send(asked[0]).err().unwrap()];
    assert!(errors.iter().all(|e| e.to_string().contains("another broadcast")), "{errors:?}");
}

#[test]
fn a_slow_update_loses_its_place_and_may_begin_again() {
    let mut options = RoundOptions { patience: 10, ..options(2, 2, 0.0) };
    options.aggregator.max_in_flight = 1;
    let mut server = server(options);
    let asked = begin(&mut server, &CLIENTS, 0);
    let [slow, quick] = [0, 1].map(|i| (asked[i].0, answer(asked[i].0, &asked[i].1)));
    assert_eq!(server.receive(slow.0, &slow.1[..20], 1).unwrap(), []);
    assert_eq!(server.receive(slow.0, &slow.1[20..30], 10).unwrap(), []);
    assert_eq!(rejected(&server.receive(quick.0, &quick.1, 10).unwrap()), Reason::Busy);
    let actions = server.receive(quick.0, &quick.1, 11).unwrap();
    let [Action::Reject(rejection), last] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((rejection.client, rejection.reason), (slow.0, Reason::Busy));
    assert_eq!(*last, taken(quick.0));
    assert_eq!(server.tick(50).unwrap(), [], "said once");
    // The rest of an update that is too slow is not taken for the beginning of another.
    assert_eq!(server.receive(slow.0, &slow.1[..20], 50).unwrap(), []);
    assert_eq!(rejected(&server.receive(slow.0, &slow.1[20..], 60).unwrap()), Reason::Busy);
    let actions = server.receive(slow.0, &slow.1, 61).unwrap();
    assert!(matches!(actions[..], [_, Action::Committed(_)]), "{actions:?}");
}
