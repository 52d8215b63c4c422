//! See [`fedpress_fuzz::add_into`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::add_into(data));

#[cfg(not(fuzzing))]
fn main() {}
