//! The sans-IO encoder: element bytes in, stream bytes out.

use crate::device::GroupPlan;
use crate::frame::{kind, put_record};
use crate::group::{GroupCodec, Scratch, first_non_finite, payload_len};
use crate::kernel::Kernel;
use crate::meta::{
    ChunkHeader, End, IndexEntry, TensorDesc, TensorMeta, preamble, write_index, write_manifest,
    write_metadata,
};
use crate::options::{EncodeOptions, NonFinite, effective_spec};
use crate::random::name_key;
use crate::run::{Coded, Run};
use crate::{Error, Result, Spec, TensorView};
use std::collections::{BTreeMap, HashSet};

/// Turns tensors into a stream, holding at most [`EncodeOptions::threads`] groups beside its
/// output, or with a device as many as that takes at a time.
///
/// Take what [`output`](Self::output) holds and [`clear_output`](Self::clear_output) after each
/// call; [`crate::Writer`] does just that.
///
/// ```
/// use fedpress::{DType, Encoder, EncodeOptions, Seeds, Spec, TensorDesc};
/// let seeds = Seeds { shared: 7, private: 0x5eed, round: 0, client: 0 };
/// let mut encoder = Encoder::new(EncodeOptions::new(seeds))?;
/// encoder.begin(&TensorDesc::open("rows", DType::F32, &[2]), &Spec::lossless())?;
/// encoder.push(&1f32.to_le_bytes())?;
/// encoder.push(&2f32.to_le_bytes())?;
/// encoder.end()?;
/// encoder.finish()?;
/// let tensors = fedpress::decode(encoder.output(), &Default::default())?;
/// assert_eq!(tensors[0].shape, [1, 2]);
/// # Ok::<(), fedpress::Error>(())
/// ```
pub struct Encoder {
    options: EncodeOptions,
    kernel: Kernel,
    out: Vec<u8>,
    /// Bytes that went through `out` and were cleared.
    cleared: u64,
    names: HashSet<String>,
    manifest: Option<Vec<TensorDesc>>,
    index: Vec<IndexEntry>,
    n_tensors: u64,
    n_chunks: u64,
    scratch: Vec<Scratch>,
    state: State,
}

enum State {
    /// Nothing but the preamble, and the records at the head up to this kind.
    Head(u8),
    Between,
    Open(Box<Open>),
    Finished,
    Poisoned,
}

