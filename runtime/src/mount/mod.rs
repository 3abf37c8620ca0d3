//! Performing the mounts of a configuration, in the container's process, before its root is entered.
//!
//! Targets are opened inside the root ([`crate::target`]) and mounted on by descriptor. Bind mounts
//! are cloned trees whose attributes are set before they become visible; file systems are mounted
//! through `/proc/self/fd` with mount(2), which takes settings of any kind and length.
//!
//! A tree that only `kitc` itself may clone (mapped ids, and sources that the container's root user
//! cannot reach) is made before the process is, and waits in [`Context::trees`].

pub mod options;
pub mod trees;

use crate::cgroup;
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::target::{self, Missing};
use options::{Attributes, Kind, Plan};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What can go wrong with a mount.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its options do not parse.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// Its source cannot be opened.
    #[error("mounts[{index}].source: open {}", path.display())]
    Source {
        /// Its place in the list.
        index: usize,
        /// The source.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its target cannot be opened or made inside the root.
    #[error("mounts[{index}].destination: open {} in the root", path.display())]
    Target {
        /// Its place in the list.
        index: usize,
        /// The target.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What the runtime itself relies on may not be moved by a link of the image.
    #[error("mounts[{index}].destination: {} must be mounted on ordinary directory", path.display())]
    Link {
        /// Its place in the list.
        index: usize,
        /// The target.
        path: PathBuf,
    },
    /// The kernel refused it.
    #[error("mounts[{index}]: {doing} on {}", path.display())]
    Mount {
        /// Its place in the list.
        index: usize,
        /// What was being done.
        doing: String,
        /// The target.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The image's files cannot be copied into a new file system.
    #[error("mounts[{index}].options: tmpcopyup of {}", path.display())]
    CopyUp {
        /// Its place in the list.
        index: usize,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What all mounts of a container share.
pub struct Context<'a> {
    /// The root's path, as the process sees it.
    pub rootfs: &'a Path,
    /// The container's control groups.
    pub cgroup: &'a cgroup::Place,
    /// The container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
    /// The container has a user namespace.
    pub user_namespace: bool,
    /// Trees cloned beforehand, by the mount's place in the list.
    pub trees: Vec<(usize, OwnedFd)>,
}

/// Performs all mounts, in order. `root` is the root directory, and is replaced where a mount goes
/// over it.
pub fn perform_all(context: &mut Context<'_>, root: &mut OwnedFd, plans: &[Plan<'_>]) -> Result<(), Error> {
    for (index, plan) in plans.iter().enumerate() {
        let at = At { index, root: root.as_fd(), target: plan.mount.destination() };
        perform(context, &at, plan)?;
        if at.target.components().count() <= 1 {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            *root = rustix::fs::open(context.rootfs, flags, Mode::empty())
                .map_err(|e| at.error("enter what was mounted", e))?;
        }
    }
    Ok(())
}

/// Where a mount goes.
struct At<'a> {
    index: usize,
    root: BorrowedFd<'a>,
    target: &'a Path,
}

impl At<'_> {
    fn error(&self, doing: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Mount {
            index: self.index,
            doing: doing.into(),
            path: self.target.to_owned(),
            source: source.into(),
        }
    }

    fn open(&self, missing: Missing) -> Result<OwnedFd, Error> {
        target::open_or_make(self.root, self.target, missing).map_err(|e| self.target_error(e))
    }

    fn target_error(&self, source: Errno) -> Error {
        Error::Target { index: self.index, path: self.target.to_owned(), source: source.into() }
    }

    /// Opens the target again, to get what is mounted on top of it by now.
    fn reopen(&self) -> Result<OwnedFd, Error> {
        target::open(self.root, self.target).map_err(|e| self.target_error(e))
    }
}

fn perform(context: &mut Context<'_>, at: &At<'_>, plan: &Plan<'_>) -> Result<(), Error> {
    match &plan.kind {
        Kind::Bind { recursive, source } => bind(context, at, plan, *recursive, source)?,
        Kind::Cgroup => cgroups(context, at, plan)?,
        Kind::Remount { bind: true } => {
            let target = at.reopen()?;
            set_attributes(target.as_fd(), plan.attributes, false)
                .map_err(|e| at.error("set attributes", e))?;
        }
        Kind::Remount { bind: false } => {
            let target = at.reopen()?;
            let data = c_string(at, &plan.data)?;
            rustix::mount::mount_remount(by_fd(&target), plan.flags, data.as_c_str())
                .map_err(|e| at.error("remount", e))?;
        }
        Kind::FileSystem { fstype } => {
            let source = plan.mount.source().as_deref().unwrap_or(Path::new(fstype));
            file_system(context, at, plan, fstype, source)?;
        }
    }
    finish(at, plan)
}

