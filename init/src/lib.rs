//! PID 1 of a node, the loader in its initrd, and the client of both.
//!
//! Invariant: nothing here parses what came over a network or speaks TLS, and PID 1 allocates nothing in proportion to
//! time: it executes a plan that was checked when the image was built.

pub mod loader;
pub mod module;
pub mod sys;
