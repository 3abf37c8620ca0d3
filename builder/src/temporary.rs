//! What exists only while this process works: gone when it is done, when it fails, and when it is told to end.
//!
//! ```text
//! Draft::new(dir, name)   a file without a name ──written──▶ `publish`: whole, under its lasting name
//! Temporary::dir(parent)  registered ──▶ removed when it is dropped
//! Watch::begin()          SIGINT, SIGTERM, SIGHUP ──▶ what is registered is removed ──▶ the process ends by that signal
//! ```
//!
//! A file without a name (O_TMPFILE) is left behind by nothing, not even by SIGKILL; where the file system has no such
//! files, a draft has a name that is registered. A signal that whoever started the process had ignored (`nohup`, a job
//! in the background) stays ignored.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::collections::BTreeSet;
use std::ffi::c_int;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static REGISTERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn registered() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that appears whole or not at all.
#[derive(Debug)]
pub struct Draft {
    file: File,
    /// The name that it has meanwhile.
    named: PathBuf,
    /// Set where files without a name are not possible.
    temporary: Option<Temporary>,
}

impl Draft {
    /// Begins a file in a directory, which will be called `name`; it can be read and written.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: &Path, name: &str) -> io::Result<Draft> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, dir, flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => Ok(Draft { file: fd.into(), named: meanwhile(dir, name), temporary: None }),
            Err(_) => Draft::with_name(dir, name),
        }
    }

    fn with_name(dir: &Path, name: &str) -> io::Result<Draft> {
        let temporary = Temporary::file(meanwhile(dir, name));
        let named = temporary.path().to_owned();
        // Of a process of this number that was killed.
        let _ = fs::remove_file(&named);
        let file = File::options().read(true).write(true).create_new(true).open(&named)?;
        Ok(Draft { file, named, temporary: Some(temporary) })
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its lasting name in the same directory, replacing what has it. What must survive a loss of power is
    /// to be synced before.
    ///
    /// # Errors
    /// When that is not possible; nothing is left then.
    pub fn publish(self, to: &Path) -> io::Result<()> {
        let temporary = match self.temporary {
            Some(temporary) => temporary,
            None => {
                let _ = fs::remove_file(&self.named);
                let temporary = Temporary::file(self.named);
                let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, from, CWD, temporary.path(), AtFlags::SYMLINK_FOLLOW)?;
                temporary
            }
        };
        fs::rename(temporary.path(), to)
    }
}

fn meanwhile(dir: &Path, name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".{name}.{}.{number}", std::process::id()))
}

/// A file or directory that is removed when this is dropped, if it is there.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// A file that somebody is about to make.
    fn file(path: PathBuf) -> Temporary {
        registered().insert(path.clone());
        Temporary(path)
    }

    /// Makes a directory in `parent` that only this user gets into; its name begins with `prefix`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn dir(parent: &Path, prefix: &str) -> io::Result<Temporary> {
        // Held meanwhile: a signal comes before it is made or after it is registered.
        let mut registered = registered();
        for number in 0.. {
            let path = parent.join(format!("{prefix}-{}.{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    registered.insert(path.clone());
                    return Ok(Temporary(path));
                }
                // Left by another process of that number, or put there by somebody else.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.0);
        registered().remove(&self.0);
    }
}

fn remove(path: &Path) {
    // What cannot be removed, or is not there any more, is nothing to fail for.
    let _ = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
}

/// The signals by which a process is told to end.
const ENDING: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Those of them that this process was not started with as ignored.
pub fn ending_signals() -> Vec<c_int> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    ENDING.into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect()
}

/// The set of ignored signals, a bit each, as proc(5) has it.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Removes what is registered when the process is told to end; ends with this value.
#[derive(Debug)]
pub struct Watch(Handle);

impl Watch {
    /// Begins to wait for signals, in a thread.
    ///
    /// # Errors
    /// When no thread can be started or a signal not be taken.
    pub fn begin() -> io::Result<Watch> {
        let mut signals = Signals::new(ending_signals())?;
        let handle = signals.handle();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // Not given back: nothing more is made.
                let registered = registered();
                registered.iter().for_each(|path| remove(path));
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        Ok(Watch(handle))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_draft_appears_whole_or_not_at_all() {
        for begin in [Draft::new, Draft::with_name] {
            let dir = tempfile::tempdir().unwrap();
            let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let to = dir.path().join("x");
            fs::write(&to, "old").unwrap();
            begin(dir.path(), "x").unwrap().file().write_all(b"given up").unwrap();
            assert_eq!(names().collect::<Vec<_>>(), ["x"]);
            let mut draft = begin(dir.path(), "x").unwrap();
            draft.file().write_all(b"new").unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"old");
            draft.publish(&to).unwrap();
            assert_eq!(names().collect::<Vec<_>>(), ["x"]);
            assert_eq!(fs::read(&to).unwrap(), b"new");
        }
    }

    #[test]
    fn a_draft_that_cannot_have_its_name_leaves_nothing() {
        for begin in [Draft::new, Draft::with_name] {
            let dir = tempfile::tempdir().unwrap();
            let to = dir.path().join("x");
            fs::create_dir(&to).unwrap();
            begin(dir.path(), "x").unwrap().publish(&to).unwrap_err();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_directory_is_its_makers_own_and_takes_nobody_elses_place() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let one = Temporary::dir(dir.path(), "run").unwrap();
        let other = Temporary::dir(dir.path(), "run").unwrap();
        assert_ne!(one.path(), other.path());
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(one.path().join("x"), "x").unwrap();
        drop((one, other));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_signal_that_was_ignored_stays_so() {
        let status = "Name:\tkitbuild\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n";
        assert_eq!(ignored(status), 1 << (SIGHUP - 1));
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