/// What comes after any mount: recursive attributes and propagation.
fn finish(at: &At<'_>, plan: &Plan<'_>) -> Result<(), Error> {
    if plan.recursive_attributes.is_empty() && plan.propagation.is_empty() {
        return Ok(());
    }
    let target = at.reopen()?;
    if !plan.recursive_attributes.is_empty() {
        set_attributes(target.as_fd(), plan.recursive_attributes, true)
            .map_err(|e| at.error("set recursive attributes", e))?;
    }
    for &propagation in &plan.propagation {
        rustix::mount::mount_change(by_fd(&target), propagation)
            .map_err(|e| at.error("set propagation", e))?;
    }
    Ok(())
}

fn bind(
    context: &mut Context<'_>,
    at: &At<'_>,
    plan: &Plan<'_>,
    recursive: bool,
    source: &Path,
) -> Result<(), Error> {
    let tree = match context.trees.iter().position(|(index, _)| *index == at.index) {
        Some(place) => context.trees.swap_remove(place).1,
        None => clone_tree(at.index, source, recursive)?,
    };
    let kind = rustix::fs::fstat(&tree).map_err(|e| at.error("look at the source", e))?.st_mode;
    let missing = match FileType::from_raw_mode(kind) {
        FileType::Directory => Missing::Directory,
        _ => Missing::File,
    };
    if !plan.attributes.is_empty() {
        set_attributes(tree.as_fd(), plan.attributes, false).map_err(|e| at.error("set attributes", e))?;
    }
    let target = at.open(missing)?;
    attach(tree.as_fd(), target.as_fd()).map_err(|e| at.error(format!("bind {}", source.display()), e))
}

/// Clones the mounts at `path` (below it, too, where `recursive`) into a tree that is nowhere yet.
pub fn clone_tree(index: usize, path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags).map_err(|e| Error::Source {
        index,
        path: path.to_owned(),
        source: e.into(),
    })
}

/// Puts a cloned tree on `target`.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", target, c"", flags)
}

/// Changes attributes of the mount that `mount` is the root of.
pub fn set_attributes(mount: BorrowedFd<'_>, change: Attributes, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { set: change.set, clear: change.clear, ..MountAttr::default() };
    mount_setattr(mount, c"", recursive, &attr)
}

fn file_system(
    context: &Context<'_>,
    at: &At<'_>,
    plan: &Plan<'_>,
    fstype: &str,
    source: &Path,
) -> Result<(), Error> {
    // Later steps trust these two by their paths: no link of the image may move them elsewhere.
    let trusted = matches!(fstype, "proc" | "sysfs");
    if trusted {
        match target::open_without_links(at.root, at.target) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => return Err(Error::Link { index: at.index, path: at.target.to_owned() }),
            Err(errno) => return Err(at.target_error(errno)),
        }
    }
    let target = at.open(Missing::Directory)?;
    let mut data = plan.data.clone();
    if fstype == "tmpfs" && !data.split(',').any(|d| d.starts_with("mode=")) {
        // What covers a directory has its mode, unless told otherwise.
        let mode = rustix::fs::fstat(&target).map_err(|e| at.error("look at the target", e))?.st_mode;
        data = format!("{data}{}mode={:o}", if data.is_empty() { "" } else { "," }, mode & 0o7777);
    }
    let data = c_string(at, &data)?;
    // What is copied in, mounted on it or made in it later must find it writable; see `close_all`.
    let flags = if fstype == "tmpfs" { plan.flags - MountFlags::RDONLY } else { plan.flags };
    match rustix::mount::mount(source, by_fd(&target), fstype, flags, data.as_c_str()) {
        Ok(()) => {}
        // A user namespace may mount sysfs only together with a network namespace of its own.
        Err(Errno::PERM | Errno::BUSY) if fstype == "sysfs" && context.user_namespace => {
            let tree = clone_tree(at.index, Path::new("/sys"), true)?;
            let _ = set_attributes(tree.as_fd(), plan.attributes, true);
            return attach(tree.as_fd(), target.as_fd()).map_err(|e| at.error("bind /sys", e));
        }
        Err(errno) => return Err(at.error(format!("mount {fstype}"), errno)),
    }
    if plan.copy_up {
        let top = at.reopen()?;
        copy_up(at, &target, &top)?;
    }
    Ok(())
}

/// Makes each tmpfs read-only that shall be: once other mounts have their places in it, and devices are made. `root` is
/// the root directory.
pub fn close_all(root: BorrowedFd<'_>, plans: &[Plan<'_>]) -> Result<(), Error> {
    for (index, plan) in plans.iter().enumerate() {
        let tmpfs = matches!(&plan.kind, Kind::FileSystem { fstype, .. } if *fstype == "tmpfs");
        if tmpfs && plan.flags.contains(MountFlags::RDONLY) {
            let at = At { index, root, target: plan.mount.destination() };
            let top = at.reopen()?;
            set_attributes(top.as_fd(), plan.attributes, false).map_err(|e| at.error("make read-only", e))?;
        }
    }
    Ok(())
}

