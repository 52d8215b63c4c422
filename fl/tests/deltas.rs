//! Laws of downlinks as deltas: every client lands exactly on the server's version, whatever it was sent
//! before and whatever was lost on the way; errors never add up; and nothing is built on what is not there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DecodeOptions, ErrorKind};
use fedpress_fl::message::{Header, decode};
use fedpress_fl::{
    Action, Choice, Coordinator, Delta, DeltaOptions, Download, Gather, Layout, Parameter, Policy,
    Reason, Replica, Result, RoundOptions, RoundingSeed, Scope, Strategy as Pick, pack,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn deltas(policy: Policy) -> RoundOptions {
    let deltas = DeltaOptions { versions: 4, ..DeltaOptions::default() };
    RoundOptions { deltas: Some(deltas), policy, ..options(3, 1, 0.0) }
}

fn replica() -> Replica {
    Replica::new(Layout::clone(&layout()))
}

fn take(replica: &mut Replica, message: &[u8]) -> Result<Download> {
    replica.decode(message, &DecodeOptions::default())
}

fn delta(message: &[u8]) -> Delta {
    match header_of(message) {
        Header::Delta(delta) => *delta,
        other => panic!("{other:?}"),
    }
}

/// What training makes of it: less from round to round.
fn answer(client: u64, download: &Download) -> Vec<u8> {
    let mut trained = download.base.clone();
    let round = download.header.round;
    let size = 0.1 * 0.7f32.powi(round as i32);
    let values = trained.iter_mut().flat_map(|parameter| &mut parameter.values);
    values.zip(0..).for_each(|(v, i)| *v += size * value(client ^ (round << 32), i));
    download.update(client, &trained, 1, RoundingSeed(client)).unwrap()
}

fn restarted(server: &Coordinator, options: &RoundOptions) -> Coordinator {
    let saved = server.save().unwrap();
    let layout = Layout::clone(&layout());
    Coordinator::restore(&saved, layout, options.clone(), &DecodeOptions::default()).unwrap()
}

/// What a client that holds nothing would be sent in its place.
fn whole(server: &Coordinator, options: &RoundOptions, client: u64) -> Vec<Parameter> {
    let mut server = restarted(server, options);
    server.forget(client);
    let message = server.send(client).unwrap();
    assert_eq!(delta(&message).base, None);
    take(&mut replica(), &message).unwrap().base
}

fn bits(parameters: &[Parameter]) -> Vec<u32> {
    parameters.iter().flat_map(|p| &p.values).map(|v| v.to_bits()).collect()
}

/// The largest distance of a version from what the server has of it.
fn distance(server: &Coordinator, download: &Download) -> f32 {
    let selection = download.header.choice.select(&layout()).unwrap();
    let wanted = pack(&layout(), &selection, server.model()).unwrap();
    let pairs = wanted.iter().zip(&download.base).flat_map(|(w, v)| w.values.iter().zip(&v.values));
    pairs.fold(0.0, |most, (w, v)| most.max((w - v).abs()))
}

/// A world where messages and updates are lost, clients stay away and start anew from what they have saved.
struct World {
    server: Coordinator,
    options: RoundOptions,
    replicas: BTreeMap<u64, Replica>,
    seed: u64,
    /// How often a client was sent what builds on a version it has.
    n_built: usize,
}

impl World {
    fn round(&mut self, now: u64) {
        let draw = |client, of| fedpress::derive_key(&[self.seed, now, client, of]);
        let there: Vec<u64> = CLIENTS.into_iter().filter(|c| draw(*c, 0) % 3 > 0).collect();
        let Ok(asked) = self.server.begin(&there, now) else { return };
        for client in asked {
            let message = self.server.send(client).unwrap();
            let expected = whole(&self.server, &self.options, client);
            let fate = draw(client, 1) % 8;
            if fate == 0 {
                self.server.gone(client, now).unwrap();
                continue; // the message is lost
            }
            let replica = self.replicas.entry(client).or_insert_with(replica);
            let download = take(replica, &message).unwrap();
            assert_eq!(bits(&download.base), bits(&expected), "client {client}, round {now}");
            let mut known = self.server.replica(client).unwrap();
            take(&mut known, &message).unwrap();
            assert!(known == *replica, "client {client}, round {now}: the server knows otherwise");
            self.n_built += usize::from(delta(&message).base.is_some());
            match fate {
                1 => drop(self.server.gone(client, now).unwrap()), // the update is lost
                2 => {
                    let saved = replica.save().unwrap();
                    let layout = Layout::clone(&layout());
                    let restored = Replica::restore(&saved, layout, &Default::default()).unwrap();
                    assert!(restored == *replica);
                    *replica = restored;
                }
                _ => {}
            }
            if fate != 1 && self.server.is_open() {
                self.server.receive(client, &answer(client, &download), now).unwrap();
            }
        }
        assert!(!self.server.is_open(), "nobody is left");
    }
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn every_client_lands_where_one_that_gets_everything_does(
        seed in any::<u64>(),
        own in any::<bool>(),
        keep in prop::sample::select(vec![0.5, 0.75, 1.0]),
    ) {
        let scope = if own { Scope::Client } else { Scope::Round };
        let options = deltas(policy(Pick::Random, scope, keep));
        let (replicas, server) = (BTreeMap::new(), server(options.clone()));
        let mut world = World { server, options, replicas, seed, n_built: 0 };
        (0..14).for_each(|now| world.round(now));
        prop_assert!(world.n_built > 3, "{} deltas", world.n_built);
    }
}

/// A client as MESSAGES.md 1.7 has it, coordinate by coordinate: the version and the value of each, if any.
#[derive(Default)]
struct ByHand {
    held: Vec<Vec<Option<(u64, f32)>>>,
    pending: Option<(u64, Choice, Vec<Vec<f32>>)>,
}

impl ByHand {
    fn new(layout: &Layout) -> Self {
        let nothing = |i| vec![None; layout.shape(i).iter().product()];
        Self { held: (0..layout.params().len()).map(nothing).collect(), pending: None }
    }

    /// Which coordinates of parameter `i` a choice keeps, in order.
    fn kept(layout: &Layout, choice: &Choice, i: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..layout.shape(i).iter().product()).collect();
        Gather::new(layout, &choice.select(layout).unwrap(), i).unwrap().gather(&all)
    }

    fn take(&mut self, layout: &Layout, message: &[u8]) -> Vec<Vec<f32>> {
        let (delta, tensors) = (delta(message), decode(message, &Default::default()).unwrap().1);
        match (delta.base, self.pending.take()) {
            (None, _) => *self = Self::new(layout),
            (Some(base), Some((version, choice, values))) if version == base => {
                for (i, values) in values.iter().enumerate() {
                    let kept = Self::kept(layout, &choice, i);
                    kept.iter()
                        .zip(values)
                        .for_each(|(at, v)| self.held[i][*at] = Some((version, *v)));
                }
            }
            _ => {}
        }
        let places = self.held.iter_mut().flatten();
        places.for_each(|place| *place = place.filter(|(version, _)| *version >= delta.oldest));
        let (choice, round) = (&delta.broadcast.choice, delta.broadcast.round);
        let value = |(i, tensor): (usize, &Parameter)| {
            let Some(exponent) = delta.exponents[i] else { return tensor.values.clone() };
            let kept = Self::kept(layout, choice, i);
            let mut order: Vec<usize> = (0..kept.len()).collect();
            order.sort_by_key(|at| self.held[i][kept[*at]].map(|(version, _)| version));
            let mut values = vec![0.0; kept.len()];
            for (at, sent) in order.into_iter().zip(&tensor.values) {
                let base = self.held[i][kept[at]].map_or(0.0, |(_, value)| value);
                values[at] = base + sent.round() * 2f32.powi(exponent.into());
            }
            values
        };
        let values: Vec<Vec<f32>> = tensors.iter().enumerate().map(value).collect();
        self.pending = Some((round, choice.clone(), values.clone()));
        values
    }
}

