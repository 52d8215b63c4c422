//! Zips of NumPy arrays, as `np.savez` writes them: each tensor is an entry `NAME.npy`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter};

use super::foreign::refusal_of_entry;
use super::format::pickle_refusal;
use super::input::Section;
use super::npy_header::{OddArray, header_bytes, read_header};
use super::output::Ledger;
use super::{BadFile, Bytes, Output, RawOptions, Sink, Source, TensorInfo};
use fedpress::DType;

/// Small, since every jump to another entry discards it; large reads of stored entries pass it by.
const ZIP_BUFFER: usize = 1 << 16;

/// What to do about an entry that no tensor can hold.
const OTHERS: &str = "; --skip-unsupported takes the others";

/// A zip of arrays.
pub(super) struct NpzSource {
    place: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    tensors: Vec<TensorInfo>,
    /// Entry of each tensor in the archive.
    entries: Vec<usize>,
    /// What types without a name in NumPy are.
    meant: Option<DType>,
    left_out: Vec<String>,
}

impl NpzSource {
    /// Reads the directory and the header of every array. A stream is first copied to a temporary
    /// file, for the directory is at the end.
    pub(super) fn open(bytes: Bytes, options: &RawOptions) -> Result<Self> {
        let place = bytes.place().to_owned();
        let file = BufReader::with_capacity(ZIP_BUFFER, bytes.into_file()?);
        let mut archive = ZipArchive::new(file).map_err(|e| zip_error(&place, e))?;
        let bad = |reason: String| Error::from(BadFile::new(&place, reason));
        ensure!(!archive.has_duplicate_names(), bad("has two entries of the same name".into()));
        refuse_foreign(&archive, &place)?;

        let (mut tensors, mut entries, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(|e| zip_error(&place, e))?;
            let name = entry.name().map_err(|e| zip_error(&place, e))?.into_owned();
            if entry.is_dir() {
                continue;
            }
            let Some(tensor) = name.strip_suffix(".npy") else {
                let odd = format!("{}: entry {name:?} is no .npy array", place.display());
                ensure!(options.skip_unsupported, "{odd}{OTHERS}");
                left_out.push(odd);
                continue;
            };
            let what = format!("entry {name:?}");
            let size = entry.size();
            let header = match read_header(&mut entry, &place, &what, options.dtype) {
                Err(error) if options.skip_unsupported && error.is::<OddArray>() => {
                    left_out.push(error.to_string());
                    continue;
                }
                Err(error) if error.is::<OddArray>() => Err(anyhow!("{error}{OTHERS}"))?,
                header => header?,
            };
            let wanted = header.len.checked_add(header.data);
            if wanted != Some(size) {
                return Err(bad(format!(
                    "{what} has {size} bytes, its header asks for {wanted:?}"
                )));
            }
            let (name, dtype, shape) = (tensor.to_owned(), header.dtype, header.shape);
            tensors.push(TensorInfo { name, dtype, shape, open: false });
            entries.push(index);
        }
        Ok(Self { place, archive, tensors, entries, meant: options.dtype, left_out })
    }
}

/// Refuses zips of torch and of Keras, which their entries tell, with the line that converts them.
fn refuse_foreign<R: Read + Seek>(archive: &ZipArchive<R>, place: &Path) -> Result<()> {
    for name in archive.file_names() {
        let name = name.map_err(|e| zip_error(place, e))?;
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            return Err(pickle_refusal(place));
        }
        if let Some(refusal) = refusal_of_entry(place, &name) {
            return Err(refusal);
        }
    }
    Ok(())
}

/// Sorts out whose fault it is: the disk's, the file's, or a zip feature that is not supported.
fn zip_error(place: &Path, error: ZipError) -> Error {
    match error {
        ZipError::Io(io)
            if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Error::new(io).context(format!("cannot read {}", place.display()))
        }
        ZipError::Io(_) | ZipError::InvalidArchive(_) | ZipError::FileNotFound => {
            BadFile::new(place, format!("is no intact zip: {error}")).into()
        }
        other => anyhow!("{}: {other}", place.display()),
    }
}

impl Source for NpzSource {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn rereads(&self) -> bool {
        true
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        let entry = *self.entries.get(index).context("no such tensor")?;
        let what = format!("tensor {:?}", self.tensors[index].name);
        let place = self.place.clone();
        let mut inner = self.archive.by_index(entry).map_err(|e| zip_error(&place, e))?;
        let header = read_header(&mut inner, &place, &what, self.meant)?;
        let left = header.data;
        // Reading to the end of the entry also compares its checksum.
        Ok(header.elements(Section { inner, left, last: true, what, place }))
    }
}

/// Starts a zip with these arrays, whose shapes have to be known.
pub(super) fn create<'a>(output: Output<'a>, infos: &[TensorInfo]) -> Result<Box<dyn Sink + 'a>> {
    let ledger = Ledger::of_closed(infos, "npz")?;
    let mut names = HashSet::new();
    for info in infos {
        let name = info.name.as_str();
        ensure!(names.insert(name), "there are two tensors called {name:?}");
        ensure!(
            is_tame(name),
            "a zip cannot safely hold a tensor called {name:?}: write safetensors instead"
        );
        header_bytes(name, info.dtype, &info.shape)?;
    }
    Ok(match output {
        Output::Seekable(file) => Box::new(NpzSink { zip: ZipWriter::new(file), ledger }),
        Output::Stream(pipe) => Box::new(NpzSink { zip: ZipWriter::new_stream(pipe), ledger }),
    })
}

