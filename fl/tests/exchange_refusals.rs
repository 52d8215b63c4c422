//! Laws of refusal: each hostile upload is rejected for what is wrong with it, wherever its bytes
//! are cut, and the store is as it was, in memory and on disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod exchange;

use exchange::*;
use fedpress::{DType, EncodeOptions, Encoder, Seeds, Spec, TensorDesc};
use fedpress_fl::{FeatureStore, Reason, StoreOptions, Upload};

/// Client 1 has sent rounds 0 and 1.
fn begun(options: StoreOptions) -> FeatureStore {
    let mut store = open(options);
    take(&mut store, 1, 0);
    take(&mut store, 1, 1);
    store
}

/// That this is rejected for this reason, in one piece and in many, in memory and with a folder;
/// that nothing changes; and that the right upload is welcome afterwards.
#[track_caller]
fn assert_rejected(client: u64, round: u64, message: &[u8], expected_reason: Reason) {
    let folder = tempfile::tempdir().unwrap();
    for options in [options(), in_folder(folder.path(), 0)] {
        let mut store = begun(options);
        let before = contents(&store);
        for size in [message.len(), 100] {
            let mut pieces =
                message.chunks(size).map(|piece| store.receive(client, round, piece).unwrap());
            let done = pieces.find(|upload| *upload != Upload::More).unwrap();
            let found = rejection(done);
            assert_eq!(found.reason, expected_reason, "{found}");
            assert_eq!((found.run, found.round, found.client), (RUN, round, client));
            assert!(found.encode().is_ok());
            assert_eq!(contents(&store), before, "{found}");
            assert!(files(folder.path()).len() <= 1, "{found}");
        }
        take(&mut store, 1, 2);
        take(&mut store, 2, 0);
        assert_eq!(contents(&store), expected(&[(1, 2), (2, 0)]));
    }
}

/// A right later upload of client 1, and what becomes of it when something is changed.
#[track_caller]
fn changed(expected: Reason, change: impl Fn(&mut Vec<Raw>)) {
    let mut tensors = raw_batch(1, 5, 0, &ids(1)[..3], false);
    tensors.extend(raw_batch(1, 5, 1, &ids(1)[3..], false));
    change(&mut tensors);
    assert_rejected(1, 5, &message(1, 5, &tensors), expected);
}

/// The same of the first upload of client 2.
#[track_caller]
fn changed_first(expected: Reason, change: impl Fn(&mut Vec<Raw>)) {
    let mut tensors = raw_batch(2, 5, 0, &ids(2)[..3], true);
    tensors.extend(raw_batch(2, 5, 1, &ids(2)[3..], true));
    change(&mut tensors);
    assert_rejected(2, 5, &message(2, 5, &tensors), expected);
}

#[test]
fn messages_by_hand_are_right_where_nothing_is_changed() {
    let mut store = begun(options());
    let mut tensors = raw_batch(1, 5, 0, &ids(1)[..3], false);
    tensors.extend(raw_batch(1, 5, 1, &ids(1)[3..], false));
    store.receive(1, 5, &message(1, 5, &tensors)).unwrap();
    let first = raw_batch(2, 5, 0, &ids(2), true);
    store.receive(2, 5, &message(2, 5, &first)).unwrap();
    assert_eq!(contents(&store), expected(&[(1, 5), (2, 5)]));
}

