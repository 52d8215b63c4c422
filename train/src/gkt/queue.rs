//! [`Queue`]: what will happen when, on the virtual clock.

use std::collections::BTreeMap;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// An upload has arrived at the server.
    Upload { client: u64, message: Vec<u8> },
    /// The server's logits for upload number `cycle` have arrived at a client.
    Answer { client: u64, cycle: u64, message: Vec<u8> },
    /// The server has worked long enough.
    TurnOver,
    /// The server has waited long enough.
    Deadline,
}

/// Events by time, and at the same time in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Times are not negative, so their bits are in order.
    events: BTreeMap<(u64, u64), Event>,
    planned: u64,
}

impl Queue {
    pub(super) fn plan(&mut self, time: f64, event: Event) {
        self.events.insert((time.to_bits(), self.planned), event);
        self.planned += 1;
    }

    pub(super) fn next(&mut self) -> Option<(f64, Event)> {
        let ((time, _), event) = self.events.pop_first()?;
        Some((f64::from_bits(time), event))
    }

    /// What is planned, in order.
    pub(super) fn planned(&self) -> impl Iterator<Item = (f64, &Event)> {
        self.events.iter().map(|((time, _), event)| (f64::from_bits(*time), event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_planned() {
        let mut queue = Queue::default();
        let upload = |client| Event::Upload { client, message: vec![] };
        for (time, client) in [(2.0, 1), (0.5, 2), (2.0, 3), (0.0, 4), (1e9, 5)] {
            queue.plan(time, upload(client));
        }
        queue.plan(0.25, Event::Deadline);
        assert_eq!(queue.planned().count(), 6);
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        let expected = [(0.0, 4), (0.5, 2), (2.0, 1), (2.0, 3), (1e9, 5)];
        let mut expected: Vec<_> = expected.map(|(time, client)| (time, upload(client))).into();
        expected.insert(1, (0.25, Event::Deadline));
        assert_eq!(order, expected);
    }
}
