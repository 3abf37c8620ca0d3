//! The second sink of a layer: a directory, as overlayfs wants its lower ones.
//!
//! ```text
//!   Verifying(blob) ──Decoder──▶ Ahead ──Verifying(diff ID)──▶ Layer ──▶ Directory
//!   └────── a thread of its own ─────┘   └───────────── the caller's thread ─────┘
//!
//!   DIR/../.part-PID-N   being filled, locked by who is at it     ──sync, rename──▶ DIR
//! ```
//!
//! A layer is unpacked by itself, without those below it: so layers are unpacked in parallel, and shared by all images
//! that have them. What hides something of a lower layer is written as overlayfs reads it (Linux
//! Documentation/filesystems/overlayfs.rst): a whiteout is a character device 0:0, and a directory that hides what
//! lies below it has the attribute `overlay.opaque`. So a device 0:0 in a layer is a whiteout too. A parent that the layer
//! does not name is root's, 0755. A whiteout that hides nothing, in a directory that no other layer has, is in that
//! directory's listing; overlayfs passes over it only where it merges.
//!
//! Guarantees:
//! - `DIR` is whole, synced, and both digests were right, or it is not there. A crash leaves a `.part-` that [`sweep`]
//!   removes; a failure removes it at once,
//! - nothing outside of the directory is touched: parents are opened by `openat2` beneath its root without following
//!   any symbolic link, and last names are never followed. An entry below a link of its own layer is an error,
//! - attributes of overlayfs itself (`trusted.overlay.*`, `user.overlay.*`) are not taken from a layer: they could
//!   show files of other layers under wrong names,
//! - memory grows with the number of directories and whiteouts only.
//!
//! Times are whole seconds, and a directory's are set last. Attributes that the file system does not know are counted
//! ([`Unpacked::lost_xattrs`]), except file capabilities, without which programs would fail later.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::ahead::Ahead;
use super::{Compression, Decoder, Layer, LayerError};
use crate::digest::{Digest, Proof, Verifying};

mod directory;
mod discard;
mod error;

pub use discard::discard;
pub use error::{UnpackError, UnpackFault};

use directory::Directory;

/// How the names of unfinished directories begin.
const PART: &str = ".part-";

/// Whose attributes mark opaque directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`: for mounts that root makes.
    #[default]
    Trusted,
    /// `user.overlay.*`: for mounts in a user namespace, with the option `userxattr`.
    User,
}

/// How a layer is unpacked, and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the archive's entries may be. Whiteouts are always read as such.
    pub layer: super::Options,
    /// Bytes of the archive, with headers and what follows its end.
    pub max_archive: u64,
    /// The compression; without, the first bytes tell.
    pub compression: Option<Compression>,
    /// How opaque directories are marked.
    pub marks: Marks,
}

impl Default for Options {
    /// As [`super::Options::default`], with an archive of 1 TiB at most.
    fn default() -> Self {
        let layer = super::Options::default();
        Options { max_archive: layer.max_total, layer, compression: None, marks: Marks::default() }
    }
}

/// What was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// That the blob is what its digest says.
    pub blob: Proof,
    /// That the archive is what the diff ID says, and its size.
    pub archive: Proof,
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Extended attributes that the file system cannot hold.
    pub lost_xattrs: u64,
}

/// Unpacks a layer to the directory `dir`, which is not there yet. If another one puts the same layer there meanwhile,
/// that one stays.
///
/// # Errors
/// See [`UnpackFault`]. Nothing is left then.
pub fn unpack<R: Read + Send + 'static>(
    blob: Verifying<R>,
    diff_id: &Digest,
    dir: &Path,
    options: &Options,
) -> Result<Unpacked, UnpackError> {
    let unpacked = (|| {
        let part = Part::create(dir)?;
        let unpacked = fill(&part.fd, blob, diff_id, options)?;
        part.commit(dir)?;
        Ok(unpacked)
    })();
    unpacked.map_err(|source| UnpackError { diff_id: diff_id.clone(), source: Box::new(source) })
}

