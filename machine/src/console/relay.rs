//! A terminal joined to a console: what is typed goes to the guest, what the guest prints comes to the screen.
//!
//! The terminal is put into raw mode and put back when the relay ends, however it ends: keys such as Ctrl-C are the
//! guest's. One byte, the escape, is not passed on but leaves.

use super::Console;
use crate::deadline::{Deadline, poll};
use crate::feed::Next;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::BorrowedFd;

/// What is typed and not yet taken by the guest, at most.
const TYPED_MAX: usize = 1 << 16;

/// The two ends of a terminal, and how to leave.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// Where keys come from. If it is not a terminal its end does not end the relay.
    pub input: BorrowedFd<'a>,
    /// Where output goes.
    pub output: BorrowedFd<'a>,
    /// The key that leaves.
    pub escape: u8,
    /// Leaves as soon as it is readable: how a signal ends a relay.
    pub cancel: Option<BorrowedFd<'a>>,
}

impl Relay<'_> {
    /// Ctrl-], the usual escape.
    pub const ESCAPE: u8 = 0x1d;
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The escape was typed.
    Escape,
    /// The caller cancelled.
    Cancelled,
    /// The machine ended, or is attached to no more.
    Ended,
}

/// Why a relay broke.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The terminal's settings cannot be read or changed.
    #[error("set up the terminal")]
    Terminal(#[source] io::Error),
    /// Keys cannot be read.
    #[error("read the terminal")]
    Input(#[source] io::Error),
    /// The screen cannot be written.
    #[error("write to the terminal")]
    Output(#[source] io::Error),
    /// The console cannot be written, or waited for.
    #[error("type on the console")]
    Console(#[source] io::Error),
}

/// Joins a terminal and a console until one of them ends, or the escape is typed. Output begins at the console's
/// position.
///
/// # Errors
/// See [`RelayError`]. The terminal is as it was before.
pub fn relay(console: &mut Console, ends: Relay<'_>) -> Result<Left, RelayError> {
    let _raw = Raw::enter(ends.input).map_err(RelayError::Terminal)?;
    let waker = console.feed.waker().map_err(RelayError::Console)?;
    let mut typed: Vec<u8> = Vec::new();
    let mut screen = Screen::default();
    let mut input_open = true;
    loop {
        let over = screen.fill(console);
        if over && screen.is_empty() {
            return Ok(Left::Ended);
        }
        let mut fds = vec![PollFd::new(&waker, PollFlags::IN)];
        let cancel = push_if(&mut fds, ends.cancel, PollFlags::IN);
        let key = push_if(
            &mut fds,
            Some(ends.input).filter(|_| input_open && typed.len() < TYPED_MAX),
            PollFlags::IN,
        );
        let output = push_if(&mut fds, Some(ends.output).filter(|_| !screen.is_empty()), PollFlags::OUT);
        let line = std::os::fd::AsFd::as_fd(&*console.line);
        push_if(&mut fds, Some(line).filter(|_| !typed.is_empty() && !over), PollFlags::OUT);
        poll(&mut fds, Deadline::NEVER).map_err(RelayError::Console)?;
        let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let (cancelled, key, output) = (ready(cancel), ready(key), ready(output));

        // The counter is of no interest, only that it is zero again.
        let _ = rustix::io::read(&waker, &mut [0; 8]);
        if cancelled {
            return Ok(Left::Cancelled);
        }
        if output {
            screen.show(ends.output).map_err(RelayError::Output)?;
        }
        if key {
            match read_keys(ends.input, ends.escape, &mut typed).map_err(RelayError::Input)? {
                Keys::Escape => return Ok(Left::Escape),
                Keys::End => input_open = false,
                Keys::Some => {}
            }
        }
        if !typed.is_empty() && !over {
            // A console that is gone is noticed by its feed's end, with what it printed last.
            let sent = console.line.send_some(&typed).unwrap_or(typed.len());
            typed.drain(..sent);
        }
    }
}

fn push_if<'a>(fds: &mut Vec<PollFd<'a>>, fd: Option<BorrowedFd<'a>>, flags: PollFlags) -> Option<usize> {
    fds.push(PollFd::from_borrowed_fd(fd?, flags));
    Some(fds.len() - 1)
}

enum Keys {
    Some,
    Escape,
    End,
}

fn read_keys(input: BorrowedFd<'_>, escape: u8, typed: &mut Vec<u8>) -> io::Result<Keys> {
    let mut buffer = [0; 4096];
    let count = match rustix::io::read(input, &mut buffer[..]) {
        Ok(0) | Err(Errno::IO) => return Ok(Keys::End),
        Ok(count) => count,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Keys::Some),
        Err(errno) => return Err(errno.into()),
    };
    if buffer[..count].contains(&escape) {
        return Ok(Keys::Escape);
    }
    typed.extend_from_slice(&buffer[..count]);
    Ok(Keys::Some)
}

/// Output on its way to the terminal.
#[derive(Default)]
struct Screen {
    pending: Vec<u8>,
}

impl Screen {
    fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes what the console has, if nothing is pending; true if it will have nothing more.
    fn fill(&mut self, console: &mut Console) -> bool {
        if !self.is_empty() {
            return false;
        }
        // No more than a pipe that is writable takes without waiting (PIPE_BUF).
        let mut buffer = [0; 4096];
        match console.feed.read(console.position, &mut buffer) {
            Next::Bytes(count, position) => {
                console.position = position;
                self.pending.extend_from_slice(&buffer[..count]);
                false
            }
            Next::Nothing => false,
            Next::End => true,
        }
    }

    fn show(&mut self, output: BorrowedFd<'_>) -> io::Result<()> {
        match rustix::io::write(output, &self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A terminal in raw mode, until it is dropped.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    fn enter(terminal: BorrowedFd<'a>) -> io::Result<Raw<'a>> {
        if !isatty(terminal) {
            return Ok(Raw { terminal, before: None });
        }
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Flush, &raw)?;
        Ok(Raw { terminal, before: Some(before) })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(self.terminal, OptionalActions::Drain, before);
        }
    }
}
