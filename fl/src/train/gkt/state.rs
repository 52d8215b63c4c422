//! A training by FedGKT as bytes, between turns.

use super::queue::Event;
use super::{Edge, GktSimulation, Plateau, Teacher, Upload};
use crate::message::EVERYONE;
use crate::train::TrainConfig;
use crate::train::simulation::saved::{Saved, Saver};
use crate::{Error, Parameter, Result};
use serde::{Deserialize, Serialize};

/// What is a number or a few of everything, as JSON.
#[derive(Serialize, Deserialize)]
struct Small {
    plateau: Plateau,
    now: f64,
    starting: Vec<u64>,
    fresh: Vec<(u64, u64)>,
    due: Option<f64>,
    rests: (f64, f64),
    edges: Vec<SmallEdge>,
    /// Time, client, cycle of an answer; client 2^64 - 1: a deadline.
    events: Vec<(f64, u64, Option<u64>)>,
    /// Round of the last upload of each client that has sent one.
    rounds: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct SmallEdge {
    /// The view that its teacher has seen.
    view: Option<u64>,
    uploads: u64,
    answered: u64,
    arrived: u64,
    waits: Option<f64>,
    idle: f64,
}

impl GktSimulation {
    /// Everything that the turns so far have changed, as a codec stream.
    ///
    /// # Errors
    /// `InvalidArgument` if the stream refuses.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut saver = Saver::new(&self.config, &self.records)?;
        saver.json("state", &self.small())?;
        saver.parameters("server", &self.server)?;
        for (client, edge) in self.edges.iter().enumerate() {
            saver.parameters(&format!("client/{client}"), &edge.parameters)?;
            if let Some(teacher) = &edge.teacher {
                saver.values(&format!("teacher/{client}"), &teacher.logits)?;
            }
        }
        for (client, [first, last]) in &self.uploads {
            saver.bytes(&format!("first/{client}"), first)?;
            saver.bytes(&format!("last/{client}"), last)?;
        }
        for (i, (_, event)) in self.queue.planned().enumerate() {
            if let Event::Upload { message, .. } | Event::Answer { message, .. } = event {
                saver.bytes(&format!("event/{i}"), message)?;
            }
        }
        saver.finish()
    }

    fn small(&self) -> Small {
        let edge = |edge: &Edge| SmallEdge {
            view: edge.teacher.as_ref().map(|teacher| teacher.view),
            uploads: edge.uploads,
            answered: edge.answered,
            arrived: edge.arrived,
            waits: edge.waits,
            idle: edge.idle,
        };
        let event = |(time, event): (f64, &Event)| match event {
            Event::Upload { client, .. } => (time, *client, None),
            Event::Answer { client, cycle, .. } => (time, *client, Some(*cycle)),
            Event::Deadline | Event::TurnOver => (time, EVERYONE, None),
        };
        Small {
            plateau: self.plateau.clone(),
            now: self.now,
            starting: self.starting.clone(),
            fresh: self.fresh.iter().map(|(client, cycle)| (*client, *cycle)).collect(),
            due: self.due,
            rests: self.rests,
            edges: self.edges.iter().map(edge).collect(),
            events: self.queue.planned().map(event).collect(),
            rounds: self.store.clients().map(|(client, round, _)| (client, round)).collect(),
        }
    }

    /// Goes on where [`save`](Self::save) was called: the turns that follow are those of a training
    /// that was never interrupted. More `rounds` than before may be asked for.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it was another configuration.
    pub fn restore(config: TrainConfig, bytes: &[u8]) -> Result<Self> {
        let mut saved = Saved::open(&config, bytes)?;
        let mut made = Self::new(config)?;
        made.records = saved.records()?;
        let small: Small = saved.json("state")?;
        if small.edges.len() != made.edges.len() {
            return Err(Error::corrupt("not as many clients as the configuration says"));
        }
        saved.parameters("server", &mut made.server)?;
        for (client, (edge, small)) in made.edges.iter_mut().zip(&small.edges).enumerate() {
            edge.restore(client, small, &mut saved)?;
        }
        made.refill(&small.rounds, &mut saved)?;
        for (i, (time, client, cycle)) in small.events.into_iter().enumerate() {
            let event = match (client, cycle) {
                (EVERYONE, _) => Event::Deadline,
                (client, None) => {
                    Event::Upload { client, message: saved.bytes(&format!("event/{i}"))? }
                }
                (client, Some(cycle)) => {
                    Event::Answer { client, cycle, message: saved.bytes(&format!("event/{i}"))? }
                }
            };
            made.queue.plan(time, event);
        }
        (made.plateau, made.now, made.starting) = (small.plateau, small.now, small.starting);
        made.fresh = small.fresh.into_iter().collect();
        (made.due, made.rests) = (small.due, small.rests);
        Ok(made)
    }

    /// Fills the store again.
    fn refill(&mut self, rounds: &[(u64, u64)], saved: &mut Saved) -> Result<()> {
        for (client, round) in rounds {
            let first = saved.bytes(&format!("first/{client}"))?;
            let last = saved.bytes(&format!("last/{client}"))?;
            for (round, message) in [(0, &first), (*round, &last)] {
                if message.is_empty() {
                    continue;
                }
                if let Upload::Rejected(rejection) = self.store.receive(*client, round, message)? {
                    return Err(Error::corrupt(format!("a saved upload: {rejection}")));
                }
            }
            self.uploads.insert(*client, [first, last]);
        }
        Ok(())
    }
}

impl Edge {
    fn restore(&mut self, client: usize, small: &SmallEdge, saved: &mut Saved) -> Result<()> {
        let parameters: &mut Vec<Parameter> = &mut self.parameters;
        saved.parameters(&format!("client/{client}"), parameters)?;
        if let Some(view) = small.view {
            let logits = saved.values(&format!("teacher/{client}"))?;
            self.teacher = Some(Teacher { view, logits });
        }
        (self.uploads, self.answered, self.arrived) =
            (small.uploads, small.answered, small.arrived);
        (self.waits, self.idle) = (small.waits, small.idle);
        Ok(())
    }
}
