//! IDX, the format of MNIST and its kin: big-endian u32 magic and dimensions, then bytes.

use super::Dataset;
use super::file::{corrupt, read};
use fedpress_fl::{Error, Result};
use std::path::Path;

/// Unsigned bytes, three dimensions.
const IMAGES: u32 = 0x0803;
/// Unsigned bytes, one dimension.
const LABELS: u32 = 0x0801;

/// A grey data set from its two files.
pub(super) fn dataset(images: &Path, labels: &Path, n_classes: usize) -> Result<Dataset> {
    let pixels = read(images)?;
    let ([count, rows, columns], pixels) =
        parse::<3>(&pixels, IMAGES).map_err(|why| corrupt(images, why))?;
    let classes = read(labels)?;
    let ([n_labels], classes) = parse::<1>(&classes, LABELS).map_err(|why| corrupt(labels, why))?;
    if count != n_labels {
        return Err(corrupt(labels, format!("expected {count} labels, found {n_labels}")));
    }
    let classes = classes.iter().map(|x| u16::from(*x)).collect();
    Dataset::new([1, rows, columns], n_classes, pixels.to_vec(), classes)
        .map_err(|e| Error::corrupt(format!("{}: {e}", images.display())))
}

/// Dimensions and contents: exactly as many bytes as the dimensions say.
fn parse<const N: usize>(
    bytes: &[u8],
    magic: u32,
) -> std::result::Result<([usize; N], &[u8]), String> {
    let words: Vec<u32> = bytes
        .chunks_exact(4)
        .take(N + 1)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let header = 4 * (N + 1);
    let (Some((found, sizes)), Some(contents)) = (words.split_first(), bytes.get(header..)) else {
        return Err(format!("expected a header of {header} bytes, found {}", bytes.len()));
    };
    if *found != magic {
        return Err(format!("expected magic {magic:#010x}, found {found:#010x}"));
    }
    let sizes: [usize; N] = std::array::from_fn(|i| sizes[i] as usize);
    let expected = sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    if expected != Some(contents.len()) {
        let found = contents.len();
        return Err(format!("expected {sizes:?} bytes behind the header, found {found}"));
    }
    Ok((sizes, contents))
}
