//! The container's root: made a mount of its own, filled, entered, and closed down.

use crate::mount::{self, options};
use crate::sys::mount::{MountAttr, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What can go wrong with the root.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The propagation is none that exists.
    #[error("linux.rootfsPropagation: {word:?} is not a propagation type")]
    Propagation {
        /// As written.
        word: String,
    },
    /// A step of preparing or entering the root failed.
    #[error("root.path {}: {doing}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// The step.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A path cannot be hidden or made read-only.
    #[error("{key}: {doing} {}", path.display())]
    Path {
        /// The list that the path is in.
        key: &'static str,
        /// The step.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `/dev/null` of the container is something else, and would hide nothing.
    #[error("linux.maskedPaths: /dev/null is not the null device")]
    NotNull,
}

/// Makes `rootfs` a mount point of the new mount namespace and opens it.
///
/// `propagation` is that of `linux.rootfsPropagation`; by default nothing that is mounted in the
/// container reaches the host, but the other way round.
pub fn prepare(rootfs: &Path, propagation: Option<&str>) -> Result<OwnedFd, Error> {
    let fail = |doing| move |e: Errno| Error::Root { path: rootfs.to_owned(), doing, source: e.into() };
    let flags = match propagation.filter(|word| !word.is_empty()) {
        None => MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        // What is made of it must still be bound; [`set_propagation`] comes last.
        Some("unbindable" | "runbindable") => MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        Some(word) => parse_propagation(word)? | MountPropagationFlags::REC,
    };
    rustix::mount::mount_change(c"/", flags).map_err(fail("set the propagation of all mounts"))?;
    if flags.contains(MountPropagationFlags::SHARED) {
        make_parent_private(rootfs).map_err(|source| Error::Root {
            path: rootfs.to_owned(),
            doing: "make its parent private",
            source,
        })?;
    }
    rustix::mount::mount_bind_recursive(rootfs, rootfs).map_err(fail("bind it onto itself"))?;
    let open = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(rootfs, open, Mode::empty()).map_err(fail("open it"))
}

/// The flags of a propagation word.
pub fn parse_propagation(word: &str) -> Result<MountPropagationFlags, Error> {
    options::propagation(word).ok_or_else(|| Error::Propagation { word: word.to_owned() })
}

/// Makes the mount that `rootfs` lies on private: a new root cannot have a shared parent, and binding
/// the root onto itself must not reach the host.
fn make_parent_private(rootfs: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let parent = mount_point_of(&table, rootfs).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::mount::mount_change(&parent, MountPropagationFlags::PRIVATE)?)
}

/// The longest mount point of a mount table that `path` is at or below.
fn mount_point_of(table: &str, path: &Path) -> Option<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.as_os_str().len())
}

/// Undoes the octal escapes of a mount table.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// Makes `root` the root of the mount namespace, and forgets the old one.
///
/// The old root ends up mounted on top of the new one and is detached from there, so no directory is
/// needed to put it. Where the old root's mounts may be shared with the host (`shared`), they are first
/// separated, or they would be unmounted there, too.
pub fn enter(root: &OwnedFd, rootfs: &Path, shared: bool) -> Result<(), Error> {
    let fail = |doing| move |e: Errno| Error::Root { path: rootfs.to_owned(), doing, source: e.into() };
    rustix::process::fchdir(root).map_err(fail("change to it"))?;
    let old = if shared {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(rustix::fs::open(c"/", flags, Mode::empty()).map_err(fail("open the old root"))?)
    } else {
        None
    };
    rustix::process::pivot_root(c".", c".").map_err(fail("pivot to it"))?;
    if let Some(old) = &old {
        let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
        mount_setattr(old.as_fd(), c"", true, &attr).map_err(|source| Error::Root {
            path: rootfs.to_owned(),
            doing: "separate the old root",
            source,
        })?;
    }
    rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(fail("detach the old root"))?;
    rustix::process::chdir(c"/").map_err(fail("change to its top"))
}

/// Makes `root` this process's root in a mount namespace that it shares with others, whose root stays.
pub fn enter_shared(root: &OwnedFd, rootfs: &Path) -> Result<(), Error> {
    let fail = |doing| move |e: Errno| Error::Root { path: rootfs.to_owned(), doing, source: e.into() };
    rustix::process::fchdir(root).map_err(fail("change to it"))?;
    rustix::process::chroot(c".").map_err(fail("chroot to it"))?;
    rustix::process::chdir(c"/").map_err(fail("change to its top"))
}

