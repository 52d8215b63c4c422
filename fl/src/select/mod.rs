//! [`Selection`]: which units of each group a submodel keeps.

mod bytes;
mod choice;
mod cost;
mod policy;

pub use choice::{Choice, Keep, Rule};
pub use policy::{Policy, Scope, Strategy};

use crate::{Error, Layout, Result};
use bitvec::slice::BitSlice;
use bitvec::vec::BitVec;

/// Which units of each group a submodel keeps: a mask per group of a [`Layout`], in its order, with
/// at least one unit kept in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    masks: Vec<BitVec>,
}

impl Selection {
    /// Everything: the submodel is the full model.
    pub fn full(layout: &Layout) -> Self {
        let mask = |group: &crate::Group| BitVec::repeat(true, group.units);
        Self { masks: layout.groups().iter().map(mask).collect() }
    }

    /// From a mask per group; a set bit keeps its unit.
    ///
    /// # Errors
    /// `InvalidArgument` where there are more or fewer masks than groups, or one has the wrong
    /// length or keeps nothing.
    pub fn from_masks(layout: &Layout, masks: Vec<BitVec>) -> Result<Self> {
        let selection = Self { masks };
        selection.check(layout)?;
        let kept_none = selection.masks.iter().position(|mask| mask.not_any());
        match kept_none.and_then(|group| layout.groups().get(group)) {
            Some(group) => {
                Err(Error::invalid(format!("group {:?}: the mask keeps no unit", group.name)))
            }
            None => Ok(selection),
        }
    }

    /// Whether it is one of this layout: as many masks as groups, as many bits as units.
    ///
    /// # Errors
    /// `InvalidArgument` with what was expected and what was found.
    pub fn check(&self, layout: &Layout) -> Result<()> {
        let groups = layout.groups();
        if self.masks.len() != groups.len() {
            let (expected, found) = (groups.len(), self.masks.len());
            return Err(Error::invalid(format!("expected {expected} masks, found {found}")));
        }
        match groups.iter().zip(&self.masks).find(|(group, mask)| group.units != mask.len()) {
            None => Ok(()),
            Some((group, mask)) => Err(Error::invalid(format!(
                "group {:?}: expected a mask of {} units, found {}",
                group.name,
                group.units,
                mask.len()
            ))),
        }
    }

    /// The mask of a group, by its index in the layout.
    ///
    /// # Panics
    /// As the other methods, if there is no group of this index.
    pub fn mask(&self, group: usize) -> &BitSlice {
        &self.masks[group]
    }

    /// How many units of a group are kept.
    pub fn n_kept(&self, group: usize) -> usize {
        self.masks[group].count_ones()
    }

    /// Whether everything is kept.
    pub fn is_full(&self) -> bool {
        self.masks.iter().all(|mask| mask.all())
    }

    /// The units of a group that are kept, ascending.
    pub fn kept(&self, group: usize) -> impl Iterator<Item = usize> {
        self.masks[group].iter_ones()
    }
}
