//! The lines on stderr: `kit-net: INTERFACE: WHAT`.

use std::fmt;
use std::io::{self, Write as _};

use crate::clock::Time;
use crate::dhcp::lease::Lease;

/// Tells the log of something, in one write, so that lines of several programs do not mix; a log that is gone is no
/// reason to stop.
pub(super) fn say(about: &str, what: impl fmt::Display) {
    let line = format!("kit-net: {about}: {what}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// An error and its causes in one line.
pub(super) struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A lease for people.
pub(super) struct Granted<'a>(pub &'a Lease);

impl fmt::Display for Granted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.0.address, self.0.server)?;
        match self.0.left(Time::now()) {
            Some(left) => write!(f, " for {} s", left.as_secs()),
            None => write!(f, " for ever"),
        }
    }
}
