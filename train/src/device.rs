//! What trains.

use burn::tensor::Device;
use fedpress_fl::{Error, Result};

/// The processor: what trains unless something else is asked for.
pub fn cpu() -> Device {
    Device::flex()
}

/// The device of a name: `cpu`; `cuda` or `cuda:1`, the first or second NVIDIA GPU, in a build with
/// the feature `burn-cuda`.
///
/// It is no part of a [`TrainConfig`](super::TrainConfig): a training may be saved on one device and
/// resumed on another. But that the same seed gives the same bits is a promise of the processor alone;
/// a GPU sums in an order of its own.
///
/// # Errors
/// `InvalidArgument` for a name that is none of these, or a GPU that is not there.
pub fn device(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').map_or((name, None), |(k, i)| (k, Some(i)));
    match (kind, index.map_or(Ok(0), str::parse)) {
        ("cpu", _) if index.is_none() => Ok(cpu()),
        ("cuda", Ok(index)) => gpu(index),
        _ => {
            Err(Error::invalid(format!("device: expected cpu, cuda or cuda:INDEX, found '{name}'")))
        }
    }
}

#[cfg(feature = "burn-cuda")]
fn gpu(index: usize) -> Result<Device> {
    let mut found = Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
    match index < found.len() {
        true => Ok(found.swap_remove(index)),
        false => {
            let n = found.len();
            Err(Error::invalid(format!("device: expected a GPU of index {index}, found {n} GPUs")))
        }
    }
}

#[cfg(not(feature = "burn-cuda"))]
fn gpu(_: usize) -> Result<Device> {
    Err(Error::invalid(
        "device: cuda is in builds with the feature burn-cuda (of the command: train-cuda), and this is none",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_name_and_any_other_name_refused() {
        assert_eq!(device("cpu").unwrap(), cpu());
        for name in ["", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "gpu", "cuda:0:1"] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains("expected cpu, cuda or cuda:INDEX"), "{name}: {error}");
        }
        // No machine has so many.
        let why = if cfg!(feature = "burn-cuda") { "GPUs" } else { "the feature burn-cuda" };
        assert!(device("cuda:9999").unwrap_err().to_string().contains(why));
    }
}
