//! A folder as an input: the model in it, as Hugging Face lays it out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow};

use super::format::{is_pickle_name, pickle_refusal};
use super::{BadFile, Format, foreign, series};
use crate::exit::Usage;

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// An index, or the only safetensors file.
    File(PathBuf),
    /// Names of all shards of a model without an index.
    Shards(Vec<String>),
}

/// The one model of a folder: its index, its only safetensors file, or all shards of one model.
pub(super) fn model_in(folder: &Path) -> Result<Model> {
    let place = || format!("cannot look into {}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(place)? {
        paths.push(entry.with_context(place)?.path());
    }
    paths.sort();
    let of = |format| {
        let is = |path: &&PathBuf| Format::from_path(path) == Some(format) && path.is_file();
        paths.iter().filter(is).collect::<Vec<_>>()
    };
    let indexes = of(Format::SafetensorsIndex);
    // Those that list pickles lie beside what they list.
    let (pickled, indexes): (Vec<_>, Vec<_>) = indexes.into_iter().partition(|path| {
        path.file_stem()
            .and_then(|stem| Path::new(stem).file_stem())
            .is_some_and(|name| is_pickle_name(Path::new(name)))
    });
    let files = of(Format::Safetensors);
    match (&indexes[..], &files[..]) {
        ([index], _) => return Ok(Model::File((*index).clone())),
        ([], [file]) if missing(&[*file]).is_none() => return Ok(Model::File((*file).clone())),
        ([], []) => return Err(nothing_in(folder, &paths, &pickled)),
        ([], files) => match missing(files) {
            Some(missing) if missing.is_empty() => return Ok(Model::Shards(names(files))),
            Some(missing) => {
                let all: Vec<_> = missing.iter().map(u64::to_string).collect();
                let what = format!("a shard is missing: number {}", all.join(", "));
                return Err(BadFile::new(folder, what).into());
            }
            None => {}
        },
        _ => {}
    }
    let all: Vec<_> = indexes.iter().chain(&files).copied().collect();
    let (folder, names) = (folder.display(), names(&all).join(", "));
    Err(Usage::new(format!("{folder} has several models in it: name one of {names}")).into())
}

fn names(paths: &[&PathBuf]) -> Vec<String> {
    let name =
        |path: &&PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths.iter().map(name).collect()
}

/// Numbers of shards that are missing, where all files are shards of one model.
fn missing(files: &[&PathBuf]) -> Option<Vec<u64>> {
    series::missing(&names(files))
}

/// Why a folder is no model, and what to do with what is in it.
fn nothing_in(folder: &Path, paths: &[PathBuf], pickled: &[&PathBuf]) -> Error {
    let is_zarr = ["zarr.json", ".zgroup", ".zarray"].iter().any(|n| folder.join(n).is_file());
    if is_zarr {
        return foreign::zarr(folder);
    }
    let pickles: Vec<_> = paths.iter().filter(|path| is_pickle_name(path)).collect();
    if let Some(pickle) = pickles.first() {
        let rest = if pickles.len() + pickled.len() > 1 { "\nand the others likewise" } else { "" };
        return anyhow!("{}{rest}", pickle_refusal(pickle));
    }
    if let Some(refusal) = paths.iter().find_map(|path| foreign::refusal(path, &[])) {
        return refusal;
    }
    let is_known = |path: &&PathBuf| {
        Format::from_path(path).is_some() || path.extension().is_some_and(|e| e == "fp")
    };
    let others: Vec<_> = paths.iter().filter(is_known).take(3).collect();
    let folder = folder.display();
    let why = match others.is_empty() {
        true => format!("{folder} has no safetensors file in it"),
        false => {
            format!("{folder} has no safetensors file in it; name {}", names(&others).join(" or "))
        }
    };
    Usage::new(why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_goes_before_its_shards_and_several_models_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let found = || {
            model_in(path).map(|model| match model {
                Model::File(path) => path.file_name().unwrap().to_owned(),
                Model::Shards(names) => names.join(" ").into(),
            })
        };
        assert!(found().unwrap_err().to_string().contains("no safetensors"));
        std::fs::write(path.join("config.json"), b"{}").unwrap();
        std::fs::write(path.join("a.safetensors"), b"").unwrap();
        assert_eq!(found().unwrap(), "a.safetensors");
        std::fs::write(path.join("b.safetensors"), b"").unwrap();
        assert!(found().unwrap_err().to_string().contains("a.safetensors, b.safetensors"));
        std::fs::write(path.join("model.safetensors.index.json"), b"").unwrap();
        assert_eq!(found().unwrap(), "model.safetensors.index.json");
    }

    #[test]
    fn shards_without_an_index_are_a_model_where_none_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let write = |name: &str| std::fs::write(path.join(name), b"").unwrap();
        write("m-00002-of-00002.safetensors");
        let error = model_in(path).unwrap_err();
        assert!(
            BadFile::find(&error).is_some() && error.to_string().contains("number 1"),
            "{error}"
        );
        write("m-00001-of-00002.safetensors");
        let names = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        assert_eq!(model_in(path).unwrap(), Model::Shards(names.map(str::to_owned).to_vec()));
        write("other.safetensors");
        assert!(model_in(path).unwrap_err().to_string().contains("several models"));
    }

    #[test]
    fn what_is_no_model_is_told_with_what_to_do() {
        for (name, part) in [
            ("pytorch_model.bin", "torch.load"),
            ("model.onnx", "import onnx"),
            ("model.weights.h5", "import h5py"),
            ("w.npz", "name w.npz"),
            ("model.fp", "name model.fp"),
            ("zarr.json", "import zarr"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), b"{}").unwrap();
            std::fs::write(folder.path().join(name), b"").unwrap();
            let error = model_in(folder.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
