//! [`TrainConfig`]: everything a training depends on, as TOML.

use fedpress::Spec;
use fedpress_fl::{
    Averaging, ClientSpecs, DeltaOptions, Error, Keep, Layout, Policy, Result, Scope, ServerRule,
    Strategy, Weighting,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::{
    Architecture, Dataset, GktConfig, Initial, LocalTraining, Partition, SplitModel,
};
use super::private::{Budget, Integers};

/// Who trains what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Clients train the server's model, or parts of it; the server averages (McMahan et al. 2017,
    /// Caldas et al. 2018).
    #[default]
    FedAvg,
    /// Clients and server train networks of their own, and exchange features and logits (He et al.
    /// 2020).
    FedGkt,
}

/// Everything a training depends on, on one type of processor. The default is McMahan's MNIST
/// setting on the embedded images, uncompressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// `fedavg` or `fedgkt`.
    pub algorithm: Algorithm,
    /// `demo` (embedded), `mnist`, `fashion-mnist`, `emnist`, `cifar10`, `cifar100` or
    /// `folders`.
    pub dataset: String,
    /// Where its files lie.
    pub data: Option<PathBuf>,
    /// Training examples used, the first ones; all if absent.
    pub train_examples: Option<usize>,
    /// Test examples used, the first ones; all if absent.
    pub test_examples: Option<usize>,
    /// So many of the training examples, the last ones, are kept apart, and are what is evaluated on
    /// in the place of the test set: for the choice of rates. 0: the test set.
    pub validation: usize,
    /// `mnist-cnn`, `mnist-2nn`, `emnist-cnn`, `cifar-cnn`, `all-cnn-c` or `small-cnn`; `gkt-small`, `gkt-resnet56` or
    /// `gkt-resnet110` (of bottlenecks), which FedAvg trains as one network, extractor and server's;
    /// with `-client` behind it, FedAvg trains the client's. By the data set if absent.
    pub model: Option<String>,
    /// Widths of an `all-cnn-c` as a fraction of the paper's.
    pub width: f64,
    /// How weights start: `glorot` or `he`.
    pub initial: Initial,
    /// Rounds in all.
    pub rounds: u64,
    /// Clients in all.
    pub clients: usize,
    /// Clients asked in a round; FedGKT works with all of them.
    pub clients_per_round: usize,
    /// How examples are dealt out.
    pub partition: Partition,
    /// How a client trains.
    pub local: LocalTraining,
    /// What the clients' learning rate is multiplied by from round to round.
    pub decay: f64,
    /// Fraction of units kept by Federated Dropout; 1: the full model.
    pub keep: f64,
    /// The same for single groups of units.
    pub keep_groups: BTreeMap<String, f64>,
    /// The fraction of the model's values that submodels have, in the place of `keep` and `keep_groups`: units
    /// are dropped where they cost most ([`Keep::by_cost`](fedpress_fl::Keep::by_cost)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_values: Option<f64>,
    /// Clients that keep another fraction, as weak devices do.
    pub tiers: Vec<Tier>,
    /// `random`, `ordered` or `rolling`.
    pub strategy: Strategy,
    /// `client`: a submodel for each; `round`: one for all.
    pub scope: Scope,
    /// Whether submodels are trained with their inputs multiplied by full over kept ones (the scaler of
    /// Diao et al. 2021, in the forward pass).
    pub scaled: bool,
    /// Layers, such as `["fc2"]`, whose parameters stay with their client and never travel: each has its own
    /// ([`Personal`](fedpress_fl::Personal)). The model is then what they share, and accuracy the mean of the
    /// clients' own.
    pub personal: Vec<String>,
    /// Whether accuracy is the mean over the clients of what each would see: that of its network on test
    /// images of its classes, as frequent as among its training examples.
    pub by_client: bool,
    /// Spec of the broadcasts, or of the server's logits; `none` is raw f32.
    pub down: String,
    /// Spec of the updates, or of the features.
    pub up: String,
    /// Whether clients keep what the encoding of their updates loses; for specs that round to nearest.
    pub feedback: bool,
    /// `counted` or `zero-filled`.
    pub averaging: Averaging,
    /// `samples` or `uniform`.
    pub weighting: Weighting,
    /// `sgd` with rate and momentum, or `adam`.
    pub server: ServerRule,
    /// Rounds between evaluations; the last round is always evaluated.
    pub evaluate_every: u64,
    /// What everything random derives from.
    pub seed: u64,
    /// Whether broadcasts are what changed since the version that a client holds, in the place of `down`: a table
    /// `[deltas]`, which may be empty, with `step`, `dead_zone` and `versions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deltas: Option<DeltaOptions>,
    /// Differential privacy of clients: a table `[privacy]` with `epsilon` for all rounds, `delta` (1e-5) and
    /// `clip`. Clients are then asked independently, `clients_per_round` on average, and weigh the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Budget>,
    /// Updates as integers that a secure aggregation could sum, in the place of `up`: a table `[integers]` with
    /// `bits` and `clip`. All clients of a round then have one submodel (`scope = "round"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integers: Option<Integers>,
    /// What FedGKT needs beside.
    pub gkt: GktConfig,
}

