//! Safetensors: a length, a JSON header, and the tensors one after the other.
//!
//! The header comes first, so a pipe will do; it is parsed and validated by the safetensors crate.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};

use ::safetensors::tensor::Metadata;
use anyhow::{Context, Result, anyhow, ensure};
use fedpress::DType;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::exit::unfit;
use crate::table::printable;

use super::input::{is_at_end, read_small};
use super::output::Ledger;
use super::{BadFile, Bytes, Output, Sink, Source, TensorInfo, byte_len, n_values};

/// The length of the header is a u64.
const LENGTH: u64 = 8;
/// The limit of the safetensors crate.
const MAX_HEADER: u64 = 100_000_000;
/// The key that is not a tensor.
const METADATA: &str = "__metadata__";

/// Whether a file that begins like this is a safetensors file.
pub(super) fn is_magic(head: &[u8]) -> bool {
    match head.split_first_chunk() {
        Some((length, [b'{', ..])) => u64::from_le_bytes(*length) <= MAX_HEADER,
        _ => false,
    }
}

/// One safetensors file.
pub(super) struct SafetensorsSource {
    bytes: Bytes,
    tensors: Vec<TensorInfo>,
    /// Position of each tensor in the file, and its length.
    spans: Vec<(u64, u64)>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsSource {
    /// Reads the header.
    pub(super) fn open(mut bytes: Bytes) -> Result<Self> {
        let place = bytes.place().to_owned();
        let (start, header) = read_header(&mut bytes)?;
        let mut entries: Vec<_> = header.tensors().into_iter().collect();
        // Empty tensors share their offset with a neighbour, and a map has no order of its own.
        entries.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
        let (mut tensors, mut spans) = (Vec::new(), Vec::new());
        for (name, entry) in entries {
            let dtype = DType::from_name(&entry.dtype.to_string()).ok_or_else(|| {
                anyhow!(
                    "{}: tensor {name:?} has dtype {}, which is not supported",
                    place.display(),
                    entry.dtype
                )
            })?;
            let shape = entry.shape.iter().map(|d| *d as u64).collect();
            let (from, to) = entry.data_offsets;
            tensors.push(TensorInfo { name, dtype, shape, open: false });
            spans.push((start + from as u64, (to - from) as u64));
        }
        let end = start + header.data_len() as u64;
        if let Some(size) = bytes.size().filter(|size| *size != end) {
            let reason = format!("is {size} bytes long, its header describes {end}");
            return Err(BadFile::new(&place, reason).into());
        }
        if tensors.is_empty() && !is_at_end(&mut bytes)? {
            return Err(BadFile::new(&place, "bytes follow after the last tensor").into());
        }
        let metadata = header.metadata().iter().flatten();
        let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Self { bytes, tensors, spans, metadata })
    }
}

/// The header, and the position of the first byte after it.
fn read_header(bytes: &mut Bytes) -> Result<(u64, Metadata)> {
    let place = bytes.place().to_owned();
    let bad = |reason: String| BadFile::new(&place, reason);
    let io = || format!("cannot read the header of {}", place.display());
    let room = bytes.size().map_or(MAX_HEADER, |size| size.saturating_sub(LENGTH).min(MAX_HEADER));

    let mut length = [0; LENGTH as usize];
    let head = read_small(bytes, LENGTH).with_context(io)?;
    length.copy_from_slice(&head.ok_or_else(|| bad("is too short for safetensors".into()))?);
    let length = u64::from_le_bytes(length);
    if length > room {
        return Err(bad(format!("claims a header of {length} bytes, possible are {room}")).into());
    }
    let text = read_small(bytes, length).with_context(io)?;
    let text = text.ok_or_else(|| bad("ends inside its header".into()))?;
    let header = serde_json::from_slice(&text)
        .map_err(|error| bad(format!("has an invalid safetensors header: {error}")))?;
    Ok((LENGTH + length, header))
}

impl Source for SafetensorsSource {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn rereads(&self) -> bool {
        self.bytes.size().is_some()
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        let (start, len) = *self.spans.get(index).context("no such tensor")?;
        let last = index + 1 == self.spans.len();
        let what = format!("tensor {:?}", self.tensors[index].name);
        Ok(Box::new(self.bytes.section(start, len, last, what)?))
    }
}

/// The header in the order of the data, without going through the hash maps of the safetensors
/// crate: the same tensors make the same bytes.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, Entry<'a>)>,
}

