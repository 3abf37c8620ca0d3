//! `kitc`: an OCI runtime program that makes, starts, enters, kills and deletes containers.
//!
//! **Invariant**: a container's process is made by `clone3` from a program with one thread, and a
//! container that could not be made leaves nothing behind: no process, cgroup, mount or directory.
//!
//! `kit-monitor` stays with the containers of a pod when everybody else goes: see [`monitor`].
//!
//! The crate knows bundles of the OCI runtime specification (`config.json` and a root file system) and
//! the Linux kernel, and nothing else. Its modules, in the order in which a container's life meets
//! them. What follows them, behind the feature `daemon`, is for the daemon over `kitc`, and not in `kitc`:

pub mod cli;
pub mod command;
pub mod report;

pub mod bundle;
pub mod state;

pub mod cgroup;
pub mod channel;
pub mod launch;
pub mod namespace;

pub mod console;
pub mod device;
pub mod hook;
pub mod init;
pub mod mount;
pub mod rootfs;
pub mod target;

pub mod capability;
pub mod notify;
pub mod process;
pub mod seccomp;

pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod foreground;
pub mod kill;
pub mod list;
pub mod monitor;
pub mod start;
pub mod update;

pub mod protect;
pub mod sys;

#[cfg(feature = "daemon")]
pub mod snapshot;

/// The version of the runtime specification that this crate is written to.
pub const OCI_VERSION: &str = "1.2.1";
