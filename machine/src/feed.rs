//! A console's output on its way from the thread that reads it to everyone who waits for it.
//!
//! One thread writes (see [`watch`](crate::watch)); any number of readers keep positions of their own and miss
//! nothing that is kept. A reader waits on the condition, or polls a waker where it waits for other things as well.

use crate::deadline::Deadline;
use crate::exit::Exit;
use crate::transcript::{Transcript, plain};
use kit_spec::machine::Name;
use rustix::event::{EventfdFlags, eventfd};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What is known of a machine's console, and of its end.
#[derive(Debug)]
pub(crate) struct Feed {
    name: Name,
    since: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    transcript: Transcript,
    /// Nothing more will come.
    closed: bool,
    exit: Option<Exit>,
    wakers: Vec<Weak<OwnedFd>>,
}

/// What was found on a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The line, so far as it had been printed, without control characters.
    pub line: String,
    /// The position after what was found, in bytes since the console's beginning.
    pub end: u64,
    /// The time since the machine was started, or attached to.
    pub elapsed: Duration,
}

/// Why what was waited for did not come.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It did not appear in time.
    #[error("{what} did not appear on the console of machine `{name}` within {within:?}{tail}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// The machine.
        name: Name,
        /// The time it was given.
        within: Duration,
        /// The console's last lines, as a sentence's end.
        tail: String,
    },
    /// The machine ended first.
    #[error("{what} did not appear on the console of machine `{name}`, and will not: {exit}{tail}")]
    Ended {
        /// What was waited for.
        what: String,
        /// The machine.
        name: Name,
        /// How it ended.
        exit: Exit,
        /// The console's last lines, as a sentence's end.
        tail: String,
    },
    /// The machine did not end in time.
    #[error("machine `{name}` did not end within {within:?}{tail}")]
    Runs {
        /// The machine.
        name: Name,
        /// The time it was given.
        within: Duration,
        /// The console's last lines, as a sentence's end.
        tail: String,
    },
    /// The machine was detached.
    #[error("machine `{name}` was detached")]
    Detached {
        /// The machine.
        name: Name,
    },
}

/// What a reader gets.
pub(crate) enum Next {
    /// Bytes at its position: so many, and the position after them.
    Bytes(usize, u64),
    /// Nothing yet.
    Nothing,
    /// Nothing ever.
    End,
}