#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [u64],
    data_offsets: (u64, u64),
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.entries {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}

/// The header of these tensors, one after the other, with its length.
fn header_bytes(infos: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (mut names, mut entries, mut offset) = (HashSet::new(), Vec::new(), 0u64);
    for info in infos {
        let name = info.name.as_str();
        ensure!(name != METADATA, "safetensors cannot hold a tensor called {METADATA}");
        ensure!(names.insert(name), "there are two tensors called {name:?}");
        let end = byte_len(info.dtype, &info.shape)
            .and_then(|len| offset.checked_add(len))
            .with_context(|| format!("tensor {name:?} has an impossible size"))?;
        let dtype = info.dtype.name();
        entries.push((name, Entry { dtype, shape: &info.shape, data_offsets: (offset, end) }));
        offset = end;
    }
    let mut header = vec![0; LENGTH as usize];
    serde_json::to_writer(&mut header, &Header { metadata, entries })?;
    // Spaces up to a multiple of 8, so that the data is aligned when the file is mapped.
    header.resize(header.len().next_multiple_of(LENGTH as usize), b' ');
    let length = header.len() as u64 - LENGTH;
    ensure!(length <= MAX_HEADER, "the safetensors header would be {length} bytes long");
    header[..LENGTH as usize].copy_from_slice(&length.to_le_bytes());
    Ok(header)
}

/// Writes one safetensors file, the tensors in the order in which they were announced.
pub(super) struct SafetensorsSink<'a> {
    output: Output<'a>,
    ledger: Ledger,
}

impl<'a> SafetensorsSink<'a> {
    /// Writes the header.
    pub(super) fn create(
        mut output: Output<'a>,
        infos: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let ledger = Ledger::of_closed(infos, "safetensors")?;
        for TensorInfo { name, dtype, shape, .. } in infos {
            let n_bits = u128::from(n_values(shape)) * dtype.bits() as u128;
            if !n_bits.is_multiple_of(8) {
                return Err(unfit(anyhow!(
                    "tensor {}: {shape:?} of {dtype} are {n_bits} bits, and safetensors holds whole \
                     bytes; write raw instead",
                    printable(name)
                )));
            }
        }
        output.write_all(&header_bytes(infos, metadata)?)?;
        Ok(Self { output, ledger })
    }
}

