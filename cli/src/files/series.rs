//! Names of shards: `model-00002-of-00005.safetensors` is the second of five.

use std::path::{Path, PathBuf};

/// A file name taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardName<'a> {
    /// What stands before the numbers.
    stem: &'a str,
    number: u64,
    of: u64,
}

impl<'a> ShardName<'a> {
    /// None for a name that is none of a shard.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (rest, of) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let parse = |text: &str| is_number(text).then(|| text.parse().ok()).flatten();
        Some(Self { stem, number: parse(number)?, of: parse(of)? })
    }

    /// Whether both are of the same model.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.stem, self.of) == (other.stem, other.of)
    }
}

/// Whether these are shards of one model; then the numbers that are missing, a few at most.
pub(super) fn missing(names: &[String]) -> Option<Vec<u64>> {
    let parsed: Option<Vec<_>> = names.iter().map(|name| ShardName::parse(name)).collect();
    let parsed = parsed?;
    let first = parsed.first()?;
    let has = |number| parsed.iter().any(|shard| shard.number == number);
    let is_one = parsed.iter().all(|shard| shard.is_beside(first));
    is_one.then(|| (1..=first.of).filter(|number| !has(*number)).take(3).collect())
}

/// Files of a folder that are shards of the same models as those of `listed`, and not among them.
pub(super) fn omitted(folder: &Path, listed: &[&str]) -> Vec<String> {
    let known: Vec<_> = listed.iter().filter_map(|name| ShardName::parse(name)).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let is_omitted = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str())?;
        let shard = ShardName::parse(name)?;
        let is_beside = known.iter().any(|known| known.is_beside(&shard));
        (is_beside && !listed.contains(&name) && path.is_file()).then(|| name.to_owned())
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<_> = entries.filter_map(|entry| is_omitted(&entry.path())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards_are_taken_apart() {
        let parse = ShardName::parse;
        let second = parse("my-model-00002-of-00005.safetensors").unwrap();
        assert_eq!((second.stem, second.number, second.of), ("my-model", 2, 5));
        assert!(second.is_beside(&parse("my-model-00009-of-00005.safetensors").unwrap()));
        assert!(!second.is_beside(&parse("model-00002-of-00005.safetensors").unwrap()));
        for name in [
            "model.safetensors",
            "model-1-of-2.bin",
            "a-b-of-2.safetensors",
            "a-+1-of-2.safetensors",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn missing_numbers_of_one_model_are_told() {
        let names = |numbers: &[u64], of| {
            numbers.iter().map(|i| format!("m-{i:05}-of-{of:05}.safetensors")).collect::<Vec<_>>()
        };
        assert_eq!(missing(&names(&[1, 2], 2)), Some(vec![]));
        assert_eq!(missing(&names(&[2], 3)), Some(vec![1, 3]));
        assert_eq!(missing(&names(&[1], u64::MAX)), Some(vec![2, 3, 4]));
        assert_eq!(missing(&[names(&[1], 2), names(&[2], 3)].concat()), None);
        assert_eq!(missing(&["model.safetensors".to_owned()]), None);
        assert_eq!(missing(&[]), None);
    }
}
