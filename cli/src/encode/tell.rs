//! What `encode` says when it is done.

use std::path::Path;

use fedpress::PRESETS;
use serde::Serialize;

use super::DEFAULT;
use super::job::Encoded;
use super::remark::{self, Remark};
use crate::console::Console;
use crate::destination::Destination;
use crate::phrase::{change, counted};
use crate::table::Table;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    pub input: String,
    /// None for a dry run.
    pub output: Option<String>,
    /// What tensors get for which no rule says otherwise.
    pub spec: String,
    #[serde(skip)]
    pub is_default: bool,
    /// Bits for each value of what is called a model, where these are few.
    #[serde(skip)]
    pub bits_of_a_model: Option<f64>,
    /// Decimal text: a u64 does not survive every JSON parser.
    pub seed: String,
    pub private_seed: String,
    pub round: u64,
    pub client_id: u64,
    pub original_bytes: u64,
    pub bytes: u64,
    pub ratio: f64,
    /// Mean normalized squared error of the lossy tensors, of a sample.
    pub nmse: Option<f64>,
    /// Tensors that were spared what was asked for, and about how many bytes that cost.
    pub spared: usize,
    pub spared_bytes: u64,
    /// What was asked for and is not done.
    pub remarks: Vec<Remark>,
    pub tensors: Vec<Encoded>,
}

/// Remarks about what became of the tensors.
pub fn after(tensors: &[Encoded]) -> Vec<Remark> {
    let n = tensors.iter().filter(|t| t.spared.is_some()).count();
    let cost = tensors.iter().map(|t| t.spared_bytes).sum();
    let larger: Vec<_> = tensors.iter().filter(|t| t.larger).map(|t| &*t.name).collect();
    remark::spared(n, cost).into_iter().chain(remark::larger(&larger)).collect()
}

/// Bits for each value from which on the models of cli/RESULTS.md keep what they do.
const ENOUGH_FOR_A_MODEL: f64 = 6.0;

/// Bits for each value, where the input is called a model, lossy, and they are fewer than such needs.
pub fn few_bits_of_a_model(path: &Path, is_lossy: bool, values: u64, bytes: u64) -> Option<f64> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let is_model = path.is_dir() || stem.starts_with("model") || stem.ends_with("model");
    let bits = 8.0 * bytes as f64 / values as f64;
    (is_model && is_lossy && bits < ENOUGH_FOR_A_MODEL).then_some(bits)
}

impl Report {
    /// Says it in remarks and a summary, with `-v` a table of the tensors.
    pub fn tell(&self, destination: Option<&Destination>, console: &Console) {
        console.detail(|| format!("private seed {}", self.private_seed));
        console.detail(|| format!("each tensor:\n{}", self.table()).trim_end().to_owned());
        self.remarks.iter().for_each(|remark| console.note(remark.message()));
        if self.is_default {
            console.note(&self.choice());
        }
        if let Some(hint) = self.hint() {
            console.note(&hint);
        }
        match destination {
            _ if console.json => {}
            Some(Destination::Stdout) => console.detail(|| self.summary()),
            _ => console.note(&self.summary()),
        }
    }

    fn summary(&self) -> String {
        let Self { input, output, tensors, original_bytes, bytes, ratio, .. } = self;
        let (tensors, change) = (counted(tensors.len(), "tensor"), change(*original_bytes, *bytes));
        match output {
            Some(output) => format!("{input} -> {output}: {tensors}, {change}, ratio {ratio:.2}"),
            None => format!("{input}: {tensors}, {change}, ratio {ratio:.2}; nothing was written"),
        }
    }

    /// Which preset was taken, what it cost, and how to get smaller.
    fn choice(&self) -> String {
        let choice = format!("no --spec: preset {DEFAULT} ({})", self.spec);
        let Some(nmse) = self.nmse else { return format!("{choice}, nothing was lossy") };
        let percent = 100.0 * nmse.sqrt();
        let next = PRESETS.iter().skip_while(|preset| preset.name != DEFAULT).nth(1);
        let smaller = next.map_or(DEFAULT, |preset| preset.name);
        format!(
            "{choice}, error {percent:.2}% of the values' size (nmse {nmse:.1e}, of a sample); smaller, for \
             what is averaged or trained on: --spec {smaller}; estimate compares"
        )
    }

    /// What few bits mean for a model, where the input is called one.
    fn hint(&self) -> Option<String> {
        let bits = self.bits_of_a_model?;
        Some(format!(
            "at {bits:.1} bits a value many models lose accuracy: this is for what is averaged or trained \
             on; for a model that is used as it comes back: --spec {DEFAULT}"
        ))
    }

    fn table(&self) -> Table {
        let heads = ["tensor", "dtype", "shape", "spec", "bytes", "ratio", "nmse", "why"];
        let mut table = Table::new(4, heads);
        for t in &self.tensors {
            table.row([
                t.name.clone(),
                t.dtype.to_owned(),
                crate::table::shape(&t.shape),
                t.spec.clone(),
                t.bytes.to_string(),
                format!("{:.2}", t.original_bytes as f64 / t.bytes as f64),
                t.nmse.map_or("-".into(), |nmse| format!("{nmse:.1e}")),
                t.reason.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        table
    }
}
