//! `kit-monitor`: the process that stays with a pod.
//!
//! There is one for each pod. It makes the pod's namespaces, calls `kitc` for each step of each
//! container's life, holds the other ends of their standard streams, waits for them and knows how they
//! ended. The daemon that started it can be killed, replaced and started again: it connects to the
//! monitor's socket and finds everything as it was.
//!
//! ```text
//!   kitd ---- SOCK_SEQPACKET, JSON, descriptors ----+
//!   a test ----------------------------------------+|
//!                                              +---vv--------+    jobs/N.*
//!   attached client ---- frames (stream.rs) ---| kit-monitor |--- kitc create|start|exec|kill|delete
//!                                              +---^---------+            | makes, and goes
//!                 log (CRI format) <---------------+ pipes, terminal      v
//!                                                  +--------------- container (reparented to the monitor)
//! ```
//!
//! The directory of a pod:
//!
//! ```text
//! sandbox.json             what the pod is: written by whoever starts the monitor
//! monitor.json             which process the monitor is, and the pause process
//! monitor.sock             the socket, 0600
//! monitor.log              what nobody asked to be told, at most 64 KiB
//! ns/KIND                  the namespaces (sandbox.rs)
//! runtime/                 `--root` of kitc
//! jobs/                    calls of kitc that run (call.rs)
//! containers/ID/exit.json  how it ended, written before anybody is told
//! ```
//!
//! Guarantees:
//!
//! - One thread, one epoll; nothing waits but for files: the log and the pod's directory. Memory is
//!   bounded: by the number of containers and clients, which are limited, and not by time or output.
//! - No code that makes containers runs in the monitor while it serves: it calls `kitc` as a child,
//!   which dies with it.
//! - A client that goes takes nothing along; one that does not read its answers or events is dropped,
//!   and asks for the state when it is back. Events of one container are in order.
//! - A container's output is read at the speed of its log's disk and of its attached clients; a client
//!   that takes nothing for some seconds is dropped.
//! - SIGTERM ends it only when no container lives. When it is killed, its containers may live on, but
//!   nobody has their streams: [`bury`] takes everything away, and says what is known of how they ended.
//! - The low OOM score is the monitor's alone: containers get the one that it was started with.
//!
//! A terminal of a process that was run in a container belongs to the client that asked for it: the
//! answer brings its master, the client copies and sets the size itself, and the process is hung up
//! when the client goes. Only a container's own terminal outlives its clients.
//!
//! The state is on a memory file system, so nothing is synced: after a crash of the machine there are
//! no containers.

mod bury;
mod call;
mod children;
mod client;
mod container;
pub mod log;
mod packet;
mod poller;
pub mod protocol;
mod requests;
mod sandbox;
mod server;
mod start;
mod stdio;
pub mod stream;

pub use bury::{Remains, bury};
pub use client::{Client, Error as ClientError};
pub use sandbox::{Error as SandboxError, Namespace, Sandbox};
pub use start::main;

use serde::Serialize;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of what is known of containers, in the pod's directory.
const CONTAINERS: &str = "containers";
/// The monitor's socket, in the pod's directory.
const SOCKET: &str = "monitor.sock";
/// Which processes there are, in the pod's directory.
const PROCESSES: &str = "monitor.json";
/// The monitor's log, in the pod's directory.
const LOG: &str = "monitor.log";
/// The longest monitor's log, in bytes; a longer one begins anew.
const LOG_BYTES: u64 = 64 * 1024;

/// Where it is written how a container ended.
fn exit_file(dir: &Path, id: &str) -> PathBuf {
    dir.join(CONTAINERS).join(id).join("exit.json")
}

/// Writes a file beside its place and puts it there.
fn write_beside(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(&beside, path)
}

/// Removes a directory. What cannot be removed now is found when the pod is taken away.
fn remove_if_there(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
}

/// Writes a line to the monitor's log, which is its standard error.
fn note(text: fmt::Arguments<'_>) {
    eprintln!("{}: {text}", crate::report::rfc3339(std::time::SystemTime::now()));
    let stderr = rustix::stdio::stderr();
    let long = rustix::fs::fstat(stderr).is_ok_and(|stat| stat.st_size as u64 > LOG_BYTES);
    if long {
        let _ = rustix::fs::ftruncate(stderr, 0);
    }
}
