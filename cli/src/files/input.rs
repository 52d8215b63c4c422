//! Where bytes come from: a file that can be sought, or a stream that cannot.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{BUFFER, BadFile};

/// How many bytes tell every format.
const HEAD: u64 = 16;

/// What to read, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, a named pipe or a device.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<PathBuf> for Input {
    /// `-` is standard input.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::Path(path) }
    }
}

impl Input {
    /// Whether it can be opened a second time: not what arrives once, as from a pipe.
    pub fn reopens(&self) -> bool {
        match self {
            Self::Path(path) => std::fs::metadata(path).is_ok_and(|m| m.is_file() || m.is_dir()),
            Self::Stdin => false,
        }
    }
}

/// Opened bytes, with their position and where they come from.
pub struct Bytes {
    inner: Inner,
    position: u64,
    size: Option<u64>,
    head: Vec<u8>,
    place: PathBuf,
}

enum Inner {
    File(BufReader<File>),
    Stream(BufReader<Box<dyn Read>>),
}

impl Bytes {
    /// Opens a file or standard input and looks at the first bytes.
    pub fn open(input: Input) -> Result<Self> {
        let path = match input {
            Input::Stdin => return Self::stream(io::stdin(), Path::new("standard input")),
            Input::Path(path) => path,
        };
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let metadata = file.metadata().with_context(|| path.display().to_string())?;
        ensure!(!metadata.is_dir(), "{} is a folder, not a file", path.display());
        if metadata.is_file() { Self::file(file, &path) } else { Self::stream(file, &path) }
    }

    /// Bytes of a regular file.
    pub fn file(mut file: File, place: &Path) -> Result<Self> {
        let mut head = Vec::new();
        let size = (&mut file)
            .take(HEAD)
            .read_to_end(&mut head)
            .and_then(|_| file.rewind())
            .and_then(|()| file.metadata())
            .with_context(|| format!("cannot read {}", place.display()))?
            .len();
        let inner = Inner::File(BufReader::with_capacity(BUFFER, file));
        Ok(Self { inner, position: 0, size: Some(size), head, place: place.to_owned() })
    }

    /// Bytes of anything that can only be read forwards; `place` names it in errors.
    pub fn stream(mut stream: impl Read + 'static, place: &Path) -> Result<Self> {
        let mut head = Vec::new();
        (&mut stream)
            .take(HEAD)
            .read_to_end(&mut head)
            .with_context(|| format!("cannot read {}", place.display()))?;
        let whole: Box<dyn Read> = Box::new(Cursor::new(head.clone()).chain(stream));
        let inner = Inner::Stream(BufReader::with_capacity(BUFFER, whole));
        Ok(Self { inner, position: 0, size: None, head, place: place.to_owned() })
    }

    /// The first bytes, at most 16 of them, wherever the position is.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// How many bytes there are; unknown for a stream.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The path, or `standard input`.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Bytes `start..start + len`, called `what` in errors. `last`: nothing may follow them.
    pub(super) fn section(
        &mut self,
        start: u64,
        len: u64,
        last: bool,
        what: String,
    ) -> Result<Section<&mut Self>> {
        self.go_to(start).with_context(|| format!("cannot reach {what}"))?;
        let place = self.place.clone();
        Ok(Section { inner: self, left: len, last, what, place })
    }

    /// Moves to an offset; a stream only moves forwards.
    pub(super) fn go_to(&mut self, offset: u64) -> Result<()> {
        match &mut self.inner {
            Inner::File(file) => {
                // Stays within the buffer when it can, so that many small tensors cost few reads.
                match i64::try_from(i128::from(offset) - i128::from(self.position)) {
                    Ok(distance) => file.seek_relative(distance)?,
                    Err(_) => file.seek(SeekFrom::Start(offset)).map(|_| ())?,
                }
                self.position = offset;
            }
            Inner::Stream(_) => {
                let ahead = offset.checked_sub(self.position).with_context(|| {
                    format!("{} is a stream, it can only be read once", self.place.display())
                })?;
                let skipped = io::copy(&mut self.by_ref().take(ahead), &mut io::sink())?;
                if skipped < ahead {
                    let reason = format!("ends early: {} bytes are missing", ahead - skipped);
                    return Err(BadFile::new(&self.place, reason).into());
                }
            }
        }
        Ok(())
    }

    /// A file with these bytes, at its start; a stream is first copied to a temporary one.
    pub(super) fn into_file(self) -> Result<File> {
        let place = self.place;
        let spool = |mut stream: BufReader<Box<dyn Read>>| {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut stream, &mut file)?;
            Ok(file)
        };
        let file = match self.inner {
            Inner::File(file) => Ok(file.into_inner()),
            Inner::Stream(stream) => spool(stream),
        };
        file.and_then(|mut file: File| file.rewind().map(|()| file))
            .with_context(|| format!("cannot spool {} to a temporary file", place.display()))
    }
}

