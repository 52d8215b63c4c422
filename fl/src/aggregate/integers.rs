//! Updates that are codes: from clients one by one, or from a secure aggregation as their sum.

use super::incoming::Refusal;
use super::{Aggregator, Taken};
use crate::message::Reason;
use crate::{Error, Result};

impl Aggregator {
    /// Adds the codes of a client: all of them in their range, and their norm where it is bounded.
    pub(super) fn fold_codes(&mut self, bytes: &[u8]) -> std::result::Result<(), Refusal> {
        let Taken::Integers(sum, _) = &mut self.taken else {
            return Err((Reason::WrongShape, "updates are no integers".into()));
        };
        let spec = *sum.spec();
        let codes = spec.unpack(bytes, sum.sums().len());
        let codes = codes.map_err(|e| (Reason::Malformed, e.to_string()))?;
        if let Some(at) = sum.out_of_range(&codes) {
            let (code, levels) = (spec.centered(codes[at]), spec.levels);
            let detail = format!("code {at} is {code}, of {levels} levels either way");
            return Err((Reason::OutOfRange, detail));
        }
        if let Some(norm) = sum.norm_beyond(&codes) {
            let detail = format!("codes of norm {norm:e}, up to {:e} is taken", spec.norm);
            return Err((Reason::TooFar, detail));
        }
        sum.add(&codes).map_err(|e| (Reason::Malformed, e.to_string()))
    }

    /// Adds the sum of the codes of these clients, as a secure aggregation gives it: that of any of them
    /// alone is never seen, so nothing of it is checked. All or nothing. It was modulo 2^b of the
    /// [spec](crate::IntegerSpec), or a power of two above that.
    ///
    /// # Errors
    /// `InvalidArgument` where updates are no integers, a client comes twice, is not expected or has been folded,
    /// or there are not as many sums as codes.
    pub fn receive_sum(&mut self, clients: &[u64], sums: &[u32]) -> Result<()> {
        let mut sorted = clients.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("client {} is in the sum twice", pair[0])));
        }
        if let Some(client) = clients.iter().find(|client| !self.is_missing(**client)) {
            return Err(Error::invalid(format!("client {client}: no update is expected")));
        }
        let Taken::Integers(sum, _) = &mut self.taken else {
            return Err(Error::invalid("a sum of codes, and updates are no integers"));
        };
        let mask = sum.spec().mask();
        let reduced: Vec<u32> = sums.iter().map(|sum| sum & mask).collect();
        sum.add(&reduced)?;
        for client in clients {
            self.incoming.remove(client);
            if let Some((_, folded)) = self.clients.get_mut(client) {
                *folded = true;
            }
        }
        self.n_folded += clients.len();
        self.weight += clients.len() as u64;
        Ok(())
    }
}
