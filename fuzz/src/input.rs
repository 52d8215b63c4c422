//! Structured input from the bytes of the fuzzer. Everything is bounded, so that a run is short.

use crate::small_stream;
use arbitrary::Unstructured;
use fedpress::{DType, EncodeOptions, NonFinite, Seeds, Spec, Tensor};

/// A reader of decisions.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A kind and a body for a record; `None` when the bytes are used up.
    pub(crate) fn record(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.0.is_empty() {
            return None;
        }
        let kind = self.pick(&[1, 2, 3, 0x81, 0x82, 0x83, 0xC0, 0x11]);
        let length = self.below(256).min(self.0.len());
        Some((kind, self.0.bytes(length).ok()?.to_vec()))
    }

    fn text(&mut self) -> String {
        let q = 1 + self.below(16);
        let transform = self.pick(&[
            "identity",
            "hadamard",
            "hadamard,block=256",
            "hadamard,block=32768",
            "kashin",
            "kashin,lambda=2,block=512",
            "kashin,lambda=1,clip",
        ]);
        let subsample = self.pick(&["", "|subsample=0.5", "|subsample=0.01", "|subsample=1"]);
        let block = self.pick(&["", ",block=256", ",block=65536", ",nearest"]);
        let zstd = self.pick(&["", "|zstd", "|zstd=-3"]);
        match self.below(8) {
            0 => "lossless".into(),
            1 => "none".into(),
            2 => format!("{transform}{subsample}{zstd}"),
            _ => format!("{transform}{subsample}|q={q}{block}{zstd}"),
        }
    }

    fn tensor(&mut self, name: usize) -> Option<Tensor> {
        let dtype = self.pick(&DType::ALL);
        let n = match self.below(4) {
            0 => self.below(4),
            1 => self.below(300),
            _ => self.below(9000),
        };
        let shape = match self.below(3) {
            0 => vec![n as u64],
            1 => vec![1, n as u64, 1],
            _ => vec![n as u64 / 2, 2],
        };
        let n = shape.iter().product::<u64>() as usize;
        // A pattern that repeats what bytes there are, so that large tensors need few of them.
        let length = self.below(64).min(self.0.len());
        let pattern = match self.0.bytes(length).ok()? {
            [] => &[0][..],
            bytes => bytes,
        };
        let data = pattern.iter().copied().cycle().take(n * dtype.size()).collect();
        Some(Tensor { name: format!("t{name}"), dtype, shape, data })
    }

    /// Tensors, a pipeline, and how to encode them.
    pub(crate) fn stream(&mut self) -> Option<(Vec<Tensor>, Spec, EncodeOptions)> {
        let shared = self.0.arbitrary().ok()?;
        let seeds = Seeds { shared, private: !shared, round: shared >> 7, client: 3 };
        let mut options = EncodeOptions::new(seeds);
        options.min_values = self.pick(&[0, 1, 1024]);
        options.group_log2 = self.pick(&[12, 13, 20]);
        options.index = self.below(2) == 1;
        let spec = self.text().parse().ok()?;
        let tensors = (0..self.below(4)).map(|i| self.tensor(i)).collect::<Option<_>>()?;
        Some((tensors, spec, options))
    }

    /// A stream, perhaps with a few bytes changed or its end cut off.
    pub(crate) fn valid_or_mangled_stream(&mut self) -> Vec<u8> {
        let Some((tensors, spec, mut options)) = self.stream() else { return Vec::new() };
        options.non_finite = NonFinite::Lossless;
        let mut stream = small_stream(&spec, options, &tensors);
        for _ in 0..self.below(4) {
            let at = self.below(stream.len().max(1));
            if let Some(byte) = stream.get_mut(at) {
                *byte ^= 1 << self.below(8);
            }
        }
        if self.below(4) == 1 {
            let keep = self.below(stream.len().max(1));
            stream.truncate(keep);
        }
        stream
    }

    /// Positions in ascending order.
    pub(crate) fn cuts(&mut self) -> Vec<usize> {
        let mut cuts: Vec<_> = (0..self.below(12)).map(|_| self.below(1 << 14)).collect();
        cuts.sort_unstable();
        cuts
    }

    /// A finite weight.
    pub(crate) fn weight(&mut self) -> f32 {
        self.below(9) as f32 - 4.0
    }
}
