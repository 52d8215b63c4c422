//! Files as bytes, plain or compressed, bounded by what was read and never by what a header says.

use fedpress::ErrorKind;
use fedpress_fl::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No data set here is as large; a compressed file that grows beyond is refused.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// An I/O error with its path.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io(error.kind()), format!("{}: {error}", path.display()))
}

/// A file that is not what it should be.
pub(super) fn corrupt(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("{}: {why}", path.display()))
}

/// `dir/name`, or the same with `.gz` or `.zst`, whichever is there.
pub(super) fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    ["", ".gz", ".zst"]
        .into_iter()
        .map(|end| dir.join(format!("{name}{end}")))
        .find(|p| p.is_file())
}

/// [`find`], where it has to be there.
pub(super) fn need(dir: &Path, name: &str) -> Result<PathBuf> {
    find(dir, name).ok_or_else(|| {
        let kind = ErrorKind::Io(std::io::ErrorKind::NotFound);
        let path = dir.join(name);
        Error::new(kind, format!("{}: not found, nor with .gz or .zst", path.display()))
    })
}

/// The bytes of a file, decompressed by its extension (`.gz`, `.zst`).
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    let (mut bytes, extension) = (Vec::new(), path.extension().and_then(|e| e.to_str()));
    let read = match extension {
        Some("gz") => {
            let decoder = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file));
            decoder.take(MAX_BYTES + 1).read_to_end(&mut bytes)
        }
        Some("zst") => zstd::stream::read::Decoder::new(file)
            .and_then(|decoder| decoder.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
        _ => file.take(MAX_BYTES + 1).read_to_end(&mut bytes),
    };
    let compressed = matches!(extension, Some("gz" | "zst"));
    match read {
        Ok(n) if n as u64 > MAX_BYTES => {
            Err(corrupt(path, format!("more than {MAX_BYTES} bytes, decompressed")))
        }
        Ok(_) => Ok(bytes),
        Err(e) if compressed => Err(corrupt(path, format!("does not decompress: {e}"))),
        Err(e) => Err(failed(path, &e)),
    }
}
