//! [`Folder`]: one file for each client, that is there complete or not at all.
//!
//! A file is the features, row by row, f32, little-endian; a codec stream with a record 0xA3 (the
//! version of the state and the header of the upload) and the tensors `ids`, `labels`, `logits` and
//! `sums`; and the position of that stream in eight bytes. It is for the same version of this crate.

use super::header::Features;
use super::options::StoreOptions;
use super::order::Part;
use super::samples::{Table, sum};
use crate::bytes::{Fields, STATE_VERSION, split_state};
use crate::{Error, Result};
use fedpress::{DType, DecodeOptions, EncodeOptions, Seeds, Spec, TensorView, Writer};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The record of a file.
const RECORD: u8 = 0xA3;
const FINAL: &str = "features";
const TEMPORARY: &str = "partial";
/// Bytes of the position at the end.
const FOOTER: u64 = 8;

/// A folder that no other store uses.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes hold of a folder, which is made if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let name = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&name);
        let lock = lock.map_err(|e| Error::io(&name, e))?;
        lock.try_lock().map_err(|e| Error::io(&name, e.into()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The clients of complete files, ascending. What uploads left that did not end is removed.
    pub(super) fn clients(&self) -> Result<Vec<u64>> {
        let failed = |e| Error::io(&self.path, e);
        let mut clients = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is = |extension: &str| path.extension().is_some_and(|e| e == extension);
            let client = path.file_stem().and_then(|stem| stem.to_str()).and_then(number);
            match client {
                Some(_) if is(TEMPORARY) => {
                    fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
                }
                Some(client) if is(FINAL) => clients.push(client),
                _ => {}
            }
        }
        clients.sort_unstable();
        Ok(clients)
    }

    pub(super) fn file(&self, client: u64) -> PathBuf {
        self.path.join(format!("{client:016x}.{FINAL}"))
    }

    pub(super) fn temporary(&self, client: u64) -> PathBuf {
        self.path.join(format!("{client:016x}.{TEMPORARY}"))
    }

    /// The complete temporary file takes the place of the client's file.
    pub(super) fn commit(&self, client: u64) -> Result<()> {
        let path = self.file(client);
        fs::rename(self.temporary(client), &path).map_err(|e| Error::io(&path, e))?;
        self.sync();
        Ok(())
    }

    /// The client's file goes.
    pub(super) fn remove(&self, client: u64) -> Result<()> {
        let path = self.file(client);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => {
                self.sync();
                Ok(())
            }
        }
    }

    /// The names are in the folder, which some systems cannot sync; then it has to do.
    fn sync(&self) {
        let _ = File::open(&self.path).and_then(|folder| folder.sync_all());
    }
}

/// From the name of a file: 16 digits, as they are written.
fn number(stem: &str) -> Option<u64> {
    let client = u64::from_str_radix(stem, 16).ok()?;
    (format!("{client:016x}") == stem).then_some(client)
}

/// Ends a file behind its features, and syncs it.
pub(super) fn seal(
    mut out: BufWriter<File>,
    header: &Features,
    table: &Table,
) -> std::io::Result<()> {
    let at = out.stream_position()?;
    let mut out = write_table(out, header, table)?;
    out.write_all(&at.to_le_bytes())?;
    out.into_inner()?.sync_all()
}

fn write_table<W: Write>(out: W, header: &Features, table: &Table) -> fedpress::Result<W> {
    let seeds = Seeds::new(0, 0).in_round(header.round).of_client(header.client, 0);
    let mut writer = Writer::new(out, EncodeOptions::new(seeds))?;
    let mut head = vec![STATE_VERSION];
    let common = [header.run, header.round, header.client];
    common.iter().for_each(|field| head.extend_from_slice(&field.to_le_bytes()));
    header.write_to(&mut head);
    writer.record(RECORD, &head)?;
    let bytes = [
        table.ids.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
        table.labels.iter().flat_map(|v| v.to_le_bytes()).collect(),
        table.logits.iter().flat_map(|v| v.to_le_bytes()).collect(),
        table.sums.iter().flat_map(|v| v.to_le_bytes()).collect(),
    ];
    let columns = columns(table.ids.len(), header.classes);
    for ((name, dtype, shape), data) in columns.iter().zip(&bytes) {
        let view = TensorView { name, dtype: *dtype, shape, data };
        writer.tensor(&view, &Spec::lossless())?;
    }
    writer.finish()
}

