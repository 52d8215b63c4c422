//! A small model, its clients and their updates, and messages written by hand from MESSAGES.md.
#![allow(dead_code, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use fedpress::{EncodeOptions, Encoder, Seeds, Spec};
use fedpress_fl::message::{Header, decode};
use fedpress_fl::{
    Action, Aggregator, AggregatorOptions, Broadcast, Choice, Coordinator, Digest, Download,
    Gather, Keep, Layout, Parameter, Policy, PrivateSeed, Reason, Received, Rejection,
    RoundOptions, RoundingSeed, Rule, Scope, Selection, TensorSpecs, pack,
};
use proptest::prelude::*;
use std::sync::Arc;

pub const RUN: u64 = 7;
pub const ROUND: u64 = 4;
/// The spec that loses most: of 1,280 values and more in `big`.
pub const LOSSY: &str = "hadamard|subsample=0.5|q=2|zstd";

/// Without files of failed cases.
pub fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(n) }
}

pub fn layout() -> Arc<Layout> {
    let text = r#"
        [groups]
        h = 40
        c = 6
        [[parameters]]
        name = "big"
        axes = ["h", "64"]
        inputs = [1]
        [[parameters]]
        name = "conv"
        axes = ["c", "h", "2"]
        inputs = [1]
        [[parameters]]
        name = "norm.mean"
        axes = ["c"]
        role = "statistic"
        [[parameters]]
        name = "head"
        axes = ["3", "c*2"]
        inputs = [1]
        [[parameters]]
        name = "temperature"
        axes = []
    "#;
    Arc::new(Layout::from_toml(text).unwrap())
}

/// From -1 to 1.
pub fn value(seed: u64, i: u64) -> f32 {
    fedpress::derive_key(&[seed, i]) as i64 as f32 / 2f32.powi(63)
}

pub fn model(layout: &Layout, seed: u64) -> Vec<Parameter> {
    let mut next = 0..;
    let param = |i: usize| {
        let mut zeros = Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
        zeros.values.iter_mut().zip(&mut next).for_each(|(v, at)| *v = value(seed, at));
        zeros
    };
    (0..layout.params().len()).map(param).collect()
}

/// What training makes of a model: every value moves by up to 0.1.
pub fn trained(base: &[Parameter], seed: u64) -> Vec<Parameter> {
    let mut trained = base.to_vec();
    let values = trained.iter_mut().flat_map(|p| &mut p.values);
    values.zip(0..).for_each(|(v, at)| *v += 0.1 * value(seed, at));
    trained
}

pub fn random(seed: u64, keep: f64) -> Choice {
    Choice { rule: Rule::Random { seed }, keep: Keep::from(keep) }
}

/// As a coordinator has it: the statistic of [`layout`] losslessly.
pub fn exact(spec: Spec) -> TensorSpecs {
    TensorSpecs::from(spec).with("norm.mean", Spec::lossless())
}

pub fn broadcast(choice: Choice, up: &str) -> Broadcast {
    Broadcast {
        run: RUN,
        round: ROUND,
        client: None,
        seed: 11,
        choice,
        gains: vec![],
        up: exact(up.parse().unwrap()),
        task: "task".into(),
        integers: None,
    }
}

/// The message, encoded as [`fedpress_fl::Coordinator`] does.
pub fn send(layout: &Layout, model: &[Parameter], broadcast: &Broadcast, down: &Spec) -> Vec<u8> {
    let selection = broadcast.choice.select(layout).unwrap();
    let submodel = pack(layout, &selection, model).unwrap();
    broadcast.encode(&submodel, &exact(down.clone()), RoundingSeed(0x5eed)).unwrap()
}

/// A client that has answered.
#[derive(Debug, Clone)]
pub struct Peer {
    pub id: u64,
    pub choice: Choice,
    pub download: Download,
    pub samples: u64,
    pub update: Vec<u8>,
}

impl Peer {
    /// Keeps a random submodel of its own, unless all of it.
    pub fn new(layout: &Layout, id: u64, keep: f64, up: &str) -> Self {
        let choice = random(1000 + id, keep);
        let sent = send(layout, &model(layout, 1), &broadcast(choice.clone(), up), &lossless());
        let download = Download::decode(&sent, &Default::default()).unwrap();
        let samples = 1 + fedpress::derive_key(&[id]) % 1000;
        let update =
            download.update(id, &trained(&download.base, id), samples, RoundingSeed(id)).unwrap();
        Self { id, choice, download, samples, update }
    }

    pub fn expect_in(&self, aggregator: &mut Aggregator) {
        aggregator.expect(self.id, self.download.digest, &self.choice).unwrap();
    }

    pub fn send_to(&self, aggregator: &mut Aggregator) {
        let expected = Received::Folded { samples: self.samples };
        assert_eq!(aggregator.receive(self.id, &self.update), expected);
    }

    pub fn selection(&self, layout: &Layout) -> Selection {
        self.choice.select(layout).unwrap()
    }

    /// What the server decodes, parameter by parameter.
    pub fn sent(&self, layout: &Layout) -> Vec<(Gather, Vec<f32>)> {
        let (_, parameters) = decode(&self.update, &Default::default()).unwrap();
        let selection = self.selection(layout);
        let placed =
            |(i, p): (usize, Parameter)| (Gather::new(layout, &selection, i).unwrap(), p.values);
        parameters.into_iter().enumerate().map(placed).collect()
    }
}

