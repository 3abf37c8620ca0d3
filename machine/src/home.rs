//! Where machines are found: a directory of their user's, with one directory for each that runs.
//!
//! ```text
//! HOME/NAME/    locked (flock) by its monitor, which inherits the lock: it ends with the monitor, however that ends
//!   machine.json  what was started
//!   pid           the monitor's number and start time
//!   owner         locked by the process in charge, if there is one; its number
//!   monitor.sock control.sock console.sock console.log qemu.log vars.fd
//! ```
//!
//! A directory that nobody locks is left over, and removed by whoever comes upon it. Looking for those, taking a name
//! and giving it back are short, and done under a lock on HOME itself, so that none sees another half done.

use crate::process::Identity;
use kit_spec::machine::{Machine, Name};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory of one user's machines.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// Why there is no place for machines.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or directory cannot be made, read or removed.
    #[error("{doing} {path}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else's.
    #[error("{path} is open to others: it must be a directory of user {uid}, with mode 0700", path = path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Whose it should be.
        uid: u32,
    },
}

/// The directory of one machine.
#[derive(Debug)]
pub(crate) struct Place {
    home: Home,
    path: PathBuf,
    dir: File,
    /// Holds the lock of the process in charge.
    _owner: OwnerLock,
}

/// What became of an attempt to take a name.
#[derive(Debug)]
pub(crate) enum Taking {
    Taken(Place),
    /// Somebody has it: the monitor's process, unless it is only just starting.
    Busy(Option<Identity>),
}

/// What became of an attempt to take charge of a machine that runs.
#[derive(Debug)]
pub(crate) enum Finding {
    Found(Place, Identity),
    /// Another process is in charge.
    Owned(Option<u32>),
    Absent,
}

/// A machine that runs, as its directory tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What was started.
    pub machine: Machine,
    /// The monitor's process.
    pub pid: u32,
    /// The process in charge of it; none if it is detached.
    pub owner: Option<u32>,
    /// The file with what its console printed.
    pub log: PathBuf,
}

impl Home {
    /// The user's own: `$XDG_RUNTIME_DIR/kit/machines`, or `/tmp/kit-UID/machines` where there is no such variable.
    ///
    /// # Errors
    /// When it cannot be made, or is somebody else's.
    pub fn of_user() -> Result<Home, HomeError> {
        let kit = match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => Path::new(&dir).join("kit"),
            None => PathBuf::from(format!("/tmp/kit-{}", rustix::process::geteuid().as_raw())),
        };
        // The parent too: who may rename the directory may put another there.
        private(&kit)?;
        Home::at(kit.join("machines"))
    }

    /// Another directory, made if need be.
    ///
    /// # Errors
    /// As [`Home::of_user`].
    pub fn at(dir: impl Into<PathBuf>) -> Result<Home, HomeError> {
        let dir = dir.into();
        let dir = std::path::absolute(&dir).map_err(io_error("find", &dir))?;
        private(&dir)?;
        Ok(Home { dir })
    }

    /// Takes a name for a new machine.
    pub(crate) fn take(&self, name: &Name) -> Result<Taking, HomeError> {
        let path = self.dir.join(name.as_str());
        let _guard = self.lock()?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("make", &path)(source));
            }
            _ => {}
        }
        let dir = File::open(&path).map_err(io_error("open", &path))?;
        if !try_lock(&dir, &path)? {
            return Ok(Taking::Busy(identity(&path)));
        }
        empty(&path)?;
        match OwnerLock::take(&path)? {
            Ok(owner) => Ok(Taking::Taken(Place { home: self.clone(), path, dir, _owner: owner })),
            Err(_) => Ok(Taking::Busy(None)),
        }
    }

    /// Takes charge of a machine that runs.
    pub(crate) fn find(&self, name: &Name) -> Result<Finding, HomeError> {
        let path = self.dir.join(name.as_str());
        let _guard = self.lock()?;
        let Some(dir) = self.running(&path)? else { return Ok(Finding::Absent) };
        let Some(identity) = identity(&path) else { return Ok(Finding::Owned(None)) };
        Ok(match OwnerLock::take(&path)? {
            Ok(owner) => Finding::Found(Place { home: self.clone(), path, dir, _owner: owner }, identity),
            Err(owner) => Finding::Owned(owner),
        })
    }

    /// The directory and the process of a machine that runs, whoever is in charge.
    pub(crate) fn look_up(&self, name: &Name) -> Result<Option<(File, Identity)>, HomeError> {
        let path = self.dir.join(name.as_str());
        let _guard = self.lock()?;
        let Some(dir) = self.running(&path)? else { return Ok(None) };
        Ok(identity(&path).map(|identity| (dir, identity)))
    }

    /// The machines that run, by name. What others left behind is removed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, HomeError> {
        let _guard = self.lock()?;
        let mut listed = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io_error("read", &self.dir))? {
            let path = entry.map_err(io_error("read", &self.dir))?.path();
            if self.running(&path)?.is_none() {
                continue;
            }
            // One that is only just starting has no description yet.
            let machine = std::fs::read(path.join("machine.json")).ok();
            let machine = machine.and_then(|json| serde_json::from_slice::<Machine>(&json).ok());
            let (Some(machine), Some(identity)) = (machine, identity(&path)) else { continue };
            let owner = OwnerLock::holder(&path)?;
            listed.push(Listed { machine, pid: identity.pid, owner, log: path.join("console.log") });
        }
        listed.sort_by(|a, b| a.machine.name.cmp(&b.machine.name));
        Ok(listed)
    }

    /// The directory of a machine if something holds its lock; what is left over is removed.
    fn running(&self, path: &Path) -> Result<Option<File>, HomeError> {
        let dir = match OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path) {
            Ok(dir) => dir,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(io_error("open", path)(source)),
        };
        if try_lock(&dir, path)? {
            std::fs::remove_dir_all(path).map_err(io_error("remove", path))?;
            return Ok(None);
        }
        Ok(Some(dir))
    }

    /// Keeps others from taking, finding and removing until it is dropped.
    fn lock(&self) -> Result<Guard, HomeError> {
        let dir = File::open(&self.dir).map_err(io_error("open", &self.dir))?;
        loop {
            match flock(&dir, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Guard(dir)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io_error("lock", &self.dir)(errno.into())),
            }
        }
    }
}

