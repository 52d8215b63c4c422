//! What the fuzz targets do, as plain functions of bytes: a target is a shell of three lines, and
//! `cargo test` replays `fuzz/regressions/` through the same functions.
//!
//! To join: write a function here, a shell in `fuzz_targets/`, and add its name to [`TARGETS`].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a broken law has to crash the fuzzer"
)]

mod exchange;
mod input;
mod message;
pub mod seeds;

pub use exchange::exchange;
use fedpress::{
    Comparison, DecodeOptions, Decoder, EncodeOptions, ErrorKind, Event, NonFinite, Reader, Simd,
    Spec, Tensor, Writer,
};
use input::Input;
pub use message::message;

/// A name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("decode", decode),
    ("decode_prefixed", decode_prefixed),
    ("round_trip", round_trip),
    ("arrival", arrival),
    ("spec", spec),
    ("add_into", add_into),
    ("message", message),
    ("exchange", exchange),
];

/// Memory that decoding may take here.
const MEMORY: u64 = 64 << 20;

fn options(simd: Simd) -> DecodeOptions {
    let mut options = DecodeOptions::default();
    options.memory = MEMORY;
    options.simd = simd;
    options
}

/// Arbitrary bytes: an error or tensors, never a panic, at every level; and headers alone must agree.
pub fn decode(data: &[u8]) {
    let decoded = fedpress::decode(data, &options(Simd::Auto));
    let said = |e: &fedpress::Error| e.to_string();
    let scalar = fedpress::decode(data, &options(Simd::Scalar));
    assert_eq!(decoded.as_ref().map_err(said), scalar.as_ref().map_err(said));
    let summary = fedpress::summarize(&mut std::io::Cursor::new(data), &options(Simd::Auto));
    if let Ok(tensors) = &decoded {
        let names = |t: &Tensor| (t.name.clone(), t.dtype, t.view().desc().shape);
        let summary = summary.unwrap();
        let listed = summary.tensors.iter();
        let listed: Vec<_> =
            listed.map(|t| (t.meta.name().to_owned(), t.meta.dtype(), t.shape.clone())).collect();
        assert_eq!(tensors.iter().map(names).collect::<Vec<_>>(), listed);
        assert_eq!(summary.n_bytes, data.len() as u64);
    }
    if let Some(name) = data.get(..3).and_then(|n| std::str::from_utf8(n).ok()) {
        let _ = fedpress::read_tensor(&mut std::io::Cursor::new(data), name, &options(Simd::Auto));
    }
}

/// Arbitrary bodies in well-formed records behind a valid preamble, so that the fuzzer reaches
/// what checksums would hide.
pub fn decode_prefixed(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stream = b"\x89FDP\r\n\x1a\n\x00\x02".to_vec();
    while let Some((kind, body)) = input.record() {
        seeds::put_record(&mut stream, kind, &body);
    }
    decode(&stream);
}

/// Arbitrary tensors through an arbitrary pipeline and back: the law of each.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let Some((tensors, spec, mut encode_options)) = input.stream() else { return };
    encode_options.non_finite = NonFinite::Lossless;
    let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
    let bytes = fedpress::encode(&views, &spec, &encode_options).unwrap();
    encode_options.simd = Simd::Scalar;
    encode_options.threads = 3;
    assert_eq!(bytes, fedpress::encode(&views, &spec, &encode_options).unwrap());
    let decoded = fedpress::decode(&bytes, &options(Simd::Auto)).unwrap();
    assert_eq!(decoded, fedpress::decode(&bytes, &options(Simd::Scalar)).unwrap());
    for (tensor, decoded) in tensors.iter().zip(&decoded) {
        let head = |t: &Tensor| (t.name.clone(), t.dtype, t.shape.clone());
        assert_eq!(head(tensor), head(decoded));
        check_law(tensor, decoded, &spec, &encode_options);
    }
    assert_eq!(tensors.len(), decoded.len());
}

