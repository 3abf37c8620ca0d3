//! The client of PID 1.

fn main() -> std::process::ExitCode {
    kit_init::ctl::main(std::env::args().skip(1).collect())
}
