//! What can go wrong with a GPU, and who can do something about it.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;
use std::fmt;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the device or of a call. None of them is about the bytes of a stream: those are
/// checked by the codec before a device sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No CUDA driver is installed: `libcuda.so` was not found.
    NoDriver,
    /// There is a driver, but no device of that number, or none at all.
    NoDevice {
        /// What the driver says.
        reason: String,
    },
    /// The driver does not read the kernels of this version.
    OldDriver {
        /// CUDA version of the driver, 1000 * major + 10 * minor.
        found: i32,
        /// The first version that reads them, written the same way.
        needed: i32,
    },
    /// The device is too old for the kernels.
    OldDevice {
        /// Its compute capability, major and minor.
        found: (i32, i32),
        /// The first that they run on.
        needed: (i32, i32),
    },
    /// The device has too little free memory.
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// A call of the driver failed.
    Driver {
        /// What was being done.
        what: &'static str,
        /// What the driver says.
        reason: String,
    },
    /// The caller asked for something that cannot be.
    InvalidArgument(String),
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    /// A failed call; `bytes` is what an allocation asked for, else 0.
    pub(crate) fn driver(what: &'static str, bytes: usize, error: DriverError) -> Self {
        match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfMemory { bytes },
            _ => Self::Driver { what, reason: reason(error) },
        }
    }
}

/// The driver's name and text for an error.
pub(crate) fn reason(error: DriverError) -> String {
    let text = |text: std::result::Result<&std::ffi::CStr, DriverError>| {
        text.map_or_else(|_| "unknown".into(), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(error.error_string()), text(error.error_name()))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
        match self {
            Self::NoDriver => f.write_str("no CUDA driver: libcuda.so was not found"),
            Self::NoDevice { reason } => write!(f, "no CUDA device: {reason}"),
            Self::OldDriver { found, needed } => write!(
                f,
                "the CUDA driver is too old: it supports CUDA {}, expected is {} or newer",
                version(*found),
                version(*needed)
            ),
            Self::OldDevice { found, needed } => write!(
                f,
                "the CUDA device is too old: compute capability {}.{}, expected is {}.{} or newer",
                found.0, found.1, needed.0, needed.1
            ),
            Self::OutOfMemory { bytes: 0 } => {
                f.write_str("the CUDA device has too little free memory")
            }
            Self::OutOfMemory { bytes } => {
                write!(f, "the CUDA device has too little free memory for {bytes} bytes more")
            }
            Self::Driver { what, reason } => write!(f, "CUDA failed to {what}: {reason}"),
            Self::InvalidArgument(message) => write!(f, "invalid argument: {message}"),
        }
    }
}

impl std::error::Error for Error {}
