//! Values on the device: coded from there into streams, and decoded to there.

use crate::device;
use crate::numbers::{Kind, values};
use fedpress::device::GroupPlan;
use fedpress::{
    ChunkDecoder, DType, DecodeOptions, Decoder, EncodeOptions, Encoder, Event, Seeds, TensorDesc,
    TensorView,
};
use fedpress_cuda::{Error, Measure};

fn options() -> EncodeOptions {
    let seeds = Seeds::new(7, 0x5eed).in_round(2).of_client(3, 0);
    let mut options = EncodeOptions::new(seeds);
    options.group_log2 = 12;
    options
}

#[test]
fn small_streams_from_device_memory() {
    let Some(device) = device() else { return };
    let n = 3 * 4096 + 1000;
    let x = values(Kind::Plain, n, 9);
    let (options, spec) = (options(), "hadamard|q=4|zstd".parse().unwrap());
    let shape = [n];
    let expected = fedpress::encode(&[TensorView::f32("w", &shape, &x)], &spec, &options).unwrap();

    let stream = device.context().new_stream().unwrap();
    let on_device = stream.clone_htod(&x).unwrap();
    let desc = TensorDesc::new("w", DType::F32, &[n as u64]);
    let plan = GroupPlan::new(&desc, &spec, &options).unwrap();
    let mut payloads = Vec::new();
    let peaks = device.encode_resident(&stream, &plan, 0, &on_device, &mut payloads).unwrap();
    assert_eq!(peaks.len(), 4);
    let mut encoder = Encoder::new(options).unwrap();
    encoder.begin(&desc, &spec).unwrap();
    let full = plan.payload_len(4096);
    payloads.chunks(full).for_each(|payload| encoder.push_coded(payload).unwrap());
    assert!(encoder.push_coded(&payloads[..full]).is_err(), "more groups than the shape has");
    let mut encoder_again = Encoder::new(self::options()).unwrap();
    encoder_again.begin(&desc, &spec).unwrap();
    payloads.chunks(full).for_each(|payload| encoder_again.push_coded(payload).unwrap());
    encoder_again.end().unwrap();
    encoder_again.finish().unwrap();
    assert!(encoder_again.output() == expected);
}

#[test]
fn small_values_to_device_memory() {
    let Some(device) = device() else { return };
    let n = 2 * 4096 + 300;
    let x = values(Kind::Plain, n, 10);
    let spec = "hadamard|q=4|zstd".parse().unwrap();
    let bytes = fedpress::encode(&[TensorView::f32("w", &[n], &x)], &spec, &options()).unwrap();
    let expected =
        fedpress::decode(&bytes, &DecodeOptions::default()).unwrap()[0].to_f32().unwrap();

    let stream = device.context().new_stream().unwrap();
    let mut decoded = stream.alloc_zeros::<f32>(n).unwrap();
    let mut sums = stream.clone_htod(&vec![1f32; n]).unwrap();
    let mut decoder = Decoder::new(DecodeOptions::default());
    let mut chunks = ChunkDecoder::new(&DecodeOptions::default());
    let mut rest = &bytes[..];
    while let Some(event) = decoder.next(&mut rest).unwrap() {
        let Event::Chunk(chunk) = event else { continue };
        let plan = GroupPlan::of(chunk.meta()).unwrap();
        let payload = chunk.unpack(&mut chunks).unwrap();
        let start = chunk.first_value() as usize;
        let range = start..start + chunk.n_values();
        let mut part = decoded.slice_mut(range.clone());
        device
            .decode_resident::<f32, _>(&stream, &plan, chunk.group(), &payload, &mut part)
            .unwrap();
        let mut part = sums.slice_mut(range);
        device.add_resident(&stream, &plan, chunk.group(), &payload, &mut part, 0.5).unwrap();
    }
    assert_eq!(stream.clone_dtoh(&decoded).unwrap(), expected);
    let sums = stream.clone_dtoh(&sums).unwrap();
    assert!(sums.iter().zip(&expected).all(|(sum, v)| *sum == 1.0 + 0.5 * v));
}

