//! `mount_setattr`: attributes of a mount or a whole tree of mounts, and mapped ids.

use super::checked;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct mount_attr` of `linux/mount.h` (Linux 5.12).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// The descriptor of a user namespace, for `MOUNT_ATTR_IDMAP`.
    pub userns_fd: u64,
}

/// Changes the attributes of the mount at `path` under `dir` (the mount of `dir` itself when `path`
/// is empty), and of all mounts below it when `recursive`.
pub fn mount_setattr(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `attr` is a valid mount_attr of the size told, and `path` a C string; both outlive
    // the call, which only reads them.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
