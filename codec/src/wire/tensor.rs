//! The record that opens a tensor.

use super::bytes::{Cursor, put_text, put_varint};
use super::version::VERSION_TEXT;
use crate::random::{Drawn, name_key};
use crate::tensor::element_count;
use crate::{DType, Error, Result, Spec};

/// Longest name, in bytes.
pub(crate) const MAX_NAME: u64 = 1 << 16;
/// Most dimensions.
const MAX_DIMS: u64 = 64;
/// Group sizes, as powers of two.
pub(crate) const GROUP_LOG2: std::ops::RangeInclusive<u8> = 12..=20;

const OPEN: u8 = 1 << 5;
const EXPLICIT_KEY: u8 = 1 << 6;
const SEEDS: u8 = 1 << 7;
/// Most pipelines of a tensor.
const MAX_PIPELINES: u8 = 15;
/// Beside their number: whether tied tensors may refer to this one.
const KEPT: u8 = 1 << 7;

/// What a tensor is called and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDesc {
    /// UTF-8, at most 65,536 bytes, unique within its stream.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Whether the first dimension is not known yet; `shape[0]` is then 0 and the last chunk
    /// closes it.
    pub open: bool,
}

impl TensorDesc {
    /// A tensor of known shape.
    pub fn new(name: impl Into<String>, dtype: DType, shape: &[u64]) -> Self {
        Self { name: name.into(), dtype, shape: shape.to_vec(), open: false }
    }

    /// A tensor whose first dimension is known only at its end; `row` are the other dimensions.
    pub fn open(name: impl Into<String>, dtype: DType, row: &[u64]) -> Self {
        let shape = std::iter::once(0).chain(row.iter().copied()).collect();
        Self { name: name.into(), dtype, shape, open: true }
    }

    /// Number of elements; `None` while the first dimension is open.
    pub(crate) fn n_values(&self) -> Result<Option<u64>> {
        self.row_values()?;
        if self.open { Ok(None) } else { element_count(&self.shape).map(Some) }
    }

    /// Elements per step of the first dimension; 1 for closed tensors, which are not cut by rows.
    pub(crate) fn row_values(&self) -> Result<u64> {
        if !self.open {
            return Ok(1);
        }
        let Some((0, row)) = self.shape.split_first() else {
            return Err(Error::invalid(format!(
                "an open tensor needs a first dimension of 0, found shape {:?}",
                self.shape
            )));
        };
        match element_count(row)? {
            0 => Err(Error::invalid(format!(
                "open first dimension over empty rows, shape {:?}",
                self.shape
            ))),
            n => Ok(n),
        }
    }

    /// The rules a description has to keep, whoever made it.
    pub(crate) fn check(&self) -> Result<()> {
        if self.name.len() as u64 > MAX_NAME {
            return Err(Error::invalid(format!(
                "name of {} bytes, at most {MAX_NAME} are allowed",
                self.name.len()
            )));
        }
        if self.shape.len() as u64 > MAX_DIMS {
            return Err(Error::invalid(format!(
                "{} dimensions, at most {MAX_DIMS} are allowed",
                self.shape.len()
            )));
        }
        let bits = self.dtype.bits() as u64;
        if self.open && self.row_values()?.wrapping_mul(bits) % 8 != 0 {
            return Err(Error::invalid(format!(
                "rows of {} elements of {} are not whole bytes",
                self.row_values()?,
                self.dtype
            )));
        }
        self.n_values().map(drop)
    }

    /// Name, element type, a byte of flags, dimensions: the part that manifests share.
    pub(crate) fn write_to(&self, flags: u8, out: &mut Vec<u8>) {
        put_text(out, &self.name);
        out.push(self.dtype.number());
        out.push(flags | if self.open { OPEN } else { 0 });
        put_varint(out, self.shape.len() as u64);
        self.shape.iter().for_each(|d| put_varint(out, *d));
    }