/// Submodels of each client's own, and updates that are lost: what this crate reads is what the document says.
#[test]
fn a_reader_written_from_the_document_agrees() {
    let layout = layout();
    let mut server =
        server(RoundOptions { n_updates: 2, ..deltas(policy(Pick::Random, Scope::Client, 0.5)) });
    let mut readers: BTreeMap<u64, ByHand> = [3, 5].map(|c| (c, ByHand::new(&layout))).into();
    let mut replicas: BTreeMap<u64, Replica> = [3, 5].map(|c| (c, replica())).into();
    let mut n_mixed = 0;
    for now in 0..12 {
        for (client, message) in begin(&mut server, &[3, 5], now) {
            let download = take(replicas.get_mut(&client).unwrap(), &message).unwrap();
            let reader = readers.get_mut(&client).unwrap();
            let values = reader.take(&layout, &message);
            let same = download.base.iter().zip(&values).all(|(p, v)| p.values == *v);
            assert!(same, "client {client}, round {now}");
            let versions = |place: &Option<(u64, f32)>| place.map(|(version, _)| version);
            let kinds: BTreeSet<_> = reader.held[0].iter().map(versions).collect();
            n_mixed += usize::from(kinds.len() > 2);
            match fedpress::derive_key(&[now, client]) % 4 {
                0 => drop(server.gone(client, now).unwrap()),
                _ => drop(server.receive(client, &answer(client, &download), now).unwrap()),
            }
        }
    }
    assert!(n_mixed > 10, "{n_mixed} of patchworks of three versions and more");
}

