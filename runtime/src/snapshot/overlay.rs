//! Mounting overlays, however many layers they have and however long their names are.
//!
//! A mount option of fsconfig(2) is at most 255 bytes long, and all options of mount(2) together 4095. So directories
//! whose paths are longer are named by descriptor, `/proc/self/fd/N`, and lower ones are given one by one (`lowerdir+`,
//! Linux 6.7). An older kernel gets all of them by descriptor in one option, which is enough for 200.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};

use super::{Error, io_error};

/// Bytes of an option's value, without its NUL (Linux fs/fsopen.c).
const VALUE_MAX: usize = 255;

/// Bytes of all options of mount(2), without the NUL (a page).
const OPTIONS_MAX: usize = 4095;

/// `f_type` of overlayfs (statfs(2)).
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// What is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Unpacked layers, the topmost first; at least one, and two without an upper directory.
    pub lower: Vec<PathBuf>,
    /// Where changes go; none if there can be none.
    pub upper: Option<Upper>,
}

/// Where an overlay's changes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upper {
    /// What was changed.
    pub dir: PathBuf,
    /// A directory that overlayfs keeps for itself, on the same file system.
    pub work: PathBuf,
}

/// An overlay whose directories are open.
struct Opened<'a> {
    lower: Vec<(&'a Path, OwnedFd)>,
    upper: Option<[(&'a Path, OwnedFd); 2]>,
}

impl Overlay {
    /// Mounts it on the directory `target`, read-only if it has no upper directory.
    ///
    /// # Errors
    /// [`Error::Io`] if one of its directories is not to be had, [`Error::Mount`].
    pub fn mount(&self, target: &Path) -> Result<(), Error> {
        let opened = self.opened()?;
        let mut says = String::new();
        let done = match opened.detached(&mut says) {
            Ok(mount) => attach(&mount, target),
            // As a kernel answers that does not know `lowerdir+`.
            Err(Errno::INVAL) => opened.classic(target),
            Err(error) => Err(error),
        };
        done.map_err(|error| self.refused(target, says, error))
    }

    /// As a kernel before Linux 6.7 gets it.
    #[cfg(test)]
    pub(super) fn mount_classic(&self, target: &Path) -> Result<(), Error> {
        self.opened()?.classic(target).map_err(|error| self.refused(target, String::new(), error))
    }

    fn opened(&self) -> Result<Opened<'_>, Error> {
        let open = |path: &'_ Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| io_error("open", path)(error.into()))
        };
        let mut lower = Vec::new();
        for path in &self.lower {
            lower.push((path.as_path(), open(path)?));
        }
        let upper = match &self.upper {
            None => None,
            Some(Upper { dir, work }) => Some([(dir.as_path(), open(dir)?), (work.as_path(), open(work)?)]),
        };
        Ok(Opened { lower, upper })
    }

    fn refused(&self, target: &Path, says: String, error: Errno) -> Error {
        Error::Mount { layers: self.lower.len(), target: target.to_owned(), says, source: error.into() }
    }
}

impl Opened<'_> {
    /// The mount, which is nowhere yet. What the kernel says of a failure goes to `says`.
    fn detached(&self, says: &mut String) -> Result<OwnedFd, Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &[u8]| fsconfig_set_string(context.as_fd(), key, value);
        let configure = || {
            set("source", b"kit")?;
            match &self.lower[..] {
                // Every kernel takes this; a path with a separator in it needs another name.
                [(path, fd)] if path.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte)) => {
                    set("lowerdir", by_fd(fd).as_bytes())?;
                }
                [(path, fd)] => set("lowerdir", &named(path, fd))?,
                many => many.iter().try_for_each(|(path, fd)| set("lowerdir+", &named(path, fd)))?,
            }
            if let Some([(upper, upper_fd), (work, work_fd)]) = &self.upper {
                set("upperdir", &named(upper, upper_fd))?;
                set("workdir", &named(work, work_fd))?;
            }
            // Layers are shared by many overlays, which an index takes for a mistake.
            set("index", b"off")?;
            fsconfig_create(context.as_fd())
        };
        configure().inspect_err(|_| *says = messages(&context))?;
        let attributes =
            if self.upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// Mounts by mount(2).
    fn classic(&self, target: &Path) -> Result<(), Errno> {
        let lower: Vec<String> = self.lower.iter().map(|(_, fd)| by_fd(fd)).collect();
        let mut options = format!("index=off,lowerdir={}", lower.join(":"));
        if let Some([(_, upper), (_, work)]) = &self.upper {
            options += &format!(",upperdir={},workdir={}", by_fd(upper), by_fd(work));
        }
        if options.len() > OPTIONS_MAX {
            return Err(Errno::TOOBIG);
        }
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        let flags = if self.upper.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
        mount("kit", target, "overlay", flags, options.as_c_str())
    }
}

/// Finds out whether overlays can be mounted over a file system, in the directory `probe`, which is made.
pub(super) fn probe(root: &Path, probe: &Path) -> Result<(), Error> {
    let unsupported =
        |what, error: Errno| Error::Unsupported { root: root.to_owned(), what, source: error.into() };
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| probe.join(name));
    for dir in [&lower, &upper, &work] {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    }
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => {}
        Err(error @ Errno::NODEV) => return Err(unsupported("the kernel has no overlayfs", error)),
        Err(error @ Errno::PERM) => return Err(unsupported("mounting needs CAP_SYS_ADMIN", error)),
        Err(error) => return Err(unsupported("the kernel does not open overlayfs", error)),
    }
    if rustix::fs::statfs(root).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(OVERLAYFS_MAGIC)) {
        let what = "it lies on an overlay itself, which cannot hold what another one writes";
        return Err(unsupported(what, Errno::INVAL));
    }
    rustix::fs::setxattr(&upper, c"trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(|error| {
        unsupported("its file system does not keep `trusted.` extended attributes", error)
    })?;
    let (from, to) = (lower.join("from"), lower.join("to"));
    fs::write(&from, "").map_err(io_error("create", &from))?;
    rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::WHITEOUT)
        .map_err(|error| unsupported("its file system cannot leave whiteouts (RENAME_WHITEOUT)", error))?;
    let target = probe.to_owned();
    let overlay = Overlay { lower: vec![lower], upper: Some(Upper { dir: upper, work }) };
    let mut says = String::new();
    let mounted = overlay.opened()?.detached(&mut says);
    mounted.map(drop).map_err(|error| overlay.refused(&target, says, error))
}

fn attach(mount: &OwnedFd, target: &Path) -> Result<(), Errno> {
    move_mount(mount.as_fd(), c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A directory's path, or a short name for it.
fn named(path: &Path, fd: &OwnedFd) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= VALUE_MAX && path.is_absolute() {
        return bytes.to_vec();
    }
    by_fd(fd).into_bytes()
}

fn by_fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// What a file system's context has to say: lines of `e `, `w ` or `i ` and a text (Linux
/// Documentation/filesystems/mount_api.rst).
fn messages(context: &OwnedFd) -> String {
    let mut said = Vec::new();
    let mut line = [0; 1024];
    while let Ok(n @ 1..) = rustix::io::read(context, &mut line) {
        said.push(
            String::from_utf8_lossy(&line[..n]).trim_start_matches(['e', 'w', 'i', ' ']).trim().to_owned(),
        );
    }
    said.join("; ")
}
