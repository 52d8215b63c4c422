//! Structured input from the bytes of the fuzzer. Everything is bounded, so that a run is short.

use crate::seeds::put_record;
use crate::small_stream;
use arbitrary::Unstructured;
use fedpress::{DType, EncodeOptions, NonFinite, Seeds, Spec, Tensor};

/// Magic and version.
const PREAMBLE_LEN: usize = 10;

/// Kind and body of the first record, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<7>()?;
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let (body, rest) = rest.split_at_checked(length)?;
    Some((header[0], body, rest.get(4..)?))
}

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
        let kind = self.pick(&[1, 2, 3, 4, 0x81, 0x82, 0x83, 0xC0, 0x11]);
        let length = self.below(256).min(self.0.len());
        Some((kind, self.0.bytes(length).ok()?.to_vec()))
    }

    fn text(&mut self) -> String {
        let q = format!("q={}", 1 + self.below(16));
        match self.below(8) {
            0 => return "lossless".into(),
            1 => return "none".into(),
            _ => {}
        }
        let slots = [0x01..0x10, 0x10..0x20, 0x20..0x30, 0x31..0x40];
        let mut stages: Vec<_> = slots.into_iter().filter_map(|slot| self.stage(slot)).collect();
        if self.below(2) == 1 {
            stages.retain(|stage| !stage.starts_with("q="));
            let place = stages.iter().position(|stage| stage.starts_with("zstd"));
            stages.insert(place.unwrap_or(stages.len()), &q);
        }
        if stages.is_empty() { "none".into() } else { stages.join("|") }
    }

    /// A spec of one of the stages with these numbers, or none of them: every stage that there is.
    fn stage(&mut self, numbers: std::ops::Range<u8>) -> Option<&'static str> {
        let stages = fedpress::stages().filter(|stage| numbers.contains(&stage.id));
        let examples: Vec<_> = stages.flat_map(|stage| stage.examples).copied().collect();
        (self.below(3) > 0).then(|| self.pick(&examples))
    }

    fn tensor(&mut self, name: usize) -> Option<Tensor> {
        let dtype = self.pick(&DType::ALL);
        let n = match self.below(4) {
            0 => self.below(4),
            1 => self.below(300),
            _ => self.below(9000),
        };
        let shape = match self.below(3) {
            0 => vec![n],
            1 => vec![1, n, 1],
            _ => vec![n / 2, 2],
        };
        let n = shape.iter().product();
        // A pattern that repeats what bytes there are, so that large tensors need few of them.
        let length = self.below(64).min(self.0.len());
        let pattern = match self.0.bytes(length).ok()? {
            [] => &[0][..],
            bytes => bytes,
        };
        let data = pattern.iter().copied().cycle().take(dtype.byte_len(n)).collect();
        Some(Tensor { name: format!("t{name}"), dtype, shape, data })
    }

    /// Tensors, a pipeline, and how to encode them.
    pub(crate) fn stream(&mut self) -> Option<(Vec<Tensor>, Spec, EncodeOptions)> {
        let shared = self.0.arbitrary().ok()?;
        let seeds = Seeds::new(shared, !shared).in_round(shared >> 7).of_client(3, 0);
        let mut options = EncodeOptions::new(seeds);
        options.min_values = self.pick(&[0, 1, 1024]);
        options.group_log2 = self.pick(&[12, 13, 20]);
        options.index = self.below(2) == 1;
        options.smaller = self.below(2) == 1;
        options.several = self.below(2) == 1;
        let spec = self.text().parse().ok()?;
        let tensors = (0..self.below(4)).map(|i| self.tensor(i)).collect::<Option<_>>()?;
        Some((tensors, spec, options))
    }

    /// A stream, perhaps with a few bytes changed or its end cut off, or with records that were, behind
    /// right checks.
    pub(crate) fn valid_or_mangled_stream(&mut self) -> Vec<u8> {
        let Some((tensors, spec, mut options)) = self.stream() else { return Vec::new() };
        options.non_finite = NonFinite::Lossless;
        let mut stream = small_stream(&spec, options, &tensors);
        if self.below(2) == 1 {
            return self.forged(&stream);
        }
        self.mangle(&mut stream);
        stream
    }

    /// Changes a few bytes, or cuts the end off, or neither.
    fn mangle(&mut self, stream: &mut Vec<u8>) {
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
    }

    /// A stream whose records were dropped, doubled or mangled, with right checks: what a hostile
    /// sender can make of it.
    pub(crate) fn forged(&mut self, stream: &[u8]) -> Vec<u8> {
        let (preamble, mut rest) = stream.split_at(PREAMBLE_LEN);
        let mut forged = preamble.to_vec();
        while let Some((kind, body, behind)) = split_record(rest) {
            rest = behind;
            let mut body = body.to_vec();
            let copies = self.pick(&[1, 1, 1, 1, 1, 1, 0, 2]);
            if self.below(4) == 1 {
                self.mangle(&mut body);
            }
            (0..copies).for_each(|_| put_record(&mut forged, kind, &body));
        }
        forged
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
