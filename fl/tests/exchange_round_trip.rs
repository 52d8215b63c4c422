//! Laws of an exchange: what a client hands in is what the server reads, by sample, however it was
//! cut into batches and bytes; labels travel once; bytes depend on input, specs and seeds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod exchange;

use exchange::*;
use fedpress::{DecodeOptions, ErrorKind, Spec};
use fedpress_fl::message::Header;
use fedpress_fl::{
    FeatureWriter, LogitWriter, Logits, Reason, RoundingSeed, Upload, decode_logits,
    message::decode,
};

const SPECS: [&str; 6] = [
    "none",
    "lossless",
    "identity|q=4,nearest|zstd",
    "hadamard|q=3|zstd",
    "kashin|q=8",
    "hadamard|subsample=0.5|q=6|zstd",
];

#[test]
fn lossless_uploads_are_read_as_they_were_handed_in_however_they_are_batched() {
    for batch in [1, 2, 3, 100] {
        let mut store = open(options());
        for (client, round) in [(1, 0), (2, 0), (1, 3), (2, 9)] {
            let message = upload_of(client, round, &ids(client), batch, "none", round == 0);
            let taken = Upload::Taken { samples: ids(client).len() };
            assert_eq!(store.receive(client, round, &message).unwrap(), taken);
        }
        assert_eq!(contents(&store), expected(&[(1, 3), (2, 9)]), "batches of {batch}");
    }
}

/// The store has what any reader of the stream decodes.
#[test]
fn lossy_uploads_are_read_as_the_codec_decodes_them() {
    for spec in SPECS {
        for batch in [3, 100] {
            let message = upload_of(2, 0, &ids(2), batch, spec, true);
            let mut store = open(options());
            store.receive(2, 0, &message).unwrap();
            let samples: Vec<_> = ids(2).iter().map(|id| (2, *id)).collect();
            let (mut values, mut logits, mut labels) = (vec![], vec![], vec![]);
            store.read(&samples, &mut values, &mut logits, &mut labels).unwrap();
            let tensors = fedpress::decode(&message, &DecodeOptions::default()).unwrap();
            let of = |part: &str| {
                let parts = tensors.iter().filter(|t| t.name.ends_with(part));
                parts.flat_map(|t| t.data.clone()).collect::<Vec<u8>>()
            };
            assert_eq!(f32s(&values), of("/features"), "{spec}");
            assert_eq!(f32s(&logits), of("/logits"), "{spec}");
            assert_eq!(labels.iter().map(|l| *l as u8).collect::<Vec<_>>(), of("/labels"));
        }
    }
}

