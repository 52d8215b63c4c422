//! [`Wiring`]: a layout put together layer by layer, each checked against the shapes of its tensors.

use super::super::infer::group_name;
use super::super::order::natural_key;
use super::super::{Axis, Group, Layout, ParamLayout, Role, Segment};
use crate::{Error, Result};
use std::collections::{BTreeMap, HashSet};

/// Channels that pass from layer to layer; a number of [`Wiring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow(usize);

impl Flow {
    /// All of it as one axis.
    pub(super) fn axis(self) -> Axis {
        Axis::units(self.0)
    }

    /// As an axis of which each unit has `inner` neighbours, all `outer` times.
    pub(super) fn times(self, outer: usize, inner: usize) -> Axis {
        Axis(vec![Segment { outer, group: Some(self.0), inner }])
    }
}

/// Names and shapes, and what is known about their axes.
pub(super) struct Wiring<'a> {
    shapes: &'a [(String, Vec<usize>)],
    /// By the name without what wrappers of adapters add.
    places: BTreeMap<String, usize>,
    /// One for each flow; those that are joined have the same channels.
    flows: Vec<Group>,
    /// Names of the flows.
    taken: HashSet<String>,
    joined: Vec<usize>,
    /// Of which nothing may be dropped.
    whole: Vec<bool>,
    wired: Vec<Option<ParamLayout>>,
}

/// What a wrapper of adapters puts into the name of a wrapped tensor.
const WRAPPED: &str = ".base_layer.";

impl<'a> Wiring<'a> {
    pub(super) fn new(shapes: &'a [(String, Vec<usize>)]) -> Self {
        // Tensors without values belong to nothing.
        let filled = shapes.iter().enumerate().filter(|(_, (_, shape))| !shape.contains(&0));
        let place = |(i, (name, _)): (usize, &(String, _))| (name.replace(WRAPPED, "."), i);
        Self {
            shapes,
            places: filled.map(place).collect(),
            flows: Vec::new(),
            taken: HashSet::new(),
            joined: Vec::new(),
            whole: Vec::new(),
            wired: vec![None; shapes.len()],
        }
    }

