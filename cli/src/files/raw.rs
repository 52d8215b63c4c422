//! Raw bytes: one tensor, described on the command line.

use std::io::{self, Read, Write};
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use fedpress::DType;

use super::output::Ledger;
use super::{BadFile, Bytes, Format, Output, Sink, Source, TensorInfo, byte_len};

/// What the command line says about an input that does not say it itself.
#[derive(Debug, Clone, Default)]
pub struct RawOptions {
    /// The container, whatever the name and the first bytes say.
    pub format: Option<Format>,
    /// Element type; raw needs it.
    pub dtype: Option<DType>,
    /// Dimensions; raw needs them.
    pub shape: Option<Shape>,
    /// Name of the tensor for raw and npy, which hold none: [`RawOptions::DEFAULT_NAME`] if absent.
    pub name: Option<String>,
    /// Leave out what no tensor can hold, such as arrays of text, instead of refusing all.
    pub skip_unsupported: bool,
    /// Take tensors of shards that their index does not list, too.
    pub unlisted: bool,
}

impl RawOptions {
    /// What a tensor without a name is called.
    pub const DEFAULT_NAME: &'static str = "tensor";

    pub(super) fn tensor_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| Self::DEFAULT_NAME.into())
    }
}

/// Dimensions of which the first may be left to the length of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Outermost first; the first is 0 when it is open.
    pub dims: Vec<u64>,
    /// Whether the first was given as -1.
    pub open: bool,
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_shape(text)
    }
}

/// Parses `3,224,224`, or `-1,512` with an open first dimension; nothing at all is a scalar.
pub fn parse_shape(text: &str) -> Result<Shape> {
    let mut shape = Shape { dims: Vec::new(), open: false };
    if text.trim().is_empty() {
        return Ok(shape);
    }
    let parts = text.trim().strip_suffix(',').unwrap_or(text.trim());
    for (i, part) in parts.split(',').map(str::trim).enumerate() {
        shape.open |= i == 0 && part == "-1";
        ensure!(part != "-1" || i == 0, "shape {text:?}: only the first dimension can be -1");
        shape.dims.push(match part {
            "-1" => 0,
            _ => part.parse().ok().with_context(|| {
                format!("shape {text:?}: {part:?} is no dimension; expected is 3,224,224 or -1,512")
            })?,
        });
    }
    Ok(shape)
}

/// The bytes of one tensor.
pub(super) struct RawSource {
    bytes: Bytes,
    info: TensorInfo,
    /// What a row of an open tensor takes, and a closed tensor as a whole.
    unit: u64,
}

impl RawSource {
    /// Takes dtype, shape and name from the options. A file has a length, which resolves an open
    /// first dimension; a pipe has none.
    pub(super) fn open(bytes: Bytes, options: &RawOptions) -> Result<Self> {
        let place = bytes.place();
        let dtype = options.dtype.with_context(|| {
            format!("{}: raw bytes need a dtype, such as --dtype F32", place.display())
        })?;
        let Shape { dims: mut shape, open } = options.shape.clone().with_context(|| {
            format!("{}: raw bytes need a shape, such as --shape -1,512", place.display())
        })?;
        let unit = byte_len(dtype, if open { &shape[1..] } else { &shape[..] })
            .with_context(|| format!("shape {shape:?} has an impossible size"))?;
        ensure!(
            unit > 0 || !open,
            "shape {shape:?}: an open dimension needs rows that are not empty"
        );
        let mut info = TensorInfo { name: options.tensor_name(), dtype, shape: Vec::new(), open };
        if let Some(size) = bytes.size() {
            if !open && size != unit {
                let reason = format!("has {size} bytes, {dtype} of shape {shape:?} takes {unit}");
                return Err(BadFile::new(place, reason).into());
            }
            if open {
                whole_rows(&bytes, size, unit)?;
                shape[0] = size / unit;
                info.open = false;
            }
        }
        let unit = bytes.size().unwrap_or(unit);
        Ok(Self { bytes, info: TensorInfo { shape, ..info }, unit })
    }
}

fn whole_rows(bytes: &Bytes, size: u64, row: u64) -> std::result::Result<(), BadFile> {
    let reason = || format!("has {size} bytes, which are not whole rows of {row} bytes");
    size.is_multiple_of(row).then_some(()).ok_or_else(|| BadFile::new(bytes.place(), reason()))
}

impl Source for RawSource {
    fn tensors(&self) -> &[TensorInfo] {
        std::slice::from_ref(&self.info)
    }

    fn rereads(&self) -> bool {
        self.bytes.size().is_some()
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        ensure!(index == 0, "no such tensor");
        if self.info.open {
            self.bytes.go_to(0)?;
            return Ok(Box::new(Rows { bytes: &mut self.bytes, row: self.unit, seen: 0 }));
        }
        let what = format!("tensor {:?}", self.info.name);
        Ok(Box::new(self.bytes.section(0, self.unit, true, what)?))
    }
}

