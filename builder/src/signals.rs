//! Being told to end: SIGINT, SIGTERM and SIGHUP as values.
//!
//! A signal that whoever started the process had ignored (`nohup`, a job in the background) stays ignored.

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};
use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a process ends with, plus the signal, when it was told to end by one.
const BY_SIGNAL: u8 = 128;
/// The signals by which a process is told to end.
const ENDING: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The signals of [`ENDING`] as they come, in place of what they do otherwise.
#[derive(Debug)]
pub struct Signals {
    which: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Signals {
    /// Takes the signals from now on.
    ///
    /// # Errors
    /// When one cannot be taken.
    pub fn take() -> io::Result<Signals> {
        let mut signals = Signals { which: Arc::default(), registered: Vec::new() };
        for signal in heard() {
            let number = signal.unsigned_abs() as usize;
            signals.registered.push(signal_hook::flag::register_usize(
                signal,
                signals.which.clone(),
                number,
            )?);
        }
        Ok(signals)
    }

    /// The signal that came last, if one did.
    pub fn which(&self) -> Option<c_int> {
        c_int::try_from(self.which.load(Ordering::SeqCst)).ok().filter(|signal| *signal != 0)
    }

    /// What a process ends with that was told to end by the signal that came last.
    pub fn exit_code(&self) -> ExitCode {
        let signal = self.which().and_then(|signal| u8::try_from(signal).ok());
        ExitCode::from(BY_SIGNAL + signal.unwrap_or_default())
    }

    /// Something that becomes readable when a signal comes.
    ///
    /// # Errors
    /// When there is no pipe, or a signal cannot be taken.
    pub fn readable(&mut self) -> io::Result<OwnedFd> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        for signal in heard() {
            self.registered.push(pipe::register(signal, tell.try_clone()?)?);
        }
        Ok(told)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            unregister(id);
        }
    }
}

/// The signals that are not ignored.
fn heard() -> impl Iterator<Item = c_int> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    ENDING.into_iter().filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// The set of ignored signals, a bit each, as proc(5) has it.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_was_ignored_stays_so() {
        let status = "Name:\tkitbuild\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n";
        assert_eq!(ignored(status), 1 << (SIGHUP - 1));
        assert_eq!(ignored("Name:\tx\n"), 0);
    }
}
