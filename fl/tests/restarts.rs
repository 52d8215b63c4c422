//! Laws of restarts: a server that is saved and restored between any two calls does what one that
//! ran through does, in a simulated world of clients that answer, vanish, lie and come late.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DecodeOptions, ErrorKind};
use fedpress_fl::{
    Action, Coordinator, DeltaOptions, Download, Keep, Layout, Parameter, Policy, PrivateSeed,
    Reason, Replica, RoundOptions, RoundingSeed, Scope, ServerRule, Strategy as Pick,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ROUNDS: u64 = 4;

fn options(rule: ServerRule, scope: Scope) -> RoundOptions {
    let keep = Keep::from(0.5);
    RoundOptions {
        n_updates: 5,
        min_updates: 3,
        over_selection: 0.4,
        deadline: 100,
        policy: Policy { strategy: Pick::Random, scope, keep, ..Policy::full() },
        down: "hadamard|q=4".parse().unwrap(),
        up: "uplink".parse().unwrap(),
        scaled: true,
        rule,
        ..RoundOptions::new(RUN, 5, PrivateSeed::from_number(6))
    }
}

/// What a client does at some time.
#[derive(Clone)]
enum Deed {
    Bytes(Vec<u8>),
    Vanish,
}

/// What the client does with a broadcast, by hash: answer, answer twice, vanish, come back, lie
/// first, diverge, or come late.
fn deeds(seed: u64, client: u64, download: &Download) -> Vec<(u64, Deed)> {
    let draw = |of| fedpress::derive_key(&[seed, download.header.round, client, of]);
    let delay = 1 + draw(0) % 90;
    let mut trained = trained(&download.base, client);
    if draw(1) % 9 == 8 {
        trained[0].values[0] = f32::NAN;
    }
    let update = download.update(client, &trained, client, RoundingSeed(client)).unwrap();
    let answer = |at| (at, Deed::Bytes(update.clone()));
    let lie = (delay / 2, Deed::Bytes(update[update.len() / 2..].to_vec()));
    match draw(1) % 9 {
        0 => vec![answer(delay), answer(delay + 5)],
        1 => vec![(delay, Deed::Vanish)],
        2 => vec![(delay / 2, Deed::Vanish), answer(delay)],
        3 => vec![lie, answer(delay)],
        4 => vec![answer(delay + 100)],
        5 => vec![answer(delay), (delay + 1, Deed::Vanish)],
        _ => vec![answer(delay)],
    }
}

#[derive(Debug, PartialEq)]
enum Logged {
    Sent(u64, Arc<[u8]>),
    Did(Action),
}

struct World<'a> {
    server: Coordinator,
    options: RoundOptions,
    layout: Arc<Layout>,
    /// What clients hold of the model.
    replicas: BTreeMap<u64, Replica>,
    seed: u64,
    now: u64,
    /// By time, and the order in which they were planned.
    plans: BTreeMap<(u64, u64), (u64, Deed)>,
    log: Vec<Logged>,
    restart: &'a mut dyn FnMut() -> bool,
}

impl World<'_> {
    /// Sends a client its broadcast; then, perhaps, the server's machine fails.
    fn send(&mut self, client: u64) {
        let message = self.server.send(client).unwrap();
        let nothing = || Replica::new(Layout::clone(&self.layout));
        let replica = self.replicas.entry(client).or_insert_with(nothing);
        let download = replica.decode(&message, &Default::default()).unwrap();
        for (delay, deed) in deeds(self.seed, client, &download) {
            let place = (self.now + delay, self.plans.len() as u64 + 1000 * client);
            self.plans.insert(place, (client, deed));
        }
        self.log.push(Logged::Sent(client, message));
        self.fail();
    }

    /// What the server did; then, perhaps, its machine fails.
    fn act(&mut self, actions: Vec<Action>) {
        self.log.extend(actions.into_iter().map(Logged::Did));
        self.fail();
    }

    fn fail(&mut self) {
        if (self.restart)() {
            let saved = self.server.save().unwrap();
            let missing = self.server.missing();
            let (layout, options) = (Layout::clone(&self.layout), self.options.clone());
            let decode = DecodeOptions::default();
            self.server = Coordinator::restore(&saved, layout, options, &decode).unwrap();
            assert_eq!(self.server.save().unwrap(), saved);
            assert_eq!(self.server.missing(), missing);
        }
    }

    fn round(&mut self) {
        let all: Vec<u64> = (1..=12).collect();
        let asked = self.server.begin(&all, self.now).unwrap();
        self.fail();
        asked.into_iter().for_each(|client| self.send(client));
        while let Some(ends_at) = self.server.ends_at() {
            let first = self.plans.first_key_value().map(|(place, _)| *place);
            let Some(place) = first.filter(|(at, _)| *at < ends_at) else {
                self.now = ends_at;
                let actions = self.server.tick(self.now).unwrap();
                self.act(actions);
                continue;
            };
            let (client, deed) = self.plans.remove(&place).unwrap();
            self.now = self.now.max(place.0);
            let actions = match deed {
                Deed::Bytes(bytes) => self.server.receive(client, &bytes, self.now),
                Deed::Vanish => self.server.gone(client, self.now),
            };
            self.act(actions.unwrap());
        }
    }
}

