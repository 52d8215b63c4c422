//! Readers on files made by hand, on every truncation of them, and on the real sets where they are.

use super::*;
use fedpress::ErrorKind;
use fedpress_fl::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a file, compressed by its extension.
fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Some("zst") => zstd::bulk::compress(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    };
    std::fs::write(path, bytes).unwrap();
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Three images of 2 x 3, and their labels.
fn idx() -> [Vec<u8>; 2] {
    let mut images = words(&[2051, 3, 2, 3]);
    images.extend(0..18);
    let mut labels = words(&[2049, 3]);
    labels.extend([9, 0, 4]);
    [images, labels]
}

fn put_mnist(dir: &Path, files: &[Vec<u8>; 2], end: &str) {
    put_parts(dir, ["train", "t10k"], files, end);
}

fn put_parts(dir: &Path, parts: [&str; 2], [images, labels]: &[Vec<u8>; 2], end: &str) {
    for part in parts {
        put(dir, &format!("{part}-images-idx3-ubyte{end}"), images);
        put(dir, &format!("{part}-labels-idx1-ubyte{end}"), labels);
    }
}

fn kind(result: fedpress_fl::Result<(Dataset, Dataset)>) -> Result<(), ErrorKind> {
    result.map(drop).map_err(|e: Error| e.kind().clone())
}

#[test]
fn idx_files_are_read_plain_and_compressed() {
    for end in ["", ".gz", ".zst"] {
        let dir = tempfile::tempdir().unwrap();
        put_mnist(dir.path(), &idx(), end);
        let (train, test) = Dataset::open("mnist", dir.path()).unwrap();
        assert_eq!(
            (train.shape(), train.n_classes(), train.labels()),
            ([1, 2, 3], 10, &[9, 0, 4][..])
        );
        assert_eq!(train.image(1), Some(&[6, 7, 8, 9, 10, 11][..]));
        assert_eq!(train, test);
    }
}

#[test]
fn emnist_has_62_classes() {
    let dir = tempfile::tempdir().unwrap();
    let parts = ["emnist-byclass-train", "emnist-byclass-test"];
    let [images, mut labels] = idx();
    *labels.last_mut().unwrap() = 61;
    put_parts(dir.path(), parts, &[images.clone(), labels.clone()], ".gz");
    let (train, test) = Dataset::open("emnist", dir.path()).unwrap();
    assert_eq!((train.n_classes(), train.labels()), (62, &[9, 0, 61][..]));
    assert_eq!(train, test);
    *labels.last_mut().unwrap() = 62;
    put_parts(dir.path(), parts, &[images, labels], ".gz");
    assert_eq!(kind(Dataset::open("emnist", dir.path())), Err(ErrorKind::Corrupt));
}

#[test]
fn every_truncation_and_extension_of_an_idx_file_is_an_error() {
    let whole = idx();
    for which in 0..2 {
        for end in ["", ".gz"] {
            for n in 0..=whole[which].len() {
                let mut files = whole.clone();
                if n < whole[which].len() {
                    files[which].truncate(n)
                } else {
                    files[which].push(0)
                }
                let dir = tempfile::tempdir().unwrap();
                put_mnist(dir.path(), &files, end);
                assert_eq!(
                    kind(Dataset::open("mnist", dir.path())),
                    Err(ErrorKind::Corrupt),
                    "{n}"
                );
            }
        }
    }
}

#[test]
fn idx_headers_are_not_trusted() {
    let [images, labels] = idx();
    let dir = tempfile::tempdir().unwrap();
    let check = |which: usize, offset: usize, word: u32| {
        let mut files = [images.clone(), labels.clone()];
        files[which][offset..offset + 4].copy_from_slice(&word.to_be_bytes());
        put_mnist(dir.path(), &files, "");
        let found = kind(Dataset::open("mnist", dir.path()));
        assert_eq!(found, Err(ErrorKind::Corrupt), "{which} {offset} {word}");
    };
    for word in [0, 1, 2, 2050, 1 << 16, u32::MAX] {
        (0..4).for_each(|i| {
            if !(i == 2 && word == 2) {
                check(0, 4 * i, word)
            }
        });
        (0..2).for_each(|i| check(1, 4 * i, word));
    }
    // A label that is no class.
    check(1, 7, 0x030a_0000);
    // All dimensions at once, so that the product overflows.
    put_mnist(dir.path(), &[words(&[2051, u32::MAX, u32::MAX, u32::MAX]), labels.clone()], "");
    assert_eq!(kind(Dataset::open("mnist", dir.path())), Err(ErrorKind::Corrupt));
}

