//! The tensors of a file, and what their values are like.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::console::Console;
use crate::files::{Source, TensorInfo, n_values};
use crate::phrase::{brief, bytes, counted};
use crate::piece::{PIECE, fill};
use crate::statistics::{Described, Statistics};
use crate::table::{Table, printable, shape, visible};

/// What `--json` prints, and what the text is made of.
#[derive(Debug, Serialize)]
pub struct Report {
    file: String,
    metadata: BTreeMap<String, String>,
    /// What the file has and is not listed.
    left_out: Vec<String>,
    tensors: Vec<Tensor>,
    total: Total,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    values: u64,
    bytes: u64,
    #[serde(flatten)]
    statistics: Described,
}

#[derive(Debug, Serialize)]
struct Total {
    tensors: usize,
    values: u64,
    bytes: u64,
}

/// Reads all of it.
pub fn report(file: String, mut source: Box<dyn Source>, console: &Console) -> Result<Report> {
    let metadata = source.metadata().clone();
    let left_out = source.left_out().to_vec();
    let infos = source.tensors().to_vec();
    let progress = console.progress(None);
    let mut piece = vec![0; PIECE];
    let mut tensors = Vec::new();
    for (index, info) in infos.into_iter().enumerate() {
        progress.set_message(printable(&info.name));
        let mut statistics = Statistics::default();
        let mut elements = source.read(index)?;
        let mut n_bytes = 0;
        loop {
            let n = fill(&mut elements, &mut piece)?;
            statistics.update(info.dtype, &piece[..n]);
            n_bytes += n as u64;
            progress.inc(n as u64);
            if n < PIECE {
                break;
            }
        }
        tensors.push(tensor(info, n_bytes, &statistics));
    }
    progress.finish_and_clear();
    let total = Total {
        tensors: tensors.len(),
        values: tensors.iter().map(|t| t.values).sum(),
        bytes: tensors.iter().map(|t| t.bytes).sum(),
    };
    Ok(Report { file, metadata, left_out, tensors, total })
}

fn tensor(info: TensorInfo, n_bytes: u64, statistics: &Statistics) -> Tensor {
    let TensorInfo { name, dtype, mut shape, open } = info;
    if open {
        let row = n_values(&shape[1..]);
        shape[0] = 8 * n_bytes / dtype.bits().max(1) as u64 / row.max(1);
    }
    Tensor {
        name,
        dtype: dtype.to_string(),
        values: n_values(&shape),
        shape,
        bytes: n_bytes,
        statistics: statistics.described(),
    }
}

/// For people.
pub fn text(report: &Report) -> String {
    let mut text = format!("file     {}\n", visible(&report.file));
    for (key, value) in &report.metadata {
        text += &format!("meta     {key:?} = {}\n", brief(value));
    }
    for sentence in &report.left_out {
        text += &format!("left out {}\n", visible(sentence));
    }
    let heads = [
        "tensor",
        "dtype",
        "shape",
        "bytes",
        "mean",
        "deviation",
        "kurtosis",
        "zeros",
        "nan",
        "inf",
    ];
    let mut table = Table::new(3, heads);
    for t in &report.tensors {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let small = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3e}"));
        let Described { mean, deviation, kurtosis, zeros, nan, infinite } = t.statistics;
        table.row([
            t.name.clone(),
            t.dtype.clone(),
            shape(&t.shape),
            t.bytes.to_string(),
            small(mean),
            small(deviation),
            number(kurtosis),
            zeros.to_string(),
            nan.to_string(),
            infinite.to_string(),
        ]);
    }
    let Total { tensors, values, bytes: n_bytes } = report.total;
    let (tensors, values) = (counted(tensors, "tensor"), counted(values as usize, "value"));
    text + &format!("{table}total    {tensors}, {values}, {}\n", bytes(n_bytes))
}