    /// The description and the other flags.
    pub(crate) fn read_from(cursor: &mut Cursor<'_>) -> Result<(Self, u8)> {
        let name = cursor.text(MAX_NAME, "tensor name")?.to_owned();
        let dtype = DType::from_number(cursor.u8("element type")?);
        let flags = cursor.u8("tensor flags")?;
        let n_dims = cursor.varint_up_to(MAX_DIMS, "number of dimensions")?;
        let shape = (0..n_dims).map(|_| cursor.varint("dimension")).collect::<Result<_>>()?;
        let desc = Self { name, dtype, shape, open: flags & OPEN != 0 };
        desc.check().map_err(|e| Error::corrupt(format!("tensor record: {e}")))?;
        Ok((desc, flags & !OPEN))
    }
}

/// The header of a tensor as it stands in the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorMeta {
    pub(crate) desc: TensorDesc,
    /// What chunks choose from; one or more.
    pub(crate) pipelines: Vec<Spec>,
    pub(crate) group_log2: u8,
    /// What decoding draws from, where a stage needs it.
    pub(crate) seeds: Option<Drawn>,
    /// Hash of the name: computed once, as names may be long and chunks short.
    pub(crate) name_hash: u64,
    /// What the keys of this tensor derive from, if not from its name.
    pub(crate) explicit_key: Option<u64>,
    /// Whether others may be tied to it.
    pub(crate) kept: bool,
    /// Name of the tensor whose values it has.
    pub(crate) tied_to: Option<String>,
}

impl TensorMeta {
    /// Name, element type and shape.
    pub fn desc(&self) -> &TensorDesc {
        &self.desc
    }

    /// Name of the tensor.
    pub fn name(&self) -> &str {
        &self.desc.name
    }

    /// Element type, of the original and of what is decoded.
    pub fn dtype(&self) -> DType {
        self.desc.dtype
    }

    /// The pipeline that the tensor was meant to go through, the first of its
    /// [pipelines](Self::pipelines). Of a Kashin stage only what the decoder needs is known; its
    /// other parameters show their defaults.
    pub fn spec(&self) -> &Spec {
        &self.pipelines[0]
    }

    /// The lossy ones of its [pipelines](Self::pipelines) that stand first.
    pub(crate) fn lossy(&self) -> &[Spec] {
        let n = self.pipelines.iter().take_while(|spec| spec.is_lossy()).count();
        &self.pipelines[..n]
    }

    /// Number of the lossless pipeline that groups of a lossy tensor fall back on.
    pub(crate) fn fallback(&self) -> Option<u8> {
        let n = self.lossy().len();
        (n > 0 && n < self.pipelines.len()).then_some(n as u8)
    }

    /// The pipelines that its chunks choose from.
    pub fn pipelines(&self) -> &[Spec] {
        &self.pipelines
    }

    /// The tensor before it in the stream whose values it has, where it is
    /// [tied](crate::Encoder::tie) to one: it takes no bytes but those of its name, and is read like any
    /// other.
    pub fn tied_to(&self) -> Option<&str> {
        self.tied_to.as_deref()
    }

    /// Whether this crate can decode the tensor. One of a later version may have an element type or
    /// a stage that it cannot; the other tensors of the stream are read all the same.
    pub fn supported(&self) -> Result<()> {
        let unknown = match self.desc.dtype {
            DType::Unknown(_) => Some(self.desc.dtype.to_string()),
            _ => {
                let unknown = self.pipelines.iter().find_map(|spec| spec.unknown);
                unknown.map(|id| format!("stage {id:#04x}"))
            }
        };
        let Some(found) = unknown else { return Ok(()) };
        let known = format!("those of FORMAT.md, version {VERSION_TEXT}");
        Err(Error::unsupported(found, known).in_tensor(self.name()))
    }

    /// Values per chunk: all chunks but the last have exactly this many.
    pub fn group_values(&self) -> usize {
        1 << self.group_log2
    }

    /// The shared seed and the round, if a stage of the pipeline uses them.
    pub fn seed_and_round(&self) -> Option<(u64, u64)> {
        self.seeds.map(|seeds| (seeds.shared, seeds.round))
    }

    /// The client that sent it and how many clients there are (0 if that is not known), if a stage
    /// of the pipeline uses them.
    pub fn client(&self) -> Option<(u64, u64)> {
        self.seeds.map(|seeds| (seeds.client, seeds.clients))
    }

