//! All laws once more on the simulated device: kernels compiled for the processor, behind the same
//! host code.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Set in the process that runs on the simulated device.
pub const INSIDE: &str = "FEDPRESS_SIMULATED";

/// The folder with the simulated driver, built once, or why there is none.
pub fn driver() -> Result<PathBuf, String> {
    static DRIVER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    DRIVER.get_or_init(build).clone()
}

fn build() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim/build.sh");
    if !script.exists() {
        return Err(format!("{} is not here", script.display()));
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the simulated device is for x86-64 Linux".into());
    }
    if Command::new("g++").arg("--version").output().is_err() {
        return Err("there is no g++".into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-driver");
    let built = Command::new("sh").arg(script).arg(&folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(folder)
}

/// This test binary, on the simulated device.
pub fn inside(driver: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("LD_LIBRARY_PATH", driver).env(INSIDE, "1").env("FEDPRESS_REQUIRE_GPU", "1");
    command
}

#[test]
fn the_laws_hold_on_the_simulated_device() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let driver = match driver() {
        Ok(driver) => driver,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let output = inside(&driver).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(!errors.contains("skipped"), "{errors}");
}
