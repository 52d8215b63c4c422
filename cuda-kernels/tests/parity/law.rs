//! The law: streams of processor and device are equal, and each decodes the other's.

use crate::numbers::{Kind, elements, values};
use fedpress::{DType, DecodeOptions, Device, EncodeOptions, Event, Seeds, Spec, TensorView};
use std::sync::Arc;

/// One tensor and what happens to it.
#[derive(Debug, Clone)]
pub struct Case {
    pub spec: String,
    pub dtype: DType,
    pub kind: Kind,
    pub n: usize,
    pub group_log2: u8,
    pub seed: u64,
    /// Whether groups go losslessly where that is smaller.
    pub smaller: bool,
}

impl Case {
    pub fn new(spec: impl Into<String>, n: usize) -> Self {
        let spec = spec.into();
        let (dtype, kind) = (DType::F32, Kind::Plain);
        Self { spec, dtype, kind, n, group_log2: 20, seed: 1, smaller: false }
    }

    fn options(&self, device: Option<Arc<dyn Device>>) -> EncodeOptions {
        let shared = self.seed ^ 0xabcd;
        let seeds = Seeds::new(shared, self.seed + 99).in_round(3).of_client(self.seed % 7, 0);
        let mut options = EncodeOptions::new(seeds);
        options.min_values = 0;
        options.group_log2 = self.group_log2;
        options.smaller = self.smaller;
        options.device = device;
        options
    }

    fn encode(&self, device: Option<Arc<dyn Device>>) -> Vec<u8> {
        let data = elements(self.dtype, &values(self.kind, self.n, self.seed));
        let shape = [self.n];
        let view = TensorView { name: "w", dtype: self.dtype, shape: &shape, data: &data };
        let spec: Spec = self.spec.parse().unwrap();
        fedpress::encode(&[view], &spec, &self.options(device))
            .unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }

    /// Checks the law.
    pub fn check(&self, device: &Arc<dyn Device>) {
        let bytes = self.encode(None);
        let others = self.encode(Some(device.clone()));
        assert!(bytes == others, "{self:?}: streams differ{}", first_difference(&bytes, &others));
        let mut decoding = DecodeOptions::default();
        let expected = fedpress::decode(&bytes, &decoding).unwrap();
        let sums = add(&bytes, &decoding, self.n);
        decoding.device = Some(device.clone());
        let found = fedpress::decode(&bytes, &decoding).unwrap_or_else(|e| panic!("{self:?}: {e}"));
        let (expected, found) = (&expected[0].data, &found[0].data);
        assert!(expected == found, "{self:?}: values differ{}", first_difference(expected, found));
        assert!(sums == add(&bytes, &decoding, self.n), "{self:?}: sums differ");
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> String {
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    format!(" at byte {at:?} of {} and {}", a.len(), b.len())
}

/// Bits of sums to which the tensor was added.
fn add(mut bytes: &[u8], options: &DecodeOptions, n: usize) -> Vec<u32> {
    let mut sums: Vec<f32> = (0..n).map(|i| i as f32 * 0.01).collect();
    let mut decoder = fedpress::Decoder::new(options.clone());
    let mut chunks = fedpress::ChunkDecoder::new(options);
    while let Some(event) = decoder.next(&mut bytes).unwrap() {
        if let Event::Chunk(chunk) = event {
            let start = chunk.first_value() as usize;
            let part = &mut sums[start..start + chunk.n_values()];
            chunk.add_into(&mut chunks, part, 0.3).unwrap();
        }
    }
    sums.into_iter().map(f32::to_bits).collect()
}
