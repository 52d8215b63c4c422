//! Laws of the server's step: FedAvg is the mean, momentum and Adam are what their formulas say, and
//! what nobody trained stays as it is.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::ErrorKind;
use fedpress_fl::{
    Aggregator, AggregatorOptions, Choice, Coordinator, Download, Keep, Layout, Parameter,
    PrivateSeed, RoundOptions, RoundingSeed, Rule, ServerOptimizer, ServerRule,
};
use std::sync::Arc;

/// One weight and one running statistic along one group of two units.
fn line() -> Arc<Layout> {
    let text = r#"
        [groups]
        a = 2
        [[parameters]]
        name = "w"
        axes = ["a"]
        [[parameters]]
        name = "mean"
        axes = ["a"]
        role = "statistic"
    "#;
    Arc::new(Layout::from_toml(text).unwrap())
}

/// A round in which one client changes the kept units by this much.
fn changed(layout: &Arc<Layout>, keep: f64, change: f32) -> Aggregator {
    let choice = Choice { rule: Rule::Ordered, keep: Keep::from(keep) };
    let header = broadcast(choice.clone(), "none");
    let zeros = [Parameter::zeros("w", &[2]), Parameter::zeros("mean", &[2])];
    let message = send(layout, &zeros, &header, &lossless());
    let download = Download::decode(&message, &Default::default()).unwrap();
    let mut trained = download.base.clone();
    trained.iter_mut().flat_map(|p| &mut p.values).for_each(|v| *v = change);
    let mut one = Aggregator::new(layout.clone(), RUN, ROUND, Default::default()).unwrap();
    one.expect(1, download.digest, &choice).unwrap();
    one.receive(1, &download.update(1, &trained, 10, RoundingSeed(0)).unwrap());
    assert_eq!(one.n_folded(), 1);
    one
}

fn values(model: &[Parameter]) -> Vec<f32> {
    model.iter().flat_map(|p| p.values.clone()).collect()
}

#[test]
fn fedavg_of_one_client_is_its_model() {
    let layout = layout();
    let mut model = model(&layout, 1);
    let peer = Peer::new(&layout, 1, 1.0, "lossless");
    let mut one = aggregator(&layout, AggregatorOptions::default(), std::slice::from_ref(&peer));
    peer.send_to(&mut one);
    ServerOptimizer::new(ServerRule::default(), &model).step(&mut model, &one).unwrap();
    // trained - base is rounded to f32, and so is base + delta: half a unit each.
    let expected = trained(&peer.download.base, peer.id);
    for (found, expected) in values(&model).iter().zip(values(&expected)) {
        assert!((found - expected).abs() <= 2f32.powi(-23), "{found} {expected}");
    }
}

#[test]
fn momentum_is_its_formula() {
    let layout = line();
    let mut model = vec![Parameter::zeros("w", &[2]), Parameter::zeros("mean", &[2])];
    let mut sgd = ServerOptimizer::new(ServerRule::Sgd { rate: 0.5, momentum: 0.75 }, &model);
    // m = 1, w = 0.5; then only the first unit: m = 0.75 + 1 = 1.75, w = 0.5 + 0.875;
    // then both: m = 0.75 * 1.75 + 2 = 3.3125 and 0.75 * 1 + 2 = 2.75.
    sgd.step(&mut model, &changed(&layout, 1.0, 1.0)).unwrap();
    assert_eq!(values(&model), [0.5, 0.5, 1.0, 1.0]);
    sgd.step(&mut model, &changed(&layout, 0.5, 1.0)).unwrap();
    assert_eq!(values(&model), [1.375, 0.5, 1.0, 1.0]);
    sgd.step(&mut model, &changed(&layout, 1.0, 2.0)).unwrap();
    assert_eq!(values(&model), [1.375 + 1.65625, 0.5 + 1.375, 3.0, 3.0]);
}

#[test]
fn adam_is_its_formula() {
    let layout = line();
    let mut model = vec![Parameter::zeros("w", &[2]), Parameter::zeros("mean", &[2])];
    let rule = ServerRule::Adam { rate: 0.125, beta1: 0.5, beta2: 0.75, epsilon: 0.5 };
    let mut adam = ServerOptimizer::new(rule, &model);
    // m = 0.5 * 2, v = 0.25 * 4: 0.125 * 1 / (1 + 0.5).
    adam.step(&mut model, &changed(&layout, 1.0, 2.0)).unwrap();
    let first = (0.125 / 1.5) as f32;
    assert_eq!(values(&model), [first, first, 2.0, 2.0]);
    // The first unit: m = 0.5 * 1 - 0.5 * 4 = -1.5, v = 0.75 * 1 + 0.25 * 16 = 4.75.
    adam.step(&mut model, &changed(&layout, 0.5, -4.0)).unwrap();
    let second = (f64::from(first) - 0.125 * 1.5 / (4.75f64.sqrt() + 0.5)) as f32;
    assert_eq!(values(&model), [second, first, 2.0, 2.0]);
    // The second unit's means did not move: m = 0.5 * 1 + 0.5 * 2, v = 0.75 * 1 + 0.25 * 4.
    adam.step(&mut model, &changed(&layout, 1.0, 2.0)).unwrap();
    let third = (f64::from(first) + 0.125 * 1.5 / (1.75f64.sqrt() + 0.5)) as f32;
    assert_eq!(values(&model)[1], third);
}

