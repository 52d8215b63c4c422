//! What can go wrong, and whose fault it is.

use std::fmt;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Who is to blame. One rule decides the kind: the party that has to change something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The world: a file, a pipe or a disk refused.
    Io(std::io::ErrorKind),
    /// The bytes end before the end record of the stream.
    Truncated,
    /// The stream is newer than this reader, or holds something critical it does not know.
    Unsupported {
        /// What the stream asks for.
        found: String,
        /// What this reader knows.
        supported: String,
    },
    /// The bytes contradict FORMAT.md.
    Corrupt,
    /// Decoding would pass a limit that the caller set ([`crate::DecodeOptions::memory`]).
    LimitExceeded {
        /// The limit, in bytes.
        limit: u64,
        /// What would have been needed, in bytes.
        needed: u64,
    },
    /// The caller asked for something that cannot be.
    InvalidArgument,
    /// The device that was asked to code failed ([`crate::Device`]); the source says how. The
    /// processor would give the same bytes.
    Device,
    /// An earlier call on this object failed; it can only be dropped.
    Poisoned,
}

impl ErrorKind {
    fn label(&self) -> &'static str {
        match self {
            Self::Io(_) => "i/o error",
            Self::Truncated => "truncated stream",
            Self::Unsupported { .. } => "unsupported stream",
            Self::Corrupt => "corrupt stream",
            Self::LimitExceeded { .. } => "limit exceeded",
            Self::InvalidArgument => "invalid argument",
            Self::Device => "device error",
            Self::Poisoned => "used after an error",
        }
    }
}

/// An error with its kind, a sentence, and where it happened.
///
/// ```
/// let error = fedpress::decode(b"not a stream", &fedpress::DecodeOptions::default()).unwrap_err();
/// assert_eq!(*error.kind(), fedpress::ErrorKind::Corrupt);
/// assert_eq!(error.offset(), Some(0));
/// ```
#[derive(Debug)]
pub struct Error(Box<Detail>);

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    message: String,
    offset: Option<u64>,
    tensor: Option<String>,
    values_done: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            message: message.into(),
            offset: None,
            tensor: None,
            values_done: None,
            source: None,
        }))
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn truncated(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Truncated, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn unsupported(found: impl Into<String>, supported: impl Into<String>) -> Self {
        let (found, supported) = (found.into(), supported.into());
        let message = format!("found {found}, this reader knows {supported}");
        Self::new(ErrorKind::Unsupported { found, supported }, message)
    }

    pub(crate) fn limit(what: &str, limit: u64, needed: u64) -> Self {
        Self::new(
            ErrorKind::LimitExceeded { limit, needed },
            format!("{what} needs {needed} bytes of memory, the limit is {limit}"),
        )
    }

    pub(crate) fn device(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let mut wrapped = Self::new(ErrorKind::Device, "it could not code a group");
        wrapped.0.source = Some(error);
        wrapped
    }

    pub(crate) fn poisoned() -> Self {
        Self::new(ErrorKind::Poisoned, "an earlier call failed; start again with a new object")
    }

    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    pub(crate) fn after_values(mut self, values: u64) -> Self {
        self.0.values_done = Some(values);
        self
    }

    /// Who is to blame.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Position in the stream, in bytes from the first byte handed in, of the record at fault.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The tensor at fault.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// How many values an interrupted [`crate::TensorReader::add_into`] had already added.
    pub fn values_done(&self) -> Option<u64> {
        self.0.values_done
    }
}

/// A stranger's text in a message: quoted, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &self.0;
        write!(f, "{}: {}", detail.kind.label(), detail.message)?;
        if let Some(name) = &detail.tensor {
            write!(f, ", in tensor {}", quoted(name))?;
        }
        if let Some(offset) = detail.offset {
            write!(f, ", at byte {offset}")?;
        }
        if let Some(values) = detail.values_done {
            write!(f, ", after {values} values were added")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    /// Wraps an i/o error; one that was made from an [`Error`] comes back as that error.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => {
                let mut wrapped = Self::new(ErrorKind::Io(error.kind()), error.to_string());
                wrapped.0.source = Some(Box::new(error));
                wrapped
            }
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Io(kind) => *kind,
            ErrorKind::Truncated => std::io::ErrorKind::UnexpectedEof,
            ErrorKind::InvalidArgument => std::io::ErrorKind::InvalidInput,
            ErrorKind::LimitExceeded { .. } => std::io::ErrorKind::OutOfMemory,
            _ => std::io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_a_round_trip_through_io() {
        let error = Error::corrupt("bad").at(7).in_tensor("w");
        let back = Error::from(std::io::Error::from(error));
        assert_eq!(*back.kind(), ErrorKind::Corrupt);
        assert_eq!(back.offset(), Some(7));
        assert_eq!(back.to_string(), "corrupt stream: bad, in tensor \"w\", at byte 7");
    }
}
