//! NumPy arrays: a header, and the elements in C order.

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, ensure};

use super::npy_header::{NpyHeader, header_bytes, read_header};
use super::output::Ledger;
use super::{BadFile, Bytes, Output, RawOptions, Sink, Source, TensorInfo};

/// One array.
pub(super) struct NpySource {
    bytes: Bytes,
    info: TensorInfo,
    header: NpyHeader,
}

impl NpySource {
    /// Reads the header.
    pub(super) fn open(mut bytes: Bytes, options: &RawOptions) -> Result<Self> {
        let place = bytes.place().to_owned();
        let header = read_header(&mut bytes, &place, "the array", options.dtype)?;
        let (dtype, shape, start, len) = (header.dtype, &header.shape, header.len, header.data);
        if let Some(size) = bytes.size().filter(|size| Some(*size) != start.checked_add(len)) {
            let has = size.saturating_sub(start);
            let reason =
                format!("has {has} bytes of elements, {dtype} of shape {shape:?} takes {len}");
            return Err(BadFile::new(&place, reason).into());
        }
        let (name, shape) = (options.tensor_name(), shape.clone());
        let info = TensorInfo { name, dtype, shape, open: false };
        Ok(Self { bytes, info, header })
    }
}

impl Source for NpySource {
    fn tensors(&self) -> &[TensorInfo] {
        std::slice::from_ref(&self.info)
    }

    fn rereads(&self) -> bool {
        self.bytes.size().is_some()
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        ensure!(index == 0, "no such tensor");
        let NpyHeader { len: start, data: len, .. } = self.header;
        let stored = self.bytes.section(start, len, true, "the array".into())?;
        Ok(self.header.elements(stored))
    }
}

/// Writes one array.
pub(super) struct NpySink<'a> {
    output: Output<'a>,
    info: TensorInfo,
    ledger: Ledger,
}

impl<'a> NpySink<'a> {
    /// Writes the header; with an open first dimension it is written again at the end.
    pub(super) fn create(mut output: Output<'a>, infos: &[TensorInfo]) -> Result<Self> {
        let ledger = Ledger::of_one(infos, "npy")?;
        let info = infos.first().context("no tensor")?.clone();
        ensure!(
            !info.open || matches!(output, Output::Seekable(_)),
            "tensor {:?} has an open first dimension, which npy wants before the data: write to a \
             file, or write raw",
            info.name
        );
        output.write_all(&header_bytes(&info.name, info.dtype, &info.shape)?)?;
        Ok(Self { output, info, ledger })
    }
}

