//! The sans-IO encoder: element bytes in, stream bytes out.

mod batch;
mod bound;
mod group;
mod tie;

pub use bound::{max_encoded_len, max_tensor_len};
pub(crate) use tie::MOST_TIED;

use crate::device::GroupPlan;
use crate::group::{Coded, TensorKeys, Worker, put_payload};
use crate::kernel::Kernel;
use crate::options::{EncodeOptions, effective_spec};
use crate::random::name_key;
use crate::wire::record::{kind, put_record};
use crate::wire::{
    ChunkHeader, End, IndexEntry, TensorDesc, TensorMeta, preamble, write_index, write_manifest,
    write_metadata,
};
use crate::{DType, Error, Result, Spec};
use group::Planned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tie::Original;

/// Turns tensors into a stream, holding at most [`EncodeOptions::threads`] groups of pushed tensors
/// beside its output, or with a device as many as that takes at a time.
///
/// Take what [`output`](Self::output) holds and [`clear_output`](Self::clear_output) after each
/// call; [`crate::Writer`] does just that.
///
/// ```
/// use fedpress::{DType, Encoder, EncodeOptions, Seeds, Spec, TensorDesc};
/// let seeds = Seeds::new(7, 0x5eed);
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
    workers: Vec<Worker>,
    stream: Stream,
    state: State,
}

/// What the stream holds so far.
#[derive(Default)]
struct Stream {
    /// Bytes that were there before it.
    start: u64,
    /// Whether its tensors are several.
    several: bool,
    names: HashSet<String>,
    manifest: Option<Vec<TensorDesc>>,
    index: Vec<IndexEntry>,
    n_tensors: u64,
    n_chunks: u64,
    /// What tensors may be tied to, by name, and the bytes of their elements.
    originals: HashMap<String, Original>,
    kept_bytes: u64,
    /// Where the records of the tensors start that are put together.
    starts: Vec<u64>,
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
    tensor: Arc<Planned>,
    /// Elements that have been pushed.
    pushed_bytes: u64,
    /// Groups that have been coded.
    n_groups: u64,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Starts a stream.
    pub fn new(options: EncodeOptions) -> Result<Self> {
        Self::with_output(options, Vec::new())
    }

    /// Starts a stream behind what `out` holds, such as the room of one that was sent.
    /// [`into_output`](Self::into_output) gives it back.
    pub fn with_output(options: EncodeOptions, out: Vec<u8>) -> Result<Self> {
        options.check()?;
        let kernel = Kernel::new(options.simd);
        let mut encoder = Self {
            kernel,
            workers: (0..options.threads.max(1)).map(|_| Worker::new(kernel)).collect(),
            options,
            out,
            cleared: 0,
            stream: Stream::default(),
            state: State::Finished,
        };
        encoder.begin_stream();
        Ok(encoder)
    }

    /// Starts another stream behind the one that is finished, or in place of one that failed, of which
    /// the output may hold a part. What coding takes is there already, compression contexts and buffers: a
    /// server that encodes a message each round keeps its encoder.
    ///
    /// ```
    /// use fedpress::{EncodeOptions, Encoder, Seeds, Spec, TensorView};
    /// let mut encoder = Encoder::new(EncodeOptions::new(Seeds::new(7, 0x5eed)))?;
    /// for round in 1..=3 {
    ///     let weights = vec![round as f32; 4096];
    ///     encoder.clear_output();
    ///     encoder.restart(Seeds::new(7, 0x5eed).in_round(round))?;
    ///     encoder.tensor(&TensorView::f32("w", &[4096], &weights), &"hadamard|q=4".parse()?)?;
    ///     encoder.finish()?;
    ///     let back = fedpress::decode(encoder.output(), &Default::default())?;
    ///     assert_eq!(back[0].shape, [4096]);
    /// }
    /// # Ok::<(), fedpress::Error>(())
    /// ```
    pub fn restart(&mut self, seeds: crate::Seeds) -> Result<()> {
        let options = EncodeOptions { seeds, ..self.options.clone() };
        options.check()?;
        self.options = options;
        self.begin_stream();
        Ok(())
    }

