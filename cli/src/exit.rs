//! Exit codes: what each error means to a script.

use std::fmt;
use std::io;

use anyhow::Result;
use fedpress::ErrorKind;

use crate::console::Console;
use crate::files::BadFile;

/// How a command ended that did not break off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// The answer is no: a file failed verification, or two files hold different tensors.
    Failed,
}

/// The exit codes and their meaning; printed in the manual.
pub const CODES: [(u8, &str); 8] = [
    (OK, "done"),
    (
        FAILED,
        "verification failed, the files differ in structure, or the data cannot be encoded as asked (NaN in a lossy tensor)",
    ),
    (USAGE, "wrong arguments"),
    (CORRUPT, "the input is corrupt or ends too early"),
    (UNSUPPORTED, "the input is of a version or kind that this program does not read"),
    (IO, "input, output or the device failed; silently when the reader of a pipe has gone away"),
    (LIMIT, "more memory would be needed than --memory-limit allows"),
    (INTERRUPTED, "stopped by Ctrl-C or a request to terminate; temporary files are removed"),
];

const OK: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CORRUPT: u8 = 3;
const UNSUPPORTED: u8 = 4;
const IO: u8 = 5;
const LIMIT: u8 = 6;
/// 128 plus the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// A mistake on the command line that clap cannot see.
#[derive(Debug)]
pub struct Usage(String);

impl Usage {
    /// Says what to change.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An input of a kind that is not read.
#[derive(Debug)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this input cannot be read")
    }
}

impl std::error::Error for Unsupported {}

/// The user stopped it, and it ended in good order.
#[cfg(feature = "train")]
#[derive(Debug)]
pub struct Interrupted(pub String);

#[cfg(feature = "train")]
impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "train")]
impl std::error::Error for Interrupted {}

/// Marks an error of the file layer that has no other mark: a file it refuses to read.
pub fn refused(error: anyhow::Error) -> anyhow::Error {
    if code(&error) == FAILED { error.context(Unsupported) } else { error }
}

/// The same for one that is asked to hold what it cannot: another has to be chosen.
pub fn unfit(error: anyhow::Error) -> anyhow::Error {
    if code(&error) == FAILED { Usage::new(format!("{error:#}")).into() } else { error }
}

/// Says what went wrong and turns it into an exit code.
pub fn report(result: Result<Outcome>, console: &Console) -> u8 {
    match result {
        Ok(Outcome::Done) => OK,
        Ok(Outcome::Failed) => FAILED,
        Err(error) => {
            if !is_closed_pipe(&error) {
                console.error(&error);
            }
            code(&error)
        }
    }
}

/// Prints what the parser of the command line answers by itself: help, the version, or what is wrong
/// with the arguments.
pub fn answered(answer: &clap::Error) -> u8 {
    match answer.print() {
        Ok(()) if answer.use_stderr() => USAGE,
        Ok(()) => OK,
        Err(_) => IO,
    }
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    if BadFile::find(error).is_some() {
        return CORRUPT;
    }
    if error.downcast_ref::<Unsupported>().is_some() {
        return UNSUPPORTED;
    }
    error.chain().find_map(code_of).unwrap_or(FAILED)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<Usage>() || cause.is::<crate::submodel::NoLayout>() {
        return Some(USAGE);
    }
    #[cfg(feature = "train")]
    if cause.is::<Interrupted>() {
        return Some(INTERRUPTED);
    }
    if let Some(error) = cause.downcast_ref::<fedpress_fl::Error>() {
        // What the federated layer refuses is what it was told.
        let code = code_of_kind(error.kind());
        return Some(if code == FAILED { USAGE } else { code });
    }
    if let Some(error) = cause.downcast_ref::<fedpress::Error>() {
        return Some(code_of_kind(error.kind()));
    }
    #[cfg(feature = "cuda")]
    if cause.is::<fedpress_cuda::Error>() {
        return Some(IO);
    }
    let io = cause.downcast_ref::<io::Error>()?;
    let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<fedpress::Error>());
    // Not of the operating system, but of a decompressor that lacks a method.
    let is_lacking = io.kind() == io::ErrorKind::Unsupported && io.raw_os_error().is_none();
    let otherwise = if is_lacking { UNSUPPORTED } else { IO };
    Some(inner.map_or(otherwise, |error| code_of_kind(error.kind())))
}

fn code_of_kind(kind: &ErrorKind) -> u8 {
    match kind {
        ErrorKind::Io(_) | ErrorKind::Device => IO,
        ErrorKind::Truncated | ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Unsupported { .. } => UNSUPPORTED,
        ErrorKind::LimitExceeded { .. } => LIMIT,
        _ => FAILED,
    }
}

/// Whether the reader of a pipe has gone away, which is nothing to complain about.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let own = cause.downcast_ref::<fedpress::Error>().map(fedpress::Error::kind);
        io == Some(io::ErrorKind::BrokenPipe)
            || own == Some(&ErrorKind::Io(io::ErrorKind::BrokenPipe))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_cause_has_its_code_wherever_it_hides() {
        let corrupt = || fedpress::decode(b"nothing", &fedpress::DecodeOptions::default());
        let io = || io::Error::new(io::ErrorKind::StorageFull, "full");
        let bad = || BadFile::new(Path::new("x"), "bad");
        for (error, expected) in [
            (anyhow::anyhow!("plain"), FAILED),
            (Usage::new("flag").into(), USAGE),
            (corrupt().unwrap_err().into(), CORRUPT),
            (io::Error::from(corrupt().unwrap_err()).into(), CORRUPT),
            (bad().into(), CORRUPT),
            (io::Error::from(bad()).into(), CORRUPT),
            (io().into(), IO),
            (fedpress::Error::from(io()).into(), IO),
            (refused(anyhow::anyhow!("a pickle")), UNSUPPORTED),
            (io::Error::new(io::ErrorKind::Unsupported, "method 99").into(), UNSUPPORTED),
            (unfit(anyhow::anyhow!("two of a name")), USAGE),
            (unfit(io().into()), IO),
            (refused(io().into()), IO),
        ] {
            assert_eq!(code(&error.context("outside")), expected);
        }
    }

    #[test]
    fn a_closed_pipe_is_noticed() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&closed().into()));
        assert!(is_closed_pipe(&anyhow::Error::from(fedpress::Error::from(closed())).context("x")));
        assert!(!is_closed_pipe(&io::Error::from(io::ErrorKind::NotFound).into()));
    }
}