#[test]
fn damaged_compression_is_an_error() {
    for end in [".gz", ".zst"] {
        let dir = tempfile::tempdir().unwrap();
        put_mnist(dir.path(), &idx(), end);
        let path = dir.path().join(format!("train-images-idx3-ubyte{end}"));
        let whole = std::fs::read(&path).unwrap();
        for n in 0..whole.len() {
            std::fs::write(&path, &whole[..n]).unwrap();
            assert_eq!(kind(Dataset::open("mnist", dir.path())), Err(ErrorKind::Corrupt), "{n}");
        }
        std::fs::write(&path, b"neither").unwrap();
        let error = Dataset::open("mnist", dir.path()).unwrap_err();
        assert!(error.to_string().contains("train-images"), "{error}");
    }
}

#[test]
fn missing_files_and_unknown_names_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Err(ErrorKind::Io(std::io::ErrorKind::NotFound));
    for name in ["mnist", "fashion-mnist", "emnist", "cifar10", "cifar100", "folders"] {
        assert_eq!(kind(Dataset::open(name, dir.path())), missing, "{name}");
    }
    assert_eq!(kind(Dataset::open("imagenet", dir.path())), Err(ErrorKind::InvalidArgument));
}

fn cifar_record(labels: &[u8], first: u8) -> Vec<u8> {
    let pixels = (0..3072u32).map(|i| (i % 251) as u8 ^ first);
    labels.iter().copied().chain(pixels).collect()
}

#[test]
fn cifar_files_are_read_batch_after_batch() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "data_batch_4.bin.zst",
        &[cifar_record(&[7], 4), cifar_record(&[8], 5)].concat(),
    );
    put(dir.path(), "data_batch_2.bin", &cifar_record(&[3], 2));
    put(dir.path(), "test_batch.bin.gz", &cifar_record(&[9], 1));
    let (train, test) = Dataset::open("cifar10", dir.path()).unwrap();
    assert_eq!(
        (train.shape(), train.labels(), test.labels()),
        ([3, 32, 32], &[3, 7, 8][..], &[9][..])
    );
    assert_eq!(train.image(1), Some(&cifar_record(&[], 4)[..]));
    assert_eq!(train.normalisation(), &Normalisation::cifar10());

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "train.bin", &cifar_record(&[19, 99], 1));
    put(dir.path(), "test.bin", &cifar_record(&[255, 0], 1));
    let (train, test) = Dataset::open("cifar100", dir.path()).unwrap();
    assert_eq!((train.labels(), test.labels(), test.n_classes()), (&[99][..], &[0][..], 100));
}

#[test]
fn every_truncation_and_wrong_label_of_a_cifar_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let whole = [cifar_record(&[3], 2), cifar_record(&[4], 2)].concat();
    put(dir.path(), "test_batch.bin", &whole);
    for n in (0..whole.len()).step_by(97).chain([1, 3072, 3074, whole.len() - 1]) {
        put(dir.path(), "data_batch_1.bin", &whole[..n]);
        assert_eq!(kind(Dataset::open("cifar10", dir.path())), Err(ErrorKind::Corrupt), "{n}");
    }
    put(dir.path(), "data_batch_1.bin", &cifar_record(&[10], 2));
    assert_eq!(kind(Dataset::open("cifar10", dir.path())), Err(ErrorKind::Corrupt));
}

fn png_file(colour: png::ColorType, width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(&[1, 2, 3, 4, 5, 6][..]);
    }
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    bytes
}

