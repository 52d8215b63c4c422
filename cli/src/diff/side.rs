//! One side of a comparison: a tensor file, or a stream that is read like one.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek};

use anyhow::{Context, Result};
use fedpress::{DecodeOptions, Reader, TensorReader};

use crate::args::TensorFile;
use crate::decode::info_of;
use crate::exit::refused;
use crate::files::{Bytes, Format, Input, RawOptions, Source, TensorInfo, open_bytes, open_source};
use crate::stream::{self, Stream};

/// As many bytes as tell a stream.
const HEAD: u64 = 16;

/// Opens either; a pipe by way of a temporary file, since tensors may be in another order.
pub fn open(input: &Input, file: &TensorFile, options: &DecodeOptions) -> Result<Box<dyn Source>> {
    let is_folder = matches!(input, Input::Path(path) if path.is_dir());
    if is_folder || file.format_of(input) == Some(Format::SafetensorsIndex) {
        return open_source(input.clone(), &raw_options(input, file)?).map_err(refused);
    }
    let mut content = Stream::open(input)?.into_file()?;
    let mut head = Vec::new();
    (&mut content).take(HEAD).read_to_end(&mut head)?;
    content.rewind()?;
    if fedpress::is_stream(&head) {
        return Ok(Box::new(StreamSource::open(content, options)?));
    }
    let bytes = Bytes::file(content, stream::place_of(input))?;
    open_bytes(bytes, &raw_options(input, file)?).map_err(refused)
}

/// Both sides share the options for raw bytes; they mean nothing to a side that is something else.
fn raw_options(input: &Input, file: &TensorFile) -> Result<RawOptions> {
    match file.format_of(input) {
        Some(format) if format != Format::Raw => {
            let is_numpy = matches!(format, Format::Npy | Format::Npz);
            Ok(RawOptions {
                format: file.format,
                dtype: file.dtype.filter(|_| is_numpy && file.shape.is_none()),
                name: file.name.clone(),
                skip_unsupported: file.skip_unsupported,
                unlisted: file.unlisted,
                ..RawOptions::default()
            })
        }
        _ => file.options(input),
    }
}

/// A stream as a source: read on in its own order, and by name in any other.
struct StreamSource {
    file: File,
    options: DecodeOptions,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    /// The last tensor of each name, which is the one that is found by its name.
    last: HashMap<String, usize>,
    reader: Reader<File>,
    /// Whether it is one stream rather than several.
    is_single: bool,
    /// The tensor that the reader comes to next, as long as it can go on.
    next: Option<usize>,
}

impl StreamSource {
    fn open(mut file: File, options: &DecodeOptions) -> Result<Self> {
        let summary = fedpress::summarize(&mut file, options)?;
        let tensors: Vec<_> = summary.tensors.iter().map(info_of).collect();
        file.rewind()?;
        Ok(Self {
            reader: Reader::new(file.try_clone()?, options.clone()),
            file,
            options: options.clone(),
            last: tensors.iter().enumerate().map(|(i, info)| (info.name.clone(), i)).collect(),
            tensors,
            is_single: summary.n_streams == 1,
            metadata: summary.metadata,
            next: Some(0),
        })
    }

    /// Makes the tensor the next one of the reader.
    fn go_to(&mut self, index: usize) -> Result<()> {
        if self.next == Some(index) {
            return Ok(());
        }
        let name = &self.tensors.get(index).context("no such tensor")?.name;
        if self.last.get(name) == Some(&index) {
            self.reader = fedpress::seek_tensor(self.file.try_clone()?, name, &self.options)?;
            // Such a reader knows where it is, but not the totals at the end of a stream.
            self.next = self.is_single.then_some(index);
            return Ok(());
        }
        // A later stream has another tensor of that name: this one is counted off.
        let next = match self.next {
            Some(next) if next < index => next,
            _ => {
                self.file.rewind()?;
                self.reader = Reader::new(self.file.try_clone()?, self.options.clone());
                0
            }
        };
        for _ in next..index {
            self.reader.next_tensor()?;
        }
        self.next = Some(index);
        Ok(())
    }
}

impl Source for StreamSource {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        self.go_to(index)?;
        self.next = self.next.map(|next| next + 1);
        let tensor = self.reader.next_tensor()?.context("the stream changed while it was read")?;
        Ok(Box::new(Elements { tensor, chunk: Vec::new(), taken: 0 }))
    }
}

/// The elements of a tensor as a reader.
struct Elements<'a> {
    tensor: TensorReader<'a, File>,
    chunk: Vec<u8>,
    taken: usize,
}

impl Read for Elements<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.chunk.len() {
            let Some(chunk) = self.tensor.next_chunk()? else { return Ok(0) };
            self.chunk.clear();
            self.chunk.extend_from_slice(chunk);
            self.taken = 0;
        }
        (&self.chunk[self.taken..]).read(buf).inspect(|n| self.taken += n)
    }
}
