//! [`Replica`]: the client's side, what it holds of the server's model.

use super::history::{History, Patchwork};
use super::lattice::Multiples;
use crate::message::{Delta, Digest, Header, decode};
use crate::submodel::Gather;
use crate::{Choice, Download, Error, Layout, Result, Selection};
use fedpress::DecodeOptions;

/// What a client holds of the server's model, so that it need only be sent what changed.
///
/// That is the full model in f32 with 0 where it was never sent anything, and the last submodel it was sent,
/// which counts from the next broadcast on that builds on it: the server knows that the client has it when it
/// has taken the update.
///
/// ```
/// use fedpress_fl::{
///     Coordinator, DeltaOptions, Layout, Parameter, PrivateSeed, Replica, RoundOptions, RoundingSeed,
/// };
/// let layout = Layout::from_toml("[groups]\n[[parameters]]\nname = \"w\"\naxes = [\"2\"]\n")?;
/// let model = vec![Parameter { name: "w".into(), shape: vec![2], values: vec![1.0, 2.0] }];
/// let mut options = RoundOptions::new(1, 7, PrivateSeed::new(*b"32 bytes of the operating system"));
/// (options.n_updates, options.min_updates) = (1, 1);
/// options.deltas = Some(DeltaOptions::default());
/// let mut server = Coordinator::new(layout.clone(), model, options)?;
///
/// let mut replica = Replica::new(layout);
/// for round in 0..3 {
///     server.begin(&[10], round)?;
///     let message = server.send(10)?;
///     let download = replica.decode(&message, &Default::default())?;
///     let mut trained = download.base.clone();
///     trained[0].values[0] += 0.25;
///     server.receive(10, &download.update(10, &trained, 5, RoundingSeed(round))?, round)?;
/// }
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    pub(super) layout: Layout,
    pub(super) values: Vec<Vec<f32>>,
    pub(super) history: History,
    pub(super) pending: Option<Pending>,
}

/// What came last, and does not count yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    pub(super) version: u64,
    pub(super) choice: Choice,
    /// Of the submodel.
    pub(super) values: Vec<Vec<f32>>,
}

/// What a client holds by a broadcast that builds on it.
struct Held {
    /// Whether what came last counts.
    is_pending: bool,
    history: History,
    selections: Vec<(u64, Selection)>,
}

impl Replica {
    /// Nothing.
    pub fn new(layout: Layout) -> Self {
        let zeros = |i| vec![0.0; layout.shape(i).iter().product()];
        let values = (0..layout.params().len()).map(zeros).collect();
        Self { layout, values, history: History::default(), pending: None }
    }

    /// Takes a broadcast apart: a delta is added to what is held. A plain broadcast changes nothing here.
    ///
    /// # Errors
    /// As [`Download::decode`]; `InvalidArgument` if the submodel is not one of the layout; `Corrupt` that
    /// [is out of step](Error::is_out_of_step) where the server builds on what is not held here. After any
    /// error the replica is as before.
    pub fn decode(&mut self, message: &[u8], options: &DecodeOptions) -> Result<Download> {
        let (delta, mut base) = match decode(message, options)? {
            (Header::Delta(delta), base) => (*delta, base),
            (header, base) => return Download::of(header, base, Digest::of(message)),
        };
        let choice = &delta.broadcast.choice;
        let selection = choice.select(&self.layout)?;
        self.layout.submodel(&selection)?.check(&base)?;
        delta.broadcast.check_gains(base.len())?;
        if delta.exponents.len() != base.len() {
            let (expected, found) = (base.len(), delta.exponents.len());
            return Err(Error::corrupt(format!("expected {expected} exponents, found {found}")));
        }
        let held = self.held(&delta)?;
        for (i, (parameter, exponent)) in base.iter_mut().zip(&delta.exponents).enumerate() {
            let Some(exponent) = *exponent else { continue };
            let gather = Gather::new(&self.layout, &selection, i)?;
            let mut base = self.parameter(i, &held)?.gather(&gather);
            let multiples = base.unsorted(&parameter.values);
            Multiples { exponent, values: multiples }.add_to(&mut base.values);
            parameter.values = base.values;
        }
        let found = Digest::of_values(&base);
        if found != delta.result {
            return Err(Error::out_of_step(format!(
                "version of round {}: expected {}, found {found}",
                delta.broadcast.round, delta.result
            )));
        }
        self.values = (0..self.values.len())
            .map(|i| Ok(self.parameter(i, &held)?.values))
            .collect::<Result<_>>()?;
        self.history = held.history;
        self.pending = Some(Pending {
            version: delta.broadcast.round,
            choice: choice.clone(),
            values: base.iter().map(|parameter| parameter.values.clone()).collect(),
        });
        Ok(Download { header: delta.broadcast, base, digest: Digest::of(message) })
    }

    /// What is held by a delta: what came last counts where it builds on that, and nothing does where it
    /// builds on nothing.
    fn held(&self, delta: &Delta) -> Result<Held> {
        let pending = self.pending.as_ref().filter(|pending| Some(pending.version) == delta.base);
        let mut history = match delta.base {
            Some(_) => self.history.clone(),
            None => History::default(),
        };
        if let Some(pending) = pending {
            history.push(pending.version, &pending.choice, &self.layout)?;
        } else if history.latest() != delta.base {
            return Err(Error::out_of_step(format!(
                "round {} builds on version {:?}, held are {:?} and {:?}",
                delta.broadcast.round,
                delta.base,
                self.history.latest(),
                self.pending.as_ref().map(|pending| pending.version)
            )));
        }
        history.forget_before(delta.oldest);
        let selections = history.selections(&self.layout)?;
        Ok(Held { is_pending: pending.is_some(), history, selections })
    }

    /// A parameter of the model, as far as it is held.
    fn parameter(&self, i: usize, held: &Held) -> Result<Patchwork> {
        let earlier = match (&held.selections[..], held.is_pending) {
            ([earlier @ .., _], true) => earlier,
            (all, _) => all,
        };
        // Each coordinate stands at the last version that kept it.
        let mut all = Patchwork::new(&self.layout, i, earlier, |_| Some(&self.values[i]))?;
        if let (Some((_, selection)), Some(pending), true) =
            (held.selections.last(), &self.pending, held.is_pending)
        {
            let gather = Gather::new(&self.layout, selection, i)?;
            gather.scatter(&pending.values[i], &mut all.values);
            let place = held.selections.len() as u32;
            gather.runs().for_each(|(at, n)| all.places[at..at + n].fill(place));
        }
        Ok(all)
    }
}
