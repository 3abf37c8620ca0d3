//! The thread that watches a machine: reads its console, sees its end, and reaps it.
//!
//! It waits on the console's socket, the process and a wish to let go, all at once, and ends with the process; once it
//! is told to let go it keeps only the duty of a parent, so that no zombie is left.

use crate::console::Line;
use crate::deadline::{Deadline, poll};
use crate::exit::Exit;
use crate::feed::Feed;
use crate::pause::{ANSWER_WITHIN, paused, wait_console};
use crate::process::Process;
use crate::qmp::{Client, QmpError};
use crate::transcript::{KEPT, plain};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

/// A monitor's standard error is of interest only in its last bytes.
const WORDS_MAX: u64 = 2048;

/// The monitor's connection, until it is given up.
pub(crate) type Monitor = Arc<Mutex<Option<Client>>>;

/// All that is watched.
pub(crate) struct Watch {
    pub(crate) feed: Arc<Feed>,
    pub(crate) process: Arc<Process>,
    /// The process as a child, if it is one.
    pub(crate) child: Option<Child>,
    pub(crate) line: Arc<Line>,
    pub(crate) monitor: Monitor,
    pub(crate) release: Arc<Release>,
    /// What the console printed, as the monitor writes it down.
    pub(crate) log: File,
    /// The monitor's standard error.
    pub(crate) words: PathBuf,
}

/// The wish to let go of a machine.
#[derive(Debug)]
pub(crate) struct Release(OwnedFd);

impl Release {
    pub(crate) fn new() -> io::Result<Release> {
        Ok(Release(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wish(&self) {
        // The counter cannot be full: it is written to once.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Watch {
    /// Watches until the process has ended.
    pub(crate) fn run(mut self) {
        let mut trimmed = 0;
        let mut connected = true;
        loop {
            let mut fds =
                vec![PollFd::new(&self.process, PollFlags::IN), PollFd::new(&self.release.0, PollFlags::IN)];
            if connected {
                fds.push(PollFd::new(&self.line, PollFlags::IN));
            }
            if poll(&mut fds, Deadline::NEVER).is_err() {
                // Out of memory, at most. The process is asked again, by waiting for it.
                break;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                break;
            }
            if ready[1] {
                self.let_go();
                return;
            }
            connected = connected && self.line.receive(&self.feed);
            trimmed = trim(&self.log, trimmed, self.feed.end());
        }
        self.finish();
    }

    /// The process has ended: takes the rest of what it said, and tells everyone.
    fn finish(&mut self) {
        self.drain();
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = monitor.take().and_then(|mut client| client.shutdown_reason());
        let exit = Exit::of(status, reason.as_deref(), last_words(&self.words));
        self.feed.close(Some(exit));
    }

    /// Gives up the console and the monitor, so that another process can have them, and tells everyone.
    fn let_go(mut self) {
        let client = self.monitor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut client) = client {
            // If it fails the machine is ending, or its log keeps some bytes twice.
            let _ = paused(&mut client, |client| self.leave(client));
        }
        self.line.hang_up();
        self.feed.close(None);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }

    /// Leaves the console of a guest that stands still, with all that it has printed received and written down.
    fn leave(&self, client: &mut Client) -> Result<(), QmpError> {
        for _ in 0..2 {
            // What the monitor could not send yet, it sends as soon as there is room.
            self.drain();
            client.execute("query-status", ANSWER_WITHIN)?;
        }
        self.drain();
        self.line.hang_up();
        wait_console(client, false)?;
        let _ = self.feed.write_to(&self.log);
        Ok(())
    }

    /// Takes all that has come by now.
    fn drain(&self) {
        while self.line.has_more() && self.line.receive(&self.feed) {}
    }
}

/// Keeps a log's size on disk bounded while somebody watches: of `end` bytes the last [`KEPT`] stay, what is before
/// becomes a hole, so that positions stay what they are. Returns up to where it is one. A file system without holes
/// keeps everything.
pub(crate) fn trim(log: &File, trimmed: u64, end: u64) -> u64 {
    let keep_from = end.saturating_sub(KEPT as u64);
    if keep_from < trimmed + KEPT as u64 {
        return trimmed;
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = fallocate(log, mode, 0, keep_from);
    keep_from
}

/// The end of a file, and where that begins.
pub(crate) fn tail(file: &mut File, max: u64) -> io::Result<(u64, Vec<u8>)> {
    let start = file.metadata()?.len().saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((start, bytes))
}

/// What a monitor said last, in words that can be shown.
pub(crate) fn last_words(path: &Path) -> String {
    let tail = File::open(path).and_then(|mut file| tail(&mut file, WORDS_MAX));
    plain(&tail.map(|(_, bytes)| bytes).unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_log_that_grows_keeps_its_end_and_its_positions() {
        let file = tempfile::tempfile().unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        let mut trimmed = 0;
        for at in 0..64 {
            file.write_all_at(&megabyte, at << 20).unwrap();
            trimmed = trim(&file, trimmed, (at + 1) << 20);
        }
        assert_eq!(file.metadata().unwrap().len(), 64 << 20);
        assert_eq!(trimmed, 48 << 20);
        let mut byte = [0];
        file.read_exact_at(&mut byte, trimmed).unwrap();
        assert_eq!(byte, *b"x");
        if file.metadata().unwrap().blocks() * 512 >= 64 << 20 {
            println!("skipped: the file system of temporary files has no holes");
            return;
        }
        file.read_exact_at(&mut byte, trimmed - 1).unwrap();
        assert_eq!(byte, [0]);
    }
}
