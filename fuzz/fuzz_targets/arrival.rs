//! See [`fedpress_fuzz::arrival`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::arrival(data));

#[cfg(not(fuzzing))]
fn main() {}
