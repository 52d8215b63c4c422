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
    start: u64,
    len: u64,
}

impl NpySource {
    /// Reads the header.
    pub(super) fn open(mut bytes: Bytes, options: &RawOptions) -> Result<Self> {
        let place = bytes.place().to_owned();
        let NpyHeader { dtype, shape, len: start, data: len } =
            read_header(&mut bytes, &place, "the array")?;
        if let Some(size) = bytes.size().filter(|size| Some(*size) != start.checked_add(len)) {
            let has = size.saturating_sub(start);
            let reason =
                format!("has {has} bytes of elements, {dtype} of shape {shape:?} takes {len}");
            return Err(BadFile::new(&place, reason).into());
        }
        let info = TensorInfo { name: options.tensor_name(), dtype, shape, open: false };
        Ok(Self { bytes, info, start, len })
    }
}

impl Source for NpySource {
    fn tensors(&self) -> &[TensorInfo] {
        std::slice::from_ref(&self.info)
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        ensure!(index == 0, "no such tensor");
        Ok(Box::new(self.bytes.section(self.start, self.len, true, "the array".into())?))
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
    fn fortran_order_is_refused_where_it_makes_a_difference() {
        let refused = read(&array(1, &header("'<f4'", "True", "(2, 3)"), &[0; 24]), true);
        assert!(refused.unwrap_err().to_string().contains("np.ascontiguousarray(a)"));
        for (shape, len) in [("(1, 3)", 12), ("(3, 1)", 12), ("(3,)", 12), ("()", 4), ("(2, 0)", 0)]
        {
            read(&array(1, &header("'<f4'", "True", shape), &vec![0; len]), true).unwrap();
        }
    }

    #[test]
    fn types_without_a_counterpart_are_refused_with_a_hint() {
        for (descr, hint) in [
            ("'>f4'", "np.ascontiguousarray(a).astype('<f4')"),
            ("'>i8'", "np.ascontiguousarray(a).astype('<i8')"),
            ("'|V2'", "safetensors"),
            ("'<V2'", "safetensors"),
            ("'|V1'", "safetensors"),
            ("'bfloat16'", "safetensors"),
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
