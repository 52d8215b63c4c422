//! Turns of the server: when they begin, what they take, what they leave behind.

use super::queue::Event;
use super::server::Turn;
use super::{Client, GktSimulation, in_parallel, record, timed};
use crate::on_threads;
use fedpress_fl::Result;
use std::time::Instant;

impl GktSimulation {
    /// The server goes to work on what it has.
    pub(super) fn begin_turn(&mut self, threads: usize) -> Result<()> {
        let (number, gkt) = (self.records.len() as u64, &self.config.gkt);
        let age = |client: &u64| number - self.clients[*client as usize].arrived;
        let known = self.store.clients().map(|(client, _, _)| client);
        let lost = |client: &u64| self.clients[*client as usize].lost;
        let clients: Vec<u64> =
            known.filter(|client| !lost(client) && age(client) <= gkt.pace.staleness).collect();
        let turn = Turn {
            model: &self.model,
            gkt,
            store: &self.store,
            device: &self.device,
            seed: self.config.seed,
            turn: number,
            clients: &clients,
        };
        let (start, rate) = (&self.server, self.plateau.learning_rate);
        let trained = timed(&mut self.tally.seconds.server, || {
            on_threads(threads, || turn.train(start, rate))
        })??;
        let jobs = self.fresh.iter().map(|(client, (cycle, _))| {
            let (turn, trained, down) = (&turn, &trained.parameters, &self.down);
            move || turn.answer(trained, *client, *cycle, down)
        });
        let seconds = &mut self.tally.seconds.server;
        let messages = timed(seconds, || in_parallel(threads, jobs.collect()))?;
        let messages = messages.into_iter().collect::<Result<Vec<_>>>()?;
        let samples = |client: &u64| self.shards[*client as usize].len() as u64;
        let answered: u64 = self.fresh.keys().map(samples).sum();
        let work =
            (3 * trained.used + answered) as f64 * self.model.server().multiply_adds() as f64;
        let over = self.now + work / gkt.clock.server_speed;
        self.tally.turn(&trained, clients.iter().map(samples).sum(), &clients, rate);
        self.tally.losses.extend(self.fresh.values().map(|(_, loss)| *loss));
        self.plateau.step(trained.loss, gkt);
        self.rests.1 += self.now - self.rests.0;
        let fresh = std::mem::take(&mut self.fresh);
        for ((client, (cycle, _)), message) in fresh.into_iter().zip(messages) {
            self.tally.bytes_down += message.len() as u64;
            let arrives = over + message.len() as f64 / self.config.gkt.clock.down;
            self.queue.plan(arrives, Event::Answer { client, cycle, message });
        }
        self.queue.plan(over, Event::TurnOver);
        (self.server, self.busy, self.due) = (trained.parameters, true, None);
        Ok(())
    }

    /// The server has worked long enough: what is known now.
    pub(super) fn end_turn(&mut self, threads: usize, start: Instant) -> Result<()> {
        (self.busy, self.rests.0) = (false, self.now);
        let idle = self.clients.iter().map(|client: &Client| client.idle(self.now)).sum();
        let round = self.records.len() as u64 + 1;
        let mut record =
            std::mem::take(&mut self.tally).record(round, self.now, idle, self.rests.1);
        let last = round >= self.config.rounds || !self.anyone_is_left();
        if round.is_multiple_of(self.config.evaluate_every) || last {
            let begun = Instant::now();
            record::evaluate(self, threads, &mut record)?;
            record.seconds.evaluate = begun.elapsed().as_secs_f64();
        }
        record.seconds.round = start.elapsed().as_secs_f64();
        self.records.push(record);
        Ok(())
    }
}
