//! See [`fedpress_fuzz::decode_prefixed`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fedpress_fuzz::decode_prefixed(data));

#[cfg(not(fuzzing))]
fn main() {}
