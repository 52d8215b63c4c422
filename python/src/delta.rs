//! Downlinks as deltas: the server's versions of its model, and what a client holds of it.

use crate::errors::OrRaise;
use crate::layout::{Layout, Selection};
use crate::memory::{Input, Memory, floats};
use crate::options::decoding;
use crate::spec::Spec;
use fedpress_fl::{Broadcast, Choice, DeltaOptions, Parameter, TensorSpecs};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The server's half: models in, messages out.
#[pyclass(module = "fedpress._fedpress")]
pub struct Versions {
    versions: fedpress_fl::Versions,
    layout: fedpress_fl::Layout,
}

#[pymethods]
impl Versions {
    /// `options` are step, dead zone and how many rounds versions are kept; a state is what
    /// [`save`](Self::save) made, with f32 values of the model that its last version was made of, or none.
    #[new]
    fn new(
        py: Python<'_>,
        layout: &Layout,
        options: (f64, f64, u64),
        exact: Vec<String>,
        state: Option<(Bound<'_, PyAny>, Vec<Bound<'_, PyAny>>)>,
        memory_limit: u64,
    ) -> PyResult<Self> {
        let (step, dead_zone, versions) = options;
        let options = DeltaOptions { step, dead_zone, versions };
        let mut down = TensorSpecs::from(fedpress::Spec::lossless());
        let named = exact.into_iter().map(|name| (name, fedpress::Spec::lossless()));
        down.by_tensor = named.collect();
        let layout = layout.layout.clone();
        let Some((state, model)) = state else {
            let versions = fedpress_fl::Versions::new(layout.clone(), options, &down);
            return Ok(Self { versions: versions.or_raise(py)?, layout });
        };
        let (state, model) = (Input::new(&state)?, inputs(&model)?);
        let (bytes, decode) = (state.bytes(), decoding(memory_limit, 1));
        let work = || {
            let model = parameters(&layout, &model);
            let whole = layout.clone();
            fedpress_fl::Versions::restore(bytes, whole, options, &down, model, &decode)
        };
        let versions = py.detach(work).or_raise(py)?;
        Ok(Self { versions, layout })
    }

    /// Makes the version of a round, of f32 values in the order of the layout.
    fn advance(
        &mut self,
        py: Python<'_>,
        round: u64,
        model: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Self { versions, layout } = self;
        let model = inputs(&model)?;
        py.detach(|| versions.advance(round, parameters(layout, &model))).or_raise(py)
    }

    /// The message to a client, or to those who hold nothing: run, round and seed, what the client keeps, how
    /// its update is to be encoded, and a text for its training code.
    fn message<'py>(
        &self,
        py: Python<'py>,
        head: [u64; 3],
        client: Option<u64>,
        kept: Option<&Bound<'_, Selection>>,
        up: &Spec,
        task: String,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let [run, round, seed] = head;
        let (choice, up) = (choice_of(kept), TensorSpecs::from(up.spec.clone()));
        let (gains, integers) = (Vec::new(), None);
        let broadcast = Broadcast { run, round, client, seed, choice, gains, up, task, integers };
        let message = py.detach(|| self.versions.message(broadcast)).or_raise(py)?;
        Ok(PyBytes::new(py, &message))
    }

    /// A client has what it was sent of a round.
    fn acknowledge(
        &mut self,
        py: Python<'_>,
        client: u64,
        round: u64,
        kept: Option<&Bound<'_, Selection>>,
    ) -> PyResult<()> {
        self.versions.acknowledge(client, round, &choice_of(kept)).or_raise(py)
    }

    /// A client holds nothing.
    fn forget(&mut self, client: u64) {
        self.versions.forget(client);
    }

    /// The round of the last version.
    #[getter]
    fn round(&self) -> Option<u64> {
        self.versions.round()
    }

    /// The round of the last version that a client holds.
    fn held_by(&self, client: u64) -> Option<u64> {
        self.versions.held_by(client)
    }

    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = py.detach(|| self.versions.save()).or_raise(py)?;
        Ok(PyBytes::new(py, &state))
    }
}

/// The client's half: messages in, models out.
#[pyclass(module = "fedpress._fedpress")]
pub struct Replica {
    replica: fedpress_fl::Replica,
    memory_limit: u64,
}

/// What a message says: run, round, client and seed; how an update is to be encoded; a text; the model, as
/// names, shapes and f32 values.
type Sent = ((u64, u64, Option<u64>, u64), Spec, String, Vec<(String, Vec<usize>, Memory)>);

#[pymethods]
impl Replica {
    #[new]
    fn new(
        py: Python<'_>,
        layout: &Layout,
        state: Option<&Bound<'_, PyAny>>,
        memory_limit: u64,
    ) -> PyResult<Self> {
        let layout = layout.layout.clone();
        let Some(state) = state.map(Input::new).transpose()? else {
            return Ok(Self { replica: fedpress_fl::Replica::new(layout), memory_limit });
        };
        let (bytes, decode) = (state.bytes(), decoding(memory_limit, 1));
        let restored = py.detach(|| fedpress_fl::Replica::restore(bytes, layout, &decode));
        Ok(Self { replica: restored.or_raise(py)?, memory_limit })
    }

    fn decode(&mut self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Sent> {
        let input = Input::new(message)?;
        let (bytes, decode) = (input.bytes(), decoding(self.memory_limit, 1));
        let work = || {
            let download = self.replica.decode(bytes, &decode)?;
            let memory = |parameter: Parameter| {
                let bytes = parameter.values.iter().flat_map(|value| value.to_le_bytes());
                (parameter.name, parameter.shape, Memory::new(bytes.collect()))
            };
            let model: Vec<_> = download.base.into_iter().map(memory).collect();
            fedpress_fl::Result::Ok((download.header, model))
        };
        let (header, model) = py.detach(work).or_raise(py)?;
        let Broadcast { run, round, client, seed, up, task, .. } = header;
        Ok(((run, round, client, seed), Spec { spec: up.default }, task, model))
    }

    fn save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = py.detach(|| self.replica.save()).or_raise(py)?;
        Ok(PyBytes::new(py, &state))
    }
}

fn choice_of(kept: Option<&Bound<'_, Selection>>) -> Choice {
    kept.map_or_else(Choice::full, |kept| kept.get().choice.clone())
}

fn inputs(model: &[Bound<'_, PyAny>]) -> PyResult<Vec<Input>> {
    model.iter().map(Input::new).collect()
}

/// Parameters of f32 values in the order of a layout; as many as there are.
fn parameters(layout: &fedpress_fl::Layout, model: &[Input]) -> Vec<Parameter> {
    let parameter = |(i, (param, input)): (usize, (&fedpress_fl::ParamLayout, &Input))| {
        let (name, shape) = (param.name.clone(), layout.shape(i));
        Parameter { name, shape, values: floats(input.bytes()) }
    };
    layout.params().iter().zip(model).enumerate().map(parameter).collect()
}
