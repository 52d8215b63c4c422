//! Laws of rejection: each hostile update is rejected for what is wrong with it, leaves no trace,
//! and keeps nobody from a right one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DType, EncodeOptions, Encoder, TensorDesc, TensorView};
use fedpress_fl::message::decode;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Averaging, Layout, Parameter, Reason, Received, Rejection,
    RoundingSeed, Weighting,
};
use std::sync::{Arc, LazyLock};

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(layout);
/// Lossy, and twice lossless.
static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| {
    let specs = [LOSSY, "lossless", "lossless"];
    (1..).zip(specs).map(|(id, up)| Peer::new(&LAYOUT, id, 0.5, up)).collect()
});

fn options() -> AggregatorOptions {
    AggregatorOptions { max_update_bytes: 1 << 16, max_in_flight: 2, ..Default::default() }
}

/// One that has folded the first client.
fn begun() -> Aggregator {
    let mut begun = aggregator(&LAYOUT, options(), &PEERS);
    PEERS[0].send_to(&mut begun);
    begun
}

/// What the client decodes to, with a tensor changed.
fn delta(peer: &Peer) -> Vec<Parameter> {
    decode(&peer.update, &Default::default()).unwrap().1
}

fn own_header(peer: &Peer) -> Vec<u8> {
    update_header(RUN, ROUND, peer.id, peer.download.digest, peer.samples)
}

fn update(header: Vec<u8>, tensors: &[Parameter]) -> Vec<u8> {
    stream(&[(0xA0, header)], tensors)
}

/// That the client is rejected for this reason, wherever its bytes are cut; that nothing is left of
/// it; and that the round completes as if it had not been.
#[track_caller]
fn assert_rejected(client: u64, message: &[u8], expected: Reason) -> Rejection {
    let mut aggregator = begun();
    let before = aggregator.save().unwrap();
    let found = rejection(aggregator.receive(client, message));
    assert_eq!(found.reason, expected, "{found}");
    assert_eq!((found.run, found.round, found.client), (RUN, ROUND, client));
    assert_eq!(aggregator.save().unwrap(), before, "{found}");
    let mut pieces = message.chunks(100).map(|piece| aggregator.receive(client, piece));
    let first = pieces.find(|received| *received != Received::More);
    assert_eq!(first.map(reason), Some(expected), "in pieces");
    assert_eq!(aggregator.save().unwrap(), before, "in pieces");
    complete(aggregator);
    found
}

/// That those who are missing can still send, and the result is as if nothing had been.
#[track_caller]
fn complete(mut aggregator: Aggregator) {
    PEERS[1..].iter().for_each(|peer| peer.send_to(&mut aggregator));
    let mut undisturbed = begun();
    PEERS[1..].iter().for_each(|peer| peer.send_to(&mut undisturbed));
    assert_eq!(aggregator.save().unwrap(), undisturbed.save().unwrap());
}

#[test]
fn cut_short_is_malformed_where_the_next_message_shows_and_nothing_where_the_client_drops() {
    let peer = &PEERS[1];
    let mut aggregator = begun();
    let before = aggregator.save().unwrap();
    for n in 0..peer.update.len() {
        assert_eq!(aggregator.receive(peer.id, &peer.update[..n]), Received::More);
        if n > 0 && n % 7 == 0 {
            // From the start again, without having said so.
            let again = [&peer.update[..], &[0; 64]].concat();
            assert_eq!(reason(aggregator.receive(peer.id, &again)), Reason::Malformed, "{n}");
        } else {
            aggregator.forget(peer.id);
        }
        if n % 97 == 0 {
            assert_eq!(aggregator.save().unwrap(), before, "{n}");
        }
    }
    complete(aggregator);
}

