//! [`Grid`]: several trainings in one file.

use super::TrainConfig;
use super::simulation::config::overlay;
use fedpress_fl::{Error, Result};
use serde::Deserialize;
use toml::{Table, Value};

/// A training with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Unique in its grid; the name of a folder.
    pub name: String,
    /// The same without the seed: what runs that differ in it alone have in common.
    pub group: String,
    /// What it does.
    pub config: TrainConfig,
}

/// What a file describes: one training, or several that share most settings.
///
/// Keys at the top are those of [`TrainConfig`] and hold for all; each `[[run]]` has a `name` and
/// the keys that it changes; of `local`, `gkt` and the tables in it, single keys. With
/// `seeds = [1, 2, 3]` each run is made once for each of them, as `NAME-sSEED`.
///
/// ```
/// let grid = fedpress_train::Grid::from_toml(r#"
///     rounds = 5
///     seeds = [1, 2]
///     [[run]]
///     name = "baseline"
///     [[run]]
///     name = "small"
///     down = "hadamard|q=4|zstd"
///     keep = 0.75
/// "#)?;
/// let names: Vec<_> = grid.runs.iter().map(|run| run.name.as_str()).collect();
/// assert_eq!(names, ["baseline-s1", "baseline-s2", "small-s1", "small-s2"]);
/// assert_eq!(grid.runs[3].config.keep, 0.75);
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// What it is about; for the report.
    pub title: String,
    /// In the order of the file.
    pub runs: Vec<Run>,
}

impl Grid {
    /// One training.
    pub fn single(name: &str, config: TrainConfig) -> Self {
        let (name, group) = (name.to_owned(), name.to_owned());
        Self { title: name.clone(), runs: vec![Run { name, group, config }] }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `InvalidArgument` for text that is no TOML, keys that are none, and names that are missing,
    /// double, or no names of folders.
    pub fn from_toml(text: &str) -> Result<Self> {
        let refuse = |e: &dyn std::fmt::Display| Error::invalid(format!("training file: {e}"));
        let mut shared: Table = text.parse().map_err(|e: toml::de::Error| refuse(&e))?;
        let title = match shared.remove("title") {
            Some(Value::String(title)) => title,
            Some(_) => return Err(refuse(&"title: expected a string")),
            None => String::new(),
        };
        let seeds = take::<Vec<u64>>(&mut shared, "seeds")?;
        let runs = take::<Vec<Table>>(&mut shared, "run")?;
        let runs = runs.unwrap_or_else(|| {
            vec![Table::from_iter([("name".to_owned(), Value::String("run".into()))])]
        });
        let mut grid = Self { title, runs: Vec::new() };
        for run in runs {
            grid.add(&shared, run, seeds.as_deref())?;
        }
        Ok(grid)
    }

    /// The same with one seed: of runs that differ in it alone there is one.
    ///
    /// ```
    /// let text = "seeds = [1, 2]\n[[run]]\nname = \"a\"\n[[run]]\nname = \"b\"";
    /// let grid = fedpress_train::Grid::from_toml(text)?.with_seed(7);
    /// let runs: Vec<_> = grid.runs.iter().map(|r| (r.name.as_str(), r.config.seed)).collect();
    /// assert_eq!(runs, [("a-s7", 7), ("b-s7", 7)]);
    /// # Ok::<(), fedpress_fl::Error>(())
    /// ```
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.runs.dedup_by(|run, first| run.group == first.group);
        for run in &mut self.runs {
            run.config.seed = seed;
            if run.name != run.group {
                run.name = format!("{}-s{seed}", run.group);
            }
        }
        self
    }

    fn add(&mut self, shared: &Table, run: Table, seeds: Option<&[u64]>) -> Result<()> {
        let mut keys = shared.clone();
        overlay(&mut keys, run);
        let Some(Value::String(name)) = keys.remove("name") else {
            return Err(Error::invalid("training file: a [[run]] without a name"));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "training file: run {name:?}: expected letters, digits and -_.= (it names a folder)"
            )));
        }
        let config = TrainConfig::from_table(keys);
        let config =
            config.map_err(|e| Error::invalid(format!("training file, run {name:?}: {e}")))?;
        let mut made = Vec::new();
        match seeds {
            None => made.push(Run { group: name.clone(), name, config }),
            Some(seeds) => made.extend(seeds.iter().map(|&seed| Run {
                name: format!("{name}-s{seed}"),
                group: name.clone(),
                config: TrainConfig { seed, ..config.clone() },
            })),
        }
        for run in made {
            if self.runs.iter().any(|known| known.name == run.name) {
                return Err(Error::invalid(format!("training file: two runs {:?}", run.name)));
            }
            self.runs.push(run);
        }
        Ok(())
    }
}

fn take<'a, T: Deserialize<'a>>(table: &mut Table, key: &str) -> Result<Option<T>> {
    let Some(value) = table.remove(key) else { return Ok(None) };
    let value = T::deserialize(value);
    value.map(Some).map_err(|e| Error::invalid(format!("training file, {key}: {e}")))
}