impl Feed {
    pub(crate) fn new(name: Name) -> Feed {
        Feed { name, since: Instant::now(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts in front what was printed before anybody read: `bytes`, of which the first is at `position`.
    pub(crate) fn recall(&self, position: u64, bytes: &[u8]) {
        let mut state = self.lock();
        state.transcript.begin_at(position);
        state.transcript.push(bytes);
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.transcript.push(bytes);
        self.wake(&mut state);
    }

    /// Nothing more will come: the machine ended, or (`None`) it was let go.
    pub(crate) fn close(&self, exit: Option<Exit>) {
        let mut state = self.lock();
        if !state.closed {
            state.closed = true;
            state.exit = exit;
        }
        self.wake(&mut state);
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.lock().exit.clone()
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        self.lock().transcript.kept().to_vec()
    }

    /// Makes a log what was received: the bytes that are kept at their positions, before them a hole.
    pub(crate) fn write_to(&self, log: &File) -> io::Result<()> {
        let state = self.lock();
        let (position, bytes) = state.transcript.since(0);
        log.set_len(0)?;
        log.write_all_at(bytes, position)
    }

    pub(crate) fn end(&self) -> u64 {
        self.lock().transcript.end()
    }

    pub(crate) fn last_lines(&self, lines: usize) -> u64 {
        self.lock().transcript.last_lines(lines)
    }

    /// Copies what is at `position` into `buffer`.
    pub(crate) fn read(&self, position: u64, buffer: &mut [u8]) -> Next {
        read(&self.lock(), position, buffer)
    }

    /// As [`Feed::read`], but waits while there is nothing yet.
    pub(crate) fn read_wait(&self, position: u64, buffer: &mut [u8]) -> Next {
        let mut state = self.lock();
        loop {
            match read(&state, position, buffer) {
                Next::Nothing => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                next => return next,
            }
        }
    }

    /// A descriptor (an eventfd) that is readable when something has changed since it was last read.
    pub(crate) fn waker(&self) -> io::Result<Arc<OwnedFd>> {
        let waker = Arc::new(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        self.lock().wakers.push(Arc::downgrade(&waker));
        Ok(waker)
    }

    /// Waits for text after `position`.
    pub(crate) fn wait_for(&self, position: u64, marker: &str, within: Duration) -> Result<Match, WaitError> {
        let marker_bytes = marker.as_bytes();
        let overlap = marker_bytes.len().saturating_sub(1) as u64;
        let floor = position;
        let mut position = position;
        let what = format!("`{marker}`");
        self.wait(Deadline::after(within), within, &what, |transcript| {
            let (start, bytes) = transcript.since(position);
            let Some(at) = find(bytes, marker_bytes) else {
                position = transcript.end().saturating_sub(overlap).max(start).max(floor);
                return None;
            };
            let end = start + (at + marker_bytes.len()) as u64;
            Some((line_around(transcript, start + at as u64), end))
        })
    }

    /// Waits for a whole line after `position` that is `wanted`. That is asked while nothing is locked.
    pub(crate) fn wait_for_line(
        &self,
        mut position: u64,
        what: &str,
        mut wanted: impl FnMut(&str) -> bool,
        within: Duration,
    ) -> Result<Match, WaitError> {
        let deadline = Deadline::after(within);
        loop {
            let next = |transcript: &Transcript| {
                let (start, bytes) = transcript.since(position);
                let length = bytes.iter().position(|byte| *byte == b'\n')?;
                Some((plain(&bytes[..length]), start + length as u64 + 1))
            };
            let found = self.wait(deadline, within, what, next)?;
            if wanted(&found.line) {
                return Ok(found);
            }
            position = found.end;
        }
    }

    /// Waits for the end.
    pub(crate) fn wait_exit(&self, within: Duration) -> Result<Exit, WaitError> {
        let deadline = Deadline::after(within);
        let mut state = self.lock();
        loop {
            if state.closed {
                let detached = WaitError::Detached { name: self.name.clone() };
                return state.exit.clone().ok_or(detached);
            }
            let Some(left) = deadline.remaining() else {
                let tail = state.transcript.tail();
                return Err(WaitError::Runs { name: self.name.clone(), within, tail });
            };
            state = self.wait_changed(state, left);
        }
    }

    /// Waits until `search` finds something.
    fn wait(
        &self,
        deadline: Deadline,
        within: Duration,
        what: &str,
        mut search: impl FnMut(&Transcript) -> Option<(String, u64)>,
    ) -> Result<Match, WaitError> {
        let mut state = self.lock();
        loop {
            if let Some((line, end)) = search(&state.transcript) {
                return Ok(Match { line, end, elapsed: self.since.elapsed() });
            }
            let name = self.name.clone();
            if state.closed {
                let tail = state.transcript.tail();
                return Err(match state.exit.clone() {
                    Some(exit) => WaitError::Ended { what: what.into(), name, exit, tail },
                    None => WaitError::Detached { name },
                });
            }
            let Some(left) = deadline.remaining() else {
                let tail = state.transcript.tail();
                return Err(WaitError::Deadline { what: what.into(), name, within, tail });
            };
            state = self.wait_changed(state, left);
        }
    }

    fn wait_changed<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn wake(&self, state: &mut State) {
        self.changed.notify_all();
        state.wakers.retain(|waker| {
            let Some(waker) = waker.upgrade() else { return false };
            // Where its counter is full it is readable, which is all that is asked of it.
            let _ = rustix::io::write(&waker, &1u64.to_ne_bytes());
            true
        });
    }

    /// The state, whatever became of a thread that held it: it is whole after each statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(state: &State, position: u64, buffer: &mut [u8]) -> Next {
    let (start, bytes) = state.transcript.since(position);
    if bytes.is_empty() {
        return if state.closed { Next::End } else { Next::Nothing };
    }
    let count = bytes.len().min(buffer.len());
    buffer[..count].copy_from_slice(&bytes[..count]);
    Next::Bytes(count, start + count as u64)
}

/// Where `needle` first is in `hay`; an empty one is at the beginning.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|window| window == needle)
}

/// The line around a position, so far as it has been printed.
fn line_around(transcript: &Transcript, position: u64) -> String {
    let (kept_from, kept) = transcript.since(0);
    let at = (position - kept_from) as usize;
    let start = kept[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = kept[at..].iter().position(|byte| *byte == b'\n').map_or(kept.len(), |length| at + length);
    plain(&kept[start..end])
}

#[cfg(test)]
mod tests;
