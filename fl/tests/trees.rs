//! Laws of rounds over a tree of servers: states that come from below, and what is then waited for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress_fl::{
    Action, Aggregator, Choice, Coordinator, Digest, Download, Received, RoundOptions, Scope,
    Strategy,
};

/// An aggregator for some of the clients of the open round.
fn leaf(root: &Coordinator) -> Aggregator {
    Aggregator::new(layout(), RUN, root.round(), root.aggregator_options().unwrap()).unwrap()
}

#[test]
fn a_round_over_two_edge_servers_is_the_round_without_them() {
    let options = RoundOptions {
        policy: policy(Strategy::Random, Scope::Client, 0.5),
        up: LOSSY.parse().unwrap(),
        ..options(4, 4, 0.0)
    };
    let (mut flat, mut root) = (server(options.clone()), server(options));
    let broadcasts = begin(&mut flat, &CLIENTS, 0);
    assert_eq!(begin(&mut root, &CLIENTS, 0), broadcasts);
    let mut edges = [leaf(&root), leaf(&root)];
    for (i, (client, message)) in broadcasts.iter().enumerate() {
        flat.receive(*client, &answer(*client, message), 1).unwrap();
        let choice = Download::decode(message, &Default::default()).unwrap().header.choice;
        edges[i % 2].expect(*client, Digest::of(message), &choice).unwrap();
        let received = edges[i % 2].receive(*client, &answer(*client, message));
        assert!(matches!(received, Received::Folded { .. }));
    }
    let [first, second] = edges.map(|edge| edge.save().unwrap());
    assert_eq!(root.merge(&first, 1, &Default::default()).unwrap(), []);
    assert!(root.merge(&first, 1, &Default::default()).is_err(), "the same clients again");
    let last = root.merge(&second, 1, &Default::default()).unwrap();
    assert!(matches!(last[..], [Action::Committed(summary)] if summary.n_folded == 4));
    assert_eq!(root.model(), flat.model());
    assert!(root.merge(&second, 1, &Default::default()).is_err(), "no round is open");
}

/// The root of a tree knows whom it asked; a server below it that took others is not believed.
#[test]
fn a_merge_brings_nobody_who_was_not_asked() {
    let mut root = server(options(4, 4, 0.0));
    let asked = begin(&mut root, &CLIENTS[..4], 0);
    let (client, message) = &asked[0];
    let choice = Download::decode(message, &Default::default()).unwrap().header.choice;
    for (stranger, answers) in [(1000, true), (1000, false)] {
        let mut edge = leaf(&root);
        edge.expect(*client, Digest::of(message), &choice).unwrap();
        edge.receive(*client, &answer(*client, message));
        edge.expect(stranger, Digest::of(message), &choice).unwrap();
        if answers {
            edge.receive(stranger, &answer(stranger, message));
        }
        let before = root.save().unwrap();
        let error = root.merge(&edge.save().unwrap(), 1, &Default::default()).unwrap_err();
        assert!(error.to_string().contains("client 1000 was not asked"), "{error}");
        assert_eq!(root.save().unwrap(), before);
    }
}

