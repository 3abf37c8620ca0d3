//! What exists only while this process works: gone when it is done, when it fails, and when it is told to end.
//!
//! ```text
//! Draft::new(dir, name)   a file without a name ──written──▶ `publish`: whole, under its lasting name
//! Temporary::dir(parent)  registered ──▶ removed when it is dropped
//! output(command)         a program that is told to end as this process is
//! Watch::begin()          SIGINT, SIGTERM, SIGHUP ──▶ what is registered is removed ──▶ the process ends by that signal
//! ```
//!
//! A file without a name (O_TMPFILE) is left behind by nothing, not even by SIGKILL; where the file system has no such
//! files, a draft has a name that is registered.

use crate::signals::Signals;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::ffi::c_int;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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

static PROGRAMS: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());

fn programs() -> MutexGuard<'static, Vec<Arc<OwnedFd>>> {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a program to its end and takes what it prints; if this process is told to end meanwhile, so is the program.
///
/// # Errors
/// When it cannot be run.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let (child, _program) = start(command)?;
    child.wait_with_output()
}

/// The same, with each line of its standard output told as it comes, and not kept.
///
/// # Errors
/// When it cannot be run.
pub fn output_by_line(command: &mut Command, mut heard: impl FnMut(&str)) -> io::Result<Output> {
    let (mut child, _program) = start(command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || {
        let mut errors = Vec::new();
        stderr.map(|mut stderr| stderr.read_to_end(&mut errors)).transpose().map(|_| errors)
    });
    for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        heard(&line?);
    }
    let status = child.wait()?;
    let stderr = errors.join().unwrap_or_else(|_| Ok(Vec::new()))?;
    Ok(Output { status, stdout: Vec::new(), stderr })
}

fn start(command: &mut Command) -> io::Result<(Child, Program)> {
    let mut programs = programs();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Not its number, which may be another's as soon as it was waited for.
    let handle = Arc::new(pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?);
    programs.push(handle.clone());
    Ok((child, Program(handle)))
}

/// A program that is told to end as this process is, while this value lives.
struct Program(Arc<OwnedFd>);

impl Drop for Program {
    fn drop(&mut self) {
        programs().retain(|other| !Arc::ptr_eq(other, &self.0));
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

/// Removes what is registered when the process is told to end; ends with this value.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How soon a signal is noticed. It is looked for, since what wakes a thread at once is a socket: a build that may not
/// speak to anybody has none.
const NOTICED_WITHIN: Duration = Duration::from_millis(50);

impl Watch {
    /// Begins to look for signals, in a thread.
    ///
    /// # Errors
    /// When no thread can be started or a signal not be taken.
    pub fn begin() -> io::Result<Watch> {
        let signals = Signals::take()?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            while !until.load(Ordering::SeqCst) {
                if let Some(signal) = signals.which() {
                    end(signal);
                }
                std::thread::park_timeout(NOTICED_WITHIN);
            }
        })?;
        Ok(Watch { over, thread: Some(thread) })
    }
}

/// Ends this process by a signal, with all that is registered.
fn end(signal: c_int) {
    // Not given back: nothing more is made.
    let (registered, programs) = (registered(), programs());
    for program in programs.iter() {
        let _ = pidfd_send_signal(program, Signal::TERM);
    }
    registered.iter().for_each(|path| remove(path));
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
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
}
