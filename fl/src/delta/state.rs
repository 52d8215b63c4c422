//! What a server keeps of its clients' versions, and a client of its model, as bytes.

use super::chain::{Chain, Version};
use super::history::History;
use super::replica::{Pending, Replica};
use crate::bytes::{Fields, STATE_VERSION, split_state};
use crate::submodel::Gather;
use crate::{Choice, Error, Layout, Result};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Spec, Tensor, TensorView, Writer};
use std::collections::BTreeMap;

/// The codec records that hold everything but tensors.
const CHAIN: u8 = 0xA4;
const REPLICA: u8 = 0xA5;

impl Chain {
    /// Everything but the options, as a codec stream (MESSAGES.md, "State").
    ///
    /// # Errors
    /// `InvalidArgument` beyond 2^27 bytes of histories, some two million clients with one version each.
    pub(crate) fn save(&self) -> Result<Vec<u8>> {
        let mut head = vec![STATE_VERSION];
        head.extend_from_slice(&(self.versions.len() as u32).to_le_bytes());
        self.versions.keys().for_each(|version| head.extend_from_slice(&version.to_le_bytes()));
        head.extend_from_slice(&(self.changes.len() as u32).to_le_bytes());
        self.changes.iter().for_each(|change| head.extend_from_slice(&change.to_le_bytes()));
        head.extend_from_slice(&(self.histories.len() as u64).to_le_bytes());
        for (client, history) in &self.histories {
            head.extend_from_slice(&client.to_le_bytes());
            history.write_to(&mut head);
        }
        let mut stream = Stream::new(CHAIN, &head)?;
        for (version, values) in &self.versions {
            stream.put(&self.layout, &version.to_string(), values)?;
        }
        stream.finish()
    }

    /// This, which has no version yet, with what stands at the front of what [`save`](Self::save) made for the
    /// same layout; and what stands behind that.
    ///
    /// # Errors
    /// As decoding; `Corrupt` if it belongs to another layout, or does not hold together.
    pub(crate) fn restore<'a>(
        mut self,
        bytes: &'a [u8],
        decode: &DecodeOptions,
    ) -> Result<(Self, &'a [u8])> {
        let (head, stream, rest) = split_state(bytes, CHAIN, decode)?;
        let mut fields = Fields(&head);
        fields.state_version()?;
        let mut list = |what: &str| {
            (0..fields.u32(what)?).map(|_| fields.u64(what)).collect::<Result<Vec<u64>>>()
        };
        let (numbers, changes) = (list("versions")?, list("changes")?);
        let chain = &mut self;
        let n_params = chain.layout.params().len();
        chain.changes = changes.into_iter().map(f64::from_bits).collect();
        if !chain.changes.is_empty() && chain.changes.len() != n_params {
            let found = chain.changes.len();
            return Err(Error::corrupt(format!("expected {n_params} changes, found {found}")));
        }
        let tensors = fedpress::decode(stream, decode)?;
        if tensors.len() != numbers.len() * n_params {
            let (expected, found) = (numbers.len() * n_params, tensors.len());
            return Err(Error::corrupt(format!("expected {expected} tensors, found {found}")));
        }
        for (number, tensors) in numbers.iter().zip(tensors.chunks_exact(n_params)) {
            let shapes = (0..n_params).map(|i| chain.layout.shape(i));
            let values = values(&chain.layout, &number.to_string(), shapes, tensors)?;
            if chain.versions.last_key_value().is_some_and(|(last, _)| last >= number) {
                return Err(Error::corrupt(format!("version {number} is out of order")));
            }
            chain.versions.insert(*number, Version::new(values));
        }
        chain.histories = read_histories(&mut fields, &chain.layout, &chain.versions)?;
        fields.finish()?;
        Ok((self, rest))
    }

    /// What stands behind the state of a chain that is not wanted.
    pub(crate) fn skip<'a>(bytes: &'a [u8], decode: &DecodeOptions) -> Result<&'a [u8]> {
        split_state(bytes, CHAIN, decode).map(|(_, _, rest)| rest)
    }
}

fn read_histories(
    fields: &mut Fields<'_>,
    layout: &Layout,
    versions: &BTreeMap<u64, Version>,
) -> Result<BTreeMap<u64, History>> {
    let mut histories = BTreeMap::new();
    for _ in 0..fields.u64("clients")? {
        let client = fields.u64("client")?;
        let history = History::read_from(fields, layout)?;
        if histories.last_key_value().is_some_and(|(last, _)| *last >= client) {
            return Err(Error::corrupt(format!("client {client} is out of order")));
        }
        if let Some(version) = history.versions().find(|version| !versions.contains_key(version)) {
            return Err(Error::corrupt(format!("client {client}: no version {version}")));
        }
        histories.insert(client, history);
    }
    Ok(histories)
}

