//! The error of this crate: the codec's kinds, and where in a federation it happened.

use fedpress::ErrorKind;
use std::fmt;

/// What this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Something went wrong. [`kind`](Self::kind) says whose fault it is, by the codec's rules; what a
/// client did wrong is not an error but a [`Rejection`](crate::Rejection), and the round goes on.
#[derive(Debug)]
pub struct Error(Box<Detail>);

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    message: String,
    parameter: Option<String>,
    source: Option<fedpress::Error>,
    is_divergence: bool,
    is_overlap: bool,
    is_out_of_step: bool,
}

/// Constructors are for crates that build on this one, so that they need no error type of their own.
impl Error {
    /// Of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Detail {
            kind,
            message,
            parameter: None,
            source: None,
            is_divergence: false,
            is_overlap: false,
            is_out_of_step: false,
        }))
    }

    /// The caller's mistake.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Bytes that contradict what they should be.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// What this reader does not know, as it stands in `place`.
    pub(crate) fn unsupported(place: &str, found: String, supported: &str) -> Self {
        let message = format!("{place}: found {found}, this reader knows {supported}");
        Self::new(ErrorKind::Unsupported { found, supported: supported.to_owned() }, message)
    }

    /// The parameter it is about.
    #[must_use]
    pub fn in_parameter(mut self, name: &str) -> Self {
        self.0.parameter.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The world's mistake, and the file it is about.
    pub(crate) fn io(path: &std::path::Path, error: std::io::Error) -> Self {
        Self::from(fedpress::Error::from(error)).in_file(path)
    }

    /// The file it is about.
    pub(crate) fn in_file(mut self, path: &std::path::Path) -> Self {
        let before = match self.0.message.is_empty() {
            true => path.display().to_string(),
            false => format!("{}: {}", path.display(), self.0.message),
        };
        self.0.message = before;
        self
    }

    /// Who is to blame.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Training that left the numbers there are: the caller's mistake, as a rule too high a learning
    /// rate.
    pub fn divergence(message: String) -> Self {
        let mut error = Self::invalid(message);
        error.0.is_divergence = true;
        error
    }

    /// Whether it is that training diverged, which is one client's matter in a federation.
    pub fn is_divergence(&self) -> bool {
        self.0.is_divergence
    }

    /// One client in the sums of two aggregators, which cannot be added then.
    pub(crate) fn overlap(client: u64) -> Self {
        let mut error = Self::invalid(format!("client {client} was folded by both"));
        error.0.is_overlap = true;
        error
    }

    /// Whether it is that one client was folded by two aggregators: leaves of a tree whose clients are
    /// not disjoint.
    pub fn is_overlap(&self) -> bool {
        self.0.is_overlap
    }

    /// A client and its server that disagree on what the client holds.
    pub(crate) fn out_of_step(message: String) -> Self {
        let mut error = Self::corrupt(message);
        error.0.is_out_of_step = true;
        error
    }

    /// Whether it is that a [`Replica`](crate::Replica) and the server disagree on what the client holds: the
    /// server is to be told, and to [forget](crate::Coordinator::forget) it.
    pub fn is_out_of_step(&self) -> bool {
        self.0.is_out_of_step
    }

    /// The parameter or tensor it is about.
    pub fn parameter(&self) -> Option<&str> {
        self.0.parameter.as_deref().or_else(|| self.0.source.as_ref()?.tensor())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.0.parameter {
            write!(f, "parameter {name:?}: ")?;
        }
        match &self.0.source {
            Some(source) if self.0.message.is_empty() => write!(f, "{source}"),
            Some(source) => write!(f, "{}: {source}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Already part of the message; what lies behind it is not.
        std::error::Error::source(self.0.source.as_ref()?)
    }
}

impl From<fedpress::Error> for Error {
    fn from(source: fedpress::Error) -> Self {
        let kind = source.kind().clone();
        Self(Box::new(Detail {
            kind,
            message: String::new(),
            parameter: None,
            source: Some(source),
            is_divergence: false,
            is_overlap: false,
            is_out_of_step: false,
        }))
    }
}
