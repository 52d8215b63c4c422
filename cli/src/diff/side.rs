//! One side of a comparison: a tensor file, or a stream that is read like one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};

use anyhow::{Context, Result};
use fedpress::{DecodeOptions, Reader, TensorReader};

use crate::args::TensorFile;
use crate::decode::info_of;
use crate::exit::refused;
use crate::files::{Bytes, Format, Input, Source, TensorInfo, open_bytes, open_source};
use crate::stream::{self, Stream};

/// How every stream begins (FORMAT.md, "Preamble").
const MAGIC: &[u8] = b"\x89FDP\r\n\x1a\n";

/// Opens either; a pipe by way of a temporary file, since tensors may be in another order.
pub fn open(input: &Input, file: &TensorFile, options: &DecodeOptions) -> Result<Box<dyn Source>> {
    // Both sides share the options for raw bytes; they mean nothing to a stream.
    let by_name = |input: &Input| match input {
        Input::Path(path) => Format::from_path(path),
        Input::Stdin => None,
    };
    if by_name(input) == Some(Format::SafetensorsIndex) {
        return open_source(input.clone(), &file.options(input)?).map_err(refused);
    }
    let mut content = Stream::open(input)?.into_file()?;
    let mut head = Vec::new();
    (&mut content).take(MAGIC.len() as u64).read_to_end(&mut head)?;
    content.rewind()?;
    if head == MAGIC {
        return Ok(Box::new(StreamSource::open(content, options)?));
    }
    let bytes = Bytes::file(content, stream::place_of(input))?;
    open_bytes(bytes, &file.options(input)?).map_err(refused)
}

/// A stream as a source: quick in its own order, with a new start for each step back.
struct StreamSource {
    file: File,
    options: DecodeOptions,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    reader: Reader<File>,
    /// The tensor that the reader comes to next.
    next: usize,
}

impl StreamSource {
    fn open(mut file: File, options: &DecodeOptions) -> Result<Self> {
        let summary = fedpress::summarize(&mut file, options)?;
        file.rewind()?;
        Ok(Self {
            reader: Reader::new(file.try_clone()?, options.clone()),
            file,
            options: options.clone(),
            tensors: summary.tensors.iter().map(info_of).collect(),
            metadata: summary.metadata,
            next: 0,
        })
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
        if index < self.next {
            self.file.rewind()?;
            self.reader = Reader::new(self.file.try_clone()?, self.options.clone());
            self.next = 0;
        }
        while self.next < index {
            self.reader.next_tensor()?;
            self.next += 1;
        }
        self.next += 1;
        let tensor = self.reader.next_tensor()?.context("the stream changed while it was read")?;
        Ok(Box::new(Elements { tensor, chunk: Vec::new(), taken: 0 }))
    }

    fn is_rereadable(&self) -> bool {
        true
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
