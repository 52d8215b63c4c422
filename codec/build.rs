//! Tells the crate whether the compiler knows AVX-512 intrinsics (1.89), which are the only thing
//! here that is younger than the minimum Rust version. Bytes never depend on it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(fedpress_avx512)");
    if minor_version().is_some_and(|minor| minor >= 89) {
        println!("cargo:rustc-cfg=fedpress_avx512");
    }
}

/// The x of `rustc 1.x.y`.
fn minor_version() -> Option<u32> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.split('.').nth(1)?.parse().ok()
}
