//! A training by FedGKT as bytes, between turns.

use super::client::{Client, Working};
use super::edge::{BATCH, Teacher};
use super::queue::Event;
use super::{GktSimulation, Plateau, taken};
use crate::TrainConfig;
use crate::simulation::saved::{Saved, Saver};
use fedpress::{DecodeOptions, Spec};
use fedpress_fl::exchange::{FeatureSpecs, FeatureWriter, Features};
use fedpress_fl::{Error, Result, RoundingSeed};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What is a number or a few of everything, as JSON.
#[derive(Serialize, Deserialize)]
struct Small {
    plateau: Plateau,
    now: f64,
    starting: Vec<u64>,
    /// Client, cycle, loss.
    fresh: Vec<(u64, u64, f64)>,
    due: Option<f64>,
    rests: (f64, f64),
    clients: Vec<SmallClient>,
    events: Vec<SmallEvent>,
}

#[derive(Serialize, Deserialize)]
struct SmallClient {
    /// The upload that its teacher answers.
    teacher: Option<u64>,
    /// Loss and multiply-adds of its upload under way.
    next: Option<(f64, u64)>,
    uploads: u64,
    answered: u64,
    arrived: u64,
    waits: Option<f64>,
    idle: f64,
    lost: bool,
}

/// The turn is over when a training is saved.
#[derive(Serialize, Deserialize)]
enum SmallEvent {
    Upload { time: f64, client: u64 },
    Answer { time: f64, client: u64, cycle: u64 },
    Deadline { time: f64 },
}