    fn begin_stream(&mut self) {
        let start = self.cleared + self.out.len() as u64;
        self.stream = Stream { start, several: self.options.several, ..Stream::default() };
        self.out.extend(preamble());
        self.state = State::Head(0);
    }

    /// The output itself, all that was not cleared.
    pub fn into_output(self) -> Vec<u8> {
        self.out
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
        self.cleared + self.out.len() as u64 - self.stream.start
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
        self.stream.manifest = Some(tensors.to_vec());
        self.stream.several |= tensors.len() > 1;
        self.state = State::Head(kind::MANIFEST);
        Ok(())
    }

    /// A record of an application, between tensors: `kind` is 0x20 to 0x3F, or 0xA0 to 0xBF for one
    /// that other readers may pass over (FORMAT.md, section 3). At most 2^24 bytes.
    ///
    /// ```
    /// use fedpress::{Decoder, Encoder, EncodeOptions, Event, Seeds};
    /// let seeds = Seeds::new(7, 0x5eed);
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
        self.begin_as(desc, spec, key, false)
    }

    /// Begins a tensor that others will be [tied](Self::tie) to; not one whose first dimension is open.
    pub fn begin_kept(&mut self, desc: &TensorDesc, spec: &Spec) -> Result<()> {
        if desc.open {
            let message = "no tensor is tied to one whose first dimension is open";
            return Err(Error::invalid(message).in_tensor(&desc.name));
        }
        self.begin_as(desc, spec, None, true)
    }

    fn begin_as(
        &mut self,
        desc: &TensorDesc,
        spec: &Spec,
        key: Option<u64>,
        kept: bool,
    ) -> Result<()> {
        self.check_between()?;
        let tensor = self.plan(desc, spec, key, kept)?;
        self.stream.starts.clear();
        self.put_tensor(&tensor)?;
        let (pushed_bytes, n_groups, buffer) = (0, 0, Vec::new());
        self.state = State::Open(Box::new(Open { tensor, pushed_bytes, n_groups, buffer }));
        Ok(())
    }

    /// Decides how a tensor travels; its name is taken from then on.
    fn plan(
        &mut self,
        desc: &TensorDesc,
        spec: &Spec,
        key: Option<u64>,
        kept: bool,
    ) -> Result<Arc<Planned>> {
        self.check_tensor(desc, spec).map_err(|e| e.in_tensor(&desc.name))?;
        let options = self.options.clone().with_several(self.stream.several);
        let spec = effective_spec(desc, spec, &options);
        let meta = self.options.meta(desc, spec, name_key(&desc.name), key);
        let meta = TensorMeta { kept, ..meta };
        let keys = TensorKeys::all(&meta, &self.options.seeds);
        let device = self.options.device.as_ref().filter(|_| meta.lossy().len() == 1);
        let plan = device.and_then(|device| {
            let plan = GroupPlan::encoding(&meta, &self.options.seeds);
            device.supports(&plan).then_some(plan)
        });
        self.take_name(desc);
        Ok(Arc::new(Planned { meta, keys, plan }))
    }

    fn take_name(&mut self, desc: &TensorDesc) {
        self.stream.names.insert(desc.name.clone());
        self.stream.n_tensors += 1;
    }

    /// Notes where the record of a tensor will start.
    fn list(&mut self, name_hash: u64) {
        if self.options.index {
            let offset = self.n_bytes();
            self.stream.index.push(IndexEntry { name_hash, offset });
        }
    }

    /// Appends the record of a tensor.
    fn put_tensor(&mut self, tensor: &Planned) -> Result<()> {
        self.list(tensor.meta.name_hash);
        self.stream.starts.push(self.n_bytes());
        self.note_original(&tensor.meta);
        put_record(kind::TENSOR, &mut self.out, |out| {
            tensor.meta.write_to(out);
            Ok(())
        })
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

    fn check_tensor(&self, desc: &TensorDesc, spec: &Spec) -> Result<()> {
        desc.check()?;
        if matches!(desc.dtype, DType::Unknown(_)) || spec.unknown.is_some() {
            return Err(Error::invalid(format!("{spec} of {}: not known here", desc.dtype)));
        }
        if self.stream.names.contains(&desc.name) {
            return Err(Error::invalid("a second tensor of that name"));
        }
        let announced =
            self.stream.manifest.as_ref().map(|m| m.get(self.stream.n_tensors as usize));
        if announced.is_some_and(|announced| announced != Some(desc)) {
            return Err(Error::invalid("not the tensor that the manifest announces"));
        }
        Ok(())
    }

    /// Elements of the open tensor, as little-endian bytes in C order; cut anywhere.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let mut open = self.take_open()?;
        open.pushed_bytes += bytes.len() as u64;
        check_length(&open.tensor.meta.desc, open.pushed_bytes, false)?;
        let batch = self.batch_bytes(&open.tensor);
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
        check_length(&open.tensor.meta.desc, open.pushed_bytes, true)?;
        let buffer = std::mem::take(&mut open.buffer);
        self.put_groups(&mut open, &buffer, true)?;
        self.state = State::Between;
        Ok(())
    }

    /// The next group of the open tensor, coded elsewhere by the plan of this tensor
    /// ([`crate::device::GroupPlan`]): P, before the lossless stage. Only for a lossy tensor of known
    /// shape, and between groups; how many values it stands for follows from the shape.
    pub fn push_coded(&mut self, payload: &[u8]) -> Result<()> {
        let mut open = self.take_open()?;
        let (meta, group) = (&open.tensor.meta, open.n_groups);
        let between = open.buffer.is_empty() && meta.spec().is_lossy();
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
        let coded = Coded { spec: meta.spec(), dtype: meta.dtype(), n: n_values, payload };
        coded.check().map_err(|e| Error::invalid(format!("a coded group: {e}")))?;
        let mut header =
            ChunkHeader { group, last: left <= full, stored: false, pipeline: 0, n_values };
        let zstandard = &mut self.workers[0].zstandard;
        put_record(kind::CHUNK, &mut self.out, |out| {
            put_payload(meta.spec(), &mut header, payload, zstandard, out)
        })?;
        open.pushed_bytes += meta.dtype().byte_len(n_values) as u64;
        open.n_groups += 1;
        self.stream.n_chunks += 1;
        self.state = State::Open(open);
        Ok(())
    }

    /// Ends the stream: index, if asked for, and end record.
    pub fn finish(&mut self) -> Result<()> {
        self.check_between()?;
        if self.stream.manifest.as_ref().is_some_and(|m| m.len() as u64 != self.stream.n_tensors) {
            return Err(Error::invalid("fewer tensors than the manifest announces"));
        }
        self.state = State::Poisoned;
        let index_at = self.out.len();
        if self.options.index {
            let entries = std::mem::take(&mut self.stream.index);
            put_record(kind::INDEX, &mut self.out, |out| {
                write_index(&entries, out);
                Ok(())
            })?;
        }
        let end = End {
            n_tensors: self.stream.n_tensors,
            n_chunks: self.stream.n_chunks,
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
}

/// A closed tensor takes exactly its bytes, an open one whole rows.
fn check_length(desc: &TensorDesc, found: u64, at_end: bool) -> Result<()> {
    let check = || match desc.n_values()? {
        Some(n) => {
            let expected = desc
                .dtype
                .byte_len_of(n)
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
            let row = desc.dtype.byte_len_of(desc.row_values()?).unwrap_or(u64::MAX);
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
