//! Hooks: programs that a bundle wants to be run at points of a container's life.
//!
//! A hook gets the container's state as JSON on standard input, exactly the environment of its
//! configuration, and may not run longer than its timeout. What it prints goes where `kitc` prints.

use crate::state::OciState;
use crate::sys::signal;
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Why a hook did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("hooks.{point}[{index}]: start {}", path.display())]
    Start {
        /// Its list.
        point: &'static str,
        /// Its place in the list.
        index: usize,
        /// Its program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("hooks.{point}[{index}]: wait for {}", path.display())]
    Wait {
        /// Its list.
        point: &'static str,
        /// Its place in the list.
        index: usize,
        /// Its program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended with a code other than 0, or by a signal.
    #[error("hooks.{point}[{index}]: {} ended with {outcome}", path.display())]
    Failed {
        /// Its list.
        point: &'static str,
        /// Its place in the list.
        index: usize,
        /// Its program.
        path: PathBuf,
        /// How it ended.
        outcome: String,
    },
    /// It ran longer than it may.
    #[error("hooks.{point}[{index}]: {} ran longer than its timeout of {seconds} s", path.display())]
    Timeout {
        /// Its list.
        point: &'static str,
        /// Its place in the list.
        index: usize,
        /// Its program.
        path: PathBuf,
        /// Its timeout.
        seconds: i64,
    },
}

/// Runs the hooks of one list in order, and stops at the first that fails.
pub fn run_all(point: &'static str, hooks: &[Hook], state: &OciState<'_>) -> Result<(), Error> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = state_text(state);
    hooks.iter().enumerate().try_for_each(|(index, hook)| run(point, index, hook, &text))
}

/// Runs the hooks of one list in order, all of them, and returns what went wrong: for the points where
/// the specification wants failures logged and the life to go on.
pub fn run_each(point: &'static str, hooks: &[Hook], state: &OciState<'_>) -> Vec<Error> {
    if hooks.is_empty() {
        return Vec::new();
    }
    let text = state_text(state);
    hooks.iter().enumerate().filter_map(|(index, hook)| run(point, index, hook, &text).err()).collect()
}

fn state_text(state: &OciState<'_>) -> Vec<u8> {
    // Strings, numbers and maps with string keys: this cannot fail.
    serde_json::to_vec(state).unwrap_or_default()
}

fn run(point: &'static str, index: usize, hook: &Hook, state: &[u8]) -> Result<(), Error> {
    let path = || hook.path().clone();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[_]>::split_first) {
        command.arg0(name).args(rest);
    }
    let pairs = hook.env().iter().flatten().filter_map(|pair| pair.split_once('='));
    command.env_clear().envs(pairs).stdin(Stdio::piped());
    let mut child = command.spawn().map_err(|source| Error::Start { point, index, path: path(), source })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(state);
    }
    let waited = match hook.timeout() {
        Some(seconds) => wait_at_most(&mut child, seconds),
        None => child.wait().map(Some),
    };
    match waited.map_err(|source| Error::Wait { point, index, path: path(), source })? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Error::Failed { point, index, path: path(), outcome: outcome(status) }),
        None => {
            Err(Error::Timeout { point, index, path: path(), seconds: hook.timeout().unwrap_or_default() })
        }
    }
}

/// Waits for a child at most so long; then kills it and returns `None`.
fn wait_at_most(child: &mut Child, seconds: i64) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(child.id() as i32).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: seconds.max(0), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))?;
    if ready == 0 {
        signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no code".to_owned(),
    }
}
