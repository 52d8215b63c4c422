//! [`Personal`]: parameters that stay with their client.

use crate::{
    Axis, Choice, Error, Gather, Group, Layout, ParamLayout, Parameter, Result, Selection,
};
use bitvec::vec::BitVec;

/// A network of which some parameters stay with their client and never travel, as the last layers do of
/// clients whose classes differ (FedPer, Arivazhagan et al. 2019), or the norms (FedBN, Li et al. 2021).
///
/// The server knows [`shared`](Self::shared) alone: a [`Coordinator`](crate::Coordinator) has that layout
/// and that part of the model, and neither messages nor sums know that there is more. A client
/// [`join`](Self::join)s what it was sent to what it has, trains, and [`part`](Self::part)s again. What it
/// has is whole, also where it was sent a submodel: units that are not kept stay as they were.
///
/// ```
/// use fedpress_fl::{Choice, Layout, Parameter, Personal};
/// let layout = Layout::from_toml(r#"
///     [groups]
///     hidden = 8
///     [[parameters]]
///     name = "body.weight"
///     axes = ["hidden", "4"]
///     [[parameters]]
///     name = "head.weight"
///     axes = ["2", "hidden"]
/// "#)?;
/// let personal = Personal::new(layout, |name| name.starts_with("head."))?;
/// let model = vec![Parameter::zeros("body.weight", &[8, 4]), Parameter::zeros("head.weight", &[2, 8])];
/// let (shared, mut own) = personal.split(model)?;
///
/// let half = Choice { keep: 0.5.into(), ..Choice::full() };
/// let sent = fedpress_fl::pack(personal.shared(), &half.select(personal.shared())?, &shared)?;
/// let network = personal.join(&half, sent, &own)?;
/// assert_eq!(network[1].shape, [2, 4]);
/// let trained = personal.part(&half, network, &mut own)?; // what the update is made of
/// assert_eq!((trained.len(), own[0].shape.as_slice()), (1, &[2, 8][..]));
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Personal {
    whole: Layout,
    shared: Layout,
    is_own: Vec<bool>,
    /// Of each group of the whole layout the index among those that are shared.
    group: Vec<Option<usize>>,
}

impl Personal {
    /// Of the network with this layout, the parameters that `is_own` is true of stay with their client.
    /// Groups of units that no other parameter has are never dropped from.
    ///
    /// # Errors
    /// `InvalidArgument` if that is all of them.
    pub fn new(whole: Layout, is_own: impl Fn(&str) -> bool) -> Result<Self> {
        let is_own: Vec<bool> = whole.params().iter().map(|param| is_own(&param.name)).collect();
        let params = || whole.params().iter().zip(&is_own).filter(|(_, own)| !**own);
        let uses = |group| {
            let axes = params().flat_map(|(param, _)| &param.axes);
            axes.flat_map(|axis| &axis.0).any(|segment| segment.group == Some(group))
        };
        let mut groups: Vec<Group> = Vec::new();
        let group: Vec<Option<usize>> = (0..whole.groups().len())
            .map(|i| {
                uses(i).then(|| {
                    groups.push(whole.groups()[i].clone());
                    groups.len() - 1
                })
            })
            .collect();
        let params: Vec<_> = params().map(|(param, _)| renumbered(param, &group)).collect();
        if params.is_empty() {
            return Err(Error::invalid("personal: expected parameters that travel, found none"));
        }
        Ok(Self { shared: Layout::new(groups, params)?, whole, is_own, group })
    }

    /// The layout of the whole network.
    pub fn whole(&self) -> &Layout {
        &self.whole
    }

    /// That of what travels.
    pub fn shared(&self) -> &Layout {
        &self.shared
    }

    /// A whole model as what travels, and what a client begins with.
    ///
    /// # Errors
    /// `InvalidArgument` for a model of another layout.
    pub fn split(&self, model: Vec<Parameter>) -> Result<(Vec<Parameter>, Vec<Parameter>)> {
        self.whole.check(&model)?;
        let (own, shared) = model.into_iter().zip(&self.is_own).partition(|(_, own)| **own);
        Ok((first(shared), first(own)))
    }

