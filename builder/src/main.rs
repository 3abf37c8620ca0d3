//! `kitbuild`: from a node file to a bootable image.

use std::process::ExitCode;

fn main() -> ExitCode {
    kitbuild::cli::main(std::env::args_os().collect())
}
