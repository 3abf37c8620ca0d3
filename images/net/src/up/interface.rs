//! One interface: its link, its client and the client's socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with, sockopt,
};

use super::Error;
use super::log::{Chain, say};
use crate::config::Rule;
use crate::datagram::{self, CLIENT_PORT, SERVER_PORT};
use crate::dhcp::client::{Client, Identity, Listen, To};
use crate::dhcp::lease::Lease;
use crate::dhcp::message::{self, Message};
use crate::netlink::link::Link;
use crate::sys;

/// Longer packets hold no message that is read ([`message::MAX_MESSAGE`]).
const BUFFER: usize = 2048;

pub(super) struct Interface {
    pub link: Link,
    /// Its rule's place in the list.
    pub rule: usize,
    /// What its client believes; `link.carrier` may be news to it.
    pub carrier: bool,
    pub client: Option<Client>,
    /// The lease that is configured, or was by a predecessor.
    pub lease: Option<Lease>,
    /// Every address it should have is set.
    pub configured: bool,
    /// What went wrong last.
    pub trouble: Option<String>,
    socket: Socket,
}

enum Socket {
    None,
    Link(OwnedFd),
    Address(Ipv4Addr, OwnedFd),
}

/// What there was to receive.
pub(super) enum Received {
    Message(Message),
    Useless,
    Nothing,
}

impl Interface {
    pub fn new(link: Link, rule: usize) -> Self {
        Self {
            link,
            rule,
            carrier: false,
            client: None,
            lease: None,
            configured: false,
            trouble: None,
            socket: Socket::None,
        }
    }

    /// Starts a client: at a lease in force, else from the beginning, with a lease to confirm if one is held.
    pub fn start_client(&mut self, identity: Identity, held: Option<Lease>, in_force: bool) {
        self.client = Some(match held {
            Some(lease) if in_force => {
                self.carrier = true;
                Client::resume(identity, lease)
            }
            held => Client::new(identity, held),
        });
    }

    /// Whether it has an address that can be used.
    pub fn addressed(&self, rule: &Rule) -> bool {
        let leased = self.client.as_ref().is_some_and(|client| client.holds_confirmed_lease());
        self.configured && (leased || !rule.addresses.is_empty())
    }

    /// What an interface without address is waiting for.
    pub fn why(&self) -> String {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        match &self.client {
            Some(client) if client.unanswered() > 0 => {
                format!("{}, {} unanswered", client.phase(), client.unanswered())
            }
            Some(client) => client.phase().to_owned(),
            None => "no address".to_owned(),
        }
    }

    /// What to poll.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Socket::None => None,
            Socket::Link(fd) | Socket::Address(_, fd) => Some(fd.as_fd()),
        }
    }

    /// Opens the socket that is needed and closes one that is not.
    pub fn listen(&mut self, listen: Listen) -> Result<(), Error> {
        match (listen, &self.socket) {
            (Listen::Nothing, Socket::None) | (Listen::Link, Socket::Link(_)) => return Ok(()),
            (Listen::Address(wanted), Socket::Address(bound, _)) if wanted == *bound => return Ok(()),
            _ => {}
        }
        self.socket = Socket::None;
        let opened = match listen {
            Listen::Nothing => return Ok(()),
            Listen::Link => sys::dhcp_packet_socket(self.link.index).map(Socket::Link),
            Listen::Address(address) => self.bound_socket(address).map(|fd| Socket::Address(address, fd)),
        };
        match opened {
            Ok(socket) => self.socket = socket,
            // The interface is going, which will be news; or its address was taken by somebody, which the end of the
            // lease will mend.
            Err(e) if is_passing(&e) => say(&self.link.name, format_args!("open a socket for DHCP: {e}")),
            Err(source) => return Err(Error::Socket { interface: self.link.name.clone(), source }),
        }
        Ok(())
    }

    /// A UDP socket at the leased address, on this interface only.
    fn bound_socket(&self, address: Ipv4Addr) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_socket_broadcast(&fd, true)?;
        sys::bind_to_device(fd.as_fd(), &self.link.name)?;
        bind(&fd, &SocketAddrV4::new(address, CLIENT_PORT))?;
        Ok(fd)
    }

    /// Sends a message; one that cannot be sent counts as lost on the way, and is sent again in time.
    pub fn send(&self, to: To, message: &Message) {
        let bytes = message.encode();
        let sent = match (&self.socket, to) {
            (Socket::Link(fd), To::Link) => {
                sys::broadcast_packet(fd.as_fd(), self.link.index, &datagram::broadcast(&bytes))
            }
            (Socket::Address(_, fd), To::Server(server)) => send_to(fd, &bytes, server),
            (Socket::Address(_, fd), To::Everyone) => send_to(fd, &bytes, Ipv4Addr::BROADCAST),
            // The socket could not be opened, which has been said.
            _ => Ok(()),
        };
        if let Err(e) = sent {
            say(&self.link.name, format_args!("send a DHCP message: {}", Chain(&e)));
        }
    }

    /// Takes one message from the socket.
    pub fn receive(&self) -> Received {
        let mut buffer = [0; BUFFER];
        let payload = match &self.socket {
            Socket::None => return Received::Nothing,
            Socket::Link(fd) => match sys::recv_packet(fd.as_fd(), &mut buffer) {
                Ok((len, checksum)) => {
                    buffer.get(..len).and_then(|packet| datagram::payload_for_client(packet, checksum))
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => None,
                // Also an error of the link, which reading has cleared.
                Err(_) => return Received::Nothing,
            },
            Socket::Address(_, fd) => match recv(fd, &mut buffer, RecvFlags::TRUNC) {
                Ok((_, len)) => buffer.get(..len),
                Err(Errno::INTR) => None,
                Err(_) => return Received::Nothing,
            },
        };
        payload.and_then(|bytes| message::decode(bytes).ok()).map_or(Received::Useless, Received::Message)
    }
}

fn send_to(fd: &OwnedFd, bytes: &[u8], to: Ipv4Addr) -> io::Result<()> {
    sendto(fd, bytes, SendFlags::empty(), &SocketAddrV4::new(to, SERVER_PORT))?;
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::NODEV, Errno::NXIO, Errno::ADDRNOTAVAIL, Errno::NETDOWN];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
