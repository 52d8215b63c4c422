//! The header of a NumPy array: a Python dictionary with its type, its order and its shape.
//!
//! It is parsed here rather than by npyz, which allocates whatever size a file claims, overflows on
//! the product of its dimensions, and gives up before it can be said what to do about a bf16 array.
//! npyz still checks in the tests that what is written here is npy.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
use fedpress::DType;

use super::input::{blame, read_small};
use super::rearrange::{Swapped, Transposed};
use super::{BadFile, byte_len};

/// How every array begins.
pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header of format version 1.0; NumPy itself accepts 10 000 bytes.
const MAX_HEADER: u64 = 65_535;
/// NumPy leaves room for this many digits of the first dimension, so that it can grow in place.
const FIRST_DIGITS: usize = 21;

/// The element types that NumPy has.
pub(super) const DESCRS: [(DType, &str); 13] = [
    (DType::Bool, "|b1"),
    (DType::U8, "|u1"),
    (DType::I8, "|i1"),
    (DType::U16, "<u2"),
    (DType::I16, "<i2"),
    (DType::U32, "<u4"),
    (DType::I32, "<i4"),
    (DType::U64, "<u8"),
    (DType::I64, "<i8"),
    (DType::F16, "<f2"),
    (DType::F32, "<f4"),
    (DType::F64, "<f8"),
    (DType::C64, "<c8"),
];

/// What the header of an array says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NpyHeader {
    pub(super) dtype: DType,
    pub(super) shape: Vec<u64>,
    /// Whether the elements are in Fortran order, and that is another one than C order.
    fortran: bool,
    /// Bytes that are swapped, where elements are big-endian.
    swapped: Option<usize>,
    /// Bytes of the header.
    pub(super) len: u64,
    /// Bytes of the elements after it.
    pub(super) data: u64,
}

impl NpyHeader {
    /// The elements behind the header, as they are stored, little-endian in C order.
    pub(super) fn elements<'a>(&self, stored: impl Read + 'a) -> Box<dyn Read + 'a> {
        let mut elements: Box<dyn Read + 'a> = Box::new(stored);
        if let Some(size) = self.swapped {
            elements = Box::new(Swapped::new(elements, size));
        }
        if self.fortran {
            elements = Box::new(Transposed::new(elements, self.dtype.byte_len(1), &self.shape));
        }
        elements
    }
}

/// An array of a type that no tensor has.
#[derive(Debug)]
pub(super) struct OddArray(String);

impl std::fmt::Display for OddArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OddArray {}

/// Reads the header of an array that is called `what` in errors; `meant` is what types without a name in
/// NumPy are.
pub(super) fn read_header(
    reader: &mut impl Read,
    place: &Path,
    what: &str,
    meant: Option<DType>,
) -> Result<NpyHeader> {
    let bad = |reason: &str| Error::from(BadFile::new(place, format!("{what} {reason}")));
    let mut read = |len: u64| {
        read_small(reader, len)
            .map_err(|error| blame(place, what, error))
            .with_context(|| format!("cannot read {what} of {}", place.display()))?
            .ok_or_else(|| bad("ends inside its npy header"))
    };
    let start = read(8)?;
    ensure!(start.starts_with(MAGIC), bad("is no npy array"));
    let (length, fixed) = match start[6] {
        1 => (read(2)?, 10),
        2 | 3 => (read(4)?, 12),
        version => bail!("{}: {what} has npy version {version}, known are 1 to 3", place.display()),
    };
    let length = length.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    ensure!(length <= MAX_HEADER, bad(&format!("claims an npy header of {length} bytes")));
    let text = read(length)?;
    let text = std::str::from_utf8(&text).map_err(|_| bad("has an npy header that is no text"))?;
    let (descr, fortran, shape) = parse_header(text).ok_or_else(|| {
        bad(&format!("has an npy header that is not understood: {}", brief(text)))
    })?;
    let (dtype, swapped) = from_descr(descr, meant)
        .map_err(|why| Error::new(OddArray(format!("{}: {what} has {why}", place.display()))))?;
    let is_flat = shape.contains(&0) || shape.iter().filter(|d| **d != 1).count() < 2;
    let data =
        byte_len(dtype, &shape).ok_or_else(|| bad(&format!("has impossible shape {shape:?}")))?;
    let fortran = fortran && !is_flat;
    Ok(NpyHeader { dtype, shape, fortran, swapped, len: fixed + length, data })
}

