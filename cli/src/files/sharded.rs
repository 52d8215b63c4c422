//! Sharded safetensors: an index that maps tensor names to files beside it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::format::{is_pickle_name, pickle_refusal};
use super::input::read_small;
use super::safetensors::SafetensorsSource;
use super::{BadFile, Bytes, Input, RawOptions, Source, TensorInfo, series};

/// An index far larger than any real one.
const MAX_INDEX: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The shards of an index, of which one is open at a time.
pub(super) struct ShardedSource {
    /// The index, or the folder of shards without one.
    place: PathBuf,
    folder: PathBuf,
    shards: Vec<PathBuf>,
    tensors: Vec<TensorInfo>,
    /// Shard of each tensor, and its place in there.
    places: Vec<(usize, usize)>,
    /// Which shard each tensor comes from.
    taken: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    current: Option<(usize, SafetensorsSource)>,
    left_out: Vec<String>,
}

impl ShardedSource {
    /// Reads the index and the headers of its shards.
    pub(super) fn open(mut bytes: Bytes, options: &RawOptions) -> Result<Self> {
        let path = bytes.place().to_owned();
        let size = bytes.size().with_context(|| {
            format!("{}: an index names files beside it: give its path instead", path.display())
        })?;
        let bad = |reason: String| BadFile::new(&path, reason);
        let text = if size <= MAX_INDEX { read_small(&mut bytes, size)? } else { None };
        let text = text.ok_or_else(|| bad(format!("is no index, it has {size} bytes")))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| bad(format!("is no safetensors index: {error}")))?;

        if index.weight_map.is_empty() {
            return Err(bad("lists no tensor".into()).into());
        }
        let mut by_shard = BTreeMap::<&str, Vec<&str>>::new();
        for (name, file) in &index.weight_map {
            by_shard.entry(file).or_default().push(name);
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut source = Self::empty(path, folder);
        for (file, names) in &by_shard {
            source.add_shard(file, names, &index, options.unlisted)?;
        }
        let listed: Vec<_> = by_shard.keys().copied().collect();
        for file in series::omitted(&source.folder, &listed) {
            match source.add_shard(&file, &[], &index, options.unlisted) {
                // What is not asked for does no harm.
                Err(_) if !options.unlisted => {
                    source.left_out.push(format!("{file} is not listed by the index"));
                }
                done => done?,
            }
        }
        Ok(source)
    }

    /// The headers of all shards of a model that lacks its index.
    pub(super) fn without_index(folder: &Path, files: &[String]) -> Result<Self> {
        let mut source = Self::empty(folder.to_owned(), folder.to_owned());
        let index = Index { weight_map: BTreeMap::new() };
        for file in files {
            source.add_shard(file, &[], &index, true)?;
        }
        Ok(source)
    }

    fn empty(place: PathBuf, folder: PathBuf) -> Self {
        Self {
            place,
            folder,
            shards: Vec::new(),
            tensors: Vec::new(),
            places: Vec::new(),
            taken: HashMap::new(),
            metadata: BTreeMap::new(),
            current: None,
            left_out: Vec::new(),
        }
    }

    /// Takes the tensors called `names`, which are sorted, from a shard, and with `unlisted` those that
    /// the index lists nowhere.
    fn add_shard(
        &mut self,
        file: &str,
        names: &[&str],
        index: &Index,
        unlisted: bool,
    ) -> Result<()> {
        let relative = Path::new(file);
        let stays = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        if file.is_empty() || !relative.components().all(stays) {
            let reason = format!("names the shard {file:?}, outside of its own folder");
            return Err(BadFile::new(&self.place, reason).into());
        }
        let path = self.folder.join(relative);
        if is_pickle_name(relative) {
            return Err(pickle_refusal(&path));
        }
        let shard = self.shards.len();
        self.shards.push(path);
        let opened = self.open_shard(shard)?;
        let mut found = 0;
        for (place, info) in opened.tensors().iter().enumerate() {
            let is_listed = names.binary_search(&info.name.as_str()).is_ok();
            let elsewhere = index.weight_map.get(&info.name).filter(|_| !is_listed);
            if let Some(other) = elsewhere {
                self.left_out
                    .push(format!("{:?} of {file}: the index takes that of {other}", info.name));
                continue;
            }
            if !is_listed && !unlisted {
                self.left_out.push(format!(
                    "{:?} of {file} is not listed there by the index (--unlisted takes such)",
                    info.name
                ));
                continue;
            }
            self.take(info, (shard, place))?;
            found += usize::from(is_listed);
        }
        if found < names.len() {
            let has = |name: &str| opened.tensors().iter().any(|info| info.name == name);
            let lost = names.iter().find(|name| !has(name)).copied().unwrap_or_default();
            let reason = format!("maps tensor {lost:?} to {file:?}, which has no such tensor");
            return Err(BadFile::new(&self.place, reason).into());
        }
        for (key, value) in opened.metadata() {
            self.metadata.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }

    fn take(&mut self, info: &TensorInfo, place: (usize, usize)) -> Result<()> {
        if let Some(other) = self.taken.insert(info.name.clone(), place.0) {
            let file = |shard: usize| self.shards[shard].display();
            let (a, b) = (file(other), file(place.0));
            let reason = format!("tensor {:?} is both in {a} and in {b}", info.name);
            return Err(BadFile::new(&self.place, reason).into());
        }
        self.tensors.push(info.clone());
        self.places.push(place);
        Ok(())
    }

    fn open_shard(&self, shard: usize) -> Result<SafetensorsSource> {
        let path = &self.shards[shard];
        if !path.exists() {
            let reason = format!("a shard is missing: {}", path.display());
            return Err(BadFile::new(&self.place, reason).into());
        }
        SafetensorsSource::open(Bytes::open(Input::Path(path.clone()))?)
    }
}

impl Source for ShardedSource {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn rereads(&self) -> bool {
        true
    }

    fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>> {
        let (shard, place) = *self.places.get(index).context("no such tensor")?;
        let open = match self.current.take() {
            Some((current, source)) if current == shard => source,
            _ => self.open_shard(shard)?,
        };
        let (_, source) = self.current.insert((shard, open));
        ensure!(
            source.tensors().get(place) == Some(&self.tensors[index]),
            "{} changed while it was read",
            self.shards[shard].display()
        );
        source.read(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Sample, read_back, sample, write};
    use super::super::{Format, open_bytes, open_source};
    use super::*;
    use fedpress::DType;

    fn shard(tensors: &[Sample]) -> Vec<u8> {
        let metadata = BTreeMap::from([("format".into(), "pt".into())]);
        write(Format::Safetensors, true, tensors, &metadata).unwrap()
    }

    fn open_index(folder: &Path, weight_map: &str) -> Result<Box<dyn Source>> {
        let path = folder.join("model.safetensors.index.json");
        let index = format!("{{\"metadata\":{{\"total_size\":9}},\"weight_map\":{weight_map}}}");
        std::fs::write(&path, index).unwrap();
        open_source(path.into(), &RawOptions::default())
    }

    #[test]
    fn tensors_come_from_every_shard_any_number_of_times() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|n| sample(n, DType::F32, &[2, n.len() as u64]));
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("1.safetensors"), shard(&[c.clone(), a.clone()]))
            .unwrap();
        std::fs::write(folder.path().join("sub/2.safetensors"), shard(std::slice::from_ref(&b)))
            .unwrap();
        let map = r#"{"a":"1.safetensors","b":"sub/2.safetensors","c":"1.safetensors"}"#;
        let mut source = open_index(folder.path(), map).unwrap();
        assert_eq!(source.metadata()["format"], "pt");
        for _ in 0..2 {
            assert_eq!(read_back(&mut *source).unwrap(), [c.clone(), a.clone(), b.clone()]);
        }
    }

    #[test]
    fn path_traversal_in_an_index_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.safetensors"), shard(&[])).unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        for file in ["../s.safetensors", "x/../../s.safetensors", "/etc/passwd", "..", ""] {
            let error = open_index(&folder.path().join("in"), &format!(r#"{{"w":"{file}"}}"#));
            let error = error.err().unwrap();
            let bad = BadFile::find(&error).unwrap_or_else(|| panic!("{file}: {error:#}"));
            assert!(bad.reason.contains("outside"), "{bad}");
        }
    }

    #[test]
    fn a_shard_that_is_missing_pickled_or_incomplete_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s.safetensors"), shard(&[])).unwrap();
        for (map, words) in [
            (r#"{"w":"gone.safetensors"}"#, ["gone.safetensors", "missing"]),
            (r#"{"w":"pytorch_model.bin"}"#, ["pytorch_model.bin", "torch.load"]),
            (r#"{"w":"s.safetensors"}"#, ["s.safetensors", "no such tensor"]),
            (r#"{"w":7}"#, ["index.json", "no safetensors index"]),
            ("[]", ["index.json", "no safetensors index"]),
            ("{}", ["index.json", "lists no tensor"]),
        ] {
            let error = format!("{:#}", open_index(folder.path(), map).err().unwrap());
            assert!(words.iter().all(|word| error.contains(word)), "{map}: {error}");
        }
    }

    #[test]
    fn an_index_from_a_pipe_is_refused() {
        let text = br#"{"weight_map":{}}"#;
        let bytes = Bytes::stream(&text[..], Path::new("standard input")).unwrap();
        let error = open_bytes(bytes, &RawOptions::default()).err().unwrap().to_string();
        assert!(error.contains("standard input") && error.contains("path"), "{error}");
    }
}
