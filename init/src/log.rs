//! What containers print: to a bounded file each, and to the console.
//!
//! Two files of [`SEGMENT`] bytes at most are kept of each name, below `/run/kit/log`. In memory there is one line of it,
//! for the console, cut where it is longer. A container that floods loses lines on the console, which are counted and
//! told, and never anything in its file but the oldest.
//!
//! Nobody waits for the console: what it does not take is kept if it is PID 1's own, up to [`PENDING`] bytes, and is
//! otherwise only in the container's file.

use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a file before it becomes the old one.
pub const SEGMENT: u64 = 256 << 10;
/// What a line on the console shows at most, in bytes.
const LINE: usize = 512;
/// Lines on the console in a second, from one container.
const LINES_PER_SECOND: u32 = 200;
/// Bytes that the console has yet to take.
const PENDING: usize = 4096;

/// The console, which nobody must wait for.
pub struct Console {
    file: Option<File>,
    quiet: bool,
    pending: Vec<u8>,
}

impl Console {
    /// `/dev/console`; `quiet` keeps containers' lines from it.
    pub fn open(quiet: bool) -> Console {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let file = File::options().write(true).custom_flags(flags).open("/dev/console").ok();
        Console { file, quiet, pending: Vec::new() }
    }

    /// The console itself, when it is to be waited for until it takes more.
    pub fn awaited(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| !self.pending.is_empty())
    }

    /// A line of PID 1's own: shown as soon as the console takes it.
    pub fn say(&mut self, line: &str) {
        self.write(&[line.as_bytes(), b"\n"], true);
    }

    /// Goes on with what is pending.
    pub fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.write(&[&pending], true);
    }

    /// One write, so that lines of the kernel do not come between. False if the console does not take it.
    fn write(&mut self, parts: &[&[u8]], ours: bool) -> bool {
        let Some(file) = &mut self.file else { return true };
        let text = parts.concat();
        let mut taken = 0;
        if self.pending.is_empty() {
            match file.write(&text) {
                Ok(len) => taken = len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A console that is broken takes everything.
                Err(_) => return true,
            }
        }
        // The rest of a line that was begun is everybody's.
        if (ours || taken > 0) && self.pending.len() + text.len() - taken <= PENDING {
            self.pending.extend_from_slice(&text[taken..]);
            return true;
        }
        taken == text.len()
    }
}

/// The log of what is called by one name.
pub struct Log {
    name: String,
    path: PathBuf,
    file: Option<File>,
    size: u64,
    line: Vec<u8>,
    /// The second in which lines are counted, and how many were shown in it.
    second: u64,
    shown: u32,
    dropped: u32,
}

impl Log {
    /// In a directory.
    pub fn new(dir: &Path, name: &str) -> Log {
        Log {
            name: name.into(),
            path: dir.join(format!("{name}.log")),
            file: None,
            size: 0,
            line: Vec::new(),
            second: 0,
            shown: 0,
            dropped: 0,
        }
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes what a container printed.
    pub fn take(&mut self, bytes: &[u8], console: &mut Console, now: Duration) {
        // A log that cannot be written is no reason to stop reading: the container would block.
        let _ = self.keep(bytes);
        if console.quiet {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.flush(console, now);
            }
        }
    }

    /// Shows what is left of a line that did not end.
    pub fn flush(&mut self, console: &mut Console, now: Duration) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.show(line.strip_suffix(b"\r").unwrap_or(&line), console, now);
        }
    }

    /// When [`Log::tell`] has something to tell.
    pub fn deadline(&self) -> Option<Duration> {
        (self.dropped > 0).then(|| Duration::from_secs(self.second + 1))
    }

    /// Says how many lines were not shown.
    pub fn tell(&mut self, console: &mut Console, now: Duration) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            let dropped = std::mem::take(&mut self.dropped);
            console.say(&format!("kit: {dropped} lines of {} are only in its log", self.name));
        }
    }

    fn show(&mut self, line: &[u8], console: &mut Console, now: Duration) {
        self.tell(console, now);
        if self.second != now.as_secs() {
            (self.second, self.shown) = (now.as_secs(), 0);
        }
        self.shown = self.shown.saturating_add(1);
        let shown = self.shown <= LINES_PER_SECOND
            && console.write(&[self.name.as_bytes(), b": ", line, b"\n"], false);
        self.dropped += u32::from(!shown);
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.size + bytes.len() as u64 > SEGMENT {
            self.file = None;
            fs::rename(&self.path, old(&self.path))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::options().create(true).append(true).mode(0o600).open(&self.path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// Where a log's older half is.
fn old(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Reads a log from its beginning, in pieces, while it is written.
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
}

/// What a [`Reader`] reads at a time, in bytes.
const PIECE: usize = 4096;

impl Reader {
    /// Of the log of `name` in a directory.
    pub fn new(dir: &Path, name: &str) -> Reader {
        let path = dir.join(format!("{name}.log"));
        Reader { file: File::open(old(&path)).ok(), path }
    }

    /// The next piece, broken between characters; none if there is no more for now. Bytes that are no text are replaced.
    pub fn piece(&mut self) -> Option<String> {
        let mut buffer = [0; PIECE];
        loop {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(File::open(&self.path).ok()?),
            };
            let len = file.read(&mut buffer).unwrap_or(0);
            if len > 0 {
                let whole = whole_characters(&buffer[..len]);
                let _ = file.seek_relative(whole as i64 - len as i64);
                return Some(String::from_utf8_lossy(&buffer[..whole]).into_owned());
            }
            // At its end; a file that is not written any more is followed by another.
            let inode = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|metadata| metadata.ino());
            let ours = inode(file.metadata());
            if ours == inode(fs::metadata(&self.path)) {
                return None;
            }
            let old = old(&self.path);
            self.file = if ours == inode(fs::metadata(&old)) { None } else { File::open(old).ok() };
        }
    }
}

/// How many of these bytes end before a character that may go on behind them.
fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    let lead = |byte: u8| match byte {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let cut = (start..bytes.len()).find(|at| at + lead(bytes[*at]) > bytes.len());
    cut.filter(|cut| *cut > 0).unwrap_or(bytes.len())
}

/// A pipe whose reading end never blocks.
///
/// # Errors
/// The kernel's.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

#[cfg(test)]
mod tests;
