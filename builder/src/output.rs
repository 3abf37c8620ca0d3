//! Files that appear whole or not at all.
//!
//! Each is written to a file without a name where the file system has such, so that an interrupted build leaves
//! nothing behind, and gets its name by a rename when all files of its format are complete and on disk.

use kit_spec::artifact::ArtifactFile;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Why a file cannot be put in place.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct OutputError {
    /// What was being done.
    pub doing: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// The files of one format, on their way into a directory.
pub struct Staging<'a> {
    dir: &'a Path,
    files: Vec<Staged>,
}

struct Staged {
    name: String,
    file: File,
    /// The name it has meanwhile, where files without one are not possible.
    temporary: Option<PathBuf>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            let _ = fs::remove_file(path);
        }
    }
}

impl<'a> Staging<'a> {
    /// Into a directory, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: &'a Path) -> Result<Self, OutputError> {
        let made = fs::create_dir_all(dir);
        made.map_err(|source| OutputError { doing: "create directory", path: dir.into(), source })?;
        Ok(Staging { dir, files: Vec::new() })
    }

    /// Begins a file; what is written to it can be read and sought.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&mut self, name: &str) -> Result<&mut File, OutputError> {
        let failed = |source| OutputError { doing: "create", path: self.dir.join(name), source };
        let (file, temporary) = unnamed(self.dir, name).map_err(failed)?;
        self.files.push(Staged { name: name.into(), file, temporary });
        match self.files.last_mut() {
            Some(staged) => Ok(&mut staged.file),
            None => Err(failed(io::ErrorKind::NotFound.into())),
        }
    }

    /// Adds a file of these bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let path = self.dir.join(name);
        let file = self.begin(name)?;
        file.write_all(bytes).map_err(|source| OutputError { doing: "write", path, source })
    }

    /// The size and SHA-256 of every file so far, by name.
    ///
    /// # Errors
    /// When one cannot be read back.
    pub fn describe(&mut self) -> Result<Vec<ArtifactFile>, OutputError> {
        let mut list = Vec::new();
        for staged in &mut self.files {
            let failed =
                |source| OutputError { doing: "read back", path: self.dir.join(&staged.name), source };
            let (size, sha256) = digest(&mut staged.file).map_err(failed)?;
            list.push(ArtifactFile { path: staged.name.clone(), size, sha256 });
        }
        list.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(list)
    }

    /// Puts all files in place, in the order in which they were begun.
    ///
    /// # Errors
    /// When one cannot be made durable or named; those before it are in place then.
    pub fn commit(self) -> Result<Vec<PathBuf>, OutputError> {
        let mut placed = Vec::new();
        for staged in &self.files {
            let path = self.dir.join(&staged.name);
            let failed = |doing| {
                let path = path.clone();
                move |source| OutputError { doing, path, source }
            };
            staged.file.sync_data().map_err(failed("make durable"))?;
        }
        for mut staged in self.files {
            let path = self.dir.join(&staged.name);
            let failed = |source| OutputError { doing: "put in place", path: path.clone(), source };
            let temporary = match staged.temporary.take() {
                Some(temporary) => temporary,
                None => link(&staged, self.dir).map_err(failed)?,
            };
            if let Err(source) = fs::rename(&temporary, &path) {
                let _ = fs::remove_file(&temporary);
                return Err(failed(source));
            }
            placed.push(path);
        }
        // The names themselves; a file system that cannot sync a directory has nothing to lose.
        let _ = File::open(self.dir).and_then(|dir| dir.sync_all());
        Ok(placed)
    }
}

/// Hashes a file from its beginning.
///
/// # Errors
/// When it cannot be read.
pub fn digest(file: &mut File) -> io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((size, hex(&hash.finalize())))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unnamed(dir: &Path, name: &str) -> io::Result<(File, Option<PathBuf>)> {
    let mode = Mode::from_raw_mode(0o644);
    match rustix::fs::openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => Ok((fd.into(), None)),
        Err(_) => {
            let path = temporary_name(dir, name);
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            Ok((file, Some(path)))
        }
    }
}

fn temporary_name(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.{}", std::process::id()))
}

fn link(staged: &Staged, dir: &Path) -> io::Result<PathBuf> {
    let path = temporary_name(dir, &staged.name);
    let _ = fs::remove_file(&path);
    let from = format!("/proc/self/fd/{}", staged.file.as_raw_fd());
    rustix::fs::linkat(CWD, from, CWD, &path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_name_before_it_is_complete_and_replaces_the_old_one_then() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let mut staging = Staging::new(dir.path()).unwrap();
        staging.add("a", b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
        let list = staging.describe().unwrap();
        assert_eq!((list[0].size, &list[0].sha256[..8]), (3, "11507a0e"));
        staging.commit().unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut staging = Staging::new(dir.path()).unwrap();
        staging.add("a", b"new").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