/// Some of the clients: those with the lowest numbers that no tier before it has, up to the client that
/// is nearest to the sum of shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Fraction of all clients.
    pub share: f64,
    /// What they keep of each group of units.
    pub keep: f64,
    /// Spec of their broadcasts, if another than that of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// Spec of their updates, if another than that of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<String>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::FedAvg,
            dataset: "demo".into(),
            data: None,
            train_examples: None,
            test_examples: None,
            validation: 0,
            model: None,
            width: 1.0,
            initial: Initial::default(),
            rounds: 20,
            clients: 100,
            clients_per_round: 10,
            partition: Partition::Iid,
            local: LocalTraining::default(),
            decay: 1.0,
            keep: 1.0,
            keep_groups: BTreeMap::new(),
            keep_values: None,
            tiers: Vec::new(),
            strategy: Strategy::Random,
            scope: Scope::Client,
            scaled: false,
            personal: Vec::new(),
            by_client: false,
            down: "none".into(),
            up: "none".into(),
            feedback: false,
            averaging: Averaging::default(),
            weighting: Weighting::default(),
            server: ServerRule::default(),
            evaluate_every: 1,
            seed: 0,
            deltas: None,
            privacy: None,
            integers: None,
            gkt: GktConfig::default(),
        }
    }
}

impl TrainConfig {
    /// What an algorithm starts from: of FedGKT the setting of its paper, 200 rounds, 16 clients, one
    /// epoch of Adam on the client; but features with 4 bits a value and answers with 16, which the
    /// paper has raw.
    pub fn of(algorithm: Algorithm) -> Self {
        let default = Self { algorithm, ..Self::default() };
        if algorithm == Algorithm::FedAvg {
            return default;
        }
        let gkt = GktConfig::default();
        let local = LocalTraining { epochs: 1, ..gkt.training.clone() };
        let (up, down) = ("identity|q=4,nearest|zstd".into(), "identity|q=16,nearest".into());
        Self { rounds: 200, clients: 16, clients_per_round: 16, local, gkt, up, down, ..default }
    }

    /// Reads TOML; what it leaves out is as [`of`](Self::of) the algorithm.
    ///
    /// # Errors
    /// `InvalidArgument` that names line and key.
    pub fn from_toml(text: &str) -> Result<Self> {
        let refuse = |e| Error::invalid(format!("training configuration: {e}"));
        // Once for the errors, which have their lines only here.
        toml::from_str::<Self>(text).map_err(refuse)?;
        Self::from_table(text.parse().map_err(refuse)?).map_err(refuse)
    }

    /// The same from a table.
    pub(crate) fn from_table(given: toml::Table) -> std::result::Result<Self, toml::de::Error> {
        let algorithm = given.get("algorithm").cloned().map(Algorithm::deserialize);
        let default = Self::of(algorithm.transpose()?.unwrap_or_default());
        // A struct of plain fields always serializes.
        let mut table = toml::Table::try_from(&default).unwrap_or_default();
        let kind = given.get("partition").and_then(|p| p.get("kind")?.as_str());
        if kind.is_some_and(|kind| kind != "iid") && default.algorithm == Algorithm::FedGkt {
            let fewer = "[gkt.training]\nepochs = 10".parse().unwrap_or_default();
            overlay(&mut table, fewer);
        }
        overlay(&mut table, given);
        Self::deserialize(toml::Value::Table(table))
    }

    /// As TOML, every key.
    pub fn to_toml(&self) -> String {
        // A struct of plain fields always serializes.
        toml::to_string(self).unwrap_or_default()
    }

    /// How broadcasts and updates are encoded.
    ///
    /// # Errors
    /// `InvalidArgument` from the parser of specs.
    pub fn specs(&self) -> Result<(Spec, Spec)> {
        Ok((parse("down", &self.down)?, parse("up", &self.up)?))
    }

    /// How those of clients in a tier are that has specs of its own.
    pub(super) fn client_specs(&self) -> Result<BTreeMap<u64, Arc<ClientSpecs>>> {
        let mut all = BTreeMap::new();
        for (tier, clients) in self.tiers() {
            let (down, up) = (tier.down.as_ref(), tier.up.as_ref());
            if down.or(up).is_some() {
                let down = parse("down of a tier", down.unwrap_or(&self.down))?.into();
                let up = parse("up of a tier", up.unwrap_or(&self.up))?.into();
                let specs = Arc::new(ClientSpecs { down, up });
                all.extend(clients.map(|client| (client, specs.clone())));
            }
        }
        Ok(all)
    }

