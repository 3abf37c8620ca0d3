//! Staying with a process: signals go to it, its terminal is copied, its exit code becomes that of
//! `kitc`.

use crate::console::{Copier, Raw, copy_size};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Signals taken as data from the time before the process was made, so that none is lost.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks all signals and takes them as data from now on.
    pub fn take() -> io::Result<Signals> {
        signal::block_all_into_descriptor().map(Signals)
    }

    /// The signals that have arrived.
    fn read(&self) -> Vec<i32> {
        // struct signalfd_siginfo is 128 bytes and begins with the number.
        let mut bytes = [0_u8; 128 * 8];
        let count = rustix::io::read(&self.0, &mut bytes).unwrap_or(0);
        bytes[..count]
            .chunks_exact(128)
            .map(|info| i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
            .collect()
    }
}

/// Stays with the process behind `pidfd`, a child of this one, until it has ended. Returns its exit
/// code, or 128 and the number of the signal that ended it.
pub fn stay(pidfd: &OwnedFd, signals: &Signals, console: Option<OwnedFd>) -> io::Result<u8> {
    let raw = console.as_ref().map(|_| Raw::enter());
    let mut copier = console.map(Copier::new);
    if let Some(copier) = &copier {
        copy_size(copier.master());
    }
    let code = loop {
        if step(pidfd, signals, &mut copier)? {
            break exit_code(pidfd)?;
        }
    };
    if let Some(mut copier) = copier {
        copier.drain();
    }
    drop(raw);
    Ok(code)
}

/// Waits for whatever comes next and does it. Returns whether the process has ended.
fn step(pidfd: &OwnedFd, signals: &Signals, copier: &mut Option<Copier>) -> io::Result<bool> {
    let stdin = rustix::stdio::stdin();
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
    if let Some(copier) = copier {
        fds.push(PollFd::new(copier.master(), PollFlags::IN));
        if copier.wants_input() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
    }
    match poll(&mut fds, None) {
        Err(Errno::INTR) => return Ok(false),
        result => result?,
    };
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    if ready[1] {
        for number in signals.read() {
            forward(pidfd, number, copier.as_ref());
        }
    }
    if ready.get(2) == Some(&true) && copier.as_mut().is_some_and(|c| !c.copy_output()) {
        *copier = None;
    } else if let (Some(true), Some(copier)) = (ready.get(3), copier) {
        copier.copy_input();
    }
    Ok(ready[0])
}

fn forward(pidfd: &OwnedFd, number: i32, copier: Option<&Copier>) {
    match number {
        libc::SIGCHLD => {}
        libc::SIGWINCH if copier.is_some() => {
            if let Some(copier) = copier {
                copy_size(copier.master());
            }
        }
        number => {
            // It may have ended by now.
            let _ = signal::pidfd_send_signal(pidfd.as_fd(), number);
        }
    }
}

fn exit_code(pidfd: &OwnedFd) -> io::Result<u8> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) | Ok(None) => {}
            Err(source) => return Err(source.into()),
            Ok(Some(status)) => {
                let code = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => code,
                    (None, Some(number)) => 128 + number,
                    (None, None) => 255,
                };
                return Ok(code as u8);
            }
        }
    }
}
