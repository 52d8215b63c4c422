//! Which container it is: by its name, and by its first bytes when the name says nothing.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Error, Result, anyhow, bail, ensure};

use super::{Bytes, RawOptions, foreign, safetensors};

/// The containers that can be read and, but for the index, written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One `.safetensors` file.
    Safetensors,
    /// `model.safetensors.index.json` and the shards it names.
    SafetensorsIndex,
    /// One NumPy array.
    Npy,
    /// A zip of NumPy arrays.
    Npz,
    /// The bytes of one tensor and nothing else.
    Raw,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] =
        [Self::Safetensors, Self::SafetensorsIndex, Self::Npy, Self::Npz, Self::Raw];

    /// How the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::SafetensorsIndex => "safetensors-index",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Raw => "raw",
        }
    }

    /// The format that a file name promises, if it promises one.
    pub fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (stem, extension) = name.rsplit_once('.')?;
        match extension {
            "safetensors" => Some(Self::Safetensors),
            "json" if stem.ends_with(".index") => Some(Self::SafetensorsIndex),
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "raw" => Some(Self::Raw),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| anyhow!("unknown format {name:?}: one of {names}"))
    }
}

/// The format of opened bytes: the one that was asked for, else that of the name, else that of the first
/// bytes. Files of other programs are refused with the line that converts them.
pub(super) fn detect(bytes: &Bytes, options: &RawOptions) -> Result<Format> {
    match (options.format, Format::from_path(bytes.place())) {
        (Some(format), _) => Ok(format),
        (None, Some(format)) => promised(format, bytes.place(), options),
        (None, None) if is_described(options) => Ok(Format::Raw),
        (None, None) => by_content(bytes.place(), bytes.head()),
    }
}

/// Whether the command line says what raw bytes are.
fn is_described(options: &RawOptions) -> bool {
    options.dtype.is_some() || options.shape.is_some()
}

/// The format that a name promises, unless the command line contradicts it.
fn promised(format: Format, place: &Path, options: &RawOptions) -> Result<Format> {
    // What NumPy has no name for is told by a dtype alone.
    let is_numpy = matches!(format, Format::Npy | Format::Npz) && options.shape.is_none();
    ensure!(
        format == Format::Raw || is_numpy || !is_described(options),
        "{}: a dtype and a shape describe raw bytes, but this is a {format} file",
        place.display()
    );
    Ok(format)
}

/// The format of a file whose name promises none that is read here.
fn by_content(place: &Path, head: &[u8]) -> Result<Format> {
    if is_pickle_name(place) {
        return Err(pickle_refusal(place));
    }
    if let Some(refusal) = foreign::refusal(place, head) {
        return Err(refusal);
    }
    match head {
        head if safetensors::is_magic(head) => Ok(Format::Safetensors),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok(Format::Npy),
        [b'P', b'K', 3, 4, ..] => Ok(Format::Npz),
        [0x80, 2..=5, ..] => Err(pickle_refusal(place)),
        [b'{', ..] => Ok(Format::SafetensorsIndex),
        head if fedpress::is_stream(head) => {
            bail!("{}: this is a stream already; decode gets its tensors back", place.display())
        }
        _ => bail!(
            "{}: neither its name nor its first bytes say what it is; raw bytes need a dtype and a \
             shape",
            place.display()
        ),
    }
}

/// Whether a name promises a kind of file that is not written here.
pub fn is_of_others(path: &Path) -> bool {
    is_pickle_name(path) || foreign::refusal(path, &[]).is_some()
}

/// Whether a file of that name is usually a pickle.
pub(super) fn is_pickle_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| {
        ["pt", "pth", "bin", "ckpt", "pkl"].iter().any(|known| e.eq_ignore_ascii_case(known))
    })
}