/// One client, every round, all of the model.
fn alone() -> (Coordinator, RoundOptions) {
    let options = RoundOptions { n_updates: 1, ..deltas(Policy::full()) };
    (server(options.clone()), options)
}

#[test]
fn errors_never_add_up_and_changes_cost_less_than_the_model() {
    let (mut server, _) = alone();
    let mut replica = replica();
    let (mut distances, mut lengths) = (Vec::new(), Vec::new());
    for now in 0..30 {
        let (client, message) = begin(&mut server, &CLIENTS[..1], now).remove(0);
        let download = take(&mut replica, &message).unwrap();
        distances.push(distance(&server, &download));
        lengths.push(message.len());
        let mut trained = download.base.clone();
        let values = trained.iter_mut().flat_map(|parameter| &mut parameter.values);
        values.zip(0..).for_each(|(v, i)| *v += 0.01 * value(now, i));
        server
            .receive(client, &download.update(client, &trained, 1, RoundingSeed(0)).unwrap(), now)
            .unwrap();
    }
    // Uniform changes of up to .01 have a root mean square of .0058: a quantum is at most 3.5 times that, and
    // less than one is not sent. The first one follows the weights.
    assert!(distances[2..].iter().all(|d| *d < 0.0203), "{distances:?}");
    assert!(distances[25..].iter().any(|d| *d > 0.005), "not all is sent: {distances:?}");
    assert!(lengths[2..].iter().all(|n| *n < lengths[0] / 2), "{lengths:?}");
}

#[test]
fn clients_with_the_same_history_share_a_message() {
    let mut server = server(RoundOptions { n_updates: 2, ..deltas(Policy::full()) });
    let mut replicas: BTreeMap<u64, Replica> = CLIENTS.map(|c| (c, replica())).into();
    // In the third round one of them comes for the first time.
    for (now, clients) in [[3, 5], [3, 5], [3, 8]].iter().enumerate() {
        let messages = begin(&mut server, clients, now as u64);
        let is_same = Arc::ptr_eq(&messages[0].1, &messages[1].1);
        assert_eq!(is_same, now < 2, "round {now}");
        for (client, message) in messages {
            let download = take(replicas.get_mut(&client).unwrap(), &message).unwrap();
            server.receive(client, &answer(client, &download), now as u64).unwrap();
        }
    }
}

#[test]
fn who_was_away_for_longer_than_versions_are_kept_gets_the_model() {
    let (mut server, _) = alone();
    let mut replicas: BTreeMap<u64, Replica> = [3, 5].map(|c| (c, replica())).into();
    for (now, client) in [5, 3, 3, 3, 5, 3, 3, 3, 3, 5].into_iter().enumerate() {
        let (_, message) = begin(&mut server, &[client], now as u64).remove(0);
        let download = take(replicas.get_mut(&client).unwrap(), &message).unwrap();
        match now {
            0 | 1 | 9 => assert_eq!(delta(&message).base, None, "round {now}"),
            _ => assert!(delta(&message).base.is_some(), "round {now}"),
        }
        server.receive(client, &answer(client, &download), now as u64).unwrap();
    }
}

/// A server in its second round, the replica of a client of it, and the message to that client.
fn second_round() -> (Coordinator, RoundOptions, Replica, Arc<[u8]>) {
    let (mut server, options) = alone();
    let mut replica = replica();
    let (client, message) = begin(&mut server, &CLIENTS[..1], 0).remove(0);
    let download = take(&mut replica, &message).unwrap();
    server.receive(client, &answer(client, &download), 0).unwrap();
    let (_, message) = begin(&mut server, &CLIENTS[..1], 1).remove(0);
    (server, options, replica, message)
}

