//! Decodes every golden stream, at every instruction set level, and writes each again from what was
//! decoded; prints a hash of both. Equal output on two platforms says that they agree bit for bit.
//! `cargo run -p fedpress-cross -- codec/assets/v0.2`; `codec/cross/run.sh` compares platforms.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use fedpress::{DecodeOptions, EncodeOptions, NonFinite, Seeds, Simd, Tensor, Writer};
use std::error::Error;

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// The decoded tensors through other pipelines: what an encoder makes on this platform.
fn encode_again(tensors: &[Tensor], simd: Simd) -> fedpress::Result<Vec<u8>> {
    let mut options = EncodeOptions::new(Seeds::new(3, 1 << 60).in_round(1 << 40).of_client(7, 0));
    options.simd = simd;
    options.non_finite = NonFinite::Lossless;
    let mut bytes = Vec::new();
    for spec in ["hadamard|q=3", "kashin|subsample=0.6|q=5", "identity|q=9,nearest", "lossless"] {
        let mut writer = Writer::new(Vec::new(), options.clone())?;
        for (i, tensor) in tensors.iter().enumerate() {
            let name = format!("{i}{}", tensor.name);
            let view = fedpress::TensorView { name: &name, ..tensor.view() };
            writer.tensor(&view, &spec.parse()?)?;
        }
        bytes.extend(writer.finish()?);
    }
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("the folder of golden streams is missing")?;
    let mut paths: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "fp"));
    paths.sort();
    for path in &paths {
        let stream = std::fs::read(path)?;
        let expected = std::fs::read(path.with_extension("expected"))?;
        let mut line = String::new();
        for simd in [Simd::Auto, Simd::Avx2, Simd::Scalar] {
            let mut options = DecodeOptions::default();
            options.simd = simd;
            let tensors = fedpress::decode(&stream, &options)?;
            let elements: Vec<u8> = tensors.iter().flat_map(|t| t.data.clone()).collect();
            if elements != expected {
                return Err(format!("{}: decoded values differ at {simd:?}", path.display()).into());
            }
            let again = encode_again(&tensors, simd)?;
            let now = format!("{:016x} {:016x}", hash(&elements), hash(&again));
            if !line.is_empty() && line != now {
                return Err(format!("{}: bytes differ at {simd:?}", path.display()).into());
            }
            line = now;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name} {line}");
    }
    Ok(())
}