/// Everything the server asked for, and its model in the end.
fn run(
    options: &RoundOptions,
    seed: u64,
    restart: &mut dyn FnMut() -> bool,
) -> (Vec<Logged>, Vec<Parameter>) {
    let layout = layout();
    let model = model(&layout, seed);
    let server = Coordinator::new(Layout::clone(&layout), model, options.clone()).unwrap();
    let (options, plans, replicas) = (options.clone(), BTreeMap::new(), BTreeMap::new());
    let (now, log) = (0, Vec::new());
    let mut world = World { server, options, layout, replicas, seed, now, plans, log, restart };
    (0..ROUNDS).for_each(|_| world.round());
    (world.log, world.server.model().to_vec())
}

fn rules() -> [ServerRule; 3] {
    let adam = ServerRule::Adam { rate: 0.01, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
    [ServerRule::default(), ServerRule::Sgd { rate: 1.0, momentum: 0.9 }, adam]
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn restarts_do_not_show(
        seed in any::<u64>(),
        rule in 0usize..3,
        own in any::<bool>(),
        deltas in any::<bool>(),
        mut restarts in prop::collection::vec(any::<bool>(), 100),
    ) {
        let scope = if own { Scope::Client } else { Scope::Round };
        let mut options = options(rules()[rule], scope);
        if deltas {
            options.deltas = Some(DeltaOptions::default());
        }
        let through = run(&options, seed, &mut || false);
        prop_assert!(run(&options, seed, &mut || true) == through, "restarted at each step");
        let now_and_then = run(&options, seed, &mut || restarts.pop().unwrap_or_default());
        prop_assert!(now_and_then == through, "restarted now and then");
    }
}

/// The world is not a kind one: all of this happens in it.
#[test]
fn the_simulated_world_has_everything_in_it() {
    let options = options(ServerRule::default(), Scope::Round);
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        for logged in run(&options, seed, &mut || false).0 {
            let Logged::Did(action) = logged else { continue };
            seen.insert(match action {
                Action::Taken { .. } => "taken".to_owned(),
                Action::Reject(rejection) => format!("{:?}", rejection.reason),
                Action::Committed(_) => "committed".to_owned(),
                Action::Abandoned(_) => "abandoned".to_owned(),
            });
        }
    }
    let expected = [
        "Duplicate",
        "Malformed",
        "NotFinite",
        "NotSelected",
        "WrongRound",
        "abandoned",
        "committed",
        "taken",
    ];
    assert!(seen.iter().map(String::as_str).eq(expected), "{seen:?}");
}

fn restore(
    bytes: &[u8],
    layout: &Layout,
    options: &RoundOptions,
) -> fedpress_fl::Result<Coordinator> {
    Coordinator::restore(bytes, layout.clone(), options.clone(), &DecodeOptions::default())
}

/// A server with an open round in which one update was folded and one client has vanished.
fn open(options: &RoundOptions) -> Coordinator {
    let layout = layout();
    let mut server =
        Coordinator::new(Layout::clone(&layout), model(&layout, 1), options.clone()).unwrap();
    let asked = server.begin(&(1..=12).collect::<Vec<_>>(), 0).unwrap();
    let message = server.send(asked[0]).unwrap();
    let download = Download::decode(&message, &Default::default()).unwrap();
    let update = download.update(asked[0], &download.base, 1, RoundingSeed(0)).unwrap();
    server.receive(asked[0], &update, 1).unwrap();
    server.gone(asked[1], 1).unwrap();
    server
}

#[test]
fn states_of_others_are_refused() {
    let layout = layout();
    let options = options(rules()[1], Scope::Round);
    let saved = open(&options).save().unwrap();
    let other = Layout::from_toml(&layout.to_toml().replace("\"64\"", "\"65\"")).unwrap();
    let kind = |bytes: &[u8], layout: &Layout, options: &RoundOptions| {
        restore(bytes, layout, options).err().map(|error| error.kind().clone())
    };
    let invalid = Some(ErrorKind::InvalidArgument);
    assert_eq!(kind(&saved, &other, &options), invalid);
    assert_eq!(kind(&saved, &layout, &RoundOptions { run: 1, ..options.clone() }), invalid);
    for rule in [rules()[0], rules()[2]] {
        assert_eq!(kind(&saved, &layout, &RoundOptions { rule, ..options.clone() }), invalid);
    }
    assert_eq!(kind(&saved, &layout, &RoundOptions { deadline: 5, ..options }), None);
}

