//! A folder as an input: the model in it, as Hugging Face lays it out.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Format, foreign};
use crate::exit::Usage;

/// The one model of a folder: its index, or else its only safetensors file.
pub fn model_in(folder: &Path) -> Result<PathBuf> {
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
    let (indexes, files) = (of(Format::SafetensorsIndex), of(Format::Safetensors));
    match (&indexes[..], &files[..]) {
        ([index], _) => return Ok((*index).clone()),
        ([], [file]) => return Ok((*file).clone()),
        _ => {}
    }
    let is_zarr = ["zarr.json", ".zgroup", ".zarray"].iter().any(|n| folder.join(n).is_file());
    if is_zarr && let Some(refusal) = foreign::refusal(&folder.with_extension("zarr"), &[]) {
        return Err(refusal);
    }
    let all: Vec<_> = indexes.iter().chain(&files).filter_map(|p| p.file_name()).collect();
    let names: Vec<_> = all.iter().map(|name| name.to_string_lossy()).collect();
    let folder = folder.display();
    Err(Usage::new(match names.len() {
        0 => format!("{folder} has no safetensors file in it"),
        _ => format!("{folder} has several models in it: name one of {}", names.join(", ")),
    })
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_goes_before_its_shards_and_several_models_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let found = || model_in(path).map(|p| p.file_name().unwrap().to_owned());
        assert!(found().unwrap_err().to_string().contains("no safetensors"));
        std::fs::write(path.join("config.json"), b"{}").unwrap();
        std::fs::write(path.join("a.safetensors"), b"").unwrap();
        assert_eq!(found().unwrap(), "a.safetensors");
        std::fs::write(path.join("b.safetensors"), b"").unwrap();
        assert!(found().unwrap_err().to_string().contains("a.safetensors, b.safetensors"));
        std::fs::write(path.join("model.safetensors.index.json"), b"").unwrap();
        assert_eq!(found().unwrap(), "model.safetensors.index.json");
    }
}
