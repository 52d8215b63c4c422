//! The GPU gives the bytes of the processor.
//!
//! The laws run on whatever device the driver offers; without one they print why and pass, unless
//! FEDPRESS_REQUIRE_GPU is set. `simulated` runs all of them once more in a process that finds the
//! simulated driver instead.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod law;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod resident;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod streams;

#[cfg(test)]
use fedpress_cuda::Cuda;
#[cfg(test)]
use std::sync::{Arc, OnceLock};

/// The device to test, opened once.
#[cfg(test)]
fn device() -> Option<Arc<Cuda>> {
    static DEVICE: OnceLock<Option<Arc<Cuda>>> = OnceLock::new();
    let open = || match Cuda::open() {
        Ok(device) => Some(Arc::new(device)),
        Err(why) if std::env::var_os("FEDPRESS_REQUIRE_GPU").is_none() => {
            eprintln!("skipped: {why}");
            None
        }
        Err(why) => panic!("a device is required: {why}"),
    };
    DEVICE.get_or_init(open).clone()
}
