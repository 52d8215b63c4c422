//! Laws of error feedback: over rounds, the server gets what training changed, but for what the
//! client still holds.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DecodeOptions, ErrorKind};
use fedpress_fl::message::decode;
use fedpress_fl::{
    Choice, Download, Feedback, Gather, Keep, Layout, Parameter, RoundingSeed, Rule,
};
use std::sync::Arc;

/// Biased, and losing most of the values.
const NEAREST: &str = "hadamard|q=1,nearest";

fn zeros(layout: &Layout) -> Vec<Vec<f64>> {
    (0..layout.params().len()).map(|i| vec![0.0; layout.shape(i).iter().product()]).collect()
}

/// Adds values of a submodel to sums of the full model.
fn add(
    layout: &Layout,
    choice: &Choice,
    values: &[Parameter],
    sums: &mut [Vec<f64>],
    of: impl Fn(f32) -> f64,
) {
    let selection = choice.select(layout).unwrap();
    for (i, (parameter, sums)) in values.iter().zip(sums).enumerate() {
        let gather = Gather::new(layout, &selection, i).unwrap();
        let places = gather.runs().flat_map(|(at, n)| at..at + n);
        places.zip(&parameter.values).for_each(|(at, value)| sums[at] += of(*value));
    }
}

fn delta(trained: &[Parameter], base: &[Parameter]) -> Vec<Parameter> {
    let mut delta = trained.to_vec();
    for (d, b) in delta.iter_mut().zip(base) {
        d.values.iter_mut().zip(&b.values).for_each(|(d, b)| *d -= b);
    }
    delta
}

fn residual(feedback: &Feedback) -> Vec<Vec<f32>> {
    let saved = feedback.save().unwrap();
    let tensors = fedpress::decode(&saved, &DecodeOptions::default()).unwrap();
    tensors.iter().map(|tensor| tensor.to_f32().unwrap()).collect()
}

/// The submodels of successive rounds: random, of different size, and everything.
fn choices() -> Vec<Choice> {
    let keep = [0.5, 0.25, 1.0, 0.75];
    let rolling = |offset| Choice { rule: Rule::Rolling { offset }, keep: Keep::from(0.5) };
    let random = (0..12).map(|round| random(round, keep[round as usize % 4]));
    random.chain((0..4).map(|n| rolling(10 * n))).collect()
}

fn download(layout: &Layout, round: u64, choice: &Choice, up: &str) -> Download {
    let mut header = broadcast(choice.clone(), up);
    header.round = round;
    let message = send(layout, &model(layout, round), &header, &lossless());
    Download::decode(&message, &Default::default()).unwrap()
}

/// sum(sent) = sum(delta) - residual, coordinate by coordinate. Of
/// each round, the sum of delta and residual, and their difference to what is sent, are
/// rounded to f32: each time by less than 2^-24 of what was delta, held or sent.
fn check(up: &str) {
    let layout = layout();
    let mut feedback = Feedback::new(&layout);
    let (mut wanted, mut sent, mut sizes) = (zeros(&layout), zeros(&layout), zeros(&layout));
    for (choice, round) in choices().iter().zip(0..) {
        let download = download(&layout, round, choice, up);
        let trained = trained(&download.base, round + 50);
        let delta = delta(&trained, &download.base);
        let held = residual(&feedback);
        let update = download
            .update_with_feedback(3, &trained, 10, RoundingSeed(round), &layout, &mut feedback)
            .unwrap();
        // The client restarts between rounds.
        let saved = feedback.save().unwrap();
        feedback = Feedback::restore(&saved, &layout, &Default::default()).unwrap();
        let (_, values) = decode(&update, &Default::default()).unwrap();
        add(&layout, choice, &delta, &mut wanted, f64::from);
        add(&layout, choice, &values, &mut sent, f64::from);
        for values in [&delta, &values] {
            add(&layout, choice, values, &mut sizes, |v| f64::from(v.abs()));
        }
        for held in [held, residual(&feedback)] {
            for (sizes, held) in sizes.iter_mut().zip(held) {
                sizes.iter_mut().zip(held).for_each(|(size, held)| *size += f64::from(held.abs()));
            }
        }
    }
    let mut lost = 0.0;
    for (i, residual) in residual(&feedback).into_iter().enumerate() {
        for (at, residual) in residual.into_iter().enumerate() {
            let (expected, found) = (wanted[i][at] - f64::from(residual), sent[i][at]);
            let tolerance = 6.0 * 2f64.powi(-24) * sizes[i][at];
            assert!((expected - found).abs() <= tolerance, "{i} {at}: {expected} {found}");
            lost += f64::from(residual.abs());
        }
    }
    assert_eq!(lost > 0.0, up != "lossless", "the spec loses something, or the law says nothing");
}