/// Why a pickle is not read, and what to type instead: it takes the weights out of a checkpoint of
/// training, and writes tensors that share memory each for itself.
pub(super) fn pickle_refusal(path: &Path) -> Error {
    let from = foreign::quotable(path, "model.pt");
    anyhow!(
        "{}: a pickle runs code when it is loaded, so it is not read here; convert it with\n  \
         python -c \"import torch, safetensors.torch as s; d = torch.load('{}', map_location='cpu', \
         weights_only=True); d = d.get('state_dict', d.get('model', d)); s.save_file({{k: \
         v.clone().contiguous() for k, v in d.items() if torch.is_tensor(v)}}, '{}')\"",
        path.display(),
        from.display(),
        from.with_extension("safetensors").display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_when_it_can() {
        for (name, format) in [
            ("a/model.safetensors", Some(Format::Safetensors)),
            ("MODEL.SafeTensors", Some(Format::Safetensors)),
            ("model.safetensors.index.json", Some(Format::SafetensorsIndex)),
            ("config.json", None),
            ("w.npy", Some(Format::Npy)),
            ("w.npz", Some(Format::Npz)),
            ("w.raw", Some(Format::Raw)),
            ("w", None),
            (".npy/w", None),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn the_first_bytes_decide_otherwise() {
        let detect = |head: &'static [u8]| {
            let bytes = Bytes::stream(head, Path::new("w")).unwrap();
            detect(&bytes, &RawOptions::default())
        };
        assert_eq!(detect(b"\x08\0\0\0\0\0\0\0{}      ").unwrap(), Format::Safetensors);
        assert_eq!(detect(b"\x93NUMPY\x01\x00").unwrap(), Format::Npy);
        assert_eq!(detect(b"PK\x03\x04").unwrap(), Format::Npz);
        assert_eq!(detect(b"{\"weight_map\": {}}").unwrap(), Format::SafetensorsIndex);
        assert!(detect(b"\x80\x02}q\x00.").unwrap_err().to_string().contains("torch.load"));
        assert!(detect(b"").is_err());
        assert!(detect(b"\x89FDP\r\n\x1a\n\0\x01").unwrap_err().to_string().contains("stream"));
        assert!(detect(b"\0\0\0\0\0\0\0\0\0").unwrap_err().to_string().contains("raw bytes"));
    }

    #[test]
    fn a_dtype_and_a_shape_mean_raw_unless_the_name_says_otherwise() {
        let (dtype, shape) = (Some(fedpress::DType::F32), "3".parse().ok());
        let options = RawOptions { dtype, shape, ..RawOptions::default() };
        let detect = |name: &str| {
            detect(&Bytes::stream(&b"PK\x03\x04"[..], Path::new(name)).unwrap(), &options)
        };
        assert_eq!(detect("weights.bin").unwrap(), Format::Raw);
        assert_eq!(detect("weights").unwrap(), Format::Raw);
        assert!(detect("weights.npz").unwrap_err().to_string().contains("npz"));
    }

    #[test]
    fn a_pickle_is_refused_with_the_line_that_converts_it() {
        let line = "python -c \"import torch, safetensors.torch as s; d = torch.load('model.pt', \
                    map_location='cpu', weights_only=True); d = d.get('state_dict', d.get('model', d)); \
                    s.save_file({k: v.clone().contiguous() for k, v in d.items() if \
                    torch.is_tensor(v)}, 'model.safetensors')\"";
        for name in ["model.pt", "odd 'name'.pt", "$(odd).pt"] {
            let bytes = Bytes::stream(&b""[..], Path::new(name)).unwrap();
            let error = detect(&bytes, &RawOptions::default()).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
        let error = pickle_refusal(Path::new("x/pytorch_model.bin")).to_string();
        assert!(error.contains("torch.load('x/pytorch_model.bin'"));
        assert!(error.contains("'x/pytorch_model.safetensors')"));
    }

    #[test]
    fn models_of_other_programs_are_refused_with_the_line_that_converts_them() {
        for (name, head, part) in [
            ("model.h5", &b""[..], "import h5py"),
            ("model", b"\x89HDF\r\n\x1a\n", "import h5py"),
            ("m.onnx", b"\x08\x07", "onnx.load('m.onnx')"),
            ("m.gguf", b"GGUF", "GGUFReader('m.gguf')"),
            ("weights", b"GGUF\x03\0\0\0", "import gguf"),
        ] {
            let bytes = Bytes::stream(head, Path::new(name)).unwrap();
            let error = detect(&bytes, &RawOptions::default()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("np.savez"), "{error}");
        }
    }

    #[test]
    fn names_survive_parsing() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert!("gguf".parse::<Format>().is_err());
    }
}
