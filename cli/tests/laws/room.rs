//! A folder of its own for each test, with the program in it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use fedpress::DType;
use safetensors::tensor::{TensorView, serialize};
use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub const FEDPRESS: &str = env!("CARGO_BIN_EXE_fedpress");

/// A temporary folder.
pub struct Room(TempDir);

impl Room {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `model.safetensors` in it.
    pub fn with_model() -> Self {
        let room = Self::new();
        room.write("model.safetensors", &model());
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Permissions of a file.
    pub fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// Runs the program, as words between blanks.
    pub fn run(&self, line: &str) -> Output {
        self.run_words(line.split_whitespace(), b"")
    }

    /// The same with something on standard input.
    pub fn pipe(&self, line: &str, stdin: &[u8]) -> Output {
        self.run_words(line.split_whitespace(), stdin)
    }

    pub fn run_words<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Output {
        let mut command = assert_cmd::Command::new(FEDPRESS);
        command.current_dir(self.0.path()).args(words).write_stdin(stdin).output().unwrap()
    }

    /// Runs the program, which has to succeed; returns what it prints.
    pub fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same for JSON.
    pub fn json(&self, line: &str) -> Value {
        let value: Value = serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap();
        assert_eq!(value["schema"], 1, "{line}");
        value
    }
}

/// The exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Values like those of weights, the same for the same name.
pub fn weights(name: &str, n: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(1u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| (0..4).map(|_| uniform()).sum::<f32>() - 2.0).collect()
}

/// Little-endian bytes.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A safetensors file.
pub fn file_of(tensors: &[(&str, DType, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        let dtype = match dtype {
            DType::F32 => safetensors::Dtype::F32,
            DType::F64 => safetensors::Dtype::F64,
            DType::I64 => safetensors::Dtype::I64,
            DType::BF16 => safetensors::Dtype::BF16,
            other => panic!("no tests with {other}"),
        };
        (*name, TensorView::new(dtype, shape.to_vec(), data).unwrap())
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    serialize(views, Some(metadata)).unwrap()
}

/// Two layers with biases, and a counter.
pub fn model() -> Vec<u8> {
    let [fc1, fc2] = [("fc1", 40_000), ("fc2", 5_000)].map(|(n, size)| bytes(&weights(n, size)));
    let bias = bytes(&weights("bias", 200));
    file_of(&[
        ("fc1.weight", DType::F32, &[200, 200], &fc1),
        ("fc1.bias", DType::F32, &[200], &bias),
        ("fc2.weight", DType::F32, &[25, 200], &fc2),
        ("steps", DType::I64, &[], &42i64.to_le_bytes()),
    ])
}

/// The folder with real tensors, where there is one.
pub fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tensors");
    if !folder.is_dir() {
        println!("skipped: there is no {}", folder.display());
        return None;
    }
    Some(folder)
}
