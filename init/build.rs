//! Links `kit-init` and `kit-loader` at a fixed address.
//!
//! A static program that can be anywhere relocates itself at each start: some 1,500 pointers, whose pages are read,
//! unpacked and copied before the first line of a boot is executed. PID 1 takes orders only from root and talks to no
//! network.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for program in ["kit-init", "kit-loader"] {
        for argument in ["-static", "-no-pie"] {
            println!("cargo:rustc-link-arg-bin={program}={argument}");
        }
    }
}
