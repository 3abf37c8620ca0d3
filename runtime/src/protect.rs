//! Keeping containers from writing to the program file of `kitc`.
//!
//! A process of `kitc` is inside of a container for the time before it becomes the container's
//! program, and a container can make `kitc` be that program (`#!/proc/self/exe`). Through
//! `/proc/PID/exe` its root user could then open the host's file and, once nobody runs it, write to it.
//! So `kitc` runs itself from a read-only clone of the mount that its file is on: no writing goes
//! through that, whatever the rights. Where the file system is read-only already, nothing is needed; where
//! the mount cannot be cloned, a sealed copy in memory does the same.

use crate::mount::options::ATTR_RDONLY;
use crate::sys::exec::fexecve;
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Why the program could not be run read-only.
#[derive(Debug, thiserror::Error)]
#[error("run kitc from a read-only mount: {doing}")]
pub struct Error {
    doing: &'static str,
    source: io::Error,
}

/// Runs this program again from a read-only mount, unless it is on one. Returns when it is, or when the
/// caller is no root user, whose containers cannot have more rights to the file than it has itself.
pub fn ensure_read_only_program(args: &[OsString]) -> Result<(), Error> {
    let fail = |doing| move |source: io::Error| Error { doing, source };
    let program = c"/proc/self/exe";
    let stat = rustix::fs::statvfs(program).map_err(|e| fail("look at it")(e.into()))?;
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = match rustix::mount::open_tree(CWD, program, flags) {
        Ok(clone) => {
            let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
            mount_setattr(clone.as_fd(), c"", false, &attr).map_err(fail("make the mount read-only"))?;
            clone
        }
        // A root user without rights over mounts makes no containers that have them.
        Err(Errno::PERM) => return Ok(()),
        // The program comes from another mount namespace.
        Err(Errno::INVAL) if is_sealed() => return Ok(()),
        Err(Errno::INVAL) => sealed_copy().map_err(fail("copy it into memory"))?,
        Err(errno) => return Err(fail("clone the mount")(errno.into())),
    };
    let strings = |list: Vec<OsString>| -> Vec<CString> {
        list.into_iter().filter_map(|s| CString::new(s.into_vec()).ok()).collect()
    };
    let env = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        })
        .collect();
    let source = fexecve(copy.as_fd(), &strings(args.to_vec()), &strings(env));
    Err(Error { doing: "exec", source })
}

/// Whether this program runs from a copy that [`sealed_copy`] made.
fn is_sealed() -> bool {
    let file = rustix::fs::open(c"/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    file.and_then(rustix::fs::fcntl_get_seals).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// This program in a file in memory that nobody can change any more.
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create(c"kitc", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}
