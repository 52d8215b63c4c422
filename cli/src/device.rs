//! `--device`: what codes the groups of lossy tensors.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use fedpress::Device;

use crate::console::Console;

/// The argument, in a program that was built with GPU support.
#[derive(Debug, Args)]
pub struct DeviceArgument {
    /// What codes lossy tensors: cpu; cuda, the first GPU; auto, that if there is one, else cpu.
    /// The result does not depend on it
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "DEVICE", value_enum, default_value = "cpu")]
    device: Choice,
}

#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    Auto,
    Cpu,
    Cuda,
}

impl DeviceArgument {
    /// The device that was asked for, opened; `None` is the processor.
    #[cfg(feature = "cuda")]
    pub fn open(&self, console: &Console) -> Result<Option<Arc<dyn Device>>> {
        if self.device == Choice::Cpu {
            return Ok(None);
        }
        match fedpress_cuda::Cuda::open() {
            Ok(device) => {
                console.detail(|| format!("on {}", device.name()));
                let (console, once) = (console.clone(), std::sync::Once::new());
                Ok(Some(Arc::new(device.on_refusal(move |plan| {
                    once.call_once(|| {
                        let (spec, dtype) = (plan.spec(), plan.dtype());
                        console.note(&format!(
                            "partly on the processor: no kernels for {dtype} by {spec}"
                        ));
                    });
                }))))
            }
            Err(why) if self.device == Choice::Auto => {
                console.note(&format!("on the processor: {why}"));
                Ok(None)
            }
            Err(why) => Err(why.into()),
        }
    }

    /// The processor: this program was built without GPU support.
    #[cfg(not(feature = "cuda"))]
    pub fn open(&self, _: &Console) -> Result<Option<Arc<dyn Device>>> {
        Ok(None)
    }
}
