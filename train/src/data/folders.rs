//! Folders of PNG files, one for each class: the form of CINIC-10 and of home-made sets.

use super::Dataset;
use super::file::{MAX_BYTES, corrupt, failed};
use fedpress_fl::Result;
use png::{ColorType, Decoder, Limits, Transformations};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// An image is not larger, either way.
const MAX_SIDE: u32 = 4096;

/// The classes of a data set: the folders in `dir`, sorted by name.
pub(super) fn classes(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in entries(dir)? {
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if path.is_dir() => names.push(name.to_owned()),
            _ => {}
        }
    }
    if names.is_empty() || names.len() > usize::from(u16::MAX) {
        let n = names.len();
        return Err(corrupt(dir, format!("expected 1 to 65535 folders of classes, found {n}")));
    }
    Ok(names)
}

/// The images in `dir/CLASS/*.png`, all as RGB and of one size; other files are passed over. Classes
/// take turns, each by name, so that the first examples are of all of them.
pub(super) fn dataset(dir: &Path, classes: &[String]) -> Result<Dataset> {
    let mut paths = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let is_png = |path: &PathBuf| path.extension().and_then(|e| e.to_str()) == Some("png");
        let found = entries(&dir.join(class))?.into_iter().filter(is_png).enumerate();
        paths.extend(found.map(|(turn, path)| (turn, label as u16, path)));
    }
    paths.sort();
    let (mut images, mut labels, mut size) = (Vec::new(), Vec::new(), None);
    for (_, label, path) in paths {
        let found = append(&path, size, &mut images).map_err(|why| corrupt(&path, why))?;
        size = Some(found);
        labels.push(label);
        if images.len() as u64 > MAX_BYTES {
            return Err(corrupt(dir, format!("more than {MAX_BYTES} bytes, decompressed")));
        }
    }
    let (width, height) = size.ok_or_else(|| corrupt(dir, "expected PNG files, found none"))?;
    Dataset::new([3, height as usize, width as usize], classes.len(), images, labels)
}

/// What is in a folder, sorted, so that indices do not depend on the file system.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(dir).map_err(|e| failed(dir, &e))?;
    let paths: std::io::Result<Vec<PathBuf>> = listed.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|e| failed(dir, &e))?;
    paths.sort();
    Ok(paths)
}

/// Appends one image, plane by plane; gives its width and height, which have to be `size`.
fn append(
    path: &Path,
    size: Option<(u32, u32)>,
    out: &mut Vec<u8>,
) -> std::result::Result<(u32, u32), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let file = BufReader::new(File::open(path).map_err(|e| text(&e))?);
    let mut decoder = Decoder::new_with_limits(file, Limits { bytes: 1 << 28 });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let info = decoder.read_header_info().map_err(|e| text(&e))?;
    let found = (info.width, info.height);
    if size.is_some_and(|size| size != found) || found.0.max(found.1) > MAX_SIDE {
        let expected = match size {
            Some((width, height)) => format!("{width} x {height} like the ones before"),
            None => format!("at most {MAX_SIDE} x {MAX_SIDE}"),
        };
        return Err(format!("expected {expected}, found {} x {}", found.0, found.1));
    }
    let mut reader = decoder.read_info().map_err(|e| text(&e))?;
    let bytes = reader.output_buffer_size().ok_or("too large")?;
    let mut pixels = vec![0; bytes];
    let frame = reader.next_frame(&mut pixels).map_err(|e| text(&e))?;
    // Where red, green and blue are, and how many bytes a pixel has.
    let (offsets, step) = match frame.color_type {
        ColorType::Grayscale => ([0, 0, 0], 1),
        ColorType::GrayscaleAlpha => ([0, 0, 0], 2),
        ColorType::Rgb => ([0, 1, 2], 3),
        ColorType::Rgba => ([0, 1, 2], 4),
        ColorType::Indexed => return Err("expected colours, found palette indices".to_owned()),
    };
    for offset in offsets {
        out.extend(pixels.chunks_exact(step).map(|pixel| pixel[offset]));
    }
    Ok(found)
}
