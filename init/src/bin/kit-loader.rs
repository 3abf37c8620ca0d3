//! `/init` of the initrd: mounts the root and executes its init.

fn main() -> std::process::ExitCode {
    kit_init::loader::main()
}
