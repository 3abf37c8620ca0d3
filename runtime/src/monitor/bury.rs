//! Taking away a pod whose monitor is gone, or is to go.

use super::call::{JOBS, RUNTIME};
use super::protocol::Ended;
use super::sandbox::{self, Named};
use super::{CONTAINERS, PROCESSES, SOCKET, exit_file};
use crate::delete;
use crate::state::{self, StateDir};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// How long a killed process may take to end, in seconds.
const END_DEADLINE_SECS: i64 = 10;

/// What is known of a container of a pod that was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Its name.
    pub id: String,
    /// How it ended; `None` if it had not when its monitor did.
    pub ended: Option<Ended>,
}

/// The processes of a pod that are not in its containers: `monitor.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processes {
    /// The monitor.
    pub(super) monitor: Named,
    /// The first process of the shared pid namespace.
    pub(super) pause: Option<Named>,
}

/// Why something could not be taken away. What comes before it is gone; it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call on a file or directory failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A process cannot be killed.
    #[error("kill process {pid}")]
    Kill {
        /// Its number.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
    /// A process did not end.
    #[error("process {pid} still lives {END_DEADLINE_SECS} s after it was killed")]
    Undead {
        /// Its number.
        pid: i32,
    },
    /// The list of containers.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A container could not be deleted.
    #[error("delete container {id}")]
    Delete {
        /// Its name.
        id: String,
        /// Why not.
        source: delete::Error,
    },
    /// A call of `kitc` that was cut off has left something behind.
    #[error("container {id} is not deleted: the pod is to be buried")]
    Left {
        /// Its name.
        id: String,
    },
    /// The namespaces could not be given up.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
}

/// Kills what lives of the pod in `dir`: its monitor, calls of `kitc`, its containers; gives up its
/// namespaces and removes its state, but for `sandbox.json` and `monitor.log`. What is gone already is
/// fine. Returns what is known of the containers, by name.
pub fn bury(dir: &Path) -> Result<Vec<Remains>, Error> {
    let processes: Option<Processes> = read(&dir.join(PROCESSES))?;
    if let Some(processes) = processes {
        kill(processes.monitor)?;
    }
    let remains = remains(dir)?;
    kill_calls(dir)?;
    delete_containers(dir)?;
    take_away(dir, processes.and_then(|processes| processes.pause))?;
    Ok(remains)
}

/// Kills the calls of `kitc` that run: they are told to die with their monitor, but may not be dead yet.
fn kill_calls(dir: &Path) -> Result<(), Error> {
    let files = list(&dir.join(JOBS))?;
    for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "process")) {
        if let Some(call) = read(path)? {
            kill(call)?;
        }
    }
    Ok(())
}

fn delete_containers(dir: &Path) -> Result<(), Error> {
    let root = dir.join(RUNTIME);
    for id in StateDir::list(&root)? {
        let failed = |source| Error::Delete { id: id.clone(), source };
        let record = StateDir::open(&root, &id).and_then(|dir| dir.read()).ok().flatten();
        if let Some(record) = record {
            // All of them, since a pid namespace that others share may keep some.
            record.cgroup.kill().map_err(|error| failed(error.into()))?;
        }
        delete::delete(&root, &id, true).map_err(failed)?;
    }
    Ok(())
}

/// Takes away what is left of a pod without containers: the pause process, the namespaces, the state.
/// The monitor is the caller, or is gone.
pub(super) fn take_away(dir: &Path, pause: Option<Named>) -> Result<(), Error> {
    let root = dir.join(RUNTIME);
    if let Some(id) = StateDir::list(&root)?.into_iter().next() {
        return Err(Error::Left { id });
    }
    if let Some(pause) = pause {
        kill(pause)?;
    }
    sandbox::unmount(dir)?;
    for path in [dir.join(JOBS), root, dir.join(CONTAINERS)] {
        gone(&path, "remove directory", fs::remove_dir_all(&path))?;
    }
    for path in [dir.join(SOCKET), dir.join(PROCESSES)] {
        gone(&path, "remove", fs::remove_file(&path))?;
    }
    Ok(())
}

fn gone(path: &Path, doing: &'static str, result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { doing, path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Reads a file of the monitor. One that was cut off while it was written is as good as none.
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { doing: "read", path: path.to_owned(), source }),
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io { doing: "list", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(io)?;
    paths.sort();
    Ok(paths)
}

fn remains(dir: &Path) -> Result<Vec<Remains>, Error> {
    let names = list(&dir.join(CONTAINERS))?;
    let names = names.iter().filter_map(|path| path.file_name()?.to_str());
    names.map(|id| Ok(Remains { id: id.to_owned(), ended: read(&exit_file(dir, id))? })).collect()
}

/// Kills a process and waits until it has ended.
fn kill(named: Named) -> Result<(), Error> {
    let pid = named.pid;
    let failed = |source| Error::Kill { pid, source };
    let Some(pidfd) = sandbox::open(named).map_err(failed)? else { return Ok(()) };
    match signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        result => result.map_err(failed)?,
    }
    let deadline = Timespec { tv_sec: END_DEADLINE_SECS, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline));
    if ready.map_err(|e| failed(e.into()))? == 0 {
        return Err(Error::Undead { pid });
    }
    Ok(())
}
