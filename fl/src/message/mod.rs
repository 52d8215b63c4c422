//! Messages between server and clients: codec streams whose first record is a typed header.
//!
//! Tensors follow as in any stream. MESSAGES.md beside this crate defines the headers.

mod broadcast;
mod delta;
mod digest;
mod header;
mod rejection;
mod update;

pub use broadcast::{Broadcast, Download};
pub use delta::Delta;
pub use digest::Digest;
pub use header::Header;
pub use rejection::{Reason, Rejection};
pub use update::Update;

pub(crate) use header::{EVERYONE, RECORD};

use crate::{Error, Parameter, Result, TensorSpecs};
use fedpress::{
    DecodeOptions, Decoder, EncodeOptions, Event, NonFinite, Seeds, Spare, Spec, Writer,
};

/// Encodes header and parameters.
pub(crate) fn encode(
    header: &Header,
    parameters: &[Parameter],
    specs: &TensorSpecs,
    seeds: Seeds,
) -> Result<Vec<u8>> {
    // A client whose training diverged is told so by the server; it must not fail here.
    let options = EncodeOptions::new(seeds)
        .with_non_finite(NonFinite::Lossless)
        .with_several(parameters.len() > 1);
    // Whoever names a tensor goes before the table of what is spared.
    let of_named = options.clone().with_spare(Spare::Nothing);
    let mut writer = Writer::new(Vec::new(), of_named)?;
    writer.record(RECORD, &header.to_bytes())?;
    let lossless = Spec::lossless();
    for parameter in parameters {
        let view = parameter.view();
        let spec = match specs.by_tensor.get(&parameter.name) {
            Some(named) => named,
            None if fedpress::spared(&view.desc(), &options).is_some() => &lossless,
            None => &specs.default,
        };
        writer.tensor(&view, spec)?;
    }
    Ok(writer.finish()?)
}

/// Takes a whole message apart. The limit of `options` holds for the values of the parameters, and
/// again for what it takes to decode them.
///
/// # Errors
/// `Truncated`, `Corrupt` and so on as for any stream; `Corrupt` also where the first record is not
/// a header, or a second message follows.
pub fn decode(message: &[u8], options: &DecodeOptions) -> Result<(Header, Vec<Parameter>)> {
    let mut decoder = Decoder::with_records(options.clone());
    let mut workers = fedpress::ChunkDecoder::new(options);
    let (mut header, mut parameters) = (None, Vec::<Parameter>::new());
    let mut memory = options.memory;
    let mut input = message;
    while let Some(event) = decoder.next(&mut input)? {
        match event {
            Event::Record { kind: RECORD, body } if header.is_none() => {
                header = Some(Header::from_bytes(&body)?);
            }
            Event::Tensor(_) if header.is_none() => return Err(no_header()),
            Event::Tensor(meta) => parameters.push(empty(&meta, &mut memory)?),
            Event::Chunk(chunk) => {
                if let Some(parameter) = parameters.last_mut() {
                    let at = parameter.values.len();
                    // All of it, so that nothing is copied to make room: it has been paid for.
                    let n_values = parameter.shape.iter().product::<usize>();
                    parameter.values.reserve_exact(n_values - at);
                    parameter.values.resize(at + chunk.n_values(), 0.0);
                    chunk.decode_f32(&mut workers, &mut parameter.values[at..])?;
                }
            }
            Event::End { .. } if !input.is_empty() => {
                return Err(Error::corrupt(format!("{} bytes behind the message", input.len())));
            }
            Event::Record { kind, .. } => check_record(kind)?,
            _ => {}
        }
    }
    decoder.finish()?;
    Ok((header.ok_or_else(no_header)?, parameters))
}

/// A parameter whose values are still to come, paid for out of `memory`.
fn empty(meta: &fedpress::TensorMeta, memory: &mut u64) -> Result<Parameter> {
    let refuse = |message: String| Err(Error::corrupt(message).in_parameter(meta.name()));
    if !meta.dtype().is_lossy_capable() {
        return refuse(format!("expected f32, f16 or bf16, found {}", meta.dtype()));
    }
    let Some(n) = meta.n_values() else {
        return refuse("an open first dimension in a message".into());
    };
    let needed = n.saturating_mul(4);
    let Some(left) = memory.checked_sub(needed) else {
        let kind = fedpress::ErrorKind::LimitExceeded { limit: *memory, needed };
        let message = format!("{needed} bytes of values, the limit has {memory} left");
        return Err(Error::new(kind, message).in_parameter(meta.name()));
    };
    *memory = left;
    let shape = meta.desc().shape.iter().map(|n| *n as usize).collect();
    Ok(Parameter { name: meta.name().to_owned(), shape, values: Vec::new() })
}

/// A record of another number than the header's: fine if it may be passed over.
pub(crate) fn check_record(kind: u8) -> Result<()> {
    match kind {
        RECORD => Err(Error::corrupt("a second header")),
        kind if kind >= 0x80 => Ok(()),
        kind => {
            let supported = format!("record {RECORD:#04x}");
            Err(Error::unsupported("message", format!("record {kind:#04x}"), &supported))
        }
    }
}

pub(crate) fn no_header() -> Error {
    Error::corrupt("not a federated message: the stream does not begin with a header record")
}
