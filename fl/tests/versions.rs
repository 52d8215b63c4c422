//! Laws of versions by themselves: they send what a coordinator sends, and go on where they were saved.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::message::Header;
use fedpress_fl::{
    Broadcast, Choice, DeltaOptions, Layout, Parameter, Replica, RoundOptions, RoundingSeed, Scope,
    Strategy as Pick, TensorSpecs, Versions,
};
use std::collections::BTreeMap;

const OPTIONS: DeltaOptions = DeltaOptions { step: 3.5, dead_zone: 0.75, versions: 4 };

fn specs() -> TensorSpecs {
    TensorSpecs::from(fedpress::Spec::lossless())
}

fn versions() -> Versions {
    Versions::new(Layout::clone(&layout()), OPTIONS, &specs()).unwrap()
}

fn broadcast(round: u64, client: Option<u64>) -> Broadcast {
    let (choice, up) = (Choice::full(), specs());
    Broadcast {
        run: RUN,
        round,
        client,
        seed: 7,
        choice,
        gains: Vec::new(),
        up,
        task: String::new(),
        integers: None,
    }
}

/// A model that walks.
fn walked(round: u64) -> Vec<Parameter> {
    let mut model = model(&layout(), 1);
    for step in 0..round {
        let values = model.iter_mut().flat_map(|parameter| &mut parameter.values);
        values.zip(0..).for_each(|(v, i)| *v += 0.01 * value(100 + step, i));
    }
    model
}

/// Submodels of each client's own, clients that stay away, updates that are lost, and a restart in the middle.
#[test]
fn what_they_send_is_what_a_coordinator_sends() {
    let policy = policy(Pick::Random, Scope::Client, 0.5);
    let options =
        RoundOptions { n_updates: 1, deltas: Some(OPTIONS), policy, ..options(3, 1, 0.0) };
    let mut server = server(options);
    let mut versions = versions();
    let mut replicas: BTreeMap<u64, Replica> = BTreeMap::new();
    let mut n_built = 0;
    for now in 0..12 {
        let there = &CLIENTS[now as usize % 2..2 + now as usize % 3];
        let messages = begin(&mut server, there, now);
        versions.advance(server.round(), server.model().to_vec()).unwrap();
        if now == 5 {
            let saved = versions.save().unwrap();
            let layout = Layout::clone(&layout());
            let (decode, model) = (Default::default(), server.model().to_vec());
            let restored = Versions::restore(&saved, layout, OPTIONS, &specs(), model, &decode);
            versions = restored.unwrap();
        }
        for (client, message) in messages {
            let Header::Delta(delta) = header_of(&message) else { panic!("no delta") };
            assert_eq!(delta.base, versions.held_by(client));
            n_built += usize::from(delta.base.is_some());
            let choice = delta.broadcast.choice.clone();
            let own = versions.message(delta.broadcast).unwrap();
            assert!(own == *message, "client {client}, round {now}");
            let layout = Layout::clone(&layout());
            let replica = replicas.entry(client).or_insert_with(|| Replica::new(layout));
            let download = replica.decode(&message, &Default::default()).unwrap();
            if !server.is_open() {
                continue;
            }
            if fedpress::derive_key(&[now, client]).is_multiple_of(4) {
                server.gone(client, now).unwrap();
                continue;
            }
            let answer =
                download.update(client, &trained(&download.base, now), 1, RoundingSeed(0)).unwrap();
            server.receive(client, &answer, now).unwrap();
            versions.acknowledge(client, now, &choice).unwrap();
            let known = versions.replica(client).unwrap();
            assert!(known == server.replica(client).unwrap(), "client {client}, round {now}");
        }
        if server.is_open() {
            server.tick(u64::MAX).unwrap();
        }
    }
    assert!(n_built > 5, "{n_built} deltas");
}

#[test]
fn they_go_on_where_they_were_saved() {
    let mut whole = versions();
    for round in 0..4 {
        whole.advance(round, walked(round)).unwrap();
        whole.acknowledge(3, round, &Choice::full()).unwrap();
    }
    let saved = whole.save().unwrap();
    let restore = |bytes: &[u8]| {
        let layout = Layout::clone(&layout());
        Versions::restore(bytes, layout, OPTIONS, &specs(), walked(3), &Default::default())
    };
    let restored = restore(&saved).unwrap();
    assert_eq!((restored.round(), restored.held_by(3)), (Some(3), Some(3)));
    for client in [Some(3), Some(5), None] {
        let message = |versions: &Versions| versions.message(broadcast(3, client)).unwrap();
        assert!(message(&restored) == message(&whole));
    }
    assert_eq!(restored.save().unwrap(), saved);
    let longer = [&saved[..], b"more"].concat();
    assert!(matches!(restore(&longer).unwrap_err().kind(), ErrorKind::Corrupt));
    assert!((0..saved.len()).step_by(97).all(|n| restore(&saved[..n]).is_err()));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut versions = versions();
    let refused = |result: fedpress_fl::Result<()>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(versions.message(broadcast(0, None)).map(drop), "no version");
    versions.advance(4, walked(0)).unwrap();
    refused(versions.message(broadcast(4, Some(u64::MAX))).map(drop), "everyone");
    refused(versions.advance(4, walked(1)), "the last one was 4");
    refused(versions.advance(5, walked(1)[1..].to_vec()), "");
    versions.acknowledge(3, 4, &Choice::full()).unwrap();
    refused(versions.acknowledge(3, 4, &Choice::full()), "it holds version 4");
    // Of a version that nobody keeps nothing changes.
    versions.acknowledge(3, 7, &Choice::full()).unwrap();
    assert_eq!((versions.round(), versions.held_by(3)), (Some(4), Some(4)));
    versions.forget(3);
    assert_eq!(versions.held_by(3), None);
    let options = DeltaOptions { dead_zone: 0.2, ..OPTIONS };
    let made = Versions::new(Layout::clone(&layout()), options, &specs());
    refused(made.map(drop), "dead_zone");
}
