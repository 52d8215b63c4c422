//! Files that hold models and are not read here: what they are, and the line that converts them.

use std::path::Path;

use anyhow::{Error, anyhow};

/// A kind of file, and how Python turns it into npz: `{from}` and `{to}` are the files.
struct Foreign {
    kind: &'static str,
    extensions: &'static [&'static str],
    /// The first bytes, from an offset on.
    magic: Option<(usize, &'static [u8])>,
    python: &'static str,
}

const FOREIGN: [Foreign; 4] = [
    Foreign {
        kind: "HDF5 (Keras)",
        extensions: &["h5", "hdf5", "keras"],
        magic: Some((0, b"\x89HDF\r\n\x1a\n")),
        python: "import h5py, numpy as np; f = h5py.File('{from}'); d = {}; f.visititems(lambda n, o: \
                 d.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None); np.savez('{to}', **d)",
    },
    Foreign {
        kind: "ONNX",
        extensions: &["onnx"],
        magic: None,
        python: "import onnx, numpy as np; from onnx.numpy_helper import to_array; np.savez('{to}', \
                 **{t.name: to_array(t) for t in onnx.load('{from}').graph.initializer})",
    },
    Foreign {
        kind: "GGUF",
        extensions: &["gguf"],
        magic: Some((0, b"GGUF")),
        python: "import gguf, numpy as np; np.savez('{to}', **{t.name: gguf.dequantize(t.data, \
                 t.tensor_type) for t in gguf.GGUFReader('{from}').tensors})",
    },
    Foreign {
        kind: "zarr",
        extensions: &["zarr"],
        magic: None,
        python: "import zarr, numpy as np; np.savez('{to}', **{n: a[...] for n, a in \
                 zarr.open('{from}', mode='r').members(max_depth=None) if hasattr(a, 'dtype')})",
    },
];

/// Why a file is not read, and what to type instead, if it is one of these by its name or its first
/// bytes.
pub(super) fn refusal(path: &Path, head: &[u8]) -> Option<Error> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    let found = FOREIGN.iter().find(|foreign| {
        let by_head = foreign
            .magic
            .is_some_and(|(at, magic)| head.get(at..).is_some_and(|rest| rest.starts_with(magic)));
        // A zip, as Keras writes them now, tells by what is in it.
        let by_name = !head.starts_with(b"PK\x03\x04");
        by_head || by_name && extension.as_deref().is_some_and(|e| foreign.extensions.contains(&e))
    })?;
    Some(of(path, found))
}

/// The same for an entry of a zip: a Keras file is a zip with HDF5 in it.
pub(super) fn refusal_of_entry(place: &Path, entry: &str) -> Option<Error> {
    let keras = &FOREIGN[0];
    let inside = place.with_file_name(entry);
    entry.ends_with(".weights.h5").then(|| {
        anyhow!("{}: a Keras archive; unpack it, and then: {}", place.display(), of(&inside, keras))
    })
}

/// The same for a folder that is a zarr store.
pub(super) fn zarr(folder: &Path) -> Error {
    of(folder, &FOREIGN[ZARR])
}

/// Place in the list.
const ZARR: usize = 3;

fn of(path: &Path, foreign: &Foreign) -> Error {
    let from = quotable(path, "model");
    let to = from.with_extension("npz");
    let python = foreign.python.replace("{from}", &from.display().to_string());
    let python = python.replace("{to}", &to.display().to_string());
    let (path, kind) = (path.display(), foreign.kind);
    anyhow!("{path}: {kind} is not read here; convert it with\n  python -c \"{python}\"")
}

/// The path, or a word in its place where it cannot stand between single quotes of Python within double
/// quotes of a shell, or is no path at all.
pub(super) fn quotable<'p>(path: &'p Path, otherwise: &'p str) -> &'p Path {
    let is_plain = |c: char| !c.is_control() && !"'\"\\$`!".contains(c);
    let text = path.to_str().filter(|text| text.chars().all(is_plain));
    Path::new(text.filter(|text| *text != "standard input").unwrap_or(otherwise))
}
