//! `kitc delete`: takes away what a stopped container has left.

use crate::bundle;
use crate::cgroup;
use crate::kill;
use crate::start::run_poststop;
use crate::state::{self, Record, StateDir, Status};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// How long a killed process may take to end, in seconds.
const END_DEADLINE_SECS: i64 = 10;

/// Why a container could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// It lives.
    #[error("container {id} is {}, not stopped (use --force to kill it)", status.word())]
    NotStopped {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Its process cannot be killed.
    #[error("kill process {pid} of container {id}")]
    Kill {
        /// Its name.
        id: String,
        /// Its process.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
    /// Its process did not end.
    #[error("process {pid} of container {id} still lives {END_DEADLINE_SECS} s after it was killed")]
    Undead {
        /// Its name.
        id: String,
        /// Its process.
        pid: i32,
    },
}

/// Deletes a stopped container; with `force` one in any state, and none at all.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), Error> {
    let dir = match StateDir::open(root, id) {
        Err(state::Error::Missing { .. }) if force => return Ok(()),
        dir => dir?,
    };
    let Some(record) = dir.read()? else {
        // Its making was cut off before there was a process.
        if force {
            return remove_unfinished(&dir, id);
        }
        return Err(Error::NotStopped { id: id.to_owned(), status: Status::Creating });
    };
    let status = record.status_now();
    if status != Status::Stopped {
        // One that was never started may be deleted as it is.
        if !force && status != Status::Created {
            return Err(Error::NotStopped { id: id.to_owned(), status });
        }
        end(&record)?;
    }
    finish(&dir, &record)
}

/// Takes away a container that has no state yet, with the cgroups that its configuration names.
fn remove_unfinished(dir: &StateDir, id: &str) -> Result<(), Error> {
    if let Ok((spec, _)) = bundle::read_spec(&dir.config()) {
        let path = spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
        // The socket is made after the cgroups, which were empty then, and before a process. One that
        // was made waits there for a start, whoever made it.
        cgroup::remove_leftovers(id, path, dir.start_socket().exists())?;
    }
    Ok(dir.remove()?)
}

/// Takes away what is left of a container whose first process has ended.
pub fn finish(dir: &StateDir, record: &Record) -> Result<(), Error> {
    // Without a pid namespace of its own others may have outlived the first.
    if !record.ends_all {
        record.cgroup.kill()?;
    }
    record.cgroup.remove()?;
    run_poststop(dir, record);
    Ok(dir.remove()?)
}

/// Kills the first process and waits until it has ended.
fn end(record: &Record) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Kill { id: record.id.clone(), pid: record.pid, source };
    let Some(pidfd) = kill::open_process(record).map_err(failed)? else { return Ok(()) };
    match signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        result => result.map_err(failed)?,
    }
    if record.cgroup.is_frozen() {
        record.cgroup.set_frozen(false)?;
    }
    let deadline = Timespec { tv_sec: END_DEADLINE_SECS, tv_nsec: 0 };
    let ready =
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline)).map_err(|e| failed(e.into()))?;
    if ready == 0 {
        return Err(Error::Undead { id: record.id.clone(), pid: record.pid });
    }
    Ok(())
}