#[test]
fn after_an_error_the_replica_is_as_before() {
    let (server, options, mut replica, message) = second_round();
    let before = replica.clone();
    for n in 0..message.len() {
        assert!(take(&mut replica, &message[..n]).is_err());
    }
    let mut flipped = message.to_vec();
    for bit in (0..8 * message.len()).step_by(7) {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(take(&mut replica, &flipped).is_err(), "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(replica == before);
    let download = take(&mut replica, &message).unwrap();
    assert_eq!(bits(&download.base), bits(&whole(&server, &options, CLIENTS[0])));
    assert!(replica != before);
}

#[test]
fn a_client_that_has_lost_its_copy_says_so_and_gets_the_model_in_the_same_round() {
    let (mut server, _, mut old, message) = second_round();
    let client = CLIENTS[0];
    let mut lost = replica();
    let error = take(&mut lost, &message).unwrap_err();
    assert!(error.is_out_of_step() && *error.kind() == ErrorKind::Corrupt, "{error}");
    assert!(lost == replica());

    let stale = answer(client, &take(&mut old, &message).unwrap());
    server.forget(client);
    let again = server.send(client).unwrap();
    assert_eq!(delta(&again).base, None);
    assert_eq!(rejected(&server.receive(client, &stale, 1).unwrap()), Reason::WrongBase);
    let download = take(&mut lost, &again).unwrap();
    let actions = server.receive(client, &answer(client, &download), 1).unwrap();
    assert!(matches!(actions[..], [Action::Taken { .. }, Action::Committed(_)]), "{actions:?}");
    // Whoever still has a copy can follow, too.
    let (_, next) = begin(&mut server, &[client], 2).remove(0);
    assert_eq!(delta(&next).base, Some(1));
    assert_eq!(
        bits(&take(&mut lost, &next).unwrap().base),
        bits(&take(&mut old, &next).unwrap().base)
    );
}

/// The copy is of the version that the server builds on, and has other values.
#[test]
fn a_copy_that_was_changed_is_out_of_step() {
    let (_, _, replica, message) = second_round();
    let (_, _, mut other, _) = {
        let mut options = deltas(Policy::full());
        options.n_updates = 1;
        let layout = Layout::clone(&layout());
        let mut server =
            Coordinator::new(layout.clone(), model(&layout, 2), options.clone()).unwrap();
        let mut replica = Replica::new(layout);
        let (client, message) = begin(&mut server, &CLIENTS[..1], 0).remove(0);
        take(&mut replica, &message).unwrap();
        (server, options, replica, client)
    };
    let error = take(&mut other, &message).unwrap_err();
    assert!(error.is_out_of_step(), "{error}");
    assert!(take(&mut replica.clone(), &message).is_ok());
}

#[test]
fn a_server_that_was_set_back_is_found_out() {
    let (mut server, options) = alone();
    let mut replica = replica();
    let mut saved = None;
    for now in 0..4 {
        let (client, message) = begin(&mut server, &CLIENTS[..1], now).remove(0);
        let download = take(&mut replica, &message).unwrap();
        server.receive(client, &answer(client, &download), now).unwrap();
        saved = saved.or_else(|| Some(restarted(&server, &options)));
    }
    let mut server = saved.unwrap();
    let (client, message) = begin(&mut server, &CLIENTS[..1], 9).remove(0);
    assert!(take(&mut replica, &message).unwrap_err().is_out_of_step());
    server.forget(client);
    let message = server.send(client).unwrap();
    assert!(take(&mut replica, &message).is_ok());
}

#[test]
fn statistics_and_what_is_not_finite_travel_whole() {
    let (mut server, _) = alone();
    let mut replica = replica();
    for now in 0..3 {
        let (client, message) = begin(&mut server, &CLIENTS[..1], now).remove(0);
        let exponents = delta(&message).exponents;
        let whole: Vec<bool> = exponents.iter().map(Option::is_none).collect();
        assert_eq!(whole, [false, false, true, false, false]);
        let download = take(&mut replica, &message).unwrap();
        assert_eq!(download.base[2].values, server.model()[2].values);
        server.receive(client, &answer(client, &download), now).unwrap();
    }
    let mut broken = model(&layout(), 1);
    broken[0].values[3] = f32::INFINITY;
    let options = RoundOptions { n_updates: 1, ..deltas(Policy::full()) };
    let mut server = Coordinator::new(Layout::clone(&layout()), broken, options).unwrap();
    let (_, message) = begin(&mut server, &CLIENTS[..1], 0).remove(0);
    assert_eq!(delta(&message).exponents[0], None);
    let download = take(&mut Replica::new(Layout::clone(&layout())), &message).unwrap();
    assert_eq!(bits(&download.base[..1]), bits(&server.model()[..1]));
}

#[test]
fn what_a_rule_names_lossless_travels_whole() {
    let mut options = RoundOptions { n_updates: 1, ..deltas(Policy::full()) };
    options.down.rules = vec!["head=lossless".parse().unwrap(), "conv=q=4".parse().unwrap()];
    let mut server = server(options);
    let (_, message) = begin(&mut server, &CLIENTS[..1], 0).remove(0);
    let whole: Vec<bool> = delta(&message).exponents.iter().map(Option::is_none).collect();
    assert_eq!(whole, [false, false, true, true, false]);
    let download = take(&mut replica(), &message).unwrap();
    assert_eq!(bits(&download.base[3..4]), bits(&server.model()[3..4]));
}

#[test]
fn plain_broadcasts_leave_the_replica_alone_and_deltas_need_one() {
    let (_, _, mut replica, message) = second_round();
    let error = Download::decode(&message, &Default::default()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    let before = replica.clone();
    let plain =
        send(&layout(), &model(&layout(), 3), &broadcast(random(1, 0.5), LOSSY), &lossless());
    let download = take(&mut replica, &plain).unwrap();
    assert_eq!(download.base, Download::decode(&plain, &Default::default()).unwrap().base);
    assert!(replica == before);
    let update = download.update(1, &download.base, 1, RoundingSeed(0)).unwrap();
    assert_eq!(*take(&mut replica, &update).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_layout_of_another_model_is_refused() {
    let (_, _, replica, message) = second_round();
    let other = Layout::clone(&layout()).to_toml().replace("\"64\"", "\"65\"");
    let other = Layout::from_toml(&other).unwrap();
    let error = Replica::new(other.clone()).decode(&message, &Default::default()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    let saved = replica.save().unwrap();
    let error = Replica::restore(&saved, other, &Default::default()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    for n in (0..saved.len()).step_by(211) {
        let layout = Layout::clone(&layout());
        let cut = Replica::restore(&saved[..n], layout, &Default::default()).unwrap_err();
        assert_eq!(*cut.kind(), ErrorKind::Truncated, "{n}");
    }
}

/// An aggregator near the clients has folded the update: the client holds the version as well.
#[test]
fn updates_that_come_by_a_tree_are_acknowledged() {
    let (mut server, _, mut replica, message) = second_round();
    let client = CLIENTS[0];
    let download = take(&mut replica, &message).unwrap();
    let mut leaf =
        fedpress_fl::Aggregator::new(layout(), RUN, 1, server.aggregator_options().unwrap())
            .unwrap();
    leaf.expect(client, download.digest, &download.header.choice).unwrap();
    leaf.receive(client, &answer(client, &download));
    server.merge(&leaf.save().unwrap(), 1, &Default::default()).unwrap();
    let (_, next) = begin(&mut server, &[client], 2).remove(0);
    assert_eq!(delta(&next).base, Some(1));
    assert!(take(&mut replica, &next).is_ok());
}

#[test]
fn options_out_of_range_are_refused() {
    let refuse = |change: &dyn Fn(&mut DeltaOptions)| {
        let (mut options, mut deltas) = (options(1, 1, 0.0), DeltaOptions::default());
        change(&mut deltas);
        options.deltas = Some(deltas);
        let layout = Layout::clone(&layout());
        let error = Coordinator::new(layout.clone(), model(&layout, 1), options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    };
    for step in [0.0, -1.0, f64::NAN, 65.0] {
        refuse(&|deltas| deltas.step = step);
    }
    for dead_zone in [0.4, 1.0, f64::NAN] {
        refuse(&|deltas| deltas.dead_zone = dead_zone);
    }
    refuse(&|deltas| deltas.versions = 0);
}

#[test]
fn tensors_of_a_delta_are_integers_that_any_reader_sees() {
    let (_, _, _, message) = second_round();
    let (_, tensors) = decode(&message, &Default::default()).unwrap();
    let exponents = delta(&message).exponents;
    for (tensor, exponent) in tensors.iter().zip(exponents).filter(|(_, e)| e.is_some()) {
        let off = tensor.values.iter().map(|v| (v - v.round()).abs()).fold(0.0, f32::max);
        assert!(off < 0.5, "{}, {exponent:?}: {off}", tensor.name);
    }
}
