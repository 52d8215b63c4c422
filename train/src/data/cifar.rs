//! CIFAR-10 and CIFAR-100 in their binary form: records of label bytes and 3 x 32 x 32 pixels.

use super::Dataset;
use super::file::{corrupt, read};
use fedpress_fl::Result;
use std::path::{Path, PathBuf};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// A data set from its files, one after the other. A record starts with `label_bytes` bytes, of
/// which the last is the class: 1 for CIFAR-10, 2 (coarse, fine) for CIFAR-100.
pub(super) fn dataset(paths: &[PathBuf], label_bytes: usize, n_classes: usize) -> Result<Dataset> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        append(path, label_bytes, n_classes, &mut images, &mut labels)?;
    }
    Dataset::new(SHAPE, n_classes, images, labels)
}

fn append(
    path: &Path,
    label_bytes: usize,
    n_classes: usize,
    images: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<()> {
    let (bytes, record) = (read(path)?, label_bytes + PIXELS);
    if bytes.is_empty() || bytes.len() % record != 0 {
        let n = bytes.len();
        return Err(corrupt(path, format!("expected records of {record} bytes, found {n} bytes")));
    }
    for (i, record) in bytes.chunks_exact(record).enumerate() {
        let (head, pixels) = record.split_at(label_bytes);
        let label = head.last().copied().unwrap_or_default();
        if usize::from(label) >= n_classes {
            return Err(corrupt(
                path,
                format!("record {i}: expected a label below {n_classes}, found {label}"),
            ));
        }
        labels.push(u16::from(label));
        images.extend_from_slice(pixels);
    }
    Ok(())
}
