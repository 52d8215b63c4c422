//! Laws of parameters that stay with their client.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress_fl::{
    Choice, Coordinator, Download, Keep, Layout, Parameter, Personal, PrivateSeed, RoundOptions,
    RoundingSeed, Rule, pack,
};
use layouts::{any_layout, cases, numbered};
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_joined_is_the_submodel_of_the_whole(
        layout in any_layout(), keep in 0.1f64..=1.0, seed in any::<u64>(), pattern in any::<u64>()
    ) {
        let is_own = |name: &str| {
            let i = layout.params().iter().position(|param| param.name == name).unwrap();
            pattern >> (i % 64) & 1 == 1
        };
        prop_assume!(layout.params().iter().any(|param| !is_own(&param.name)));
        let personal = Personal::new(layout.clone(), is_own).unwrap();
        let model = numbered(&layout);
        let choice = Choice { rule: Rule::Random { seed }, keep: Keep::from(keep) };
        let (shared, own) = personal.split(model.clone()).unwrap();
        personal.shared().check(&shared).unwrap();
        let selection = personal.select(&choice).unwrap();
        let sent = pack(personal.shared(), &choice.select(personal.shared()).unwrap(), &shared).unwrap();
        let network = personal.join(&choice, sent.clone(), &own).unwrap();
        prop_assert_eq!(&network, &pack(&layout, &selection, &model).unwrap());

        // Trained is what is kept, and nothing else moves.
        let mut trained = network.clone();
        trained.iter_mut().flat_map(|p| &mut p.values).for_each(|value| *value += 1e6);
        let mut after = own.clone();
        let parted = personal.part(&choice, trained.clone(), &mut after).unwrap();
        prop_assert_eq!(parted.len(), sent.len());
        for (parted, sent) in parted.iter().zip(&sent) {
            prop_assert!(parted.values.iter().zip(&sent.values).all(|(a, b)| *a == b + 1e6));
        }
        let again = personal.join(&choice, parted, &after).unwrap();
        prop_assert_eq!(again, trained);
        let moved = |(before, after): (&f32, &f32)| {
            assert!(before == after || *after == before + 1e6);
            before != after
        };
        let values = |all: &[Parameter]| -> Vec<f32> {
            all.iter().flat_map(|p| p.values.clone()).collect()
        };
        let n_moved = values(&own).iter().zip(&values(&after)).filter(|(a, b)| moved((a, b))).count();
        let n_kept: usize = network.iter().filter(|p| is_own(&p.name)).map(|p| p.values.len()).sum();
        prop_assert_eq!(n_moved, n_kept);
    }
}

/// A body of eight hidden units, and a head.
fn personal() -> Personal {
    let layout = Layout::from_toml(
        "[groups]\nhidden = 8\n[[parameters]]\nname = \"body\"\naxes = [\"hidden\", \"4\"]\n\
         [[parameters]]\nname = \"head\"\naxes = [\"2\", \"hidden\"]\n",
    );
    Personal::new(layout.unwrap(), |name| name == "head").unwrap()
}

#[test]
fn heads_differ_where_bodies_agree_and_are_in_no_message() {
    let personal = personal();
    let (shared, first) = personal.split(numbered(personal.whole())).unwrap();
    let mut heads = BTreeMap::from([(3, first.clone()), (5, first.clone())]);
    let mut options = RoundOptions::new(1, 7, PrivateSeed::from_number(1));
    (options.n_updates, options.min_updates) = (2, 2);
    options.policy.keep = Keep::from(0.5);
    let mut server = Coordinator::new(personal.shared().clone(), shared, options).unwrap();
    for client in server.begin(&[3, 5], 0).unwrap() {
        let message = server.send(client).unwrap();
        let download = Download::decode(&message, &Default::default()).unwrap();
        let choice = download.header.choice.clone();
        let own = heads.get_mut(&client).unwrap();
        let mut network = personal.join(&choice, download.base.clone(), own).unwrap();
        network.iter_mut().flat_map(|p| &mut p.values).for_each(|value| *value += client as f32);
        let trained = personal.part(&choice, network, own).unwrap();
        let update = download.update(client, &trained, 1, RoundingSeed(client)).unwrap();
        let (_, delta) = fedpress_fl::message::decode(&update, &Default::default()).unwrap();
        for tensors in [&download.base, &delta] {
            assert_eq!(tensors.iter().map(|p| &p.name[..]).collect::<Vec<_>>(), ["body"]);
        }
        server.receive(client, &update, 1).unwrap();
    }
    assert_eq!((server.round(), server.model().len()), (1, 1));
    for (client, own) in heads {
        let moved = |i: usize| own[0].values[i] - first[0].values[i];
        // The first four units of two rows.
        assert_eq!(
            [0, 3, 4, 8, 15].map(moved),
            [client as f32, client as f32, 0.0, client as f32, 0.0]
        );
    }
}

#[test]
fn what_is_not_of_the_network_is_refused_and_changes_nothing() {
    let personal = personal();
    let error = Personal::new(personal.whole().clone(), |_| true).unwrap_err();
    assert!(error.to_string().contains("found none"), "{error}");
    let (shared, own) = personal.split(numbered(personal.whole())).unwrap();
    assert!(personal.split(shared.clone()).is_err());
    let full = Choice::full();
    assert!(personal.join(&full, shared.clone(), &[]).is_err());
    assert!(personal.join(&full, Vec::new(), &own).is_err());
    assert!(personal.join(&full, [&shared[..], &shared].concat(), &own).is_err());
    let short = [Parameter { values: vec![0.0], ..own[0].clone() }];
    assert!(personal.join(&full, shared.clone(), &short).is_err());
    let whole = personal.join(&full, shared.clone(), &own).unwrap();
    let half = Choice { keep: Keep::from(0.5), ..Choice::full() };
    let mut kept = own.clone();
    assert!(personal.part(&half, whole.clone(), &mut kept).is_err());
    assert!(personal.part(&full, shared, &mut kept).is_err());
    assert!(personal.part(&full, whole, &mut []).is_err());
    assert_eq!(kept, own);
}
