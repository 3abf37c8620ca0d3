//! The store's way with files: nothing but regular files is opened, and what is renamed into place was synced before.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::StoreError;

pub(super) fn error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

pub(super) fn create_dirs(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|source| error("create", path, source))
}

/// Links are not followed, and a pipe does not make the opening wait.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Opens a regular file for reading, with its size; `None` if there is no such file.
pub(super) fn open_regular(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    let file = match OpenOptions::new().read(true).custom_flags(flags()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error("open", path, source)),
    };
    let metadata = file.metadata().map_err(|source| error("look at", path, source))?;
    if !metadata.is_file() {
        return Err(error("use as a blob", path, io::ErrorKind::InvalidInput.into()));
    }
    Ok(Some((file, metadata.len())))
}

/// A file that is never anything but locked. It is unlocked for all when dropped, not only closed: a process that is
/// being started at the moment has a copy of the descriptor, which would hold the lock until it runs its program.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Waits until nobody has the lock exclusively.
    pub(super) fn shared(path: &Path) -> Result<Lock, StoreError> {
        let file = open_writable(path, false)?;
        file.lock_shared().map_err(|source| error("lock", path, source))?;
        Ok(Lock(file))
    }

    /// Waits until nobody has the lock.
    pub(super) fn exclusive(path: &Path) -> Result<Lock, StoreError> {
        let file = open_writable(path, false)?;
        file.lock().map_err(|source| error("lock", path, source))?;
        Ok(Lock(file))
    }

    /// None if somebody has the lock.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Lock>, StoreError> {
        let file = open_writable(path, false)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(error("lock", path, source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does the same, if later.
        let _ = self.0.unlock();
    }
}

/// Opens a file for reading and writing, making it where needed (`new`: it must not be there).
pub(super) fn open_writable(path: &Path, new: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .create_new(new)
        .truncate(false)
        .custom_flags(flags())
        .open(path)
        .map_err(|source| error("open", path, source))
}

/// Whether the open file is still the one of that name.
pub(super) fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let ours = file.metadata().map_err(|source| error("look at", path, source))?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(error("look at", path, source)),
    }
}

/// Makes a complete file read-only, syncs it and gives it its final name, for good: after a crash it is whole or not
/// there.
pub(super) fn publish(file: &File, from: &Path, to: &Path, mode: u32) -> Result<(), StoreError> {
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|source| error("set the mode of", from, source))?;
    file.sync_all().map_err(|source| error("sync", from, source))?;
    fs::rename(from, to).map_err(|source| error("rename into place", to, source))?;
    sync_dir(to)
}

/// Replaces a small file whole.
pub(super) fn replace(beside: &Path, to: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = open_writable(beside, false)?;
    file.set_len(0).and_then(|()| file.write_all(bytes)).map_err(|source| error("write", beside, source))?;
    publish(&file, beside, to, 0o644)
}

fn sync_dir(of: &Path) -> Result<(), StoreError> {
    let Some(directory) = of.parent() else { return Ok(()) };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| error("sync", directory, source))
}
