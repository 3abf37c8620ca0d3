//! Signals by number: sending to a pidfd, taking them as data, putting back the defaults.

use super::checked;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Sends signal `number` to the process behind `pidfd`. Number 0 only asks whether it is there.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo asks the kernel to fill in what kill() would.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, info, 0) })
        .map(drop)
}

/// Sends signal `number` to process `pid`.
pub fn kill(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: two integers.
    checked(unsafe { libc::kill(pid, number) }.into()).map(drop)
}

/// Blocks every signal and returns a descriptor from which they are read instead.
pub fn block_all_into_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: sigset_t is plain data; sigfillset initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid, writable set for all three calls; the old mask is not asked for.
    let fd = unsafe {
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC)
    };
    let fd = checked(fd.into())?;
    // SAFETY: signalfd opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Unblocks every signal and puts each one back to its default action.
pub fn restore_defaults() {
    // The kernel's own structure (handler, flags, restorer, mask), in which all zeroes are the default.
    // The C library's call would refuse two signals that it uses itself.
    let default = [0_u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    // SAFETY: `default` is as long as the kernel's structure and only read; the old one is not asked
    // for; the two signals that cannot be changed fail harmlessly. `set` is initialised by sigemptyset
    // before it is read.
    unsafe {
        for number in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), old, size_of::<u64>());
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
