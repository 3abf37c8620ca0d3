//! The only unsafe code of this crate: what a child does between `fork` and `exec`, where Rust can promise nothing.
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Chooses the signal of signal-driven I/O (Linux, asm-generic/fcntl.h; the libc crate lacks it for this target).
const F_SETSIG: libc::c_int = 10;

/// Arranges that the child leads a session of its own (the terminal's Ctrl-C is the caller's), has no descriptors
/// but the standard ones, `inherit` and `lifeline`, and is killed when the last writer of `lifeline` is gone.
///
/// `lifeline` is the read end of a pipe. Signal-driven I/O is armed on it with SIGKILL as its signal and the child as
/// its owner: the kernel sends it when the write end is closed, however that happens. Unlike `PR_SET_PDEATHSIG` this
/// does not depend on the thread that forked, and can be disarmed later by anyone who shares the open file: clear
/// `O_ASYNC`. There is no moment in which the parent's death goes unnoticed: until its `exec` the child is a writer
/// itself, so the last writer goes after the signal is armed.
pub(crate) fn own_session_on_a_lifeline(command: &mut Command, inherit: Vec<OwnedFd>, lifeline: OwnedFd) {
    let prepare = move || {
        rustix::process::setsid()?;
        // What others forgot to mark: a detached machine must not hold their pipes open. Linux before 5.11 cannot.
        let _ = close_on_exec_from(3);
        for fd in inherit.iter().chain([&lifeline]) {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        kill_me_at_hangup(lifeline.as_raw_fd())
    };
    // SAFETY: the closure runs in the forked child of a process that may have other threads, so it must not take
    // locks or allocate: it makes system calls on descriptors that it owns, and builds errors from numbers only.
    unsafe { command.pre_exec(prepare) };
}

/// Marks every descriptor from `first` on to be closed at `exec`.
fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes three integers; marks descriptors, closes none, so no owner of one is deceived.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel kill the calling process when the pipe's last writer goes.
fn kill_me_at_hangup(pipe: RawFd) -> io::Result<()> {
    // SAFETY: these three commands of fcntl take integers, and `pipe` is a descriptor the caller owns.
    let result = unsafe {
        let mut result = libc::fcntl(pipe, libc::F_SETOWN, libc::getpid());
        if result == 0 {
            result = libc::fcntl(pipe, F_SETSIG, libc::SIGKILL);
        }
        if result == 0 {
            result = libc::fcntl(pipe, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK);
        }
        result
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
