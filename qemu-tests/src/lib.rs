//! Boots what kitbuild makes, and judges it from outside.
//!
//! Invariant: no program of the workspace is linked; what cannot be seen from outside is not tested here.
//!
//! ```text
//! Kitbuild::staged()            the programs that `make stage` laid out, found by KIT_BIN_DIR
//!   .build(node file, format)   -> Built: a directory that goes when it is dropped
//! Guest::boot(&built, ..)       -> a machine under QEMU, one of two at a time; killed when it is dropped
//!   .line("kit: ready", within) console lines, in order; .press_power(), .ends(within)
//! case::Case                    the same, described by `cases/GROUP/NAME/{node.yml,expect}`
//! ```
//!
//! `tests/cases.rs` runs the cases, `tests/*.rs` what needs code.

#![forbid(unsafe_code)]

pub mod bench;
pub mod case;
pub mod guest;
pub mod kitbuild;
pub mod screen;
mod slot;

/// The workspace's directory. Asked for when a test runs: one directory of built programs may serve several checkouts,
/// and a path from when it was compiled would be another's.
pub fn workspace() -> std::path::PathBuf {
    let member = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let member = std::path::PathBuf::from(member);
    member.parent().map_or_else(|| member.clone(), std::path::Path::to_owned)
}

/// The value, or the reason to skip the test: prints it and returns from the test.
#[macro_export]
macro_rules! or_skip {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(missing) => {
                println!("skipped: {missing}");
                return;
            }
        }
    };
}

pub use guest::{Boot, Guest, GuestError};
pub use kitbuild::{BuildError, Built, Kitbuild, Missing};