/// As much of a text as fits an error message.
fn brief(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

/// The element type of a NumPy type string, and how many bytes of it to swap; or what is wrong with it
/// and what to do.
fn from_descr(
    descr: &str,
    meant: Option<DType>,
) -> std::result::Result<(DType, Option<usize>), String> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", descr));
    let same = |known: &&(DType, &str)| known.1[1..] == *kind;
    // What ml_dtypes writes, and what it may write one day.
    let void = match (order, kind) {
        (_, "V2") | ("b", "float16") => Some(16),
        (_, "V1" | "f1") | ("f", "loat8_e4m3fn" | "loat8_e5m2") => Some(8),
        _ => None,
    };
    match (order, kind, DESCRS.iter().find(same)) {
        ("<" | "=", _, Some((dtype, _))) => Ok((*dtype, None)),
        ("|" | ">", _, Some((dtype, _))) if dtype.bits() == 8 => Ok((*dtype, None)),
        (">", _, Some((DType::C64, _))) => Ok((DType::C64, Some(4))),
        (">", _, Some((dtype, _))) => Ok((*dtype, Some(dtype.byte_len(1)))),
        ("b", "float16", _) if meant.is_none() => Ok((DType::BF16, None)),
        _ if void.is_some() => match meant.filter(|meant| Some(meant.bits()) == void) {
            Some(dtype) => Ok((dtype, None)),
            None => {
                let (kinds, example) = match void {
                    Some(16) => ("bf16", "bf16"),
                    _ => ("8-bit floats", "f8_e4m3 or --dtype f8_e5m2"),
                };
                Err(format!(
                    "type {descr:?}, which is how {kinds} end up in npy; say which it is with --dtype {example}"
                ))
            }
        },
        ("[", ..) => Err("a structured type; save each field as an array of its own".into()),
        (_, "O", _) => Err("Python objects, which are pickled; save an array of numbers".into()),
        _ => Err(format!("type {descr:?}, which is not supported")),
    }
}

/// The type string (`[` for a structured type), whether in Fortran order, and the shape.
fn parse_header(text: &str) -> Option<(&str, bool, Vec<u64>)> {
    let mut scan = Scan(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    scan.token("{")?;
    while scan.token("}").is_none() {
        let key = scan.string()?;
        scan.token(":")?;
        match key {
            "descr" if scan.token("[").is_some() => return Some(("[", false, Vec::new())),
            "descr" if descr.is_none() => descr = Some(scan.string()?),
            "fortran_order" if fortran.is_none() => {
                fortran = Some(scan.token("True").is_some());
                scan.token(if fortran? { "" } else { "False" })?;
            }
            "shape" if shape.is_none() => shape = Some(scan.shape()?),
            _ => return None,
        }
        if scan.token(",").is_none() {
            scan.token("}")?;
            break;
        }
    }
    scan.0.trim().is_empty().then_some((descr?, fortran?, shape?))
}

/// Takes a Python literal apart, front to back.
struct Scan<'a>(&'a str);

impl<'a> Scan<'a> {
    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote =
            if self.token("'").is_some() { '\'' } else { self.token("\"").map(|()| '"')? };
        let (string, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        self.token("(")?;
        while self.token(")").is_none() {
            let text = self.0.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit())?;
            shape.push(text[..end].parse().ok()?);
            self.0 = &text[end..];
            self.token("L"); // Python 2 wrote its longs like this.
            if self.token(",").is_none() {
                self.token(")")?;
                break;
            }
        }
        Some(shape)
    }
}

/// The header of an array, byte for byte as NumPy writes it.
pub(super) fn header_bytes(name: &str, dtype: DType, shape: &[u64]) -> Result<Vec<u8>> {
    let (_, descr) = DESCRS.iter().find(|(known, _)| *known == dtype).with_context(|| {
        format!("tensor {name:?} is {dtype}, which NumPy does not have: write safetensors instead")
    })?;
    let dims: Vec<_> = shape.iter().map(u64::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let room = dims.first().map_or(0, |first| FIRST_DIGITS.saturating_sub(first.len()));
    let mut text = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}{:room$}",
        dims.join(", "),
        ""
    );
    // Like NumPy, pad to the next multiple of 64 even from a multiple of 64.
    let padded = |fixed: usize| (fixed + text.len() + 1) / 64 * 64 + 64 - fixed;
    let fixed = if padded(10) as u64 <= MAX_HEADER { 10 } else { 12 };
    let length = padded(fixed);
    text.push_str(&" ".repeat(length - 1 - text.len()));
    text.push('\n');
    let length = u32::try_from(length)?.to_le_bytes();
    let mut header = MAGIC.to_vec();
    header.extend(if fixed == 10 { [1, 0] } else { [2, 0] });
    header.extend(&length[..fixed - 8]);
    header.extend(text.as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_numpy() {
        let text = |shape: &[u64]| {
            let header = header_bytes("w", DType::F32, shape).unwrap();
            assert_eq!(header.len() % 64, 0);
            let parsed = npyz::NpyHeader::from_reader(&header[..]).unwrap();
            assert_eq!(parsed.shape(), shape);
            assert_eq!(parsed.dtype().descr(), "'<f4'");
            header
        };
        let wanted =
            |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        for (shape, python) in [(&[][..], "()"), (&[7], "(7,)"), (&[3, 4], "(3, 4)")] {
            let header = text(shape);
            assert_eq!(header.len(), 128);
            assert_eq!(&header[..10], b"\x93NUMPY\x01\0\x76\0");
            let line = std::str::from_utf8(&header[10..]).unwrap();
            assert_eq!(line.trim_end_matches([' ', '\n']), wanted(python));
            assert!(line.ends_with('\n'));
        }
        let long = text(&[1; 30_000]);
        assert_eq!(long[6], 2);
    }

    #[test]
    fn types_that_numpy_lacks_are_refused_by_name() {
        for dtype in DType::ALL.iter().copied() {
            let header = header_bytes("the weights", dtype, &[]);
            assert_eq!(header.is_ok(), DESCRS.iter().any(|(known, _)| *known == dtype));
            if let Err(error) = header.map_err(|e| e.to_string()) {
                assert!(error.contains("\"the weights\"") && error.contains("safetensors"));
            }
        }
    }
}