#[test]
fn wrong_headers_are_rejected_for_the_field_that_is_wrong() {
    let tensors = raw_batch(1, 5, 0, &ids(1), false);
    let shape: &[u32] = &[3, 10, 10];
    for (header, expected) in [
        (header_body(RUN + 1, 5, 1, 5, shape), Reason::WrongRound),
        (header_body(RUN, 4, 1, 5, shape), Reason::WrongRound),
        (header_body(RUN, 6, 1, 5, shape), Reason::WrongRound),
        (header_body(RUN, 5, 2, 5, shape), Reason::WrongClient),
        (header_body(RUN, 5, u64::MAX, 5, shape), Reason::Malformed),
        (header_body(RUN, 5, 1, 6, shape), Reason::WrongShape),
        (header_body(RUN, 5, 1, 0, shape), Reason::Malformed),
        (header_body(RUN, 5, 1, 65_537, shape), Reason::Malformed),
        (header_body(RUN, 5, 1, 5, &[10, 3, 10]), Reason::WrongShape),
        (header_body(RUN, 5, 1, 5, &[300]), Reason::WrongShape),
        (header_body(RUN, 5, 1, 5, &[3, 10, 10, 1]), Reason::WrongShape),
        (header_body(RUN, 5, 1, 5, &[]), Reason::Malformed),
        (header_body(RUN, 5, 1, 5, &[0, 10, 10]), Reason::Malformed),
        (header_body(RUN, 5, 1, 5, &[u32::MAX; 8]), Reason::Malformed),
        (header_body(RUN, 5, 1, 5, &[1; 9]), Reason::Malformed),
        ([header_body(RUN, 5, 1, 5, shape), vec![0]].concat(), Reason::Malformed),
        ([&[1], &header_body(RUN, 5, 1, 5, shape)[1..]].concat(), Reason::Malformed),
        ([&[0, 5], &header_body(RUN, 5, 1, 5, shape)[2..]].concat(), Reason::Malformed),
        (vec![], Reason::Malformed),
    ] {
        assert_rejected(1, 5, &stream(&[(0xA0, header)], &tensors), expected);
    }
}

#[test]
fn what_is_not_one_upload_is_malformed() {
    let tensors = raw_batch(1, 5, 0, &ids(1), false);
    let header = (0xA0, header_body(RUN, 5, 1, 5, &[3, 10, 10]));
    let good = message(1, 5, &tensors);
    let desc = TensorDesc::new("0/ids", DType::U32, &[8]);
    let seeds = Seeds::new(1, 2);
    let mut manifest = Encoder::new(EncodeOptions::new(seeds)).unwrap();
    manifest.manifest(&[desc]).unwrap();
    for message in [
        b"not a stream".to_vec(),
        [&good[..], &[0]].concat(),
        stream(&[], &tensors),
        stream(&[], &[]),
        stream(&[header.clone(), header.clone()], &tensors),
        stream(&[header, (0x20, vec![])], &tensors),
        manifest.output().to_vec(),
    ] {
        assert_rejected(1, 5, &message, Reason::Malformed);
    }
}

#[test]
fn every_flipped_bit_is_malformed() {
    let mut store = begun(options());
    let before = contents(&store);
    let mut flipped = upload_of(1, 5, &ids(1), 4, "identity|q=1,nearest|zstd", false);
    for at in 0..flipped.len() {
        flipped[at] ^= 1 << (at % 8);
        assert_eq!(reason(store.receive(1, 5, &flipped).unwrap()), Reason::Malformed, "{at}");
        flipped[at] ^= 1 << (at % 8);
    }
    assert_eq!(contents(&store), before);
}

#[test]
fn tensors_that_are_not_due_are_of_the_wrong_shape() {
    use Reason::WrongShape;
    changed(WrongShape, |t| drop(t.pop()));
    changed(WrongShape, |t| drop(t.remove(0)));
    changed(WrongShape, |t| drop(t.remove(1)));
    changed(WrongShape, |t| t.swap(1, 2));
    changed(WrongShape, |t| t.swap(0, 3));
    changed(WrongShape, |t| t[3].name = "2/ids".into());
    changed(WrongShape, |t| t[3].name = "01/ids".into());
    changed(WrongShape, |t| t[0].dtype = DType::I32);
    changed(WrongShape, |t| t[1].dtype = DType::I32);
    changed(WrongShape, |t| t[1].shape = vec![3, 300]);
    changed(WrongShape, |t| t[1].shape = vec![3, 10, 3, 10]);
    changed(WrongShape, |t| t[0].shape = vec![3, 1]);
    changed(WrongShape, |t| {
        t[1].shape[0] = 2;
        t[1].data.truncate(2 * 4 * EACH);
    });
    changed(WrongShape, |t| {
        t[2].shape[1] = 4;
        t[2].data.truncate(3 * 4 * 4);
    });
    // A batch without samples.
    changed(WrongShape, |t| t.extend(raw_batch(1, 5, 2, &[], false)));
    changed(Reason::BadSamples, Vec::clear);
    changed(WrongShape, |t| t.push(Raw { name: "extra".into(), ..t[0].clone() }));
    changed_first(WrongShape, |t| t[1].dtype = DType::I8);
    changed_first(WrongShape, |t| {
        t[1].shape = vec![2];
        t[1].data.truncate(2);
    });
}

