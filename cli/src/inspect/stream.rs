//! What the headers of a stream say; payloads are jumped over.

use std::collections::BTreeMap;

use fedpress::{DType, Summary, TensorSummary};
use serde::Serialize;

use crate::files::byte_len;
use crate::phrase::{brief, bytes, change, counted};
use crate::table::{Table, shape, visible};

/// What `--json` prints, and what the text is made of.
#[derive(Debug, Serialize)]
pub struct Report {
    file: String,
    version: String,
    streams: u64,
    index: bool,
    metadata: BTreeMap<String, String>,
    tensors: Vec<Tensor>,
    total: Total,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    spec: String,
    lossy: bool,
    /// Decimal text: a u64 does not survive every JSON parser.
    seed: Option<String>,
    round: Option<u64>,
    values: u64,
    chunks: u64,
    offset: u64,
    /// Whether this program can decode it.
    supported: bool,
    /// None for an element type that is not known.
    original_bytes: Option<u64>,
    bytes: u64,
    ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Total {
    tensors: usize,
    values: u64,
    /// None with an element type that is not known.
    original_bytes: Option<u64>,
    /// Of the whole file, with all headers.
    bytes: u64,
    ratio: Option<f64>,
    bits_per_value: f64,
}

/// What the summary says.
pub fn report(file: String, summary: Summary) -> Report {
    let tensors: Vec<_> = summary.tensors.iter().map(tensor).collect();
    let values = tensors.iter().map(|t| t.values).sum();
    let original_bytes: Option<u64> = tensors.iter().map(|t| t.original_bytes).sum();
    let bytes = summary.n_bytes;
    Report {
        file,
        version: format!("{}.{}", summary.version.0, summary.version.1),
        streams: summary.n_streams,
        index: summary.has_index,
        metadata: summary.metadata,
        total: Total {
            tensors: tensors.len(),
            values,
            original_bytes,
            bytes,
            ratio: original_bytes.map(|original| original as f64 / bytes as f64),
            bits_per_value: bytes as f64 * 8.0 / values as f64,
        },
        tensors,
    }
}

fn tensor(summary: &TensorSummary) -> Tensor {
    let meta = &summary.meta;
    let seed = meta.seed_and_round();
    let original_bytes = match meta.dtype() {
        DType::Unknown(_) => None,
        dtype => byte_len(dtype, &summary.shape),
    };
    // The other pipelines are its fallbacks, and of interest where they are why it cannot be decoded.
    let supported = meta.supported().is_ok();
    let n_shown = if supported { 1 } else { meta.pipelines().len() };
    let pipelines: Vec<_> = meta.pipelines()[..n_shown].iter().map(ToString::to_string).collect();
    Tensor {
        name: meta.name().to_owned(),
        dtype: meta.dtype().to_string(),
        shape: summary.shape.clone(),
        spec: pipelines.join(" or "),
        lossy: meta.spec().is_lossy(),
        seed: seed.map(|(seed, _)| seed.to_string()),
        round: seed.map(|(_, round)| round),
        values: summary.n_values,
        chunks: summary.n_chunks,
        offset: summary.offset,
        supported,
        original_bytes,
        bytes: summary.n_bytes,
        ratio: original_bytes.map(|original| original as f64 / summary.n_bytes as f64),
    }
}

/// For people.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "file     {}\nformat   {}\nstreams  {}\nindex    {}\n",
        visible(&report.file),
        report.version,
        report.streams,
        if report.index { "yes" } else { "no" }
    );
    for (key, value) in &report.metadata {
        text += &format!("meta     {key:?} = {}\n", brief(value));
    }
    let heads = ["tensor", "dtype", "shape", "spec", "seed", "round", "chunks", "bytes", "ratio"];
    let mut table = Table::new(4, heads);
    for t in &report.tensors {
        table.row([
            t.name.clone(),
            t.dtype.clone(),
            shape(&t.shape),
            t.spec.clone(),
            t.seed.clone().unwrap_or_else(|| "-".into()),
            t.round.map_or("-".into(), |r| r.to_string()),
            t.chunks.to_string(),
            t.bytes.to_string(),
            t.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    let total = &report.total;
    let (tensors, values) =
        (counted(total.tensors, "tensor"), counted(total.values as usize, "value"));
    let sizes = match (total.original_bytes, total.ratio) {
        (Some(original), Some(ratio)) => {
            format!("{}, ratio {ratio:.2}", change(original, total.bytes))
        }
        _ => format!("{}, some of a type that is not known", bytes(total.bytes)),
    };
    let bits = total.bits_per_value;
    text + &format!("{table}total    {tensors}, {values}, {sizes}, {bits:.3} bits per value\n")
}
