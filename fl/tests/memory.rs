//! Law: memory is bounded by what the receiver allows and by the model, not by what messages claim
//! nor by the number of clients.
//!
//! Every allocation of this test binary is counted. Tests take turns, so that each sees its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;
#[path = "../../codec/tests/common/heap.rs"]
mod heap;

use federation::*;
use fedpress::{DType, DecodeOptions, EncodeOptions, Encoder, ErrorKind, TensorDesc};
use fedpress_fl::message::decode;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Choice, Digest, Download, Layout, Parameter, Reason, Received,
    RoundingSeed,
};
use heap::{grown, live, peak_of};
use std::sync::{Arc, Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::new(());

/// To be held by a test from start to end: what it makes counts, too.
fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A message with a tensor of zeros in chunks that zstd makes small.
fn zeros(n_values: u64, n_sent: u64, group_log2: u8) -> Vec<u8> {
    let mut options = EncodeOptions::new(seeds());
    options.group_log2 = group_log2;
    let mut encoder = Encoder::new(options).unwrap();
    encoder.record(0xA0, &update_header(RUN, ROUND, 1, Digest([0; 32]), 1)).unwrap();
    encoder.begin(&TensorDesc::new("w", DType::F32, &[n_values]), &lossless()).unwrap();
    let piece = vec![0; 4 << group_log2];
    for _ in 0..n_sent >> group_log2 {
        encoder.push(&piece).unwrap();
    }
    if n_sent == n_values {
        encoder.end().unwrap();
        encoder.finish().unwrap();
    }
    encoder.output().to_vec()
}

#[test]
fn messages_that_claim_gigabytes_are_refused_within_the_limit() {
    let _turn = turn();
    let mut options = DecodeOptions::default();
    options.memory = 32 << 20;
    for (n_values, n_sent) in [(1 << 40, 0), (1 << 32, 1 << 20), ((8 << 20) + 4096, 1 << 20)] {
        let message = zeros(n_values, n_sent, 20);
        assert!(message.len() < MIB);
        let (result, peak) = peak_of(|| decode(&message, &options));
        let kind = result.unwrap_err().kind().clone();
        assert!(matches!(kind, ErrorKind::LimitExceeded { .. }), "{kind:?}");
        assert!(peak < MIB, "{peak}");
    }
    // As many as are allowed, and what it takes to decode a chunk of them.
    let message = zeros(8 << 20, 8 << 20, 20);
    let (result, peak) = peak_of(|| decode(&message, &options));
    assert_eq!(result.unwrap().1[0].values.len(), 8 << 20);
    assert!(peak < 64 * MIB, "{peak}");
}

#[test]
fn headers_that_claim_long_lists_take_no_memory() {
    let _turn = turn();
    let broadcast =
        broadcast(Choice::full(), "none").encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
    let own = header_body(&broadcast);
    // Before a name, its spec, the task and a flag: the number of names.
    let at =
        own.len() - 1 - 4 - 4 - ("norm.mean".len() + 4) - (lossless().to_string().len() + 4) - 4;
    assert_eq!(own[at..at + 4], 1u32.to_le_bytes());
    let named = |n: u32| [&own[..at], &n.to_le_bytes(), &own[at + 4..]].concat();
    // Behind version, kind, run, round, client and seed: rule 3 with as many masks.
    let masks = [&own[..34], &[3], &u32::MAX.to_le_bytes()[..]].concat();
    let units = [&own[..34], &[3, 1, 0, 0, 0], &u32::MAX.to_le_bytes()[..]].concat();
    for body in [named(u32::MAX), named(1 << 16), masks, units] {
        let message = stream(&[(0xA0, body)], &[]);
        let (result, peak) = peak_of(|| decode(&message, &DecodeOptions::default()));
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(peak < 16 * KIB, "{peak}");
    }
}

/// Specs take more memory than their text: as many as are allowed take so much, and no more are.
#[test]
fn the_specs_of_a_header_are_bounded() {
    let _turn = turn();
    let named = |n: usize| {
        let spec: fedpress::Spec =
            "kashin,lambda=2|subsample=0.5|q=2|zstd or identity|step=2".parse().unwrap();
        let mut header = broadcast(Choice::full(), "none");
        header.up.by_tensor = (0..n).map(|i| (format!("{i:06}"), spec.clone())).collect();
        header
    };
    let message = named(1 << 16).encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
    let (result, peak) = peak_of(|| decode(&message, &DecodeOptions::default()));
    result.unwrap();
    println!("{} bytes for each of 65,536 specs", peak >> 16);
    assert!(peak < 32 * MIB, "{peak}");
    let error = named((1 << 16) + 1).encode(&[], &lossless().into(), RoundingSeed(0)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
}

fn one_parameter(n: usize) -> Arc<Layout> {
    let text = format!("[groups]\nh = {n}\n[[parameters]]\nname = \"w\"\naxes = [\"h\"]\n");
    Arc::new(Layout::from_toml(&text).unwrap())
}

fn empty(layout: &Arc<Layout>, options: AggregatorOptions) -> Aggregator {
    Aggregator::new(layout.clone(), RUN, ROUND, options).unwrap()
}

/// Ten thousand clients take bookkeeping for ten thousand: what is documented, and no more; then
/// one after the other folds in constant memory.
#[test]
fn ten_thousand_clients_fold_in_the_memory_of_one() {
    let _turn = turn();
    let layout = one_parameter(2000);
    let shared = broadcast(random(1, 0.5), LOSSY);
    let message = send(&layout, &model(&layout, 1), &shared, &lossless());
    let download = Download::decode(&message, &Default::default()).unwrap();
    let trained = trained(&download.base, 5);
    for own in [false, true] {
        let mut all = empty(&layout, AggregatorOptions::default());
        let base = |client: u64| match own {
            true => Digest::of(&client.to_le_bytes()),
            false => download.digest,
        };
        let before = live();
        for client in 0..10_000 {
            let choice = if own { random(client, 0.5) } else { shared.choice.clone() };
            all.expect(client, base(client), &choice).unwrap();
        }
        let each = (grown(before)) / 10_000;
        println!("{each} bytes of bookkeeping for each client");
        assert!(each < if own { 300 } else { 100 }, "{each} bytes of bookkeeping for each client");
        let expected = live();
        for client in 0..10_000 {
            let own = Download { digest: base(client), ..download.clone() };
            let update =
                own.update(client, &trained, 1 + client % 9, RoundingSeed(client)).unwrap();
            let (received, peak) = peak_of(|| all.receive(client, &update));
            assert!(matches!(received, Received::Folded { .. }), "{received:?}");
            assert!(peak < 96 * KIB, "client {client}: {peak}");
        }
        // Buffers of the decoder stay; they are of a chunk of the model.
        assert!(grown(expected) < 64 * KIB, "{}", grown(expected));
    }
}

/// Whoever comes while as many as allowed are on their way is turned away, and what those have sent
/// is all that is held.
#[test]
fn clients_that_never_finish_hold_what_they_sent_and_no_more() {
    let _turn = turn();
    let layout = layout();
    let peer = Peer::new(&layout, 1, 0.5, "lossless");
    let mut all = empty(&layout, AggregatorOptions { max_in_flight: 8, ..Default::default() });
    for client in 0..10_000 {
        all.expect(client, peer.download.digest, &peer.choice).unwrap();
    }
    let before = live();
    let tensors = decode(&peer.update, &Default::default()).unwrap().1;
    let (n_busy, peak) = peak_of(|| {
        let mut n_busy = 0;
        for client in 0..10_000 {
            let header = update_header(RUN, ROUND, client, peer.download.digest, 1);
            let own = if client < 8 { stream(&[(0xA0, header)], &tensors) } else { vec![0; 2] };
            match all.receive(client, &own[..own.len() - 1]) {
                Received::More => {}
                other => n_busy += usize::from(reason(other) == Reason::Busy),
            }
        }
        n_busy
    });
    assert_eq!(n_busy, 9_992);
    // The update being made counts, too.
    let most = 10 * (2 * peer.update.len() + 16 * KIB) + 64 * KIB;
    assert!(peak < most, "{peak} of {most}");
    (0..10_000).for_each(|client| all.forget(client));
    assert!(grown(before) < 64 * KIB, "{}", grown(before));
}

/// A chunk of 4,096 zeros is a few bytes; held as such, it is not much more.
#[test]
fn many_small_chunks_are_held_in_a_fraction_of_what_they_decode_to() {
    let _turn = turn();
    let n = 1 << 20;
    let layout = one_parameter(n);
    let update = zeros(n as u64, n as u64, 12);
    let mut all = empty(&layout, AggregatorOptions::default());
    all.expect(1, Digest([0; 32]), &Choice::full()).unwrap();
    let before = live();
    assert_eq!(all.receive(1, &update[..update.len() - 1]), Received::More);
    let held = grown(before);
    assert!(held < update.len() + (n >> 12) * 256 + 8 * KIB, "{held} of {}", update.len());
    assert!(held < 4 * n / 32, "{held}");
    let (received, peak) = peak_of(|| all.receive(1, &update[update.len() - 1..]));
    assert_eq!(received, Received::Folded { samples: 1 });
    assert!(peak < 4 * n + 4 * MIB, "{peak}");
}

/// A manifest is parsed and held by the decoder; a false one goes at once.
#[test]
fn false_manifests_are_not_held() {
    let _turn = turn();
    let layout = layout();
    let peers = peers(&layout, 4, "lossless");
    let mut all = aggregator(&layout, AggregatorOptions::default(), &peers);
    let names: Vec<TensorDesc> =
        (0..2_000).map(|i| TensorDesc::new(i.to_string(), DType::F32, &[1])).collect();
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    encoder.manifest(&names).unwrap();
    let message = encoder.output().to_vec();
    drop((names, encoder));
    let before = live();
    for peer in &peers {
        assert_eq!(reason(all.receive(peer.id, &message)), Reason::WrongShape);
    }
    assert!(grown(before) < 16 * KIB, "{}", grown(before));
}

/// In place of an update, a broadcast of many names: its lists are not even read, and where it is longer
/// than an update can be, nor are its bytes.
#[test]
fn other_messages_are_not_parsed_where_an_update_is_due() {
    let _turn = turn();
    let layout = layout();
    let peers = peers(&layout, 1, "lossless");
    let mut all = aggregator(&layout, AggregatorOptions::default(), &peers);
    for (n_task, expected) in [(0, Reason::Malformed), (16_000_000, Reason::TooLarge)] {
        let mut header = broadcast(Choice::full(), "none");
        header.up.by_tensor = (0..3_000).map(|i| (i.to_string(), lossless())).collect();
        header.task = "x".repeat(n_task);
        let message = header.encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
        drop(header);
        let (received, peak) = peak_of(|| all.receive(1, &message));
        assert_eq!(reason(received), expected);
        assert!(peak < 300 * KIB, "{peak}");
    }
}

/// What is merged is as large as what it is merged into.
#[test]
fn states_are_merged_in_the_memory_of_a_few() {
    let _turn = turn();
    let n = 100_000;
    let layout = one_parameter(n);
    let mut ours = empty(&layout, AggregatorOptions::default());
    let mut theirs = empty(&layout, AggregatorOptions::default());
    let header = broadcast(Choice::full(), "lossless");
    let zeros = [Parameter::zeros("w", &[n])];
    let message = send(&layout, &zeros, &header, &lossless());
    let download = Download::decode(&message, &Default::default()).unwrap();
    let update = download.update(1, &trained(&zeros, 3), 5, RoundingSeed(0)).unwrap();
    theirs.expect(1, download.digest, &header.choice).unwrap();
    theirs.receive(1, &update);
    let before = live();
    let (state, save) = peak_of(|| theirs.save().unwrap());
    let (result, merge) = peak_of(|| ours.merge(&state, &Default::default()));
    result.unwrap();
    let coordinate = |bytes: usize| bytes as f64 / n as f64;
    let (save, merge) = (coordinate(save), coordinate(merge));
    assert!(save < 24.0 * 4.0 && merge < 24.0 * 4.0, "{save} and {merge} bytes a coordinate");
    drop(state);
    assert!(grown(before) < 16 * KIB, "{}", grown(before));
}

/// Of a median the updates are kept, 4 bytes a value, and once more while it is made.
#[test]
fn a_median_takes_the_updates_and_as_much_again_while_it_is_made() {
    let _turn = turn();
    let (n, n_clients) = (100_000, 8);
    let layout = one_parameter(n);
    let options = AggregatorOptions {
        averaging: fedpress_fl::Averaging::Median,
        weighting: fedpress_fl::Weighting::Uniform,
        max_kept_bytes: (4 * n * n_clients) as u64,
        ..Default::default()
    };
    let header = broadcast(Choice::full(), "lossless");
    let zeros = [Parameter::zeros("w", &[n])];
    let message = send(&layout, &zeros, &header, &lossless());
    let download = Download::decode(&message, &Default::default()).unwrap();
    let mut all = empty(&layout, options);
    let before = live();
    for client in 0..n_clients as u64 {
        let update = download.update(client, &trained(&zeros, client), 5, RoundingSeed(0)).unwrap();
        all.expect(client, download.digest, &header.choice).unwrap();
        assert!(matches!(all.receive(client, &update), Received::Folded { .. }));
    }
    let coordinate = |bytes: usize| bytes as f64 / (n * n_clients) as f64;
    let held = coordinate(grown(before));
    // Buffers of the decoder stay.
    assert!((4.0..4.0 + 2.0).contains(&held), "{held} bytes a value");
    let (means, peak) = peak_of(|| all.mean(0));
    assert_eq!(means.len(), n);
    // The result takes 16 bytes a coordinate.
    let peak = coordinate(peak) - 16.0 / n_clients as f64;
    assert!((4.0..4.1).contains(&peak), "{peak} bytes a value");
}
