//! Data sets by name.

use super::{Dataset, Normalisation, cifar, file, folders, idx};
use fedpress_fl::{Error, Result};
use std::path::Path;

impl Dataset {
    /// The training and the test set `name` from the files in `dir`, which may be plain or end in
    /// `.gz` or `.zst`:
    ///
    /// | name | files | classes | normalisation |
    /// |---|---|---|---|
    /// | `mnist`, `fashion-mnist` | `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, the same of `t10k` | 10 | x / 255 |
    /// | `emnist` | `emnist-byclass-train-images-idx3-ubyte`, `emnist-byclass-train-labels-idx1-ubyte`, the same of `test` (they hold their images on their side) | 62 | x / 255 |
    /// | `cifar10` | those there are of `data_batch_1.bin` to `data_batch_5.bin`, and `test_batch.bin` | 10 | [`Normalisation::cifar10`] |
    /// | `cifar100` | `train.bin`, `test.bin`; fine labels | 100 | [`Normalisation::cifar100`] |
    /// | `folders` | `train/CLASS/*.png`, `test/CLASS/*.png`, as RGB | as many as folders | x / 255 |
    ///
    /// # Errors
    /// `Io` where a file is missing or unreadable and `Corrupt` where it is not what it should be,
    /// both with its path; `InvalidArgument` for another name.
    pub fn open(name: &str, dir: &Path) -> Result<(Self, Self)> {
        match name {
            "mnist" | "fashion-mnist" => {
                Ok((idx_pair(dir, "train", 10)?, idx_pair(dir, "t10k", 10)?))
            }
            "emnist" => {
                let part = |name| idx_pair(dir, &format!("emnist-byclass-{name}"), 62);
                Ok((part("train")?, part("test")?))
            }
            "cifar10" => cifar10(dir),
            "cifar100" => {
                let part = |name| {
                    let path = file::need(dir, name)?;
                    let data = cifar::dataset(&[path], 2, 100)?;
                    data.with_normalisation(Normalisation::cifar100())
                };
                Ok((part("train.bin")?, part("test.bin")?))
            }
            "folders" => png_folders(dir),
            _ => Err(Error::invalid(format!(
                "expected mnist, fashion-mnist, emnist, cifar10, cifar100 or folders, found {name:?}"
            ))),
        }
    }
}

fn idx_pair(dir: &Path, part: &str, classes: usize) -> Result<Dataset> {
    let images = file::need(dir, &format!("{part}-images-idx3-ubyte"))?;
    let labels = file::need(dir, &format!("{part}-labels-idx1-ubyte"))?;
    idx::dataset(&images, &labels, classes)
}

fn cifar10(dir: &Path) -> Result<(Dataset, Dataset)> {
    let name = |i| format!("data_batch_{i}.bin");
    let mut train: Vec<_> = (1..=5).filter_map(|i| file::find(dir, &name(i))).collect();
    if train.is_empty() {
        train.push(file::need(dir, &name(1))?);
    }
    let test = file::need(dir, "test_batch.bin")?;
    let normalised =
        |paths: &[_]| cifar::dataset(paths, 1, 10)?.with_normalisation(Normalisation::cifar10());
    Ok((normalised(&train)?, normalised(&[test])?))
}

fn png_folders(dir: &Path) -> Result<(Dataset, Dataset)> {
    let (train, test) = (dir.join("train"), dir.join("test"));
    let (classes, found) = (folders::classes(&train)?, folders::classes(&test)?);
    if classes != found {
        let (n, m) = (classes.len(), found.len());
        let why = format!("expected the {n} classes of train, found {m} others");
        return Err(file::corrupt(&test, why));
    }
    let (train_set, test_set) =
        (folders::dataset(&train, &classes)?, folders::dataset(&test, &classes)?);
    if train_set.shape() != test_set.shape() {
        let (expected, found) = (train_set.shape(), test_set.shape());
        return Err(file::corrupt(&test, format!("expected shape {expected:?}, found {found:?}")));
    }
    Ok((train_set, test_set))
}
