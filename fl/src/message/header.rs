//! The typed record at the head of a message (MESSAGES.md).

use super::{Broadcast, Delta, Digest, Reason, Rejection, Update};
use crate::bytes::{Fields, put_text};
use crate::exchange::{Features, Logits};
use crate::{Choice, Error, IntegerSpec, Result, TensorSpecs};
use fedpress::Spec;
use std::collections::BTreeMap;

/// The codec record that holds a header: other readers of the stream pass over it.
pub(crate) const RECORD: u8 = 0xA0;

/// Version of the headers; another one is unsupported.
const VERSION: u8 = 0;

/// Kinds of message.
const BROADCAST: u8 = 1;
const UPDATE: u8 = 2;
const REJECTION: u8 = 3;
const FEATURES: u8 = 4;
const LOGITS: u8 = 5;
const DELTA: u8 = 6;

/// What a broadcast to everyone has in place of a client: no client may be called that.
pub(crate) const EVERYONE: u64 = u64::MAX;

/// Most tensors with a spec of their own in a broadcast.
const MOST_NAMED: usize = 1 << 16;

/// Most bytes of a spec as text.
const LONGEST_SPEC: usize = 1024;

/// Where it is, in errors.
const PLACE: &str = "message header";

/// A message without its tensors.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Header {
    /// Server to client: a model to train.
    Broadcast(Box<Broadcast>),
    /// Client to server: what training changed.
    Update(Update),
    /// Server to client: why an update was not taken.
    Rejection(Rejection),
    /// Client to server: features and logits of its samples.
    Features(Features),
    /// Server to client: logits for its samples.
    Logits(Logits),
    /// Server to client: a model to train, as what changed since one it holds.
    Delta(Box<Delta>),
}

impl Header {
    /// The body of the record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, run, round, client) = match self {
            Self::Broadcast(b) => (BROADCAST, b.run, b.round, b.client.unwrap_or(EVERYONE)),
            Self::Update(u) => (UPDATE, u.run, u.round, u.client),
            Self::Rejection(r) => (REJECTION, r.run, r.round, r.client),
            Self::Features(f) => (FEATURES, f.run, f.round, f.client),
            Self::Logits(l) => (LOGITS, l.run, l.round, l.client),
            Self::Delta(d) => {
                let b = &d.broadcast;
                (DELTA, b.run, b.round, b.client.unwrap_or(EVERYONE))
            }
        };
        let mut out = vec![VERSION, kind];
        [run, round, client].iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        match self {
            Self::Broadcast(broadcast) => write_broadcast(broadcast, &mut out),
            Self::Update(update) => {
                out.extend_from_slice(&update.base.0);
                out.extend_from_slice(&update.samples.to_le_bytes());
            }
            Self::Rejection(rejection) => {
                out.push(rejection.reason as u8);
                put_text(&rejection.detail, &mut out);
            }
            Self::Features(features) => features.write_to(&mut out),
            Self::Logits(logits) => logits.write_to(&mut out),
            Self::Delta(delta) => delta.write_to(&mut out),
        }
        out
    }

    /// Reads the body of the record.
    pub(crate) fn from_bytes(body: &[u8]) -> Result<Self> {
        let mut fields = Fields(body);
        let (kind, [run, round, client]) = read_common(&mut fields)?;
        let header = match kind {
            BROADCAST => {
                let client = (client != EVERYONE).then_some(client);
                Self::Broadcast(Box::new(read_broadcast(&mut fields, run, round, client)?))
            }
            DELTA => {
                let client = (client != EVERYONE).then_some(client);
                Self::Delta(Box::new(Delta::read_from(&mut fields, run, round, client)?))
            }
            UPDATE => Self::Update(read_update(&mut fields, run, round, client)?),
            REJECTION => Self::Rejection(read_rejection(&mut fields, run, round, client)?),
            FEATURES => Self::Features(Features::read_from(&mut fields, [run, round, client])?),
            LOGITS => Self::Logits(Logits::read_from(&mut fields, [run, round, client])?),
            _ => {
                let found = format!("kind of message {kind}");
                return Err(Error::unsupported(PLACE, found, "kinds 1 to 6"));
            }
        };
        fields.finish()?;
        Ok(header)
    }

    /// Reads the body of the record where only an update will do: of another message, whose lists
    /// take memory, nothing behind the common fields is looked at.
    pub(crate) fn update_from_bytes(body: &[u8]) -> Result<Update> {
        read_only(body, UPDATE, "an update", |fields, [run, round, client]| {
            read_update(fields, run, round, client)
        })
    }

    /// The same where only features will do.
    pub(crate) fn features_from_bytes(body: &[u8]) -> Result<Features> {
        read_only(body, FEATURES, "features", Features::read_from)
    }

    /// The same where only logits will do.
    pub(crate) fn logits_from_bytes(body: &[u8]) -> Result<Logits> {
        read_only(body, LOGITS, "logits", Logits::read_from)
    }

    /// What it is called in errors.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Broadcast(_) => "a broadcast",
            Self::Update(_) => "an update",
            Self::Rejection(_) => "a rejection",
            Self::Features(_) => "features",
            Self::Logits(_) => "logits",
            Self::Delta(_) => "a delta",
        }
    }
}