struct Open {
    meta: TensorMeta,
    /// Elements that have been pushed.
    pushed_bytes: u64,
    /// Groups that have been coded.
    n_groups: u64,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Starts a stream.
    pub fn new(options: EncodeOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            kernel: Kernel::new(options.simd),
            scratch: (0..options.threads.max(1)).map(|_| Scratch::default()).collect(),
            options,
            out: preamble().to_vec(),
            cleared: 0,
            names: HashSet::new(),
            manifest: None,
            index: Vec::new(),
            n_tensors: 0,
            n_chunks: 0,
            state: State::Head(0),
        })
    }

    /// Stream bytes made so far and not cleared.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// Forgets the output, which the caller has taken.
    pub fn clear_output(&mut self) {
        self.cleared += self.out.len() as u64;
        self.out.clear();
    }

    /// Bytes of stream so far.
    pub fn n_bytes(&self) -> u64 {
        self.cleared + self.out.len() as u64
    }

    /// Says something about the stream; once, before everything else.
    pub fn metadata(&mut self, map: &BTreeMap<String, String>) -> Result<()> {
        self.head(kind::METADATA)?;
        put_record(kind::METADATA, &mut self.out, |out| write_metadata(map, out))?;
        self.state = State::Head(kind::METADATA);
        Ok(())
    }

    /// Announces the tensors that will follow, in order; once, before the first of them.
    pub fn manifest(&mut self, tensors: &[TensorDesc]) -> Result<()> {
        tensors.iter().try_for_each(TensorDesc::check)?;
        self.head(kind::MANIFEST)?;
        put_record(kind::MANIFEST, &mut self.out, |out| {
            write_manifest(tensors, out);
            Ok(())
        })?;
        self.manifest = Some(tensors.to_vec());
        self.state = State::Head(kind::MANIFEST);
        Ok(())
    }

    /// A record of an application, between tensors: `kind` is 0x20 to 0x3F, or 0xA0 to 0xBF for one
    /// that other readers may pass over (FORMAT.md, section 3). At most 2^24 bytes.
    ///
    /// ```
    /// use fedpress::{Decoder, Encoder, EncodeOptions, Event, Seeds};
    /// let seeds = Seeds { shared: 7, private: 0x5eed, round: 0, client: 0 };
    /// let mut encoder = Encoder::new(EncodeOptions::new(seeds))?;
    /// encoder.record(0xA0, b"from client 3")?;
    /// encoder.finish()?;
    ///
    /// let mut decoder = Decoder::with_records(Default::default());
    /// let mut bytes = encoder.output();
    /// let mut found = Vec::new();
    /// while let Some(event) = decoder.next(&mut bytes)? {
    ///     if let Event::Record { kind: 0xA0, body } = event {
    ///         found = body;
    ///     }
    /// }
    /// assert_eq!(found, b"from client 3");
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn record(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        self.check_between()?;
        if !kind::is_application(kind) {
            return Err(Error::invalid(format!(
                "record {kind:#04x}: applications have 0x20 to 0x3f and 0xa0 to 0xbf"
            )));
        }
        put_record(kind, &mut self.out, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
    }

    fn head(&self, kind: u8) -> Result<()> {
        match self.state {
            State::Head(last) if last < kind => Ok(()),
            State::Poisoned => Err(Error::poisoned()),
            _ => Err(Error::invalid(
                "metadata comes first, then the manifest, then tensors; each of the first two once",
            )),
        }
    }

    /// Begins a tensor; its elements follow by [`push`](Self::push).
    pub fn begin(&mut self, desc: &TensorDesc, spec: &Spec) -> Result<()> {
        self.begin_keyed(desc, spec, None)
    }

    /// Begins a tensor whose keys derive from `key` instead of its name, so that the same values
    /// under two names, or parts of one tensor, rotate alike.
    pub fn begin_keyed(&mut self, desc: &TensorDesc, spec: &Spec, key: Option<u64>) -> Result<()> {
        self.check_begin(desc).map_err(|e| e.in_tensor(&desc.name))?;
        let spec = effective_spec(desc, spec, &self.options);
        let meta = self.options.meta(desc, spec, name_key(&desc.name), key);
        if self.options.index {
            let offset = self.n_bytes();
            self.index.push(IndexEntry { name_hash: name_key(&desc.name), offset });
        }
        self.names.insert(desc.name.clone());
        self.n_tensors += 1;
        put_record(kind::TENSOR, &mut self.out, |out| {
            meta.write_to(out);
            Ok(())
        })?;
        self.state =
            State::Open(Box::new(Open { meta, pushed_bytes: 0, n_groups: 0, buffer: Vec::new() }));
        Ok(())
    }

    /// Whether something new may begin here.
    fn check_between(&self) -> Result<()> {
        match self.state {
            State::Head(_) | State::Between => Ok(()),
            State::Open(_) => Err(Error::invalid("the previous tensor has not been ended")),
            State::Finished => Err(Error::invalid("the stream is finished")),
            State::Poisoned => Err(Error::poisoned()),
        }
    }

    fn check_begin(&self, desc: &TensorDesc) -> Result<()> {
        self.check_between()?;
        desc.check()?;
        if self.names.contains(&desc.name) {
            return Err(Error::invalid("a second tensor of that name"));
        }
        let announced = self.manifest.as_ref().map(|m| m.get(self.n_tensors as usize));
        if announced.is_some_and(|announced| announced != Some(desc)) {
            return Err(Error::invalid("not the tensor that the manifest announces"));
        }
        Ok(())
    }

    /// Elements of the open tensor, as little-endian bytes in C order; cut anywhere.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let mut open = self.take_open()?;
        open.pushed_bytes += bytes.len() as u64;
        check_length(&open, false)?;
        let batch = self.batch_bytes(&open.meta);
        if !open.buffer.is_empty() {
            let head;
            (head, bytes) = bytes.split_at(bytes.len().min(batch - open.buffer.len()));
            open.buffer.extend_from_slice(head);
            // A full buffer waits for one more byte: only then is its last group not the last.
            if !bytes.is_empty() {
                let buffer = std::mem::take(&mut open.buffer);
                self.put_groups(&mut open, &buffer, false)?;
                open.buffer = buffer;
                open.buffer.clear();
            }
        }
        if bytes.len() > batch {
            let (head, tail) = bytes.split_at((bytes.len() - 1) / batch * batch);
            self.put_groups(&mut open, head, false)?;
            bytes = tail;
        }
        open.buffer.extend_from_slice(bytes);
        self.state = State::Open(open);
        Ok(())
    }

    /// Ends the open tensor.
    pub fn end(&mut self) -> Result<()> {
        let mut open = self.take_open()?;
        check_length(&open, true)?;
        let buffer = std::mem::take(&mut open.buffer);
        self.put_groups(&mut open, &buffer, true)?;
        self.state = State::Between;
        Ok(())
    }

    /// The next group of the open tensor, coded elsewhere by the plan of this tensor
    /// ([`crate::GroupPlan`]): P, before the lossless stage. Only for a lossy tensor of known
    /// shape, and between groups; how many values it stands for follows from the shape.
    pub fn push_coded(&mut self, payload: &[u8]) -> Result<()> {
        let mut open = self.take_open()?;
        let (meta, group) = (&open.meta, open.n_groups);
        let between = open.buffer.is_empty() && meta.spec.is_lossy();
        let total = meta.desc.n_values()?.filter(|_| between);
        let total = total.ok_or_else(|| {
            Error::invalid("coded groups go to lossy tensors of known shape, between groups")
        })?;
        let full = meta.group_values() as u64;
        let left = total.saturating_sub(group.saturating_mul(full));
        if left == 0 {
            return Err(Error::invalid("more coded groups than the shape has"));
        }
        let n_values = left.min(full) as usize;
        let expected = payload_len(meta, n_values);
        if payload.len() != expected {
            return Err(Error::invalid(format!(
                "a coded group of {n_values} values has {expected} bytes, found {}",
                payload.len()
            )));
        }
        let codec = GroupCodec::with_seeds(meta, self.kernel, &self.options.seeds);
        let header = ChunkHeader { group, last: left <= full, stored: false, n_values };
        let scratch = &mut self.scratch[0];
        put_record(kind::CHUNK, &mut self.out, |out| {
            codec.put_body(header, payload, scratch, out)
        })?;
        open.pushed_bytes += (n_values * meta.dtype().size()) as u64;
        open.n_groups += 1;
        self.n_chunks += 1;
        self.state = State::Open(open);
        Ok(())
    }

    /// A whole tensor at once; reads `view` without copying it. After an error the stream cannot
    /// go on, as after one in [`push`](Self::push) or [`end`](Self::end).
    pub fn tensor(&mut self, view: &TensorView<'_>, spec: &Spec) -> Result<()> {
        self.tensor_to(view, spec, &mut |_| Ok(()))
    }

    /// The same; calls `flush` whenever there is output to be taken.
    pub(crate) fn tensor_to(
        &mut self,
        view: &TensorView<'_>,
        spec: &Spec,
        flush: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let desc = TensorDesc::new(view.name, view.dtype, view.shape);
        let mut spec = effective_spec(&desc, spec, &self.options);
        if spec.is_lossy()
            && self.options.non_finite == NonFinite::Lossless
            && first_non_finite(view.dtype, view.data).is_some()
        {
            spec = Spec::lossless();
        }
        self.begin(&desc, &spec)?;
        let mut open = self.take_open()?;
        open.pushed_bytes = view.data.len() as u64;
        check_length(&open, true)?;
        let batch = self.batch_bytes(&open.meta);
        let n_batches = view.data.len().div_ceil(batch).max(1);
        for i in 0..n_batches {
            let data = &view.data[i * batch..view.data.len().min((i + 1) * batch)];
            self.put_groups(&mut open, data, i + 1 == n_batches)?;
            flush(self)?;
        }
        self.state = State::Between;
        Ok(())
    }

    /// Ends the stream: index, if asked for, and end record.
    pub fn finish(&mut self) -> Result<()> {
        self.check_between()?;
        if self.manifest.as_ref().is_some_and(|m| m.len() as u64 != self.n_tensors) {
            return Err(Error::invalid("fewer tensors than the manifest announces"));
        }
        self.state = State::Poisoned;
        let index_at = self.out.len();
        if self.options.index {
            let entries = std::mem::take(&mut self.index);
            put_record(kind::INDEX, &mut self.out, |out| {
                write_index(&entries, out);
                Ok(())
            })?;
        }
        let end = End {
            n_tensors: self.n_tensors,
            n_chunks: self.n_chunks,
            index_distance: (self.out.len() - index_at) as u64,
            stream_bytes: self.n_bytes(),
        };
        put_record(kind::END, &mut self.out, |out| {
            end.write_to(out);
            Ok(())
        })?;
        self.state = State::Finished;
        Ok(())
    }

    /// Takes the open tensor out; the encoder is poisoned until it is put back.
    fn take_open(&mut self) -> Result<Box<Open>> {
        match std::mem::replace(&mut self.state, State::Poisoned) {
            State::Open(open) => Ok(open),
            State::Poisoned => Err(Error::poisoned()),
            other => {
                self.state = other;
                Err(Error::invalid("no tensor is open"))
            }
        }
    }

    fn batch_bytes(&self, meta: &TensorMeta) -> usize {
        let device = self.options.device.as_ref().filter(|_| meta.spec.is_lossy());
        // Of what a device wants to have at a time, no more than 2^28 values are collected.
        let wanted = device.map_or(0, |d| d.batch_values().min(1 << 28) / meta.group_values());
        let n_groups = wanted.max(self.scratch.len());
        meta.group_values() * meta.dtype().size() * n_groups
    }

    /// Codes whole groups, on the device or in parallel if there are threads for it, and appends
    /// them in order.
    fn put_groups(&mut self, open: &mut Open, elements: &[u8], last: bool) -> Result<()> {
        let group_bytes = open.meta.group_values() * open.meta.dtype().size();
        let n_groups = elements.len().div_ceil(group_bytes);
        let run = Run {
            codec: GroupCodec::with_seeds(&open.meta, self.kernel, &self.options.seeds),
            first: open.n_groups,
            n_groups,
            ends: last,
            coded: self.on_device(open, elements)?,
        };
        if n_groups == 0 && last && open.meta.desc.open && open.n_groups == 0 {
            run.put(&mut self.scratch[0], 0, &[], &mut self.out)?;
            self.n_chunks += 1;
        }
        run.put_all(&mut self.scratch, elements.chunks(group_bytes), &mut self.out)?;
        open.n_groups += n_groups as u64;
        self.n_chunks += n_groups as u64;
        Ok(())
    }

    /// The groups, coded by the device; `None` where there is none for them.
    fn on_device(&self, open: &Open, elements: &[u8]) -> Result<Option<Coded>> {
        let meta = &open.meta;
        let device = self.options.device.as_ref().filter(|_| meta.spec.is_lossy());
        let Some(device) = device.filter(|_| !elements.is_empty()) else { return Ok(None) };
        let plan = GroupPlan::encoding(meta, &self.options.seeds);
        if !device.supports(&plan) {
            return Ok(None);
        }
        let mut payloads = Vec::new();
        let peaks = device
            .encode(&plan, open.n_groups, elements, &mut payloads)
            .map_err(|e| Error::device(e).in_tensor(&meta.desc.name))?;
        Ok(Some(Coded { payloads, peaks }))
    }
}

/// A closed tensor takes exactly its bytes, an open one whole rows.
fn check_length(open: &Open, at_end: bool) -> Result<()> {
    let desc = &open.meta.desc;
    let size = desc.dtype.size() as u64;
    let found = open.pushed_bytes;
    let check = || match desc.n_values()? {
        Some(n) => {
            let expected = n
                .checked_mul(size)
                .ok_or_else(|| Error::invalid("more than 2^64 bytes of elements"))?;
            if found > expected || (at_end && found < expected) {
                return Err(Error::invalid(format!(
                    "shape {:?} of {} takes {expected} bytes, found {found}",
                    desc.shape, desc.dtype
                )));
            }
            Ok(())
        }
        None => {
            let row = desc.row_values()?.saturating_mul(size);
            if at_end && found % row != 0 {
                return Err(Error::invalid(format!(
                    "{found} bytes are not a whole number of rows of {row} bytes"
                )));
            }
            Ok(())
        }
    };
    check().map_err(|e| e.in_tensor(&desc.name))
}
