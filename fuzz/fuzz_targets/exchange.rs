//! See [`fedpress_fuzz::exchange`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::exchange(data));

#[cfg(not(fuzzing))]
fn main() {}
