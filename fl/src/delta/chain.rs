//! [`Chain`]: the server's side, the versions of its model and who holds which.

use super::history::{History, Patchwork};
use super::lattice::{Multiples, advance, quantum, rms};
use super::options::DeltaOptions;
use super::replica::Replica;
use crate::message::{Broadcast, Delta, Digest, EVERYONE, Header, encode};
use crate::submodel::Gather;
use crate::{Choice, Error, Layout, Parameter, Result, Role, TensorSpecs};
use fedpress::{Seeds, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Integers come back within less than a half, whatever they are.
const EXACT_INTEGERS: &str = "max-error=0.499";

/// The values of a version: of each parameter, in the order of the layout.
pub(super) type Version = Arc<Vec<Vec<f32>>>;

/// Versions of the server's model, by the round they were made for, and what clients hold of them.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(super) options: DeltaOptions,
    pub(super) layout: Arc<Layout>,
    /// Which parameters are the server's to the bit in every version, and travel whole.
    pub(super) exact: Vec<bool>,
    /// The last one, and those before that a client may hold.
    pub(super) versions: BTreeMap<u64, Version>,
    /// Of each parameter the root mean square of its last change; empty before the first.
    pub(super) changes: Vec<f64>,
    /// Of the clients that hold anything.
    pub(super) histories: BTreeMap<u64, History>,
}

impl Chain {
    /// No version yet. Statistics are exact, and so is what `down` names with a lossless spec.
    pub(crate) fn new(options: DeltaOptions, layout: Arc<Layout>, down: &TensorSpecs) -> Self {
        let exact = layout.params().iter().map(|param| match down.by_tensor.get(&param.name) {
            Some(spec) => !spec.is_lossy(),
            None => param.role == Role::Statistic,
        });
        Self {
            options,
            exact: exact.collect(),
            layout,
            versions: BTreeMap::new(),
            changes: Vec::new(),
            histories: BTreeMap::new(),
        }
    }

    /// The oldest version that counts in a round.
    fn oldest(&self, round: u64) -> u64 {
        round.saturating_sub(self.options.versions)
    }

    /// Makes the version of a round, unless there is one, and lets go of those that nobody holds.
    pub(crate) fn advance(&mut self, round: u64, model: &[Parameter]) {
        if self.versions.contains_key(&round) {
            return;
        }
        let last = self.versions.last_key_value().map(|(_, last)| last.clone());
        let zeros = |parameter: &Parameter| vec![0.0; parameter.values.len()];
        let last = last.unwrap_or_else(|| Arc::new(model.iter().map(zeros).collect()));
        let next = |(i, (parameter, last)): (usize, (&Parameter, &Vec<f32>))| {
            if self.exact[i] {
                return parameter.values.clone();
            }
            let change = self.changes.get(i).copied();
            let quantum = quantum(&parameter.values, change, self.options.step);
            advance(last, &parameter.values, quantum, self.options.dead_zone as f32)
        };
        let next = model.iter().zip(last.iter()).enumerate().map(next).collect();
        self.versions.insert(round, Arc::new(next));
        self.forget_before(self.oldest(round), round);
    }

    /// Lets go of versions before `oldest`, and of others than that of `round` that no client holds.
    fn forget_before(&mut self, oldest: u64, round: u64) {
        self.histories.retain(|_, history| {
            history.forget_before(oldest);
            history.latest().is_some()
        });
        let held: BTreeSet<u64> = self.histories.values().flat_map(History::versions).collect();
        self.versions.retain(|version, _| *version == round || held.contains(version));
    }

    /// The model has moved: the next quanta follow the change.
    pub(crate) fn moved(&mut self, before: &[Parameter], after: &[Parameter]) {
        let change = |(before, after): (&Parameter, &Parameter)| {
            let pairs = before.values.iter().zip(&after.values);
            rms(pairs.map(|(before, after)| f64::from(*after) - f64::from(*before)))
        };
        self.changes = before.iter().zip(after).map(change).collect();
    }

    /// A client has shown that it holds what it was sent of a version; of a round that had none it was sent
    /// something else.
    pub(crate) fn acknowledge(&mut self, client: u64, version: u64, choice: &Choice) -> Result<()> {
        if !self.versions.contains_key(&version) {
            return Ok(());
        }
        self.histories.entry(client).or_default().push(version, choice, &self.layout)
    }

    /// A client holds nothing.
    pub(crate) fn forget(&mut self, client: u64) {
        self.histories.remove(&client);
    }

    /// What a client holds, as far as it counts.
    pub(crate) fn history(&self, client: u64) -> History {
        self.histories.get(&client).cloned().unwrap_or_default()
    }

    /// What a client holds, put together from the versions that it was sent.
    pub(crate) fn replica(&self, client: u64) -> Result<Replica> {
        let history = self.history(client);
        let selections = history.selections(&self.layout)?;
        let of = |i: usize| {
            let values = |version| self.versions.get(&version).map(|values| &values[i][..]);
            Ok(Patchwork::new(&self.layout, i, &selections, values)?.values)
        };
        let values = (0..self.layout.params().len()).map(of).collect::<Result<_>>()?;
        Ok(Replica { layout: Layout::clone(&self.layout), values, history, pending: None })
    }

    /// Encodes the version of the broadcast's round for those who hold this.
    ///
    /// # Errors
    /// `InvalidArgument` if a version is not there; as encoding.
    pub(crate) fn encode(&self, broadcast: Broadcast, history: &History) -> Result<Vec<u8>> {
        let layout = &*self.layout;
        let round = broadcast.round;
        let values = |version: u64| self.versions.get(&version);
        let target = values(round)
            .ok_or_else(|| Error::invalid(format!("round {round} has no version of the model")))?;
        let selection = broadcast.choice.select(layout)?;
        let held = history.selections(layout)?;
        let (mut sent, mut exponents, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for (i, param) in layout.params().iter().enumerate() {
            let gather = Gather::new(layout, &selection, i)?;
            let result = gather.gather(&target[i]);
            let difference = match self.exact[i] {
                true => None,
                false => {
                    let of = |version| values(version).map(|values| &values[i][..]);
                    let base = Patchwork::new(layout, i, &held, of)?.gather(&gather);
                    let difference = Multiples::between(&base.values, &result);
                    difference.map(|multiples| multiples.map(|values| base.sorted(values)))
                }
            };
            let parameter = |values| {
                let (name, shape) = (param.name.clone(), gather.shape().to_vec());
                Parameter { name, shape, values }
            };
            exponents.push(difference.as_ref().map(|multiples| multiples.exponent));
            let values = difference.map_or_else(|| result.clone(), |multiples| multiples.values);
            sent.push(parameter(values));
            results.push(parameter(result));
        }
        let result = Digest::of_values(&results);
        let whole = exponents.iter().zip(&sent).filter(|(exponent, _)| exponent.is_none());
        let whole = whole.map(|(_, parameter)| (parameter.name.clone(), Spec::lossless()));
        let specs = TensorSpecs { default: EXACT_INTEGERS.parse()?, by_tensor: whole.collect() };
        // Nothing is drawn: no seed shows in the bytes.
        let client = broadcast.client.unwrap_or(EVERYONE);
        let seeds = Seeds::new(broadcast.seed, 0).in_round(round).of_client(client, 0);
        let (base, oldest) = (history.latest(), self.oldest(round));
        let header = Header::Delta(Box::new(Delta { broadcast, base, oldest, result, exponents }));
        encode(&header, &sent, &specs, seeds)
    }
}