#[test]
fn what_nobody_trained_and_what_did_not_change_stays_to_the_bit() {
    let layout = layout();
    for rule in [
        ServerRule::default(),
        ServerRule::Sgd { rate: 0.1, momentum: 0.9 },
        ServerRule::Adam { rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-300 },
    ] {
        let before = model(&layout, 1);
        let mut optimizer = ServerOptimizer::new(rule, &before);
        let mut after = before.clone();
        let nobody = aggregator(&layout, AggregatorOptions::default(), &[]);
        optimizer.step(&mut after, &nobody).unwrap();
        assert_eq!(after, before);
        assert_eq!(optimizer, ServerOptimizer::new(rule, &before));
        let peer = Peer::new(&layout, 1, 0.5, LOSSY);
        let still = peer.download.update(1, &peer.download.base, 3, RoundingSeed(0)).unwrap();
        let mut unchanged = aggregator(&layout, AggregatorOptions::default(), &[peer]);
        unchanged.receive(1, &still);
        assert_eq!(unchanged.n_folded(), 1);
        optimizer.step(&mut after, &unchanged).unwrap();
        assert_eq!(after, before);
    }
}

#[test]
fn statistics_are_averaged_over_those_who_sent_them_whatever_the_rule() {
    let layout = layout();
    let peers = peers(&layout, 6, LOSSY);
    let mean_of = |options: AggregatorOptions, rule| {
        let before = model(&layout, 1);
        let mut after = before.clone();
        let mut sums = aggregator(&layout, options, &peers);
        peers.iter().for_each(|peer| peer.send_to(&mut sums));
        ServerOptimizer::new(rule, &before).step(&mut after, &sums).unwrap();
        after[2].values.clone()
    };
    let plain = mean_of(AggregatorOptions::default(), ServerRule::default());
    let averaging = fedpress_fl::Averaging::ZeroFilled;
    let adam = ServerRule::Adam { rate: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-3 };
    let zero_filled = AggregatorOptions { averaging, ..AggregatorOptions::default() };
    assert_eq!(mean_of(zero_filled, adam), plain);
    assert_eq!(
        mean_of(AggregatorOptions::default(), ServerRule::Sgd { rate: 9.0, momentum: 0.5 }),
        plain
    );
}

#[test]
fn other_models_are_refused_and_nothing_moves() {
    let (line, layout) = (line(), layout());
    let one = changed(&line, 1.0, 1.0);
    let rule = ServerRule::Sgd { rate: 1.0, momentum: 0.5 };
    let same_length = vec![Parameter::zeros("w", &[1]), Parameter::zeros("mean", &[1])];
    let own = vec![Parameter::zeros("w", &[2]), Parameter::zeros("mean", &[2])];
    for (of, stepped) in [(&same_length, &own), (&own, &same_length), (&own, &model(&layout, 1))] {
        let mut stepped = stepped.clone();
        let before = stepped.clone();
        let error = ServerOptimizer::new(rule, of).step(&mut stepped, &one).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(stepped, before);
    }
}

#[test]
fn rules_that_make_no_steps_are_refused() {
    let adam = |beta1, beta2, epsilon| ServerRule::Adam { rate: 1.0, beta1, beta2, epsilon };
    for rule in [
        ServerRule::Sgd { rate: f64::NAN, momentum: 0.0 },
        ServerRule::Sgd { rate: f64::INFINITY, momentum: 0.0 },
        ServerRule::Sgd { rate: 0.0, momentum: 0.0 },
        ServerRule::Sgd { rate: -1.0, momentum: 0.0 },
        ServerRule::Sgd { rate: 1.0, momentum: 1.0 },
        ServerRule::Sgd { rate: 1.0, momentum: -0.1 },
        ServerRule::Sgd { rate: 1.0, momentum: f64::NAN },
        adam(1.0, 0.9, 1e-3),
        adam(0.9, f64::NAN, 1e-3),
        adam(0.9, 0.9, 0.0),
        adam(0.9, 0.9, f64::INFINITY),
    ] {
        assert_eq!(*rule.check().unwrap_err().kind(), ErrorKind::InvalidArgument, "{rule:?}");
        let layout = line();
        let model = vec![Parameter::zeros("w", &[2]), Parameter::zeros("mean", &[2])];
        let mut optimizer = ServerOptimizer::new(rule, &model);
        assert!(optimizer.step(&mut model.clone(), &changed(&layout, 1.0, 1.0)).is_err());
        let options = RoundOptions { rule, ..RoundOptions::new(1, 2, PrivateSeed::from_number(3)) };
        assert!(Coordinator::new(Layout::clone(&layout), model, options).is_err());
    }
}
