//! The state of a coordinator as bytes.

use super::{Coordinator, Open, RoundOptions};
use crate::bytes::{Fields, STATE_VERSION, split_state};
use crate::delta::Chain;
use crate::message::Digest;
use crate::{Aggregator, Error, Layout, Parameter, Result};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Spec, Writer};
use std::collections::{BTreeMap, BTreeSet};

/// The codec record that holds everything but tensors.
const RECORD: u8 = 0xA2;

impl Coordinator {
    /// Everything: model, running means of the optimizer, and the open round with what was folded.
    /// A codec stream, followed by that of what clients hold if they are sent deltas, and that of the aggregator
    /// if a round is open (MESSAGES.md, "State").
    ///
    /// # Errors
    /// As [`Aggregator::save`].
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds::new(0, 0).in_round(self.round);
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(seeds))?;
        writer.record(RECORD, &self.head())?;
        let lossless = Spec::lossless();
        let mut put = |kind: &str, like: &Parameter, values: &[f32]| {
            let name = format!("{kind}/{}", like.name);
            let shape = if values.is_empty() { &[0][..] } else { &like.shape };
            writer.tensor(&fedpress::TensorView::f32(&name, shape, values), &lossless)
        };
        for (i, parameter) in self.model.iter().enumerate() {
            put("model", parameter, &parameter.values)?;
            put("first", parameter, &self.optimizer.first[i])?;
            put("second", parameter, &self.optimizer.second[i])?;
        }
        let mut bytes = writer.finish()?;
        if let Some(chain) = &self.deltas {
            bytes.extend(chain.save()?);
        }
        if let Some(open) = &self.open {
            bytes.extend(open.aggregator.save()?);
        }
        Ok(bytes)
    }

    fn head(&self) -> Vec<u8> {
        let mut out =
            vec![STATE_VERSION, u8::from(self.open.is_some()), u8::from(self.deltas.is_some())];
        out.extend_from_slice(&self.options.run.to_le_bytes());
        out.extend_from_slice(&self.round.to_le_bytes());
        out.extend_from_slice(&self.layout.digest().0);
        if let Some(open) = &self.open {
            for field in [open.ends_at, open.n_asked as u64] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            for clients in [&open.gone, &open.unsent] {
                out.extend_from_slice(&(clients.len() as u64).to_le_bytes());
                clients.iter().for_each(|client| out.extend_from_slice(&client.to_le_bytes()));
            }
        }
        out
    }

    /// Goes on where [`save`](Self::save) was called. Clients that were sending begin again.
    /// `options` need not be those of before, but what clients of an open round were sent depends on
    /// seeds, policy and specs, and the running means on the rule; what they hold is known where both are for
    /// [deltas](RoundOptions::deltas).
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if the state is of another run, layout or server rule.
    pub fn restore(
        bytes: &[u8],
        layout: Layout,
        options: RoundOptions,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let (head, first, mut rest) = split_state(bytes, RECORD, decode)?;
        let shape = |(i, p): (usize, &crate::ParamLayout)| {
            Parameter::zeros(p.name.clone(), &layout.shape(i))
        };
        let model = layout.params().iter().enumerate().map(shape).collect();
        let mut coordinator = Self::new(layout, model, options)?;
        let mut fields = Fields(&head);
        let (round, has_chain, open) = coordinator.read_head(&mut fields)?;
        fields.finish()?;
        coordinator.round = round;
        coordinator.read_tensors(first, decode)?;
        if has_chain {
            rest = match coordinator.deltas.take() {
                None => Chain::skip(rest, decode)?,
                Some(chain) => {
                    let (chain, rest) = chain.restore(rest, decode)?;
                    coordinator.deltas = Some(chain);
                    rest
                }
            };
        }
        if let Some((ends_at, n_asked, [gone, unsent])) = open {
            let layout = coordinator.layout.clone();
            let options = coordinator.aggregator_options()?;
            let aggregator = Aggregator::restore(rest, layout, options, decode)?;
            let is_same = aggregator.is_of(coordinator.options.run, round);
            let is_sent = unsent.iter().any(|client| aggregator.is_expected(*client));
            let asked: BTreeSet<u64> =
                aggregator.expected().chain(unsent.iter().copied()).collect();
            let open = Open {
                positions: coordinator.options.policy.positions(asked),
                aggregator,
                ends_at,
                unsent,
                gone,
                n_asked,
                shared: Vec::new(),
                began: BTreeMap::new(),
            };
            if !is_same || is_sent || !open.gone.iter().all(|client| open.is_missing(*client)) {
                return Err(Error::corrupt("the open round is of another state"));
            }
            coordinator.open = Some(open);
        } else if !rest.is_empty() {
            return Err(Error::corrupt("a second stream, and no round is open"));
        }
        Ok(coordinator)
    }

    #[expect(clippy::type_complexity, reason = "four fields, taken apart by its one caller")]
    fn read_head(
        &self,
        fields: &mut Fields<'_>,
    ) -> Result<(u64, bool, Option<(u64, usize, [BTreeSet<u64>; 2])>)> {
        fields.state_version()?;
        let open = fields.flag("whether a round is open")?;
        let has_chain = fields.flag("whether clients are sent deltas")?;
        let (expected, found) = (self.options.run, fields.u64("run")?);
        if expected != found {
            return Err(Error::invalid(format!("run: expected {expected}, found {found}")));
        }
        let round = fields.u64("round")?;
        let (expected, found) = (self.layout.digest(), Digest(fields.array("layout")?));
        if expected != found {
            return Err(Error::invalid(format!("layout: expected {expected}, found {found}")));
        }
        if !open {
            return Ok((round, has_chain, None));
        }
        let (ends_at, n_asked) = (fields.u64("end of the round")?, fields.u64("clients asked")?);
        let mut clients = |what: &str| {
            let n = fields.u64(what)?;
            (0..n).map(|_| fields.u64(what)).collect::<Result<BTreeSet<u64>>>()
        };
        let lists = [clients("clients that are gone")?, clients("clients without a broadcast")?];
        Ok((round, has_chain, Some((ends_at, n_asked as usize, lists))))
    }

    fn read_tensors(&mut self, stream: &[u8], decode: &DecodeOptions) -> Result<()> {
        let tensors = fedpress::decode(stream, decode)?;
        let (expected, found) = (3 * self.model.len(), tensors.len());
        if expected != found {
            return Err(Error::corrupt(format!("expected {expected} tensors, found {found}")));
        }
        let lists = [&mut self.optimizer.first, &mut self.optimizer.second];
        let [first, second] = lists;
        for (i, triple) in tensors.chunks_exact(3).enumerate() {
            let parameter = &mut self.model[i];
            let places = [
                ("model", &mut parameter.values),
                ("first", &mut first[i]),
                ("second", &mut second[i]),
            ];
            for ((kind, place), tensor) in places.into_iter().zip(triple) {
                let values = tensor.to_f32().unwrap_or_default();
                let name = format!("{kind}/{}", parameter.name);
                if tensor.name != name {
                    let found = &tensor.name;
                    return Err(Error::corrupt(format!("expected {name:?}, found {found:?}")));
                }
                // Names are of this layout, so another length is that of another rule.
                let (expected, found) = (place.len(), values.len());
                if expected != found {
                    let message = format!("{kind}: expected {expected} values, found {found}");
                    return Err(Error::invalid(message).in_parameter(&parameter.name));
                }
                *place = values;
            }
        }
        Ok(())
    }
}
