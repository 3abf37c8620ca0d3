//! A machine's serial console: what it prints can be read, searched and waited for; what is sent is typed.

mod relay;

pub use relay::{Left, Relay, RelayError, relay};

use crate::deadline::{Deadline, poll};
use crate::feed::{Feed, Match, Next, WaitError};
use kit_spec::machine::Name;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// How long a guest that reads nothing may hold up what is sent.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// A console, read from a position of its own. It stays readable when the machine has ended.
#[derive(Clone, Debug)]
pub struct Console {
    feed: Arc<Feed>,
    line: Arc<Line>,
    position: u64,
}

/// Why something could not be typed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The guest does not read.
    #[error("the console of machine `{name}` took {sent} of {count} bytes, then none for {within:?}")]
    Stuck {
        /// The machine.
        name: Name,
        /// Bytes taken.
        sent: usize,
        /// Bytes to send.
        count: usize,
        /// The time it was given.
        within: Duration,
    },
    /// There is no console any more.
    #[error("type on the console of machine `{name}`")]
    Io {
        /// The machine.
        name: Name,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Console {
    pub(crate) fn new(feed: Arc<Feed>, line: Arc<Line>) -> Console {
        Console { feed, line, position: 0 }
    }

    /// Where the next byte is read, counted from the console's beginning.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to the beginning of the last so many lines; 0 is the end.
    pub fn seek_to_last(&mut self, lines: usize) {
        self.position = self.feed.last_lines(lines);
    }

    /// Reads up to text and past it.
    ///
    /// # Errors
    /// When the deadline passes or the machine ends first; what was printed stays unread.
    pub fn wait_for(&mut self, marker: &str, within: Duration) -> Result<Match, WaitError> {
        let found = self.feed.wait_for(self.position, marker, within)?;
        self.position = found.end;
        Ok(found)
    }

    /// Reads up to a whole line that is `wanted` and past it; `what` names it in an error. The line is shown without
    /// its end and without control characters.
    ///
    /// # Errors
    /// As [`Console::wait_for`].
    pub fn wait_for_line(
        &mut self,
        what: &str,
        wanted: impl FnMut(&str) -> bool,
        within: Duration,
    ) -> Result<Match, WaitError> {
        let found = self.feed.wait_for_line(self.position, what, wanted, within)?;
        self.position = found.end;
        Ok(found)
    }

    /// Types. Ten seconds in which the guest reads nothing are too many.
    ///
    /// # Errors
    /// When the guest does not read, or there is none.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.line.send(bytes)
    }
}

/// Waits for output; the end of file is the end of the machine, or of being attached to it.
impl Read for Console {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.feed.read_wait(self.position, buffer) {
            Next::Bytes(count, position) => {
                self.position = position;
                Ok(count)
            }
            Next::Nothing | Next::End => Ok(0),
        }
    }
}

/// The connection to a console.
#[derive(Debug)]
pub(crate) struct Line {
    name: Name,
    stream: UnixStream,
}

impl Line {
    pub(crate) fn new(name: Name, stream: UnixStream) -> Line {
        Line { name, stream }
    }

    /// Takes what has come, without waiting; false when nothing more will.
    pub(crate) fn receive(&self, feed: &Feed) -> bool {
        let mut buffer = [0; 1 << 16];
        match recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok((count, _)) => {
                feed.push(&buffer[..count]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// True if there is something to receive now.
    pub(crate) fn has_more(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        poll(&mut fds, Deadline::after(Duration::ZERO)).is_ok_and(|ready| ready)
    }

    /// Sends what the console takes at once.
    pub(crate) fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        let io = |source| SendError::Io { name: self.name.clone(), source };
        let mut sent = 0;
        while sent < bytes.len() {
            let mut fds = [PollFd::new(&self.stream, PollFlags::OUT)];
            if !poll(&mut fds, Deadline::after(SEND_WITHIN)).map_err(io)? {
                let (name, count) = (self.name.clone(), bytes.len());
                return Err(SendError::Stuck { name, sent, count, within: SEND_WITHIN });
            }
            sent += self.send_some(&bytes[sent..]).map_err(io)?;
        }
        Ok(())
    }

    /// Hangs up, whoever else holds the connection.
    pub(crate) fn hang_up(&self) {
        let _ = shutdown(&self.stream, Shutdown::Both);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
