//! Groups of many tensors in one call of the device, in any order.

use crate::device;
use crate::numbers::{KINDS, elements, values};
use fedpress::device::{DecodeJob, DecodeTarget, EncodeJob, GroupPlan};
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, Device, EncodeOptions, EncodedChunk, Event, Seeds,
    Spec, TensorDesc, TensorView,
};
use fedpress_cuda::Error;
use std::sync::Arc;

fn options() -> EncodeOptions {
    let mut options = EncodeOptions::new(Seeds::new(7, 0x5eed).in_round(2).of_client(3, 9));
    options.group_log2 = 12;
    options.min_values = 0;
    options.smaller = false;
    options
}

/// Tensors of several groups and of less than one, of every kind of values.
fn tensors() -> Vec<(String, DType, usize, Vec<u8>)> {
    let lengths = [3 * 4096, 5, 4096, 2 * 4096 + 77, 300, 4097, 2 * 4096];
    let types = [DType::F32, DType::BF16, DType::F16];
    let all = KINDS.into_iter().zip(lengths).enumerate();
    all.map(|(i, (kind, n))| {
        let dtype = types[i % 3];
        (format!("w{i}"), dtype, n, elements(dtype, &values(kind, n, i as u64)))
    })
    .collect()
}

fn encode(spec: &str, options: &EncodeOptions) -> Vec<u8> {
    let (tensors, spec) = (tensors(), spec.parse().unwrap());
    // Rows of one: a vector beside others would be spared.
    let shapes: Vec<_> = tensors.iter().map(|(_, _, n, _)| [*n, 1]).collect();
    let views = tensors.iter().zip(&shapes).map(|((name, dtype, _, data), shape)| {
        let (name, dtype, shape, data) = (&name[..], *dtype, &shape[..], &data[..]);
        TensorView { name, dtype, shape, data }
    });
    fedpress::encode(&views.collect::<Vec<_>>(), &spec, options).unwrap()
}

const SPECS: [&str; 5] = [
    "hadamard|q=4",
    "hadamard,block=256|subsample=0.3|q=3,block=256",
    "kashin,block=1024|q=5,nearest",
    "subsample=0.6",
    "q=4,nearest",
];

#[test]
fn small_tensors_by_the_dozen() {
    let Some(device) = device() else { return };
    for spec in SPECS {
        let with_device = options().with_device(device.clone());
        let (expected, found) = (encode(spec, &options()), encode(spec, &with_device));
        assert!(expected == found, "{spec}: streams differ");
    }
}

/// The chunks of a stream.
fn chunks(mut bytes: &[u8]) -> Vec<EncodedChunk> {
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut chunks = Vec::new();
    while let Some(event) = decoder.next(&mut bytes).unwrap() {
        if let Event::Chunk(chunk) = event {
            chunks.push(chunk);
        }
    }
    chunks
}

/// Those of all specs, the groups of each tensor still one behind the other.
fn all_chunks() -> Vec<EncodedChunk> {
    SPECS.iter().flat_map(|spec| chunks(&encode(spec, &options()))).collect()
}

/// Every other one in descending order, so that few follow each other.
fn shuffled<T>(items: Vec<T>) -> Vec<T> {
    let (odd, even): (Vec<_>, Vec<_>) =
        items.into_iter().enumerate().partition(|(i, _)| i % 2 == 1);
    even.into_iter().chain(odd.into_iter().rev()).map(|(_, item)| item).collect()
}

#[test]
fn small_jobs_to_encode_in_any_order() {
    let Some(device) = device() else { return };
    let tensors = tensors();
    let mut chunk_decoder = ChunkDecoder::new(&DecodeOptions::default());
    for chunks in [all_chunks(), shuffled(all_chunks())] {
        let plans: Vec<_> = chunks.iter().map(|chunk| plan_of(chunk, &tensors)).collect();
        let jobs: Vec<_> = chunks
            .iter()
            .zip(&plans)
            .map(|(chunk, (plan, data))| {
                let start = plan.dtype().byte_len(chunk.first_value() as usize);
                let end = start + plan.dtype().byte_len(chunk.n_values());
                EncodeJob { plan, group: chunk.group(), elements: &data[start..end] }
            })
            .collect();
        let made = device.encode(&jobs).unwrap();
        assert_eq!(made.len(), jobs.len());
        for (made, chunk) in made.iter().zip(&chunks) {
            let expected = chunk.unpack(&mut chunk_decoder).unwrap();
            let (name, group) = (chunk.meta().name(), chunk.group());
            assert!(made.payload == expected, "{name}, group {group}: streams differ");
            assert_eq!(made.payload[0] as i8, GroupPlan::exponent(made.peak));
        }
    }
}

