//! Submodels: layouts, selections of units, and the copying that packs and merges.

use crate::errors::OrRaise;
use crate::memory::{Input, Memory, Output};
use fedpress_fl::{Choice, Convention, Gather, Heads, Keep, Rule};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::BTreeMap;

/// Which axis of which parameter belongs to which group of units.
#[pyclass(module = "fedpress._fedpress", frozen)]
pub struct Layout {
    pub(crate) layout: fedpress_fl::Layout,
}

/// Which units of each group a submodel keeps.
#[pyclass(module = "fedpress._fedpress", frozen)]
pub struct Selection {
    selection: fedpress_fl::Selection,
    /// What it follows from.
    pub(crate) choice: Choice,
}

#[pymethods]
impl Selection {
    /// The units that are kept of a group, ascending.
    fn kept(&self, group: usize) -> Vec<usize> {
        self.selection.kept(group).collect()
    }
}

#[pymethods]
impl Layout {
    /// From the text of a layout file.
    #[staticmethod]
    fn from_toml(py: Python<'_>, text: &str) -> PyResult<Self> {
        Ok(Self { layout: fedpress_fl::Layout::from_toml(text).or_raise(py)? })
    }

    /// Of a plain sequence of layers, from names and shapes.
    #[staticmethod]
    fn infer(
        py: Python<'_>,
        shapes: Vec<(String, Vec<usize>)>,
        convention: &str,
    ) -> PyResult<Self> {
        let convention = match convention {
            "torch" => Convention::Torch,
            "burn" => Convention::Burn,
            "keras" => Convention::Keras,
            other => {
                let message = format!("expected \"torch\", \"burn\" or \"keras\", found {other:?}");
                return Err(PyValueError::new_err(format!("convention: {message}")));
            }
        };
        Ok(Self { layout: fedpress_fl::Layout::infer(&shapes, convention).or_raise(py)? })
    }

    /// Of a family of models that is known: its layout, the name of the family, and what is kept whole and why.
    #[staticmethod]
    fn recognize(
        py: Python<'_>,
        shapes: Vec<(String, Vec<usize>)>,
        heads: Option<usize>,
        key_heads: Option<usize>,
    ) -> PyResult<Option<(Self, String, Vec<String>)>> {
        let mut given = Heads::default();
        (given.query, given.key) = (heads, key_heads);
        let found = fedpress_fl::Layout::recognize(&shapes, given).or_raise(py)?;
        Ok(found.map(|found| (Self { layout: found.layout }, found.family, found.notes)))
    }

    /// Of which nothing is ever dropped.
    #[staticmethod]
    fn whole(py: Python<'_>, shapes: Vec<(String, Vec<usize>)>) -> PyResult<Self> {
        Ok(Self { layout: fedpress_fl::Layout::whole(&shapes).or_raise(py)? })
    }

    fn to_toml(&self) -> String {
        self.layout.to_toml()
    }

    /// Groups, and how many units each has.
    fn groups(&self) -> Vec<(String, usize)> {
        self.layout.groups().iter().map(|g| (g.name.clone(), g.units)).collect()
    }

    /// Parameters: name and shape in the full model.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let params = self.layout.params().iter().enumerate();
        params.map(|(i, p)| (p.name.clone(), self.layout.shape(i))).collect()
    }

    /// The selection of a rule ("random", "ordered", "rolling"), its number (seed or offset), and the
    /// fractions kept.
    fn select(
        &self,
        py: Python<'_>,
        rule: &str,
        number: u64,
        keep: f64,
        groups: BTreeMap<String, f64>,
    ) -> PyResult<Selection> {
        let rule = match rule {
            "random" => Rule::Random { seed: number },
            "ordered" => Rule::Ordered,
            "rolling" => Rule::Rolling { offset: number },
            other => {
                let message =
                    format!("expected \"random\", \"ordered\" or \"rolling\", found {other:?}");
                return Err(PyValueError::new_err(format!("rule: {message}")));
            }
        };
        let choice = Choice { rule, keep: Keep { default: keep, groups } };
        Ok(Selection { selection: choice.select(&self.layout).or_raise(py)?, choice })
    }

    /// The shape of a parameter in the submodel.
    fn packed_shape(&self, py: Python<'_>, kept: &Selection, param: usize) -> PyResult<Vec<usize>> {
        Ok(self.gather_of(py, kept, param)?.shape().to_vec())
    }

    /// What a selection keeps of a parameter whose elements take `size` bytes each.
    fn pack(
        &self,
        py: Python<'_>,
        kept: &Selection,
        param: usize,
        full: &Bound<'_, PyAny>,
        size: usize,
    ) -> PyResult<Memory> {
        let (gather, input) = (self.gather_of(py, kept, param)?, Input::new(full)?);
        let full = input.bytes();
        check_room(full.len(), gather.n_full(), size)?;
        let packed = py.detach(|| {
            let mut packed = Vec::with_capacity(gather.n_packed() * size);
            for (start, len) in gather.runs() {
                packed.extend_from_slice(&full[start * size..(start + len) * size]);
            }
            packed
        });
        Ok(Memory::new(packed))
    }

    /// Writes what a selection keeps of a parameter where it belongs in the full one.
    fn merge(
        &self,
        py: Python<'_>,
        kept: &Selection,
        param: usize,
        packed: &Bound<'_, PyAny>,
        full: &Bound<'_, PyAny>,
        size: usize,
    ) -> PyResult<()> {
        let gather = self.gather_of(py, kept, param)?;
        let (input, mut output) = (Input::new(packed)?, Output::new(full)?);
        let (packed, full) = (input.bytes(), output.bytes_mut());
        check_room(packed.len(), gather.n_packed(), size)?;
        check_room(full.len(), gather.n_full(), size)?;
        py.detach(|| {
            let mut rest = packed;
            for (start, len) in gather.runs() {
                let head;
                (head, rest) = rest.split_at(len * size);
                full[start * size..(start + len) * size].copy_from_slice(head);
            }
        });
        Ok(())
    }
}

impl Layout {
    fn gather_of(&self, py: Python<'_>, kept: &Selection, param: usize) -> PyResult<Gather> {
        Gather::new(&self.layout, &kept.selection, param).or_raise(py)
    }
}

fn check_room(found: usize, values: usize, size: usize) -> PyResult<()> {
    match values.checked_mul(size) {
        Some(expected) if expected == found => Ok(()),
        _ => Err(PyValueError::new_err(format!(
            "{values} values of {size} bytes, found {found} bytes"
        ))),
    }
}