#[test]
fn the_server_gets_what_training_changed_but_for_what_the_client_holds() {
    for up in [NEAREST, LOSSY, "kashin,clip|q=2", "lossless"] {
        check(up);
    }
}

#[test]
fn coordinates_outside_the_submodel_wait() {
    let layout = layout();
    let mut feedback = Feedback::new(&layout);
    let first = download(&layout, 0, &random(0, 1.0), NEAREST);
    let moved = trained(&first.base, 5);
    first.update_with_feedback(1, &moved, 1, RoundingSeed(0), &layout, &mut feedback).unwrap();
    let before = residual(&feedback);
    let choice = random(1, 0.5);
    let second = download(&layout, 1, &choice, NEAREST);
    let moved = trained(&second.base, 6);
    second.update_with_feedback(1, &moved, 1, RoundingSeed(0), &layout, &mut feedback).unwrap();
    let after = residual(&feedback);
    let gather = Gather::new(&layout, &choice.select(&layout).unwrap(), 0).unwrap();
    let inside: Vec<_> = gather.runs().flat_map(|(at, n)| at..at + n).collect();
    let outside = |at: &usize| inside.binary_search(at).is_err();
    assert!((0..before[0].len()).filter(outside).all(|at| before[0][at] == after[0][at]));
    assert_ne!(before, after);
}

/// Training that diverges once costs one update, not all that follow.
#[test]
fn what_is_not_finite_is_not_held() {
    let layout = layout();
    for value in [f32::NAN, f32::INFINITY, -f32::INFINITY] {
        let mut feedback = Feedback::new(&layout);
        let download = download(&layout, 0, &random(0, 0.5), NEAREST);
        let mut moved = trained(&download.base, 5);
        moved[0].values[3] = value;
        moved[1].values[3] = value;
        download
            .update_with_feedback(1, &moved, 1, RoundingSeed(0), &layout, &mut feedback)
            .unwrap();
        assert!(residual(&feedback).iter().flatten().all(|lost| lost.is_finite()));
    }
}

#[test]
fn another_layout_is_refused_and_nothing_is_held() {
    let layout = layout();
    let renamed = Layout::from_toml(&layout.to_toml().replace("conv", "convolution")).unwrap();
    let other = Layout::from_toml(&layout.to_toml().replace("\"64\"", "\"32\"")).unwrap();
    let download = download(&layout, 0, &random(0, 0.5), NEAREST);
    let moved = trained(&download.base, 5);
    for (given, held) in
        [(&renamed, &renamed), (&other, &other), (&*layout, &other), (&other, &*layout)]
    {
        let mut feedback = Feedback::new(held);
        let before = feedback.clone();
        let result =
            download.update_with_feedback(1, &moved, 1, RoundingSeed(0), given, &mut feedback);
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(feedback, before);
        let saved = Feedback::new(&other).save().unwrap();
        assert!(Feedback::restore(&saved, &layout, &Default::default()).is_err());
    }
    let layout: Arc<Layout> = layout;
    let saved = Feedback::new(&layout).save().unwrap();
    for n in 0..saved.len() {
        let error = Feedback::restore(&saved[..n], &layout, &Default::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Truncated);
    }
}
