//! What features of a convolution behind a ReLU cost, and which spec is right for them: bits a value
//! and NMSE of whole uploads, batch by batch, as the server's store has them.
//!
//! `cargo run --release -p fedpress-fl --example features`: maps made here, rectified Gaussian noise
//! that was smoothed; with the name of a safetensors file, its tensors `features`, `logits` and
//! `labels`. Then how fast a store takes an upload and is read.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::Spec;
use fedpress_fl::{
    FeatureSpecs, FeatureStore, FeatureWriter, Features, RoundingSeed, StoreOptions, Upload,
};
use std::time::Instant;

const SHAPE: [usize; 3] = [16, 32, 32];
const EACH: usize = 16 * 32 * 32;
const CLASSES: usize = 10;
const BATCH: usize = 64;
const N: usize = 256;

const TRANSFORMS: [(&str, &str); 6] = [
    ("identity", ""),
    ("identity", ",nearest"),
    ("identity", ",nearest,block=1024"),
    ("hadamard", ""),
    ("hadamard", ",nearest"),
    ("kashin", ""),
];

/// Samples of one client.
struct Set {
    name: String,
    features: Vec<f32>,
    logits: Vec<f32>,
    labels: Vec<u16>,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let sets = match std::env::args().nth(1) {
        Some(path) => vec![read(&path)?],
        None => vec![made("made, half zeros", 0.0), made("made, five in six zeros", 1.0)],
    };
    for set in &sets {
        let Set { name, features, .. } = set;
        let zeros = features.iter().filter(|v| **v == 0.0).count() as f64 / features.len() as f64;
        println!("# {name}: {} samples, {:.1} % zeros", set.labels.len(), 100.0 * zeros);
        parts(set)?;
        table(set)?;
        store(set)?;
        println!();
    }
    Ok(())
}

impl Set {
    /// An upload; that of round 0 has the labels.
    fn message(&self, spec: Spec, round: u64) -> Result<Vec<u8>> {
        let header = Features { run: 1, round, client: 0, shape: SHAPE.into(), classes: CLASSES };
        let specs = FeatureSpecs { features: spec, ..FeatureSpecs::default() };
        let mut writer =
            FeatureWriter::new(Vec::new(), header, specs, 7, RoundingSeed(0x5eed + round))?;
        let ids: Vec<u32> = (0..self.labels.len() as u32).collect();
        let batches = ids.chunks(BATCH).zip(self.features.chunks(BATCH * EACH));
        let others = self.logits.chunks(BATCH * CLASSES).zip(self.labels.chunks(BATCH));
        for ((ids, features), (logits, labels)) in batches.zip(others) {
            writer.batch(ids, features, logits, (round == 0).then_some(labels))?;
        }
        Ok(writer.finish()?)
    }

    fn samples(&self) -> Vec<(u64, u32)> {
        (0..self.labels.len() as u32).map(|id| (0, id)).collect()
    }
}

/// What ids, labels, features and logits of a first upload take, with the default specs.
fn parts(set: &Set) -> Result<()> {
    let message = set.message(FeatureSpecs::default().features, 0)?;
    let summary = fedpress::summarize(&mut std::io::Cursor::new(&message), &Default::default())?;
    print!("bytes a sample of a first upload:");
    for part in ["ids", "labels", "features", "logits"] {
        let of_part = summary.tensors.iter().filter(|t| t.meta.name().ends_with(part));
        let bytes: u64 = of_part.map(|t| t.n_bytes).sum();
        print!(" {part} {:.1}", bytes as f64 / set.labels.len() as f64);
    }
    let raw = (EACH * 4 + CLASSES * 4 + 4 + 8) as f64;
    let whole = message.len() as f64 / set.labels.len() as f64;
    println!(", all {whole:.1}: {:.1} times less than f32, u32 and i64", raw / whole);
    Ok(())
}

fn table(set: &Set) -> Result<()> {
    let print = |spec: String| -> Result<()> {
        let (bits, nmse) = measure(set, spec.parse()?)?;
        println!("{spec:<36} {bits:>7.3} bits  NMSE {nmse:.2e}");
        Ok(())
    };
    ["none", "zstd", "lossless"].iter().try_for_each(|spec| print(spec.to_string()))?;
    for q in [1, 2, 3, 4, 6, 8] {
        for (transform, options) in TRANSFORMS {
            print(format!("{transform}|q={q}{options}|zstd"))?;
        }
    }
    Ok(())
}

