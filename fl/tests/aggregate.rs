//! Laws of aggregation: neither the order of arrival, nor how bytes are cut, nor the shape of a tree
//! shows in the result, which is the weighted mean.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Averaging, Choice, Error, Layout, Received, RoundingSeed,
    Weighting,
};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(layout);
static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| {
    let specs = [LOSSY, "lossless", "kashin|q=3", "none"];
    let keep = [0.5, 1.0, 0.3];
    let peer = |id: usize| Peer::new(&LAYOUT, id as u64, keep[id % 3], specs[id % 4]);
    (0..12).map(peer).collect()
});

fn options(averaging: Averaging, weighting: Weighting) -> AggregatorOptions {
    AggregatorOptions { averaging, weighting, ..AggregatorOptions::default() }
}

fn all_options() -> Vec<AggregatorOptions> {
    let averagings = [Averaging::ZeroFilled, Averaging::Counted];
    let both = |a| [Weighting::Samples, Weighting::Uniform].map(|w| options(a, w));
    averagings.into_iter().flat_map(both).collect()
}

/// All of them, one after the other.
fn flat(options: &AggregatorOptions) -> Aggregator {
    let mut all = aggregator(&LAYOUT, options.clone(), &PEERS);
    PEERS.iter().for_each(|peer| peer.send_to(&mut all));
    all
}

fn means(aggregator: &Aggregator) -> Vec<Vec<Option<u64>>> {
    let bits = |i| aggregator.mean(i).into_iter().map(|mean| mean.map(f64::to_bits)).collect();
    (0..LAYOUT.params().len()).map(bits).collect()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn order_and_cuts_do_not_show(
        order in Just((0..PEERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..6), PEERS.len()),
        turns in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        // Pieces of all updates, those of one client in order and those of others in between.
        let mut waiting: Vec<(u64, std::collections::VecDeque<&[u8]>)> = Vec::new();
        for at in order {
            let bytes = &PEERS[at].update;
            let mut ends: Vec<_> = cuts[at].iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let starts = [0].into_iter().chain(ends.iter().copied());
            // An empty piece behind the end would begin a second update.
            let pieces = starts.zip(&ends).filter(|(a, b)| a < b).map(|(a, b)| &bytes[a..*b]);
            waiting.push((PEERS[at].id, pieces.collect()));
        }
        let mut aggregator = aggregator(&LAYOUT, AggregatorOptions::default(), &PEERS);
        let mut turns = turns.iter().cycle();
        while !waiting.is_empty() {
            let at = turns.next().unwrap().index(waiting.len());
            let (client, pieces) = &mut waiting[at];
            let piece = pieces.pop_front().unwrap();
            let received = aggregator.receive(*client, piece);
            prop_assert!(!matches!(received, Received::Rejected(_)), "{received:?}");
            prop_assert_eq!(matches!(received, Received::Folded { .. }), pieces.is_empty());
            if pieces.is_empty() {
                waiting.remove(at);
            }
        }
        prop_assert_eq!(aggregator.save().unwrap(), flat(&AggregatorOptions::default()).save().unwrap());
    }

    /// Every client is assigned to a leaf, every leaf to a branch; all are saved and merged.
    #[test]
    fn trees_are_flat(
        leaf_of in prop::collection::vec(0usize..5, PEERS.len()),
        branch_of in prop::collection::vec(0usize..2, 5),
        which in 0usize..4,
    ) {
        let options = all_options()[which].clone();
        let of = |leaf| PEERS.iter().zip(&leaf_of).filter(move |(_, of)| **of == leaf).map(|(p, _)| p);
        let mut branches = [(); 2].map(|()| aggregator(&LAYOUT, options.clone(), &[]));
        for (leaf, branch) in branch_of.iter().enumerate() {
            let mut sums = aggregator(&LAYOUT, options.clone(), &[]);
            for peer in of(leaf) {
                peer.expect_in(&mut sums);
                peer.send_to(&mut sums);
            }
            branches[*branch].merge(&sums.save().unwrap(), &Default::default()).unwrap();
        }
        let [mut root, branch] = branches;
        root.merge(&branch.save().unwrap(), &Default::default()).unwrap();
        let flat = flat(&options);
        prop_assert_eq!(means(&root), means(&flat));
        prop_assert_eq!((root.weight(), root.n_folded()), (flat.weight(), flat.n_folded()));
        prop_assert_eq!(root.save().unwrap(), flat.save().unwrap());
    }
}

