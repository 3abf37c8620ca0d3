//! Removes trees that somebody else made: of any depth, with any names, followed nowhere.
//!
//! A tree may be deeper than a process has descriptors or stack. So each directory that lies deeper than one level is
//! first moved up to the top of the tree; then it is not deeper any more. Every directory is moved once, and two are
//! open at any time. A crash in between leaves a smaller tree to remove.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, chmodat, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Removes what `name` is in `dir`, with all below it; nothing there is fine.
///
/// # Errors
/// The kernel's. What could be removed is gone then.
pub fn discard<Name: Arg + Copy>(dir: impl AsFd, name: Name) -> io::Result<()> {
    let dir = dir.as_fd();
    if !is_left(dir, name)? {
        return Ok(());
    }
    let top = open(dir, name)?;
    let mut moved = 0;
    loop {
        each(top.as_fd(), |child| flatten(top.as_fd(), child, &mut moved))?;
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            // What was moved while the list was read may not have been on it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            done => return Ok(done?),
        }
    }
}

/// Removes one entry at the top; the directories in it go to the top.
fn flatten(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> io::Result<()> {
    if !is_left(top, name)? {
        return Ok(());
    }
    let dir = open(top, name)?;
    each(dir.as_fd(), |child| {
        if !is_left(dir.as_fd(), child)? {
            return Ok(());
        }
        loop {
            *moved += 1;
            let to = format!("moved-{moved}");
            match renameat_with(&dir, child, top, to.as_str(), RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Err(Errno::ACCESS) => chmodat(&dir, child, Mode::RWXU, AtFlags::empty())?,
                done => return Ok(done?),
            }
        }
    })?;
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        // Removed when the top is read again.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        done => Ok(done?),
    }
}

/// Removes what is no directory, or an empty one; true if there is still something.
fn is_left<Name: Arg + Copy>(dir: BorrowedFd<'_>, name: Name) -> io::Result<bool> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory, whatever its mode.
fn open<Name: Arg + Copy>(dir: BorrowedFd<'_>, name: Name) -> io::Result<OwnedFd> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, name, flags, Mode::empty())
    };
    match open() {
        Err(Errno::ACCESS) => {
            chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            Ok(open()?)
        }
        done => Ok(done?),
    }
}

fn each(dir: BorrowedFd<'_>, mut f: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            f(entry.file_name())?;
        }
    }
    Ok(())
}
