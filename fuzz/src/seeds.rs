//! Seed corpora: a few valid inputs of each target, from which the fuzzer starts.

use crate::small_stream;
use fedpress::{DType, EncodeOptions, PRESETS, Seeds, Tensor};

/// Appends a record of FORMAT.md section 3 with right checks.
pub fn put_record(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let at = out.len();
    out.push(kind);
    out.extend((body.len() as u32).to_le_bytes());
    let check = crc32c(&out[at..]) as u16;
    out.extend(check.to_le_bytes());
    out.extend(body);
    let checksum = crc32c(&out[at..]);
    out.extend(checksum.to_le_bytes());
}

/// Bit by bit, so that the fuzz crate does not share the codec's implementation.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0x82F6_3B78 & (c & 1).wrapping_neg()))
    })
}

/// (file name, content) of the seeds of a target.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "spec" => PRESETS
            .iter()
            .flat_map(|p| {
                [(p.name.to_owned(), p.name.into()), (format!("{}_spec", p.name), p.spec.into())]
            })
            .collect(),
        "decode" => {
            let stages = fedpress::stages().flat_map(|s| s.examples).map(|e| (*e, *e));
            let presets = PRESETS.iter().map(|p| (p.name, p.spec));
            presets.chain(stages).map(|(name, spec)| (name.to_owned(), stream(spec))).collect()
        }
        // These read decisions: bytes of any kind are valid, and a few lengths get them going.
        _ => [64usize, 256, 1024]
            .map(|n| (format!("bytes_{n}"), (0..n).map(|i| (i * 37 + n) as u8).collect()))
            .into(),
    }
}

fn stream(spec: &str) -> Vec<u8> {
    let seeds = Seeds::new(1, 2).in_round(3).of_client(4, 0);
    let mut options = EncodeOptions::new(seeds);
    options.group_log2 = 12;
    options.min_values = 100;
    options.index = true;
    let data = (0..4500u32).flat_map(|i| ((i * i % 1000) as f32 / 500.0 - 1.0).to_le_bytes());
    let tensors = [
        Tensor { name: "w".into(), dtype: DType::F32, shape: vec![9, 500], data: data.collect() },
        Tensor { name: "n".into(), dtype: DType::I64, shape: vec![], data: vec![1; 8] },
    ];
    spec.parse().map(|spec| small_stream(&spec, options, &tensors)).unwrap_or_default()
}
