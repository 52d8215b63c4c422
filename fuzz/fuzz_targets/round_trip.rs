//! See [`fedpress_fuzz::round_trip`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::round_trip(data));

#[cfg(not(fuzzing))]
fn main() {}