impl Place {
    /// The path of one of the machine's files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The address of one of the machine's sockets.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        socket(&self.dir, name)
    }

    /// The lock, for the monitor to inherit.
    pub(crate) fn share_lock(&self) -> io::Result<OwnedFd> {
        self.dir.as_fd().try_clone_to_owned()
    }

    /// Writes down who the monitor is: from now on the machine can be found.
    pub(crate) fn record(&self, machine: &Machine, identity: Identity) -> Result<(), HomeError> {
        let json = serde_json::to_vec_pretty(machine).map_err(io::Error::from);
        let path = self.file("machine.json");
        json.and_then(|json| std::fs::write(&path, json)).map_err(io_error("write", &path))?;
        let (path, partial) = (self.file("pid"), self.file("pid.new"));
        std::fs::write(&partial, identity.line())
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(io_error("write", &path))
    }

    /// Gives the name back and removes the directory. Only when the monitor is gone: this takes its lock away.
    pub(crate) fn remove(self) -> Result<(), HomeError> {
        let _guard = self.home.lock()?;
        // Explicitly: a child that another thread has just forked may hold a copy of the descriptor.
        let _ = flock(&self.dir, FlockOperation::Unlock);
        self.home.running(&self.path).map(|_| ())
    }
}

/// The address of a socket in a directory, however long the directory's path: an address has 108 bytes at most.
pub(crate) fn socket(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// The lock of the process in charge of a machine.
#[derive(Debug)]
struct OwnerLock(File);

impl OwnerLock {
    /// Takes it, or says who holds it.
    fn take(place: &Path) -> Result<Result<OwnerLock, Option<u32>>, HomeError> {
        let path = place.join("owner");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(io_error("open", &path))?;
        if !try_lock(&file, &path)? {
            return Ok(Err(owner(&path)));
        }
        std::fs::write(&path, format!("{}\n", std::process::id())).map_err(io_error("write", &path))?;
        Ok(Ok(OwnerLock(file)))
    }

    /// Who holds it, if anybody does.
    fn holder(place: &Path) -> Result<Option<u32>, HomeError> {
        let path = place.join("owner");
        let Ok(file) = File::open(&path) else { return Ok(None) };
        if !try_lock(&file, &path)? {
            return Ok(owner(&path));
        }
        drop(OwnerLock(file));
        Ok(None)
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // As in `Place::remove`: at once, whoever has a copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

struct Guard(File);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes a directory of mode 0700 unless it is there, and checks that nobody else gets in.
fn private(dir: &Path) -> Result<(), HomeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make", dir))?;
    let meta = dir.symlink_metadata().map_err(io_error("inspect", dir))?;
    let uid = rustix::process::geteuid().as_raw();
    if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
        return Err(HomeError::Open { path: dir.into(), uid });
    }
    Ok(())
}

fn empty(dir: &Path) -> Result<(), HomeError> {
    for entry in std::fs::read_dir(dir).map_err(io_error("read", dir))? {
        let path = entry.map_err(io_error("read", dir))?.path();
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

/// Locks a file unless another has it locked.
fn try_lock(file: &File, path: &Path) -> Result<bool, HomeError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(io_error("lock", path)(errno.into())),
    }
}

fn identity(place: &Path) -> Option<Identity> {
    Identity::parse(&std::fs::read_to_string(place.join("pid")).ok()?)
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim_end().parse().ok()
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { doing, path, source }
}
