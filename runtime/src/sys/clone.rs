//! Making processes and entering namespaces: `clone3`, `unshare`, the session keyring.

use super::checked;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What `clone3` returned, and where.
pub enum Cloned {
    /// This is the new process.
    Child,
    /// This is the caller, with the new process as seen from its pid namespace.
    Parent {
        /// The process id in the caller's pid namespace.
        pid: Pid,
        /// A descriptor that stays with this very process.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` of `linux/sched.h`, the first version with `cgroup` (88 bytes, Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process that continues here, as `fork` does, in the namespaces of `flags` and, where
/// given, in the cgroup (version 2) whose directory is `cgroup`.
///
/// The child gets SIGCHLD sent to its parent when it ends, and every handled signal back to its
/// default. The calling program must have one thread only: the child goes on to allocate.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: &raw mut pidfd as u64,
        // With CLONE_PARENT the kernel uses the parent's own exit signal and wants zero here.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size told, `pidfd` outlives the call, and without
    // CLONE_VM the child has its own copy of the memory, so no Rust state is shared. The program is
    // single-threaded (crate invariant), so no lock is held by a thread that the child lacks.
    let value = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let value = checked(value)?;
    match Pid::from_raw(value as i32) {
        None => Ok(Cloned::Child),
        Some(pid) => {
            // SAFETY: the kernel stored a descriptor that it opened for us and nobody else knows.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// Moves the calling process into new namespaces of the kinds in `flags` (`CLONE_NEW*`).
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: unshare reads one integer; the flags used by this crate are namespaces only, never
    // CLONE_VM or CLONE_FILES, so no memory or descriptor changes its meaning.
    checked(unsafe { libc::unshare(flags as libc::c_int) }.into()).map(drop)
}

/// Joins a new, empty session keyring, so that the container does not inherit the caller's keys.
pub fn join_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring; no memory is read or written.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) }).map(drop)
}

/// Ends this process at once: no destructors, no flushing of buffers shared with the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
