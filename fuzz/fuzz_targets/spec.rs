//! See [`fedpress_fuzz::spec`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::spec(data));

#[cfg(not(fuzzing))]
fn main() {}
