//! fedpress
fn main() {}
