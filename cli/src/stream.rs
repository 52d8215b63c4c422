//! Compressed streams as inputs.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files::Input;

/// An opened stream.
pub enum Stream {
    /// Can be sought, so headers can be read ahead.
    File(File),
    /// Can be read once.
    Pipe(Box<dyn Read>),
}

impl Stream {
    /// Opens a file, a pipe or standard input.
    pub fn open(input: &Input) -> Result<Self> {
        let path = match input {
            Input::Stdin => return Ok(Self::Pipe(Box::new(io::stdin()))),
            Input::Path(path) => path,
        };
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let metadata = file.metadata().with_context(|| path.display().to_string())?;
        if metadata.is_dir() {
            bail!(crate::exit::Usage::new(format!("{} is a folder, not a file", path.display())));
        }
        Ok(if metadata.is_file() { Self::File(file) } else { Self::Pipe(Box::new(file)) })
    }

    /// A file with these bytes; a pipe is first copied to a temporary one.
    pub fn into_file(self) -> Result<File> {
        match self {
            Self::File(file) => Ok(file),
            Self::Pipe(pipe) => spool(pipe),
        }
    }

    /// Whatever it is, from here to its end.
    pub fn into_reader(self) -> Box<dyn Read> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Pipe(pipe) => pipe,
        }
    }
}

/// How messages call an input.
pub fn name_of(input: &Input) -> String {
    match input {
        Input::Path(path) => path.display().to_string(),
        Input::Stdin => "-".into(),
    }
}

/// The place of an input for the file layer.
pub fn place_of(input: &Input) -> &Path {
    match input {
        Input::Path(path) => path,
        Input::Stdin => Path::new("standard input"),
    }
}

/// Copies a pipe to a temporary file, which has no name and vanishes with the process.
pub fn spool(mut pipe: impl Read) -> Result<File> {
    let mut copy = || -> io::Result<File> {
        let mut file = tempfile::tempfile()?;
        io::copy(&mut pipe, &mut file)?;
        file.rewind()?;
        Ok(file)
    };
    copy().context("cannot copy the input to a temporary file")
}
