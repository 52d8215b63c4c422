//! The kernels, loaded once and launched by typed calls: the only unsafe code of the crate.
//!
//! A kernel takes the plan, then device addresses, then numbers. Each call here owns the order of
//! these, the geometry and the shared memory of its kernel, and checks that every span is as long
//! as what the kernel will touch for that plan; so a launch is sound if the spans are memory of the
//! device, which is what [`Span`](crate::span::Span) is made from.
#![allow(unsafe_code, reason = "launches are unchecked by nature; see the module text")]

use crate::error::{Error, Result};
use crate::images::{GENERAL, Image, hadamard, kashin};
use crate::plan::{Batch, Plan, THREADS, blockwise_shape, staged_bytes};
use crate::span::Spans;
use cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, sys,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

// SAFETY: plain numbers, `repr(C)`, of the size that `common.cuh` asserts.
unsafe impl DeviceRepr for Plan {}

/// Whether a driver library can be loaded; all other calls would panic without one.
pub(crate) fn has_driver() -> bool {
    // SAFETY: loads the library by name and lets go of it; its initialisers are NVIDIA's.
    unsafe { sys::is_culib_present() }
}

/// Whether NVRTC can be loaded.
#[cfg(feature = "nvrtc")]
pub(crate) fn has_compiler() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// CUDA version of the driver, 1000 * major + 10 * minor; 0 if it does not tell.
pub(crate) fn driver_version() -> i32 {
    let mut version = 0;
    // SAFETY: the library is there, and writes one int.
    match unsafe { sys::cuDriverGetVersion(&mut version) } {
        sys::CUresult::CUDA_SUCCESS => version,
        _ => 0,
    }
}

/// The kernels of a context, loaded when they are first asked for.
pub(crate) struct Kernels {
    context: Arc<CudaContext>,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    /// With the shared memory that each may have.
    functions: Mutex<HashMap<String, (CudaFunction, u32)>>,
}

impl Kernels {
    pub(crate) fn new(context: Arc<CudaContext>) -> Self {
        Self { context, modules: Mutex::default(), functions: Mutex::default() }
    }

    fn module(&self, image: &Image) -> Result<Arc<CudaModule>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(image.name) {
            return Ok(module.clone());
        }
        let load = self.context.load_module(image.ptx()?);
        let module = load.map_err(|e| Error::driver("load its kernels", 0, e))?;
        modules.insert(image.name, module.clone());
        Ok(module)
    }

    fn function(&self, image: &Image, name: &str, shared: u32) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = functions.get(name).cloned();
        let (function, allowed) = match known {
            Some(known) => known,
            None => {
                let function = self.module(image)?.load_function(name);
                (function.map_err(|e| Error::driver("find a kernel", 0, e))?, UNASKED_SHARED)
            }
        };
        if shared > allowed {
            let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(attribute, shared as i32)
                .map_err(|e| Error::driver("reserve shared memory", 0, e))?;
        }
        functions.insert(name.to_owned(), (function.clone(), allowed.max(shared)));
        Ok(function)
    }

    fn launch(&self, stream: &Arc<CudaStream>, job: &Job<'_>) -> Result<()> {
        let function = self.function(job.image, &job.name, job.shared)?;
        let mut launch = stream.launch_builder(&function);
        launch.arg(job.plan);
        for address in &job.addresses {
            launch.arg(address);
        }
        for number in &job.numbers {
            launch.arg(number);
        }
        let config = LaunchConfig {
            grid_dim: job.grid,
            block_dim: (job.threads, 1, 1),
            shared_mem_bytes: job.shared,
        };
        // SAFETY: the callers below give the arguments of this kernel in its order, and have
        // checked the spans against what it touches.
        unsafe { launch.launch(config) }.map_err(|e| Error::driver("launch a kernel", 0, e))?;
        Ok(())
    }
}

/// Dynamic shared memory that a kernel may have without asking.
const UNASKED_SHARED: u32 = 48 << 10;

/// The kernel of `kashin.cu`, which holds more in shared memory than the others.
const REPRESENT: &str = "represent_blocks";

/// One launch.
struct Job<'a> {
    image: &'static Image,
    name: String,
    plan: &'a Plan,
    grid: (u32, u32, u32),
    threads: u32,
    shared: u32,
    addresses: Vec<u64>,
    numbers: Vec<u32>,
}

impl<'a> Job<'a> {
    /// A kernel of `general.cu`: so many thread blocks for each group, with so much shared memory.
    fn general(
        name: &str,
        batch: &'a Batch,
        (blocks, shared): (u32, u32),
        addresses: Vec<u64>,
        numbers: Vec<u32>,
    ) -> Self {
        Self {
            image: &GENERAL,
            name: name.to_owned(),
            plan: &batch.plan,
            grid: (blocks, batch.n_groups as u32, 1),
            threads: THREADS,
            shared,
            addresses,
            numbers,
        }
    }

