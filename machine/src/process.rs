//! A monitor's process, held by a pidfd: a number that is used again can never be mistaken for it.

use crate::deadline::{Deadline, poll};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What tells a process from all others since boot: its number, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process's number.
    pub(crate) pid: u32,
    /// Its start, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub(crate) start: u64,
}

/// A process that is, or was, alive.
#[derive(Debug)]
pub(crate) struct Process {
    identity: Identity,
    fd: OwnedFd,
}

impl Process {
    /// The process with a number that cannot have been used again yet: a child not waited for.
    pub(crate) fn of_child(pid: u32) -> io::Result<Process> {
        let fd = open(pid)?.ok_or(Errno::SRCH)?;
        let start = start_time(pid)?.ok_or(Errno::SRCH)?;
        Ok(Process { identity: Identity { pid, start }, fd })
    }

    /// The process of that identity, if it lives.
    pub(crate) fn find(identity: Identity) -> io::Result<Option<Process>> {
        let Some(fd) = open(identity.pid)? else { return Ok(None) };
        // Opened first, compared then: what is compared is what the descriptor holds, or its successor.
        let same = start_time(identity.pid)? == Some(identity.start);
        Ok(same.then_some(Process { identity, fd }))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Kills it; that it is gone already is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until it has ended; false if the deadline passed first.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<bool> {
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], deadline)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Identity {
    /// Reads what [`Identity::line`] wrote.
    pub(crate) fn parse(line: &str) -> Option<Identity> {
        let (pid, start) = line.trim_end().split_once(' ')?;
        Some(Identity { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    /// The line of a pid file.
    pub(crate) fn line(self) -> String {
        format!("{} {}\n", self.pid, self.start)
    }
}

fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_start(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Field 22 of `/proc/PID/stat`. The program's name, field 2, is in parentheses and may contain anything.
fn parse_start(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "77 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n";
        assert_eq!(parse_start(stat), Some(4242));
        assert_eq!(parse_start("77 (a"), None);
    }

    #[test]
    fn a_number_with_another_start_is_another_process() {
        let me = Process::of_child(std::process::id()).unwrap().identity();
        assert!(Process::find(me).unwrap().is_some());
        assert!(Process::find(Identity { start: me.start + 1, ..me }).unwrap().is_none());
        assert!(Process::find(Identity { pid: 0, start: 1 }).unwrap().is_none());
    }

    #[test]
    fn a_pid_file_reads_back() {
        let identity = Identity { pid: 7, start: 99 };
        assert_eq!(Identity::parse(&identity.line()), Some(identity));
        assert_eq!(Identity::parse("7\n"), None);
        assert_eq!(Identity::parse(""), None);
    }
}
