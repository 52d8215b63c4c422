//! [`Feedback`]: what encoding lost, kept for the next update.

use crate::submodel::Gather;
use crate::{Error, Layout, Parameter, Result, Selection};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Spec};

/// The part of a client's updates that their encoding has lost so far, in the coordinates of the
/// full model: it survives a change of submodel, and coordinates that a round does not train wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback(Vec<Parameter>);

impl Feedback {
    /// Nothing lost yet.
    pub fn new(layout: &Layout) -> Self {
        let zeros = |(i, p): (usize, &crate::ParamLayout)| {
            Parameter::zeros(p.name.clone(), &layout.shape(i))
        };
        Self(layout.params().iter().enumerate().map(zeros).collect())
    }

    /// Adds what was lost to an update of the submodel.
    pub(crate) fn add_to(
        &self,
        layout: &Layout,
        selection: &Selection,
        delta: &mut [Parameter],
    ) -> Result<()> {
        layout.check(&self.0)?;
        for (i, lost) in self.0.iter().enumerate() {
            let gather = Gather::new(layout, selection, i)?;
            let delta = fitting(delta, i, &gather)?;
            let lost = gather.gather(&lost.values);
            delta.values.iter_mut().zip(lost).for_each(|(d, l)| *d += l);
        }
        Ok(())
    }

    /// Remembers the difference between what should have been sent and what was.
    pub(crate) fn keep(
        &mut self,
        layout: &Layout,
        selection: &Selection,
        wanted: &[Parameter],
        sent: &[Parameter],
    ) -> Result<()> {
        for (i, lost) in self.0.iter_mut().enumerate() {
            let gather = Gather::new(layout, selection, i)?;
            let Some((wanted, sent)) = wanted.get(i).zip(sent.get(i)) else {
                return Err(Error::invalid("fewer parameters than the layout has"));
            };
            let difference = wanted.values.iter().zip(&sent.values).map(|(w, s)| w - s);
            gather.scatter(&difference.collect::<Vec<_>>(), &mut lost.values);
        }
        Ok(())
    }

    /// Bytes to save with the client's state.
    ///
    /// # Errors
    /// None that a layout does not exclude.
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds { shared: 0, private: 0, round: 0, client: 0 };
        let dims: Vec<_> = self.0.iter().map(Parameter::dims).collect();
        let views: Vec<_> = self.0.iter().zip(&dims).map(|(p, d)| p.view(d)).collect();
        Ok(fedpress::encode(&views, &Spec::lossless(), &EncodeOptions::new(seeds))?)
    }

    /// From what [`save`](Self::save) made, for the same layout.
    ///
    /// # Errors
    /// As decoding; `InvalidArgument` if it belongs to another layout.
    pub fn restore(bytes: &[u8], layout: &Layout, options: &DecodeOptions) -> Result<Self> {
        let tensors = fedpress::decode(bytes, options)?;
        let parameters = tensors.iter().map(Parameter::from_tensor).collect::<Result<Vec<_>>>()?;
        layout.check(&parameters)?;
        Ok(Self(parameters))
    }
}

fn fitting<'a>(delta: &'a mut [Parameter], i: usize, gather: &Gather) -> Result<&'a mut Parameter> {
    let found = delta.len();
    let delta = delta
        .get_mut(i)
        .ok_or_else(|| Error::invalid(format!("expected parameter {i}, found {found} in all")))?;
    if delta.values.len() != gather.n_packed() {
        let (expected, found) = (gather.n_packed(), delta.values.len());
        let message = format!("expected {expected} values, found {found}");
        return Err(Error::invalid(message).in_parameter(&delta.name));
    }
    Ok(delta)
}
