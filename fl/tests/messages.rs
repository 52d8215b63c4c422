//! Laws of messages: what was sent arrives, and nothing else is taken for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod federation;

use federation::*;
use fedpress::{DType, EncodeOptions, Encoder, ErrorKind, TensorDesc, TensorView};
use fedpress_fl::message::{Header, decode};
use fedpress_fl::{
    Broadcast, Choice, Digest, Download, Keep, Reason, Rejection, Result, RoundingSeed, Rule,
    TensorSpecs,
};
use proptest::prelude::*;

fn peer() -> Peer {
    Peer::new(&layout(), 9, 0.5, "hadamard|q=2|zstd")
}

/// One message of each kind.
fn messages() -> [Vec<u8>; 4] {
    let layout = layout();
    let choice = random(3, 0.2);
    let gains = fedpress_fl::gains(&layout, &choice.select(&layout).unwrap());
    let header = Broadcast { gains, ..broadcast(choice, "paper-hadamard") };
    let broadcast = send(&layout, &model(&layout, 1), &header, &"hadamard|q=4".parse().unwrap());
    let (client, reason) = (9, Reason::WrongShape);
    let rejection = Rejection { run: RUN, round: ROUND, client, reason, detail: "détail".into() };
    [broadcast, peer().update, rejection.encode().unwrap(), delta()]
}

/// The second broadcast to a client that has the first.
fn delta() -> Vec<u8> {
    let deltas = Some(fedpress_fl::DeltaOptions::default());
    let mut server = server(fedpress_fl::RoundOptions { deltas, ..options(1, 1, 0.0) });
    let mut replica = fedpress_fl::Replica::new(fedpress_fl::Layout::clone(&layout()));
    let (client, first) = begin(&mut server, &CLIENTS[..1], 0).remove(0);
    let download = replica.decode(&first, &Default::default()).unwrap();
    let update = download.update(client, &trained(&download.base, 1), 1, RoundingSeed(0)).unwrap();
    server.receive(client, &update, 0).unwrap();
    begin(&mut server, &[client], 1).remove(0).1.to_vec()
}

fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind().clone()
}

fn decoded(message: &[u8]) -> Result<(Header, Vec<fedpress_fl::Parameter>)> {
    decode(message, &Default::default())
}

#[test]
fn what_was_sent_arrives() {
    let layout = layout();
    let model = model(&layout, 1);
    for client in [None, Some(0), Some(u64::MAX - 1)] {
        let header = Broadcast { client, ..broadcast(random(3, 0.5), LOSSY) };
        let message = send(&layout, &model, &header, &lossless());
        let download = Download::decode(&message, &Default::default()).unwrap();
        assert_eq!(download.header, header);
        assert_eq!(download.digest, Digest::of(&message));
        let selection = header.choice.select(&layout).unwrap();
        assert_eq!(download.base, fedpress_fl::pack(&layout, &selection, &model).unwrap());
    }
    let peer = peer();
    let (header, _) = decoded(&peer.update).unwrap();
    let Header::Update(update) = header else { panic!("{header:?}") };
    assert_eq!((update.run, update.round, update.client), (RUN, ROUND, 9));
    assert_eq!((update.base, update.samples), (peer.download.digest, peer.samples));
    let (client, reason) = (u64::MAX, Reason::Late);
    let rejection = Rejection { run: 1, round: 2, client, reason, detail: String::new() };
    assert_eq!(header_of(&rejection.encode().unwrap()), Header::Rejection(rejection));
}

