//! Handing the seccomp notification descriptor to its listener (runtime-spec, config-linux, "The
//! Container Process State").

use crate::channel::send_with_descriptor;
use crate::console;
use crate::seccomp::Filter;
use crate::state::OciState;
use serde::Serialize;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Why the listener did not get its descriptor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its socket cannot be reached.
    #[error("linux.seccomp.listenerPath")]
    Connect {
        /// Why not.
        source: console::Error,
    },
    /// The message cannot be sent.
    #[error("linux.seccomp.listenerPath: send to {}", path.display())]
    Send {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a OciState<'a>,
}

/// Sends the listener the descriptor of process `pid`, with the state of its container.
pub fn send(filter: &Filter, state: &OciState<'_>, pid: i32, listener: &OwnedFd) -> Result<(), Error> {
    let Some(path) = &filter.listener else { return Ok(()) };
    let socket = console::connect(path).map_err(|source| Error::Connect { source })?;
    let message = ProcessState {
        oci_version: crate::OCI_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: &filter.metadata,
        state,
    };
    // Strings and numbers: this cannot fail.
    let text = serde_json::to_vec(&message).unwrap_or_default();
    send_with_descriptor(socket.as_fd(), &text, Some(listener.as_fd()))
        .map_err(|source| Error::Send { path: path.clone(), source })
}