    /// What a choice keeps of the whole network.
    ///
    /// # Errors
    /// As [`Choice::select`] on what is shared.
    pub fn select(&self, choice: &Choice) -> Result<Selection> {
        let shared = choice.select(&self.shared)?;
        let mask = |(group, index): (&Group, &Option<usize>)| match index {
            Some(index) => shared.mask(*index).to_bitvec(),
            None => BitVec::repeat(true, group.units),
        };
        let groups = self.whole.groups().iter().zip(&self.group);
        Selection::from_masks(&self.whole, groups.map(mask).collect())
    }

    /// The network to train: what was `sent`, by this choice, and of the client's `own` parameters, which
    /// are whole, what belongs to it.
    ///
    /// # Errors
    /// `InvalidArgument` where parameters are not those of this network and choice.
    pub fn join(
        &self,
        choice: &Choice,
        sent: Vec<Parameter>,
        own: &[Parameter],
    ) -> Result<Vec<Parameter>> {
        let selection = self.select(choice)?;
        let (mut sent, mut own) = (sent.into_iter(), own.iter());
        let mut network = Vec::with_capacity(self.is_own.len());
        for (i, is_own) in self.is_own.iter().enumerate() {
            let param = &self.whole.params()[i];
            let missing = || Error::invalid("not there").in_parameter(&param.name);
            if !is_own {
                network.push(sent.next().ok_or_else(missing)?);
                continue;
            }
            let own = own.next().ok_or_else(missing)?;
            let gather = Gather::new(&self.whole, &selection, i)?;
            check_length(own, gather.n_full())?;
            let (name, shape) = (own.name.clone(), gather.shape().to_vec());
            network.push(Parameter { name, shape, values: gather.gather(&own.values) });
        }
        if let Some(surplus) = sent.next().as_ref().or(own.next()) {
            return Err(Error::invalid("expected no more parameters").in_parameter(&surplus.name));
        }
        self.whole.submodel(&selection)?.check(&network)?;
        Ok(network)
    }

    /// Takes a network apart that [`join`](Self::join) has made and the client has trained: its `own`
    /// parameters take in what was trained of them, and what travels is returned, for
    /// [`Download::update`](crate::Download::update).
    ///
    /// # Errors
    /// `InvalidArgument` where parameters are not those of this network and choice; `own` is then as it was.
    pub fn part(
        &self,
        choice: &Choice,
        trained: Vec<Parameter>,
        own: &mut [Parameter],
    ) -> Result<Vec<Parameter>> {
        let selection = self.select(choice)?;
        self.whole.submodel(&selection)?.check(&trained)?;
        let numbers = || (0..self.is_own.len()).filter(|i| self.is_own[*i]);
        let (expected, found) = (numbers().count(), own.len());
        if expected != found {
            let message = format!("expected {expected} parameters of the client, found {found}");
            return Err(Error::invalid(message));
        }
        let gathers = numbers().map(|i| Gather::new(&self.whole, &selection, i));
        let gathers = gathers.collect::<Result<Vec<_>>>()?;
        own.iter().zip(&gathers).try_for_each(|(own, g)| check_length(own, g.n_full()))?;
        let (new, shared): (Vec<_>, Vec<_>) =
            trained.into_iter().zip(&self.is_own).partition(|(_, own)| **own);
        for ((own, (new, _)), gather) in own.iter_mut().zip(new).zip(&gathers) {
            gather.scatter(&new.values, &mut own.values);
        }
        Ok(first(shared))
    }
}

fn first<B>(pairs: Vec<(Parameter, B)>) -> Vec<Parameter> {
    pairs.into_iter().map(|(parameter, _)| parameter).collect()
}

fn check_length(own: &Parameter, expected: usize) -> Result<()> {
    let found = own.values.len();
    if found == expected {
        return Ok(());
    }
    Err(Error::invalid(format!("expected {expected} values, found {found}"))
        .in_parameter(&own.name))
}

/// A parameter whose groups have the numbers that they have among those that are shared.
fn renumbered(param: &ParamLayout, group: &[Option<usize>]) -> ParamLayout {
    let axis = |axis: &Axis| {
        let mut axis = axis.clone();
        for segment in &mut axis.0 {
            segment.group = segment.group.and_then(|old| group[old]);
        }
        axis
    };
    ParamLayout { axes: param.axes.iter().map(axis).collect(), ..param.clone() }
}
