//! Laws of specs by tensor and by client: rules decide in their order and both ways, clients are told
//! what they are to send, and what no rule names is spared as in any stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{ErrorKind, Event, Spec};
use fedpress_fl::{
    Action, ClientSpecs, Coordinator, Download, Layout, Parameter, RoundOptions, RoundingSeed,
    Scope, SpecRule, Specs, Strategy,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Two matrices, a gain of a norm and a statistic, all of enough values to be lossy.
fn block() -> Layout {
    let text = r#"
        [groups]
        [[parameters]]
        name = "layer1.fc1.weight"
        axes = ["64", "64"]
        [[parameters]]
        name = "layer1.fc2.weight"
        axes = ["64", "64"]
        [[parameters]]
        name = "layer1.norm.weight"
        axes = ["4096"]
        [[parameters]]
        name = "layer1.norm.mean"
        axes = ["4096"]
        role = "statistic"
    "#;
    Layout::from_toml(text).unwrap()
}

fn server_of(options: RoundOptions) -> Coordinator {
    let layout = block();
    let model = model(&layout, 1);
    Coordinator::new(layout, model, options).unwrap()
}

fn specs(rules: &[&str], default: &str) -> Specs {
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Specs { rules, default: default.parse().unwrap() }
}

/// By which pipeline each tensor of a message went: the first of those its groups may have.
fn travelled(message: &[u8]) -> Vec<String> {
    let mut decoder = fedpress::Decoder::with_records(Default::default());
    let (mut input, mut seen) = (message, Vec::new());
    while let Some(event) = decoder.next(&mut input).unwrap() {
        if let Event::Tensor(meta) = event {
            seen.push(meta.pipelines()[0].to_string());
        }
    }
    seen
}

/// The first of those asked, its broadcast and its update.
fn both_ways(options: RoundOptions) -> [Vec<String>; 2] {
    let mut server = server_of(options);
    let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    let update = answer(client, &message);
    let taken = server.receive(client, &update, 1).unwrap();
    assert!(matches!(taken[0], Action::Taken { .. }), "{taken:?}");
    [travelled(&message), travelled(&update)]
}

#[test]
fn the_first_rule_that_matches_decides_each_way() {
    let lossless = Spec::lossless().to_string();
    let options = RoundOptions {
        down: specs(&["fc1*=hadamard|q=8", "^*.fc?.weight=hadamard|q=5"], "hadamard|q=4"),
        up: specs(&["norm.weight=hadamard|q=3", "mean=hadamard|q=6"], "hadamard|q=2"),
        ..options(1, 1, 0.0)
    };
    let [down, up] = both_ways(options);
    // A gain is spared and a statistic exact, where no rule says otherwise.
    assert_eq!(down, ["hadamard|q=8", "hadamard|q=5", &lossless, &lossless]);
    assert_eq!(up, ["hadamard|q=2", "hadamard|q=2", "hadamard|q=3", "hadamard|q=6"]);
}

/// Audit of traps: a gain or a bias of any size acts on a whole channel.
#[test]
fn vectors_are_spared_unless_a_rule_names_them() {
    let lossless = Spec::lossless().to_string();
    for ((rules, expected), way) in [
        (&[][..], &lossless[..]),
        (&["norm.weight=hadamard|q=2"], "hadamard|q=2"),
        (&["*=hadamard|q=2"], "hadamard|q=2"),
        (&["*=lossless"], &lossless),
    ]
    .into_iter()
    .flat_map(|case| [(case, 0), (case, 1)])
    {
        let [mut down, mut up] = [specs(&[], "lossless"), specs(&[], "lossless")];
        *[&mut down, &mut up][way] = specs(rules, "hadamard|q=4");
        let seen = both_ways(RoundOptions { down, up, ..options(1, 1, 0.0) });
        assert_eq!(seen[way][2], expected, "{rules:?}");
        assert!(seen[1 - way].iter().all(|spec| *spec == lossless));
    }
}

/// Exact without being a statistic, which the server would average by itself.
#[test]
fn a_tensor_may_be_exact() {
    let of = |rules: &[&str]| RoundOptions {
        down: specs(rules, "hadamard|q=1"),
        up: specs(rules, "hadamard|q=1"),
        ..options(1, 1, 0.0)
    };
    for (rules, is_exact) in [(&["fc1=lossless"][..], true), (&[], false)] {
        let mut server = server_of(of(rules));
        let (client, message) = begin(&mut server, &CLIENTS, 0).remove(0);
        let download = Download::decode(&message, &Default::default()).unwrap();
        assert_eq!(download.base[0] == server.model()[0], is_exact);
        assert_ne!(download.base[1], server.model()[1]);
        let trained = trained(&download.base, client);
        let update = download.update(client, &trained, 1, RoundingSeed(9)).unwrap();
        let (_, sent) = fedpress_fl::message::decode(&update, &Default::default()).unwrap();
        let change = |i: usize| -> Vec<f32> {
            trained[i].values.iter().zip(&download.base[i].values).map(|(t, b)| t - b).collect()
        };
        assert_eq!(sent[0].values == change(0), is_exact);
        assert_ne!(sent[1].values, change(1));
    }
}

/// Of a model that clients hold in versions, too.
#[test]
fn what_is_exact_is_exact_in_deltas() {
    let deltas = Some(Default::default());
    let down = specs(&["fc1=lossless"], "hadamard|q=1");
    let mut server = server_of(RoundOptions { deltas, down, ..options(1, 1, 0.0) });
    let mut replica = fedpress_fl::Replica::new(block());
    for round in 0..3 {
        let (client, message) = begin(&mut server, &CLIENTS[..1], round).remove(0);
        let download = replica.decode(&message, &Default::default()).unwrap();
        assert_eq!(download.base[0], server.model()[0]);
        assert_eq!(download.base[3], server.model()[3]);
        assert_ne!(download.base[1], server.model()[1]);
        let trained = trained(&download.base, round);
        server
            .receive(client, &download.update(client, &trained, 1, RoundingSeed(9)).unwrap(), round)
            .unwrap();
    }
    assert_eq!(server.round(), 3);
}

/// A tier behind a thin link gets fewer bits and sends fewer; the others what they would get alone.
#[test]
fn clients_may_have_specs_of_their_own() {
    let thin = Arc::new(ClientSpecs {
        down: specs(&["fc1=hadamard|q=3"], "hadamard|q=2"),
        up: specs(&[], "hadamard|q=1"),
    });
    for scope in [Scope::Round, Scope::Client] {
        let client_specs = CLIENTS[..2].iter().map(|client| (*client, thin.clone())).collect();
        let options = RoundOptions {
            down: specs(&[], "hadamard|q=8"),
            up: specs(&[], "hadamard|q=6"),
            client_specs,
            policy: policy(Strategy::Random, scope, 1.0),
            ..options(6, 6, 0.0)
        };
        let alone = RoundOptions { client_specs: BTreeMap::new(), ..options.clone() };
        let mut server = server_of(options.clone());
        let asked = begin(&mut server, &CLIENTS, 0);
        assert_eq!(asked[2..], begin(&mut server_of(alone), &CLIENTS, 0)[2..]);
        for (i, (client, message)) in asked.iter().enumerate() {
            let update = answer(*client, message);
            let seen = [travelled(message), travelled(&update)].map(|seen| seen[..2].to_vec());
            let expected = match i < 2 {
                true => [["hadamard|q=3", "hadamard|q=2"], ["hadamard|q=1"; 2]],
                false => [["hadamard|q=8"; 2], ["hadamard|q=6"; 2]],
            };
            assert_eq!(seen, expected.map(|specs| specs.map(str::to_owned).to_vec()));
            // One broadcast for all of a tier, where broadcasts are shared.
            let same = asked[if i < 2 { 0 } else { 2 }].1.clone();
            assert_eq!(Arc::ptr_eq(message, &same), scope == Scope::Round || i == 0 || i == 2);
        }
        // A restart in between does not show.
        let saved = server.save().unwrap();
        let mut server =
            Coordinator::restore(&saved, block(), options, &Default::default()).unwrap();
        assert_eq!(resend(&mut server), asked);
        for (client, message) in &asked {
            let actions = server.receive(*client, &answer(*client, message), 1).unwrap();
            assert!(matches!(actions[0], Action::Taken { .. }), "{actions:?}");
        }
        assert_eq!(server.round(), 1);
    }
}

/// What was meant to match something, and does not, was misspelt.
#[test]
fn rules_that_match_nothing_are_refused() {
    let refused = |options: RoundOptions| {
        let layout = block();
        let model = model(&layout, 1);
        let error = Coordinator::new(layout, model, options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("fc3"), "{error}");
    };
    let wrong = || specs(&["fc*=q=4", "fc3=q=4"], "lossless");
    refused(RoundOptions { down: wrong(), ..options(1, 1, 0.0) });
    refused(RoundOptions { up: wrong(), ..options(1, 1, 0.0) });
    let down = specs(&[], "lossless");
    let client_specs = BTreeMap::from([(3, Arc::new(ClientSpecs { down, up: wrong() }))]);
    refused(RoundOptions { client_specs, ..options(1, 1, 0.0) });
    assert_eq!(*"fc".parse::<SpecRule>().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// A client needs no patterns, and no table of what is spared: tensors stand by name in the header.
#[test]
fn the_header_names_tensors_and_specs() {
    let up = specs(&["fc1=hadamard|q=3"], "hadamard|q=2");
    let mut server = server_of(RoundOptions { up, ..options(1, 1, 0.0) });
    let (_, message) = begin(&mut server, &CLIENTS, 0).remove(0);
    let download = Download::decode(&message, &Default::default()).unwrap();
    let named: Vec<_> =
        download.header.up.by_tensor.iter().map(|(name, spec)| format!("{name}={spec}")).collect();
    assert_eq!(named, ["layer1.fc1.weight=hadamard|q=3", "layer1.norm.mean=shuffle|zstd"]);
    assert_eq!(download.header.up.default.to_string(), "hadamard|q=2");
}

/// Lists of names and specs that no server writes.
#[test]
fn specs_out_of_order_or_out_of_form_are_corrupt() {
    let header = broadcast(fedpress_fl::Choice::full(), "none");
    let message = header.encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
    let body = header_body(&message);
    let at = body.windows(4).position(|w| w == b"none").unwrap() + 4;
    let text = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let read = |n: u32, entries: &[(&str, &str)]| {
        let mut own = [&body[..at], &n.to_le_bytes()].concat();
        for (name, spec) in entries {
            own.extend([text(name), text(spec)].concat());
        }
        own.extend(text("task"));
        own.push(0);
        let tensors: &[Parameter] = &[];
        fedpress_fl::message::decode(&stream(&[(0xA0, own)], tensors), &Default::default())
    };
    read(0, &[]).unwrap();
    read(2, &[("a", "none"), ("b", "hadamard|q=2")]).unwrap();
    let long = format!("hadamard|q=2{}", " ".repeat(2000));
    for (n, entries) in [
        (2, &[("b", "none"), ("a", "none")][..]),
        (2, &[("a", "none"), ("a", "none")]),
        (1, &[("a", "Hadamard|q=2")]),
        (1, &[("a", "nothing")]),
        (1, &[("a", &long)]),
        (2, &[("a", "none")]),
        (65_537, &[("a", "none")]),
    ] {
        let error = read(n, entries).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{entries:?}: {error}");
    }
}
