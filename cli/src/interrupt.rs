//! Ctrl-C: the temporary file goes before the process does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use crate::exit::INTERRUPTED;

/// The file to remove.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whoever holds this creates, removes or renames the temporary file without being interrupted.
pub struct Uninterrupted(MutexGuard<'static, Option<PathBuf>>);

impl Uninterrupted {
    /// Waits for a moment in which nothing is being removed.
    pub fn begin() -> Self {
        Self(TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This file is to be removed on an interrupt.
    pub fn guard(&mut self, path: &Path) {
        *self.0 = Some(path.to_owned());
    }

    /// No file is.
    pub fn release(&mut self) {
        *self.0 = None;
    }
}

/// From here on SIGINT, SIGTERM and SIGHUP remove the temporary file and end the process.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        // Kept until the end, so that nothing is created or renamed any more.
        let mut last = Uninterrupted::begin();
        if let Some(path) = last.0.take() {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(i32::from(INTERRUPTED));
    })
    .context("cannot listen for Ctrl-C")
}