impl Sink for SafetensorsSink<'_> {
    fn begin(&mut self, info: &TensorInfo) -> Result<()> {
        self.ledger.begin(info)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.ledger.add(bytes)?;
        Ok(self.output.write_all(bytes)?)
    }

    fn end(&mut self, final_shape: &[u64]) -> Result<()> {
        self.ledger.end(final_shape)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.ledger.finish()?;
        Ok(self.output.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{info, open, read_back, sample, write};
    use super::super::{Format, RawOptions, open_bytes};
    use super::*;
    use std::path::Path;

    fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    fn refusal(content: Vec<u8>) -> anyhow::Error {
        let mut errors = [false, true].map(|seekable| {
            open(&content, seekable, "w.safetensors", &RawOptions::default())
                .and_then(|mut source| read_back(&mut *source))
                .expect_err("refused")
        });
        std::mem::replace(&mut errors[0], anyhow!(""))
    }

    #[test]
    fn every_dtype_survives_safetensors() {
        let tensors: Vec<_> = DType::ALL
            .iter()
            .copied()
            .map(|d| sample(&format!("ä \"{d}\"/x"), d, &[3, 1, 8]))
            .chain([
                sample("scalar", DType::F32, &[]),
                sample("empty", DType::F64, &[4, 0]),
                sample("also empty", DType::U8, &[0]),
                sample("end", DType::U8, &[7]),
            ])
            .collect();
        let metadata = BTreeMap::from([("format".into(), "pt".into()), ("a".into(), "b".into())]);
        for seekable in [false, true] {
            let file = write(Format::Safetensors, seekable, &tensors, &metadata).unwrap();
            let oracle = ::safetensors::SafeTensors::deserialize(&file).unwrap();
            for (info, data) in &tensors {
                assert_eq!(oracle.tensor(&info.name).unwrap().data(), data);
            }
            let mut source = open(&file, seekable, "x", &RawOptions::default()).unwrap();
            assert_eq!(*source.metadata(), metadata);
            let mut back = read_back(&mut *source).unwrap();
            let mut all = tensors.clone();
            for list in [&mut back, &mut all] {
                list.sort_by(|a, b| a.0.name.cmp(&b.0.name));
            }
            assert_eq!(back, all);
        }
    }

    #[test]
    fn the_header_is_padded_and_its_bytes_never_vary() {
        let metadata: BTreeMap<_, _> = (0..20).map(|i| (i.to_string(), "v".repeat(i))).collect();
        let infos = [info("a", DType::F32, &[2]), info("b", DType::F64, &[1])];
        let header = header_bytes(&infos, &metadata).unwrap();
        assert_eq!(header.len() % 8, 0);
        assert_eq!(header, header_bytes(&infos, &metadata).unwrap());
        assert_eq!(
            header_bytes(&infos[..1], &BTreeMap::new()).unwrap(),
            b"\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  "
        );
    }

    #[test]
    fn hostile_headers_are_bad_files() {
        let entry = |shape: &str, offsets: &str| {
            format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
        };
        for (content, word) in [
            (vec![], "short"),
            (vec![1, 2, 3], "short"),
            (u64::MAX.to_le_bytes().to_vec(), "header"),
            (100_000_001u64.to_le_bytes().to_vec(), "header"),
            (file_of(&entry("[2]", "[0,8]"), &[0; 8])[..30].to_vec(), "header"),
            (file_of("{\"w\":", &[]), "header"),
            (file_of("\u{0}", &[]), "header"),
            (file_of(&entry("[2]", "[0,8]"), &[0; 7]), "early"),
            (file_of(&entry("[2]", "[0,8]"), &[0; 9]), "follow"),
            (file_of("{}", &[0; 9]), "follow"),
            (file_of(&entry("[2]", "[0,7]"), &[0; 7]), "header"),
            (file_of(&entry("[2]", "[8,0]"), &[0; 8]), "header"),
            (file_of(&entry("[2]", "[4,12]"), &[0; 12]), "header"),
            (file_of(&entry("[4294967296,4294967296]", "[0,0]"), &[]), "header"),
            (file_of(&entry("[-2]", "[0,8]"), &[0; 8]), "header"),
            (file_of(&"[".repeat(100_000), &[]), "header"),
        ] {
            let error = refusal(content);
            let bad = BadFile::find(&error).unwrap_or_else(|| panic!("{error:#}"));
            assert!(bad.reason.contains(word), "{bad}");
        }
    }

    #[test]
    fn a_sink_refuses_what_safetensors_cannot_hold() {
        let create = |infos: &[TensorInfo]| {
            let output = Output::stream(std::io::sink());
            SafetensorsSink::create(output, infos, &BTreeMap::new()).err().unwrap().to_string()
        };
        let w = info("w", DType::U8, &[1]);
        assert!(create(&[w.clone(), w.clone()]).contains("two"));
        assert!(create(&[info(METADATA, DType::U8, &[1])]).contains(METADATA));
        assert!(create(&[info("w", DType::F32, &[1 << 62])]).contains("impossible"));
        assert!(create(&[TensorInfo { open: true, shape: vec![0], ..w }]).contains("open"));
    }

    #[test]
    fn the_shared_tensors_read_like_the_safetensors_crate_reads_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tensors");
        let Ok(files) = std::fs::read_dir(&folder) else {
            return println!("skipped: there is no {}", folder.display());
        };
        for path in files.map(|f| f.unwrap().path()) {
            if Format::from_path(&path) != Some(Format::Safetensors) {
                continue;
            }
            let whole = std::fs::read(&path).unwrap();
            let oracle = ::safetensors::SafeTensors::deserialize(&whole).unwrap();
            let bytes = Bytes::open(path.clone().into()).unwrap();
            let mut source = open_bytes(bytes, &RawOptions::default()).unwrap();
            assert_eq!(source.metadata()["format"], "pt");
            let back = read_back(&mut *source).unwrap();
            assert_eq!(back.len(), oracle.len());
            for (info, data) in &back {
                let tensor = oracle.tensor(&info.name).unwrap();
                assert_eq!(tensor.data(), data);
                assert_eq!(tensor.dtype().to_string(), info.dtype.name());
            }
            let metadata = source.metadata().clone();
            let again = write(Format::Safetensors, true, &back, &metadata).unwrap();
            assert!(again == whole, "{} is written as it was read", path.display());
        }
    }
}
