//! The program `kitc`: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kit_runtime::command::main(std::env::args_os())
}
