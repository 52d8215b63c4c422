//! Speed of the kernels against a copy within the device, measured in the same run.
//!
//! `cargo bench -p fedpress-cuda`, or `run-on-gpu.sh` on a machine without Rust. Refuses the
//! simulated device: its times say nothing about a GPU.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use fedpress::device::GroupPlan;
use fedpress::{DType, Device, EncodeOptions, Seeds, TensorDesc, TensorView};
use fedpress_cuda::{Cuda, Measure, Measured, Result};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// 1 GiB of f32, many times what any cache holds.
const GROUPS: usize = 256;
const REPEATS: usize = 30;

fn main() -> ExitCode {
    // `cargo test` runs benches to see whether they start.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let device = match Cuda::open() {
        Ok(device) if device.is_simulated() => {
            eprintln!("refused: {} is not a GPU", device.name());
            return ExitCode::FAILURE;
        }
        Ok(device) => device,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match table(&device).and_then(|()| host_to_host(device)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> EncodeOptions {
    EncodeOptions::new(Seeds::new(7, 0x5eed))
}

fn plan(
    basis: &str,
    dtype: DType,
    block_log2: u32,
    q: u32,
) -> std::result::Result<GroupPlan, fedpress::Error> {
    let block = 1u64 << block_log2;
    let spec = format!("{basis},block={block}|q={q},block={block}").parse()?;
    GroupPlan::new(&TensorDesc::new("w", dtype, &[1 << 20]), &spec, &options())
}

fn table(device: &Cuda) -> Result<()> {
    let copy = device.measure_copy(GROUPS << 22, REPEATS)?;
    println!("device                {}", device.name());
    println!("device-to-device copy {:.0} GB/s, read and written", copy.rate() / 1e9);
    println!("| kernel | block | type | q | GB/s of values | bytes a value, at least | of copy |");
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, k: u32, dtype: DType, q: u32, m: Measured| {
        let size = dtype.byte_len(1) as f64;
        println!(
            "| {name} | 2^{k} | {dtype} | {q} | {:.0} | {:.3} | {:.0}% |",
            m.values as f64 * size / m.seconds / 1e9,
            m.bytes as f64 / m.values as f64,
            100.0 * m.rate() / copy.rate(),
        );
    };
    let mut cases: Vec<_> = (8..=15).map(|k| (k, DType::F32, 4)).collect();
    cases.extend([1, 2, 3, 8, 16].map(|q| (12, DType::F32, q)));
    cases.extend([(12, DType::F16, 4), (12, DType::BF16, 4)]);
    for (k, dtype, q) in cases {
        let Ok(plan) = plan("hadamard", dtype, k, q) else { continue };
        if q == 4 {
            row("rotate", k, dtype, 0, device.measure(Measure::Rotate, &plan, GROUPS, REPEATS)?);
        }
        row("encode", k, dtype, q, device.measure(Measure::Encode, &plan, GROUPS, REPEATS)?);
        row("decode", k, dtype, q, device.measure(Measure::Decode, &plan, GROUPS, REPEATS)?);
    }
    // By default a frame has a quarter more coefficients, and the representation five transforms.
    for k in 8..=14 {
        let Ok(plan) = plan("kashin", DType::F32, k, 4) else { continue };
        let measured = device.measure(Measure::Encode, &plan, GROUPS, REPEATS)?;
        row("encode, Kashin", k, DType::F32, 4, measured);
    }
    Ok(())
}

/// What a caller without device memory sees: both copies, and framing, beside the processor alone.
fn host_to_host(device: Cuda) -> Result<()> {
    let values: Vec<f32> = (0..1u32 << 26).map(|i| (i % 1000) as f32 * 0.001 - 0.5).collect();
    let shape = [values.len()];
    let run = |device: Option<Arc<dyn Device>>| -> std::result::Result<f64, fedpress::Error> {
        let mut options = options();
        options.device = device;
        let view = TensorView::f32("w", &shape, &values);
        let spec = "hadamard|q=4".parse()?;
        fedpress::encode(&[view], &spec, &options)?;
        let start = Instant::now();
        fedpress::encode(&[view], &spec, &options)?;
        Ok(4.0 * values.len() as f64 / start.elapsed().as_secs_f64() / 1e9)
    };
    for (name, device) in [("processor, one thread", None), ("device", Some(Arc::new(device) as _))]
    {
        match run(device) {
            Ok(rate) => println!("encode, memory to memory, {name}: {rate:.2} GB/s of f32"),
            Err(error) => println!("encode, memory to memory, {name}: {error}"),
        }
    }
    Ok(())
}
