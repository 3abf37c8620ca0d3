//! Entries onto a disk, beneath one directory.
//!
//! Files get all they have at once. Directories are made 0700 and get theirs last, and whiteouts come before that:
//! neither a set-group-ID bit, a default ACL nor a missing permission is in the way of what comes into them, and their
//! times stay.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use kit_spec::tree::{Action, Change, Device, Kind, Meta, TreePath, Xattrs};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::UnpackFault;
use super::{Marks, discard};
use crate::layer::{Content, Entry, LayerError};

/// The root that a layer does not name, and other parents.
fn implied() -> Meta {
    Meta::root_owned(0o755, 0)
}

/// Bytes of a file that are written at a time.
const SCRATCH: usize = 256 << 10;

/// A name and the directory that it is in.
type Place<'p> = (Rc<OwnedFd>, &'p [u8]);

/// A directory that takes a layer's entries, each as it comes.
pub(super) struct Directory {
    root: Rc<OwnedFd>,
    /// The last parent.
    parent: Option<(TreePath, Rc<OwnedFd>)>,
    /// What each directory is to have in the end.
    dirs: HashMap<TreePath, Meta>,
    /// What lower layers hold and is hidden: all of it (false), or what is in it (true).
    whiteouts: Vec<(TreePath, bool)>,
    marks: Marks,
    scratch: Box<[u8]>,
    entries: u64,
    bytes: u64,
    lost_xattrs: u64,
}

impl Directory {
    /// Takes an empty directory.
    pub(super) fn new(root: &OwnedFd, marks: Marks) -> Result<Self, UnpackFault> {
        let root = root.try_clone().map_err(|source| entry_fault("open", &TreePath::root())(source))?;
        Ok(Directory {
            root: Rc::new(root),
            parent: None,
            dirs: HashMap::from([(TreePath::root(), implied())]),
            whiteouts: Vec::new(),
            marks,
            scratch: vec![0; SCRATCH].into(),
            entries: 0,
            bytes: 0,
            lost_xattrs: 0,
        })
    }

    /// Does what an entry says, but for whiteouts, which hide nothing of this layer and come last.
    pub(super) fn take<R: Read>(&mut self, entry: Entry<'_, R>) -> Result<(), UnpackFault> {
        self.entries += 1;
        let Change { path, action } = entry.change;
        match action {
            Action::Put(meta, Kind::Dir) => self.put_dir(path, meta),
            Action::Put(meta, Kind::File { len, content: () }) => {
                self.put_file(&path, &meta, len, entry.content)
            }
            Action::Put(meta, kind) => self.put_node(&path, &meta, &kind),
            Action::Link(target) => self.link(&path, &target),
            Action::Remove => {
                self.whiteouts.push((path, false));
                Ok(())
            }
            Action::Opaque => {
                self.whiteouts.push((path, true));
                Ok(())
            }
        }
    }

    /// Whiteouts, then what directories have. Gives entries, bytes of files, and attributes that were lost.
    pub(super) fn finish(mut self) -> Result<(u64, u64, u64), UnpackFault> {
        // Parents first: what hides a directory hides what is in it.
        let mut whiteouts = std::mem::take(&mut self.whiteouts);
        whiteouts.sort();
        for (path, opaque) in whiteouts {
            self.hide(&path, opaque)?;
        }
        self.parent = None;
        // What is in a directory comes before it, so that its mode is not in the way.
        let mut dirs: Vec<_> = std::mem::take(&mut self.dirs).into_iter().collect();
        dirs.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        for (path, meta) in dirs {
            self.finish_dir(&path, &meta)?;
        }
        Ok((self.entries, self.bytes, self.lost_xattrs))
    }

    fn put_dir(&mut self, path: TreePath, meta: Meta) -> Result<(), UnpackFault> {
        if let Some((parent, name)) = self.place(&path)? {
            let fault = entry_fault("create the directory", &path);
            match rustix::fs::mkdirat(&*parent, name, Mode::RWXU) {
                Err(Errno::EXIST) if is_dir(&parent, name).map_err(&fault)? => {}
                Err(Errno::EXIST) => {
                    rustix::fs::unlinkat(&*parent, name, AtFlags::empty()).map_err(&fault)?;
                    rustix::fs::mkdirat(&*parent, name, Mode::RWXU).map_err(&fault)?;
                }
                done => done.map_err(&fault)?,
            }
        }
        self.dirs.insert(path, meta);
        Ok(())
    }

