//! Which descriptors are waited for, and whose they are.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::stream::Kind;

/// Whose a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Clients connect here.
    Listener,
    /// Signals arrive here.
    Signals,
    /// A client's connection.
    Client,
    /// The output of a container.
    Output(String, Kind),
    /// The standard input of a container.
    Stdin(String),
    /// The socket of an attached client.
    Attached(String),
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    sources: BTreeMap<u64, Source>,
    next: u64,
}

/// A descriptor and what it is waited for.
#[derive(Debug)]
pub struct Watched {
    fd: OwnedFd,
    token: u64,
    interest: Option<EventFlags>,
}

impl Poller {
    /// Nothing is waited for yet.
    pub fn new() -> Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)?, sources: BTreeMap::new(), next: 0 })
    }

    /// Waits for `interest` of a descriptor, or for nothing yet.
    pub fn watch(&mut self, fd: OwnedFd, source: Source, interest: Option<EventFlags>) -> Result<Watched> {
        let mut watched = Watched { fd, token: self.next, interest: None };
        self.next += 1;
        self.set(&mut watched, interest)?;
        self.sources.insert(watched.token, source);
        Ok(watched)
    }

    /// Changes what a descriptor is waited for. With no flags a hang-up still tells, with `None`
    /// nothing does.
    pub fn set(&self, watched: &mut Watched, interest: Option<EventFlags>) -> Result<()> {
        let data = EventData::new_u64(watched.token);
        match (watched.interest, interest) {
            (old, new) if old == new => {}
            (None, Some(flags)) => epoll::add(&self.epoll, &watched.fd, data, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&self.epoll, &watched.fd, data, flags)?,
            (_, None) => epoll::delete(&self.epoll, &watched.fd)?,
        }
        watched.interest = interest;
        Ok(())
    }

    /// Gives up a descriptor.
    pub fn forget(&mut self, watched: Watched) {
        if watched.interest.is_some() {
            // The process that shares it may hold it open for a moment longer.
            let _ = epoll::delete(&self.epoll, &watched.fd);
        }
        self.sources.remove(&watched.token);
    }

    /// Whose a token is; `None` if it was given up in the meantime.
    pub fn source(&self, token: u64) -> Option<Source> {
        self.sources.get(&token).cloned()
    }

    /// Waits until something happens, or for so long. Returns tokens and what they are ready for.
    pub fn wait(&self, limit: Option<Duration>) -> Result<Vec<(u64, EventFlags)>> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut space = [MaybeUninit::<Event>::uninit(); 32];
        match epoll::wait(&self.epoll, &mut space, limit.as_ref()) {
            Ok((events, _)) => Ok(events.iter().map(|event| (event.data.u64(), event.flags)).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(errno),
        }
    }
}

impl Watched {
    /// What events carry.
    pub fn token(&self) -> u64 {
        self.token
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
