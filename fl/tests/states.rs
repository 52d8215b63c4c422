//! Laws of the states of aggregators: one that was saved goes on as if nothing had happened, and one
//! that could not have been saved changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DecodeOptions, EncodeOptions, Encoder, ErrorKind, Tensor};
use fedpress_fl::{Aggregator, AggregatorOptions, Averaging, Choice, Layout, Received, Weighting};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(layout);
static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| peers(&LAYOUT, 6, LOSSY));

fn restore(bytes: &[u8]) -> fedpress_fl::Result<Aggregator> {
    Aggregator::restore(bytes, LAYOUT.clone(), AggregatorOptions::default(), &Default::default())
}

/// One that expects these and has folded those.
fn with(expected: &[Peer], folded: &[Peer]) -> Aggregator {
    let mut sums = aggregator(&LAYOUT, AggregatorOptions::default(), expected);
    folded.iter().for_each(|peer| peer.send_to(&mut sums));
    sums
}

/// A state with other content and valid checksums.
fn forged(state: &[u8], change: impl FnOnce(&mut Vec<u8>, &mut Vec<Tensor>)) -> Vec<u8> {
    assert_eq!(state[10], 0xA1);
    let len = u32::from_le_bytes(state[11..15].try_into().unwrap()) as usize;
    let mut head = state[17..17 + len].to_vec();
    let mut tensors = fedpress::decode(state, &DecodeOptions::default()).unwrap();
    change(&mut head, &mut tensors);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    encoder.record(0xA1, &head).unwrap();
    tensors.iter().for_each(|tensor| encoder.tensor(&tensor.view(), &lossless()).unwrap());
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

proptest! {
    #![proptest_config(cases(24))]

    /// Restarted before any of them, a round ends with the same state.
    #[test]
    fn restarts_do_not_show(
        restarts in prop::collection::vec(any::<bool>(), 6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut sums = with(&PEERS, &[]);
        for (peer, restart) in PEERS.iter().zip(restarts) {
            if restart {
                // What was on its way is lost, and comes again.
                let half = &peer.update[..cut.index(peer.update.len())];
                prop_assert_eq!(sums.receive(peer.id, half), Received::More);
                sums = restore(&sums.save().unwrap()).unwrap();
                prop_assert!(sums.missing().any(|client| client == peer.id));
            }
            peer.send_to(&mut sums);
        }
        prop_assert_eq!(sums.save().unwrap(), with(&PEERS, &PEERS).save().unwrap());
    }
}

#[test]
fn a_restored_state_is_the_state() {
    for (expected, folded) in [(0, 0), (3, 0), (6, 4), (6, 6)] {
        let state = with(&PEERS[..expected], &PEERS[..folded]).save().unwrap();
        let restored = restore(&state).unwrap();
        assert_eq!(restored.save().unwrap(), state);
        assert_eq!(restored.n_folded(), folded);
        assert_eq!(restored.missing().count(), expected - folded);
    }
}

#[test]
fn who_was_rejected_before_a_restart_is_not_held_to_it() {
    let mut sums = restore(&with(&PEERS, &PEERS[..1]).save().unwrap()).unwrap();
    assert_eq!(reason(sums.receive(1, &PEERS[0].update)), fedpress_fl::Reason::Duplicate);
    assert_eq!(reason(sums.receive(2, &PEERS[2].update)), fedpress_fl::Reason::WrongClient);
    PEERS[1].send_to(&mut sums);
}

/// That merging fails like this and changes nothing, not even what is on its way.
#[track_caller]
fn assert_refused(ours: &mut Aggregator, state: &[u8], expected: &ErrorKind) {
    let before = ours.save().unwrap();
    let error = ours.merge(state, &Default::default()).unwrap_err();
    assert_eq!(error.kind(), expected, "{error}");
    assert_eq!(ours.save().unwrap(), before);
}

#[test]
fn every_truncation_and_every_flip_is_refused() {
    let state = with(&PEERS[2..4], &PEERS[2..3]).save().unwrap();
    let mut ours = with(&PEERS[..2], &PEERS[..1]);
    let before = ours.save().unwrap();
    let mut refused = |bytes: &[u8]| ours.merge(bytes, &Default::default()).unwrap_err();
    for n in 0..state.len() {
        assert_eq!(*refused(&state[..n]).kind(), ErrorKind::Truncated, "{n}");
    }
    let mut flipped = state.clone();
    for bit in 0..8 * state.len() {
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    for behind in [&[0][..], &state, &stream(&[], &[])] {
        assert_eq!(*refused(&[&state[..], behind].concat()).kind(), ErrorKind::Corrupt);
    }
    let other = stream(&[(0xA5, vec![])], &[]);
    assert_eq!(*refused(&other).kind(), ErrorKind::Corrupt);
    assert_eq!(*refused(&PEERS[1].update).kind(), ErrorKind::Corrupt);
    assert_eq!(ours.save().unwrap(), before);
    ours.merge(&state, &Default::default()).unwrap();
}

#[test]
fn merging_adds_disjoint_clients_only() {
    let mut ours = with(&PEERS[..4], &PEERS[..2]);
    assert_eq!(ours.receive(3, &PEERS[2].update[..20]), Received::More);
    let overlap = with(&PEERS, &PEERS[1..3]).save().unwrap();
    assert_refused(&mut ours, &overlap, &ErrorKind::InvalidArgument);
    assert_refused(
        &mut ours,
        &with(&PEERS[..1], &PEERS[..1]).save().unwrap(),
        &ErrorKind::InvalidArgument,
    );
    // What was on its way here has come there; what is expected there is expected here.
    let other = with(&PEERS[2..5], &PEERS[2..3]).save().unwrap();
    ours.merge(&other, &Default::default()).unwrap();
    assert_eq!(ours.missing().collect::<Vec<_>>(), [4, 5]);
    assert_eq!(reason(ours.receive(3, &PEERS[2].update[20..])), fedpress_fl::Reason::Duplicate);
    let expected = with(&PEERS[..5], &PEERS[..3]);
    assert_eq!(ours.save().unwrap(), expected.save().unwrap());
}

#[test]
fn merging_does_not_change_what_clients_were_sent() {
    let peer = &PEERS[0];
    let mut ours = with(&PEERS[..1], &[]);
    let other = |base, choice: &Choice| {
        let mut other = with(&[], &[]);
        other.expect(50, base, choice).unwrap();
        other.save().unwrap()
    };
    let base = peer.download.digest;
    let state = other(base, &random(5, 0.2));
    assert_refused(&mut ours, &state, &ErrorKind::InvalidArgument);
    let mut stranger = with(&[], &[]);
    stranger.expect(peer.id, PEERS[1].download.digest, &PEERS[1].choice).unwrap();
    assert_refused(&mut ours, &stranger.save().unwrap(), &ErrorKind::InvalidArgument);
    ours.merge(&other(base, &peer.choice), &Default::default()).unwrap();
    peer.send_to(&mut ours);
}

#[test]
fn other_rounds_layouts_and_options_are_refused() {
    let mut ours = with(&PEERS, &PEERS[..1]);
    let empty = |layout: &Arc<Layout>, run, round, options| {
        Aggregator::new(layout.clone(), run, round, options).unwrap().save().unwrap()
    };
    let default = AggregatorOptions::default;
    let zero_filled = AggregatorOptions { averaging: Averaging::ZeroFilled, ..default() };
    let uniform = AggregatorOptions { weighting: Weighting::Uniform, ..default() };
    let text = LAYOUT.to_toml().replace("\"64\"", "\"65\"");
    let other = Arc::new(Layout::from_toml(&text).unwrap());
    for state in [
        empty(&LAYOUT, RUN + 1, ROUND, default()),
        empty(&LAYOUT, RUN, ROUND + 1, default()),
        empty(&LAYOUT, RUN, ROUND, zero_filled),
        empty(&LAYOUT, RUN, ROUND, uniform),
        empty(&other, RUN, ROUND, default()),
    ] {
        assert_refused(&mut ours, &state, &ErrorKind::InvalidArgument);
    }
    ours.merge(&empty(&LAYOUT, RUN, ROUND, default()), &Default::default()).unwrap();
}

/// The head of a state: version, averaging and its number, weighting, what becomes of long updates, two
/// bounds on norms, a hash of what privacy asks for, then run, round, sum of weights and how many updates were clipped.
const WEIGHT_AT: usize = 8 + 16 + 32 + 16;

#[test]
fn states_that_no_updates_make_are_corrupt() {
    let state = with(&PEERS[2..4], &PEERS[2..3]).save().unwrap();
    let samples = PEERS[2].samples;
    let mut ours = with(&PEERS[..2], &PEERS[..1]);
    let mut corrupt = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<Tensor>)| {
        assert_refused(&mut ours, &forged(&state, change), &ErrorKind::Corrupt);
    };
    for weight in [0, 1_000_001, 1 << 35, u64::MAX] {
        corrupt(&|head, _| head[WEIGHT_AT..][..8].copy_from_slice(&weight.to_le_bytes()));
    }
    corrupt(&|head, _| head[WEIGHT_AT + 8] = 2);
    let put = |tensor: &mut Tensor, at: usize, bytes: &[u8]| {
        tensor.data[at..at + bytes.len()].copy_from_slice(bytes);
    };
    // More than |value| < 2^31 allows for the weight, in both directions; a weight that is more than
    // all weights; a sum nobody added to.
    let most = i128::from(samples) << 91;
    for sum in [most + 1, -most - 1, i128::MAX, i128::MIN] {
        corrupt(&|_, tensors| put(&mut tensors[4], 0, &sum.to_le_bytes()));
    }
    corrupt(&|_, tensors| put(&mut tensors[5], 0, &(samples + 1).to_le_bytes()));
    corrupt(&|_, tensors| {
        put(&mut tensors[4], 0, &1i128.to_le_bytes());
        put(&mut tensors[5], 0, &0u64.to_le_bytes());
    });
    corrupt(&|_, tensors| drop(tensors.pop()));
    corrupt(&|_, tensors| tensors.clear());
    corrupt(&|_, tensors| tensors.swap(0, 1));
    corrupt(&|_, tensors| tensors[0].name = "sum/other".into());
    corrupt(&|_, tensors| tensors[0].shape.reverse());
    corrupt(&|_, tensors| tensors[1].dtype = fedpress::DType::I64);
    let extra = |_: &mut Vec<u8>, tensors: &mut Vec<Tensor>| {
        let again = Tensor { name: "more".into(), ..tensors[0].clone() };
        tensors.push(again);
    };
    corrupt(&extra);
    corrupt(&|head, _| head.push(0));
    corrupt(&|head, _| head.truncate(head.len() - 1));
    // Of the first client, that it was not folded; of the last, whether it was, its base, its number.
    corrupt(&|head, _| *head.iter_mut().nth_back(13).unwrap() = 0);
    corrupt(&|head, _| *head.last_mut().unwrap() = 2);
    corrupt(&|head, _| *head.iter_mut().nth_back(4).unwrap() = 9);
    corrupt(&|head, _| {
        let n = head.len();
        head.copy_within(n - 26..n - 18, n - 13);
    });
    let unchanged = forged(&state, |_, _| {});
    ours.merge(&unchanged, &Default::default()).unwrap();
}

#[test]
fn a_state_of_another_version_is_unsupported() {
    for change in [-1i8, 1] {
        let saved = with(&PEERS, &[]).save().unwrap();
        let other = forged(&saved, |head, _| head[0] = head[0].wrapping_add_signed(change));
        let error = restore(&other).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Unsupported { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(cases(256))]

    /// Whatever else is in a head is an error or another state that can be saved.
    #[test]
    fn arbitrary_heads_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        static STATE: LazyLock<Vec<u8>> =
            LazyLock::new(|| with(&PEERS[2..4], &PEERS[2..3]).save().unwrap());
        let state = forged(&STATE, |head, _| {
            let at = at.index(head.len() + 1);
            let end = if cut { head.len() } else { (at + noise.len()).min(head.len()) };
            head.splice(at..end, noise);
        });
        if let Ok(restored) = restore(&state) {
            prop_assert_eq!(restored.save().unwrap(), state);
        }
    }
}

#[test]
fn the_limit_of_decoding_holds_for_states() {
    let state = with(&PEERS, &PEERS).save().unwrap();
    let mut options = DecodeOptions::default();
    options.memory = 50_000;
    let error = Aggregator::restore(&state, LAYOUT.clone(), Default::default(), &options);
    assert!(matches!(error.err().unwrap().kind(), ErrorKind::LimitExceeded { .. }));
}
