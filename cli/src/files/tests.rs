//! What the tests of every format share: sample tensors, written and read back in memory.

use std::io::{Cursor, Seek, Write};

use super::*;

/// A tensor with its bytes.
pub type Sample = (TensorInfo, Vec<u8>);

/// A closed tensor.
pub fn info(name: &str, dtype: DType, shape: &[u64]) -> TensorInfo {
    TensorInfo { name: name.into(), dtype, shape: shape.into(), open: false }
}

/// A closed tensor with bytes that differ from place to place.
pub fn sample(name: &str, dtype: DType, shape: &[u64]) -> Sample {
    let len = byte_len(dtype, shape).unwrap();
    (
        info(name, dtype, shape),
        (0..len).map(|i| (i * 37 + i / 256 + name.len() as u64) as u8).collect(),
    )
}

/// The container with these tensors.
pub fn write(
    format: Format,
    seekable: bool,
    tensors: &[Sample],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    let output = if seekable { Output::seekable(&mut file) } else { Output::stream(&mut file) };
    let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let mut sink = create_sink(format, output, &infos, metadata)?;
    for (info, data) in tensors {
        sink.begin(info)?;
        for part in data.chunks(11) {
            sink.write(part)?;
        }
        let rows = byte_len(info.dtype, info.shape.get(1..).unwrap_or_default()).unwrap();
        let mut shape = info.shape.clone();
        if info.open {
            shape[0] = data.len() as u64 / rows;
        }
        sink.end(&shape)?;
    }
    sink.finish()?;
    Ok(file.into_inner())
}

/// A source of these bytes, as a file or as a pipe.
pub fn open(
    content: &[u8],
    seekable: bool,
    place: &str,
    options: &RawOptions,
) -> Result<Box<dyn Source>> {
    let bytes = if seekable {
        let mut file = tempfile::tempfile()?;
        file.write_all(content)?;
        file.rewind()?;
        Bytes::file(file, Path::new(place))
    } else {
        Bytes::stream(Cursor::new(content.to_vec()), Path::new(place))
    };
    open_bytes(bytes?, options)
}

/// Every tensor of a source.
pub fn read_back(source: &mut dyn Source) -> Result<Vec<Sample>> {
    let infos = source.tensors().to_vec();
    infos
        .into_iter()
        .enumerate()
        .map(|(index, info)| {
            let mut data = Vec::new();
            source.read(index)?.read_to_end(&mut data)?;
            Ok((info, data))
        })
        .collect()
}

#[test]
fn a_bad_file_is_found_under_context_and_inside_io_errors() {
    let bad = BadFile::new(Path::new("x"), "broken");
    assert_eq!(bad.to_string(), "x: broken");
    let direct = anyhow::Error::from(bad.clone()).context("while reading");
    let inside = anyhow::Error::from(io::Error::from(bad.clone())).context("while reading");
    assert_eq!(BadFile::find(&direct), Some(&bad));
    assert_eq!(BadFile::find(&inside), Some(&bad));
    assert_eq!(BadFile::find(&anyhow::anyhow!("other")), None);
}

#[test]
fn a_zero_dimension_makes_a_tensor_empty_and_an_overflow_makes_it_impossible() {
    assert_eq!(byte_len(DType::F32, &[]), Some(4));
    assert_eq!(byte_len(DType::F32, &[u64::MAX, u64::MAX, 0]), Some(0));
    assert_eq!(byte_len(DType::F32, &[1 << 62]), None);
}

#[test]
fn an_index_cannot_be_written() {
    assert!(write(Format::SafetensorsIndex, true, &[], &BTreeMap::new()).is_err());
}

#[test]
fn an_output_file_is_patchable_and_a_device_is_not() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Output::file(&file).unwrap(), Output::Seekable(_)));
    if let Ok(null) = std::fs::File::create("/dev/null") {
        assert!(matches!(Output::file(&null).unwrap(), Output::Stream(_)));
    }
}