impl Sink for NpySink<'_> {
    fn begin(&mut self, info: &TensorInfo) -> Result<()> {
        self.ledger.begin(info)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.ledger.add(bytes)?;
        Ok(self.output.write_all(bytes)?)
    }

    fn end(&mut self, final_shape: &[u64]) -> Result<()> {
        self.ledger.end(final_shape)?;
        self.info.shape = final_shape.to_vec();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.ledger.finish()?;
        let header = header_bytes(&self.info.name, self.info.dtype, &self.info.shape)?;
        if let (true, Output::Seekable(file)) = (self.info.open, &mut self.output) {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok(self.output.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::npy_header::{DESCRS, MAGIC};
    use super::super::tests::{info, open, read_back, sample, write};
    use super::*;
    use fedpress::DType;
    use std::collections::BTreeMap;

    fn array(version: u8, text: &str, data: &[u8]) -> Vec<u8> {
        let mut file = [&MAGIC[..], &[version, 0]].concat();
        let length = (text.len() as u32).to_le_bytes();
        file.extend(&length[..if version == 1 { 2 } else { 4 }]);
        file.extend(text.as_bytes());
        file.extend(data);
        file
    }

    fn read(file: &[u8], seekable: bool) -> Result<(TensorInfo, Vec<u8>)> {
        let mut source = open(file, seekable, "a.npy", &RawOptions::default())?;
        Ok(read_back(&mut *source)?.remove(0))
    }

    #[test]
    fn every_numpy_dtype_survives_npy() {
        for (dtype, descr) in DESCRS {
            for shape in [&[][..], &[5], &[0], &[3, 4], &[2, 0, 7], &[1; 40]] {
                for seekable in [false, true] {
                    let tensor = sample("tensor", dtype, shape);
                    let list = std::slice::from_ref(&tensor);
                    let file = write(Format::Npy, seekable, list, &BTreeMap::new()).unwrap();
                    assert_eq!(read(&file, seekable).unwrap(), tensor, "{descr}");
                }
            }
        }
    }

    #[test]
    fn an_open_array_is_patched_in_a_file_and_refused_by_a_pipe() {
        let (closed, data) = sample("tensor", DType::F16, &[123_456, 3]);
        let list = [(TensorInfo { shape: vec![0, 3], open: true, ..closed.clone() }, data.clone())];
        let file = write(Format::Npy, true, &list, &BTreeMap::new()).unwrap();
        assert_eq!(file, write(Format::Npy, true, &[(closed, data)], &BTreeMap::new()).unwrap());
        let error = write(Format::Npy, false, &list, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("raw"), "{error}");
    }

    #[test]
    fn other_writers_and_older_pythons_are_understood() {
        let data = [7; 24];
        for (version, text) in [
            (1, "{'descr':'<f4','fortran_order':False,'shape':(2,3)}"),
            (2, "{\"shape\": (2L, 3L), \"fortran_order\": False, \"descr\": \"<f4\"}  \n"),
            (3, "{ 'fortran_order' : False , 'descr' : '<f4' , 'shape' : ( 2 , 3 , ) , }\n"),
        ] {
            for seekable in [false, true] {
                let back = read(&array(version, text, &data), seekable).unwrap();
                assert_eq!(back, (info("tensor", DType::F32, &[2, 3]), data.to_vec()));
            }
        }
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    }

    #[test]
    fn other_orders_of_elements_and_bytes_are_read_right() {
        let values = |order: &[u8]| {
            order.iter().flat_map(|i| u32::from(*i).to_le_bytes()).collect::<Vec<_>>()
        };
        for seekable in [false, true] {
            let fortran =
                array(1, &header("'<u4'", "True", "(2, 3)"), &values(&[0, 3, 1, 4, 2, 5]));
            let (info, data) = read(&fortran, seekable).unwrap();
            assert_eq!((info.shape, data), (vec![2, 3], values(&[0, 1, 2, 3, 4, 5])));
            let big: Vec<u8> = (0..6u32).flat_map(u32::to_be_bytes).collect();
            let (_, data) =
                read(&array(1, &header("'>u4'", "False", "(2, 3)"), &big), seekable).unwrap();
            assert_eq!(data, values(&[0, 1, 2, 3, 4, 5]));
            let both: Vec<u8> =
                [0u32, 3, 1, 4, 2, 5].iter().flat_map(|i| i.to_be_bytes()).collect();
            let (_, data) =
                read(&array(1, &header("'>u4'", "True", "(2, 3)"), &both), seekable).unwrap();
            assert_eq!(data, values(&[0, 1, 2, 3, 4, 5]));
            let short = array(1, &header("'<u4'", "True", "(2, 3)"), &[0; 23]);
            assert!(BadFile::find(&read(&short, seekable).unwrap_err()).is_some());
        }
        // A complex number is two, each swapped by itself.
        let complex: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let (info, data) =
            read(&array(1, &header("'>c8'", "False", "(1,)"), &complex), true).unwrap();
        let expected: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!((info.dtype, data), (DType::C64, expected));
    }

    #[test]
    fn types_without_a_name_are_what_the_user_says() {
        let read = |descr: &str, dtype| {
            let options = RawOptions { dtype, ..RawOptions::default() };
            let file = array(1, &header(descr, "False", "(2,)"), &[0; 4]);
            Ok::<_, anyhow::Error>(open(&file, true, "a.npy", &options)?.tensors()[0].dtype)
        };
        assert_eq!(read("'<V2'", Some(DType::BF16)).unwrap(), DType::BF16);
        assert_eq!(read("'|V2'", Some(DType::BF16)).unwrap(), DType::BF16);
        assert_eq!(read("'bfloat16'", None).unwrap(), DType::BF16);
        assert!(read("'<V2'", Some(DType::F32)).is_err(), "not as long");
        assert!(read("'<V2'", None).unwrap_err().to_string().contains("--dtype bf16"));
    }

    #[test]
    fn flat_arrays_have_one_order() {
        for (shape, len) in [("(1, 3)", 12), ("(3, 1)", 12), ("(3,)", 12), ("()", 4), ("(2, 0)", 0)]
        {
            read(&array(1, &header("'<f4'", "True", shape), &vec![0; len]), true).unwrap();
        }
    }

    #[test]
    fn types_without_a_counterpart_are_refused_with_a_hint() {
        for (descr, hint) in [
            ("'|V2'", "--dtype bf16"),
            ("'<V2'", "--dtype bf16"),
            ("'|V1'", "f8_e4m3"),
            ("'<f1'", "f8_e4m3"),
            ("'|O'", "pickled"),
            ("'<U7'", "not supported"),
            ("'<M8[ns]'", "not supported"),
            ("'<c16'", "not supported"),
            ("''", "not supported"),
            ("'é'", "not supported"),
            ("[('x', '<f4')]", "structured"),
        ] {
            let error = read(&array(1, &header(descr, "False", "(0,)"), &[]), true).unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
            assert!(BadFile::find(&error).is_none());
        }
    }

    #[test]
    fn hostile_headers_are_bad_files() {
        let good = array(1, &header("'<f4'", "False", "(2,)"), &[0; 8]);
        let mut files: Vec<_> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
        files.push([&good[..], b"x"].concat());
        files.push(array(1, &header("'<f4'", "False", "(4294967296, 4294967296)"), &[]));
        files.push([&MAGIC[..], b"\x02\0\xff\xff\xff\xff"].concat());
        for text in [
            "",
            "{",
            "{}",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x",
            &"(".repeat(60_000),
            &"{'descr': ".repeat(6_000),
        ] {
            files.push(array(1, text, &[0; 8]));
        }
        for file in files {
            for seekable in [false, true] {
                let error = read(&file, seekable).unwrap_err();
                assert!(BadFile::find(&error).is_some(), "{error:#}");
            }
        }
    }
}
