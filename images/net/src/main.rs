//! `kit-net`: see [`kit_net::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kit_net::cli::run(std::env::args_os().skip(1).collect()))
}
