//! Calls of `kitc`, as children that the monitor does not wait for.
//!
//! A call has files of its own in `jobs/` of the pod's directory: its log, where `kitc` tells its
//! errors, and what its options name. `jobs/N.process` says which process it is, for
//! [`super::bury`]. A call dies with the monitor.

use super::packet;
use super::sandbox::Named;
use crate::sys;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::signal;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where calls have their files, in the pod's directory, which is the working directory.
pub const JOBS: &str = "jobs";
/// The directory of all containers of `kitc`, in the pod's directory.
pub const RUNTIME: &str = "runtime";

/// How `kitc` is called.
#[derive(Debug)]
pub struct Program {
    path: CString,
    /// `--root`, absolute.
    root: PathBuf,
    env: Vec<CString>,
    /// What containers get that ask for nothing: the monitor's own value is lower.
    oom_score_adj: String,
    next: u64,
}

/// The files of a call.
#[derive(Debug)]
pub struct Files {
    number: u64,
    console: Option<OwnedFd>,
}

impl Program {
    /// `kitc` at a path, for the pod in `dir`.
    pub fn new(path: &Path, dir: &Path, oom_score_adj: String) -> io::Result<Program> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let env = std::env::vars_os().filter_map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        });
        Ok(Program { path, root: dir.join(RUNTIME), env: env.collect(), oom_score_adj, next: 0 })
    }

    /// The files of the next call.
    pub fn files(&mut self) -> Files {
        self.next += 1;
        Files { number: self.next, console: None }
    }

    /// Starts a call. Returns its process id.
    pub fn call(&self, files: &Files, args: &[&OsStr], stdio: [BorrowedFd<'_>; 3]) -> io::Result<i32> {
        let log = files.path("log");
        let mut words: Vec<OsString> =
            ["kitc", "--log-format", "json", "--log"].into_iter().map(OsString::from).collect();
        words.extend([log.into_os_string(), "--root".into(), self.root.clone().into_os_string()]);
        words.extend(args.iter().map(OsString::from));
        let words: Vec<CString> =
            words.into_iter().map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>()?;
        let parent = rustix::process::getpid();
        match clone3(0, None)? {
            Cloned::Child => {
                // Nobody would hear why not: the call ends with a code of its own, and without a log.
                let _ = self.become_kitc(&words, stdio, parent);
                exit_now(127)
            }
            Cloned::Parent { pid, .. } => {
                let pid = pid.as_raw_nonzero().get();
                // It may have ended by now, but nobody else can have its number yet.
                let named = Named::of(pid)?;
                fs::write(files.path("process"), serde_json::to_vec(&named).unwrap_or_default())?;
                Ok(pid)
            }
        }
    }

    fn become_kitc(
        &self,
        words: &[CString],
        stdio: [BorrowedFd<'_>; 3],
        parent: rustix::process::Pid,
    ) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            return Ok(());
        }
        let _ = fs::write("/proc/self/oom_score_adj", &self.oom_score_adj);
        for (number, fd) in stdio.into_iter().enumerate() {
            sys::exec::duplicate_onto(fd, number as i32)?;
        }
        sys::exec::close_on_exec_from(3)?;
        signal::restore_defaults();
        Err(sys::exec::execve(&self.path, words, &self.env))
    }
}

impl Files {
    /// The path of a file of this call, relative to the pod's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(JOBS).join(format!("{}.{name}", self.number))
    }

    /// Listens where `kitc` sends a terminal to.
    pub fn listen_for_console(&mut self) -> io::Result<PathBuf> {
        let path = self.path("console");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        rustix::net::listen(&socket, 1)?;
        self.console = Some(socket);
        Ok(path)
    }

    /// The terminal that a call which has ended sent.
    pub fn take_console(&mut self) -> io::Result<Option<OwnedFd>> {
        let Some(listener) = self.console.take() else { return Ok(None) };
        let socket = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)?;
        let received = packet::receive(socket.as_fd(), &mut [0; 64])?;
        Ok(received.fds.into_iter().next())
    }

    /// The process id that a call which has ended wrote.
    pub fn read_pid(&self) -> io::Result<i32> {
        let text = fs::read_to_string(self.path("pid"))?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// The error that a call which has ended told.
    pub fn read_error(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("log")).ok()?;
        let line: Value = serde_json::from_str(text.lines().last()?).ok()?;
        line["msg"].as_str().map(str::to_owned)
    }

    /// Removes the files.
    pub fn remove(&self) {
        for name in ["log", "process", "console", "pid", "json"] {
            let _ = fs::remove_file(self.path(name));
        }
    }
}
