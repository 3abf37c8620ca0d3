//! Links `kitc` and `kit-monitor` at a fixed address.
//!
//! A static program that can be anywhere relocates itself at each start: about 9000 pointers on 46
//! pages, each page copied on the first write. That is a third of the start of `kitc`, which runs for
//! each step of each container's life, and twice where it has to protect its file. Where the program
//! lies is worth little to an attacker here: it runs for milliseconds, is safe Rust but for its system
//! calls, and reads nothing that the container writes. There is a `kit-monitor` for each pod, and each
//! would have those pages to itself; what containers write only passes through it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for program in ["kitc", "kit-monitor"] {
        for argument in ["-static", "-no-pie"] {
            println!("cargo:rustc-link-arg-bin={program}={argument}");
        }
    }
}
