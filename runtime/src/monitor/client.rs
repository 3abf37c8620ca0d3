//! The other end of the monitor's socket, for programs that may wait.

use super::protocol::{Event, Message, Numbered, Outcome, PACKET_BYTES, Request};
use super::{SOCKET, packet};
use crate::launch::short_address;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A connection to a monitor.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    next: u64,
    /// What came while an answer was waited for.
    events: VecDeque<Event>,
    buffer: Vec<u8>,
}

/// What can go wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no monitor, or it takes no more clients.
    #[error("connect to the monitor at {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("speak with the monitor")]
    Broken {
        /// How.
        source: io::Error,
    },
    /// The monitor has ended, or has dropped this client.
    #[error("the monitor has closed the connection")]
    Closed,
    /// Not what this program understands.
    #[error("read what the monitor says")]
    Parse {
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// Nothing came in time.
    #[error("the monitor says nothing for {} ms", limit.as_millis())]
    Silent {
        /// How long.
        limit: Duration,
    },
}

fn broken(source: impl Into<io::Error>) -> Error {
    Error::Broken { source: source.into() }
}

impl Client {
    /// How long an answer may take.
    const ANSWER_LIMIT: Duration = Duration::from_secs(60);

    /// Connects to the monitor of the pod in `dir`.
    pub fn connect(dir: &Path) -> Result<Client, Error> {
        let path = dir.join(SOCKET);
        let connect = || {
            let (_dir, address) = short_address(&path)?;
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            rustix::net::connect(&socket, &address)?;
            Ok(socket)
        };
        let socket =
            connect().map_err(|errno: Errno| Error::Connect { path: path.clone(), source: errno.into() })?;
        Ok(Client { socket, next: 1, events: VecDeque::new(), buffer: vec![0; 2 * PACKET_BYTES] })
    }

    /// Asks for something and waits for the answer, and the descriptors that it brings.
    pub fn request(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Outcome, Vec<OwnedFd>), Error> {
        let id = self.next;
        self.next += 1;
        let numbered = Numbered { id, request: request.clone() };
        let packet = serde_json::to_vec(&numbered).map_err(|source| Error::Parse { source })?;
        self.send(&packet, fds)?;
        let deadline = Instant::now() + Self::ANSWER_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                None => return Err(Error::Silent { limit: Self::ANSWER_LIMIT }),
                Some((Message::Answer { id: answered, outcome }, fds)) if answered == id || answered == 0 => {
                    return Ok((outcome, fds));
                }
                // To a request that was given up.
                Some((Message::Answer { .. }, _)) => {}
                Some((Message::Event(event), _)) => self.events.push_back(event),
            }
        }
    }

    /// Waits for the next event; `None` when there is none for so long.
    pub fn event(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.receive(deadline.saturating_duration_since(Instant::now()))? {
                None => return Ok(None),
                Some((Message::Event(event), _)) => self.events.push_back(event),
                Some((Message::Answer { .. }, _)) => {}
            }
        }
    }

    /// Sends a packet as it is.
    pub fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        loop {
            match packet::send(self.socket.as_fd(), &[IoSlice::new(packet)], fds) {
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None).map_err(broken)?;
                }
                result => return result.map(drop).map_err(broken),
            }
        }
    }

    /// Waits for the next message; `None` when there is none for so long.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<(Message, Vec<OwnedFd>)>, Error> {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Ok(None),
            Err(Errno::INTR) | Ok(_) => {}
            Err(errno) => return Err(broken(errno)),
        }
        let received = match packet::receive(self.socket.as_fd(), &mut self.buffer) {
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(Error::Closed),
            result => result.map_err(broken)?,
        };
        if received.length == 0 {
            return Err(Error::Closed);
        }
        let message = serde_json::from_slice(&self.buffer[..received.length]);
        Ok(Some((message.map_err(|source| Error::Parse { source })?, received.fds)))
    }
}