#[test]
fn small_groups_do_not_suffer_from_others() {
    let Some(device) = device() else { return };
    let mut x = values(Kind::Huge, 2 * 4096, 4);
    x[5000] = f32::NAN;
    let desc = TensorDesc::new("w", DType::F32, &[2 * 4096]);
    let plan = GroupPlan::new(&desc, &"hadamard|q=4".parse().unwrap(), &options()).unwrap();
    let stream = device.context().new_stream().unwrap();
    let on_device = stream.clone_htod(&x).unwrap();
    let (mut both, mut alone) = (Vec::new(), Vec::new());
    let peaks = device.encode_resident(&stream, &plan, 0, &on_device, &mut both).unwrap();
    let first = on_device.slice(..4096);
    device.encode_resident(&stream, &plan, 0, &first, &mut alone).unwrap();
    assert!(peaks[0] < f32::INFINITY.to_bits() && peaks[1] >= f32::INFINITY.to_bits());
    assert!(both[..alone.len()] == alone && alone.first() != Some(&0));
}

#[test]
fn small_measurements_take_time_and_change_nothing() {
    let Some(device) = device() else { return };
    let desc = TensorDesc::new("w", DType::F32, &[2 * 4096]);
    let plan = GroupPlan::new(&desc, &"hadamard|q=4".parse().unwrap(), &options()).unwrap();
    let encode = device.measure(Measure::Encode, &plan, 2, 3).unwrap();
    let decode = device.measure(Measure::Decode, &plan, 2, 3).unwrap();
    let rotation = device.measure(Measure::Rotate, &plan, 2, 3).unwrap();
    let copy = device.measure_copy(4 * 8192, 3).unwrap();
    assert_eq!([encode.bytes, decode.bytes], [8192 * 4 + 2 * (1 + 8 + 2048); 2]);
    assert_eq!([rotation.bytes, copy.bytes], [8192 * 8; 2]);
    assert!([encode, decode, rotation, copy].iter().all(|m| m.seconds > 0.0 && m.values == 8192));
    // What takes several kernels is not measured.
    let desc = TensorDesc::new("w", DType::F32, &[1 << 20]);
    let mut large = options();
    large.group_log2 = 20;
    let plan = |spec: &str| GroupPlan::new(&desc, &spec.parse().unwrap(), &large).unwrap();
    let (kashin, stages) = (plan("kashin|q=4"), plan("hadamard|q=4,block=256"));
    assert_eq!(device.measure(Measure::Encode, &kashin, 1, 1).unwrap().values, 1 << 20);
    for (what, plan) in [(Measure::Decode, &kashin), (Measure::Encode, &stages)] {
        assert!(matches!(device.measure(what, plan, 1, 1), Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn small_wrong_calls_are_refused() {
    let Some(device) = device() else { return };
    let stream = device.context().new_stream().unwrap();
    let desc = TensorDesc::new("w", DType::F32, &[4096]);
    let spec = "hadamard|q=4".parse().unwrap();
    let plan = GroupPlan::new(&desc, &spec, &options()).unwrap();
    let halves = stream.alloc_zeros::<u16>(4096).unwrap();
    let mut payloads = Vec::new();
    let wrong_type = device.encode_resident(&stream, &plan, 0, &halves, &mut payloads);
    assert!(matches!(wrong_type, Err(Error::InvalidArgument(_))), "{wrong_type:?}");
    let values = stream.alloc_zeros::<f32>(4097).unwrap();
    let odd = device.encode_resident(&stream, &plan, 0, &values.slice(1..), &mut payloads);
    assert!(matches!(odd, Err(Error::InvalidArgument(_))), "{odd:?}");
    let mut out = stream.alloc_zeros::<f32>(4096).unwrap();
    let short = device.decode_resident::<f32, _>(&stream, &plan, 0, &[0; 7], &mut out);
    assert!(matches!(short, Err(Error::InvalidArgument(_))), "{short:?}");
}
