//! A GPU, opened.

use crate::error::{Error, Result, reason};
use crate::images::DRIVER_NEEDED;
use crate::launch::{Kernels, driver_version, has_driver};
use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaStream};
use fedpress::device::GroupPlan;
use std::fmt;
use std::sync::Arc;

/// What the kernels are compiled for.
const CAPABILITY_NEEDED: (i32, i32) = (8, 0);

fn check_driver() -> Result<()> {
    let found = driver_version();
    match found < DRIVER_NEEDED {
        true => Err(Error::OldDriver { found, needed: DRIVER_NEEDED }),
        false => Ok(()),
    }
}

/// Is told of a plan.
pub(crate) type Tell = Box<dyn Fn(&GroupPlan) + Send + Sync>;

/// A CUDA device that codes groups; cheap to share behind an [`Arc`].
pub struct Cuda {
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    pub(crate) kernels: Kernels,
    /// Bytes of shared memory that a thread block may have.
    pub(crate) shared: u32,
    pub(crate) on_refusal: Option<Tell>,
}

impl Cuda {
    /// Opens the first device. Never panics: no driver, no device and a driver that is too old are
    /// errors.
    pub fn open() -> Result<Self> {
        Self::open_nth(0)
    }

    /// Opens a device by its number.
    pub fn open_nth(ordinal: usize) -> Result<Self> {
        if !has_driver() {
            return Err(Error::NoDriver);
        }
        check_driver()?;
        let context = CudaContext::new(ordinal).map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory { bytes: 0 },
            _ => Error::NoDevice { reason: reason(e) },
        })?;
        Self::on(context)
    }

    /// Uses a context that the caller has opened; a driver or a device that is too old is an error.
    pub fn on(context: Arc<CudaContext>) -> Result<Self> {
        check_driver()?;
        let found = context.compute_capability();
        let found = found.map_err(|e| Error::driver("ask for its compute capability", 0, e))?;
        if found < CAPABILITY_NEEDED {
            return Err(Error::OldDevice { found, needed: CAPABILITY_NEEDED });
        }
        let name = context.name().map_err(|e| Error::driver("name the device", 0, e))?;
        let shared = context.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
        let shared = shared.map_err(|e| Error::driver("ask for its shared memory", 0, e))?;
        Ok(Self {
            name,
            stream: context.default_stream(),
            kernels: Kernels::new(context.clone()),
            shared: u32::try_from(shared).unwrap_or(0),
            on_refusal: None,
            context,
        })
    }

    /// The same, calling `tell` with each plan that the codec asks about and that stays on the
    /// processor: for callers that say so.
    #[must_use]
    pub fn on_refusal(mut self, tell: impl Fn(&GroupPlan) + Send + Sync + 'static) -> Self {
        self.on_refusal = Some(Box::new(tell));
        self
    }

    /// What the driver calls the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the stand-in that tests use where there is no GPU; its speed means nothing.
    pub fn is_simulated(&self) -> bool {
        self.name.starts_with("simulated")
    }

    /// The context, for allocations and streams of the caller.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The stream that coding from and to host memory runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("name", &self.name).finish_non_exhaustive()
    }
}