/// What encodes the tensor of a chunk, and its elements.
fn plan_of<'a>(
    chunk: &EncodedChunk,
    tensors: &'a [(String, DType, usize, Vec<u8>)],
) -> (GroupPlan, &'a [u8]) {
    let desc: &TensorDesc = chunk.meta().desc();
    let data = tensors.iter().find(|(name, ..)| *name == desc.name).unwrap();
    let spec: &Spec = chunk.spec();
    (GroupPlan::new(desc, spec, &options()).unwrap(), &data.3)
}

/// What a chunk is decoded to, and how it was before.
fn places(chunks: &[EncodedChunk]) -> Vec<(Vec<u8>, Vec<f32>)> {
    let place = |chunk: &EncodedChunk| {
        let n = chunk.n_values();
        (vec![0; chunk.meta().dtype().byte_len(n)], (0..n).map(|i| i as f32 * 0.01).collect())
    };
    chunks.iter().map(place).collect()
}

/// None for elements, else a weight.
fn weight(i: usize) -> Option<f32> {
    [None, None, Some(0.5), Some(0.5), Some(-0.3)][i / 3 % 5]
}

#[test]
fn small_jobs_to_decode_in_any_order() {
    let Some(device) = device() else { return };
    let mut decoder = ChunkDecoder::new(&DecodeOptions::default());
    for chunks in [all_chunks(), shuffled(all_chunks())] {
        let (mut expected, mut found) = (places(&chunks), places(&chunks));
        for (i, (chunk, (elements, sums))) in chunks.iter().zip(&mut expected).enumerate() {
            match weight(i) {
                None => chunk.decode(&mut decoder, elements).unwrap(),
                Some(weight) => chunk.add_into(&mut decoder, sums, weight).unwrap(),
            }
        }
        let plans: Vec<_> = chunks.iter().map(|c| GroupPlan::of(c.meta()).unwrap()).collect();
        let coded: Vec<_> = chunks.iter().map(|c| c.unpack(&mut decoder).unwrap()).collect();
        let parts = plans.iter().zip(&coded).zip(&chunks).zip(&mut found).enumerate();
        let mut jobs: Vec<_> = parts
            .map(|(i, (((plan, payload), chunk), (elements, sums)))| {
                let target = match weight(i) {
                    None => DecodeTarget::Elements(elements),
                    Some(weight) => DecodeTarget::Add { sums, weight },
                };
                DecodeJob { plan, group: chunk.group(), payload, target }
            })
            .collect();
        device.decode(&mut jobs).unwrap();
        for (i, (a, b)) in expected.iter().zip(&found).enumerate() {
            let bits = |sums: &[f32]| sums.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(a.0 == b.0 && bits(&a.1) == bits(&b.1), "job {i}");
        }
    }
}

#[test]
fn small_jobs_that_cannot_be_are_refused() {
    let Some(device) = device() else { return };
    let device: Arc<dyn Device> = device;
    let desc = TensorDesc::new("w", DType::F32, &[3 * 4096]);
    let plan = &GroupPlan::new(&desc, &"hadamard|q=4".parse().unwrap(), &options()).unwrap();
    let (elements, group) = (vec![0u8; 4 * 4097], 0);
    for n_bytes in [0, 3, 4 * 4097] {
        let job = EncodeJob { plan, group, elements: &elements[..n_bytes] };
        let error = device.encode(&[job]).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::InvalidArgument(_))), "{error}");
    }
    assert!(device.encode(&[]).unwrap().is_empty());
    let payload = vec![0; plan.payload_len(4096)];
    let mut sums = vec![[1f32; 4096]; 2];
    let lengths = [payload.len(), payload.len() - 1];
    let targets = sums.iter_mut().zip(lengths).enumerate();
    let mut jobs: Vec<_> = targets
        .map(|(i, (sums, n))| {
            let target = DecodeTarget::Add { sums, weight: 1.0 };
            DecodeJob { plan, group: i as u64, payload: &payload[..n], target }
        })
        .collect();
    let error = device.decode(&mut jobs).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::InvalidArgument(_))), "{error}");
    assert!(sums.iter().flatten().all(|sum| *sum == 1.0), "nothing is added after an error");
}