#[test]
fn flipped_bits_are_malformed() {
    let peer = &PEERS[0];
    let mut aggregator = aggregator(&LAYOUT, options(), &PEERS);
    let before = aggregator.save().unwrap();
    let mut flipped = peer.update.clone();
    for bit in 0..8 * flipped.len() {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(reason(aggregator.receive(peer.id, &flipped)), Reason::Malformed, "{bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(aggregator.save().unwrap(), before);
    peer.send_to(&mut aggregator);
    complete(aggregator);
}

#[test]
fn what_is_not_one_update_is_malformed() {
    let peer = &PEERS[1];
    let tensors = delta(peer);
    let header = (0xA0, own_header(peer));
    let behind = [&peer.update[..], &[0]].concat();
    let broadcast = send(&LAYOUT, &model(&LAYOUT, 1), &peer.download.header, &lossless());
    let (client, reason) = (peer.id, Reason::Late);
    let message = Rejection { run: RUN, round: ROUND, client, reason, detail: "no".into() };
    let mut late = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    late.tensor(&tensors[0].view(), &lossless()).unwrap();
    late.record(0xA0, &header.1).unwrap();
    late.finish().unwrap();
    let long = [&header.1[..], &[0]].concat();
    let newer = [&[1], &header.1[1..]].concat();
    for message in [
        b"not a stream".to_vec(),
        behind,
        broadcast,
        message.encode().unwrap(),
        stream(&[], &tensors),
        stream(&[], &[]),
        stream(&[header.clone(), header.clone()], &tensors),
        stream(&[header, (0x20, vec![])], &tensors),
        late.output().to_vec(),
        update(long, &tensors),
        update(newer, &tensors),
        update(vec![], &tensors),
    ] {
        assert_rejected(peer.id, &message, Reason::Malformed);
    }
}

#[test]
fn other_tensors_are_of_the_wrong_shape() {
    let peer = &PEERS[1];
    let tensors = delta(peer);
    let changed = |change: &dyn Fn(&mut Vec<Parameter>)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        assert_rejected(peer.id, &update(own_header(peer), &tensors), Reason::WrongShape)
    };
    changed(&|t| drop(t.pop()));
    changed(&|t| drop(t.remove(0)));
    changed(&|t| t.clear());
    changed(&|t| t.push(Parameter::zeros("extra", &[1])));
    changed(&|t| t.insert(0, Parameter::zeros("extra", &[1])));
    changed(&|t| t.swap(1, 2));
    changed(&|t| t[4].name = "temperatura".into());
    changed(&|t| t[1].shape.reverse());
    changed(&|t| t[1].shape.push(1));
    changed(&|t| t[4].shape = vec![1]);
    let full = Peer::new(&LAYOUT, peer.id, 1.0, "lossless");
    changed(&|t| *t = delta(&full));
    let found = changed(&|t| t[0].shape = vec![64, 20]);
    assert!(found.detail.contains("[20, 64]") && found.detail.contains("[64, 20]"), "{found}");
}

#[test]
fn open_and_integer_tensors_and_false_manifests_are_of_the_wrong_shape() {
    let peer = &PEERS[1];
    let message = |desc: &TensorDesc| {
        let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
        encoder.record(0xA0, &own_header(peer)).unwrap();
        encoder.begin(desc, &lossless()).unwrap();
        encoder.push(&[0; 20 * 64 * 4]).unwrap();
        encoder.end().unwrap();
        encoder.finish().unwrap();
        assert_rejected(peer.id, encoder.output(), Reason::WrongShape);
    };
    message(&TensorDesc::open("big", DType::F32, &[64]));
    message(&TensorDesc::new("big", DType::U32, &[20, 64]));
    let other = TensorDesc::new("other", DType::F32, &[20, 64]);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    encoder.manifest(&[other]).unwrap();
    encoder.tensor(&TensorView::f32("other", &[20, 64], &[0.0; 1280]), &lossless()).unwrap();
    encoder.finish().unwrap();
    assert_rejected(peer.id, encoder.output(), Reason::WrongShape);
}

#[test]
fn a_true_manifest_is_welcome() {
    let peer = &PEERS[1];
    let tensors = delta(peer);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    let desc = |t: &Parameter| t.view().desc();
    encoder.manifest(&tensors.iter().map(desc).collect::<Vec<_>>()).unwrap();
    encoder.record(0xA0, &own_header(peer)).unwrap();
    for tensor in &tensors {
        encoder.tensor(&tensor.view(), &lossless()).unwrap();
    }
    encoder.finish().unwrap();
    let mut aggregator = begun();
    let taken = Received::Folded { samples: peer.samples };
    assert_eq!(aggregator.receive(peer.id, encoder.output()), taken);
}

#[test]
fn values_that_are_no_numbers_or_out_of_range_are_not_finite() {
    for peer in &PEERS[1..] {
        let tensors = delta(peer);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -3e38] {
            for at in 0..tensors.len() {
                let mut tensors = tensors.clone();
                *tensors[at].values.last_mut().unwrap() = value;
                let message = update(own_header(peer), &tensors);
                assert_rejected(peer.id, &message, Reason::NotFinite);
            }
        }
    }
    // Just so, on either side of the bound.
    let peer = &PEERS[1];
    for value in [2f32.powi(31), -2f32.powi(31)] {
        let below = f32::from_bits(value.to_bits() - 1);
        for (value, taken) in [(value, false), (below, true)] {
            let mut tensors = delta(peer);
            tensors[3].values[0] = value;
            let received = begun().receive(peer.id, &update(own_header(peer), &tensors));
            assert_eq!(matches!(received, Received::Folded { .. }), taken, "{value}");
        }
    }
}

