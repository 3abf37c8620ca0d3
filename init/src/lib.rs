//! PID 1 of a node, the loader in its initrd, and the client of both.
//!
//! Invariant: nothing here parses what came over a network or speaks TLS, and PID 1 allocates nothing in proportion to
//! time: it executes a plan that was checked when the image was built.

mod ahead;
mod button;
pub mod container;
pub mod control;
pub mod ctl;
pub mod loader;
pub mod log;
pub mod module;
pub mod mounts;
pub mod phase;
pub mod run;
mod shutdown;
pub mod supervise;
pub mod sys;
pub mod trace;