    fn put_file<R: Read>(
        &mut self,
        path: &TreePath,
        meta: &Meta,
        len: u64,
        content: Content<'_, R>,
    ) -> Result<(), UnpackFault> {
        let fault = entry_fault("write the file", path);
        let file = self.make("create the file", path, |parent, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let file = File::from(file);
        self.write(path, &file, len, content)?;
        self.bytes += len;
        rustix::fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
            .map_err(&fault)?;
        rustix::fs::fchmod(&file, mode(meta)).map_err(&fault)?;
        self.set_xattrs(path, &meta.xattrs, |name, value| {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(&file, &times(meta)).map_err(&fault)?;
        Ok(())
    }

    /// Writes what a file holds, and leaves its holes.
    fn write<R: Read>(
        &mut self,
        path: &TreePath,
        file: &File,
        len: u64,
        mut content: Content<'_, R>,
    ) -> Result<(), UnpackFault> {
        let fault = entry_fault("write the file", path);
        let (mut at, mut end) = (0, 0);
        loop {
            at += content.skip_hole();
            let n = content
                .read(&mut self.scratch)
                .map_err(|source| LayerError::Store { path: path.clone(), source })?;
            if n == 0 {
                break;
            }
            file.write_all_at(&self.scratch[..n], at).map_err(&fault)?;
            at += n as u64;
            end = at;
        }
        if end < len {
            file.set_len(len).map_err(&fault)?;
        }
        Ok(())
    }

    /// Links, devices and pipes.
    fn put_node(&mut self, path: &TreePath, meta: &Meta, kind: &Kind<()>) -> Result<(), UnpackFault> {
        self.make("create", path, |parent, name| {
            let node = |kind, device: Device| {
                let device = rustix::fs::makedev(device.major, device.minor);
                rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
            };
            let none = Device { major: 0, minor: 0 };
            match kind {
                Kind::Symlink(target) => rustix::fs::symlinkat(&**target, parent, name),
                Kind::Char(device) => node(FileType::CharacterDevice, *device),
                Kind::Block(device) => node(FileType::BlockDevice, *device),
                Kind::Fifo => node(FileType::Fifo, none),
                Kind::Socket => node(FileType::Socket, none),
                Kind::Dir | Kind::File { .. } => Err(Errno::INVAL),
            }
        })?;
        let Some((parent, name)) = self.place(path)? else { return Ok(()) };
        let fault = entry_fault("set the owner, mode and time of", path);
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&*parent, name, Some(uid), Some(gid), nofollow).map_err(&fault)?;
        if !matches!(kind, Kind::Symlink(_)) {
            rustix::fs::chmodat(&*parent, name, mode(meta), AtFlags::empty()).map_err(&fault)?;
        }
        if !meta.xattrs.is_empty() {
            let mut through = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            through.extend(name);
            self.set_xattrs(path, &meta.xattrs, |name, value| {
                rustix::fs::lsetxattr(&*through, name, value, XattrFlags::empty())
            })?;
        }
        rustix::fs::utimensat(&*parent, name, &times(meta), nofollow).map_err(&fault)?;
        Ok(())
    }

    fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), UnpackFault> {
        let wrong = |what| UnpackFault::LinkTarget { path: path.clone(), target: target.clone(), what };
        let Some(to) = target.file_name() else { return Err(wrong("the root")) };
        let from = match self.open_dir(&target.parent()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(wrong("not in this layer")),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(wrong("below what is no directory in this layer"));
            }
            Err(error) => return Err(entry_fault("look at the target of", path)(error)),
        };
        match rustix::fs::statat(&*from, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(wrong("a directory"));
            }
            Ok(_) => {}
            Err(Errno::NOENT) => return Err(wrong("not in this layer")),
            Err(error) => return Err(entry_fault("look at the target of", path)(error)),
        }
        if path == target {
            return Ok(());
        }
        if target.starts_with(path) {
            return Err(wrong("below the link itself"));
        }
        self.make("link", path, |parent, name| rustix::fs::linkat(&*from, to, parent, name, AtFlags::empty()))
    }

    /// Hides what lower layers have there.
    fn hide(&mut self, path: &TreePath, opaque: bool) -> Result<(), UnpackFault> {
        // Below what is no directory in this layer there is nothing to hide.
        let (parent, name) = match self.place(path) {
            Ok(Some(place)) => place,
            Ok(None) => return self.mark_opaque(path),
            Err(UnpackFault::Parent { .. }) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let fault = entry_fault("hide", path);
        match rustix::fs::statat(&*parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.mark_opaque(path)
            }
            // What is no directory hides all by itself.
            Ok(_) => Ok(()),
            Err(Errno::NOENT) if opaque => {
                rustix::fs::mkdirat(&*parent, name, Mode::RWXU).map_err(&fault)?;
                self.dirs.insert(path.clone(), implied());
                self.mark_opaque(path)
            }
            Err(Errno::NOENT) => {
                rustix::fs::mknodat(&*parent, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(&fault)
            }
            Err(error) => Err(fault(error)),
        }
    }

    fn mark_opaque(&mut self, path: &TreePath) -> Result<(), UnpackFault> {
        let name = match self.marks {
            Marks::Trusted => c"trusted.overlay.opaque",
            Marks::User => c"user.overlay.opaque",
        };
        let fault = entry_fault("mark as opaque", path);
        let dir = self.reopen(path).map_err(&fault)?;
        rustix::fs::fsetxattr(&dir, name, b"y", XattrFlags::empty()).map_err(&fault)
    }

    fn finish_dir(&mut self, path: &TreePath, meta: &Meta) -> Result<(), UnpackFault> {
        let fault = entry_fault("set the owner, mode and time of", path);
        let dir = match self.reopen(path) {
            // Something else took its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            dir => dir.map_err(&fault)?,
        };
        rustix::fs::fchown(&dir, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
            .map_err(&fault)?;
        rustix::fs::fchmod(&dir, mode(meta)).map_err(&fault)?;
        self.set_xattrs(path, &meta.xattrs, |name, value| {
            rustix::fs::fsetxattr(&dir, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(&dir, &times(meta)).map_err(&fault)
    }

    /// Sets attributes but overlayfs's own, and counts those that the file system does not know.
    fn set_xattrs(
        &mut self,
        path: &TreePath,
        xattrs: &Xattrs,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), UnpackFault> {
        for (name, value) in xattrs {
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                continue;
            }
            match set(name, value) {
                Err(Errno::OPNOTSUPP) if **name != *b"security.capability" => self.lost_xattrs += 1,
                done => done.map_err(entry_fault("set an extended attribute of", path))?,
            }
        }
        Ok(())
    }

    /// Makes something new, in the place of what this layer had there.
    fn make<T>(
        &mut self,
        action: &'static str,
        path: &TreePath,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackFault> {
        let fault = entry_fault(action, path);
        let Some((parent, name)) = self.place(path)? else { return Err(fault(Errno::ISDIR)) };
        match make(&parent, name) {
            Err(Errno::EXIST) => {
                discard(&*parent, name).map_err(entry_fault("replace", path))?;
                // It may have been of what is gone.
                self.parent = None;
                make(&parent, name).map_err(fault)
            }
            done => done.map_err(fault),
        }
    }

    /// The directory and name of a path; parents are made. None for the root.
    fn place<'p>(&mut self, path: &'p TreePath) -> Result<Option<Place<'p>>, UnpackFault> {
        let Some(name) = path.file_name() else { return Ok(None) };
        let parent = path.parent();
        if let Some((last, dir)) = &self.parent
            && *last == parent
        {
            return Ok(Some((Rc::clone(dir), name)));
        }
        let dir = match self.open_dir(&parent) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => {
                self.make_dirs(&parent).map_err(entry_fault("create the parents of", path))?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(self.wrong_parent(path)),
            Err(error) => return Err(entry_fault("open the parent of", path)(error)),
        };
        self.parent = Some((parent, Rc::clone(&dir)));
        Ok(Some((dir, name)))
    }

    fn make_dirs(&mut self, path: &TreePath) -> Result<Rc<OwnedFd>, Errno> {
        let mut at = Rc::clone(&self.root);
        let mut end = 0;
        for name in path.components() {
            end += name.len() + usize::from(end > 0);
            match rustix::fs::mkdirat(&*at, name, Mode::RWXU) {
                Ok(()) => {
                    let prefix = TreePath::parse(&path.as_bytes()[..end]).map_err(|_| Errno::INVAL)?;
                    self.dirs.insert(prefix, implied());
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            at = Rc::new(beneath(&at, name, OFlags::PATH)?);
        }
        Ok(at)
    }

    fn open_dir(&self, path: &TreePath) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_root() {
            return Ok(Rc::clone(&self.root));
        }
        beneath(&self.root, path.as_bytes(), OFlags::PATH).map(Rc::new)
    }

    /// A directory opened for more than to look names up in it.
    fn reopen(&self, path: &TreePath) -> Result<OwnedFd, Errno> {
        let path = if path.is_root() { b"." } else { path.as_bytes() };
        beneath(&self.root, path, OFlags::RDONLY)
    }

    /// The first parent that is no directory.
    fn wrong_parent(&self, path: &TreePath) -> UnpackFault {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let first = slashes.map(|(end, _)| &bytes[..end]).find(|prefix| {
            matches!(beneath(&self.root, prefix, OFlags::PATH), Err(Errno::NOTDIR | Errno::LOOP))
        });
        let parent = first.and_then(|prefix| TreePath::parse(prefix).ok()).unwrap_or_else(|| path.parent());
        // Its own parents are directories, as the first that is none was asked for.
        let stat = rustix::fs::statat(&*self.root, parent.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let what = if kind == Ok(FileType::Symlink) { "a symbolic link" } else { "no directory" };
        UnpackFault::Parent { path: path.clone(), parent, what }
    }
}

/// Opens a directory beneath another, through directories of the same file system only.
fn beneath(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve)
}

fn is_dir(parent: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_raw_mode(u32::from(meta.mode))
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn entry_fault<E: Into<io::Error>>(action: &'static str, path: &TreePath) -> impl Fn(E) -> UnpackFault {
    move |error| UnpackFault::Entry { action, path: path.clone(), source: error.into() }
}
