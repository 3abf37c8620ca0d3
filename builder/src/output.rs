//! Files that appear whole or not at all.
//!
//! Each is a [`Draft`], so that an interrupted build leaves nothing behind, and gets its name when all files of its
//! format are complete and on disk.

use crate::temporary::Draft;
use kit_spec::artifact::ArtifactFile;
use rustix::fs::Access;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
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

/// Checks, without making anything, that files can be written to a directory or that it can be made: a build that
/// cannot be kept is told so before it begins.
///
/// # Errors
/// When what is there of the path is no directory, or one that this user cannot write to.
pub fn check_dir(dir: &Path) -> Result<(), OutputError> {
    let there = dir.ancestors().find(|path| path.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("."));
    let failed = |source| OutputError { doing: "write to directory", path: there.into(), source };
    if !fs::metadata(there).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(there, wanted).map_err(|errno| failed(errno.into()))
}

/// The files of one format, on their way into a directory.
pub struct Staging<'a> {
    dir: &'a Path,
    files: Vec<Staged>,
}

struct Staged {
    name: String,
    draft: Draft,
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
        let draft = Draft::new(self.dir, name).map_err(failed)?;
        self.files.push(Staged { name: name.into(), draft });
        match self.files.last_mut() {
            Some(staged) => Ok(staged.draft.file()),
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
            let (size, sha256) = digest(staged.draft.file()).map_err(failed)?;
            list.push(ArtifactFile { path: staged.name.clone(), size, sha256 });
        }
        list.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(list)
    }

    /// Puts all files in place, in the order in which they were begun.
    ///
    /// # Errors
    /// When one cannot be made durable or named; those before it are in place then.
    pub fn commit(mut self) -> Result<Vec<PathBuf>, OutputError> {
        let mut placed = Vec::new();
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| OutputError { doing, path, source }
        };
        for staged in &mut self.files {
            let path = self.dir.join(&staged.name);
            staged.draft.file().sync_data().map_err(failed("make durable", &path))?;
        }
        for Staged { name, draft } in self.files {
            let path = self.dir.join(name);
            draft.publish(&path).map_err(failed("put in place", &path))?;
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
    fn a_directory_is_checked_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        check_dir(dir.path()).unwrap();
        check_dir(&dir.path().join("a/b")).unwrap();
        check_dir(Path::new("not/there")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "").unwrap();
        for below in ["file", "file/a"] {
            let error = check_dir(&dir.path().join(below)).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
            assert_eq!(error.path, dir.path().join("file"));
        }
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
