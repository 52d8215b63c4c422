//! See [`fedpress_fuzz::message`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::message(data));

#[cfg(not(fuzzing))]
fn main() {}
