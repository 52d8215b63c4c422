//! Laws of trimmed means and medians: hostile clients, as many as are trimmed and with any finite
//! content, move no coordinate out of the range of the honest ones who trained it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DecodeOptions, EncodeOptions, Encoder, ErrorKind, Tensor};
use fedpress_fl::{
    Action, Aggregator, AggregatorOptions, Averaging, Coordinator, Error, Layout, Reason, Received,
    RoundOptions, RoundingSeed, Weighting,
};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(layout);
/// With submodels of three sizes, so that coordinates have from none to all of them.
static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| peers(&LAYOUT, 9, "lossless"));

fn options(averaging: Averaging) -> AggregatorOptions {
    AggregatorOptions { averaging, weighting: Weighting::Uniform, ..Default::default() }
}

fn trimmed(trim: u32) -> AggregatorOptions {
    options(Averaging::TrimmedMean { trim })
}

/// An update of this client's shapes with these values, over and over.
fn forged(peer: &Peer, values: &[f32]) -> Vec<u8> {
    let mut tensors = peer.download.base.clone();
    let places = tensors.iter_mut().flat_map(|p| &mut p.values);
    places.zip(values.iter().cycle()).for_each(|(place, value)| *place = *value);
    let header = update_header(RUN, ROUND, peer.id, peer.download.digest, 1);
    stream(&[(0xA0, header)], &tensors)
}

fn fold(sums: &mut Aggregator, peer: &Peer, update: &[u8]) {
    let received = sums.receive(peer.id, update);
    assert!(matches!(received, Received::Folded { .. }), "{received:?}");
}

fn folded(options: &AggregatorOptions, peers: &[Peer]) -> Aggregator {
    let mut sums = aggregator(&LAYOUT, options.clone(), peers);
    peers.iter().for_each(|peer| fold(&mut sums, peer, &peer.update));
    sums
}

/// What these clients sent of each coordinate of parameter `i`; of statistics, those who trained the
/// whole model.
fn sent(i: usize, peers: &[Peer]) -> Vec<Vec<f32>> {
    let is_statistic = LAYOUT.params()[i].role == fedpress_fl::Role::Statistic;
    let counts = |peer: &&Peer| !is_statistic || peer.choice.keep.default == 1.0;
    let mut all = vec![Vec::new(); LAYOUT.shape(i).iter().product()];
    for peer in peers.iter().filter(counts) {
        let (gather, values) = &peer.sent(&LAYOUT)[i];
        let places = gather.runs().flat_map(|(at, n)| at..at + n);
        places.zip(values).for_each(|(at, value)| all[at].push(*value));
    }
    all
}