impl GktSimulation {
    /// Everything that the turns so far have changed, as a codec stream.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream refuses.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut saver = Saver::new(&self.config, &self.records)?;
        saver.data(&self.train, &self.test)?;
        saver.json("state", &self.small())?;
        saver.parameters("server", &self.server)?;
        for (k, client) in self.clients.iter().enumerate() {
            saver.parameters(&format!("client/{k}"), &client.parameters)?;
            if let Some(next) = &client.next {
                saver.parameters(&format!("next/{k}"), &next.parameters)?;
            }
            if let Some(teacher) = &client.teacher {
                saver.values(&format!("teacher/{k}"), &teacher.logits)?;
            }
        }
        for (k, message) in &self.uploads {
            saver.bytes(&format!("upload/{k}"), message)?;
        }
        for (i, (_, event)) in self.queue.planned().enumerate() {
            if let Event::Upload { message, .. } | Event::Answer { message, .. } = event {
                saver.bytes(&format!("event/{i}"), message)?;
            }
        }
        saver.finish()
    }

    fn small(&self) -> Small {
        let client = |client: &Client| SmallClient {
            teacher: client.teacher.as_ref().map(|teacher| teacher.cycle),
            next: client.next.as_ref().map(|next| (next.loss, next.multiply_adds)),
            uploads: client.uploads,
            answered: client.answered,
            arrived: client.arrived,
            waits: client.waits,
            idle: client.idle,
            lost: client.lost,
        };
        let event = |(time, event): (f64, &Event)| match event {
            Event::Upload { client, .. } => SmallEvent::Upload { time, client: *client },
            Event::Answer { client, cycle, .. } => {
                SmallEvent::Answer { time, client: *client, cycle: *cycle }
            }
            Event::Deadline | Event::TurnOver => SmallEvent::Deadline { time },
        };
        Small {
            plateau: self.plateau.clone(),
            now: self.now,
            starting: self.starting.clone(),
            fresh: self.fresh.iter().map(|(k, (cycle, loss))| (*k, *cycle, *loss)).collect(),
            due: self.due,
            rests: self.rests,
            clients: self.clients.iter().map(client).collect(),
            events: self.queue.planned().map(event).collect(),
        }
    }

    /// Goes on where [`save`](Self::save) was called: the turns that follow are those of a training
    /// that was never interrupted. More `rounds` than before may be asked for.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it was another configuration; `Corrupt` for what no
    /// training has saved.
    pub fn restore(config: TrainConfig, bytes: &[u8]) -> Result<Self> {
        let mut saved = Saved::open(&config, bytes)?;
        let mut made = Self::new(config)?;
        saved.check_data(&made.train, &made.test)?;
        made.records = saved.records()?;
        let small: Small = saved.json("state")?;
        made.check(&small)?;
        saved.parameters("server", &mut made.server)?;
        for (k, small) in small.clients.iter().enumerate() {
            made.restore_client(k, small, &mut saved)?;
            made.refill(k as u64, &mut saved)?;
        }
        for (i, event) in small.events.into_iter().enumerate() {
            let mut message = || saved.bytes(&format!("event/{i}"));
            let (time, event) = match event {
                SmallEvent::Deadline { time } => (time, Event::Deadline),
                SmallEvent::Upload { time, client } => {
                    (time, Event::Upload { client, message: message()? })
                }
                SmallEvent::Answer { time, client, cycle } => {
                    (time, Event::Answer { client, cycle, message: message()? })
                }
            };
            made.queue.plan(time, event);
        }
        (made.plateau, made.now, made.starting) = (small.plateau, small.now, small.starting);
        made.fresh = small.fresh.into_iter().map(|(k, cycle, loss)| (k, (cycle, loss))).collect();
        (made.due, made.rests) = (small.due, small.rests);
        Ok(made)
    }

    /// Numbers that a training may go on with.
    fn check(&self, small: &Small) -> Result<()> {
        let (n, turns) = (self.clients.len(), self.records.len() as u64);
        let known = |client: u64| client < n as u64;
        let time = |time: f64| time.is_finite() && time >= 0.0;
        let client = |c: &SmallClient| {
            let counts = c.answered <= c.uploads && c.arrived <= turns;
            let teacher = c.teacher.is_none_or(|cycle| cycle < c.answered);
            counts && teacher && c.waits.is_none_or(|w| time(w) && w <= small.now)
        };
        let event = |event: &SmallEvent| match *event {
            SmallEvent::Upload { time: at, client } => {
                // It is made of what the client was working on.
                time(at) && known(client) && small.clients[client as usize].next.is_some()
            }
            SmallEvent::Answer { time: at, client, cycle } => {
                time(at) && known(client) && cycle < small.clients[client as usize].uploads
            }
            SmallEvent::Deadline { time: at } => time(at),
        };
        let sound = small.clients.len() == n
            && small.clients.iter().all(client)
            && small.starting.iter().all(|k| known(*k))
            && small.fresh.iter().all(|(k, _, _)| known(*k))
            && small.events.iter().all(event)
            && time(small.now);
        match sound {
            true => Ok(()),
            false => Err(Error::corrupt("the state of no training")),
        }
    }

    fn restore_client(&mut self, k: usize, small: &SmallClient, saved: &mut Saved) -> Result<()> {
        let logits = self.shards[k].len() * self.model.client().n_classes();
        let client = &mut self.clients[k];
        saved.parameters(&format!("client/{k}"), &mut client.parameters)?;
        if let Some((loss, multiply_adds)) = small.next {
            let mut parameters = client.parameters.clone();
            saved.parameters(&format!("next/{k}"), &mut parameters)?;
            client.next = Some(Working { parameters, loss, multiply_adds });
        }
        if let Some(cycle) = small.teacher {
            let found = saved.values(&format!("teacher/{k}"))?;
            if found.len() != logits {
                let found = found.len();
                return Err(Error::corrupt(format!("expected {logits} logits, found {found}")));
            }
            client.teacher = Some(Teacher { cycle, logits: found });
        }
        (client.uploads, client.answered) = (small.uploads, small.answered);
        (client.arrived, client.waits, client.idle) = (small.arrived, small.waits, small.idle);
        client.lost = small.lost;
        Ok(())
    }

    /// Makes the store know a client's samples and labels again, with the features and logits of its
    /// last upload; of one that has to come again before the next turn, with zeros.
    fn refill(&mut self, k: u64, saved: &mut Saved) -> Result<()> {
        let uploads = self.clients[k as usize].uploads;
        let Some(round) = uploads.checked_sub(1) else { return Ok(()) };
        let kept = !self.config.gkt.is_synchronous(self.clients.len());
        let message = kept.then(|| saved.bytes(&format!("upload/{k}"))).transpose()?;
        let mut values = message.as_deref().map(batches).transpose()?;
        let shard = &self.shards[k as usize];
        let shape = self.model.server().input().to_vec();
        let (features, classes): (usize, _) =
            (shape.iter().product(), self.model.server().n_classes());
        let header = Features { run: self.config.seed, round, client: k, shape, classes };
        let specs = FeatureSpecs { features: Spec::none(), logits: Spec::none() };
        let mut writer = FeatureWriter::new(Vec::new(), header, specs, 0, RoundingSeed(0))?;
        let samples: Vec<u32> = (0..shard.len() as u32).collect();
        for (i, ids) in samples.chunks(BATCH).enumerate() {
            let mut part = |name: &str, width: usize| match &mut values {
                None => Ok(vec![0.0; ids.len() * width]),
                Some(values) => values.remove(&format!("{i}/{name}")).ok_or_else(|| {
                    Error::corrupt(format!("a saved upload of client {k} without {i}/{name}"))
                }),
            };
            let (features, logits) = (part("features", features)?, part("logits", classes)?);
            let label = |i: &u32| self.train.labels()[shard[*i as usize] as usize];
            let labels: Vec<u16> = ids.iter().map(label).collect();
            writer.batch(ids, &features, &logits, Some(&labels))?;
        }
        taken(k, self.store.receive(k, round, &writer.finish()?)?)?;
        if let Some(message) = message {
            self.uploads.insert(k, message);
        }
        Ok(())
    }
}

/// The f32 tensors of an upload, by name.
fn batches(message: &[u8]) -> Result<HashMap<String, Vec<f32>>> {
    let mut options = DecodeOptions::default();
    options.memory = u64::MAX;
    let tensors = fedpress::decode(message, &options)?;
    let floats = tensors.into_iter().filter(|tensor| tensor.dtype == fedpress::DType::F32);
    let values = |data: &[u8]| {
        let bytes = data.as_chunks::<4>().0;
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    Ok(floats.map(|tensor| (tensor.name, values(&tensor.data))).collect())
}