#[test]
fn samples_have_to_be_those_of_the_first_upload_each_of_them_once() {
    let set = |t: &mut Vec<Raw>, at: usize, id: u32| {
        t[0].data[4 * at..4 * at + 4].copy_from_slice(&id.to_le_bytes());
    };
    changed(Reason::UnknownSample, |t| set(t, 2, 12));
    changed(Reason::UnknownSample, |t| set(t, 0, u32::MAX));
    changed(Reason::RepeatedSample, |t| set(t, 2, ids(1)[0]));
    changed(Reason::RepeatedSample, |t| set(t, 2, ids(1)[5]));
    changed_first(Reason::RepeatedSample, |t| set(t, 2, ids(2)[0]));
    changed_first(Reason::RepeatedSample, |t| set(t, 2, ids(2)[5]));
    changed(Reason::MissingSample, |t| t.truncate(3));
    // The samples of another client are not this one's.
    let other = message(1, 5, &raw_batch(1, 5, 0, &ids(3), false));
    assert_rejected(1, 5, &other, Reason::UnknownSample);
}

#[test]
fn labels_come_with_the_first_upload_and_no_other() {
    let again = message(1, 5, &raw_batch(1, 5, 0, &ids(1), true));
    assert_rejected(1, 5, &again, Reason::SecondLabel);
    let behind = message(1, 5, &{
        let mut tensors = raw_batch(1, 5, 0, &ids(1), true);
        let labels = tensors.remove(1);
        tensors.push(labels);
        tensors
    });
    assert_rejected(1, 5, &behind, Reason::WrongShape);
    let without = message(2, 5, &raw_batch(2, 5, 0, &ids(2), false));
    assert_rejected(2, 5, &without, Reason::MissingLabel);
    changed_first(Reason::MissingLabel, |t| drop(t.remove(5)));
    changed_first(Reason::BadLabel, |t| t[1].data[1] = CLASSES as u8);
    changed_first(Reason::BadLabel, |t| t[5].data[0] = 255);
}

#[test]
fn values_that_are_no_numbers_are_not_finite() {
    for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for tensor in [1, 2, 4, 5] {
            for last in [false, true] {
                changed(Reason::NotFinite, |t| {
                    let data = &mut t[tensor].data;
                    let at = if last { data.len() - 4 } else { 0 };
                    data[at..at + 4].copy_from_slice(&value.to_le_bytes());
                });
            }
        }
    }
}

#[test]
fn who_comes_twice_in_a_round_or_is_nobody_is_rejected() {
    let mut store = begun(options());
    assert_eq!(reason(store.receive(1, 1, &upload(1, 1)).unwrap()), Reason::Duplicate);
    assert_eq!(reason(store.receive(u64::MAX, 2, &[]).unwrap()), Reason::NotSelected);
    // A server that goes back to an earlier round takes its uploads again.
    let labelled = upload_of(1, 0, &ids(1), 4, "none", false);
    assert_eq!(store.receive(1, 0, &labelled).unwrap(), Upload::Taken { samples: 8 });
    // The round of the server moves while an upload is on its way.
    let message = upload(1, 4);
    assert_eq!(store.receive(1, 4, &message[..500]).unwrap(), Upload::More);
    assert_eq!(reason(store.receive(1, 5, &message[500..]).unwrap()), Reason::WrongRound);
    take(&mut store, 1, 5);
    for client in [2, 3] {
        take(&mut store, client, 0);
    }
    assert_eq!(store.receive(7, 5, &[]).unwrap(), Upload::More);
    assert_eq!(reason(store.receive(8, 5, &[]).unwrap()), Reason::NotSelected);
    store.forget(7);
    assert_eq!(store.receive(8, 5, &[]).unwrap(), Upload::More);
}

