//! Opening and making paths inside a container's root, from outside of it.
//!
//! An image may hold any symbolic link: `/etc -> /../../etc`, `/dev -> /proc/1/root/dev`. Every path
//! of a configuration that lies in the image is therefore opened with `openat2` and
//! `RESOLVE_IN_ROOT`: the kernel resolves each link as a process that is confined to the root would,
//! and refuses the magic links of procfs. The caller works on the descriptor, never on the path again.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// As many symbolic links as the kernel follows for one path.
const MAX_LINKS: u32 = 40;
/// How often a path is tried that somebody renames things in at the same time.
const MAX_RACES: u32 = 64;

/// What a missing target is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Opens `path` inside `root` as a place (`O_PATH`), following links inside the root.
pub fn open(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    resolve(root, path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` inside `root` as a place, and refuses (ELOOP) any symbolic link on the way: for what
/// later code trusts by its path, such as `/proc`.
pub fn open_without_links(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    resolve(root, path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

/// Opens `path` inside `root` as a place; what is missing is made, directories with mode 0755.
///
/// A link whose target is missing gets its target made, inside the root.
pub fn open_or_make(root: BorrowedFd<'_>, path: &Path, missing: Missing) -> Result<OwnedFd> {
    make(root, path, missing, MAX_LINKS)
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
    let mut races = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) if races < MAX_RACES => races += 1,
            result => return result,
        }
    }
}

fn make(root: BorrowedFd<'_>, path: &Path, missing: Missing, links: u32) -> Result<OwnedFd> {
    match open(root, path) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        // The path ends in `..` or is the root: what is missing is the directory before it.
        let before = path.parent().ok_or(Errno::NOENT)?;
        make(root, before, Missing::Directory, links)?;
        return open(root, path);
    };
    let dir = make(root, parent, Missing::Directory, links)?;
    match make_one(dir.as_fd(), name, missing) {
        Ok(()) => open(root, path),
        // Something has the name that cannot be opened: a link that leads to nothing yet.
        Err(Errno::EXIST) => {
            let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
            let link = rustix::fs::readlinkat(&dir, name, Vec::new())?;
            let link = PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(link.to_bytes()));
            // `join` drops `parent` when the link is absolute, and the root is where that begins.
            make(root, &parent.join(link), missing, links)
        }
        Err(errno) => Err(errno),
    }
}

fn make_one(dir: BorrowedFd<'_>, name: &OsStr, missing: Missing) -> Result<()> {
    match missing {
        Missing::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Missing::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, dir.path().join("root"), flags, Mode::empty()).unwrap();
        (dir, root)
    }

    #[test]
    fn missing_parents_and_the_file_itself_are_made() {
        let (dir, root) = tree();
        open_or_make(root.as_fd(), Path::new("/a/b/c"), Missing::File).unwrap();
        assert!(dir.path().join("root/a/b/c").is_file());
        open_or_make(root.as_fd(), Path::new("/a/b/d/../e"), Missing::Directory).unwrap();
        assert!(dir.path().join("root/a/b/e").is_dir());
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let (dir, root) = tree();
        let outside = dir.path().join("outside");
        for (name, to) in [
            ("absolute", outside.clone()),
            ("dots", "../../../../../../outside".into()),
            ("here", "../outside".into()),
        ] {
            symlink(to, dir.path().join("root").join(name)).unwrap();
            open_or_make(root.as_fd(), &Path::new("/").join(name).join("made"), Missing::File).unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(dir.path().join("root/outside/made").is_file());
    }

    #[test]
    fn a_link_to_nothing_gets_its_target_made_inside() {
        let (dir, root) = tree();
        fs::create_dir(dir.path().join("root/etc")).unwrap();
        symlink("../run/stub.conf", dir.path().join("root/etc/resolv.conf")).unwrap();
        open_or_make(root.as_fd(), Path::new("/etc/resolv.conf"), Missing::File).unwrap();
        assert!(dir.path().join("root/run/stub.conf").is_file());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (dir, root) = tree();
        symlink("b", dir.path().join("root/a")).unwrap();
        symlink("a", dir.path().join("root/b")).unwrap();
        let error = open_or_make(root.as_fd(), Path::new("/a/x"), Missing::File).unwrap_err();
        assert_eq!(error, Errno::LOOP);
    }

    #[test]
    fn where_no_link_may_be_one_is_refused() {
        let (dir, root) = tree();
        fs::create_dir(dir.path().join("root/tmp")).unwrap();
        symlink("/tmp", dir.path().join("root/proc")).unwrap();
        assert_eq!(open_without_links(root.as_fd(), Path::new("/proc")).unwrap_err(), Errno::LOOP);
        assert!(open_without_links(root.as_fd(), Path::new("/tmp")).is_ok());
    }
}