#[test]
fn states_that_are_cut_or_damaged_are_refused() {
    let layout = layout();
    let options = options(rules()[0], Scope::Round);
    let saved = open(&options).save().unwrap();
    let kind = |bytes: &[u8]| restore(bytes, &layout, &options).err().unwrap().kind().clone();
    for n in (0..saved.len()).step_by(61) {
        assert_eq!(kind(&saved[..n]), ErrorKind::Truncated, "{n}");
    }
    let mut flipped = saved.clone();
    for bit in (0..8 * saved.len()).step_by(449) {
        flipped[bit / 8] ^= 1 << (bit % 8);
        kind(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(kind(&[&saved[..], &[0]].concat()), ErrorKind::Corrupt);
    assert_eq!(kind(&[&saved[..], &saved].concat()), ErrorKind::Corrupt);
    assert_eq!(kind(&stream(&[], &[])), ErrorKind::Corrupt);
}

/// The sums of one round in the state of another.
#[test]
fn states_that_were_spliced_are_corrupt() {
    let layout = layout();
    let options = options(rules()[0], Scope::Round);
    let aggregator_at = |saved: &[u8]| {
        let magic = &saved[..10];
        saved.windows(10).rposition(|window| window == magic).unwrap()
    };
    let first = open(&options);
    let saved = first.save().unwrap();
    let mut second = first;
    second.tick(1000).unwrap();
    let between = second.save().unwrap();
    second.begin(&(1..=12).collect::<Vec<_>>(), 2000).unwrap();
    let later = second.save().unwrap();
    for spliced in [
        [&saved[..aggregator_at(&saved)], &later[aggregator_at(&later)..]].concat(),
        [&between[..], &later[aggregator_at(&later)..]].concat(),
    ] {
        let error = restore(&spliced, &layout, &options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    }
    assert!(restore(&between, &layout, &options).is_ok());
}

#[test]
fn what_was_on_its_way_comes_again() {
    let layout = layout();
    let options = options(rules()[0], Scope::Round);
    let mut server = open(&options);
    let client = &server.missing()[0];
    let message = server.send(*client).unwrap();
    let download = Download::decode(&message, &Default::default()).unwrap();
    let update = download.update(*client, &download.base, 1, RoundingSeed(0)).unwrap();
    assert_eq!(server.receive(*client, &update[..50], 2).unwrap(), []);
    let mut restored = restore(&server.save().unwrap(), &layout, &options).unwrap();
    let Action::Reject(rest) = &restored.receive(*client, &update[50..], 3).unwrap()[0] else {
        panic!("the rest of an update is none")
    };
    assert_eq!(rest.reason, Reason::Malformed);
    let taken = Action::Taken { client: *client, samples: 1 };
    assert_eq!(restored.receive(*client, &update, 4).unwrap(), [taken]);
}

/// What clients hold in the state of another round, or under other options.
#[test]
fn states_with_deltas_hold_together() {
    let layout = layout();
    let deltas = Some(DeltaOptions::default());
    let options = RoundOptions { deltas, ..options(rules()[0], Scope::Round) };
    let mut server = open(&RoundOptions { deltas: None, ..options.clone() });
    let plain = server.save().unwrap();
    server = Coordinator::new(Layout::clone(&layout), model(&layout, 1), options.clone()).unwrap();
    let first = server.begin(&(1..=12).collect::<Vec<_>>(), 0).unwrap()[0];
    server.send(first).unwrap();
    let saved = server.save().unwrap();
    for n in (0..saved.len()).step_by(61) {
        let error = restore(&saved[..n], &layout, &options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Truncated, "{n}");
    }
    // Who does not want them reads past them; who has none begins without, but not in an open round.
    let other = RoundOptions { deltas: None, ..options.clone() };
    assert!(restore(&saved, &layout, &other).unwrap().message(first).is_err());
    let mut late = restore(&plain, &layout, &options).unwrap();
    let client = late.missing()[1];
    assert_eq!(*late.message(client).unwrap_err().kind(), ErrorKind::InvalidArgument);
    late.tick(1000).unwrap();
    assert!(late.begin(&(1..=12).collect::<Vec<_>>(), 2000).is_ok());
}