/// Training that diverged is encoded, and told so by the server.
#[test]
fn a_client_that_diverged_is_told() {
    for peer in &PEERS[1..] {
        let mut trained = peer.download.base.clone();
        trained[0].values[0] = f32::NAN;
        let message = peer.download.update(peer.id, &trained, 3, RoundingSeed(0)).unwrap();
        assert_rejected(peer.id, &message, Reason::NotFinite);
    }
}

#[test]
fn wrong_headers_are_rejected_for_the_field_that_is_wrong() {
    let peer = &PEERS[1];
    let (tensors, base) = (delta(peer), peer.download.digest);
    let most = u64::from(options().max_samples);
    for (header, expected) in [
        (update_header(RUN + 1, ROUND, peer.id, base, 1), Reason::WrongRound),
        (update_header(RUN, ROUND - 1, peer.id, base, 1), Reason::WrongRound),
        (update_header(RUN, ROUND + 1, peer.id, base, 1), Reason::WrongRound),
        (update_header(RUN, ROUND, 3, base, 1), Reason::WrongClient),
        (update_header(RUN, ROUND, 99, base, 1), Reason::WrongClient),
        (update_header(RUN, ROUND, peer.id, PEERS[0].download.digest, 1), Reason::WrongBase),
        (update_header(RUN, ROUND, peer.id, base, 0), Reason::BadSamples),
        (update_header(RUN, ROUND, peer.id, base, most + 1), Reason::BadSamples),
        (update_header(RUN, ROUND, peer.id, base, u64::MAX), Reason::BadSamples),
    ] {
        assert_rejected(peer.id, &update(header, &tensors), expected);
    }
    // The digest differs in its last bit only, which is not shown.
    let mut base = base;
    base.0[31] ^= 1;
    let header = update_header(RUN, ROUND, peer.id, base, 1);
    assert_rejected(peer.id, &update(header, &tensors), Reason::WrongBase);
}

#[test]
fn who_is_not_selected_or_comes_twice_is_rejected() {
    assert_rejected(PEERS[0].id, &PEERS[0].update, Reason::Duplicate);
    assert_rejected(99, &PEERS[1].update, Reason::NotSelected);
    // In the name of another.
    assert_rejected(PEERS[1].id, &PEERS[2].update, Reason::WrongClient);
}

