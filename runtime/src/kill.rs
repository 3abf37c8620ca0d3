//! `kitc kill`, `pause` and `resume`: signals to a container's first process or to all of them.

use crate::cgroup;
use crate::state::{self, StateDir, Status};
use crate::sys::signal;
use rustix::process::{Pid, PidfdFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Why a signal could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// There is no such signal.
    #[error("there is no signal {name:?}")]
    NoSignal {
        /// As given.
        name: String,
    },
    /// It has no process to send a signal to.
    #[error("container not running: {id} is {}", status.word())]
    Status {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// The kernel refused.
    #[error("send signal {number} to container {id}, process {pid}")]
    Send {
        /// The signal.
        number: i32,
        /// The container.
        id: String,
        /// Its process.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
}

/// The names of signals 1 to 31 on the architectures that this crate is for, without SIG.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal by name (with or without SIG, in any case), or by number.
pub fn number(name: &str) -> Result<i32, Error> {
    let bad = || Error::NoSignal { name: name.to_owned() };
    if let Ok(number) = name.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(bad()) };
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(place) = NAMES.iter().position(|&n| n == short) {
        return Ok(place as i32 + 1);
    }
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    let number = match short {
        "POLL" => Some(29),
        "IOT" => Some(6),
        "CLD" => Some(17),
        _ => match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
            (Some(after), _) => offset(after).map(|n| 34 + n).filter(|n| (34..=64).contains(n)),
            (_, Some(after)) => offset(after).map(|n| 64 + n).filter(|n| (34..=64).contains(n)),
            _ => None,
        },
    };
    number.ok_or_else(bad)
}

/// Sends a signal to the first process of a container, or to all its processes.
pub fn kill(root: &Path, id: &str, number: i32, all: bool) -> Result<(), Error> {
    let record = StateDir::open(root, id)?.read()?;
    let status = record.as_ref().map_or(Status::Creating, |r| r.status_now());
    let refuse = || Err(Error::Status { id: id.to_owned(), status });
    let Some(record) = record else { return refuse() };
    if all {
        // The first one may have ended and left others behind (without a pid namespace).
        let found =
            if number == libc::SIGKILL { record.cgroup.kill()? } else { record.cgroup.signal_all(number)? };
        if found {
            return Ok(());
        }
    }
    if status == Status::Stopped {
        return refuse();
    }
    let failed = |source: io::Error| Error::Send { number, id: id.to_owned(), pid: record.pid, source };
    let Some(pidfd) = open_process(&record).map_err(failed)? else {
        return Err(Error::Status { id: id.to_owned(), status: Status::Stopped });
    };
    signal::pidfd_send_signal(pidfd.as_fd(), number).map_err(failed)?;
    if status == Status::Paused && number == libc::SIGKILL {
        record.cgroup.set_frozen(false)?;
    }
    Ok(())
}

/// Opens a container's first process, and makes sure that it is that one and no later one with its
/// number. `None` when it has ended.
pub fn open_process(record: &state::Record) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(record.pid) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        result => result?,
    };
    let same = state::life(record.pid)?.is_some_and(|life| life.start_time == record.start_time);
    Ok(same.then_some(pidfd))
}

/// Freezes a running container, or thaws a paused one.
pub fn set_paused(root: &Path, id: &str, paused: bool) -> Result<(), Error> {
    let record = StateDir::open(root, id)?.read()?;
    let status = record.as_ref().map_or(Status::Creating, |r| r.status_now());
    match record {
        Some(record) if matches!(status, Status::Running | Status::Paused | Status::Created) => {
            Ok(record.cgroup.set_frozen(paused)?)
        }
        _ => Err(Error::Status { id: id.to_owned(), status }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_and_number() {
        for (name, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", libc::SIGTERM),
            ("usr1", libc::SIGUSR1),
            ("SYS", libc::SIGSYS),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("POLL", libc::SIGPOLL),
        ] {
            assert_eq!(number(name).unwrap(), expected, "{name}");
        }
        for name in ["", "SIG", "65", "-1", "NOPE", "RTMIN+31", "RTMAX+1", "RTMIN-1"] {
            assert!(number(name).is_err(), "{name}");
        }
    }
}