/// Whether unpacking an entry of that name stays inside the folder.
fn is_tame(name: &str) -> bool {
    let parts = |c: char| c == '/' || c == '\\';
    !name.is_empty()
        && !name.starts_with(parts)
        && !name.contains('\0')
        && name.as_bytes().get(1) != Some(&b':')
        && name.split(parts).all(|part| part != "..")
}

/// Writes a zip of arrays.
struct NpzSink<W: Write + Seek> {
    zip: ZipWriter<W>,
    ledger: Ledger,
}

impl<W: Write + Seek> Sink for NpzSink<W> {
    fn begin(&mut self, info: &TensorInfo) -> Result<()> {
        self.ledger.begin(info)?;
        // Everything that could differ between two runs or two machines is pinned.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .system(System::Unix)
            .unix_permissions(0o644)
            .large_file(true);
        self.zip.start_file(format!("{}.npy", info.name), options)?;
        Ok(self.zip.write_all(&header_bytes(&info.name, info.dtype, &info.shape)?)?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.ledger.add(bytes)?;
        Ok(self.zip.write_all(bytes)?)
    }

    fn end(&mut self, final_shape: &[u64]) -> Result<()> {
        self.ledger.end(final_shape)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.ledger.finish()?;
        self.zip.finish().map_err(io::Error::from)?.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Sample, info, open, read_back, sample, write};
    use super::super::{Format, RawOptions};
    use super::*;
    use fedpress::DType;
    use std::collections::BTreeMap;
    use std::io::Cursor;

    fn samples() -> Vec<Sample> {
        vec![
            sample("w", DType::F32, &[10, 3]),
            sample("layer/größe, 1", DType::F16, &[7]),
            sample("scalar", DType::I64, &[]),
            sample("empty", DType::U8, &[0, 4]),
            sample("a.npy", DType::C64, &[2]),
            sample("dots...", DType::Bool, &[2]),
        ]
    }

    fn zip_of(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn read(file: &[u8], seekable: bool) -> Result<Vec<Sample>> {
        read_back(&mut *open(file, seekable, "w.npz", &RawOptions::default())?)
    }

    #[test]
    fn tensors_survive_npz_in_files_and_pipes() {
        let none = BTreeMap::new();
        for seekable in [false, true] {
            let file = write(Format::Npz, seekable, &samples(), &none).unwrap();
            assert_eq!(read(&file, seekable).unwrap(), samples());
            assert_eq!(file, write(Format::Npz, seekable, &samples(), &none).unwrap());
            let mut source = open(&file, seekable, "x", &RawOptions::default()).unwrap();
            assert_eq!(read_back(&mut *source).unwrap(), read_back(&mut *source).unwrap());
        }
    }

    #[test]
    fn compressed_archives_are_read() {
        let (info, data) = sample("w", DType::F64, &[1000]);
        let npy = [header_bytes("w", info.dtype, &info.shape).unwrap(), data.clone()].concat();
        let file = zip_of(&[("w.npy", &npy)], CompressionMethod::Deflated);
        assert!(file.len() < npy.len());
        assert_eq!(read(&file, true).unwrap(), [(info, data)]);
    }

    #[test]
    fn a_torch_archive_is_refused_with_the_line_that_converts_it() {
        let file = zip_of(&[("m/data.pkl", b""), ("m/data/0", b"")], CompressionMethod::Stored);
        for place in ["m", "m.zip", "standard input"] {
            let error = open(&file, false, place, &RawOptions::default()).err().unwrap();
            assert!(error.to_string().contains("weights_only=True"), "{error}");
        }
    }

    #[test]
    fn damaged_archives_are_bad_files() {
        let file = write(Format::Npz, true, &samples(), &BTreeMap::new()).unwrap();
        let (_, data) = &samples()[0];
        let place = file.windows(data.len()).position(|w| w == data).unwrap();
        let mut flipped = file.clone();
        flipped[place + 60] ^= 1;
        let npy = header_bytes("w", DType::U8, &[5]).unwrap();
        let mut deflated = zip_of(&[("w.npy", &npy)], CompressionMethod::Deflated);
        deflated[40..50].fill(0xff);
        for damaged in [
            flipped,
            deflated,
            file[..file.len() / 2].to_vec(),
            file[..file.len() - 1].to_vec(),
            vec![],
            zip_of(&[("w.npy", b"no array")], CompressionMethod::Stored),
            zip_of(&[("w.npy", &npy)], CompressionMethod::Stored),
            zip_of(&[("w.npy", &[&npy[..], &[0; 6]].concat())], CompressionMethod::Deflated),
        ] {
            let error = read(&damaged, true).unwrap_err();
            assert!(BadFile::find(&error).is_some(), "{error:#}");
        }
    }

    #[test]
    fn an_entry_that_is_no_array_is_an_error() {
        let file = zip_of(&[("notes.txt", b"")], CompressionMethod::Stored);
        assert!(read(&file, true).unwrap_err().to_string().contains("notes.txt"));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let bad = ["", "../w", "a/../../w", "/w", "\\w", "a\\..\\w", "C:w", ".."];
        for name in bad {
            let list = [sample(name, DType::U8, &[1])];
            assert!(write(Format::Npz, true, &list, &BTreeMap::new()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_npz_cannot_hold_is_refused_before_anything_is_written() {
        let w = info("w", DType::F32, &[1]);
        for infos in [
            vec![w.clone(), w.clone()],
            vec![TensorInfo { open: true, shape: vec![0], ..w.clone() }],
            vec![w, info("b", DType::BF16, &[1])],
        ] {
            let mut file = Cursor::new(Vec::new());
            assert!(create(Output::seekable(&mut file), &infos).is_err());
            assert!(file.into_inner().is_empty());
        }
    }
}