fn hostile_value() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("taken", |v| v.abs() < 2f32.powi(31))
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn no_coordinate_leaves_the_range_of_the_honest_clients(
        hostile in prop::collection::vec(prop::collection::vec(hostile_value(), 1..9), 0..4),
        extra_trim in 0usize..2,
        order in Just((0..PEERS.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let n_hostile = hostile.len();
        let (lying, honest) = order.split_at(n_hostile);
        let honest: Vec<Peer> = honest.iter().map(|at| PEERS[*at].clone()).collect();
        let trim = n_hostile + extra_trim;
        for rule in [Averaging::TrimmedMean { trim: trim as u32 }, Averaging::Median] {
            let mut sums = aggregator(&LAYOUT, options(rule), &PEERS);
            for (at, values) in lying.iter().zip(&hostile) {
                fold(&mut sums, &PEERS[*at], &forged(&PEERS[*at], values));
            }
            honest.iter().for_each(|peer| fold(&mut sums, peer, &peer.update));
            let liars: Vec<Peer> = lying.iter().map(|at| PEERS[*at].clone()).collect();
            for i in 0..LAYOUT.params().len() {
                let (right, wrong) = (sent(i, &honest), sent(i, &liars));
                for (at, mean) in sums.mean(i).into_iter().enumerate() {
                    let (n, f) = (right[at].len() + wrong[at].len(), wrong[at].len());
                    let moves = if rule == Averaging::Median { n > 0 } else { n > 2 * trim };
                    prop_assert_eq!(mean.is_some(), moves, "{:?} {} {}", rule, i, at);
                    let Some(mean) = mean else { continue };
                    if rule == Averaging::Median && 2 * f >= n {
                        continue; // no law holds for these
                    }
                    let values = right[at].iter().copied().map(f64::from);
                    let lowest = values.clone().fold(f64::INFINITY, f64::min);
                    let highest = values.fold(f64::NEG_INFINITY, f64::max);
                    prop_assert!((lowest..=highest).contains(&mean), "{mean} of {lowest} to {highest}");
                }
            }
        }
    }

    /// Nor does a restart in between show.
    #[test]
    fn neither_order_nor_trees_show(
        order in Just((0..PEERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        split in 0usize..9,
    ) {
        let options = trimmed(1);
        let flat = folded(&options, &PEERS);
        let order: Vec<Peer> = order.iter().map(|at| PEERS[*at].clone()).collect();
        let shuffled = folded(&options, &order);
        prop_assert_eq!(shuffled.save().unwrap(), flat.save().unwrap());
        let (left, right) = order.split_at(split);
        let mut root = folded(&options, left);
        root.merge(&folded(&options, right).save().unwrap(), &Default::default()).unwrap();
        prop_assert_eq!(root.save().unwrap(), flat.save().unwrap());
        let restored = Aggregator::restore(
            &root.save().unwrap(), LAYOUT.clone(), options, &Default::default(),
        ).unwrap();
        for i in 0..LAYOUT.params().len() {
            let bits = |sums: &Aggregator| -> Vec<_> {
                sums.mean(i).into_iter().map(|mean| mean.map(f64::to_bits)).collect()
            };
            prop_assert_eq!(bits(&root), bits(&flat));
            prop_assert_eq!(bits(&restored), bits(&flat));
        }
    }
}

/// Against sorting and adding in f64: as many additions as there are values, each of which errs by
/// half a unit in the last place.
#[test]
fn they_are_what_their_formulas_say() {
    for (options, trim) in [
        (trimmed(0), Some(0)),
        (trimmed(1), Some(1)),
        (trimmed(3), Some(3)),
        (options(Averaging::Median), None),
    ] {
        let sums = folded(&options, &PEERS);
        let mut n_moved = 0;
        for i in 0..LAYOUT.params().len() {
            for (mut values, mean) in sent(i, &PEERS).into_iter().zip(sums.mean(i)) {
                values.sort_by(f32::total_cmp);
                let n = values.len();
                let left = match trim {
                    Some(trim) => values.get(trim..n.saturating_sub(trim)).unwrap_or_default(),
                    None if n % 2 == 1 => &values[n / 2..=n / 2],
                    None if n > 0 => &values[n / 2 - 1..=n / 2],
                    None => &[],
                };
                assert_eq!(mean.is_some(), !left.is_empty(), "{n} {trim:?}");
                let Some(mean) = mean else { continue };
                let sum: f64 = left.iter().map(|v| f64::from(*v)).sum();
                let size: f64 = left.iter().map(|v| f64::from(v.abs())).sum();
                let error = (mean - sum / left.len() as f64).abs();
                assert!(error <= 16.0 * 2f64.powi(-53) * size, "{error}");
                n_moved += 1;
            }
        }
        assert!(n_moved > 500, "{n_moved} coordinates of {}", LAYOUT.n_values());
    }
}

/// Three of ten replace the mean, and not the median.
#[test]
fn a_round_with_hostile_clients_ends_near_the_honest_ones() {
    let clients: Vec<u64> = (1..=10).collect();
    for (averaging, survives) in [
        (Averaging::TrimmedMean { trim: 3 }, true),
        (Averaging::Median, true),
        (Averaging::TrimmedMean { trim: 2 }, false),
    ] {
        let aggregator = options(averaging);
        let no_bound = fedpress_fl::Limit::Absolute(f64::INFINITY);
        let options =
            RoundOptions { aggregator, max_norm: no_bound, ..federation::options(10, 10, 0.0) };
        let mut server = server(options);
        let before = server.model().to_vec();
        let mut last = Vec::new();
        for (client, message) in begin(&mut server, &clients, 0) {
            let download = fedpress_fl::Download::decode(&message, &Default::default()).unwrap();
            let mut trained = trained(&download.base, client);
            if client <= 3 {
                trained[0].values.iter_mut().for_each(|v| *v = 1e8);
            }
            last = server
                .receive(client, &download.update(client, &trained, 1, RoundingSeed(9)).unwrap(), 1)
                .unwrap();
        }
        assert!(matches!(last[..], [_, Action::Committed(_)]), "{last:?}");
        let moved =
            server.model()[0].values.iter().zip(&before[0].values).map(|(a, b)| (a - b).abs());
        let furthest = moved.fold(0.0, f32::max);
        assert_eq!(furthest <= 0.1001, survives, "{averaging:?}: {furthest}");
    }
}

fn limit(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LimitExceeded { .. })
}

/// As many updates are kept as there is room for, here, in a round, and at the root of a tree.
#[test]
fn memory_for_updates_is_bounded() {
    let each = 4 * LAYOUT.n_values() as u64;
    let three = AggregatorOptions { max_kept_bytes: 3 * each, ..options(Averaging::Median) };
    let mut sums = folded(&three, &PEERS[..3]);
    let fourth = &PEERS[3];
    let before = sums.save().unwrap();
    let error = sums.expect(fourth.id, fourth.download.digest, &fourth.choice);
    assert!(limit(&error.unwrap_err()));
    assert_eq!(reason(sums.receive(fourth.id, &fourth.update)), Reason::NotSelected);
    let other = folded(&three, &PEERS[3..5]).save().unwrap();
    assert!(limit(&sums.merge(&other, &Default::default()).unwrap_err()));
    assert_eq!(sums.save().unwrap(), before);
    let many = AggregatorOptions { max_kept_bytes: 9 * each, ..three.clone() };
    let state = folded(&many, &PEERS).save().unwrap();
    let few = Aggregator::restore(&state, LAYOUT.clone(), three.clone(), &Default::default());
    assert!(limit(&few.err().unwrap()));

    let options = RoundOptions { aggregator: three, ..federation::options(4, 1, 0.0) };
    let mut server = server(options);
    assert!(limit(&server.begin(&CLIENTS, 0).unwrap_err()));
    assert!(!server.is_open());
    assert_eq!(server.begin(&CLIENTS[..3], 0).unwrap().len(), 3);
}

/// What clients say of themselves is no weight, so asking for both is a mistake.
#[test]
fn weights_that_clients_choose_are_refused() {
    for averaging in [Averaging::TrimmedMean { trim: 1 }, Averaging::Median] {
        let aggregator = AggregatorOptions { averaging, ..Default::default() };
        let refused =
            Aggregator::new(LAYOUT.clone(), RUN, ROUND, aggregator.clone()).err().unwrap();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
        let options = RoundOptions { aggregator, ..federation::options(4, 1, 0.0) };
        let layout = Layout::clone(&LAYOUT);
        assert!(Coordinator::new(layout, model(&LAYOUT, 1), options).is_err());
    }
}

/// A state with other content and valid checksums.
fn forge(state: &[u8], change: impl FnOnce(&mut Vec<Tensor>)) -> Vec<u8> {
    assert_eq!(state[10], 0xA1);
    let head = header_like(state);
    let mut tensors = fedpress::decode(state, &DecodeOptions::default()).unwrap();
    change(&mut tensors);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    encoder.record(0xA1, &head).unwrap();
    tensors.iter().for_each(|tensor| encoder.tensor(&tensor.view(), &lossless()).unwrap());
    encoder.finish().unwrap();
    encoder.output().to_vec()
}

fn header_like(state: &[u8]) -> Vec<u8> {
    let len = u32::from_le_bytes(state[11..15].try_into().unwrap()) as usize;
    state[17..17 + len].to_vec()
}

#[test]
fn states_that_no_updates_make_are_corrupt() {
    let bounded = AggregatorOptions { max_norm: 50.0, ..trimmed(1) };
    let state = folded(&bounded, &PEERS[2..4]).save().unwrap();
    let mut ours = folded(&bounded, &PEERS[..2]);
    let before = ours.save().unwrap();
    let mut corrupt = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let error = ours.merge(&forge(&state, change), &Default::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(ours.save().unwrap(), before);
    };
    for value in [f32::NAN, f32::INFINITY, 2f32.powi(31), -51.0] {
        corrupt(&|t| t[0].data[..4].copy_from_slice(&value.to_le_bytes()));
    }
    corrupt(&|t| drop(t.pop()));
    corrupt(&|t| t.clear());
    corrupt(&|t| t.swap(0, 1));
    corrupt(&|t| t.swap(0, 5));
    corrupt(&|t| t[1].shape.insert(0, 1));
    corrupt(&|t| t[3].name = "update/3/heat".into());
    ours.merge(&forge(&state, |_| {}), &Default::default()).unwrap();
    assert_eq!(ours.save().unwrap(), folded(&bounded, &PEERS[..4]).save().unwrap());
}

#[test]
fn states_of_another_rule_are_refused() {
    let mut ours = folded(&trimmed(1), &PEERS[..2]);
    let uniform = |averaging| options(averaging);
    for other in [trimmed(2), uniform(Averaging::Median), uniform(Averaging::Counted)] {
        let error = ours.merge(&folded(&other, &[]).save().unwrap(), &Default::default());
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    ours.merge(&folded(&trimmed(1), &PEERS[2..3]).save().unwrap(), &Default::default()).unwrap();
}