#[test]
fn one_too_many_on_their_way_is_busy_and_may_try_again() {
    let mut store = open(StoreOptions { max_in_flight: 2, ..options() });
    let messages: Vec<_> = (0..3).map(|client| upload(client, 0)).collect();
    for client in [0, 1] {
        let piece = &messages[client as usize][..50];
        assert_eq!(store.receive(client, 0, piece).unwrap(), Upload::More);
    }
    assert_eq!(reason(store.receive(2, 0, &messages[2]).unwrap()), Reason::Busy);
    let taken = store.receive(0, 0, &messages[0][50..]).unwrap();
    assert_eq!(taken, Upload::Taken { samples: 7 });
    take(&mut store, 2, 0);
}

#[test]
fn too_much_is_too_large_before_it_is_held() {
    let message = upload_of(1, 5, &ids(1), 4, "none", true);
    type Limit = fn(&mut StoreOptions);
    let limits: [(Limit, Reason); 3] = [
        (|o| o.max_message_bytes = 2000, Reason::TooLarge),
        (|o| o.decode_memory = 2000, Reason::TooLarge),
        (|o| o.max_samples = 7, Reason::BadSamples),
    ];
    for (limit, expected) in limits {
        let mut options = options();
        limit(&mut options);
        let mut store = open(options);
        assert_eq!(reason(store.receive(1, 5, &message).unwrap()), expected);
    }
    // Of as many samples as there are atoms, only the record that says so is read.
    let seeds = Seeds::new(1, 2);
    let mut encoder = Encoder::new(EncodeOptions::new(seeds)).unwrap();
    encoder.record(0xA0, &header_body(RUN, 5, 2, 5, &[3, 10, 10])).unwrap();
    let desc = TensorDesc::new("0/ids", DType::U32, &[1 << 62]);
    encoder.begin(&desc, &Spec::lossless()).unwrap();
    assert_rejected(2, 5, encoder.output(), Reason::BadSamples);
}

/// Without a folder, what is beyond the limit is refused, whoever holds the rest.
#[test]
fn a_store_in_memory_does_not_outgrow_it() {
    let each = 4 * EACH as u64;
    let mut store = open(StoreOptions { memory: 20 * each, ..options() });
    take(&mut store, 1, 0);
    assert_eq!(store.held(), 8 * each);
    let second = upload(2, 0);
    assert_eq!(store.receive(2, 0, &second[..second.len() - 1]).unwrap(), Upload::More);
    assert_eq!(store.held(), 17 * each);
    // Its new features beside its old ones are too many for now.
    let rejected = store.receive(1, 1, &upload(1, 1)).unwrap();
    assert_eq!(reason(rejected), Reason::TooLarge);
    assert_eq!(store.held(), 17 * each);
    store.forget(2);
    take(&mut store, 1, 1);
    assert_eq!(store.held(), 8 * each);
    assert_eq!(contents(&store), expected(&[(1, 1)]));
    store.remove(1).unwrap();
    assert_eq!((store.held(), store.clients().count()), (0, 0));
}

#[test]
fn every_truncation_is_on_its_way_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for options in [options(), in_folder(folder.path(), 0)] {
        let mut store = begun(options);
        let before = contents(&store);
        let message = upload_of(1, 5, &ids(1), 4, "identity|q=1,nearest|zstd", false);
        for n in 0..message.len() {
            assert_eq!(store.receive(1, 5, &message[..n]).unwrap(), Upload::More, "{n}");
            if n % 101 == 0 {
                assert_eq!(contents(&store), before, "{n}");
            }
            store.forget(1);
        }
        assert_eq!(contents(&store), before);
    }
}