/// Sets the propagation of the entered root.
pub fn set_propagation(word: &str) -> Result<(), Error> {
    let flags = parse_propagation(word)?;
    rustix::mount::mount_change(c"/", flags).map_err(|e| Error::Root {
        path: "/".into(),
        doing: "set linux.rootfsPropagation",
        source: e.into(),
    })
}

/// Makes the entered root read-only, without what is mounted below it.
pub fn make_read_only() -> Result<(), Error> {
    let attr = MountAttr { set: options::ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(CWD, c"/", false, &attr).map_err(|source| Error::Root {
        path: "/".into(),
        doing: "make it read-only (root.readonly)",
        source,
    })
}

/// Makes paths of the entered root read-only, with what is mounted below them. Those that do not exist
/// are passed over.
pub fn make_paths_read_only(paths: &[String]) -> Result<(), Error> {
    for path in paths {
        let fail = |doing| {
            move |source| Error::Path { key: "linux.readonlyPaths", doing, path: path.into(), source }
        };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = match rustix::mount::open_tree(CWD, path.as_str(), flags) {
            Ok(tree) => tree,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => return Err(fail("clone")(errno.into())),
        };
        let attr = MountAttr { set: options::ATTR_RDONLY, ..MountAttr::default() };
        mount_setattr(tree.as_fd(), c"", true, &attr).map_err(fail("make read-only"))?;
        let target = rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| fail("open")(e.into()))?;
        mount::attach(tree.as_fd(), target.as_fd()).map_err(|e| fail("cover")(e.into()))?;
    }
    Ok(())
}

/// Hides paths of the entered root: files behind the null device, directories behind an empty
/// read-only file system (one for all of them). Those that do not exist are passed over.
pub fn mask_paths(paths: &[String]) -> Result<(), Error> {
    let mut hidden: Option<&str> = None;
    let mut null: Option<OwnedFd> = None;
    for path in paths {
        let fail = |doing| {
            move |e: Errno| Error::Path {
                key: "linux.maskedPaths",
                doing,
                path: path.into(),
                source: e.into(),
            }
        };
        let target = match rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => return Err(fail("open")(errno)),
        };
        let stat = rustix::fs::fstat(&target).map_err(fail("look at"))?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let device = match null.take() {
                Some(device) => device,
                None => open_null()?,
            };
            let tree = rustix::mount::open_tree(&device, c"", clone | OpenTreeFlags::AT_EMPTY_PATH)
                .map_err(fail("clone /dev/null for"))?;
            mount::attach(tree.as_fd(), target.as_fd()).map_err(fail("cover"))?;
            null = Some(device);
        } else if let Some(other) = hidden {
            let tree = rustix::mount::open_tree(CWD, other, clone).map_err(fail("clone a cover for"))?;
            mount::attach(tree.as_fd(), target.as_fd()).map_err(fail("cover"))?;
        } else {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount(c"tmpfs", path.as_str(), c"tmpfs", flags, c"nr_blocks=1,nr_inodes=1")
                .map_err(fail("cover"))?;
            hidden = Some(path);
        }
    }
    Ok(())
}

/// The container's null device, checked to be it: what covers a file must not be of the image's making.
fn open_null() -> Result<OwnedFd, Error> {
    let fail = |e: Errno| Error::Path {
        key: "linux.maskedPaths",
        doing: "open",
        path: "/dev/null".into(),
        source: e.into(),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let device = rustix::fs::open(c"/dev/null", flags, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&device).map_err(fail)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(device) } else { Err(Error::NotNull) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_below_a_path_is_the_longest_that_covers_it() {
        let table = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var\\040x rw - ext4 b rw\n3 1 8:3 / /var rw - ext4 c rw\n";
        let of = |path| mount_point_of(table, Path::new(path));
        assert_eq!(of("/var/lib/x"), Some("/var".into()));
        assert_eq!(of("/var x/y"), Some("/var x".into()));
        assert_eq!(of("/variable"), Some("/".into()));
    }
}
