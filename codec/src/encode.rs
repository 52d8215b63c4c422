//! The sans-IO encoder: element bytes in, stream bytes out.

use crate::device::{EncodeJob, GroupPlan};
use crate::group::{self, Choice, Job, TensorKeys, Worker};
use crate::kernel::Kernel;
use crate::options::{EncodeOptions, effective_spec};
use crate::random::name_key;
use crate::schedule::in_parallel;
use crate::wire::record::{kind, put_record};
use crate::wire::{
    ChunkHeader, End, IndexEntry, TensorDesc, TensorMeta, preamble, write_index, write_manifest,
    write_metadata,
};
use crate::{DType, Error, Result, Spec, TensorView};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

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
    names: HashSet<String>,
    manifest: Option<Vec<TensorDesc>>,
    index: Vec<IndexEntry>,
    n_tensors: u64,
    n_chunks: u64,
    workers: Vec<Worker>,
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
    tensor: Arc<Planned>,
    /// Elements that have been pushed.
    pushed_bytes: u64,
    /// Groups that have been coded.
    n_groups: u64,
    buffer: Vec<u8>,
}

/// A tensor and what coding its groups takes.
struct Planned {
    meta: TensorMeta,
    keys: TensorKeys,
    /// Where a device codes its groups.
    plan: Option<GroupPlan>,
}

/// What is put into the stream, in order.
enum Item<'a> {
    Tensor(Arc<Planned>),
    Group(Group<'a>),
}

struct Group<'a> {
    tensor: Arc<Planned>,
    header: ChunkHeader,
    elements: &'a [u8],
}

/// Groups that are coded side by side for each thread: enough that all are busy to the end.
const GROUPS_PER_THREAD: usize = 8;
/// Values of them beyond which no more are taken.
const VALUES_PER_THREAD: usize = 1 << 20;

impl Encoder {
    /// Starts a stream.
    pub fn new(options: EncodeOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            kernel: Kernel::new(options.simd),
            workers: (0..options.threads.max(1)).map(|_| Worker::default()).collect(),
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
        self.options.several |= tensors.len() > 1;
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
        self.check_between()?;
        let tensor = self.plan(desc, spec, key)?;
        self.put_tensor(&tensor)?;
        let (pushed_bytes, n_groups, buffer) = (0, 0, Vec::new());
        self.state = State::Open(Box::new(Open { tensor, pushed_bytes, n_groups, buffer }));
        Ok(())
    }

    /// Decides how a tensor travels; its name is taken from then on.
    fn plan(&mut self, desc: &TensorDesc, spec: &Spec, key: Option<u64>) -> Result<Arc<Planned>> {
        self.check_tensor(desc, spec).map_err(|e| e.in_tensor(&desc.name))?;
        let spec = effective_spec(desc, spec, &self.options);
        let meta = self.options.meta(desc, spec, name_key(&desc.name), key);
        let keys = TensorKeys::all(&meta, &self.options.seeds);
        let device = self.options.device.as_ref().filter(|_| meta.spec().is_lossy());
        let plan = device.and_then(|device| {
            let plan = GroupPlan::encoding(&meta, &self.options.seeds);
            device.supports(&plan).then_some(plan)
        });
        self.names.insert(desc.name.clone());
        self.n_tensors += 1;
        Ok(Arc::new(Planned { meta, keys, plan }))
    }

    /// Appends the record of a tensor.
    fn put_tensor(&mut self, tensor: &Planned) -> Result<()> {
        if self.options.index {
            let offset = self.n_bytes();
            self.index.push(IndexEntry { name_hash: tensor.meta.name_hash, offset });
        }
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
        let coded = group::Coded { spec: meta.spec(), dtype: meta.dtype(), n: n_values, payload };
        coded.check().map_err(|e| Error::invalid(format!("a coded group: {e}")))?;
        let mut header =
            ChunkHeader { group, last: left <= full, stored: false, pipeline: 0, n_values };
        let zstandard = &mut self.workers[0].zstandard;
        put_record(kind::CHUNK, &mut self.out, |out| {
            group::put_payload(meta.spec(), &mut header, payload, zstandard, out)
        })?;
        open.pushed_bytes += meta.dtype().byte_len(n_values) as u64;
        open.n_groups += 1;
        self.n_chunks += 1;
        self.state = State::Open(open);
        Ok(())
    }

