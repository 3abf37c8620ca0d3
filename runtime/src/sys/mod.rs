//! The kernel calls that `rustix` does not wrap, one call per function.
//!
//! This is the only place of the crate with `unsafe` code. Each function takes safe types (borrowed
//! descriptors, C strings, plain integers) and returns owned descriptors or nothing.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod mount;
pub mod net;
pub mod schedule;
pub mod seccomp;
pub mod signal;

use std::io;

/// Turns the return value of a raw call into a `Result`.
fn checked(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
