//! Small tensors of a stream, decoded side by side.

use std::io::Read;

use anyhow::{Context, Result};
use fedpress::{ErrorKind, Reader};

use super::Job;
use crate::files::{Sink, TensorInfo, byte_len};
use crate::table::printable;

/// Bytes of elements for each thread: what a group of f32 takes.
const BYTES_PER_THREAD: u64 = 1 << 22;
/// And for all of them.
const MOST_BYTES: u64 = 1 << 26;

impl Job<'_> {
    /// The next tensors of a stream, which are these, into a sink: those that are small several at a time.
    pub(super) fn copy_all<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        infos: &[TensorInfo],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let mut rest = infos;
        while let Some(first) = rest.first() {
            let n = self.n_together(rest);
            let (some, later) = rest.split_at(n.max(1));
            rest = later;
            if n > 1 {
                self.copy_together(reader, some, sink)?;
            } else {
                let tensor = reader.next_tensor()?.with_context(|| self.changed())?;
                self.copy(tensor, first, sink)?;
            }
        }
        Ok(())
    }

    /// How many of these fit into the memory that is taken for them.
    fn n_together(&self, infos: &[TensorInfo]) -> usize {
        let threads = self.options.threads as u64;
        let mut left = (threads * BYTES_PER_THREAD).min(MOST_BYTES).min(self.options.memory / 4);
        let fits = |info: &&TensorInfo| {
            let rest = byte_len(info.dtype, &info.shape).and_then(|n| left.checked_sub(n));
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        if threads > 1 { infos.iter().take_while(fits).count() } else { 1 }
    }

    fn copy_together<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        infos: &[TensorInfo],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        self.progress.set_message(printable(&infos[0].name));
        let sizes =
            infos.iter().map(|info| byte_len(info.dtype, &info.shape).unwrap_or(0) as usize);
        let mut data = std::mem::take(&mut self.small);
        data.resize(sizes.clone().sum(), 0);
        let (mut places, mut rest) = (Vec::with_capacity(infos.len()), &mut data[..]);
        for size in sizes {
            let (place, behind) = rest.split_at_mut(size);
            places.push(place);
            rest = behind;
        }
        reader.read_tensors_into(&mut places).map_err(|error| match error.kind() {
            // They were described by a first look at the same stream.
            ErrorKind::InvalidArgument => anyhow::Error::from(error).context(self.changed()),
            _ => error.into(),
        })?;
        for (info, place) in infos.iter().zip(places) {
            sink.begin(info)?;
            sink.write(place)?;
            sink.end(&info.shape)?;
            self.progress.inc(place.len() as u64);
            self.note(info, info.shape.clone(), place.len() as u64);
        }
        self.small = data;
        Ok(())
    }
}