fn columns(n: usize, classes: usize) -> [(&'static str, DType, Vec<usize>); 4] {
    [
        (Part::Ids.name(), DType::U32, vec![n]),
        (Part::Labels.name(), DType::U16, vec![n]),
        (Part::Logits.name(), DType::F32, vec![n, classes]),
        ("sums", DType::U64, vec![n]),
    ]
}

/// Round and table of a client's file. Features are checked where they are read.
pub(super) fn load(path: &Path, client: u64, options: &StoreOptions) -> Result<(u64, Table)> {
    let (at, tail) = read_tail(path, options)?;
    let read = || -> Result<(u64, Table)> {
        let mut decode = DecodeOptions::default();
        decode.memory = tail_memory(options);
        let (head, stream, rest) = split_state(&tail, RECORD, &decode)?;
        if !rest.is_empty() {
            return Err(Error::corrupt(format!("{} bytes behind the table", rest.len())));
        }
        let header = read_head(&head)?;
        let expected = (options.run, client, &options.shape, options.classes);
        let found = (header.run, header.client, &header.shape, header.classes);
        if expected != found {
            return Err(Error::invalid(format!(
                "run, client, shape and classes: expected {expected:?}, found {found:?}"
            )));
        }
        let table = read_table(&fedpress::decode(stream, &decode)?, options)?;
        if at != table.ids.len() as u64 * options.sample_bytes() as u64 {
            let n = table.ids.len();
            return Err(Error::corrupt(format!("{at} bytes of features of {n} samples")));
        }
        Ok((header.round, table))
    };
    read().map_err(|e| e.in_file(path))
}

/// What the table of as many samples as are allowed takes.
fn tail_memory(options: &StoreOptions) -> u64 {
    (u64::from(options.max_samples) * (14 + 4 * options.classes as u64)).saturating_mul(2)
        + (16 << 20)
}

/// Position and bytes of what follows the features.
fn read_tail(path: &Path, options: &StoreOptions) -> Result<(u64, Vec<u8>)> {
    let failed = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let corrupt = |message: String| Error::corrupt(message).in_file(path);
    let Some(end) = len.checked_sub(FOOTER) else {
        return Err(corrupt(format!("{len} bytes are too few")));
    };
    let mut footer = [0; FOOTER as usize];
    file.seek(SeekFrom::Start(end)).map_err(failed)?;
    file.read_exact(&mut footer).map_err(failed)?;
    let at = u64::from_le_bytes(footer);
    match end.checked_sub(at) {
        Some(n) if n <= tail_memory(options) => {
            let mut tail = vec![0; n as usize];
            file.seek(SeekFrom::Start(at)).map_err(failed)?;
            file.read_exact(&mut tail).map_err(failed)?;
            Ok((at, tail))
        }
        _ => Err(corrupt(format!("a table from {at} to {end}"))),
    }
}

fn read_head(head: &[u8]) -> Result<Features> {
    let mut fields = Fields(head);
    fields.state_version()?;
    let common = [fields.u64("run")?, fields.u64("round")?, fields.u64("client")?];
    let header = Features::read_from(&mut fields, common)?;
    fields.finish()?;
    Ok(header)
}

fn read_table(tensors: &[fedpress::Tensor], options: &StoreOptions) -> Result<Table> {
    let n = tensors.first().and_then(|t| t.shape.first()).copied().unwrap_or(0);
    let expected = columns(n, options.classes);
    let found = tensors.iter().map(|t| (&t.name[..], t.dtype, &t.shape));
    if !found.eq(expected.iter().map(|(name, dtype, shape)| (*name, *dtype, shape))) {
        return Err(Error::corrupt("other columns than a table of samples has"));
    }
    if n == 0 || n as u64 > u64::from(options.max_samples) {
        let most = options.max_samples;
        return Err(Error::invalid(format!("{n} samples, 1 to {most} are allowed")));
    }
    let [ids, labels, logits, sums] = [0, 1, 2, 3].map(|i| &tensors[i].data);
    let table = Table {
        ids: super::order::ids(ids).collect(),
        labels: labels.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect(),
        logits: logits.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        sums: sums.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect(),
    };
    if table.labels.iter().any(|label| usize::from(*label) >= options.classes) {
        return Err(Error::corrupt("a label that is no class"));
    }
    Ok(table)
}

/// Reads the features of one row, and checks them against their sum.
pub(super) fn read_row(
    file: &mut File,
    path: &Path,
    row: usize,
    expected: u64,
    features: &mut [u8],
) -> Result<()> {
    let at = row as u64 * features.len() as u64;
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(features));
    read.map_err(|e| Error::io(path, e))?;
    match sum(features) == expected {
        true => Ok(()),
        false => Err(Error::corrupt(format!("the features in row {row}")).in_file(path)),
    }
}
