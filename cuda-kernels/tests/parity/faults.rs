//! What a device can fail at is a typed error, and the processor can go on.

use crate::simulated::{INSIDE, driver, inside};
use fedpress::{EncodeOptions, ErrorKind, Seeds, TensorView};
use fedpress_cuda::{Cuda, Error};
use std::sync::Arc;

/// Runs one of the tests below on the simulated device with a fault.
fn with_fault(test: &str, name: &str, value: &str) {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let driver = match driver() {
        Ok(driver) => driver,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let mut command = inside(&driver);
    command.args(["--exact", "--ignored", &format!("faults::{test}")]).env(name, value);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn options() -> EncodeOptions {
    EncodeOptions::new(Seeds::new(7, 0x5eed))
}

/// What encoding on the device ends with, where it has to fail.
fn encoding_error() -> Error {
    let mut options = options();
    options.device = Some(Arc::new(Cuda::open().unwrap()));
    let values = vec![0.5f32; 10_000];
    let view = TensorView::f32("w", &[10_000], &values);
    let spec = "hadamard|q=4".parse().unwrap();
    let error = fedpress::encode(&[view], &spec, &options).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Device);
    let source = std::error::Error::source(&error).unwrap();
    source.downcast_ref::<Error>().unwrap().clone()
}

#[test]
fn a_machine_without_a_driver_says_so() {
    // Where there is a driver, the other tests open it.
    if let Err(error) = Cuda::open() {
        assert!(matches!(
            error,
            Error::NoDriver
                | Error::NoDevice { .. }
                | Error::OldDriver { .. }
                | Error::OldDevice { .. }
        ));
        assert!(error.to_string().contains("CUDA"));
    }
}

#[test]
fn no_device() {
    with_fault("opening_without_a_device", "SIMULATED_DEVICES", "0");
}

#[test]
#[ignore = "needs a fault; see no_device"]
fn opening_without_a_device() {
    let Err(Error::NoDevice { reason }) = Cuda::open() else { panic!("it opened") };
    assert!(reason.contains("CUDA_ERROR_NO_DEVICE"), "{reason}");
}

#[test]
fn old_driver() {
    with_fault("opening_an_old_driver", "SIMULATED_VERSION", "12080");
}

#[test]
#[ignore = "needs a fault; see old_driver"]
fn opening_an_old_driver() {
    let error = Cuda::open().unwrap_err();
    assert_eq!(error, Error::OldDriver { found: 12_080, needed: 13_000 });
    assert!(error.to_string().contains("12.8"), "{error}");
}

#[test]
fn old_device() {
    with_fault("opening_an_old_device", "SIMULATED_CAPABILITY", "75");
}

#[test]
#[ignore = "needs a fault; see old_device"]
fn opening_an_old_device() {
    let error = Cuda::open().unwrap_err();
    assert_eq!(error, Error::OldDevice { found: (7, 5), needed: (8, 0) });
    assert!(error.to_string().contains("7.5"), "{error}");
}

#[test]
fn little_memory() {
    with_fault("encoding_without_memory", "SIMULATED_MEMORY", "1000");
}

#[test]
#[ignore = "needs a fault; see little_memory"]
fn encoding_without_memory() {
    assert_eq!(encoding_error(), Error::OutOfMemory { bytes: 40_000 });
}

#[test]
fn failed_launch() {
    with_fault("encoding_with_a_failed_launch", "SIMULATED_LAUNCHES", "1");
}

#[test]
#[ignore = "needs a fault; see failed_launch"]
fn encoding_with_a_failed_launch() {
    let Error::Driver { what, reason } = encoding_error() else { panic!("another error") };
    assert_eq!(what, "launch a kernel");
    assert!(reason.contains("CUDA_ERROR_LAUNCH_FAILED"), "{reason}");
}

#[test]
fn little_shared_memory() {
    // As on devices of compute capability 8.6 and 8.9: the largest blocks stay on the processor.
    with_fault("blocks_that_do_not_fit", "SIMULATED_SHARED", "101376");
}

#[test]
#[ignore = "needs a fault; see little_shared_memory"]
fn blocks_that_do_not_fit() {
    let device: Arc<dyn fedpress::Device> = Arc::new(Cuda::open().unwrap());
    // Kashin's kernels hold a block twice.
    let hadamard = [8, 13, 14, 15].map(|k| ("hadamard", k, k < 15));
    let kashin = [8, 13, 14, 15].map(|k| ("kashin", k, k < 14));
    for (basis, k, fits) in hadamard.into_iter().chain(kashin) {
        let spec = format!("{basis},block={}|q=4", 1 << k);
        let desc = fedpress::TensorDesc::new("w", fedpress::DType::F32, &[1 << 17]);
        let plan =
            fedpress::device::GroupPlan::new(&desc, &spec.parse().unwrap(), &options()).unwrap();
        assert_eq!(device.supports(&plan), fits, "{spec}");
        crate::law::Case::new(spec, (1 << 17) + 99).check(&device);
    }
}

#[test]
fn small_errors_of_the_caller_are_those_of_the_processor() {
    let Some(device) = crate::device() else { return };
    let mut values = vec![0.5f32; 3 * 4096];
    for bad in [f32::NAN, f32::INFINITY] {
        values[4096 + 17] = bad;
        let errors = [None, Some(device.clone() as Arc<dyn fedpress::Device>)].map(|device| {
            let mut options = options();
            options.group_log2 = 12;
            options.device = device;
            let view = TensorView::f32("w", &[3 * 4096], &values);
            let spec = "hadamard|q=4".parse().unwrap();
            fedpress::encode(&[view], &spec, &options).unwrap_err().to_string()
        });
        assert_eq!(errors[0], errors[1]);
        assert!(errors[0].contains("index 4113"), "{}", errors[0]);
    }
}
