//! How updates are averaged, and how much is taken from whom.

use super::Noise;
use super::bound::{Excess, check_norm};
use crate::bytes::Fields;
use crate::message::Digest;
use crate::{Choice, Error, IntegerSpec, Layout, Result, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the updates of a round become one change, coordinate by coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// The weighted mean over all clients. One that lacks a coordinate counts as one that did not
    /// change it (Caldas et al. 2018): trained by m of C clients, it moves by m/C of their mean.
    ZeroFilled,
    /// The weighted mean of those who trained it.
    #[default]
    Counted,
    /// The mean of those who trained it without the `trim` lowest and the `trim` highest of their
    /// values (Yin et al. 2018), each client counting once. While no more than `trim` of them are
    /// hostile, every coordinate stays within the range of the honest ones. A coordinate that 2 `trim`
    /// clients or fewer trained does not move.
    ///
    /// Like [`Median`](Self::Median) it needs the updates themselves, not sums: see
    /// [`AggregatorOptions::max_kept_bytes`].
    TrimmedMean {
        /// How many at either end.
        trim: u32,
    },
    /// The median of those who trained it, the mean of the middle two of an even number: as robust as
    /// can be, while fewer than half of those who trained a coordinate are hostile. Of one or two
    /// clients it is their mean, and one of them enough to move it.
    Median,
}

impl Averaging {
    /// Whether it needs the updates themselves, and bounds what some of them together can do.
    pub fn is_robust(self) -> bool {
        matches!(self, Self::TrimmedMean { .. } | Self::Median)
    }

    /// In a saved state.
    fn to_bytes(self) -> [u8; 5] {
        let (kind, trim) = match self {
            Self::ZeroFilled => (0, 0),
            Self::Counted => (1, 0),
            Self::TrimmedMean { trim } => (2, trim),
            Self::Median => (3, 0),
        };
        let [a, b, c, d] = u32::to_le_bytes(trim);
        [kind, a, b, c, d]
    }
}

/// What an update weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Weighting {
    /// Its number of examples (McMahan et al. 2017).
    #[default]
    Samples = 0,
    /// The same as any other.
    Uniform = 1,
}

/// How to aggregate, and how much to take from whom.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatorOptions {
    /// How updates become one change.
    pub averaging: Averaging,
    /// What an update weighs; uniform where the averaging is robust, which does not believe what
    /// clients say of themselves.
    pub weighting: Weighting,
    /// Most bytes of one update, whatever the size of the model. Never more are taken than its shapes
    /// can need: 9 bytes a value, 4 KiB and three times the name for each parameter, and 64 KiB.
    pub max_update_bytes: u64,
    /// Most updates on their way at the same time. One keeps its place until it is complete, rejected
    /// or [forgotten](crate::Aggregator::forget).
    pub max_in_flight: usize,
    /// Most examples that a client may claim, below 2^32, where `known_samples` does not have it. A
    /// client says itself how many it has, and weighs as much: set this to what clients have.
    pub max_samples: u32,
    /// Most examples of single clients, as far as the operator knows them; 0 lets nothing of a client
    /// in.
    pub known_samples: Arc<BTreeMap<u64, u32>>,
    /// What becomes of an update that claims more.
    pub excess_samples: Excess,
    /// Largest L2 norm of the change of the weights, all parameters but statistics;
    /// infinity bounds nothing. So no update moves the model further than this, times
    /// its share of the weight, whatever it holds. [`RoundOptions::max_norm`](crate::RoundOptions)
    /// sets it from the model.
    pub max_norm: f64,
    /// The same of the change of the statistics, whose units are others.
    pub max_statistic_norm: f64,
    /// What becomes of an update beyond `max_norm` or `max_statistic_norm`.
    pub excess_norm: Excess,
    /// Most memory for the updates of a round where the averaging is [robust](Averaging::is_robust), in
    /// bytes: 4 for each client that is expected and each value of the full model, and while the
    /// result is made, once more 4 for each client and value of the largest parameter. A tree does not
    /// make less of it: what a leaf [saves](crate::Aggregator::save) then is the updates it has folded,
    /// and the root holds those of all.
    pub max_kept_bytes: u64,
    /// Most memory that decoding one update may take beside its values, in bytes.
    pub decode_memory: u64,
    /// The one submodel that all clients have; another is refused. None: each may have its own.
    pub submodel: Option<Choice>,
    /// What sums are divided by, whoever comes, with uniform weights and
    /// [zeros](Averaging::ZeroFilled) for what a client lacks. None: by the weights.
    pub divisor: Option<u64>,
    /// Noise in the sums, for the [privacy](crate::Privacy) of clients: with a divisor, and a bound on
    /// norms that clips. It is in the coordinates of the `submodel`, or all where there is none.
    pub noise: Option<Noise>,
    /// How updates are codes whose sums are taken modulo a power of two, and the seed of the broadcast: with
    /// uniform weights, for one `submodel`.
    pub integers: Option<(IntegerSpec, u64)>,
}

impl Default for AggregatorOptions {
    /// Counted, by samples; 1 GiB and a million examples a client, more refused, 64 on their way, 256
    /// MiB to decode one, 1 GiB to keep some; no bound on norms.
    fn default() -> Self {
        Self {
            averaging: Averaging::default(),
            weighting: Weighting::default(),
            max_update_bytes: 1 << 30,
            max_in_flight: 64,
            max_samples: 1_000_000,
            known_samples: Arc::default(),
            excess_samples: Excess::Refuse,
            max_norm: f64::INFINITY,
            max_statistic_norm: f64::INFINITY,
            excess_norm: Excess::Clip,
            max_kept_bytes: 1 << 30,
            decode_memory: 256 << 20,
            submodel: None,
            divisor: None,
            noise: None,
            integers: None,
        }
    }
}

