//! Groups that are coded elsewhere: streams taken apart and put together, and devices that fail.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use fedpress::device::{DecodeJob, Device, DeviceResult, EncodeJob, GroupPlan, Made};
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, EncodeOptions, Encoder, ErrorKind, Event, Seeds,
    Spec, TensorDesc, TensorView,
};
use std::sync::Arc;

const N: usize = 3 * 4096 + 700;

fn options() -> EncodeOptions {
    let seeds = Seeds::new(7, 0x5eed).in_round(2).of_client(3, 0);
    let mut options = EncodeOptions::new(seeds);
    options.group_log2 = 12;
    options
}

fn values() -> Vec<f32> {
    (0..N).map(|i| (i as f32 * 0.37).sin() * if i < 4096 { 1e30 } else { 1.0 }).collect()
}

fn encode(spec: &Spec, options: &EncodeOptions) -> fedpress::Result<Vec<u8>> {
    fedpress::encode(&[TensorView::f32("w", &[N], &values())], spec, options)
}

/// P of every chunk.
fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut chunks = ChunkDecoder::new(&DecodeOptions::default());
    let mut payloads = Vec::new();
    while let Some(event) = decoder.next(&mut bytes).unwrap() {
        if let Event::Chunk(chunk) = event {
            assert_eq!(chunk.group(), payloads.len() as u64);
            let plan = GroupPlan::of(chunk.meta()).unwrap();
            let payload = chunk.unpack(&mut chunks).unwrap();
            assert_eq!(payload.len(), plan.payload_len(chunk.n_values()));
            payloads.push(payload);
        }
    }
    payloads
}

#[test]
fn a_stream_taken_apart_and_put_together_is_the_same() {
    for spec in ["hadamard|q=4", "hadamard|q=4|zstd", "kashin|subsample=0.5|q=2", "subsample=0.1"] {
        let spec: Spec = spec.parse().unwrap();
        let expected = encode(&spec, &options()).unwrap();
        let desc = TensorDesc::new("w", DType::F32, &[N as u64]);
        let mut encoder = Encoder::new(options()).unwrap();
        encoder.begin(&desc, &spec).unwrap();
        payloads(&expected).iter().for_each(|payload| encoder.push_coded(payload).unwrap());
        encoder.end().unwrap();
        encoder.finish().unwrap();
        assert!(encoder.output() == expected, "{spec}");
    }
}

#[test]
fn coded_groups_go_where_they_fit() {
    let lossy: Spec = "hadamard|q=4".parse().unwrap();
    let groups = payloads(&encode(&lossy, &options()).unwrap());
    let push = |desc: &TensorDesc, spec: &Spec, head: &[u8], payloads: &[&[u8]]| {
        let mut encoder = Encoder::new(options()).unwrap();
        encoder.begin(desc, spec).unwrap();
        encoder.push(head).unwrap();
        payloads.iter().try_for_each(|payload| encoder.push_coded(payload))
    };
    let closed = TensorDesc::new("w", DType::F32, &[4096]);
    let open = TensorDesc::open("w", DType::F32, &[1]);
    let group = groups[0].as_slice();
    push(&closed, &lossy, &[], &[group]).unwrap();
    for (desc, spec, head, payloads, what) in [
        (&closed, &lossy, &[][..], &[group, group][..], "more coded groups"),
        (&closed, &lossy, &[], &[&group[1..]], "bytes, found"),
        (&closed, &lossy, &[0; 4], &[group], "between groups"),
        (&closed, &Spec::lossless(), &[], &[group], "lossy tensors"),
        (&open, &lossy, &[], &[group], "known shape"),
    ] {
        let error = push(desc, spec, head, payloads).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn what_does_not_decode_does_not_pass_the_check() {
    let spec: Spec = "hadamard|q=4".parse().unwrap();
    let good = payloads(&encode(&spec, &options()).unwrap()).remove(1);
    let plan =
        GroupPlan::new(&TensorDesc::new("w", DType::F32, &[4096]), &spec, &options()).unwrap();
    plan.check(4096, &good).unwrap();
    let bad_exponent = [&[5], &good[1..]].concat();
    let bad_scale = [&good[..1], &f32::NAN.to_le_bytes(), &good[5..]].concat();
    for bad in [&good[1..], &bad_exponent, &bad_scale] {
        assert_eq!(*plan.check(4096, bad).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert!(GroupPlan::new(&TensorDesc::new("w", DType::F32, &[4]), &spec, &options()).is_err());
}

/// A device that gives too little, or fails.
#[derive(Debug)]
enum Faulty {
    Breaks,
    ReturnsTooFew,
    ReturnsRubbish,
}

impl Device for Faulty {
    fn supports(&self, plan: &GroupPlan) -> bool {
        plan.spec().stages().uniform.is_some()
    }
    fn batch_values(&self) -> usize {
        1 << 14
    }
    fn encode(&self, jobs: &[EncodeJob<'_>]) -> DeviceResult<Vec<Made>> {
        match self {
            Self::Breaks => Err("it broke".into()),
            Self::ReturnsTooFew => Ok(Vec::new()),
            Self::ReturnsRubbish => Ok(vec![Made::default(); jobs.len()]),
        }
    }
    fn decode(&self, _: &mut [DecodeJob<'_>]) -> DeviceResult<()> {
        Err("it broke".into())
    }
}

#[test]
fn a_device_that_fails_is_to_blame() {
    let spec: Spec = "hadamard|q=4".parse().unwrap();
    let bytes = encode(&spec, &options()).unwrap();
    for fault in [Faulty::Breaks, Faulty::ReturnsTooFew, Faulty::ReturnsRubbish] {
        let mut encoding = options();
        encoding.device = Some(Arc::new(fault));
        let error = encode(&spec, &encoding).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Device);
        assert!(std::error::Error::source(&error).is_some());
        // What it does not support, the processor does.
        encode(&Spec::hadamard(), &encoding).unwrap();
    }
    let mut decoding = DecodeOptions::default();
    decoding.device = Some(Arc::new(Faulty::Breaks));
    let error = fedpress::decode(&bytes, &decoding).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (&ErrorKind::Device, Some("w")));
}
