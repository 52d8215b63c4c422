//! [`History`]: which version of which coordinates a client holds.

use crate::bytes::Fields;
use crate::submodel::Gather;
use crate::{Choice, Error, Layout, Result, Selection};

/// The versions that a client was sent and has trained, with what each kept of the model.
///
/// What the client holds is a patchwork: a coordinate has the value of the last of these versions that kept
/// it, and is 0 where none did. Server and client each have this list, and drop the same of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct History(Vec<Entry>);

/// One version and what the client was sent of it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    version: u64,
    choice: Choice,
}

impl History {
    /// The version after all others.
    pub(crate) fn push(&mut self, version: u64, choice: &Choice, layout: &Layout) -> Result<()> {
        // What is sent again replaces what was sent, and the whole model everything.
        match choice.select(layout)?.is_full() {
            true => self.0.clear(),
            false => self.0.retain(|entry| entry.choice != *choice),
        }
        self.0.push(Entry { version, choice: choice.clone() });
        Ok(())
    }

    /// Without the versions before `oldest`.
    pub(crate) fn forget_before(&mut self, oldest: u64) {
        self.0.retain(|entry| entry.version >= oldest);
    }

    /// The last version.
    pub(crate) fn latest(&self) -> Option<u64> {
        self.0.last().map(|entry| entry.version)
    }

    /// All versions, ascending.
    pub(crate) fn versions(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|entry| entry.version)
    }

    /// All versions with what was kept of each, ascending.
    pub(crate) fn selections(&self, layout: &Layout) -> Result<Vec<(u64, Selection)>> {
        let selection = |entry: &Entry| Ok((entry.version, entry.choice.select(layout)?));
        self.0.iter().map(selection).collect()
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        for Entry { version, choice } in &self.0 {
            out.extend_from_slice(&version.to_le_bytes());
            choice.write_to(out);
        }
    }

    pub(super) fn read_from(fields: &mut Fields<'_>, layout: &Layout) -> Result<Self> {
        let mut history = Self::default();
        for _ in 0..fields.u32("versions of a client")? {
            let version = fields.u64("version of a client")?;
            let choice = Choice::read_from(&mut fields.0)?;
            choice.select(layout)?;
            if history.latest().is_some_and(|last| last >= version) {
                return Err(Error::corrupt(format!("version {version} is out of order")));
            }
            history.0.push(Entry { version, choice });
        }
        Ok(history)
    }
}

/// What a client holds of a parameter, value by value.
pub(super) struct Patchwork {
    pub(super) values: Vec<f32>,
    /// Of which version each is: 0 for none, else one more than its place among the selections.
    pub(super) places: Vec<u32>,
}

impl Patchwork {
    /// Of parameter `i`: of each version, in `selections` ascending, what it kept, and 0 elsewhere. `values` has
    /// the parameter in the versions.
    pub(super) fn new<'a>(
        layout: &Layout,
        i: usize,
        selections: &[(u64, Selection)],
        values: impl Fn(u64) -> Option<&'a [f32]>,
    ) -> Result<Self> {
        let n = layout.shape(i).iter().product();
        let mut held = Self { values: vec![0.0; n], places: vec![0; n] };
        for ((version, selection), place) in selections.iter().zip(1..) {
            let values = values(*version)
                .ok_or_else(|| Error::invalid(format!("version {version} is not kept any more")))?;
            for (at, n) in Gather::new(layout, selection, i)?.runs() {
                held.values[at..at + n].copy_from_slice(&values[at..at + n]);
                held.places[at..at + n].fill(place);
            }
        }
        Ok(held)
    }

    /// What a submodel has of it.
    pub(super) fn gather(&self, gather: &Gather) -> Self {
        Self { values: gather.gather(&self.values), places: gather.gather(&self.places) }
    }

    /// The order in which multiples travel: by the version of what they are added to, so that those that are
    /// alike large stand together; within a version as they are.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|at| self.places[*at]);
        order
    }

    /// Multiples in the order in which they travel.
    pub(super) fn sorted(&self, multiples: &[f32]) -> Vec<f32> {
        self.order().into_iter().map(|at| multiples[at]).collect()
    }

    /// The inverse of [`sorted`](Self::sorted).
    pub(super) fn unsorted(&self, sent: &[f32]) -> Vec<f32> {
        let mut multiples = vec![0.0; sent.len()];
        self.order().into_iter().zip(sent).for_each(|(at, multiple)| multiples[at] = *multiple);
        multiples
    }
}