    /// Whether all clients of its round rotate alike ([`Rotation::Shared`](crate::Rotation)), so that their
    /// coefficients may be summed ([`BasisSum`](crate::BasisSum)).
    pub fn shares_rotation(&self) -> bool {
        self.spec().basis.is_seeded() && self.seeds.is_some_and(|seeds| !seeds.own)
    }

    /// What the keys of this tensor derive from: a hash of its name unless the sender chose one.
    pub fn key(&self) -> u64 {
        self.explicit_key.unwrap_or(self.name_hash)
    }

    /// Number of elements; `None` while the first dimension is open.
    pub fn n_values(&self) -> Option<u64> {
        self.desc.n_values().ok().flatten()
    }

    /// Number of chunks; `None` while the first dimension is open.
    pub(crate) fn n_groups(&self) -> Option<u64> {
        self.n_values().map(|n| n.div_ceil(self.group_values() as u64))
    }

    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        let key = if self.explicit_key.is_some() { EXPLICIT_KEY } else { 0 };
        let seeds = if self.seeds.is_some() { SEEDS } else { 0 };
        self.desc.write_to(self.group_log2 | key | seeds, out);
        out.push(self.pipelines.len() as u8 | if self.kept { KEPT } else { 0 });
        self.pipelines.iter().for_each(|spec| spec.write_to(out));
        if let Some(Drawn { shared, round, client, clients, own }) = self.seeds {
            out.extend(shared.to_le_bytes());
            put_varint(out, round);
            put_varint(out, client);
            put_varint(out, clients << 1 | u64::from(own));
        }
        if let Some(key) = self.explicit_key {
            out.extend(key.to_le_bytes());
        }
    }

    pub(crate) fn read_from(body: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(body);
        let (desc, flags) = TensorDesc::read_from(&mut cursor)?;
        let name = desc.name.clone();
        Self::read_behind(desc, flags, &mut cursor).map_err(|e| e.in_tensor(&name))
    }

    /// What stands behind the description.
    fn read_behind(desc: TensorDesc, flags: u8, cursor: &mut Cursor<'_>) -> Result<Self> {
        let group_log2 = flags & 0x1f;
        if !GROUP_LOG2.contains(&group_log2) {
            return Err(Error::corrupt(format!("tensor flags: {flags:#04x} is reserved")));
        }
        let count = cursor.u8("number of pipelines")?;
        let (kept, count) = (count & KEPT != 0, count & !KEPT);
        if !(1..=MAX_PIPELINES).contains(&count) {
            return Err(Error::corrupt(format!(
                "number of pipelines: expected 1 to {MAX_PIPELINES}, found {count}"
            )));
        }
        let pipelines: Vec<_> =
            (0..count).map(|_| Spec::read_from(cursor)).collect::<Result<_>>()?;
        let may_be_lossy = desc.dtype.is_lossy_capable() || matches!(desc.dtype, DType::Unknown(_));
        let forbidden = |spec: &&Spec| spec.is_lossy() && spec.unknown.is_none() && !may_be_lossy;
        if let Some(spec) = pipelines.iter().find(forbidden) {
            return Err(Error::corrupt(format!("lossy pipeline {spec} on {} values", desc.dtype)));
        }
        let seeds = match flags & SEEDS {
            0 if pipelines.iter().any(Spec::is_seeded) => {
                return Err(Error::corrupt("a stage draws from a shared seed that is missing"));
            }
            0 => None,
            _ => Some(read_seeds(cursor)?),
        };
        let explicit_key = match flags & EXPLICIT_KEY {
            0 => None,
            _ => Some(cursor.u64("tensor key")?),
        };
        cursor.end("tensor record")?;
        let name_hash = name_key(&desc.name);
        Ok(Self {
            desc,
            pipelines,
            group_log2,
            seeds,
            name_hash,
            explicit_key,
            kept,
            tied_to: None,
        })
    }
}

fn read_seeds(cursor: &mut Cursor<'_>) -> Result<Drawn> {
    let shared = cursor.u64("shared seed")?;
    let (round, client) = (cursor.varint("round")?, cursor.varint("client")?);
    let cohort = cursor.varint("number of clients")?;
    Ok(Drawn { shared, round, client, clients: cohort >> 1, own: cohort & 1 == 1 })
}
