//! What containers print: to a bounded file each, and to the console.
//!
//! Two files of [`SEGMENT`] bytes at most are kept of each container, below `/run/kit/log`. In memory there is one line
//! of it, for the console, cut where it is longer. A container that floods loses lines on the console, which are
//! counted and told, and never anything in its file but the oldest.

use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a file before it becomes the old one.
pub const SEGMENT: u64 = 256 << 10;
/// What a line on the console shows at most, in bytes.
const LINE: usize = 512;
/// Lines on the console in a second, from all containers.
const LINES_PER_SECOND: u32 = 200;

/// The console, which nobody must wait for.
pub struct Console {
    file: Option<File>,
    quiet: bool,
    second: u64,
    lines: u32,
    dropped: u32,
}

impl Console {
    /// `/dev/console`; `quiet` keeps containers' lines from it.
    pub fn open(quiet: bool) -> Console {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let file = File::options().write(true).custom_flags(flags).open("/dev/console").ok();
        Console { file, quiet, second: 0, lines: 0, dropped: 0 }
    }

    /// A line of PID 1's own: always shown.
    pub fn say(&mut self, line: &str) {
        self.write(&[line.as_bytes(), b"\r\n"]);
    }

    fn container(&mut self, name: &str, line: &[u8], now: Duration) {
        if self.quiet {
            return;
        }
        if self.second != now.as_secs() {
            let dropped = std::mem::take(&mut self.dropped);
            (self.second, self.lines) = (now.as_secs(), 0);
            if dropped > 0 {
                self.say(&format!("kit: {dropped} lines of containers are only in their logs"));
            }
        }
        self.lines += 1;
        if self.lines > LINES_PER_SECOND {
            self.dropped += 1;
            return;
        }
        self.write(&[name.as_bytes(), b": ", line, b"\r\n"]);
    }

    fn write(&mut self, parts: &[&[u8]]) {
        if let Some(file) = &mut self.file {
            // One write, so that lines of the kernel do not come between.
            let _ = file.write(&parts.concat());
        }
    }
}

/// The log of one container.
pub struct Log {
    name: String,
    path: PathBuf,
    file: Option<File>,
    size: u64,
    line: Vec<u8>,
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
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes what a container printed.
    pub fn take(&mut self, bytes: &[u8], console: &mut Console, now: Duration) {
        // A log that cannot be written is no reason to stop reading: the container would block.
        let _ = self.keep(bytes);
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
        if !self.line.is_empty() {
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            console.container(&self.name, line, now);
            self.line.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size + bytes.len() as u64 > SEGMENT && self.size > 0 {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = None;
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
mod tests {
    use super::*;

    fn silent() -> Console {
        Console { file: None, quiet: false, second: 0, lines: 0, dropped: 0 }
    }

    #[test]
    fn a_log_keeps_two_files_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path(), "web");
        let line = [b'x'; 1023].as_slice();
        for _ in 0..1000 {
            log.take(&[line, b"\n"].concat(), &mut silent(), Duration::ZERO);
        }
        let sizes: u64 =
            fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes <= 2 * SEGMENT && sizes > SEGMENT, "{sizes}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(log.line.capacity() <= 2 * LINE);
    }

    #[test]
    fn a_flood_is_counted_and_not_shown() {
        let mut console = silent();
        for _ in 0..1000 {
            console.container("a", b"x", Duration::from_secs(5));
        }
        assert_eq!(console.dropped, 1000 - LINES_PER_SECOND);
    }
}
