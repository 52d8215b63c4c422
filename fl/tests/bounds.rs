//! Laws of bounds: one update of any finite content moves the model by no more than its bound and
//! its share, claims no more examples than its client has, and disturbs neither honest updates nor
//! the exactness of sums.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::{
    Action, Aggregator, AggregatorOptions, Averaging, Coordinator, Error, Excess, Layout, Limit,
    Parameter, Reason, Received, Role, RoundOptions, RoundingSeed, ServerRule, Weighting,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

static LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(layout);
/// The last one is hostile: what it sends is made up in each test.
static PEERS: LazyLock<Vec<Peer>> = LazyLock::new(|| peers(&LAYOUT, 6, "lossless"));

fn hostile() -> &'static Peer {
    &PEERS[5]
}

/// An update of the hostile client's shapes with these values, over and over.
fn forged(values: &[f32], samples: u64) -> Vec<u8> {
    let peer = hostile();
    let mut tensors = peer.download.base.clone();
    let places = tensors.iter_mut().flat_map(|p| &mut p.values);
    places.zip(values.iter().cycle()).for_each(|(place, value)| *place = *value);
    let header = update_header(RUN, ROUND, peer.id, peer.download.digest, samples);
    stream(&[(0xA0, header)], &tensors)
}

fn bounded(max_norm: f64, max_statistic_norm: f64) -> AggregatorOptions {
    let averaging = Averaging::ZeroFilled;
    AggregatorOptions { max_norm, max_statistic_norm, averaging, ..Default::default() }
}

/// The L2 norm of the mean over weights, or over statistics.
fn norm_of_mean(sums: &Aggregator, statistics: bool) -> f64 {
    let is_meant = |i: &usize| (LAYOUT.params()[*i].role == Role::Statistic) == statistics;
    let means = (0..LAYOUT.params().len()).filter(is_meant).flat_map(|i| sums.mean(i));
    means.flatten().map(|mean| mean * mean).sum::<f64>().sqrt()
}

/// Magnitudes over the whole range of what is taken, subnormal numbers and zeros among them.
fn finite() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits).prop_filter("taken", |v| v.abs() < 2f32.powi(31)),
        -2f32..2f32,
    ]
}