    /// The tiers, with the numbers of their clients.
    fn tiers(&self) -> impl Iterator<Item = (&Tier, Range<u64>)> {
        let place = |share: f64| (share * self.clients as f64).round() as u64;
        self.tiers.iter().scan(0.0, move |sum, tier| {
            let from = *sum;
            *sum += tier.share;
            Some((tier, place(from)..place(*sum)))
        })
    }

    pub(super) fn policy(&self, layout: &Layout) -> Result<Policy> {
        let keep = match self.keep_values {
            Some(share) => Keep::by_cost(layout, share)?,
            None => Keep { default: self.keep, groups: self.keep_groups.clone() },
        };
        let (strategy, scope) = (self.strategy, self.scope);
        let of_tier = |(tier, clients): (&Tier, Range<u64>)| {
            let keep = Keep::from(tier.keep);
            clients.map(move |client| (client, keep.clone()))
        };
        let clients = self.tiers().flat_map(of_tier).collect();
        Ok(Policy { strategy, scope, keep, clients, masks: BTreeMap::new() })
    }

    /// Whether any client trains less than the full model.
    pub(super) fn drops(&self) -> bool {
        let groups = self.keep_groups.values().copied();
        let keeps = groups.chain(self.tiers.iter().map(|tier| tier.keep)).chain([self.keep]);
        keeps.chain(self.keep_values).any(|keep| keep < 1.0)
    }