/// Clients 1 to n with random submodels.
pub fn peers(layout: &Layout, n: u64, up: &str) -> Vec<Peer> {
    let keep = [0.5, 0.75, 1.0, 0.3];
    (1..=n).map(|id| Peer::new(layout, id, keep[id as usize % 4], up)).collect()
}

/// One that expects these clients.
pub fn aggregator(layout: &Arc<Layout>, options: AggregatorOptions, peers: &[Peer]) -> Aggregator {
    let mut aggregator = Aggregator::new(layout.clone(), RUN, ROUND, options).unwrap();
    peers.iter().for_each(|peer| peer.expect_in(&mut aggregator));
    aggregator
}

#[track_caller]
pub fn rejection(received: Received) -> Rejection {
    match received {
        Received::Rejected(rejection) => rejection,
        other => panic!("expected a rejection, found {other:?}"),
    }
}

#[track_caller]
pub fn reason(received: Received) -> Reason {
    rejection(received).reason
}

pub fn lossless() -> Spec {
    Spec::lossless()
}

pub fn seeds() -> Seeds {
    Seeds::new(3, 5).in_round(ROUND).of_client(9, 0)
}

/// The header of an update as MESSAGES.md has it.
pub fn update_header(run: u64, round: u64, client: u64, base: Digest, samples: u64) -> Vec<u8> {
    let mut body = vec![0, 2];
    [run, round, client].iter().for_each(|n| body.extend(n.to_le_bytes()));
    body.extend(base.0);
    body.extend(samples.to_le_bytes());
    body
}

/// A stream with these records in front of these tensors.
pub fn stream(records: &[(u8, Vec<u8>)], tensors: &[Parameter]) -> Vec<u8> {
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    records.iter().for_each(|(kind, body)| encoder.record(*kind, body).unwrap());
    for tensor in tensors {
        encoder.tensor(&tensor.view(), &lossless()).unwrap();
    }
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

/// The body of the header record of a message: behind the preamble of the stream and the header of
/// the record.
pub fn header_body(message: &[u8]) -> Vec<u8> {
    assert_eq!(message[10], 0xA0);
    let len = u32::from_le_bytes(message[11..15].try_into().unwrap()) as usize;
    message[17..17 + len].to_vec()
}

pub fn header_of(message: &[u8]) -> Header {
    decode(message, &Default::default()).unwrap().0
}

pub const CLIENTS: [u64; 6] = [3, 5, 8, 13, 21, 34];

pub fn options(n_updates: usize, min_updates: usize, over_selection: f64) -> RoundOptions {
    let deadline = 100;
    RoundOptions {
        n_updates,
        min_updates,
        over_selection,
        deadline,
        ..RoundOptions::new(RUN, 2, PrivateSeed::from_number(3))
    }
}

pub fn policy(strategy: fedpress_fl::Strategy, scope: Scope, keep: f64) -> Policy {
    Policy { strategy, scope, keep: Keep::from(keep), ..Policy::full() }
}

pub fn server(options: RoundOptions) -> Coordinator {
    let layout = layout();
    Coordinator::new(Layout::clone(&layout), model(&layout, 1), options).unwrap()
}

/// Those who are asked, each with its message.
pub fn begin(server: &mut Coordinator, clients: &[u64], now: u64) -> Vec<(u64, Arc<[u8]>)> {
    let asked = server.begin(clients, now).unwrap();
    asked.into_iter().map(|client| (client, server.send(client).unwrap())).collect()
}

/// The messages of those whose update is missing, once more.
pub fn resend(server: &mut Coordinator) -> Vec<(u64, Arc<[u8]>)> {
    server.missing().into_iter().map(|client| (client, server.send(client).unwrap())).collect()
}

pub fn answer(client: u64, message: &[u8]) -> Vec<u8> {
    let download = Download::decode(message, &Default::default()).unwrap();
    download.update(client, &trained(&download.base, client), client, RoundingSeed(client)).unwrap()
}

pub fn untouched(client: u64, message: &[u8]) -> Vec<u8> {
    let download = Download::decode(message, &Default::default()).unwrap();
    download.update(client, &download.base, 1, RoundingSeed(client)).unwrap()
}

pub fn rejected(actions: &[Action]) -> Reason {
    match actions {
        [Action::Reject(rejection)] => rejection.reason,
        other => panic!("{other:?}"),
    }
}

pub fn taken(client: u64) -> Action {
    Action::Taken { client, samples: client }
}

/// Without running statistics.
pub fn plain_layout() -> Arc<Layout> {
    let text = r#"
        [groups]
        h = 40
        [[parameters]]
        name = "big"
        axes = ["h", "64"]
        inputs = [1]
        [[parameters]]
        name = "head"
        axes = ["3", "h"]
        inputs = [1]
        [[parameters]]
        name = "bias"
        axes = ["3"]
    "#;
    Arc::new(Layout::from_toml(text).unwrap())
}

pub fn plain_server(options: RoundOptions) -> fedpress_fl::Result<Coordinator> {
    let layout = plain_layout();
    Coordinator::new(Layout::clone(&layout), model(&layout, 1), options)
}

pub fn values(parameters: &[Parameter]) -> Vec<f64> {
    parameters.iter().flat_map(|p| &p.values).map(|v| f64::from(*v)).collect()
}

/// The change of a model, value by value.
pub fn change(before: &[Parameter], after: &[Parameter]) -> Vec<f64> {
    values(after).iter().zip(values(before)).map(|(after, before)| after - before).collect()
}

pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}
