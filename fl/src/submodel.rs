//! Cutting a submodel out of a model and putting it back: one gather along each axis.

use crate::layout::Axis;
use crate::{Error, Layout, ParamLayout, Parameter, Result, Selection};

/// Which elements of one parameter a selection keeps, as runs of consecutive elements.
///
/// Neighbouring axes of which everything is kept are one, so that a dense layer whose inputs are
/// whole moves by whole rows.
#[derive(Debug, Clone)]
pub struct Gather {
    shape: Vec<usize>,
    n_full: usize,
    n_packed: usize,
    /// Outermost first, at least one.
    levels: Vec<Level>,
}

/// One or more neighbouring axes. Positions are in elements of the parameter on the last level,
/// and in steps of `stride` elements on the others.
#[derive(Debug, Clone)]
struct Level {
    runs: Vec<Run>,
    full_len: usize,
    stride: usize,
}

/// A stretch that is kept.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    len: usize,
}

impl Gather {
    /// For one parameter of the layout, by its index.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such parameter, or the selection is of another layout.
    pub fn new(layout: &Layout, selection: &Selection, param: usize) -> Result<Self> {
        selection.check(layout)?;
        let Some(axes) = layout.params().get(param).map(|param| &param.axes) else {
            let n = layout.params().len();
            return Err(Error::invalid(format!("no parameter {param}, there are {n}")));
        };
        let mut levels: Vec<Level> = Vec::new();
        let mut shape = Vec::new();
        let mut n_full = 1;
        for axis in axes {
            let (runs, full_len) = (axis_runs(axis, layout, selection), axis.len(layout.groups()));
            n_full *= full_len;
            shape.push(runs.iter().map(|run| run.len).sum());
            match (levels.last_mut(), &runs[..]) {
                (Some(last), [run]) if run.len == full_len => last.widen(full_len),
                _ => levels.push(Level { runs, full_len, stride: 1 }),
            }
        }
        if levels.is_empty() {
            levels.push(Level { runs: vec![Run { start: 0, len: 1 }], full_len: 1, stride: 1 });
        }
        let mut stride = 1;
        for level in levels.iter_mut().rev() {
            level.stride = stride;
            stride *= level.full_len;
        }
        let n_packed = shape.iter().product();
        Ok(Self { shape, n_full, n_packed, levels })
    }

    /// Of the same parameter, with nothing kept.
    pub(crate) fn nothing(&self) -> Self {
        let n_full = self.n_full;
        let levels = vec![Level { runs: Vec::new(), full_len: n_full, stride: 1 }];
        Self { shape: vec![0], n_full, n_packed: 0, levels }
    }

    /// For all parameters of the layout, in its order.
    pub(crate) fn all(layout: &Layout, choice: &crate::Choice) -> Result<Vec<Self>> {
        let selection = choice.select(layout)?;
        (0..layout.params().len()).map(|i| Self::new(layout, &selection, i)).collect()
    }

    /// Dimensions of the parameter in the submodel.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many values the parameter has in the full model.
    pub fn n_full(&self) -> usize {
        self.n_full
    }

    /// How many it has in the submodel.
    pub fn n_packed(&self) -> usize {
        self.n_packed
    }

    /// The runs that are kept, as (start in the full parameter, length): ascending, which is the
    /// order they have in the submodel, where one follows the other without a gap.
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (innermost, outer) = match self.levels.split_last() {
            Some((last, outer)) => (&last.runs[..], outer),
            None => (&[][..], &[][..]),
        };
        let at = vec![Position::default(); outer.len()];
        let mut runs = Runs { outer, innermost, at, base: 0, next: 0 };
        runs.set_base();
        runs
    }

    /// The kept values of a full parameter: its values in the submodel.
    ///
    /// # Panics
    /// If there are not [`n_full`](Self::n_full) values.
    pub fn gather<T: Copy>(&self, full: &[T]) -> Vec<T> {
        assert_eq!(full.len(), self.n_full, "values of the full parameter");
        let mut packed = Vec::with_capacity(self.n_packed);
        for (start, len) in self.runs() {
            packed.extend_from_slice(&full[start..start + len]);
        }
        packed
    }

    /// Writes the values of a parameter of the submodel where they belong in the full one, and
    /// leaves the others as they are.
    ///
    /// # Panics
    /// If there are not [`n_packed`](Self::n_packed) and [`n_full`](Self::n_full) values.
    pub fn scatter<T: Copy>(&self, packed: &[T], full: &mut [T]) {
        assert_eq!(packed.len(), self.n_packed, "values of the packed parameter");
        assert_eq!(full.len(), self.n_full, "values of the full parameter");
        let mut rest = packed;
        for (start, len) in self.runs() {
            let (head, tail) = rest.split_at(len);
            full[start..start + len].copy_from_slice(head);
            rest = tail;
        }
    }
}

