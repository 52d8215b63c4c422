//! [`Feedback`]: what encoding lost, kept for the next update.

use crate::submodel::Gather;
use crate::{Layout, Parameter, Result, Selection};
use fedpress::{DecodeOptions, EncodeOptions, Seeds, Spec};

/// The part of a client's updates that their encoding has lost so far, in the coordinates
/// of the full model: it survives a change of submodel, and coordinates that a round does not
/// train wait.
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
    ///
    /// # Errors
    /// `InvalidArgument` if this or the update is not of the layout.
    pub(crate) fn add_to(
        &self,
        layout: &Layout,
        selection: &Selection,
        delta: &mut [Parameter],
    ) -> Result<()> {
        layout.check(&self.0)?;
        layout.submodel(selection)?.check(delta)?;
        for (i, (lost, delta)) in self.0.iter().zip(delta).enumerate() {
            let lost = Gather::new(layout, selection, i)?.gather(&lost.values);
            delta.values.iter_mut().zip(lost).for_each(|(d, l)| *d += l);
        }
        Ok(())
    }

    /// Remembers the difference between what should have been sent and what was, of an update that
    /// [`add_to`](Self::add_to) took.
    pub(crate) fn keep(
        &mut self,
        layout: &Layout,
        selection: &Selection,
        wanted: &[Parameter],
        sent: &[Parameter],
    ) -> Result<()> {
        for (i, (lost, (wanted, sent))) in
            self.0.iter_mut().zip(wanted.iter().zip(sent)).enumerate()
        {
            // What training made NaN or infinite is lost for good, not sent again and again.
            let difference = wanted.values.iter().zip(&sent.values).map(|(w, s)| w - s);
            let difference = difference.map(|lost| if lost.is_finite() { lost } else { 0.0 });
            let gather = Gather::new(layout, selection, i)?;
            gather.scatter(&difference.collect::<Vec<_>>(), &mut lost.values);
        }
        Ok(())
    }

    /// Bytes to save with the client's state.
    ///
    /// # Errors
    /// None that a layout does not exclude.
    pub fn save(&self) -> Result<Vec<u8>> {
        let seeds = Seeds::new(0, 0);
        let views: Vec<_> = self.0.iter().map(Parameter::view).collect();
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
