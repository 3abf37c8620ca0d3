//! The program `kit-monitor`: see `kit_runtime::monitor`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kit_runtime::monitor::main(std::env::args_os())
}
