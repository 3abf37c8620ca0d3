//! Drives the built `kitc` on bundles made of one static busybox.
//!
//! Every test has a root directory, a bundle and a cgroup of its own; what it leaves is deleted when it
//! ends. Tests that need root or busybox say so and pass where there is none.

mod exec;
mod filesystem;
mod hooks;
mod lifecycle;
mod limits;
mod namespaces;
mod privileges;
mod seccomp;
mod support;
mod terminal;