proptest! {
    #![proptest_config(cases(64))]

    /// All others stay where they were, so the mean is the hostile client's share of its change.
    #[test]
    fn one_update_moves_the_model_by_no_more_than_its_bound_and_its_share(
        values in prop::collection::vec(finite(), 1..40),
        samples in 1u64..1_000_000,
        bound in prop_oneof![Just(0.0), 1e-6f64..1e6],
        statistic_bound in 1e-6f64..1e6,
    ) {
        let mut sums = aggregator(&LAYOUT, bounded(bound, statistic_bound), &PEERS);
        for peer in &PEERS[..5] {
            let (download, rounding) = (&peer.download, RoundingSeed(0));
            let still = download.update(peer.id, &download.base, peer.samples, rounding).unwrap();
            sums.receive(peer.id, &still);
        }
        let received = sums.receive(hostile().id, &forged(&values, samples));
        prop_assert_eq!(received, Received::Folded { samples });
        let share = samples as f64 / sums.weight() as f64;
        // Sums round to 2^-61 for each unit of weight, 3,083 values.
        let rounding = 3083f64.sqrt() * 2f64.powi(-60);
        let moved = norm_of_mean(&sums, false);
        prop_assert!(moved <= bound * share * (1.0 + 1e-12) + rounding, "{moved} of {bound}");
        // Statistics average over those who have them: of some units that is this client alone.
        let moved = norm_of_mean(&sums, true);
        prop_assert!(moved <= statistic_bound * (1.0 + 1e-12) + rounding, "{moved}");
    }

    /// Whatever was clipped, in whatever order and tree.
    #[test]
    fn order_and_trees_do_not_show_in_what_is_clipped(
        values in prop::collection::vec(finite(), 1..40),
        order in Just((0..PEERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        split in 0usize..6,
    ) {
        // Below what honest clients change, so that all are clipped.
        let options = bounded(0.5, 0.05);
        let update = |at: usize| match at {
            5 => forged(&values, 7),
            _ => PEERS[at].update.clone(),
        };
        let folded = |which: &[usize]| {
            let mut sums = aggregator(&LAYOUT, options.clone(), &[]);
            for at in which {
                PEERS[*at].expect_in(&mut sums);
                let received = sums.receive(PEERS[*at].id, &update(*at));
                assert!(matches!(received, Received::Folded { .. }), "{received:?}");
            }
            sums
        };
        let flat = folded(&[0, 1, 2, 3, 4, 5]).save().unwrap();
        prop_assert_eq!(&folded(&order).save().unwrap(), &flat);
        let (left, right) = order.split_at(split);
        let mut root = folded(left);
        root.merge(&folded(right).save().unwrap(), &Default::default()).unwrap();
        prop_assert_eq!(&root.save().unwrap(), &flat);
    }
}

/// By the default of rounds, with every averaging: the server's model moves by less than its norm.
#[test]
fn by_default_one_client_does_not_replace_the_model() {
    for (averaging, value) in
        [(Averaging::Counted, 1e9), (Averaging::ZeroFilled, -2e9), (Averaging::Counted, 1.0)]
    {
        let mut options = options(2, 2, 0.0);
        options.aggregator.averaging = averaging;
        let mut server = server(options);
        let before = server.model().to_vec();
        let asked = begin(&mut server, &CLIENTS[..2], 0);
        let mut last = Vec::new();
        for (i, (client, message)) in asked.iter().enumerate() {
            let download = fedpress_fl::Download::decode(message, &Default::default()).unwrap();
            let mut trained = download.base.clone();
            let hostile = trained.iter_mut().flat_map(|p| &mut p.values);
            hostile.take(if i == 0 { usize::MAX } else { 0 }).for_each(|v| *v += value);
            let samples = if i == 0 { 1_000_000 } else { 1 };
            last = server
                .receive(
                    *client,
                    &download.update(*client, &trained, samples, RoundingSeed(9)).unwrap(),
                    1,
                )
                .unwrap();
        }
        let Some(Action::Committed(summary)) = last.last() else { panic!("{last:?}") };
        assert_eq!(summary.n_clipped, 1, "the honest one is not");
        for (statistics, times) in [(false, 1.0), (true, 10.0)] {
            let squares = |of: &dyn Fn(usize, usize) -> f32| -> f64 {
                let role = |i: usize| LAYOUT.params()[i].role == Role::Statistic;
                let params = (0..before.len()).filter(|i| role(*i) == statistics);
                let values =
                    params.flat_map(|i| (0..before[i].values.len()).map(move |at| (i, at)));
                values.map(|(i, at)| f64::from(of(i, at)).powi(2)).sum::<f64>().sqrt()
            };
            let moved = squares(&|i, at| server.model()[i].values[at] - before[i].values[at]);
            let bound = times * squares(&|i, at| before[i].values[at]);
            assert!(moved <= bound * (1.0 + 1e-6), "{moved} of {bound}");
            assert!(moved > 0.5 * bound || value == 1.0, "{moved}: the bound is what holds");
        }
    }
}

/// Bounds that honest clients do not reach change no bit.
#[test]
fn what_is_within_the_bounds_is_as_without_them() {
    let folded = |options| {
        let mut sums = aggregator(&LAYOUT, options, &PEERS);
        PEERS.iter().for_each(|peer| peer.send_to(&mut sums));
        (0..5).map(|i| sums.mean(i)).collect::<Vec<_>>()
    };
    let free = folded(bounded(f64::INFINITY, f64::INFINITY));
    let n_clipped = |options| {
        let mut sums = aggregator(&LAYOUT, options, &PEERS);
        PEERS.iter().for_each(|peer| peer.send_to(&mut sums));
        sums.n_clipped()
    };
    // Up to 0.1 for each of at most 3,077 weights and 6 statistics.
    assert_eq!(folded(bounded(0.1 * 3077f64.sqrt(), 0.1 * 6f64.sqrt())), free);
    assert_ne!(folded(bounded(0.5, f64::INFINITY)), free);
    assert_eq!(n_clipped(bounded(0.1 * 3077f64.sqrt(), 0.1 * 6f64.sqrt())), 0);
    assert_eq!([0.5, 0.0].map(|most| n_clipped(bounded(most, most))), [6, 6], "each once");
    assert_ne!(folded(bounded(f64::INFINITY, 0.05)), free);
}

/// What is beyond the bound is as far as the bound, in the same direction.
#[test]
fn clipping_keeps_the_direction_and_uses_the_bound() {
    let mut sums = aggregator(&LAYOUT, bounded(3.0, 0.5), &PEERS[5..]);
    sums.receive(hostile().id, &forged(&[4.0, -8.0], 10));
    for (statistics, bound) in [(false, 3.0), (true, 0.5)] {
        let norm = norm_of_mean(&sums, statistics);
        assert!((norm - bound).abs() < 1e-6 * bound, "{norm}");
    }
    let changes: Vec<f64> = sums.mean(0).into_iter().flatten().collect();
    assert!(
        changes
            .iter()
            .all(|c| (c / changes[0] - 1.0).abs() < 1e-6 || (c / changes[0] + 2.0).abs() < 1e-5)
    );
}

/// A bound is where it is: the norm itself is within it, the next number below is not.
#[test]
fn an_update_of_the_norm_of_the_bound_is_whole() {
    let weights = hostile().download.base.iter().filter(|p| p.name != "norm.mean");
    let n_values: usize = weights.map(|p| p.values.len()).sum();
    let norm = (n_values as f64).sqrt();
    for (bound, n_clipped) in [(norm, 0), (norm.next_down(), 1)] {
        let mut sums = aggregator(&LAYOUT, bounded(bound, f64::INFINITY), &PEERS[5..]);
        sums.receive(hostile().id, &forged(&[1.0], 10));
        assert_eq!((sums.n_folded(), sums.n_clipped()), (1, n_clipped), "{bound}");
        assert_eq!(sums.mean(4)[0] == Some(1.0), n_clipped == 0);
    }
}

#[test]
fn beyond_a_bound_that_refuses_nothing_is_folded() {
    let refusing = |max_norm, max_statistic_norm| AggregatorOptions {
        excess_norm: Excess::Refuse,
        ..bounded(max_norm, max_statistic_norm)
    };
    for options in [refusing(1.0, f64::INFINITY), refusing(f64::INFINITY, 1.0)] {
        let mut sums = aggregator(&LAYOUT, options, &PEERS);
        let before = sums.save().unwrap();
        let refused = rejection(sums.receive(hostile().id, &forged(&[1e6], 10)));
        assert_eq!(refused.reason, Reason::TooFar, "{refused}");
        assert_eq!(sums.save().unwrap(), before);
        let received = sums.receive(hostile().id, &forged(&[0.0], 10));
        assert_eq!(received, Received::Folded { samples: 10 }, "it may try again");
    }
}

#[test]
fn a_model_of_zeros_has_no_relative_bound() {
    assert_eq!(Limit::Relative(0.5).of(8.0), 4.0);
    assert_eq!(Limit::Relative(0.5).of(0.0), f64::INFINITY);
    assert_eq!(Limit::Absolute(0.5).of(0.0), 0.5);
    let layout = layout();
    let zeros: Vec<Parameter> =
        model(&layout, 1).iter().map(|p| Parameter::zeros(p.name.clone(), &p.shape)).collect();
    let mut server = Coordinator::new(Layout::clone(&layout), zeros, options(1, 1, 0.0)).unwrap();
    let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    server.receive(client, &answer(client, &message), 1).unwrap();
    assert!(server.model()[0].values.iter().any(|v| *v != 0.0));
}

/// Sums are those of clients within bounds, so the sums of other bounds are not theirs.
#[test]
fn states_of_other_bounds_are_refused() {
    let state = |options: AggregatorOptions| aggregator(&LAYOUT, options, &[]).save().unwrap();
    let mut ours = aggregator(&LAYOUT, bounded(1.0, 2.0), &PEERS);
    for other in [
        bounded(1.5, 2.0),
        bounded(1.0, f64::INFINITY),
        AggregatorOptions { excess_norm: Excess::Refuse, ..bounded(1.0, 2.0) },
    ] {
        let error = ours.merge(&state(other), &Default::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    ours.merge(&state(bounded(1.0, 2.0)), &Default::default()).unwrap();
}

#[test]
fn samples_are_those_that_are_known_of_a_client() {
    let known = Arc::new(BTreeMap::from([(hostile().id, 600)]));
    for (excess_samples, clips) in [(Excess::Refuse, false), (Excess::Clip, true)] {
        for (known_samples, most) in [(known.clone(), 600), (Arc::default(), 1_000_000)] {
            let options = AggregatorOptions { known_samples, excess_samples, ..bounded(1.0, 1.0) };
            for samples in [1, most, most + 1, u64::MAX] {
                let mut sums = aggregator(&LAYOUT, options.clone(), &PEERS);
                let received = sums.receive(hostile().id, &forged(&[1.0], samples));
                if samples <= most || clips {
                    let samples = samples.min(most);
                    assert_eq!(received, Received::Folded { samples });
                    assert_eq!(sums.weight(), samples);
                    // The state is one that these options can make.
                    let state = sums.save().unwrap();
                    let decode = Default::default();
                    Aggregator::restore(&state, LAYOUT.clone(), options.clone(), &decode).unwrap();
                } else {
                    assert_eq!(reason(received), Reason::BadSamples);
                    assert_eq!(sums.weight(), 0);
                }
            }
            let mut sums = aggregator(&LAYOUT, options, &PEERS);
            let none = sums.receive(hostile().id, &forged(&[1.0], 0));
            assert_eq!(reason(none), Reason::BadSamples, "of none there is no mean");
        }
    }
}

/// A state in which a client weighs more than it can is not believed.
#[test]
fn states_weigh_no_more_than_is_known_of_their_clients() {
    let known = |most| AggregatorOptions {
        known_samples: Arc::new(BTreeMap::from([(hostile().id, most)])),
        ..Default::default()
    };
    let mut sums = aggregator(&LAYOUT, known(600), &PEERS[5..]);
    sums.receive(hostile().id, &forged(&[1.0], 600));
    let state = sums.save().unwrap();
    let restore = |options| {
        Aggregator::restore(&state, LAYOUT.clone(), options, &Default::default()).map(drop)
    };
    restore(known(600)).unwrap();
    assert_eq!(*restore(known(599)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn bounds_that_mean_nothing_are_refused() {
    let refused = |options: RoundOptions| {
        let layout = layout();
        let error = Coordinator::new(Layout::clone(&layout), model(&layout, 1), options).err();
        let kind = error.as_ref().map(Error::kind);
        assert_eq!(kind, Some(&ErrorKind::InvalidArgument));
    };
    let good = || options(4, 2, 0.0);
    for bad in [-1.0, f64::NAN] {
        refused(RoundOptions { max_norm: Limit::Absolute(bad), ..good() });
        refused(RoundOptions { max_statistic_norm: Limit::Relative(bad), ..good() });
        let aggregator = AggregatorOptions { max_norm: bad, ..Default::default() };
        refused(RoundOptions { aggregator, ..good() });
    }
    // The smaller of two bounds holds.
    let mut both = RoundOptions { max_norm: Limit::Absolute(1.0), ..options(1, 1, 0.0) };
    both.aggregator =
        AggregatorOptions { max_norm: 0.5, weighting: Weighting::Uniform, ..Default::default() };
    both.rule = ServerRule::default();
    let mut server = server(both);
    let before = server.model().to_vec();
    let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    server.receive(client, &answer(client, &message), 1).unwrap();
    let weights = [0, 1, 3, 4].map(|i| server.model()[i].values.iter().zip(&before[i].values));
    let squares = weights.into_iter().flatten().map(|(a, b)| f64::from(a - b).powi(2));
    let moved = squares.sum::<f64>().sqrt();
    assert!((0.49..0.5001).contains(&moved), "{moved}");
}
