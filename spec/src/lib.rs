//! The words of kit: what a node file says, what a lock pins, what PID 1 executes, what a build produced, what a
//! machine is made of. Parsing and checking only.
//!
//! Invariant: no I/O, no `async`, no `unsafe`; the boot plan that PID 1 executes is the very value that the builder
//! validated and wrote.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod lock;
pub mod machine;
pub mod node;
pub mod plan;
pub mod tree;
