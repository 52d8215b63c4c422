//! Decoding into shards and their index, as Hugging Face lays them out.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use anyhow::{Result, anyhow, bail};
use fedpress::{Reader, Summary};
use serde::Serialize;

use super::{Job, info_of};
use crate::destination::{Destination, Opened, Written};
use crate::exit::{Usage, unfit};
use crate::files::{Format, TensorInfo, byte_len, create_sink};

/// The index, as it is written.
#[derive(Serialize)]
struct Index {
    metadata: Total,
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Total {
    total_size: u64,
}

/// Tensors for each shard, in their order: as many as fit into `size` bytes, and one at least.
fn plan(infos: &[TensorInfo], size: u64) -> Vec<usize> {
    let (mut counts, mut room) = (Vec::new(), 0);
    for info in infos {
        let bytes = byte_len(info.dtype, &info.shape).unwrap_or(u64::MAX);
        match counts.last_mut() {
            Some(count) if bytes <= room => {
                *count += 1;
                room -= bytes;
            }
            _ => {
                counts.push(1);
                room = size.saturating_sub(bytes);
            }
        }
    }
    counts
}

impl Job<'_> {
    /// Writes shards of at most `size` bytes of elements beside the index; all appear together, the
    /// index last.
    pub(super) fn shards(&mut self, mut file: File, summary: &Summary, size: u64) -> Result<()> {
        let Destination::Path(index) = self.destination else {
            Err(Usage::new("shards are files beside their index; give -o FILE.index.json"))?
        };
        let infos: Vec<_> = summary.tensors.iter().map(info_of).collect();
        let mut names = HashSet::new();
        if let Some(info) = infos.iter().find(|info| !names.insert(&info.name)) {
            Err(unfit(anyhow!("there are two tensors called {:?}", info.name)))?;
        }
        file.rewind()?;
        let mut reader = Reader::new(file, self.options.clone());
        let (mut written, weight_map) = std::thread::scope(|scope| {
            self.each_shard(&mut reader, &infos, summary, (index, size), scope)
        })?;
        let listed = self.open()?;
        let metadata = Total { total_size: self.bytes };
        let text = serde_json::to_string_pretty(&Index { metadata, weight_map })?;
        let mut output = listed.output()?;
        output.write_all(text.as_bytes())?;
        output.flush()?;
        drop(output);
        written.push(listed.written()?);
        Written::commit(written)
    }

    /// Writes one shard after the other, each while the one before it goes to the disk; also where each
    /// tensor is.
    fn each_shard<'s>(
        &mut self,
        reader: &mut Reader<File>,
        infos: &[TensorInfo],
        summary: &Summary,
        (index, size): (&Path, u64),
        scope: &'s Scope<'s, '_>,
    ) -> Result<(Vec<Written>, BTreeMap<String, String>)> {
        let counts = plan(infos, size);
        let (mut written, mut weight_map, mut rest) = (Vec::new(), BTreeMap::new(), infos);
        let mut before: Option<ScopedJoinHandle<'s, Result<Written>>> = None;
        let finished = |before: ScopedJoinHandle<'s, Result<Written>>| {
            before.join().unwrap_or_else(|_| bail!("a shard was not written to its end"))
        };
        for (i, count) in counts.iter().enumerate() {
            let (infos, later) = rest.split_at(*count);
            rest = later;
            let shard = shard_path(index, i + 1, counts.len());
            let name = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let shard = Opened::open(&Destination::Path(shard), self.force, Some(self.input))?;
            let sink = create_sink(Format::Safetensors, shard.output()?, infos, &summary.metadata);
            let mut sink = sink.map_err(unfit)?;
            self.copy_all(reader, infos, &mut *sink)?;
            weight_map.extend(infos.iter().map(|info| (info.name.clone(), name.clone())));
            sink.finish()?;
            if let Some(before) = before.take() {
                written.push(finished(before)?);
            }
            before = Some(Builder::new().spawn_scoped(scope, move || shard.written())?);
        }
        written.extend(before.map(finished).transpose()?);
        Ok((written, weight_map))
    }
}

/// `model-00001-of-00003.safetensors` for `model.safetensors.index.json`.
fn shard_path(index: &Path, i: usize, n: usize) -> PathBuf {
    let name = index.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.trim_end_matches(".json").trim_end_matches(".index");
    let stem = stem.trim_end_matches(".safetensors");
    index.with_file_name(format!("{stem}-{i:05}-of-{n:05}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedpress::DType;

    #[test]
    fn shards_are_filled_in_order() {
        let info =
            |n| TensorInfo { name: "w".into(), dtype: DType::U8, shape: vec![n], open: false };
        let plan =
            |sizes: &[u64], size| plan(&sizes.iter().map(|n| info(*n)).collect::<Vec<_>>(), size);
        assert_eq!(plan(&[4, 4, 4], 8), [2, 1]);
        assert_eq!(plan(&[4, 4, 4], 100), [3]);
        assert_eq!(plan(&[100, 1, 100], 8), [1, 1, 1], "one at least");
        assert_eq!(plan(&[0, 0], 0), [2]);
        assert_eq!(plan(&[], 8), [0usize; 0]);
        let path = shard_path(Path::new("a/model.safetensors.index.json"), 2, 3);
        assert_eq!(path, Path::new("a/model-00002-of-00003.safetensors"));
    }
}