#[test]
fn losslessly_sent_updates_are_trained_minus_decoded_to_the_bit() {
    let peer = Peer::new(&layout(), 9, 0.5, "lossless");
    let (_, delta) = decoded(&peer.update).unwrap();
    let trained = trained(&peer.download.base, peer.id);
    for ((delta, trained), base) in delta.iter().zip(&trained).zip(&peer.download.base) {
        let expected = trained.values.iter().zip(&base.values).map(|(t, b)| (t - b).to_bits());
        assert!(delta.values.iter().map(|v| v.to_bits()).eq(expected), "{}", base.name);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for message in messages() {
        for n in 0..message.len() {
            assert_eq!(kind_of(decoded(&message[..n])), ErrorKind::Truncated, "{n} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for message in messages() {
        let mut flipped = message.clone();
        for bit in 0..8 * message.len() {
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&flipped).is_err(), "bit {bit}");
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    /// Whatever else is in a header is an error or another message, never a panic; a message that
    /// is read is written as the same bytes.
    #[test]
    fn arbitrary_headers_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..120),
        which in 0usize..5,
        at in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = match which {
            4 => noise.clone(),
            which => header_body(&messages()[which]),
        };
        let (at, cut) = (at.index(body.len() + 1), cut.index(noise.len() + 1));
        body.splice(at..(at + cut).min(body.len()), noise[..cut].iter().copied());
        if let Ok((Header::Broadcast(broadcast), _)) = decoded(&stream(&[(0xA0, body.clone())], &[])) {
            let message = broadcast.encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
            prop_assert_eq!(header_body(&message), body);
        }
    }
}

#[test]
fn what_is_newer_than_this_reader_is_unsupported() {
    for (at, found) in [(0, 1), (0, 255), (1, 0), (1, 7), (26, 0), (26, 21)] {
        let mut body = header_body(&messages()[2]);
        body[at] = found;
        let kind = kind_of(decoded(&stream(&[(0xA0, body)], &[])));
        let ErrorKind::Unsupported { found: what, .. } = kind else { panic!("{kind:?}") };
        assert!(what.ends_with(&found.to_string()), "{what}");
    }
}

#[test]
fn fields_left_over_cut_off_or_out_of_range_are_corrupt() {
    for message in messages() {
        let body = header_body(&message);
        let longer = [&body[..], &[0]].concat();
        for body in (0..body.len()).map(|n| &body[..n]).chain([&longer[..]]) {
            let stream = stream(&[(0xA0, body.to_vec())], &[]);
            assert_eq!(kind_of(decoded(&stream)), ErrorKind::Corrupt, "{} bytes", body.len());
        }
    }
    // Gains that are none; not UTF-8; a spec that is none, and one not in canonical form.
    let body = header_body(&messages()[0]);
    let spec = body.windows(8).position(|w| w == b"hadamard").unwrap();
    let replace = |at: usize, with: &[u8]| {
        let mut body = body.clone();
        body[at..at + with.len()].copy_from_slice(with);
        kind_of(decoded(&stream(&[(0xA0, body)], &[])))
    };
    let changes: [(usize, &[u8]); 6] = [
        (spec - 8, &0f32.to_le_bytes()),
        (spec - 8, &f32::NAN.to_le_bytes()),
        (spec - 8, &(-1f32).to_le_bytes()),
        (spec, &[0xFF]),
        (spec, b"Hadamard"),
        (spec + 19, b".50"),
    ];
    for (at, with) in changes {
        assert_eq!(replace(at, with), ErrorKind::Corrupt, "{with:?}");
    }
}

#[test]
fn there_is_a_gain_for_each_tensor_or_none() {
    let layout = layout();
    for gains in [vec![1.5], vec![1.5; layout.params().len() + 1]] {
        let header = Broadcast { gains, ..broadcast(Choice::full(), LOSSY) };
        let message = send(&layout, &model(&layout, 1), &header, &lossless());
        assert_eq!(kind_of(Download::decode(&message, &Default::default())), ErrorKind::Corrupt);
    }
}

#[test]
fn there_is_one_header_and_it_comes_before_the_tensors() {
    let peer = peer();
    let header = (0xA0, header_body(&peer.update));
    let tensors = decoded(&peer.update).unwrap().1;
    assert!(decoded(&stream(&[(0xA5, vec![]), header.clone()], &tensors)).is_ok());
    let two = stream(&[header.clone(), header.clone()], &tensors);
    assert_eq!(kind_of(decoded(&two)), ErrorKind::Corrupt);
    assert_eq!(kind_of(decoded(&stream(&[], &tensors))), ErrorKind::Corrupt);
    assert_eq!(kind_of(decoded(&stream(&[], &[]))), ErrorKind::Corrupt);
    assert_eq!(kind_of(decoded(&stream(&[(0xA5, vec![])], &[]))), ErrorKind::Corrupt);
    let mut late = Encoder::new(EncodeOptions::new(seeds())).unwrap();
    late.tensor(&TensorView::f32("w", &[1], &[1.0]), &lossless()).unwrap();
    late.record(0xA0, &header.1).unwrap();
    late.finish().unwrap();
    assert_eq!(kind_of(decoded(late.output())), ErrorKind::Corrupt);
    let critical = stream(&[header, (0x20, vec![])], &tensors);
    assert!(matches!(kind_of(decoded(&critical)), ErrorKind::Unsupported { .. }));
}

#[test]
fn a_message_is_one_stream() {
    for message in messages() {
        let noise = [&message[..], &[0x89]].concat();
        let twice = [&message[..], &message[..]].concat();
        let more = [&message[..], &stream(&[], &[])].concat();
        for bytes in [noise, twice, more] {
            assert_eq!(kind_of(decoded(&bytes)), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn tensors_of_messages_are_closed_and_of_floats() {
    let header = header_body(&peer().update);
    let message = |desc: &TensorDesc, bytes: &[u8]| {
        let mut encoder = Encoder::new(EncodeOptions::new(seeds())).unwrap();
        encoder.record(0xA0, &header).unwrap();
        encoder.begin(desc, &lossless()).unwrap();
        encoder.push(bytes).unwrap();
        encoder.end().unwrap();
        encoder.finish().unwrap();
        decoded(encoder.output())
    };
    let (_, tensors) = message(&TensorDesc::new("w", DType::F16, &[1]), &[0, 0x3C]).unwrap();
    assert_eq!(tensors[0].values, [1.0]);
    for desc in [TensorDesc::open("w", DType::F32, &[2]), TensorDesc::new("w", DType::I32, &[2])] {
        let error = message(&desc, &[0; 8]).unwrap_err();
        assert_eq!((error.kind(), error.parameter()), (&ErrorKind::Corrupt, Some("w")));
    }
}

#[test]
fn other_messages_are_no_broadcast() {
    let [_, update, rejection, _] = messages();
    for message in [update, rejection] {
        assert_eq!(kind_of(Download::decode(&message, &Default::default())), ErrorKind::Corrupt);
    }
}

#[test]
fn nobody_is_called_everyone() {
    let header = Broadcast { client: Some(u64::MAX), ..broadcast(Choice::full(), "none") };
    assert_eq!(
        kind_of(header.encode(&[], &lossless().into(), RoundingSeed(0))),
        ErrorKind::InvalidArgument
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Written from MESSAGES.md: a change of any breaks every message.
#[test]
fn headers_are_those_of_the_document() {
    let mut keep = Keep::from(0.5);
    keep.groups.insert("h".into(), 0.25);
    let broadcast = Broadcast {
        run: 1,
        round: 0x0203,
        client: None,
        seed: 4,
        choice: Choice { rule: Rule::Rolling { offset: 5 }, keep },
        gains: vec![1.5],
        up: TensorSpecs::from("hadamard|q=2".parse::<fedpress::Spec>().unwrap())
            .with("vv", lossless())
            .with("m", "none".parse().unwrap()),
        task: "go".into(),
        integers: None,
    };
    let common = "0100000000000000 0302000000000000";
    let pinned = [
        "00 01",
        common,
        "ffffffffffffffff",
        "0400000000000000",
        "02 0500000000000000 000000000000e03f 01000000 0100 68 000000000000d03f",
        "01000000 0000c03f",
        "0c000000 686164616d6172647c713d32",
        "02000000",
        "01000000 6d 04000000 6e6f6e65",
        "02000000 7676 0c000000 73687566666c657c7a737464",
        "02000000 676f",
        "00",
    ];
    let message = broadcast.encode(&[], &lossless().into(), RoundingSeed(0)).unwrap();
    assert_eq!(hex(&header_body(&message)), pinned.concat().replace(' ', ""));

    let message = Broadcast { client: Some(6), gains: vec![], ..broadcast }
        .encode(&[], &lossless().into(), RoundingSeed(0))
        .unwrap();
    let update = Download::decode(&message, &Default::default()).unwrap().update(
        6,
        &[],
        258,
        RoundingSeed(0),
    );
    let digest = hex(&Digest::of(&message).0);
    let pinned = ["00 02", common, "0600000000000000", &digest, "0201000000000000"];
    assert_eq!(hex(&header_body(&update.unwrap())), pinned.concat().replace(' ', ""));

    let (client, reason, detail) = (6, Reason::Late, "é".to_owned());
    let rejection = Rejection { run: 1, round: 0x0203, client, reason, detail };
    let pinned = ["00 03", common, "0600000000000000", "0c", "02000000 c3a9"];
    let message = rejection.encode().unwrap();
    assert_eq!(hex(&header_body(&message)), pinned.concat().replace(' ', ""));
}

#[test]
fn reasons_have_the_numbers_of_the_document() {
    let document = [
        Reason::Malformed,
        Reason::TooLarge,
        Reason::WrongRound,
        Reason::WrongBase,
        Reason::WrongClient,
        Reason::WrongShape,
        Reason::NotFinite,
        Reason::BadSamples,
        Reason::Duplicate,
        Reason::NotSelected,
        Reason::Busy,
        Reason::Late,
    ];
    assert!(document.iter().map(|reason| *reason as u8).eq(1..=12));
}

/// The seed of the round, and the client whose own draws it makes, travel with the tensors.
#[test]
fn updates_are_encoded_with_the_seed_of_the_document() {
    let peer = peer();
    let mut decoder = fedpress::Decoder::new(Default::default());
    let mut input = &peer.update[..];
    let mut seen = 0;
    while let Some(event) = decoder.next(&mut input).unwrap() {
        let fedpress::Event::Tensor(meta) = event else { continue };
        let Some((seed, round)) = meta.seed_and_round() else { continue };
        assert_eq!((seed, round, meta.client()), (11, ROUND, Some((9, 0))));
        seen += 1;
    }
    assert_eq!(seen, 1, "the one tensor that is not small");
}