/// A header of one kind, and no other.
fn read_only<T>(
    body: &[u8],
    expected: u8,
    name: &str,
    read: impl Fn(&mut Fields<'_>, [u64; 3]) -> Result<T>,
) -> Result<T> {
    let mut fields = Fields(body);
    let (kind, common) = read_common(&mut fields)?;
    if kind != expected {
        return Err(Error::corrupt(format!("expected {name}, found a message of kind {kind}")));
    }
    let header = read(&mut fields, common)?;
    fields.finish()?;
    Ok(header)
}

/// Kind of message; run, round and client.
fn read_common(fields: &mut Fields<'_>) -> Result<(u8, [u64; 3])> {
    let version = fields.u8("version of the header")?;
    if version != VERSION {
        return Err(Error::unsupported(PLACE, format!("version {version}"), "version 0"));
    }
    let kind = fields.u8("kind of message")?;
    Ok((kind, [fields.u64("run")?, fields.u64("round")?, fields.u64("client")?]))
}

fn read_update(fields: &mut Fields<'_>, run: u64, round: u64, client: u64) -> Result<Update> {
    let base = Digest(fields.array("digest of the base")?);
    Ok(Update { run, round, client, base, samples: fields.u64("samples")? })
}

fn read_rejection(fields: &mut Fields<'_>, run: u64, round: u64, client: u64) -> Result<Rejection> {
    let reason = fields.u8("reason")?;
    let unknown = || Error::unsupported(PLACE, format!("reason {reason}"), "reasons 1 to 20");
    let reason = Reason::from_u8(reason).ok_or_else(unknown)?;
    Ok(Rejection { run, round, client, reason, detail: fields.text("detail")? })
}

pub(super) fn write_broadcast(broadcast: &Broadcast, out: &mut Vec<u8>) {
    out.extend_from_slice(&broadcast.seed.to_le_bytes());
    broadcast.choice.write_to(out);
    out.extend_from_slice(&(broadcast.gains.len() as u32).to_le_bytes());
    broadcast.gains.iter().for_each(|gain| out.extend_from_slice(&gain.to_le_bytes()));
    put_text(&broadcast.up.default.to_string(), out);
    out.extend_from_slice(&(broadcast.up.by_tensor.len() as u32).to_le_bytes());
    for (name, spec) in &broadcast.up.by_tensor {
        put_text(name, out);
        put_text(&spec.to_string(), out);
    }
    put_text(&broadcast.task, out);
    out.push(u8::from(broadcast.integers.is_some()));
    if let Some(spec) = &broadcast.integers {
        spec.write_to(out);
    }
}

pub(super) fn read_broadcast(
    fields: &mut Fields<'_>,
    run: u64,
    round: u64,
    client: Option<u64>,
) -> Result<Broadcast> {
    let seed = fields.u64("seed")?;
    let choice = Choice::read_from(&mut fields.0)?;
    let gains = read_gains(fields)?;
    let up = read_specs(fields)?;
    let task = fields.text("task")?;
    let is_summed = fields.flag("whether updates are integers")?;
    let integers = is_summed.then(|| IntegerSpec::read_from(fields)).transpose()?;
    Ok(Broadcast { run, round, client, seed, choice, gains, up, task, integers })
}

/// Whether specs may be given for so many tensors by name.
pub(super) fn check_named(n: usize) -> std::result::Result<(), String> {
    match n <= MOST_NAMED {
        true => Ok(()),
        false => Err(format!("specs for {n} tensors by name, up to {MOST_NAMED} are allowed")),
    }
}

fn read_specs(fields: &mut Fields<'_>) -> Result<TensorSpecs> {
    let default = read_spec(fields)?;
    let n = fields.u32("number of tensors with a spec of their own")?;
    // A spec takes more memory than its text.
    check_named(n as usize).map_err(Error::corrupt)?;
    let mut by_tensor = BTreeMap::<String, Spec>::new();
    for _ in 0..n {
        let name = fields.text("name of a tensor")?;
        if by_tensor.last_key_value().is_some_and(|(last, _)| *last >= name) {
            let problem = format!("spec of {name:?}: expected names in ascending order");
            return Err(Error::corrupt(problem));
        }
        by_tensor.insert(name, read_spec(fields)?);
    }
    Ok(TensorSpecs { default, by_tensor })
}

fn read_spec(fields: &mut Fields<'_>) -> Result<Spec> {
    let text = fields.text("spec of the update")?;
    if text.len() > LONGEST_SPEC {
        let problem = format!("{} bytes, up to {LONGEST_SPEC} make sense", text.len());
        return Err(Error::corrupt(format!("spec of the update: {problem}")));
    }
    let spec: Spec =
        text.parse().map_err(|e| Error::corrupt(format!("spec of the update: {e}")))?;
    match spec.to_string() == text {
        true => Ok(spec),
        false => Err(Error::corrupt(format!("spec of the update: expected {spec}, found {text}"))),
    }
}

fn read_gains(fields: &mut Fields<'_>) -> Result<Vec<f32>> {
    let n_gains = fields.u32("number of gains")?;
    // Each takes its four bytes, so a false number ends soon.
    let gain = |_| {
        let gain = f32::from_le_bytes(fields.array("gain")?);
        match gain.is_finite() && gain > 0.0 {
            true => Ok(gain),
            false => Err(Error::corrupt(format!("gain: expected more than 0, found {gain}"))),
        }
    };
    (0..n_gains).map(gain).collect()
}
