//! Laws of the folder: a store that is opened again has what the one before had taken, whenever that
//! one ended; what is damaged is said, with the name of the file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod exchange;

use exchange::*;
use fedpress::ErrorKind;
use fedpress_fl::{FeatureStore, StoreOptions, Upload};
use std::path::Path;

/// What a power cut would leave: the files as they are, without the locks of the living.
fn crash(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in files(folder) {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn a_crash_at_any_point_leaves_the_last_complete_uploads() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(in_folder(folder.path(), 0));
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (client, round) in [(1, 0), (2, 0), (1, 1), (3, 0), (2, 2), (1, 2)] {
        let message = upload(client, round);
        for piece in message.chunks(900) {
            let crashed = crash(folder.path());
            let opened = open(in_folder(crashed.path(), 0));
            assert_eq!(contents(&opened), expected(&taken));
            assert_eq!(files(crashed.path()).len(), taken.len(), "what was not complete is gone");
            store.receive(client, round, piece).unwrap();
        }
        taken.retain(|(c, _)| *c != client);
        taken.push((client, round));
        taken.sort_unstable();
        assert_eq!(contents(&store), expected(&taken));
    }
    drop(store);
    let mut store = open(in_folder(folder.path(), u64::MAX));
    assert_eq!(contents(&store), expected(&taken));
    // It goes on as if there had been no restart: labels are known, and the round was taken.
    let rejected = store.receive(1, 2, &upload(1, 2)).unwrap();
    assert_eq!(reason(rejected), fedpress_fl::Reason::Duplicate);
    take(&mut store, 1, 3);
    store.remove(2).unwrap();
    drop(store);
    let store = open(in_folder(folder.path(), 0));
    assert_eq!(contents(&store), expected(&[(1, 3), (3, 0)]));
}

#[test]
fn the_limit_of_memory_does_not_show_in_the_values() {
    let each = 4 * EACH as u64;
    let mut all = Vec::new();
    for memory in [0, 9 * each, 20 * each, u64::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(in_folder(folder.path(), memory));
        for (client, round) in [(1, 0), (2, 0), (3, 0), (1, 1), (3, 4)] {
            take(&mut store, client, round);
            assert!(store.held() <= memory);
        }
        all.push(contents(&store));
        drop(store);
        let store = open(in_folder(folder.path(), memory));
        assert!(store.held() <= memory);
        all.push(contents(&store));
        let n: usize = store.clients().map(|(.., n)| n).sum();
        match memory {
            0 => assert_eq!(store.held(), 0),
            u64::MAX => assert_eq!(store.held(), n as u64 * each),
            _ => assert!(store.held() > 0 && store.held() < n as u64 * each),
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(all[0], expected(&[(1, 1), (2, 0), (3, 4)]));
}

#[test]
fn damage_is_corrupt_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(in_folder(folder.path(), 0));
    take(&mut store, 1, 0);
    drop(store);
    let path = folder.path().join("0000000000000001.features");
    let good = std::fs::read(&path).unwrap();
    let n_features = ids(1).len() * 4 * EACH;
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let opened = FeatureStore::open(in_folder(folder.path(), 0));
        let error = match &opened {
            Ok(store) => {
                let samples: Vec<_> = ids(1).iter().map(|id| (1, *id)).collect();
                let mut out = (vec![], vec![], vec![]);
                store.read(&samples, &mut out.0, &mut out.1, &mut out.2).unwrap_err()
            }
            Err(_) => opened.err().unwrap(),
        };
        let said = error.to_string();
        use ErrorKind::{Corrupt, Truncated, Unsupported};
        let damaged = matches!(error.kind(), Corrupt | Truncated | Unsupported { .. });
        assert!(damaged && said.contains("0000000000000001.features"), "{what}: {said}");
        // Held in memory, features are read when the store opens.
        let held = FeatureStore::open(in_folder(folder.path(), u64::MAX));
        assert!(held.is_err(), "{what}");
    };
    let ends = (0..n_features).step_by(997).chain(n_features..good.len());
    for at in ends {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes, &format!("a bit of byte {at}"));
    }
    for n in (0..good.len()).step_by(31) {
        check(&good[..n], &format!("{n} bytes of it"));
    }
    check(&[&good[..], &[0]].concat(), "a byte more");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(contents(&open(in_folder(folder.path(), 0))), expected(&[(1, 0)]));
}

#[test]
fn a_folder_of_another_training_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(in_folder(folder.path(), 0));
    take(&mut store, 1, 0);
    take(&mut store, 2, 0);
    let used = FeatureStore::open(in_folder(folder.path(), 0)).err().unwrap();
    assert!(matches!(used.kind(), ErrorKind::Io(_)), "{used}");
    drop(store);
    let changes: [&dyn Fn(&mut StoreOptions); 5] = [
        &|o| o.run += 1,
        &|o| o.shape = vec![300],
        &|o| o.classes = 6,
        &|o| o.max_samples = 7,
        &|o| o.max_clients = 1,
    ];
    for change in changes {
        let mut options = in_folder(folder.path(), 0);
        change(&mut options);
        let error = FeatureStore::open(options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    // A file under the name of another client.
    let name = |client: u64| folder.path().join(format!("{client:016x}.features"));
    std::fs::rename(name(2), name(3)).unwrap();
    let error = FeatureStore::open(in_folder(folder.path(), 0)).err().unwrap();
    assert!(error.to_string().contains("0000000000000003.features"), "{error}");
    std::fs::rename(name(3), name(2)).unwrap();
    // What is not the store's is left alone.
    std::fs::write(folder.path().join("notes.partial"), b"mine").unwrap();
    let store = open(in_folder(folder.path(), 0));
    assert_eq!(contents(&store), expected(&[(1, 0), (2, 0)]));
    assert!(folder.path().join("notes.partial").exists());
}

/// The disk fails, here because someone takes the file away: an error, and the store is as it was.
#[test]
fn a_failing_disk_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(in_folder(folder.path(), 0));
    take(&mut store, 1, 0);
    let message = upload(1, 1);
    let (head, tail) = message.split_at(message.len() - 1);
    assert_eq!(store.receive(1, 1, head).unwrap(), Upload::More);
    std::fs::remove_file(folder.path().join("0000000000000001.partial")).unwrap();
    let error = store.receive(1, 1, tail).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io(_)), "{error}");
    assert!(error.to_string().contains("0000000000000001"), "{error}");
    assert_eq!(contents(&store), expected(&[(1, 0)]));
    take(&mut store, 1, 1);
    assert_eq!(contents(&store), expected(&[(1, 1)]));
}

#[test]
fn options_that_take_nothing_are_refused() {
    let changes: [&dyn Fn(&mut StoreOptions); 6] = [
        &|o| o.max_samples = 0,
        &|o| o.max_clients = 0,
        &|o| o.max_in_flight = 0,
        &|o| o.shape = vec![],
        &|o| o.shape = vec![1 << 20, 1 << 20],
        &|o| o.classes = 0,
    ];
    for change in changes {
        let mut options = options();
        change(&mut options);
        let error = FeatureStore::open(options).err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
    }
}