/// Whatever the options allow, no more is held than the shapes can need; and what they need is taken.
#[test]
fn an_update_takes_no_more_than_twice_its_values() {
    let layout = r#"
        [groups]
        [[parameters]]
        name = "w"
        axes = ["40000"]
    "#;
    let layout = Arc::new(Layout::from_toml(layout).unwrap());
    // A frame of twice the size, whose coefficients are not quantized: the most that a spec can ask for.
    for up in ["kashin,lambda=2", "lossless"] {
        let peers = [Peer::new(&layout, 7, 1.0, up)];
        let mut taker = aggregator(&layout, AggregatorOptions::default(), &peers);
        peers[0].send_to(&mut taker);
    }
    let peers = [Peer::new(&layout, 7, 1.0, "lossless")];
    let mut taker = aggregator(&layout, AggregatorOptions::default(), &peers);
    let padding = stream(&vec![(0xA5, vec![0; 50_000]); 10], &[]);
    let mut pieces = padding.chunks(10_000).map(|piece| taker.receive(7, piece));
    let n_taken = pieces.by_ref().take_while(|received| *received == Received::More).count();
    assert!((36..44).contains(&n_taken), "{n_taken} times 10,000 bytes for 160,000");
}

#[test]
fn too_many_bytes_are_too_large() {
    let peer = &PEERS[1];
    let padding = stream(&[(0xA5, vec![0; 1 << 16])], &[]);
    assert_rejected(peer.id, &padding, Reason::TooLarge);
    // What takes more memory to decode than is allowed.
    let options = AggregatorOptions { decode_memory: 4096, ..options() };
    let mut small = aggregator(&LAYOUT, options, &PEERS);
    assert_eq!(reason(small.receive(peer.id, &peer.update)), Reason::TooLarge);
}

#[test]
fn one_too_many_on_their_way_is_busy_and_may_try_again() {
    let mut aggregator = begun();
    let third = Peer::new(&LAYOUT, 9, 1.0, LOSSY);
    third.expect_in(&mut aggregator);
    let before = aggregator.save().unwrap();
    for peer in &PEERS[1..] {
        assert_eq!(aggregator.receive(peer.id, &peer.update[..50]), Received::More);
    }
    assert_eq!(reason(aggregator.receive(third.id, &third.update)), Reason::Busy);
    // Strangers and those who are done are told so, however busy it is.
    assert_eq!(reason(aggregator.receive(1, &PEERS[0].update)), Reason::Duplicate);
    assert_eq!(reason(aggregator.receive(77, &[])), Reason::NotSelected);
    assert_eq!(aggregator.save().unwrap(), before);
    aggregator.forget(PEERS[1].id);
    third.send_to(&mut aggregator);
    let taken = Received::Folded { samples: PEERS[2].samples };
    assert_eq!(aggregator.receive(PEERS[2].id, &PEERS[2].update[50..]), taken);
}

/// The weights of a round stay below 2^35, so that no sum overflows.
#[test]
fn weights_beyond_the_bound_of_a_round_are_bad_samples() {
    let text = "[groups]\n[[parameters]]\nname = \"w\"\naxes = [\"1\"]\n";
    let layout = Arc::new(Layout::from_toml(text).unwrap());
    let header = broadcast(fedpress_fl::Choice::full(), "none");
    let message = send(&layout, &model(&layout, 1), &header, &lossless());
    let digest = fedpress_fl::Digest::of(&message);
    for weighting in [Weighting::Samples, Weighting::Uniform] {
        let max_samples = u32::MAX;
        let averaging = Averaging::Counted;
        let options = AggregatorOptions { max_samples, weighting, averaging, ..options() };
        let mut heavy = Aggregator::new(layout.clone(), RUN, ROUND, options).unwrap();
        let largest = f32::from_bits(2f32.powi(31).to_bits() - 1);
        let mut tensor = Parameter::zeros("w", &[1]);
        tensor.values[0] = largest;
        for client in 0..9 {
            heavy.expect(client, digest, &header.choice).unwrap();
            let samples = u64::from(u32::MAX);
            let own = update_header(RUN, ROUND, client, digest, samples);
            let received = heavy.receive(client, &update(own, &[tensor.clone()]));
            // Eight times 2^32 - 1 leaves room for eight.
            if client == 8 && weighting == Weighting::Samples {
                let rejection = rejection(received);
                assert_eq!(rejection.reason, Reason::BadSamples);
                assert!(rejection.detail.contains("34359738368"), "{rejection}");
            } else {
                assert_eq!(received, Received::Folded { samples });
            }
            assert_eq!(heavy.mean(0), [Some(f64::from(largest))]);
        }
    }
}
