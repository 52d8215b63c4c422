//! The preamble of a stream: magic and version.

use crate::{Error, Result};

/// High bit, name, and the line ends that a text-mode transfer would change.
pub(crate) const MAGIC: [u8; 8] = [0x89, b'F', b'D', b'P', 0x0d, 0x0a, 0x1a, 0x0a];

/// (major, minor) that this crate writes. Under major 0 a reader reads its own minor only.
pub(crate) const VERSION: (u8, u8) = (0, 2);
/// The same in words.
pub(crate) const VERSION_TEXT: &str = "0.2";

/// Magic and version.
pub(crate) const PREAMBLE_LEN: usize = 10;

/// Whether bytes start like a stream of any version; eight bytes are enough to tell.
///
/// ```
/// assert!(fedpress::is_stream(b"\x89FDP\r\n\x1a\n\x00\x02 and so on"));
/// assert!(!fedpress::is_stream(b"PK\x03\x04"));
/// ```
pub fn is_stream(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

pub(crate) fn preamble() -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&[VERSION.0, VERSION.1]);
    bytes
}

/// Checks as much of a preamble as there is, so that what is not a stream is refused at once.
pub(crate) fn check_preamble(bytes: &[u8]) -> Result<()> {
    let n = bytes.len().min(8);
    if bytes[..n] != MAGIC[..n] {
        let text_mode = "; a text-mode transfer may have changed it";
        let hint = if bytes.starts_with(b"\x89FDP") { text_mode } else { "" };
        return Err(Error::corrupt(format!("not a fedpress stream: wrong magic{hint}")));
    }
    match bytes.get(8..PREAMBLE_LEN) {
        Some(&[major, minor]) if (major, minor) != VERSION => Err(Error::unsupported(
            format!("format version {major}.{minor}"),
            format!("version {}.{}", VERSION.0, VERSION.1),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preamble_is_that_of_the_format() {
        assert_eq!(preamble(), *b"\x89FDP\r\n\x1a\n\x00\x02");
    }

    #[test]
    fn other_versions_are_unsupported_and_text_mode_is_noticed() {
        let mut bytes = preamble();
        bytes[9] = 3;
        let error = check_preamble(&bytes).unwrap_err();
        assert!(
            matches!(error.kind(), crate::ErrorKind::Unsupported { found, .. } if found.ends_with("0.3"))
        );
        let error = check_preamble(b"\x89FDP\n\x1a\n").unwrap_err();
        assert!(error.to_string().contains("text-mode"));
    }
}
