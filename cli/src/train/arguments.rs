//! What `fedpress train` is told.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use fedpress_train::{Algorithm, Grid, TrainConfig};

use crate::args::{all_cores, parse_threads};
use crate::destination::free_name;
use crate::exit::Usage;

/// The trainings of `--demo`, by algorithm.
const DEMO: &str = include_str!("../../../fl/experiments/demo.toml");
const DEMO_GKT: &str = include_str!("../../../fl/experiments/demo-fedgkt.toml");

/// Train a model federatedly, in one process, with compressed messages both ways
///
/// Plays server and clients: builds a submodel, encodes it, hands over the bytes, decodes, trains,
/// encodes the update, hands it back, decodes and aggregates; or, by FedGKT, trains a small network
/// on each client and a large one on the server that teach each other. Every byte count is that of real
/// messages. CONFIG is a TOML file: settings of the training, or of several runs that share some (one
/// table "run" each); options on the command line override it. The output folder gets, for each run,
/// its configuration, one JSON line per round (log.jsonl), how many examples of each class each client
/// has (class-counts.json), a checkpoint and the model (model.fp, which fedpress decode turns into
/// safetensors), and for all of them a report (report.html) and the picture of accuracy against bytes
/// (frontier.svg). The same seed gives the same bytes and the same model with any number of threads on
/// one type of processor; a GPU adds in an order of its own.
///
/// What FedGKT sends the server instead of gradients is not anonymous: the features of a one-layer
/// extractor are close to the image, which can be made from them again, few bits or many; labels
/// travel as they are, once; logits say what a client's network thinks of each sample.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The trainings, as TOML
    config: Option<PathBuf>,
    /// How to train, where no CONFIG says it; fedgkt starts from the settings of its paper
    #[arg(long, value_enum, conflicts_with = "config")]
    algorithm: Option<Choice>,
    /// Train on images that are part of this program, with and without compression
    #[arg(long, conflicts_with = "config")]
    demo: bool,
    /// Where results go [default: fedpress-train, or the first such name that is free]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with what is in the output folder; what is finished is left alone
    #[arg(long)]
    pub resume: bool,
    /// Start over, in an output folder that has a training in it
    #[arg(short, long, conflicts_with = "resume")]
    pub force: bool,
    /// What trains: cpu; cuda or cuda:1, a GPU, in a build with the feature train-cuda
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    #[command(flatten)]
    settings: Settings,
    /// Threads: clients that train side by side, batches of an evaluation; 0 is one per core. The
    /// result does not depend on it
    #[arg(short = 'T', long, value_name = "N", default_value_t = 0, value_parser = parse_threads)]
    threads: usize,
    /// Print the tables of seeds taken together as Markdown, for a document of results
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// The algorithms, as they are written.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Choice {
    /// Federated averaging, with Federated Dropout where --keep says so
    #[default]
    Fedavg,
    /// Group knowledge transfer: features up, logits down
    Fedgkt,
}

impl From<Choice> for Algorithm {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Fedavg => Self::FedAvg,
            Choice::Fedgkt => Self::FedGkt,
        }
    }
}

/// Settings that override those of the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings, for all runs")]
struct Settings {
    /// demo, mnist, fashion-mnist, emnist, cifar10, cifar100, or folders of PNG files
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Where the files of the data set are
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// mnist-cnn, emnist-cnn, cifar-cnn, all-cnn-c or small-cnn; gkt-small, gkt-resnet56 or gkt-resnet110
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Rounds of training
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// Clients in all
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
    /// Clients in each round
    #[arg(long, value_name = "N")]
    clients_per_round: Option<usize>,
    /// Seed of everything random, in place of those of CONFIG
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How the model, or the logits, are encoded for the clients; none sends raw f32 [default without
    /// CONFIG: rotation|trellis=3,biased, or identity|q=16,nearest for logits]
    #[arg(long, value_name = "SPEC")]
    down: Option<String>,
    /// How updates, or features, are encoded for the server [default without CONFIG: uplink, or
    /// identity|q=4,nearest|zstd for features]
    #[arg(long, value_name = "SPEC")]
    up: Option<String>,
    /// Send clients what changed since the version of the model that they hold, in the place of --down
    #[arg(long)]
    deltas: bool,
    /// Fraction of the units of each layer that a client gets (Federated Dropout); 1 is the full
    /// model
    #[arg(long, value_name = "FRACTION")]
    keep: Option<f64>,
    /// Learning rate of the clients
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
}

/// What a training gets of which neither a file nor the command line says how it is encoded.
fn compressed(algorithm: Algorithm) -> TrainConfig {
    let settings = TrainConfig::of(algorithm);
    match algorithm {
        Algorithm::FedAvg => {
            let (down, up) = ("rotation|trellis=3,biased".into(), "uplink".into());
            TrainConfig { down, up, ..settings }
        }
        // Features and logits are compressed as it is.
        Algorithm::FedGkt => settings,
    }
}

impl Arguments {
    /// How to compare, where the command line left open how messages are encoded.
    pub fn remark(&self, grid: &Grid) -> Option<String> {
        let left_open = self.settings.down.is_none() && self.settings.up.is_none();
        let run = grid.runs.first().filter(|_| left_open && self.config.is_none() && !self.demo)?;
        let (down, up) = (&run.config.down, &run.config.up);
        Some(format!(
            "compressed both ways: --down '{down}' --up '{up}'; to compare, run it again with \
             --down none --up none and another --out"
        ))
    }

    /// The trainings asked for.
    pub fn grid(&self) -> Result<Grid> {
        let algorithm = self.algorithm.unwrap_or_default().into();
        let mut grid = match (&self.config, self.demo) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                Grid::from_toml(&text).with_context(|| path.display().to_string())?
            }
            (None, true) if algorithm == Algorithm::FedGkt => Grid::from_toml(DEMO_GKT)?,
            (None, true) => Grid::from_toml(DEMO)?,
            (None, false) => Grid::single("run", compressed(algorithm)),
        };
        if let Some(seed) = self.settings.seed {
            grid = grid.with_seed(seed);
        }
        for run in &mut grid.runs {
            self.settings.apply(&mut run.config);
        }
        let given = self.config.is_some() || self.demo || self.settings.dataset.is_some();
        if !given {
            Err(Usage::new("what to train: a CONFIG file, --dataset, or --demo"))?;
        }
        Ok(grid)
    }

    /// At least one.
    pub fn threads(&self) -> usize {
        if self.threads == 0 { all_cores() } else { self.threads }
    }

    /// The output folder; made if it is not there.
    pub fn folder(&self) -> Result<PathBuf> {
        let unnamed = || match self.resume {
            true => "fedpress-train".into(),
            false => free_name("fedpress-train", ""),
        };
        let folder = self.out.clone().unwrap_or_else(unnamed);
        let made = std::fs::create_dir_all(&folder);
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(folder)
    }
}

impl Settings {
    fn apply(&self, config: &mut TrainConfig) {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        set(&mut config.dataset, &self.dataset);
        set(&mut config.data, &self.data.clone().map(Some));
        set(&mut config.model, &self.model.clone().map(Some));
        set(&mut config.rounds, &self.rounds);
        set(&mut config.clients, &self.clients);
        set(&mut config.clients_per_round, &self.clients_per_round);
        set(&mut config.down, &self.down);
        if self.deltas {
            config.deltas.get_or_insert_default();
        }
        set(&mut config.up, &self.up);
        set(&mut config.keep, &self.keep);
        set(&mut config.local.learning_rate, &self.learning_rate);
    }
}