/// Whatever the size of a batch; and logits are off by no more than the manual says.
#[test]
fn the_default_specs_are_those_that_are_documented() {
    let default = fedpress_fl::FeatureSpecs::default();
    assert_eq!(default.features, "identity|q=4,nearest|zstd".parse().unwrap());
    assert_eq!(default.logits, "identity|q=16,nearest".parse().unwrap());
    let (values, scores) = (features(1, 0, 13), exchange::logits(1, 0, 13));
    let mut writer =
        FeatureWriter::new(vec![], header(1, 0), default, 11, RoundingSeed(0x5eed)).unwrap();
    writer.batch(&[13], &values, &scores, Some(&[1])).unwrap();
    let mut store = open(options());
    store.receive(1, 0, &writer.finish().unwrap()).unwrap();
    let mut found = (vec![], vec![], vec![]);
    store.read(&[(1, 13)], &mut found.0, &mut found.1, &mut found.2).unwrap();
    let check = |found: &[f32], expected: &[f32], steps: f32| {
        let (low, high) = expected.iter().fold((0f32, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        let most = (high - low) * (0.5 / steps + 1e-6);
        let error = |(a, b): (&f32, &f32)| (a - b).abs();
        let largest = found.iter().zip(expected).map(error).fold(0.0, f32::max);
        assert!(largest > 0.0 && largest <= most, "{largest} of {most}");
    };
    check(&found.0, &values, 15.0);
    check(&found.1, &scores, 65_535.0);
}

#[test]
fn bytes_may_be_cut_anywhere() {
    for spec in ["none", "hadamard|q=3|zstd"] {
        let message = upload_of(1, 0, &ids(1), 5, spec, true);
        let mut whole = open(options());
        whole.receive(1, 0, &message).unwrap();
        for size in [1, 2, 7, 1000, message.len() - 1] {
            let mut store = open(options());
            let pieces: Vec<&[u8]> = message.chunks(size).collect();
            let (last, before) = pieces.split_last().unwrap();
            for piece in before {
                assert_eq!(store.receive(1, 0, piece).unwrap(), Upload::More);
            }
            assert_eq!(store.receive(1, 0, last).unwrap(), Upload::Taken { samples: 8 });
            assert_eq!(contents(&store), contents(&whole), "{spec} by {size}");
        }
    }
}

/// Uploads of all clients side by side, byte by byte.
#[test]
fn uploads_do_not_get_mixed_up() {
    let mut store = open(options());
    let messages: Vec<_> = (0..4).map(|client| upload(client, 0)).collect();
    for at in 0..messages.iter().map(Vec::len).max().unwrap() {
        for (client, message) in (0..).zip(&messages) {
            if let Some(byte) = message.get(at..at + 1) {
                store.receive(client, 0, byte).unwrap();
            }
        }
    }
    assert_eq!(contents(&store), expected(&[(0, 0), (1, 0), (2, 0), (3, 0)]));
}

#[test]
fn samples_of_all_clients_are_read_in_any_order_and_more_than_once() {
    let mut store = open(options());
    (0..4).for_each(|client| take(&mut store, client, 0));
    let mut samples: Vec<(u64, u32)> =
        (0..4).flat_map(|client| ids(client).into_iter().map(move |id| (client, id))).collect();
    samples.sort_unstable_by_key(|(client, id)| fedpress::derive_key(&[*client, u64::from(*id)]));
    samples.push(samples[0]);
    let (mut values, mut logits, mut labels) = (vec![], vec![], vec![]);
    store.read(&samples, &mut values, &mut logits, &mut labels).unwrap();
    for (at, (client, id)) in samples.iter().enumerate() {
        assert_eq!(values[at * EACH..(at + 1) * EACH], features(*client, 0, *id));
        assert_eq!(logits[at * CLASSES..(at + 1) * CLASSES], exchange::logits(*client, 0, *id));
        assert_eq!(labels[at], label(*client, *id));
    }
    for unknown in [(1, 12), (9, 13)] {
        let result = store.read(&[unknown], &mut values, &mut logits, &mut labels);
        assert_eq!(*result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn labels_travel_once() {
    let names = |message: &[u8]| -> Vec<String> {
        let tensors = fedpress::decode(message, &DecodeOptions::default()).unwrap();
        tensors.into_iter().map(|t| t.name).collect()
    };
    let first = ["0/ids", "0/labels", "0/features", "0/logits", "1/ids", "1/labels", "1/features"];
    assert_eq!(names(&upload_of(1, 0, &ids(1), 4, "none", true))[..7], first);
    for round in 1..4 {
        let message = upload(1, round);
        assert!(names(&message).iter().all(|name| !name.contains("label")));
    }
    // Labels of more than 256 classes take two bytes, and are read as they were.
    let wide = fedpress_fl::StoreOptions::new(RUN, &[1], 1000);
    let header = fedpress_fl::Features { classes: 1000, shape: vec![1], ..header(1, 0) };
    let mut writer =
        FeatureWriter::new(vec![], header, Default::default(), 1, RoundingSeed(2)).unwrap();
    writer.batch(&[3, 4], &[0.5, 0.0], &vec![0.25; 2000], Some(&[999, 258])).unwrap();
    let mut store = open(wide);
    store.receive(1, 0, &writer.finish().unwrap()).unwrap();
    assert_eq!((store.label(1, 3), store.label(1, 4)), (Some(999), Some(258)));
}

#[test]
fn bytes_depend_on_input_specs_and_seeds_alone() {
    let spec = "hadamard|subsample=0.5|q=2|zstd";
    let first = upload_of(1, 0, &ids(1), 4, spec, true);
    assert_eq!(first, upload_of(1, 0, &ids(1), 4, spec, true));
    let seeds = |message: &[u8]| {
        let summary = fedpress::summarize(&mut std::io::Cursor::new(message), &Default::default());
        let tensors = summary.unwrap().tensors;
        let meta = tensors.into_iter().find(|t| t.meta.client().is_some()).unwrap().meta;
        (meta.seed_and_round().unwrap().0, meta.client().unwrap().0)
    };
    assert_eq!(seeds(&first), (11, 1));
    assert_eq!(seeds(&upload_of(2, 0, &ids(2), 4, spec, true)), (11, 2));
}

#[test]
fn a_writer_refuses_what_does_not_fit_and_goes_on() {
    let mut writer =
        FeatureWriter::new(vec![], header(1, 0), specs("none"), 11, RoundingSeed(0x5eed)).unwrap();
    let (values, scores) = (features(1, 0, 13), exchange::logits(1, 0, 13));
    let (two, ten) = ([&values[..]; 2].concat(), [&scores[..]; 2].concat());
    assert!(writer.batch(&[], &[], &[], Some(&[])).is_err());
    assert!(writer.batch(&[13], &values[1..], &scores, Some(&[1])).is_err());
    assert!(writer.batch(&[13], &values, &scores[1..], Some(&[1])).is_err());
    assert!(writer.batch(&[13], &values, &scores, Some(&[1, 2])).is_err());
    assert!(writer.batch(&[13], &values, &scores, Some(&[5])).is_err());
    assert!(writer.batch(&[14, 14], &two, &ten, Some(&[1, 1])).is_err());
    writer.batch(&[13], &values, &scores, Some(&[1])).unwrap();
    assert!(writer.batch(&[15, 13], &two, &ten, Some(&[1, 1])).is_err());
    assert!(writer.batch(&[15], &values, &scores, None).is_err());
    writer.batch(&[15], &values, &scores, Some(&[4])).unwrap();
    let mut store = open(options());
    let message = writer.finish().unwrap();
    assert_eq!(store.receive(1, 0, &message).unwrap(), Upload::Taken { samples: 2 });
    for bad in [
        fedpress_fl::Features { client: u64::MAX, ..header(1, 0) },
        fedpress_fl::Features { classes: 0, ..header(1, 0) },
        fedpress_fl::Features { classes: 65_537, ..header(1, 0) },
        fedpress_fl::Features { shape: vec![], ..header(1, 0) },
        fedpress_fl::Features { shape: vec![3, 0], ..header(1, 0) },
        fedpress_fl::Features { shape: vec![usize::MAX, 2], ..header(1, 0) },
        fedpress_fl::Features { shape: vec![1; 9], ..header(1, 0) },
    ] {
        let error =
            FeatureWriter::new(vec![], bad, specs("none"), 1, RoundingSeed(2)).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    }
}

fn answer(spec: &Spec, batches: &[&[u32]]) -> Vec<u8> {
    let header = Logits { run: RUN, round: 4, client: 2, classes: CLASSES };
    let mut writer =
        LogitWriter::new(Vec::new(), header, spec.clone(), 5, RoundingSeed(6)).unwrap();
    for ids in batches {
        let values: Vec<f32> = ids.iter().flat_map(|id| exchange::logits(0, 4, *id)).collect();
        writer.batch(ids, &values).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn an_answer_is_read_by_sample() {
    let message = answer(&Spec::lossless(), &[&[9, 2], &[70_000], &[1]]);
    let logits = decode_logits(&message, &Default::default()).unwrap();
    assert_eq!(logits.header, Logits { run: RUN, round: 4, client: 2, classes: CLASSES });
    assert_eq!(logits.ids, [9, 2, 70_000, 1]);
    let ordered = logits.in_order(&[1, 2, 9, 70_000]).unwrap();
    let expected = [1, 2, 9, 70_000].map(|id| exchange::logits(0, 4, id)).concat();
    assert_eq!(ordered, expected);
    for wrong in [&[1, 2, 9][..], &[1, 2, 9, 70_000, 3], &[1, 2, 9, 9], &[1, 2, 9, 3]] {
        let error = logits.in_order(wrong).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    }
    for n in 0..message.len() {
        assert!(decode_logits(&message[..n], &Default::default()).is_err());
    }
    assert!(decode_logits(&[&message[..], &[0]].concat(), &Default::default()).is_err());
    assert!(decode_logits(&upload(1, 0), &Default::default()).is_err());
    let mut small = DecodeOptions::default();
    small.memory = 60;
    let error = decode_logits(&message, &small).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { .. }), "{error}");
}

#[test]
fn answers_with_doubles_or_no_numbers_are_corrupt() {
    let body = |kind: u8| {
        let mut body = vec![0, kind];
        [RUN, 4, 2].iter().for_each(|n: &u64| body.extend(n.to_le_bytes()));
        body.extend((CLASSES as u32).to_le_bytes());
        body
    };
    let batch = |ids: &[u32]| {
        let mut tensors = raw_batch(2, 4, 0, ids, false);
        tensors.remove(1);
        tensors
    };
    let good = stream(&[(0xA0, body(5))], &batch(&[3, 1]));
    assert_eq!(decode_logits(&good, &Default::default()).unwrap().ids, [3, 1]);
    let mut infinite = batch(&[3, 1]);
    infinite[1].data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    for bad in [
        stream(&[(0xA0, body(5))], &batch(&[3, 3])),
        stream(&[(0xA0, body(5))], &infinite),
        stream(&[(0xA0, body(5))], &raw_batch(2, 4, 0, &[3], false)),
        stream(&[(0xA0, body(5))], &batch(&[3])[..1]),
        stream(&[(0xA0, body(5))], &[]),
        stream(&[(0xA0, body(4))], &batch(&[3])),
        stream(&[], &batch(&[3])),
    ] {
        let error = decode_logits(&bad, &Default::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt, "{error}");
    }
    // The header alone is one that any reader of messages knows.
    let header = decode(&stream(&[(0xA0, body(5))], &[]), &Default::default()).unwrap().0;
    assert!(matches!(header, Header::Logits(Logits { client: 2, classes: CLASSES, .. })));
}

#[test]
fn headers_are_those_of_the_manual_and_corrupt_where_they_are_cut() {
    let body = header_body(RUN, 4, 2, 5, &[3, 10, 10]);
    let read = |body: &[u8]| decode(&stream(&[(0xA0, body.to_vec())], &[]), &Default::default());
    assert_eq!(read(&body).unwrap().0, Header::Features(header(2, 4)));
    assert!(upload(2, 4).windows(body.len()).any(|window| window == body));
    for n in 0..body.len() {
        assert_eq!(*read(&body[..n]).unwrap_err().kind(), ErrorKind::Corrupt, "{n} bytes");
    }
    assert_eq!(*read(&[&body[..], &[0]].concat()).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Threads of a trainer may read side by side.
#[test]
fn a_store_can_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&open(options()));
}

/// All new reasons travel.
#[test]
fn rejections_of_uploads_are_messages() {
    for number in 1..=18u8 {
        let mut body = vec![0, 3];
        [RUN, 4, 2].iter().for_each(|n: &u64| body.extend(n.to_le_bytes()));
        body.push(number);
        body.extend(0u32.to_le_bytes());
        let (header, _) = decode(&stream(&[(0xA0, body)], &[]), &Default::default()).unwrap();
        let Header::Rejection(rejection) = header else { panic!("{header:?}") };
        assert_eq!(rejection.reason as u8, number);
        assert_eq!(decode(&rejection.encode().unwrap(), &Default::default()).unwrap().0, {
            Header::Rejection(rejection)
        });
    }
    assert_eq!(Reason::BadLabel as u8, 18);
}
