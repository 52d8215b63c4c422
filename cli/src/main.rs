//! `fedpress`, the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(fedpress_cli::main(std::env::args_os()))
}