/// Reads rows until there are no more.
struct Rows<'a> {
    bytes: &'a mut Bytes,
    row: u64,
    seen: u64,
}

impl Read for Rows<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(buf)?;
        self.seen += n as u64;
        if n == 0 && !buf.is_empty() {
            whole_rows(self.bytes, self.seen, self.row)?;
        }
        Ok(n)
    }
}

/// Writes the bytes of one tensor.
pub(super) struct RawSink<'a> {
    output: Output<'a>,
    ledger: Ledger,
}

impl<'a> RawSink<'a> {
    /// Expects a single tensor, open or not.
    pub(super) fn create(output: Output<'a>, infos: &[TensorInfo]) -> Result<Self> {
        Ok(Self { output, ledger: Ledger::of_one(infos, "raw")? })
    }
}

impl Sink for RawSink<'_> {
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
    use super::super::tests::{open, read_back, sample, write};
    use super::*;
    use std::collections::BTreeMap;

    fn options(dtype: DType, shape: &str) -> RawOptions {
        RawOptions { dtype: Some(dtype), shape: Some(shape.parse().unwrap()), ..Default::default() }
    }

    #[test]
    fn shapes_parse() {
        let shape = |dims: &[u64], open| Shape { dims: dims.to_vec(), open };
        assert_eq!(parse_shape("3,224, 224").unwrap(), shape(&[3, 224, 224], false));
        assert_eq!(parse_shape("-1,512").unwrap(), shape(&[0, 512], true));
        assert_eq!(parse_shape("-1").unwrap(), shape(&[0], true));
        assert_eq!(parse_shape("7,").unwrap(), shape(&[7], false));
        assert_eq!(parse_shape("").unwrap(), shape(&[], false));
        for bad in ["2,-1", "-2", "a", "1,,2", ",", "1.5", "99999999999999999999", "0x10"] {
            assert!(parse_shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_dtype_survives_raw() {
        for dtype in DType::ALL.iter().copied() {
            let tensor = sample("tensor", dtype, &[3, 5]);
            let list = std::slice::from_ref(&tensor);
            for seekable in [false, true] {
                let file = write(Format::Raw, seekable, list, &BTreeMap::new()).unwrap();
                assert_eq!(file, tensor.1);
                let mut source = open(&file, seekable, "x", &options(dtype, "3,5")).unwrap();
                assert_eq!(read_back(&mut *source).unwrap(), list);
            }
        }
    }

    #[test]
    fn an_open_shape_is_resolved_by_a_file_and_stays_open_in_a_pipe() {
        let (_, data) = sample("w", DType::F16, &[7, 3]);
        let options = RawOptions { name: Some("w".into()), ..options(DType::F16, "-1,3") };
        for seekable in [false, true] {
            let mut source = open(&data, seekable, "x", &options).unwrap();
            let (info, back) = read_back(&mut *source).unwrap().remove(0);
            assert_eq!(back, data);
            assert_eq!((info.name.as_str(), info.open), ("w", !seekable));
            assert_eq!(info.shape, [if seekable { 7 } else { 0 }, 3]);
            assert_eq!(source.read(0).is_ok(), seekable);
        }
    }

    fn refusal(len: usize, seekable: bool, shape: &str) -> String {
        let error = open(&vec![0; len], seekable, "x.raw", &options(DType::F32, shape))
            .and_then(|mut source| read_back(&mut *source))
            .unwrap_err();
        BadFile::find(&error).unwrap_or_else(|| panic!("{error:#}")).to_string()
    }

    #[test]
    fn a_short_raw_file_is_refused() {
        assert!(refusal(39, true, "10").contains("39"));
        assert!(refusal(39, false, "10").contains("lacks 1 bytes"));
        assert!(refusal(0, false, "10").contains("lacks 40 bytes"));
    }

    #[test]
    fn a_long_raw_file_is_refused() {
        assert!(refusal(41, true, "10").contains("41"));
        assert!(refusal(41, false, "10").contains("follow"));
        assert!(refusal(1, false, "0").contains("follow"));
    }

    #[test]
    fn a_partial_row_is_refused() {
        for seekable in [false, true] {
            assert!(refusal(25, seekable, "-1,3").contains("rows of 12"));
        }
    }

    #[test]
    fn a_raw_file_needs_a_possible_shape_and_a_dtype() {
        for (options, word) in [
            (RawOptions { dtype: Some(DType::F32), ..Default::default() }, "--shape"),
            (RawOptions { shape: parse_shape("3").ok(), ..Default::default() }, "--dtype"),
            (options(DType::F64, "4294967296,4294967296"), "impossible"),
            (options(DType::F64, "-1,0"), "rows"),
        ] {
            let error = open(&[], true, "x", &options).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn raw_holds_exactly_one_tensor() {
        let two = [sample("a", DType::U8, &[1]), sample("b", DType::U8, &[1])];
        assert!(write(Format::Raw, true, &two, &BTreeMap::new()).is_err());
        assert!(write(Format::Raw, true, &[], &BTreeMap::new()).is_err());
    }
}
