//! A request and its answers; and the other socket, on which the kernel tells news.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use thiserror::Error;

use super::wire::{self, Message, Request};
use super::{address, link, route};
use crate::sys;

/// Larger than any message the kernel sends (it fills at most 32 KiB).
const BUFFER: usize = 64 * 1024;
/// The kernel answers within the call that sends; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// A listing is torn when something changes meanwhile; so many times in a row is no chance any more.
const MAX_TORN: u32 = 16;

const ATTR_EXPLANATION: u16 = 1;

/// What the kernel, or the way to it, would not do.
#[derive(Debug, Error)]
pub enum Error {
    /// No socket.
    #[error("open a netlink socket")]
    Open {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The request or its answer did not get through.
    #[error("{what}: no answer from the kernel")]
    Transport {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel said no.
    #[error("{what}{}", explained(.explanation))]
    Refused {
        /// What was asked.
        what: String,
        /// The kernel's words, if it has any.
        explanation: Option<String>,
        /// The kernel's number.
        #[source]
        source: io::Error,
    },
    /// A listing changed each time it was read.
    #[error("{what}: it changed {MAX_TORN} times while it was read")]
    Torn {
        /// What was listed.
        what: String,
    },
}

fn explained(explanation: &Option<String>) -> String {
    explanation.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

impl Error {
    /// Whether the kernel said no with this number.
    #[must_use]
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(errno.raw_os_error()))
    }
}

fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, Error> {
    let open = || {
        let flags = flags | SocketFlags::CLOEXEC;
        // The default protocol, 0, is NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        sys::bind_netlink(fd.as_fd(), groups)?;
        Ok(fd)
    };
    open().map_err(|source| Error::Open { source })
}

/// A socket for requests.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

/// What came after a request.
enum Answer<T> {
    Done(T),
    Torn,
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// When the kernel has no rtnetlink or no descriptor left.
    pub fn open() -> Result<Self, Error> {
        let fd = open(0, SocketFlags::empty())?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))
            .map_err(|e| Error::Open { source: e.into() })?;
        // Without it refusals are bare numbers; nothing else is lost.
        let _ = sys::ask_for_explanations(fd.as_fd());
        Ok(Self { fd, seq: 0, buffer: vec![0; BUFFER] })
    }

    /// Every link, by number.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn links(&mut self) -> Result<Vec<link::Link>, Error> {
        let mut links = self.list("list links", &link::list(), link::parse)?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Every IPv4 address.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn addresses(&mut self) -> Result<Vec<address::Assigned>, Error> {
        self.list("list addresses", &address::list(), address::parse)
    }

    /// Every unicast IPv4 route of the main table through one interface, with the interface's number.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn routes(&mut self) -> Result<Vec<(u32, route::Route)>, Error> {
        self.list("list routes", &route::list(), route::parse)
    }

    /// Has a request done; `what` is for messages.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn execute(&mut self, what: &str, request: &Request) -> Result<(), Error> {
        self.exchange(what, request, |_| None::<()>).map(|_| ())
    }

    fn list<T>(
        &mut self,
        what: &str,
        request: &Request,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..MAX_TORN {
            if let Answer::Done(list) = self.exchange(what, request, &parse)? {
                return Ok(list);
            }
        }
        Err(Error::Torn { what: what.to_owned() })
    }

    fn exchange<T>(
        &mut self,
        what: &str,
        request: &Request,
        parse: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Answer<Vec<T>>, Error> {
        let transport = |source: io::Error| Error::Transport { what: what.to_owned(), source };
        self.seq = self.seq.wrapping_add(1).max(1);
        send(&self.fd, &request.encode(self.seq), SendFlags::empty()).map_err(|e| transport(e.into()))?;
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            let len = loop {
                match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                    Ok((_, len)) => break len,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(transport(e.into())),
                }
            };
            let Some(bytes) = self.buffer.get(..len) else {
                return Err(transport(io::ErrorKind::InvalidData.into()));
            };
            for message in wire::messages(bytes).filter(|message| message.seq == self.seq) {
                torn |= message.flags & wire::INTERRUPTED != 0;
                match message.kind {
                    wire::DONE if torn => return Ok(Answer::Torn),
                    wire::DONE => return Ok(Answer::Done(found)),
                    wire::ERROR => {
                        return match refusal(&message) {
                            None => Ok(Answer::Done(found)),
                            Some((source, explanation)) => {
                                Err(Error::Refused { what: what.to_owned(), explanation, source })
                            }
                        };
                    }
                    _ => found.extend(parse(&message)),
                }
            }
        }
    }
}

/// What an answer of type [`wire::ERROR`] refuses and why; none: it is done.
fn refusal(message: &Message<'_>) -> Option<(io::Error, Option<String>)> {
    let code = wire::u32_at(message.body, 0).map_or(libc::EPROTO, |code| code.cast_signed().wrapping_neg());
    if code == 0 {
        return None;
    }
    // After the number: the request's header, and its body unless capped; then the explanation.
    let mut fixed = 4 + 16;
    if message.flags & wire::CAPPED == 0 {
        let request_len = wire::u32_at(message.body, 4).unwrap_or(0) as usize;
        fixed = 4 + request_len.min(message.body.len());
    }
    let explanation = (message.flags & wire::ACK_TLVS != 0)
        .then(|| wire::attributes(message.body, fixed).find(|(number, _)| *number == ATTR_EXPLANATION))
        .flatten()
        .and_then(|(_, value)| wire::text(value))
        .map(str::to_owned);
    Some((io::Error::from_raw_os_error(code), explanation))
}

/// News about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is there, like this.
    Link(link::Link),
    /// It is gone.
    Gone {
        /// Its number.
        index: u32,
    },
    /// Something was missed: list everything again.
    Missed,
}

/// The socket for news; it does not block.
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Events {
    /// Opens one. To miss nothing, open it before the first listing.
    ///
    /// # Errors
    /// As [`Netlink::open`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { fd: open(link::GROUP, SocketFlags::NONBLOCK)?, buffer: vec![0; BUFFER] })
    }

    /// What is new since the last call.
    ///
    /// # Errors
    /// When the socket fails; a full one is [`News::Missed`].
    pub fn read(&mut self) -> Result<Vec<News>, Error> {
        let mut news = Vec::new();
        loop {
            match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, len)) => match self.buffer.get(..len) {
                    Some(bytes) => {
                        news.extend(wire::messages(bytes).filter_map(|message| understood(&message)))
                    }
                    None => news.push(News::Missed),
                },
                Err(rustix::io::Errno::AGAIN) => return Ok(news),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => news.push(News::Missed),
                Err(e) => {
                    return Err(Error::Transport { what: "read news of links".into(), source: e.into() });
                }
            }
        }
    }
}

fn understood(message: &Message<'_>) -> Option<News> {
    // Bridges tell news of their ports in the same messages, as another family: those say nothing about the link.
    let family = *message.body.first()?;
    match message.kind {
        link::NEW if i32::from(family) == libc::AF_UNSPEC => Some(News::Link(link::parse(message)?)),
        link::DEL if i32::from(family) == libc::AF_UNSPEC => {
            Some(News::Gone { index: wire::u32_at(message.body, 4)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