    /// All names, numbers counted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.places.keys().cloned().collect();
        names.sort_by_cached_key(|name| natural_key(name));
        names
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Names that begin with that.
    pub(super) fn within<'s>(&'s self, folder: &'s str) -> impl Iterator<Item = &'s str> {
        let from = self.places.range(folder.to_owned()..);
        from.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(folder))
    }

    /// Dimensions of a tensor that has to be there.
    pub(super) fn shape(&self, name: &str) -> Result<&'a [usize]> {
        let place = self.places.get(name);
        let place = place.ok_or_else(|| Error::invalid(format!("there is no tensor {name:?}")))?;
        Ok(&self.shapes[*place].1)
    }

    /// Dimensions of a tensor that has to have so many.
    pub(super) fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.shape(name)?;
        <[usize; N]>::try_from(shape).map_err(|_| {
            Error::invalid(format!("expected {N} dimensions, found {shape:?}")).in_parameter(name)
        })
    }

    /// Channels of which some may be dropped.
    pub(super) fn flow(&mut self, layer: &str, units: usize) -> Flow {
        let name = group_name(layer, &mut self.taken);
        self.flows.push(Group { name, units });
        self.joined.push(self.joined.len());
        self.whole.push(false);
        Flow(self.flows.len() - 1)
    }

    /// Channels of which none is ever dropped.
    pub(super) fn fixed(&mut self, units: usize) -> Flow {
        let flow = self.flow("fixed", units);
        self.keep_whole(flow);
        flow
    }

    pub(super) fn units(&self, flow: Flow) -> usize {
        self.flows[flow.0].units
    }

    pub(super) fn keep_whole(&mut self, flow: Flow) {
        let root = self.root(flow.0);
        self.whole[root] = true;
    }

    /// Both are the same channels from now on, as in a sum.
    pub(super) fn join(&mut self, a: Flow, b: Flow, layer: &str) -> Result<()> {
        let (n, m) = (self.units(a), self.units(b));
        if n != m {
            return Err(Error::invalid(format!("{layer}: {n} channels are added to {m}")));
        }
        let (a, b) = (self.root(a.0), self.root(b.0));
        let (first, second) = (a.min(b), a.max(b));
        self.joined[second] = first;
        self.whole[first] |= self.whole[second];
        Ok(())
    }

    fn root(&self, mut flow: usize) -> usize {
        while self.joined[flow] != flow {
            flow = self.joined[flow];
        }
        flow
    }

    /// Says what the axes of a tensor are; `inputs` are those that its layer sums over.
    pub(super) fn set(&mut self, name: &str, axes: Vec<Axis>, inputs: &[usize]) -> Result<()> {
        self.set_role(name, axes, inputs, Role::Weight)
    }

    fn set_role(
        &mut self,
        name: &str,
        axes: Vec<Axis>,
        inputs: &[usize],
        role: Role,
    ) -> Result<()> {
        let found = self.shape(name)?;
        let expected: Vec<usize> = axes.iter().map(|axis| axis.len(&self.flows)).collect();
        if expected != found {
            let message = format!("expected shape {expected:?}, found {found:?}");
            return Err(Error::invalid(message).in_parameter(name));
        }
        let place = self.places[name];
        if self.wired[place].is_some() {
            return Err(Error::invalid("belongs to two layers").in_parameter(name));
        }
        let name = self.shapes[place].0.clone();
        self.wired[place] = Some(ParamLayout { name, role, axes, inputs: inputs.to_vec() });
        Ok(())
    }

    /// The same where there is such a tensor.
    pub(super) fn set_if_there(&mut self, name: &str, axis: Axis) -> Result<()> {
        if self.has(name) { self.set(name, vec![axis], &[]) } else { Ok(()) }
    }

    /// A convolution over all of its input; returns what it gives.
    pub(super) fn conv(&mut self, layer: &str, input: Flow) -> Result<Flow> {
        let [outputs, ..] = self.dims::<4>(&format!("{layer}.weight"))?;
        let output = self.flow(layer, outputs);
        self.conv_into(layer, input.axis(), output.axis())?;
        Ok(output)
    }

    /// A convolution between known axes.
    pub(super) fn conv_into(&mut self, layer: &str, input: Axis, output: Axis) -> Result<()> {
        let weight = format!("{layer}.weight");
        let [_, _, height, width] = self.dims::<4>(&weight)?;
        let axes = vec![output.clone(), input, Axis::whole(height), Axis::whole(width)];
        self.set(&weight, axes, &[1])?;
        self.set_if_there(&format!("{layer}.bias"), output)
    }

    /// A dense layer, `[out, in]`.
    pub(super) fn dense(&mut self, layer: &str, input: Axis, output: Axis) -> Result<()> {
        self.set(&format!("{layer}.weight"), vec![output.clone(), input], &[1])?;
        self.set_if_there(&format!("{layer}.bias"), output)
    }

    /// A norm over these channels, with running statistics or without.
    pub(super) fn norm(&mut self, layer: &str, axis: Axis) -> Result<()> {
        self.set(&format!("{layer}.weight"), vec![axis.clone()], &[])?;
        self.set_if_there(&format!("{layer}.bias"), axis.clone())?;
        for statistic in ["running_mean", "running_var"] {
            let name = format!("{layer}.{statistic}");
            if self.has(&name) {
                self.set_role(&name, vec![axis.clone()], &[], Role::Statistic)?;
            }
        }
        Ok(())
    }

    /// Which axis of a wired weight its layer sums over, and all of its axes.
    pub(super) fn wired(&self, name: &str) -> Option<&ParamLayout> {
        self.wired[*self.places.get(name)?].as_ref()
    }

    /// Names that nothing was said about, but for adapters and scalars.
    pub(super) fn unwired(&self) -> impl Iterator<Item = &str> {
        let open = |(name, place): &(&String, &usize)| {
            self.wired[**place].is_none()
                && !name.contains("lora_")
                && !self.shapes[**place].1.is_empty()
        };
        self.places.iter().filter(open).map(|(name, _)| name.as_str())
    }

    /// The layout: flows that are joined are one group, tensors that nothing was said about are whole.
    pub(super) fn finish(self) -> Result<Layout> {
        let root = |flow| self.root(flow);
        let roots: Vec<usize> = (0..self.flows.len()).map(root).collect();
        let mut used = vec![false; self.flows.len()];
        let segments = self.wired.iter().flatten().flat_map(|param| &param.axes).flat_map(|a| &a.0);
        segments.filter_map(|segment| segment.group).for_each(|flow| used[roots[flow]] = true);
        let mut groups = Vec::new();
        let mut numbers = vec![None; self.flows.len()];
        for (flow, group) in self.flows.iter().enumerate() {
            if roots[flow] == flow && used[flow] && !self.whole[flow] {
                numbers[flow] = Some(groups.len());
                groups.push(group.clone());
            }
        }
        let mut params = Vec::new();
        for ((name, shape), wired) in self.shapes.iter().zip(self.wired) {
            if shape.contains(&0) {
                continue;
            }
            let mut param = wired.unwrap_or_else(|| ParamLayout {
                name: name.clone(),
                role: Role::Weight,
                axes: shape.iter().copied().map(Axis::whole).collect(),
                inputs: Vec::new(),
            });
            for segment in param.axes.iter_mut().flat_map(|axis| &mut axis.0) {
                let Some(flow) = segment.group else { continue };
                segment.group = numbers[roots[flow]];
                if segment.group.is_none() {
                    segment.outer *= self.flows[flow].units;
                }
            }
            params.push(param);
        }
        Layout::new(groups, params)
    }
}