    /// A whole tensor at once; reads `view` without copying it. After an error the stream cannot
    /// go on, as after one in [`push`](Self::push) or [`end`](Self::end).
    pub fn tensor(&mut self, view: &TensorView<'_>, spec: &Spec) -> Result<()> {
        self.tensors(&[(*view, spec)])
    }

    /// Several tensors, each by its pipeline, on all threads whatever their sizes are.
    pub fn tensors(&mut self, tensors: &[(TensorView<'_>, &Spec)]) -> Result<()> {
        self.tensors_to(tensors, &mut |_| Ok(()))
    }

    /// The same; calls `flush` whenever there is output to be taken.
    pub(crate) fn tensors_to(
        &mut self,
        tensors: &[(TensorView<'_>, &Spec)],
        flush: &mut dyn FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.check_between()?;
        if tensors.is_empty() {
            return Ok(());
        }
        self.options.several |= tensors.len() > 1;
        let mut batch = Vec::new();
        let (mut n_groups, mut n_values) = (0, 0);
        let most = self.batch_limits();
        for (i, (view, spec)) in tensors.iter().enumerate() {
            let desc = TensorDesc::new(view.name, view.dtype, view.shape);
            let tensor = self.plan(&desc, spec, None)?;
            if i == 0 {
                // What was refused before anything was planned has changed nothing.
                self.state = State::Poisoned;
            }
            check_length(&desc, view.data.len() as u64, true)?;
            batch.push(Item::Tensor(tensor.clone()));
            for group in groups_of(&tensor, 0, view.data, true) {
                (n_groups, n_values) = (n_groups + 1, n_values + group.header.n_values);
                batch.push(Item::Group(group));
                if n_groups >= most.0 || n_values >= most.1 {
                    self.put_all(&batch)?;
                    flush(self)?;
                    batch.clear();
                    (n_groups, n_values) = (0, 0);
                }
            }
        }
        self.put_all(&batch)?;
        flush(self)?;
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

    /// Groups, and values of them, that are worth collecting.
    fn batch_limits(&self) -> (usize, usize) {
        let threads = self.workers.len();
        let wanted = self.options.device.as_ref().map_or(0, |device| device.batch_values());
        match threads.max(usize::from(wanted > 0)) {
            // Nobody waits for anybody.
            1 if wanted == 0 => (1, 1),
            _ => {
                let values = (threads * VALUES_PER_THREAD).max(wanted.min(1 << 28));
                (threads.max(wanted >> 12) * GROUPS_PER_THREAD, values)
            }
        }
    }

    fn batch_bytes(&self, tensor: &Planned) -> usize {
        let device = self.options.device.as_ref().filter(|_| tensor.plan.is_some());
        // Of what a device wants to have at a time, no more than 2^28 values are collected.
        let full = tensor.meta.group_values();
        let wanted = device.map_or(0, |d| d.batch_values().min(1 << 28) / full);
        tensor.meta.dtype().byte_len(full) * wanted.max(self.workers.len())
    }

    /// Codes whole groups of the open tensor and appends them.
    fn put_groups(&mut self, open: &mut Open, elements: &[u8], last: bool) -> Result<()> {
        let groups: Vec<_> =
            groups_of(&open.tensor, open.n_groups, elements, last).map(Item::Group).collect();
        open.n_groups += groups.len() as u64;
        self.put_all(&groups)
    }

    /// Codes all groups, on the device or side by side if there are threads for it, and appends
    /// everything in order.
    fn put_all(&mut self, items: &[Item<'_>]) -> Result<()> {
        let made = self.on_device(items)?;
        let mut made = made.iter();
        let groups = items.iter().filter_map(|item| match item {
            Item::Group(group) => Some(group),
            Item::Tensor(_) => None,
        });
        // With what the device made of those that it codes.
        let jobs: Vec<_> =
            groups.map(|group| (group, group.on_device().and_then(|_| made.next()))).collect();
        let (kernel, choice) = (self.kernel, self.choice());
        if self.workers.len() > 1 && jobs.len() > 1 {
            let code = |worker: &mut Worker, (group, made): (&Group<'_>, Option<&_>)| {
                let mut out = Vec::new();
                group.put(kernel, choice, made, worker, &mut out).map(|()| out)
            };
            let mut records = in_parallel(&mut self.workers, jobs, code)?.into_iter();
            for item in items {
                match item {
                    Item::Tensor(tensor) => self.put_tensor(tensor)?,
                    Item::Group(_) => {
                        self.out.extend_from_slice(&records.next().unwrap_or_default());
                        self.n_chunks += 1;
                    }
                }
            }
            return Ok(());
        }
        let mut jobs = jobs.into_iter();
        for item in items {
            match item {
                Item::Tensor(tensor) => self.put_tensor(tensor)?,
                Item::Group(group) => {
                    let made = jobs.next().and_then(|(_, made)| made);
                    group.put(kernel, choice, made, &mut self.workers[0], &mut self.out)?;
                    self.n_chunks += 1;
                }
            }
        }
        Ok(())
    }

    fn choice(&self) -> Choice {
        Choice { non_finite: self.options.non_finite, smaller: self.options.smaller }
    }

    /// What the device makes of the groups that it codes, in order.
    fn on_device(&self, items: &[Item<'_>]) -> Result<Vec<crate::device::Made>> {
        let jobs: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Group(group) => group.on_device(),
                Item::Tensor(_) => None,
            })
            .collect();
        let Some(device) = self.options.device.as_ref().filter(|_| !jobs.is_empty()) else {
            return Ok(Vec::new());
        };
        let made = device.encode(&jobs).map_err(Error::device)?;
        if made.len() != jobs.len() {
            let found = format!("{} groups of {}", made.len(), jobs.len());
            return Err(Error::device(found.into()));
        }
        Ok(made)
    }
}

impl Group<'_> {
    fn on_device(&self) -> Option<EncodeJob<'_>> {
        let plan = self.tensor.plan.as_ref().filter(|_| !self.elements.is_empty())?;
        Some(EncodeJob { plan, group: self.header.group, elements: self.elements })
    }

    /// Appends the record.
    fn put(
        &self,
        kernel: Kernel,
        choice: Choice,
        made: Option<&crate::device::Made>,
        worker: &mut Worker,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Planned { meta, keys, .. } = &*self.tensor;
        put_record(kind::CHUNK, out, |out| match made {
            Some(made) => {
                let coded = (&made.payload[..], made.peak);
                group::put_coded(meta, choice, self.header, coded, self.elements, worker, out)
            }
            None => {
                let job = Job { kernel, keys, group: self.header.group };
                group::encode(&job, meta, choice, self.header, self.elements, worker, out)
            }
        })
        .map_err(|e| e.in_tensor(meta.name()))
    }
}

/// The groups of consecutive elements of a tensor, from group number `first` on; `ends` says whether
/// they are the last.
fn groups_of<'a>(
    tensor: &Arc<Planned>,
    first: u64,
    elements: &'a [u8],
    ends: bool,
) -> impl Iterator<Item = Group<'a>> + use<'a> {
    let (dtype, full) = (tensor.meta.dtype(), tensor.meta.group_values());
    let total = tensor.meta.n_values();
    let size = dtype.byte_len(full);
    // An open tensor without rows has one group all the same.
    let is_empty = elements.is_empty() && first == 0 && tensor.meta.desc.open && ends;
    let n = elements.len().div_ceil(size).max(usize::from(is_empty));
    let tensor = tensor.clone();
    (0..n).map(move |i| {
        let elements = &elements[i * size..elements.len().min((i + 1) * size)];
        let group = first + i as u64;
        // Of types of less than a byte the shape tells how many.
        let left = total.map_or(u64::MAX, |total| total - group * full as u64);
        let n_values = (dtype.n_values(elements.len()) as u64).min(left) as usize;
        let last = ends && i + 1 == n;
        let header = ChunkHeader { group, last, stored: false, pipeline: 0, n_values };
        Group { tensor: tensor.clone(), header, elements }
    })
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