/// Against sums of f64. The products are exact in f64 (24 bits of the value, 10 of the weight), each
/// addition errs by half a unit in the last place of a sum that the sum of magnitudes bounds, as do
/// division and conversion; each fixed-point product errs by 2^-61.
#[test]
fn the_mean_is_the_weighted_mean() {
    for options in all_options() {
        let aggregator = flat(&options);
        let sent: Vec<_> = PEERS.iter().map(|peer| (peer, peer.sent(&LAYOUT))).collect();
        let n = PEERS.len() as f64;
        for (i, param) in LAYOUT.params().iter().enumerate() {
            let n_values = LAYOUT.shape(i).iter().product();
            let (mut sums, mut sizes, mut weights) =
                (vec![0.0; n_values], vec![0.0; n_values], vec![0.0; n_values]);
            let mut total = 0.0;
            let is_statistic = param.name == "norm.mean";
            // Statistics of submodels are of other networks.
            let counts = |peer: &Peer| !is_statistic || peer.choice.keep.default == 1.0;
            for (peer, sent) in sent.iter().filter(|(peer, _)| counts(peer)) {
                let weight = match options.weighting {
                    Weighting::Samples => peer.samples as f64,
                    Weighting::Uniform => 1.0,
                };
                total += weight;
                let (gather, values) = &sent[i];
                let places = gather.runs().flat_map(|(at, n)| at..at + n);
                for (at, value) in places.zip(values) {
                    sums[at] += weight * f64::from(*value);
                    sizes[at] += weight * f64::from(value.abs());
                    weights[at] += weight;
                }
            }
            let counted = options.averaging == Averaging::Counted || is_statistic;
            for (at, mean) in aggregator.mean(i).into_iter().enumerate() {
                assert_eq!(mean.is_some(), weights[at] > 0.0, "{} {at}", param.name);
                let Some(mean) = mean else { continue };
                let weight: f64 = if counted { weights[at] } else { total };
                let expected = sums[at] / weight;
                let tolerance =
                    ((n + 3.0) * 2f64.powi(-53) * sizes[at] + n * 2f64.powi(-61)) / weight;
                assert!((mean - expected).abs() <= tolerance, "{} {at}: {mean}", param.name);
            }
        }
        assert_eq!(aggregator.n_folded(), PEERS.len());
        assert_eq!(aggregator.missing().count(), 0);
    }
}

#[test]
fn nobody_trained_is_none_and_nobody_changed_is_zero() {
    let aggregator = aggregator(&LAYOUT, AggregatorOptions::default(), &PEERS);
    assert!((0..5).all(|i| aggregator.mean(i).iter().all(Option::is_none)));
    let full = Peer::new(&LAYOUT, 1, 1.0, "lossless");
    let still = full.download.update(1, &full.download.base, 3, RoundingSeed(0)).unwrap();
    let mut one = federation::aggregator(&LAYOUT, AggregatorOptions::default(), &[full]);
    assert_eq!(one.receive(1, &still), Received::Folded { samples: 3 });
    assert!((0..5).all(|i| one.mean(i).iter().all(|mean| *mean == Some(0.0))));
}

#[test]
fn who_is_expected_is_told_from_who_has_sent() {
    let peers = &PEERS[..3];
    let mut aggregator = aggregator(&LAYOUT, AggregatorOptions::default(), peers);
    assert_eq!(aggregator.missing().collect::<Vec<_>>(), [0, 1, 2]);
    peers[1].send_to(&mut aggregator);
    assert_eq!(aggregator.missing().collect::<Vec<_>>(), [0, 2]);
    assert_eq!((aggregator.n_folded(), aggregator.weight()), (1, peers[1].samples));
}

#[test]
fn a_base_is_of_one_choice_and_a_client_of_one_base() {
    let [a, b] = [&PEERS[0], &PEERS[1]];
    let mut aggregator = aggregator(&LAYOUT, AggregatorOptions::default(), &PEERS[..1]);
    let before = aggregator.save().unwrap();
    let invalid = |result: Result<(), Error>| {
        assert_eq!(*result.unwrap_err().kind(), fedpress::ErrorKind::InvalidArgument);
    };
    invalid(aggregator.expect(a.id, a.download.digest, &a.choice));
    invalid(aggregator.expect(50, a.download.digest, &b.choice));
    invalid(aggregator.expect(50, b.download.digest, &random(1, 1.5)));
    assert_eq!(aggregator.save().unwrap(), before);
    aggregator.expect(50, a.download.digest, &a.choice).unwrap();
}

#[test]
fn options_that_let_nothing_in_are_refused() {
    for (max_in_flight, max_samples) in [(0, 1), (1, 0)] {
        let options = AggregatorOptions { max_in_flight, max_samples, ..Default::default() };
        let refused = Aggregator::new(LAYOUT.clone(), RUN, ROUND, options).err().unwrap();
        assert_eq!(*refused.kind(), fedpress::ErrorKind::InvalidArgument);
    }
}

/// Updates do not depend on how they were cut into chunks either.
#[test]
fn small_chunks_are_as_good_as_large_ones() {
    let text = "[groups]\n[[parameters]]\nname = \"w\"\naxes = [\"9000\"]\n";
    let layout = Arc::new(Layout::from_toml(text).unwrap());
    let header = broadcast(Choice::full(), "lossless");
    let message = send(&layout, &model(&layout, 1), &header, &lossless());
    let download = fedpress_fl::Download::decode(&message, &Default::default()).unwrap();
    let large = download.update(1, &trained(&download.base, 5), 2, RoundingSeed(0)).unwrap();
    let (_, delta) = fedpress_fl::message::decode(&large, &Default::default()).unwrap();
    let mut options = fedpress::EncodeOptions::new(seeds());
    options.group_log2 = 12;
    let mut encoder = fedpress::Encoder::new(options).unwrap();
    encoder.record(0xA0, &update_header(RUN, ROUND, 1, download.digest, 2)).unwrap();
    let flat = fedpress::TensorView { shape: &[9000], ..delta[0].view() };
    encoder.tensor(&flat, &lossless()).unwrap();
    encoder.finish().unwrap();
    let states = [&large[..], encoder.output()].map(|update| {
        let mut one = Aggregator::new(layout.clone(), RUN, ROUND, Default::default()).unwrap();
        one.expect(1, download.digest, &Choice::full()).unwrap();
        assert_eq!(one.receive(1, update), Received::Folded { samples: 2 });
        one.save().unwrap()
    });
    assert_eq!(states[0], states[1]);
}