impl Level {
    /// Takes in an axis behind it of which all `n` are kept.
    fn widen(&mut self, n: usize) {
        self.full_len *= n;
        for run in &mut self.runs {
            run.start *= n;
            run.len *= n;
        }
    }
}

/// Where an outer level stands: a run, and a position in it.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    run: usize,
    offset: usize,
}

/// Counts through the outer levels like an odometer; the innermost gives the runs.
struct Runs<'a> {
    outer: &'a [Level],
    innermost: &'a [Run],
    at: Vec<Position>,
    /// First element of the current row of the innermost level.
    base: usize,
    /// The next run of that row.
    next: usize,
}

impl Runs<'_> {
    fn set_base(&mut self) {
        let element = |(level, at): (&Level, &Position)| {
            (level.runs[at.run].start + at.offset) * level.stride
        };
        self.base = self.outer.iter().zip(&self.at).map(element).sum();
    }

    /// To the next row, or false behind the last.
    fn advance(&mut self) -> bool {
        for (level, at) in self.outer.iter().zip(&mut self.at).rev() {
            at.offset += 1;
            if at.offset == level.runs[at.run].len {
                *at = Position { run: at.run + 1, offset: 0 };
            }
            if at.run < level.runs.len() {
                self.next = 0;
                self.set_base();
                return true;
            }
            at.run = 0;
        }
        false
    }
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        if self.next == self.innermost.len() && !self.advance() {
            return None;
        }
        let run = self.innermost[self.next];
        self.next += 1;
        Some((self.base + run.start, run.len))
    }
}

/// What is kept along an axis.
fn axis_runs(axis: &Axis, layout: &Layout, selection: &Selection) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut base = 0;
    for segment in &axis.0 {
        let Some(group) = segment.group else {
            push(&mut runs, base, segment.outer * segment.inner);
            base += segment.outer * segment.inner;
            continue;
        };
        let length = layout.groups()[group].units * segment.inner;
        let mut units = Vec::new();
        selection.kept(group).for_each(|unit| push(&mut units, unit, 1));
        for _ in 0..segment.outer {
            for Run { start, len } in &units {
                push(&mut runs, base + start * segment.inner, len * segment.inner);
            }
            base += length;
        }
    }
    runs
}

/// Adds a run, to the last one if it follows at once.
fn push(runs: &mut Vec<Run>, start: usize, len: usize) {
    match runs.last_mut() {
        Some(last) if last.start + last.len == start => last.len += len,
        _ => runs.push(Run { start, len }),
    }
}

/// The submodel: for each parameter, in order, what the selection keeps of it.
///
/// # Errors
/// `InvalidArgument` if the parameters or the selection are not of this layout.
pub fn pack(layout: &Layout, selection: &Selection, full: &[Parameter]) -> Result<Vec<Parameter>> {
    layout.check(full)?;
    let packed = |(i, param): (usize, &Parameter)| {
        let gather = Gather::new(layout, selection, i)?;
        let (name, shape) = (param.name.clone(), gather.shape().to_vec());
        Ok(Parameter { name, shape, values: gather.gather(&param.values) })
    };
    full.iter().enumerate().map(packed).collect()
}

/// Writes a submodel into the full model: what the selection keeps is replaced, all else stays.
///
/// # Errors
/// `InvalidArgument` if the parameters or the selection are not of this layout, or the submodel is
/// of another selection; then nothing is written.
pub fn merge(
    layout: &Layout,
    selection: &Selection,
    packed: &[Parameter],
    full: &mut [Parameter],
) -> Result<()> {
    layout.check(full)?;
    layout.submodel(selection)?.check(packed)?;
    for (i, (packed, full)) in packed.iter().zip(full).enumerate() {
        Gather::new(layout, selection, i)?.scatter(&packed.values, &mut full.values);
    }
    Ok(())
}

/// By how much the sum over the inputs of each parameter shrinks when some are dropped: the product
/// over its input axes of full length over kept length, 1 without input axes.
///
/// Multiplied by it in the forward pass of training, units see the same sums in a submodel, on
/// average over selections, as in the full model, as in inverted dropout (Srivastava et al. 2014) and
/// HeteroFL's scaler (Diao et al. 2021). Weights stay as they are, and so does the full model when it
/// is used. It lets steps be larger, which is not good for every network: to be measured.
///
/// # Panics
/// If the selection is of another layout with fewer groups.
pub fn gains(layout: &Layout, selection: &Selection) -> Vec<f32> {
    let kept =
        |axis: &Axis| -> usize { axis_runs(axis, layout, selection).iter().map(|r| r.len).sum() };
    let gain = |param: &ParamLayout| {
        let ratio = |input: &usize| {
            let axis = &param.axes[*input];
            axis.len(layout.groups()) as f64 / kept(axis) as f64
        };
        param.inputs.iter().map(ratio).product::<f64>() as f32
    };
    layout.params().iter().map(gain).collect()
}
