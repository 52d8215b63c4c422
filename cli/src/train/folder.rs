//! The folder of one training: configuration, log, checkpoint, model.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fedpress::{EncodeOptions, Seeds, Spec};
use fedpress_train::{RoundRecord, Training};
use serde::Serialize;

use crate::destination::temporary;
use crate::exit::Usage;

/// The folder of one training.
pub struct Folder(PathBuf);

impl Folder {
    /// Made if it is not there.
    pub fn new(out: &Path, name: &str) -> Result<Self> {
        let path = out.join(name);
        let made = std::fs::create_dir_all(&path);
        made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// What an earlier run saved here, if it is to be gone on with.
    pub fn checkpoint(&self, resume: bool, force: bool) -> Result<Option<Vec<u8>>> {
        let path = self.0.join("checkpoint.fp");
        if force || !path.exists() {
            return Ok(None);
        }
        if !resume {
            let folder = self.0.display();
            Err(Usage::new(format!(
                "{folder} has a training in it; --resume goes on with it, -f starts over"
            )))?;
        }
        let bytes = std::fs::read(&path);
        bytes.map(Some).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Where a server may keep features.
    pub fn features(&self) -> PathBuf {
        self.0.join("features")
    }

    /// What the training was told, and how many examples of each class each client has.
    pub fn write_config(&self, training: &Training) -> Result<()> {
        replace(&self.0.join("config.toml"), training.config().to_toml().as_bytes())?;
        let counts = serde_json::to_string(&training.class_counts()?)?.replace("],", "],\n");
        replace(&self.0.join("class-counts.json"), counts.as_bytes())
    }

    /// Log, model, and the checkpoint last: it stands for all of them.
    pub fn save(&self, training: &Training) -> Result<()> {
        let mut log = String::new();
        for record in training.records() {
            let codec_share = record.seconds.codec_share();
            log += &serde_json::to_string(&Line { record, codec_share })?;
            log.push('\n');
        }
        replace(&self.0.join("log.jsonl"), log.as_bytes())?;
        let parameters = training.parameters();
        let views: Vec<_> = parameters.iter().map(|p| p.view()).collect();
        // Lossless: nothing is drawn.
        let seeds = Seeds::new(0, 0);
        let model = fedpress::encode(&views, &Spec::lossless(), &EncodeOptions::new(seeds))?;
        replace(&self.0.join("model.fp"), &model)?;
        replace(&self.0.join("checkpoint.fp"), &training.save()?)
    }
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a RoundRecord,
    /// Encoding and decoding as a fraction of the round's processor time for these and training.
    codec_share: f64,
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

/// Writes a file that is there whole or, after an error, as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