#[test]
fn folders_of_png_files_are_read_as_rgb() {
    use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    let dir = tempfile::tempdir().unwrap();
    let rgb: Vec<u8> = (0..6).collect();
    put(dir.path(), "train/cat/b.png", &png_file(Rgb, 2, 1, &rgb));
    put(dir.path(), "train/cat/a.png", &png_file(Grayscale, 2, 1, &[8, 9]));
    put(dir.path(), "train/cat/readme.txt", b"passed over");
    put(dir.path(), "train/ant/1.png", &png_file(Rgba, 2, 1, &[1, 2, 3, 255, 4, 5, 6, 0]));
    put(dir.path(), "train/ant/2.png", &png_file(Indexed, 2, 1, &[1, 0]));
    put(dir.path(), "train/ant/3.png", &png_file(GrayscaleAlpha, 2, 1, &[5, 0, 6, 255]));
    put(dir.path(), "test/ant/1.png", &png_file(Rgb, 2, 1, &rgb));
    put(dir.path(), "test/cat/1.png", &png_file(Rgb, 2, 1, &rgb));
    let (train, test) = Dataset::open("folders", dir.path()).unwrap();
    assert_eq!((train.shape(), train.n_classes(), test.labels()), ([3, 1, 2], 2, &[0, 1][..]));
    assert_eq!(train.labels(), [0, 1, 0, 1, 0], "classes take turns");
    let images: Vec<&[u8]> = (0..5).map(|i| train.image(i).unwrap()).collect();
    assert_eq!(images[0], [1, 4, 2, 5, 3, 6]);
    assert_eq!(images[1], [8, 9, 8, 9, 8, 9]);
    assert_eq!(images[2], [4, 1, 5, 2, 6, 3]);
    assert_eq!(images[3], [0, 3, 1, 4, 2, 5]);
    assert_eq!(images[4], [5, 6, 5, 6, 5, 6]);

    put(dir.path(), "test/dog/1.png", &png_file(Rgb, 2, 1, &rgb));
    assert_eq!(kind(Dataset::open("folders", dir.path())), Err(ErrorKind::Corrupt));
}

#[test]
fn damaged_png_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let image = png_file(png::ColorType::Rgb, 2, 2, &[7; 12]);
    put(dir.path(), "train/a/1.png", &image);
    put(dir.path(), "test/a/1.png", &image);
    let end = 12; // IEND, without which an image is still whole
    for n in 0..image.len() - end {
        put(dir.path(), "train/a/2.png", &image[..n]);
        assert_eq!(kind(Dataset::open("folders", dir.path())), Err(ErrorKind::Corrupt), "{n}");
    }
    // Another size, and a header that asks for 2^31 x 2^31 pixels (its checksum is not the fault).
    put(dir.path(), "train/a/2.png", &png_file(png::ColorType::Rgb, 4, 1, &[7; 12]));
    assert_eq!(kind(Dataset::open("folders", dir.path())), Err(ErrorKind::Corrupt));
    let mut huge = image.clone();
    huge[16..24].copy_from_slice(&[0x7f, 255, 255, 255, 0x7f, 255, 255, 255]);
    put(dir.path(), "train/a/1.png", &huge);
    assert_eq!(kind(Dataset::open("folders", dir.path())), Err(ErrorKind::Corrupt));
}

/// The real sets, where the folder with them is there.
fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
    if !path.is_dir() {
        println!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

fn histogram(data: &Dataset) -> Vec<u64> {
    crate::class_counts(data.labels(), &[data.indices()], data.n_classes()).unwrap().concat()
}

#[test]
fn the_real_mnist_sets_are_read() {
    if let Some(dir) = real("mnist-tiny") {
        let (train, test) = Dataset::open("mnist", &dir).unwrap();
        assert_eq!((train.shape(), train.len(), test.len()), ([1, 28, 28], 1000, 200));
        assert_eq!(histogram(&train), [100; 10]);
    }
    if let Some(dir) = real("mnist") {
        let (train, test) = Dataset::open("mnist", &dir).unwrap();
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!(histogram(&test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    }
    if let Some(dir) = real("fashion-mnist") {
        let (train, test) = Dataset::open("fashion-mnist", &dir).unwrap();
        assert_eq!((histogram(&train), histogram(&test)), (vec![6000; 10], vec![1000; 10]));
    }
}

#[test]
fn the_real_cifar_sets_are_read() {
    if let Some(dir) = real("cifar10-tiny") {
        let (train, test) = Dataset::open("cifar10", &dir).unwrap();
        assert_eq!((histogram(&train), histogram(&test)), (vec![100; 10], vec![20; 10]));
    }
    if let Some(dir) = real("cifar100-mini") {
        let (train, test) = Dataset::open("cifar100", &dir).unwrap();
        assert_eq!((histogram(&train), histogram(&test)), (vec![15; 100], vec![5; 100]));
    }
    if let Some(dir) = real("cifar10") {
        let (train, test) = Dataset::open("cifar10", &dir).unwrap();
        assert!(train.len() >= 10_000 && train.len() % 10_000 == 0);
        assert_eq!(histogram(&test), [1000; 10]);
        // Standardised: mean 0 and deviation 1, about.
        let (images, _) = train.batch(&train.indices()[..1000], &crate::cpu()).unwrap();
        let values = images.try_into_vec_as::<f32>().unwrap();
        let n = values.len() as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.1 && (square - 1.0).abs() < 0.1, "{mean} {square}");
    }
}
