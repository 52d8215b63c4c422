//! A model in memory, whatever its element types.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Result, anyhow};
use fedpress::DType;
use fedpress_fl::{Gather, Layout, Selection};

use crate::destination::{Destination, Opened};
use crate::exit::Usage;
use crate::files::{Format, Input, RawOptions, TensorInfo, create_sink, n_values, open_source};

/// Tensors with their bytes, in the order of their file.
pub struct Model {
    tensors: Vec<(TensorInfo, Vec<u8>)>,
    metadata: std::collections::BTreeMap<String, String>,
}

impl Model {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self> {
        let options = RawOptions::default();
        let mut source = open_source(Input::from(path.to_owned()), &options)?;
        let metadata = source.metadata().clone();
        let infos = source.tensors().to_vec();
        let mut tensors = Vec::new();
        for (i, info) in infos.into_iter().enumerate() {
            let mut bytes = Vec::new();
            source.read(i)?.read_to_end(&mut bytes)?;
            tensors.push((info, bytes));
        }
        Ok(Self { tensors, metadata })
    }

    /// Names and dimensions.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(info, _)| (info.name.clone(), shape_of(info))).collect()
    }

    /// The same of floating-point tensors: counters belong to no layer.
    pub fn float_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let float = |info: &TensorInfo| info.dtype.is_lossy_capable() || info.dtype == DType::F64;
        let shapes = self.tensors.iter().map(|(info, _)| info).filter(|info| float(info));
        shapes.map(|info| (info.name.clone(), shape_of(info))).collect()
    }

    /// Values of all tensors.
    pub fn n_values(&self) -> usize {
        self.tensors.iter().map(|(info, _)| n_values(&info.shape) as usize).sum()
    }

    /// The submodel.
    pub fn pack(&self, layout: &Layout, selection: &Selection) -> Result<Self> {
        let gathers = self.gathers(layout, selection)?;
        let packed = |((info, bytes), gather): (&(TensorInfo, Vec<u8>), Option<Gather>)| {
            let Some(gather) = gather else { return (info.clone(), bytes.clone()) };
            let shape = gather.shape().iter().map(|n| *n as u64).collect();
            let size = info.dtype.byte_len(1);
            let runs = gather.runs().map(|(at, n)| &bytes[at * size..(at + n) * size]);
            (TensorInfo { shape, ..info.clone() }, runs.collect::<Vec<_>>().concat())
        };
        let tensors = self.tensors.iter().zip(gathers).map(packed).collect();
        Ok(Self { tensors, metadata: self.metadata.clone() })
    }

    /// Puts a submodel back; tensors that the layout does not have are taken from it, too.
    pub fn merge(&mut self, layout: &Layout, selection: &Selection, submodel: &Self) -> Result<()> {
        let gathers = self.gathers(layout, selection)?;
        let expected = self.pack(layout, selection)?;
        for (info, _) in &expected.tensors {
            let same = |(found, _): &&(TensorInfo, Vec<u8>)| found.name == info.name;
            let found = submodel.tensors.iter().find(same).map(|(found, _)| found);
            if found.is_none_or(|found| (found.dtype, &found.shape) != (info.dtype, &info.shape)) {
                let found = found.map_or("none".into(), |f| format!("{} {:?}", f.dtype, f.shape));
                let TensorInfo { name, dtype, shape, .. } = info;
                return Err(anyhow!(
                    "submodel, tensor {name:?}: expected {dtype} {shape:?}, found {found}"
                ));
            }
        }
        for ((info, bytes), gather) in self.tensors.iter_mut().zip(gathers) {
            let same = |(found, _): &&(TensorInfo, Vec<u8>)| found.name == info.name;
            let Some((_, packed)) = submodel.tensors.iter().find(same) else { continue };
            let Some(gather) = gather else {
                bytes.clone_from(packed);
                continue;
            };
            let size = info.dtype.byte_len(1);
            let mut taken = 0;
            for (at, n) in gather.runs() {
                let run = &packed[taken..taken + n * size];
                bytes[at * size..(at + n) * size].copy_from_slice(run);
                taken += n * size;
            }
        }
        Ok(())
    }

    /// What is kept of each tensor; none for those that the layout does not have.
    fn gathers(&self, layout: &Layout, selection: &Selection) -> Result<Vec<Option<Gather>>> {
        for param in layout.params() {
            if !self.tensors.iter().any(|(info, _)| info.name == param.name) {
                Err(Usage::new(format!("the model has no tensor {:?} of the layout", param.name)))?;
            }
        }
        let gather = |(info, _): &(TensorInfo, Vec<u8>)| {
            let param = layout.params().iter().position(|param| param.name == info.name);
            let Some(param) = param else { return Ok(None) };
            let (expected, found) = (layout.shape(param), shape_of(info));
            if expected != found {
                let name = &info.name;
                Err(Usage::new(format!("tensor {name:?}: layout {expected:?}, file {found:?}")))?;
            }
            Ok(Some(Gather::new(layout, selection, param)?))
        };
        self.tensors.iter().map(gather).collect()
    }

    /// Writes a file of the format that its name promises, or else of that of `like`.
    pub fn write(&self, destination: &Destination, like: &Path, force: bool) -> Result<()> {
        let by_name = match destination {
            Destination::Path(path) => Format::from_path(path),
            Destination::Stdout => None,
        };
        let format = by_name.or_else(|| Format::from_path(like)).unwrap_or(Format::Safetensors);
        let opened = Opened::open(destination, force, None)?;
        let infos: Vec<_> = self.tensors.iter().map(|(info, _)| info.clone()).collect();
        let mut output = opened.output()?;
        output.flush()?;
        let mut sink = create_sink(format, output, &infos, &self.metadata)?;
        for (info, bytes) in &self.tensors {
            sink.begin(info)?;
            sink.write(bytes)?;
            sink.end(&info.shape)?;
        }
        sink.finish()?;
        opened.commit()
    }
}

fn shape_of(info: &TensorInfo) -> Vec<usize> {
    info.shape.iter().map(|n| *n as usize).collect()
}