/// Bits of a whole later upload for each value of the features, and NMSE of what the store has.
fn measure(set: &Set, spec: Spec) -> Result<(f64, f64)> {
    let mut store = FeatureStore::open(StoreOptions::new(1, &SHAPE, CLASSES))?;
    store.receive(0, 0, &set.message(spec.clone(), 0)?)?;
    let later = set.message(spec, 1)?;
    match store.receive(0, 1, &later)? {
        Upload::Taken { .. } => {}
        other => return Err(format!("{other:?}").into()),
    }
    let mut decoded = Vec::new();
    store.read(&set.samples(), &mut decoded, &mut Vec::new(), &mut Vec::new())?;
    let square = |v: f64| v * v;
    let pairs = set.features.iter().zip(&decoded);
    let error: f64 = pairs.map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
    let norm: f64 = set.features.iter().map(|x| square(f64::from(*x))).sum();
    Ok((later.len() as f64 * 8.0 / set.features.len() as f64, error / norm))
}

/// How fast a store in a folder takes an upload, and is read one sample after the other in an
/// arbitrary order, from files and from memory.
fn store(set: &Set) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let message = set.message(FeatureSpecs::default().features, 0)?;
    let decoded = (set.features.len() * 4) as f64 / 1e6;
    let mut samples = set.samples();
    samples.sort_by_key(|(_, id)| fedpress::derive_key(&[u64::from(*id)]));
    for memory in [0, u64::MAX] {
        let mut options = StoreOptions::new(1, &SHAPE, CLASSES);
        (options.folder, options.memory) = (Some(folder.path().to_owned()), memory);
        let mut store = FeatureStore::open(options)?;
        store.remove(0)?;
        let start = Instant::now();
        store.receive(0, 0, &message)?;
        let received = decoded / start.elapsed().as_secs_f64();
        let start = Instant::now();
        for batch in samples.chunks(BATCH) {
            store.read(batch, &mut Vec::new(), &mut Vec::new(), &mut Vec::new())?;
        }
        let read = decoded / start.elapsed().as_secs_f64();
        println!(
            "{} MB in memory: received at {received:.0} MB/s of decoded features, synced; \
            read at {read:.0} MB/s",
            store.held() / 1_000_000
        );
    }
    Ok(())
}

/// Gaussian noise, smoothed over three by three pixels, scaled to a deviation of 1, minus `shift`,
/// rectified. Channels differ in scale by up to eight, as those of a trained stem do.
fn made(name: &str, shift: f64) -> Set {
    let [channels, height, width] = SHAPE;
    let mut state = 1u64;
    let mut uniform = move || {
        state += 1;
        (fedpress::derive_key(&[9, state]) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut normal = move || {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * uniform()).cos()
    };
    let mut features = Vec::new();
    for map in 0..N * channels {
        let noise: Vec<f64> = (0..(height + 2) * (width + 2)).map(|_| normal()).collect();
        let scale = 8f64.powf((map % channels) as f64 / (channels - 1) as f64);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let rows = (y..y + 3).map(|y| &noise[y * (width + 2) + x..][..3]);
            let smooth = rows.flatten().sum::<f64>() / 3.0;
            features.push((scale * (smooth - shift).max(0.0)) as f32);
        }
    }
    let logits = (0..N * CLASSES).map(|_| (2.0 * normal()) as f32).collect();
    let labels = (0..N as u64).map(|i| (fedpress::derive_key(&[8, i]) % 10) as u16).collect();
    Set { name: name.into(), features, logits, labels }
}

/// The tensors `features` (f16 or f32), `logits` (f32) and `labels` (i64) of a safetensors file.
fn read(path: &str) -> Result<Set> {
    let bytes = std::fs::read(path)?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
    let floats = |name: &str| -> Result<Vec<f32>> {
        let tensor = tensors.tensor(name)?;
        let dtype = match tensor.dtype() {
            safetensors::Dtype::F16 => fedpress::DType::F16,
            _ => fedpress::DType::F32,
        };
        let shape = tensor.shape().to_vec();
        let data = tensor.data().to_vec();
        let tensor = fedpress::Tensor { name: name.into(), dtype, shape, data };
        tensor.to_f32().ok_or_else(|| "no floats".into())
    };
    let labels = tensors.tensor("labels")?;
    let labels = labels.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as u16);
    let (features, logits) = (floats("features")?, floats("logits")?);
    Ok(Set { name: "the file".into(), features, logits, labels: labels.collect() })
}
