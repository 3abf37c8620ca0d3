//! Becoming another program, and the descriptors that come along.

use super::checked;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A null-terminated array of pointers into `strings`, as `execve` wants it.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Replaces this program by the one at `path`. Returns only the reason why not.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all three are null-terminated and outlive the call; on success nothing is left that
    // could observe them.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces this program by the file that `file` refers to. Returns only the reason why not.
pub fn fexecve(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    let empty = c"".as_ptr();
    // SAFETY: the arrays are null-terminated and outlive the call; the path is an empty C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            empty,
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on as to be closed when this process execs.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only the close-on-exec mark changes, so no owner's descriptor becomes invalid.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes every descriptor from `first` on. The caller is a process that goes on to use none that it
/// had: for the copy of a program that keeps nothing.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: descriptors that values of this process own become invalid; the only caller ends with
    // `exit_now` or never, so that no such value is used or dropped afterwards.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}

/// Takes over a copy of descriptor `raw`, which the program inherited, marked close-on-exec.
/// An error (EBADF) means that there is no such descriptor.
pub fn duplicate(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC on any integer either fails or makes a new descriptor.
    let copy = checked(unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) }.into())?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Lets descriptor `raw`, which the program inherited, survive an exec.
pub fn keep_on_exec(raw: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD on any integer either fails or changes a mark of an open descriptor.
    checked(unsafe { libc::fcntl(raw, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Makes `target` (a plain number, as in `--preserve-fds`) a copy of `source`, kept over an exec.
pub fn duplicate_onto(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: the numbers used are 0, 1 and 2, which no `OwnedFd` of this program owns.
    checked(unsafe { libc::dup2(source.as_raw_fd(), target) }.into()).map(drop)
}