/// A server near the clients makes the same broadcasts and folds; the root has only begun.
#[test]
fn what_a_tree_has_folded_is_not_waited_for() {
    let mut edge = server(RoundOptions { patience: 10, ..options(6, 1, 0.0) });
    let mut root = server(RoundOptions { patience: 10, ..options(6, 1, 0.0) });
    let asked = begin(&mut edge, &CLIENTS, 0);
    assert_eq!(root.begin(&CLIENTS, 0).unwrap().len(), 6);
    let mut sums = leaf(&root);
    for (client, message) in &asked[..4] {
        let download = Download::decode(message, &Default::default()).unwrap();
        sums.expect(*client, download.digest, &download.header.choice).unwrap();
        sums.receive(*client, &answer(*client, message));
    }
    // At the root one of these is gone and one is on its way.
    assert_eq!(root.gone(asked[0].0, 1).unwrap(), []);
    assert_eq!(root.receive(asked[1].0, &[], 1).unwrap(), []);
    let decode = Default::default();
    assert!(root.merge(b"no state", 2, &decode).is_err() && root.is_open());
    let mut stray = leaf(&root);
    stray.expect(asked[1].0, Digest([7; 32]), &Choice::full()).unwrap();
    let error = root.merge(&stray.save().unwrap(), 2, &decode).unwrap_err();
    assert!(error.to_string().contains("expected base"), "{error}");
    assert_eq!(root.merge(&sums.save().unwrap(), 20, &decode).unwrap(), [], "nothing is slow");
    assert_eq!(root.missing(), [asked[4].0, asked[5].0]);
    assert_eq!(root.gone(asked[4].0, 21).unwrap(), []);
    assert!(root.merge(&sums.save().unwrap(), 100, &decode).is_err() && root.is_open());
    let (client, message) = &asked[5];
    let actions = root.receive(*client, &answer(*client, message), 22).unwrap();
    let [_, Action::Committed(summary)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((summary.n_asked, summary.n_folded), (6, 5));
}

/// The leaves make the broadcasts. The root has not made one when all is folded: it checks what they
/// were of, and takes the leaf's word for their bytes.
#[test]
fn a_root_makes_no_broadcast_for_what_comes_from_below() {
    let options =
        RoundOptions { policy: policy(Strategy::Random, Scope::Client, 0.5), ..options(4, 4, 0.0) };
    let mut root = server(options.clone());
    let asked = root.begin(&CLIENTS, 0).unwrap();
    // As the root's machine would hand it to another one.
    let layout = layout();
    let mut below = Coordinator::restore(
        &root.save().unwrap(),
        fedpress_fl::Layout::clone(&layout),
        options,
        &Default::default(),
    )
    .unwrap();
    let mut wrong = leaf(&root);
    let mut right = leaf(&root);
    for client in &asked {
        let message = below.send(*client).unwrap();
        let choice = Download::decode(&message, &Default::default()).unwrap().header.choice;
        right.expect(*client, Digest::of(&message), &choice).unwrap();
        right.receive(*client, &answer(*client, &message));
        wrong.expect(*client, Digest::of(&message), &random(1, 0.5)).unwrap();
    }
    let before = root.save().unwrap();
    let error = root.merge(&wrong.save().unwrap(), 1, &Default::default()).unwrap_err();
    assert!(error.to_string().contains("another submodel"), "{error}");
    assert_eq!(root.save().unwrap(), before);
    // A merge that has to wait for more; what was expected there and has not come, the root knows.
    let (first, rest) = asked.split_at(2);
    let mut half = leaf(&root);
    for client in &asked {
        let message = below.message(*client).unwrap();
        let sent = if first.contains(client) { &message[..] } else { &client.to_le_bytes() };
        let base = Digest::of(sent);
        let choice = Download::decode(&message, &Default::default()).unwrap().header.choice;
        half.expect(*client, base, &choice).unwrap();
        if first.contains(client) {
            half.receive(*client, &answer(*client, &message));
        }
    }
    assert_eq!(root.merge(&half.save().unwrap(), 1, &Default::default()).unwrap(), []);
    assert_eq!(root.missing(), rest);
    for client in rest {
        let message = below.message(*client).unwrap();
        let actions = root.receive(*client, &answer(*client, &message), 2).unwrap();
        assert_eq!(actions[0], taken(*client), "it answers what the leaf sent");
    }
    assert!(!root.is_open());
}

/// Sums cannot be taken apart: the whole of the second leaf is refused, and the error says why.
#[test]
fn leaves_have_disjoint_clients() {
    let mut root = server(options(4, 4, 0.0));
    let asked = begin(&mut root, &CLIENTS[..4], 0);
    let of = |clients: &[usize]| {
        let mut sums = leaf(&root);
        for at in clients {
            let (client, message) = &asked[*at];
            sums.expect(*client, Digest::of(message), &Choice::full()).unwrap();
            sums.receive(*client, &answer(*client, message));
        }
        sums.save().unwrap()
    };
    let [first, second] = [of(&[0, 1]), of(&[1, 2, 3])];
    let stranger = of(&[]);
    root.merge(&first, 1, &Default::default()).unwrap();
    let before = root.save().unwrap();
    let error = root.merge(&second, 1, &Default::default()).unwrap_err();
    assert!(error.is_overlap() && error.to_string().contains(&asked[1].0.to_string()), "{error}");
    assert_eq!(root.save().unwrap(), before);
    assert_eq!(root.merge(&stranger, 1, &Default::default()).unwrap(), []);
    assert!(!root.merge(b"", 1, &Default::default()).unwrap_err().is_overlap());
}
