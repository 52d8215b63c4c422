//! Ctrl-C: temporary files go before the process does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exit::INTERRUPTED;

/// How far the output is.
static STATE: Mutex<State> = Mutex::new(State::Temporary(Vec::new()));

enum State {
    /// These files are to be removed.
    Temporary(Vec<PathBuf>),
    /// The output is complete and has its name.
    Complete,
    /// Work that saves itself when it is asked to stop.
    #[cfg(feature = "train")]
    Asking,
}

/// How long the process may take to end by itself once its output is complete.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whoever holds this creates, removes or renames temporary files without being interrupted.
pub struct Uninterrupted(MutexGuard<'static, State>);

impl Uninterrupted {
    /// Waits for a moment in which nothing is being removed.
    pub fn begin() -> Self {
        Self(STATE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This file is to be removed on an interrupt, too.
    pub fn guard(&mut self, path: &Path) {
        self.0.guard(path);
    }

    /// That file is no longer; `complete`: it has its final name.
    pub fn release(&mut self, path: &Path, complete: bool) {
        self.0.release(path, complete);
    }
}

impl State {
    fn guard(&mut self, path: &Path) {
        match self {
            Self::Temporary(paths) => paths.push(path.to_owned()),
            state => *state = Self::Temporary(vec![path.to_owned()]),
        }
    }

    fn release(&mut self, path: &Path, complete: bool) {
        if let Self::Temporary(paths) = self {
            paths.retain(|other| other != path);
            if complete && paths.is_empty() {
                *self = Self::Complete;
            }
        }
    }
}

/// Whether work that saves itself was asked to stop.
#[cfg(feature = "train")]
static STOP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// From here on the first signal asks to stop, by the flag, and the second ends the process.
#[cfg(feature = "train")]
pub fn finish_first() -> &'static std::sync::atomic::AtomicBool {
    *Uninterrupted::begin().0 = State::Asking;
    &STOP
}

/// From here on SIGINT, SIGTERM and SIGHUP remove the temporary file and end the process.
///
/// Not under `nohup`, where there is no way to listen for the first two alone: better a temporary
/// file that stays than a job that ends with its terminal.
pub fn install() -> Result<()> {
    if hangup_is_ignored() {
        return Ok(());
    }
    let handler = || {
        let last = Uninterrupted::begin();
        match &*last.0 {
            State::Temporary(paths) => {
                paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
            }
            #[cfg(feature = "train")]
            State::Asking => {
                // Who asks twice does not want to wait.
                if !STOP.swap(true, std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
            }
            State::Complete => {
                // Too late to stop anything; what is left is to say so, unless nobody listens.
                drop(last);
                std::thread::sleep(LAST_WORDS);
                std::process::exit(i32::from(INTERRUPTED));
            }
        }
        // Still held, so that nothing is created or renamed any more.
        std::process::exit(i32::from(INTERRUPTED));
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// Whether whoever started this process wants it to outlive its terminal.
fn hangup_is_ignored() -> bool {
    const SIGHUP: u64 = 1;
    // Elsewhere than on Linux nobody says.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_all_that_has_no_name_yet() {
        let [a, b, c] = ["a", "b", "c"].map(Path::new);
        let mut state = State::Temporary(Vec::new());
        [a, b, c].into_iter().for_each(|path| state.guard(path));
        let left = |state: &State| match state {
            State::Temporary(paths) => paths.clone(),
            _ => panic!("nothing is left"),
        };
        assert_eq!(left(&state), [a, b, c]);
        state.release(b, true);
        assert_eq!(left(&state), [a, c]);
        state.release(a, true);
        state.release(c, true);
        assert!(matches!(state, State::Complete));
        state.guard(a);
        state.release(a, false);
        assert!(left(&state).is_empty());
    }
}