    /// A kernel of whole blocks; `Tile` and `Shared` of the kernels say the same.
    fn blockwise(kernel: (&'static Image, &str), batch: &'a Batch, addresses: Vec<u64>) -> Self {
        let k = batch.plan.block_log2;
        let n_blocks = batch.n_whole_units();
        let (image, name) = kernel;
        let (threads, together, shared) = blockwise_shape(k, name == REPRESENT);
        Self {
            image,
            name: format!("{name}_{k}"),
            plan: &batch.plan,
            grid: (n_blocks.div_ceil(together), batch.n_groups as u32, 1),
            threads,
            shared,
            addresses,
            numbers: vec![n_blocks],
        }
    }
}

impl Kernels {
    /// Whole units to payloads, or to coefficients where there is memory for these.
    pub(crate) fn encode_blocks(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
    ) -> Result<()> {
        let k = batch.plan.block_log2;
        let kernel = match batch.iterates() {
            false => (hadamard(k)?, "encode_blocks"),
            true => (kashin(k)?, REPRESENT),
        };
        let (payloads, coefficients) = self.coded(batch, spans)?;
        let addresses = vec![
            spans.values(batch)?,
            spans.exponents(batch)?,
            payloads,
            coefficients,
            spans.peaks(batch)?,
        ];
        self.launch(stream, &Job::blockwise(kernel, batch, addresses))
    }

    /// The way back, from payloads or coefficients to values.
    pub(crate) fn decode_blocks(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
    ) -> Result<()> {
        let kernel = (hadamard(batch.plan.block_log2)?, "decode_blocks");
        let (payloads, coefficients) = self.coded(batch, spans)?;
        let addresses = vec![payloads, coefficients, spans.exponents(batch)?, spans.values(batch)?];
        self.launch(stream, &Job::blockwise(kernel, batch, addresses))
    }

    fn coded(&self, batch: &Batch, spans: &Spans) -> Result<(u64, u64)> {
        if spans.coefficients.is_none() {
            return Ok((spans.payloads(batch)?, 0));
        }
        Ok((0, spans.coefficients(batch)?))
    }

    /// Units from `first` on to coefficients, whatever their length.
    pub(crate) fn encode_units(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = (batch.n_units() - first, staged_bytes(batch.plan.block_log2));
        let scratch = if batch.plan.iterations > 0 { 8 * batch.n_coefficients() } else { 0 };
        let addresses = vec![
            spans.values(batch)?,
            spans.exponents(batch)?,
            spans.coefficients(batch)?,
            spans.scratch.holds(scratch, "scratch")?,
            spans.peaks(batch)?,
        ];
        let numbers = vec![first, u32::from(batch.rotates)];
        self.launch(stream, &Job::general("encode_units", batch, shape, addresses, numbers))
    }

    /// Scales of quantizer blocks from `first` on, and their grids.
    pub(crate) fn encode_scales(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = (batch.n_scales() - first, THREADS / 32 * 8);
        let addresses = vec![
            spans.coefficients(batch)?,
            spans.positions(batch)?,
            spans.payloads(batch)?,
            spans.grids(batch)?,
        ];
        self.launch(stream, &Job::general("encode_scales", batch, shape, addresses, vec![first]))
    }

    /// Codes from `first` on, a multiple of 32.
    pub(crate) fn encode_codes(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = ((batch.plan.n_coded - first).div_ceil(32 * THREADS), 0);
        let addresses = vec![
            spans.coefficients(batch)?,
            spans.positions(batch)?,
            spans.grids(batch)?,
            spans.payloads(batch)?,
        ];
        self.launch(stream, &Job::general("encode_codes", batch, shape, addresses, vec![first]))
    }

    /// Coded coefficients from `first` on to their places.
    pub(crate) fn decode_codes(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = ((batch.plan.n_coded - first).div_ceil(THREADS), 0);
        let addresses =
            vec![spans.payloads(batch)?, spans.positions(batch)?, spans.coefficients(batch)?];
        self.launch(stream, &Job::general("decode_codes", batch, shape, addresses, vec![first]))
    }

    /// Turns units from `first` on back, in place.
    pub(crate) fn decode_units(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = (batch.n_units() - first, staged_bytes(batch.plan.block_log2));
        let addresses = vec![spans.coefficients(batch)?];
        self.launch(stream, &Job::general("decode_units", batch, shape, addresses, vec![first]))
    }

    /// Values from `first` on, out of coefficients that were turned back.
    pub(crate) fn put_values(
        &self,
        stream: &Arc<CudaStream>,
        batch: &Batch,
        spans: &Spans,
        first: u32,
    ) -> Result<()> {
        let shape = ((batch.plan.n_values - first).div_ceil(THREADS), 0);
        let addresses =
            vec![spans.coefficients(batch)?, spans.exponents(batch)?, spans.values(batch)?];
        self.launch(stream, &Job::general("put_values", batch, shape, addresses, vec![first]))
    }
}
