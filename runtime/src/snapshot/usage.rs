//! What a tree takes on its disk.
//!
//! A container may nest directories deeper than a process has descriptors, stack, or bytes in a path. So only one
//! directory is open at a time, and the way back up leads through `..`, which must be where we came from.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::ops::AddAssign;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Blocks and inodes of a tree, its root among them. What has several names counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all blocks, as `du` counts.
    pub bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// A directory on the way, and what in it is still to be entered.
struct Level {
    inode: u64,
    dirs: Vec<CString>,
}

impl Usage {
    /// Measures a directory with all below it; not what is mounted there.
    ///
    /// # Errors
    /// The kernel's, and when a directory is moved away while it is measured. What vanishes meanwhile is no error.
    pub(super) fn of(path: &Path) -> io::Result<Usage> {
        let mut at = open(rustix::fs::CWD, path)?;
        let root = fstat(&at)?;
        let mut usage = Usage::default();
        let mut seen = HashSet::new();
        usage.count(&root);
        let mut levels = vec![Level { inode: root.st_ino, dirs: usage.list(&at, &root, &mut seen)? }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.dirs.pop() else {
                levels.pop();
                if let Some(above) = levels.last() {
                    at = open(at.as_fd(), c"..")?;
                    if fstat(&at)?.st_ino != above.inode {
                        return Err(io::Error::other("a directory was moved meanwhile"));
                    }
                }
                continue;
            };
            match open(at.as_fd(), name.as_c_str()) {
                Ok(below) => {
                    let stat = fstat(&below)?;
                    let dirs = usage.list(&below, &root, &mut seen)?;
                    levels.push(Level { inode: stat.st_ino, dirs });
                    at = below;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(usage)
    }

    /// Counts what is in a directory, and gives the directories of the same file system.
    fn list(&mut self, dir: &OwnedFd, root: &Stat, seen: &mut HashSet<u64>) -> io::Result<Vec<CString>> {
        let mut dirs = Vec::new();
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            if stat.st_dev != root.st_dev {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                dirs.push(name.to_owned());
                self.count(&stat);
            } else if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
                self.count(&stat);
            }
        }
        Ok(dirs)
    }

    /// `st_blocks` counts 512 bytes, whatever the file system's blocks are (stat(2)).
    fn count(&mut self, stat: &Stat) {
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        *self += Usage { bytes, inodes: 1 };
    }
}

fn open<Name: Arg>(dir: BorrowedFd<'_>, name: Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}