impl Replica {
    /// Bytes to keep with the client's state.
    ///
    /// # Errors
    /// None that a layout does not exclude.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut head = vec![STATE_VERSION];
        head.extend_from_slice(&self.layout.digest().0);
        self.history.write_to(&mut head);
        head.push(u8::from(self.pending.is_some()));
        if let Some(Pending { version, choice, .. }) = &self.pending {
            head.extend_from_slice(&version.to_le_bytes());
            choice.write_to(&mut head);
        }
        let mut stream = Stream::new(REPLICA, &head)?;
        stream.put(&self.layout, "held", &self.values)?;
        if let Some(Pending { choice, values, .. }) = &self.pending {
            let selection = choice.select(&self.layout)?;
            stream.put(&self.layout.submodel(&selection)?, "pending", values)?;
        }
        stream.finish()
    }

    /// From what [`save`](Self::save) made, for the same layout.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it belongs to another layout.
    pub fn restore(bytes: &[u8], layout: Layout, decode: &DecodeOptions) -> Result<Self> {
        let (head, stream, rest) = split_state(bytes, REPLICA, decode)?;
        if !rest.is_empty() {
            return Err(Error::corrupt(format!("{} bytes behind the state", rest.len())));
        }
        let mut fields = Fields(&head);
        fields.state_version()?;
        let (expected, found) = (layout.digest(), crate::Digest(fields.array("layout")?));
        if expected != found {
            return Err(Error::invalid(format!("layout: expected {expected}, found {found}")));
        }
        let history = History::read_from(&mut fields, &layout)?;
        let pending = match fields.flag("whether a version is pending")? {
            true => Some((fields.u64("pending version")?, Choice::read_from(&mut fields.0)?)),
            false => None,
        };
        fields.finish()?;
        let tensors = fedpress::decode(stream, decode)?;
        let n_params = layout.params().len();
        let expected = n_params * (1 + usize::from(pending.is_some()));
        if tensors.len() != expected {
            let found = tensors.len();
            return Err(Error::corrupt(format!("expected {expected} tensors, found {found}")));
        }
        let (held, submodel) = tensors.split_at(n_params);
        let shapes = (0..n_params).map(|i| layout.shape(i));
        let held = values(&layout, "held", shapes, held)?;
        let pending = match pending {
            None => None,
            Some((version, choice)) => {
                let selection = choice.select(&layout)?;
                let gathers = (0..n_params).map(|i| Gather::new(&layout, &selection, i));
                let gathers = gathers.collect::<Result<Vec<_>>>()?;
                let shapes = gathers.iter().map(|gather| gather.shape().to_vec());
                let values = values(&layout, "pending", shapes, submodel)?;
                Some(Pending { version, choice, values })
            }
        };
        Ok(Self { layout, values: held, history, pending })
    }
}

/// A state that is being written.
struct Stream(Writer<Vec<u8>>);

impl Stream {
    fn new(record: u8, head: &[u8]) -> Result<Self> {
        let mut writer = Writer::new(Vec::new(), EncodeOptions::new(Seeds::new(0, 0)))?;
        writer.record(record, head)?;
        Ok(Self(writer))
    }

    /// A tensor for each parameter of the layout, losslessly.
    fn put(&mut self, layout: &Layout, kind: &str, values: &[Vec<f32>]) -> Result<()> {
        let lossless = Spec::lossless();
        for (i, values) in values.iter().enumerate() {
            let name = format!("{kind}/{}", layout.params()[i].name);
            self.0.tensor(&TensorView::f32(&name, &layout.shape(i), values), &lossless)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.finish()?)
    }
}

/// The values of tensors that have to be of these names and shapes.
fn values(
    layout: &Layout,
    kind: &str,
    shapes: impl Iterator<Item = Vec<usize>>,
    tensors: &[Tensor],
) -> Result<Vec<Vec<f32>>> {
    let value = |((param, shape), tensor): ((&crate::ParamLayout, Vec<usize>), &Tensor)| {
        let name = format!("{kind}/{}", param.name);
        let values = tensor.to_f32().filter(|_| tensor.name == name && tensor.shape == shape);
        let found = (&tensor.name, &tensor.shape);
        values.ok_or_else(|| {
            Error::corrupt(format!("expected {name:?} of {shape:?}, found {found:?}"))
        })
    };
    layout.params().iter().zip(shapes).zip(tensors).map(value).collect()
}
