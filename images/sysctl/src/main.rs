//! `kit-sysctl`: see [`kit_sysctl::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kit_sysctl::cli::run(std::env::args_os().skip(1).collect()))
}