impl AggregatorOptions {
    /// Whether anything can be received.
    ///
    /// # Errors
    /// `InvalidArgument` if `max_in_flight` or `max_samples` is zero, a norm is negative or NaN, the
    /// averaging is robust and the weighting is not uniform, or a divisor, noise or integers lack what
    /// they need.
    pub fn check(&self) -> Result<()> {
        if self.max_in_flight == 0 || self.max_samples == 0 {
            return Err(Error::invalid("max_in_flight and max_samples: at least 1 each"));
        }
        if self.averaging.is_robust() && self.weighting != Weighting::Uniform {
            return Err(Error::invalid(format!(
                "{:?} counts each client once: expected uniform weighting, found {:?}",
                self.averaging, self.weighting
            )));
        }
        self.check_private()?;
        check_norm("max_norm", self.max_norm)?;
        check_norm("max_statistic_norm", self.max_statistic_norm)
    }

    /// Whether divisor, noise and integers have what they need.
    fn check_private(&self) -> Result<()> {
        let Self { submodel, divisor, noise, integers, .. } = self;
        let need = |what: &str, holds: bool| match holds {
            true => Ok(()),
            false => Err(Error::invalid(what)),
        };
        let is_uniform = self.weighting == Weighting::Uniform && !self.averaging.is_robust();
        let is_plain = is_uniform && self.averaging == Averaging::ZeroFilled;
        if let Some(divisor) = divisor {
            need("a divisor: expected uniform weighting, zeros filled in", is_plain)?;
            need("a divisor: expected at least 1", *divisor > 0)?;
        }
        if let Some(noise) = noise {
            noise.check()?;
            need("noise: expected a divisor", divisor.is_some())?;
            let is_clipped = self.max_norm < f64::INFINITY && self.excess_norm == Excess::Clip;
            need("noise: expected updates clipped to a norm", is_clipped || integers.is_some())?;
        }
        if let Some((spec, _)) = integers {
            spec.check()?;
            need("integers: expected uniform weighting, and a mean", is_uniform)?;
            need("integers: expected one submodel for all", submodel.is_some())?;
        }
        Ok(())
    }

    /// Whether anything can be received for a model.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); `InvalidArgument` for noise or integers where it has running statistics, which leave without noise and have units of their
    /// own.
    pub(crate) fn check_for(&self, layout: &Layout) -> Result<()> {
        self.check()?;
        if self.noise.is_none() && self.integers.is_none() {
            return Ok(());
        }
        match layout.params().iter().find(|param| param.role == Role::Statistic) {
            None => Ok(()),
            Some(param) => Err(Error::invalid(
                "running statistics get no noise and are no integers: use norms without them",
            )
            .in_parameter(&param.name)),
        }
    }

    /// Most examples that this client may claim.
    pub fn most_samples(&self, client: u64) -> u32 {
        self.known_samples.get(&client).copied().unwrap_or(self.max_samples)
    }

    /// The bound on the change of parameters of this role.
    pub(super) fn max_norm_of(&self, role: Role) -> f64 {
        if role == Role::Statistic { self.max_statistic_norm } else { self.max_norm }
    }

    /// What two aggregators have to agree on for their sums to be those of one.
    pub(super) fn write_rules(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.averaging.to_bytes());
        out.extend_from_slice(&[self.weighting as u8, self.excess_norm as u8]);
        for norm in [self.max_norm, self.max_statistic_norm] {
            out.extend_from_slice(&norm.to_le_bytes());
        }
        out.extend_from_slice(&self.private_rules().0);
    }

    /// A hash of what divisor, noise and integers say, but for secrets.
    fn private_rules(&self) -> Digest {
        let mut out = Vec::new();
        let Self { submodel, divisor, noise, integers, .. } = self;
        out.extend(
            [submodel.is_some(), divisor.is_some(), noise.is_some(), integers.is_some()]
                .map(u8::from),
        );
        if let Some(choice) = submodel {
            choice.write_to(&mut out);
        }
        out.extend_from_slice(&divisor.unwrap_or(0).to_le_bytes());
        if let Some(noise) = noise {
            out.extend_from_slice(&noise.deviation.to_le_bytes());
        }
        if let Some((spec, seed)) = integers {
            spec.write_to(&mut out);
            out.extend_from_slice(&seed.to_le_bytes());
        }
        Digest::of(&out)
    }

    /// Reads what [`write_rules`](Self::write_rules) wrote.
    ///
    /// # Errors
    /// `InvalidArgument` where these options say something else.
    pub(super) fn read_rules(&self, fields: &mut Fields<'_>) -> Result<()> {
        let (own, found) = (self.averaging.to_bytes(), fields.array("averaging")?);
        if own != found {
            return Err(Error::invalid(format!("averaging: expected {own:?}, found {found:?}")));
        }
        for (what, own) in
            [("weighting", self.weighting as u8), ("excess_norm", self.excess_norm as u8)]
        {
            let found = fields.u8(what)?;
            if found != own {
                return Err(Error::invalid(format!("{what}: expected {own}, found {found}")));
            }
        }
        for (what, own) in
            [("max_norm", self.max_norm), ("max_statistic_norm", self.max_statistic_norm)]
        {
            let found = f64::from_le_bytes(fields.array(what)?);
            if found != own {
                return Err(Error::invalid(format!("{what}: expected {own:e}, found {found:e}")));
            }
        }
        let found = Digest(fields.array("divisor, noise and integers")?);
        match found == self.private_rules() {
            true => Ok(()),
            false => Err(Error::invalid("another submodel, divisor, noise or integers")),
        }
    }
}
