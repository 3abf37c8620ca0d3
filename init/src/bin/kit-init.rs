//! PID 1 of a node.

fn main() -> std::process::ExitCode {
    kit_init::run::main()
}