fn check_law(tensor: &Tensor, decoded: &Tensor, spec: &Spec, options: &EncodeOptions) {
    let desc = tensor.view().desc();
    let finite = fedpress::first_non_finite(tensor.dtype, &tensor.data).is_none();
    // Of a tensor with NaN or infinity the groups that hold them are exact.
    if !fedpress::effective_spec(&desc, spec, options).is_lossy() {
        assert_eq!(tensor.data, decoded.data);
        return;
    }
    if !finite {
        return;
    }
    assert_eq!(fedpress::first_non_finite(decoded.dtype, &decoded.data), None);
    let mut comparison = Comparison::default();
    comparison.update(tensor.dtype, &tensor.data, &decoded.data).unwrap();
    let values = tensor.to_f32().unwrap();
    let largest = values.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    if spec.to_string().starts_with("identity|q=") && !spec.to_string().contains("subsample") {
        // No error is larger than the widest range, whatever the bits.
        assert!(comparison.max_error() <= 2.0 * largest * 1.01, "{spec}: {comparison:?}");
    }
    if largest == 0.0 {
        assert_eq!(comparison.max_error(), 0.0);
    }
}

/// Events do not depend on how bytes arrive.
pub fn arrival(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let stream = input.valid_or_mangled_stream();
    let whole = events(&stream, &[]);
    assert_eq!(whole, events(&stream, &cuts));
    if stream.len() < 4096 {
        assert_eq!(whole, events(&stream, &(1..stream.len()).collect::<Vec<_>>()));
    }
}

/// What the decoder says about a stream that arrives in pieces, in words.
fn events(stream: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut decoder = Decoder::new(options(Simd::Auto));
    let mut said = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        let cut = cut.clamp(at, stream.len());
        let mut piece = &stream[at..cut];
        at = cut;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(Event::Chunk(chunk))) => {
                    said.push(format!("{} values at {}", chunk.n_values(), chunk.first_value()));
                }
                Ok(Some(event)) => said.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    said.push(error.to_string());
                    let again = decoder.next(&mut piece).unwrap_err();
                    assert_eq!(*again.kind(), ErrorKind::Poisoned);
                    return said;
                }
            }
        }
        assert!(piece.is_empty());
    }
    said.push(format!("{:?}", decoder.finish().map_err(|e| e.to_string())));
    said
}

/// The parser of specs: no panic, and what it prints parses to the same.
pub fn spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Spec>() {
        Ok(spec) => {
            let printed = spec.to_string();
            assert_eq!(printed.parse::<Spec>().unwrap(), spec, "{printed}");
            assert_eq!(printed.parse::<Spec>().unwrap().to_string(), printed);
        }
        Err(error) => assert_eq!(*error.kind(), ErrorKind::InvalidArgument),
    }
}

/// Decode-and-add of a mangled stream: what was added is what the error says, and no more.
pub fn add_into(data: &[u8]) {
    let mut input = Input::new(data);
    let weight = input.weight();
    let stream = input.valid_or_mangled_stream();
    let mut reader = Reader::new(&stream[..], options(Simd::Auto));
    while let Ok(Some(tensor)) = reader.next_tensor() {
        let n = tensor.meta().n_values().unwrap_or(5000).min(1 << 20) as usize;
        let mut sums = vec![1.0f32; n];
        match tensor.add_into(&mut sums, weight) {
            Ok(added) => assert_eq!(added, n as u64),
            Err(error) => {
                let added = error.values_done().unwrap() as usize;
                assert!(sums[added..].iter().all(|s| *s == 1.0), "{error}");
                return;
            }
        }
    }
}

/// A stream with one tensor, for seeds and for mangling.
pub fn small_stream(spec: &Spec, options: EncodeOptions, tensors: &[Tensor]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    for tensor in tensors {
        writer.tensor(&tensor.view(), spec).unwrap();
    }
    writer.finish().unwrap()
}
