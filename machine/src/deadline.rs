//! Waiting that ends: every wait of this crate is a `poll` on descriptors or a condition, against one of these.

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;
use std::io;
use std::time::{Duration, Instant};

/// A point in time after which nobody waits any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now; a time too far to be told apart from never is never.
    pub(crate) fn after(within: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(within))
    }

    /// No deadline.
    pub(crate) const NEVER: Deadline = Deadline(None);

    /// What is left: none once it has passed. A wait without an end is given in long slices.
    pub(crate) fn remaining(self) -> Option<Duration> {
        match self.0 {
            None => Some(Duration::from_secs(3600)),
            Some(end) => Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()),
        }
    }
}

/// Waits until one of the descriptors is ready; false if the deadline passed first.
pub(crate) fn poll(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        // A deadline that has passed still looks once, without waiting.
        let left = deadline.remaining();
        let left_or_none = left.unwrap_or_default();
        let timeout = Timespec {
            tv_sec: left_or_none.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left_or_none.subsec_nanos().into(),
        };
        match rustix::event::poll(fds, Some(&timeout)) {
            Ok(0) if left.is_none() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