/// A name for a directory that is not finished, or no longer wanted: [`sweep`] removes it unless somebody has it locked.
pub fn temporary_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{PART}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the directories with a [`temporary_name`] in `dir`, which is what unfinished unpackings left; what somebody
/// is at, and has locked therefore, stays. Says how many.
///
/// # Errors
/// The kernel's.
pub fn sweep(dir: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(PART.as_bytes()) {
            continue;
        }
        let path = dir.join(&name);
        let dir = match open(&path) {
            Err(Errno::NOENT) => continue,
            dir => dir?,
        };
        // Held until it is gone: who is just making it sees the lock, and makes another.
        if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            discard(CWD, path.as_path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Unpacks into an open directory.
fn fill<R: Read + Send + 'static>(
    root: &OwnedFd,
    blob: Verifying<R>,
    diff_id: &Digest,
    options: &Options,
) -> Result<Unpacked, UnpackFault> {
    let start = |source| UnpackFault::Layer(LayerError::Read { offset: 0, source });
    let stream = |source| UnpackFault::Stream { source };
    let decoder = Decoder::new(blob, options.compression).map_err(start)?;
    let bounded = Bounded { inner: decoder, limit: options.max_archive, left: options.max_archive };
    let archive = Verifying::new(Ahead::new(bounded).map_err(start)?, diff_id.clone(), None);
    let archive = archive.map_err(|source| UnpackFault::Digest { source })?;
    let reading = super::Options { whiteouts: true, ..options.layer.clone() };
    let mut layer = Layer::with_options(archive, Some(Compression::None), reading)?;
    let mut directory = Directory::new(root, options.marks)?;
    while let Some(entry) = layer.next()? {
        directory.take(entry)?;
    }
    let (archive, ahead) = layer.finish()?.finish_into().map_err(stream)?;
    let blob = ahead.finish().and_then(|bounded| bounded.inner.finish()).map_err(stream)?;
    let blob = blob.finish().map_err(stream)?;
    let (entries, bytes, lost_xattrs) = directory.finish()?;
    Ok(Unpacked { blob, archive, entries, bytes, lost_xattrs })
}

/// A directory that is not finished. Locked while it lives, and removed with it.
struct Part {
    path: PathBuf,
    fd: OwnedFd,
    /// Renamed, or gone.
    done: bool,
}

impl Part {
    /// Makes one beside `dir`.
    fn create(dir: &Path) -> Result<Part, UnpackFault> {
        let beside = dir.parent().unwrap_or(Path::new("."));
        loop {
            let path = beside.join(temporary_name());
            let fault =
                |action, source: Errno| UnpackFault::Io { action, path: path.clone(), source: source.into() };
            match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(source) => return Err(fault("create", source)),
            }
            // Between here and the lock somebody may take it for abandoned and remove it. Then another is made.
            let locked = open(&path).and_then(|fd| {
                rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
                let (ours, named) = (rustix::fs::fstat(&fd)?, rustix::fs::lstat(&path)?);
                if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino) {
                    Ok(fd)
                } else {
                    Err(Errno::NOENT)
                }
            });
            match locked {
                Ok(fd) => return Ok(Part { path, fd, done: false }),
                Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Err(source) => return Err(fault("lock", source)),
            }
        }
    }

    /// Gives it its name, for good.
    fn commit(mut self, to: &Path) -> Result<(), UnpackFault> {
        let fault = |action, path: &Path, source: Errno| UnpackFault::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        };
        rustix::fs::syncfs(&self.fd).map_err(|source| fault("sync", &self.path, source))?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => self.done = true,
            Err(Errno::EXIST) if to.is_dir() => return Ok(()),
            Err(source) => return Err(fault("rename into place", to, source)),
        }
        let beside = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        open(beside).and_then(rustix::fs::fsync).map_err(|source| fault("sync", beside, source))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is swept later.
            let _ = discard(CWD, self.path.as_path());
        }
    }
}

/// A reader with an end.
struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let why = format!("the archive is longer than the {} bytes allowed", self.limit);
            io::Error::new(io::ErrorKind::FileTooLarge, why)
        })?;
        Ok(n)
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}
