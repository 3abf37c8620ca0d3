//! The house's rules, held over the sources and what cargo knows of them: which crate may know which, what runs where,
//! where `unsafe` may be, how long a file may be. ARCHITECTURE.md tells the reasons.

mod edges;
mod programs;
mod sources;

use qemu_tests::workspace;

/// Fails with all of what was found wrong, not with the first of it.
#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}