/// Copies files, directories and links with their modes and owners from what is covered to what
/// covers it.
fn copy_up(at: &At<'_>, covered: &OwnedFd, top: &OwnedFd) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |fd: &OwnedFd| {
        rustix::fs::openat(fd, c".", flags, Mode::empty()).map_err(|e| Error::CopyUp {
            index: at.index,
            path: at.target.to_owned(),
            source: e.into(),
        })
    };
    copy_directory(&open(covered)?, &open(top)?, at.target).map_err(|(path, source)| Error::CopyUp {
        index: at.index,
        path,
        source,
    })
}

type CopyResult = Result<(), (PathBuf, io::Error)>;

fn copy_directory(from: &OwnedFd, to: &OwnedFd, path: &Path) -> CopyResult {
    let fail = |path: &Path, e: Errno| (path.to_owned(), io::Error::from(e));
    let entries = rustix::fs::Dir::read_from(from).map_err(|e| fail(path, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| fail(path, e))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path = path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes()));
        copy_entry(from, to, name, &path)?;
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, path: &Path) -> CopyResult {
    let fail = |e: Errno| (path.to_owned(), io::Error::from(e));
    let stat = rustix::fs::statat(from, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    let open = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode).map_err(fail)?;
            let below = OFlags::RDONLY | OFlags::DIRECTORY | open;
            let from = rustix::fs::openat(from, name, below, Mode::empty()).map_err(fail)?;
            let to = rustix::fs::openat(to, name, below, Mode::empty()).map_err(fail)?;
            copy_directory(&from, &to, path)?;
        }
        FileType::RegularFile => {
            let from = rustix::fs::openat(from, name, OFlags::RDONLY | open, Mode::empty()).map_err(fail)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | open;
            let to = rustix::fs::openat(to, name, flags, mode).map_err(fail)?;
            io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to))
                .map_err(|e| (path.to_owned(), e))?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new()).map_err(fail)?;
            rustix::fs::symlinkat(&*link, to, name).map_err(fail)?;
        }
        kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).map_err(fail)?,
    }
    rustix::fs::chownat(to, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // Changing the owner cleared set-user-ID, and making it obeyed the umask.
        rustix::fs::chmodat(to, name, mode, rustix::fs::AtFlags::empty()).map_err(fail)?;
    }
    Ok(())
}

/// Shows the container's control groups: with a cgroup namespace the cgroup file system itself, else
/// the part of it that is the container's; under version 1 one directory for each hierarchy.
fn cgroups(context: &Context<'_>, at: &At<'_>, plan: &Plan<'_>) -> Result<(), Error> {
    let target = at.open(Missing::Directory)?;
    match cgroup::layout() {
        cgroup::Layout::Unified => {
            if context.cgroup_namespace {
                let mounted = rustix::mount::mount(c"cgroup", by_fd(&target), c"cgroup2", plan.flags, None);
                match mounted {
                    Err(Errno::PERM | Errno::BUSY) => {}
                    result => return result.map_err(|e| at.error("mount cgroup2", e)),
                }
            }
            let own = context.cgroup.v2.as_deref().unwrap_or(Path::new(cgroup::ROOT));
            bind_cgroup(at, plan, own, target.as_fd())
        }
        cgroup::Layout::Split { .. } => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount(c"tmpfs", by_fd(&target), c"tmpfs", flags, c"mode=755,size=64k")
                .map_err(|e| at.error("mount tmpfs", e))?;
            let top = at.reopen()?;
            for (name, own) in context.cgroup.shown() {
                rustix::fs::mkdirat(&top, name.as_str(), Mode::from_raw_mode(0o755))
                    .map_err(|e| at.error(format!("make {name}"), e))?;
                let below = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let dir = rustix::fs::openat(&top, name.as_str(), below, Mode::empty())
                    .map_err(|e| at.error(format!("open {name}"), e))?;
                bind_cgroup(at, plan, &own, dir.as_fd())?;
            }
            set_attributes(top.as_fd(), plan.attributes, false).map_err(|e| at.error("set attributes", e))
        }
        cgroup::Layout::None => Ok(()),
    }
}

fn bind_cgroup(at: &At<'_>, plan: &Plan<'_>, own: &Path, target: BorrowedFd<'_>) -> Result<(), Error> {
    let tree = clone_tree(at.index, own, false)?;
    set_attributes(tree.as_fd(), plan.attributes, false).map_err(|e| at.error("set attributes", e))?;
    attach(tree.as_fd(), target).map_err(|e| at.error(format!("bind {}", own.display()), e))
}

/// Removes what is mounted at `path`, lazily.
pub fn detach(path: &Path) -> Result<(), Errno> {
    rustix::mount::unmount(path, UnmountFlags::DETACH)
}

/// The path of a descriptor for calls that take paths only.
pub fn by_fd(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn c_string(at: &At<'_>, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Options(options::Error::ZeroByte { index: at.index }))
}
