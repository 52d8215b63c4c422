//! A file that goes to the disk while more is written to it, so that little is left to wait for at its end.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::thread::{Builder, JoinHandle};

/// Bytes after which what was written is sent to the disk; smaller files wait for their end.
const STRETCH: u64 = 64 << 20;

/// A file that is written front to back.
pub(super) struct Ahead<'a> {
    file: &'a File,
    stretch: u64,
    /// Bytes that were not sent yet.
    waiting: u64,
    /// What is on its way.
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, stretch: STRETCH, waiting: 0, under_way: None }
    }

    /// Sends what was written; not while something else is on its way.
    fn send(&mut self) -> io::Result<()> {
        if self.under_way.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.arrive()?;
        let file = self.file.try_clone()?;
        self.under_way = Some(Builder::new().spawn(move || file.sync_data())?);
        self.waiting = 0;
        Ok(())
    }

    /// Waits for what is on its way: what goes wrong there is told to nobody else.
    fn arrive(&mut self) -> io::Result<()> {
        let Some(thread) = self.under_way.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that syncs has panicked")))
    }
}

impl Write for Ahead<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.waiting += n as u64;
        if self.waiting >= self.stretch {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.arrive()
    }
}

impl Seek for Ahead<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        // Broken off: nobody is left who could be told.
        let _ = self.arrive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_sent_ahead_is_what_was_written() {
        let mut file = tempfile::tempfile().unwrap();
        let mut ahead = Ahead::new(&file);
        ahead.stretch = 1000;
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        bytes.chunks(333).for_each(|part| ahead.write_all(part).unwrap());
        assert!(ahead.under_way.is_some());
        ahead.flush().unwrap();
        assert!(ahead.under_way.is_none());
        ahead.seek(SeekFrom::Start(5)).unwrap();
        ahead.write_all(b"patched").unwrap();
        drop(ahead);
        file.rewind().unwrap();
        let mut back = Vec::new();
        file.read_to_end(&mut back).unwrap();
        assert!(back[..5] == bytes[..5] && &back[5..12] == b"patched" && back[12..] == bytes[12..]);
    }
}