    /// What FedGKT has no use for is refused rather than ignored.
    pub(crate) fn check_fedgkt(&self) -> Result<()> {
        let of = Self::of(Algorithm::FedGkt);
        let unused = [
            ("keep", self.keep != of.keep || self.keep_groups != of.keep_groups),
            ("keep_values", self.keep_values.is_some()),
            ("tiers", self.tiers != of.tiers),
            ("strategy", self.strategy != of.strategy),
            ("scope", self.scope != of.scope),
            ("scaled", self.scaled),
            ("feedback", self.feedback),
            ("personal", !self.personal.is_empty()),
            ("by_client", self.by_client),
            ("deltas", self.deltas.is_some()),
            ("privacy", self.privacy.is_some()),
            ("integers", self.integers.is_some()),
            ("averaging", self.averaging != of.averaging),
            ("weighting", self.weighting != of.weighting),
            ("server", self.server != of.server),
            ("width", self.width != of.width),
            ("initial", self.initial != of.initial),
            ("decay", self.decay != of.decay),
            ("local.augment", self.local.augment != of.local.augment),
        ];
        match unused.iter().find(|(_, set)| *set) {
            Some((what, _)) => Err(Error::invalid(format!("{what}: not a setting of fedgkt"))),
            None => Ok(()),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let (_, up) = self.specs()?;
        let text = up.to_string();
        if self.feedback && (up.is_unbiased() || text.contains("subsample")) {
            return Err(Error::invalid(format!(
                "feedback: {text:?} draws at random, and may lose more than there is: what feedback \
                 holds would grow without end; it needs a biased spec (q=Q,nearest; \
                 rotation|trellis=R,biased) and no subsample"
            )));
        }
        let counts = [
            ("rounds", self.rounds as usize),
            ("clients", self.clients),
            ("clients_per_round", self.clients_per_round),
            ("evaluate_every", self.evaluate_every as usize),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return Err(Error::invalid(format!("{what}: at least 1")));
        }
        if self.algorithm == Algorithm::FedAvg && self.clients_per_round > self.clients {
            let (some, all) = (self.clients_per_round, self.clients);
            return Err(Error::invalid(format!("{some} clients a round, there are {all}")));
        }
        if self.keep_values.is_some() && (self.keep != 1.0 || !self.keep_groups.is_empty()) {
            return Err(Error::invalid("keep_values: not beside keep or keep_groups"));
        }
        self.check_tiers()?;
        self.check_private()?;
        if !(self.decay > 0.0 && self.decay <= 1.0) {
            return Err(Error::invalid(format!("decay: expected up to 1, found {}", self.decay)));
        }
        if i64::try_from(self.seed).is_err() {
            return Err(Error::invalid(format!("seed: below 2^63, found {}", self.seed)));
        }
        if !(self.width > 0.0 && self.width <= 16.0) {
            return Err(Error::invalid(format!("width: expected up to 16, found {}", self.width)));
        }
        Ok(())
    }

    fn check_tiers(&self) -> Result<()> {
        let shares: f64 = self.tiers.iter().map(|tier| tier.share).sum();
        if !self.tiers.iter().all(|tier| tier.share > 0.0) || shares > 1.0 + 1e-9 {
            return Err(Error::invalid(format!("tiers: expected shares up to 1, found {shares}")));
        }
        let is_fraction = |keep: f64| keep > 0.0 && keep <= 1.0;
        match self.tiers.iter().find(|tier| !is_fraction(tier.keep)) {
            Some(Tier { keep, .. }) => {
                Err(Error::invalid(format!("tiers, keep: expected up to 1, found {keep}")))
            }
            None => Ok(()),
        }
    }

    /// Training and test set.
    pub(crate) fn datasets(&self) -> Result<(Dataset, Dataset)> {
        let (train, test) = match (&self.dataset[..], &self.data) {
            ("demo", _) => {
                let (n_train, n_test) = (self.train_examples, self.test_examples);
                super::super::procedural(1, n_train.unwrap_or(4000), n_test.unwrap_or(1000))?
            }
            (name, Some(folder)) => Dataset::open(name, folder)?,
            (name, None) => return Err(Error::invalid(format!("{name}: where its files lie"))),
        };
        let cut = |data: Dataset, n: Option<usize>| match n {
            Some(n) if n < data.len() => data.first(n),
            _ => data,
        };
        let (train, test) = (cut(train, self.train_examples), cut(test, self.test_examples));
        match train.len().checked_sub(self.validation) {
            Some(_) if self.validation == 0 => Ok((train, test)),
            Some(rest) if rest > 0 => Ok((train.first(rest), train.behind(rest))),
            _ => {
                let (all, found) = (train.len(), self.validation);
                Err(Error::invalid(format!("validation: expected fewer than {all}, found {found}")))
            }
        }
    }

    /// The network that FedAvg trains.
    pub(crate) fn architecture(&self, data: &Dataset) -> Result<Architecture> {
        let name = self.model.as_deref().unwrap_or(match &self.dataset[..] {
            "mnist" | "fashion-mnist" => "mnist-cnn",
            "emnist" => "emnist-cnn",
            "cifar10" | "cifar100" => "all-cnn-c",
            _ => "small-cnn",
        });
        let architecture = match name {
            "mnist-cnn" => Architecture::mnist_cnn(data.n_classes())?,
            "mnist-2nn" => Architecture::mnist_2nn(data.n_classes())?,
            "emnist-cnn" => Architecture::emnist_cnn()?,
            "cifar-cnn" => Architecture::cifar_cnn(data.n_classes())?,
            "all-cnn-c" => Architecture::all_cnn_c(data.n_classes(), self.width)?,
            "small-cnn" => Architecture::small_cnn(data.shape(), data.n_classes())?,
            name => match name.strip_suffix("-client") {
                Some(name) => pair(name, data)?.client().clone(),
                None => pair(name, data)?.joined()?,
            },
        };
        fits(name, &architecture, data)?;
        Ok(architecture)
    }

    /// The networks that FedGKT trains.
    pub(crate) fn split_model(&self, data: &Dataset) -> Result<SplitModel> {
        let name = self.model.as_deref().unwrap_or(match &self.dataset[..] {
            "cifar10" | "cifar100" => "gkt-resnet56",
            _ => "gkt-small",
        });
        let model = pair(name, data)?;
        fits(name, model.client(), data)?;
        Ok(model)
    }
}

fn parse(what: &str, text: &str) -> Result<Spec> {
    text.parse().map_err(|e| Error::invalid(format!("{what} {text:?}: {e}")))
}

fn pair(name: &str, data: &Dataset) -> Result<SplitModel> {
    match name {
        "gkt-small" => SplitModel::gkt_small(data.shape(), data.n_classes()),
        "gkt-resnet56" => SplitModel::gkt_resnet(6, data.n_classes()),
        "gkt-resnet110" => SplitModel::gkt_resnet(12, data.n_classes()),
        _ => Err(Error::invalid(format!("model {name:?}: not one there is for this algorithm"))),
    }
}

fn fits(name: &str, model: &Architecture, data: &Dataset) -> Result<()> {
    if model.input() == data.shape() {
        return Ok(());
    }
    let (model, data) = (model.input(), data.shape());
    Err(Error::invalid(format!("{name} takes images {model:?}, the data has {data:?}")))
}

/// Puts what is given in the place of what is there; of the tables that are settings of their own,
/// key by key.
pub(crate) fn overlay(table: &mut toml::Table, given: toml::Table) {
    for (key, value) in given {
        let settings = ["local", "gkt", "training", "pace", "clock"].contains(&&key[..]);
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(table)), toml::Value::Table(value)) if settings => {
                overlay(table, value);
            }
            (_, value) => drop(table.insert(key, value)),
        }
    }
}