impl Read for Bytes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.inner {
            Inner::File(file) => file.read(buf),
            Inner::Stream(stream) => stream.read(buf),
        }?;
        self.position += n as u64;
        Ok(n)
    }
}

/// A reader of a known number of bytes, for which too few is an error (and too many, if asked).
pub(super) struct Section<R> {
    pub(super) inner: R,
    pub(super) left: u64,
    pub(super) last: bool,
    pub(super) what: String,
    pub(super) place: PathBuf,
}

/// What a decompressor or a checksum objects to is the fault of the file.
pub(super) fn blame(place: &Path, what: &str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            BadFile::new(place, format!("{what} is damaged: {error}")).into()
        }
        _ => error,
    }
}

impl<R: Read> Section<R> {
    fn bad(&self, reason: String) -> io::Error {
        BadFile::new(&self.place, reason).into()
    }

    fn blame(&self, error: io::Error) -> io::Error {
        blame(&self.place, &self.what, error)
    }

    /// Looks beyond the last byte; a zip entry compares its checksum there.
    fn check_end(&mut self) -> io::Result<()> {
        if self.last && self.left == 0 {
            self.last = false;
            let mut byte = [0];
            loop {
                match self.inner.read(&mut byte) {
                    Ok(0) => break,
                    Ok(_) => return Err(self.bad(format!("bytes follow after {}", self.what))),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.blame(error)),
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Section<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            self.check_end()?;
            return Ok(0);
        }
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.inner.read(&mut buf[..want]).map_err(|e| self.blame(e))?;
        if n == 0 {
            return Err(self.bad(format!("ends early: {} lacks {} bytes", self.what, self.left)));
        }
        self.left -= n as u64;
        self.check_end()?;
        Ok(n)
    }
}

/// Exactly `len` bytes, in memory that grows as they arrive rather than ahead of them; `None` if
/// there are fewer.
pub(super) fn read_small(reader: &mut impl Read, len: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let n = reader.take(len).read_to_end(&mut bytes)?;
    Ok((n as u64 == len).then_some(bytes))
}

/// Whether nothing is left to read.
pub(super) fn is_at_end(bytes: &mut Bytes) -> io::Result<bool> {
    Ok(match &mut bytes.inner {
        Inner::File(file) => file.fill_buf()?.is_empty(),
        Inner::Stream(stream) => stream.fill_buf()?.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(content: &'static [u8], seekable: bool) -> Bytes {
        let place = Path::new("x");
        let file = || {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, content).unwrap();
            file.rewind().unwrap();
            file
        };
        if seekable { Bytes::file(file(), place) } else { Bytes::stream(content, place) }.unwrap()
    }

    fn section(bytes: &mut Bytes, start: u64, len: u64, last: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        bytes.section(start, len, last, "it".into())?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn sections_are_found_in_files_and_streams() {
        for seekable in [false, true] {
            let mut bytes = bytes_of(b"0123456789abcdefghij", seekable);
            assert_eq!(bytes.head(), b"0123456789abcdef");
            assert_eq!(section(&mut bytes, 3, 4, false).unwrap(), b"3456");
            assert_eq!(section(&mut bytes, 15, 5, true).unwrap(), b"fghij");
            assert_eq!(section(&mut bytes, 3, 4, false).is_ok(), seekable);
        }
    }

    #[test]
    fn a_section_that_is_too_short_or_too_long_is_a_bad_file() {
        for seekable in [false, true] {
            for (start, len) in [(0, 21), (0, 19), (20, 1), (18, 0)] {
                let mut bytes = bytes_of(b"0123456789abcdefghij", seekable);
                let error = section(&mut bytes, start, len, true).unwrap_err();
                assert!(BadFile::find(&error).is_some(), "{start} {len}: {error}");
            }
        }
    }

    #[test]
    fn a_stream_can_be_spooled() {
        let mut spooled = String::new();
        let mut file = bytes_of(b"0123456789abcdefghij", false).into_file().unwrap();
        file.read_to_string(&mut spooled).unwrap();
        assert_eq!(spooled, "0123456789abcdefghij");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Bytes::open(Input::from(PathBuf::from("/no/such"))).err().unwrap();
        assert!(error.to_string().contains("/no/such"));
        assert!(error.downcast_ref::<io::Error>().is_some());
        assert_eq!(Input::from(PathBuf::from("-")), Input::Stdin);
    }
}
