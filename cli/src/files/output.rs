//! Where bytes go: a file that can be patched, or a stream that cannot.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use anyhow::{Context, Result, bail, ensure};

use super::ahead::Ahead;
use super::{BUFFER, TensorInfo, byte_len};

/// What a patchable output can do.
pub trait WriteSeek: Write + Seek {}

impl<T: Write + Seek> WriteSeek for T {}

/// A buffered output.
pub enum Output<'a> {
    /// Bytes already written can be replaced.
    Seekable(Box<dyn WriteSeek + 'a>),
    /// Bytes only ever follow each other.
    Stream(Box<dyn Write + 'a>),
}

impl<'a> Output<'a> {
    /// An opened file, such as `NamedTempFile::as_file`; a pipe or a device becomes a stream.
    pub fn file(file: &'a File) -> Result<Self> {
        let is_file = file.metadata().context("cannot look at the output file")?.is_file();
        Ok(if is_file { Self::seekable(Ahead::new(file)) } else { Self::stream(file) })
    }

    /// Anything that can seek.
    pub fn seekable(writer: impl Write + Seek + 'a) -> Self {
        Self::Seekable(Box::new(BufWriter::with_capacity(BUFFER, writer)))
    }

    /// Anything that cannot. Standard output is best given as a `File` made of its descriptor:
    /// `Stdout` looks for line ends in all that passes.
    pub fn stream(writer: impl Write + 'a) -> Self {
        Self::Stream(Box::new(BufWriter::with_capacity(BUFFER, writer)))
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Seekable(w) => w.write(bytes),
            Self::Stream(w) => w.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Seekable(w) => w.flush(),
            Self::Stream(w) => w.flush(),
        }
    }
}

/// Holds what is written to what was announced.
pub(super) struct Ledger {
    infos: Vec<TensorInfo>,
    done: usize,
    written: Option<u64>,
}

impl Ledger {
    pub(super) fn new(infos: &[TensorInfo]) -> Self {
        Self { infos: infos.to_vec(), done: 0, written: None }
    }

    /// The only tensor, for a format that holds exactly one.
    pub(super) fn of_one(infos: &[TensorInfo], format: &str) -> Result<Self> {
        let n = infos.len();
        ensure!(n == 1, "{format} holds exactly one tensor, not {n}: choose one, or write npz");
        Ok(Self::new(infos))
    }

    /// Every tensor of a format whose header comes before the data is known.
    pub(super) fn of_closed(infos: &[TensorInfo], format: &str) -> Result<Self> {
        if let Some(info) = infos.iter().find(|info| info.open) {
            bail!(
                "tensor {:?} has an open first dimension, and {format} wants the shape before the \
                 data: write raw, or npy to a file",
                info.name
            );
        }
        Ok(Self::new(infos))
    }

    pub(super) fn begin(&mut self, info: &TensorInfo) -> Result<()> {
        ensure!(self.written.is_none(), "tensor {:?} begins inside another", info.name);
        ensure!(
            self.infos.get(self.done) == Some(info),
            "tensor {:?} is not the one announced at place {}",
            info.name,
            self.done
        );
        self.written = Some(0);
        Ok(())
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.written.as_mut().context("bytes outside of a tensor")?;
        *written += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn end(&mut self, final_shape: &[u64]) -> Result<()> {
        let written = self.written.take().context("an end outside of a tensor")?;
        let info = &self.infos[self.done];
        let (name, announced, open) = (&info.name, &info.shape, info.open);
        ensure!(
            final_shape == announced
                || (open
                    && final_shape.len() == announced.len()
                    && final_shape.get(1..) == announced.get(1..)),
            "tensor {name:?} ends with shape {final_shape:?}, announced was {announced:?}"
        );
        let wanted = byte_len(info.dtype, final_shape);
        ensure!(
            wanted == Some(written),
            "tensor {name:?} of shape {final_shape:?} has {written} bytes, not {wanted:?}"
        );
        self.done += 1;
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<()> {
        ensure!(self.written.is_none(), "a tensor has no end");
        let (done, all) = (self.done, self.infos.len());
        ensure!(done == all, "only {done} of {all} tensors were written");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedpress::DType;

    fn info(open: bool) -> TensorInfo {
        TensorInfo {
            name: "w".into(),
            dtype: DType::F16,
            shape: vec![if open { 0 } else { 2 }, 3],
            open,
        }
    }

    #[test]
    fn a_ledger_accepts_what_was_announced() {
        for open in [false, true] {
            let mut ledger = Ledger::new(&[info(open)]);
            ledger.begin(&info(open)).unwrap();
            ledger.add(&[0; 7]).unwrap();
            ledger.add(&[0; 5]).unwrap();
            ledger.end(&[2, 3]).unwrap();
            ledger.finish().unwrap();
        }
    }

    #[test]
    fn a_ledger_refuses_everything_else() {
        let mut ledger = Ledger::new(&[info(false)]);
        assert!(ledger.add(&[0]).is_err());
        assert!(ledger.end(&[2, 3]).is_err());
        assert!(ledger.finish().is_err());
        assert!(ledger.begin(&info(true)).is_err());
        ledger.begin(&info(false)).unwrap();
        assert!(ledger.begin(&info(false)).is_err());
        assert!(ledger.finish().is_err());
        ledger.add(&[0; 11]).unwrap();
        assert!(ledger.end(&[2, 3]).is_err());

        let mut open = Ledger::new(&[info(true)]);
        open.begin(&info(true)).unwrap();
        open.add(&[0; 8]).unwrap();
        assert!(open.end(&[2, 2]).is_err());
    }
}
