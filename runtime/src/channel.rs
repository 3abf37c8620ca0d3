//! The socket between `kitc` and the container's process while it is being made.
//!
//! ```text
//! child                                parent
//!   | -- Pid --------------------------> |   only where a process before it joins a user namespace
//!   | <---------------------- Go ------- |   id maps and limits are set (only where there are any)
//!   | -- Hooks ------------------------> |   mounts are there, the root is not entered yet
//!   | <---------------------- Go ------- |   prestart and createRuntime hooks have run
//!   | -- Console + descriptor ---------> |   the terminal's master
//!   | -- Notify + descriptor ----------> |   the seccomp listener
//!   | -- Ready ------------------------> |   nothing is left but to wait for start, or to exec
//!   | -- Error(chain) -----------------> |   at any time; nothing comes after it
//! ```
//!
//! Both ends close on exec: end of file after `Ready` means that the program runs. The same messages
//! go over the connection that `kitc start` opens to a created container.

use crate::report::Remote;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest message; an error chain beyond it is cut.
const MESSAGE_BYTES: usize = 16 * 1024;

/// One end of a connection that keeps message boundaries.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message from either side.
#[derive(Debug)]
pub enum Message {
    /// Go on.
    Go,
    /// The process id of the process that counts, sent by the one before it.
    Pid(i32),
    /// Run the hooks of the runtime's namespace now.
    Hooks,
    /// The master side of the container's terminal.
    Console(OwnedFd),
    /// The descriptor on which seccomp notifications arrive.
    Notify(OwnedFd),
    /// All is done up to waiting for start, or up to the exec.
    Ready,
    /// It went wrong: the error's messages, outermost first.
    Error(Vec<String>),
    /// The other side is gone, or has become another program.
    Closed,
}

/// How the other side fared.
#[derive(Debug)]
pub enum Outcome {
    /// It is ready, or runs its program.
    Fine,
    /// It says what went wrong.
    Failed(Remote),
    /// It ended without a word.
    Died,
}

impl Channel {
    /// Two connected ends.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(a), Channel(b)))
    }

    /// Takes a connected socket of type SEQPACKET.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// The socket itself.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends [`Message::Go`].
    pub fn send_go(&self) -> io::Result<()> {
        self.send(b"G", None)
    }

    /// Another descriptor of the same end.
    pub fn duplicate(&self) -> io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Sends [`Message::Pid`].
    pub fn send_pid(&self, pid: i32) -> io::Result<()> {
        self.send(format!("P{pid}").as_bytes(), None)
    }

    /// Sends [`Message::Hooks`].
    pub fn send_hooks(&self) -> io::Result<()> {
        self.send(b"H", None)
    }

    /// Sends [`Message::Ready`].
    pub fn send_ready(&self) -> io::Result<()> {
        self.send(b"R", None)
    }

    /// Sends [`Message::Console`].
    pub fn send_console(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        self.send(b"C", Some(master))
    }

    /// Sends [`Message::Notify`].
    pub fn send_notify(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.send(b"N", Some(listener))
    }

    /// Sends [`Message::Error`].
    pub fn send_error(&self, chain: &[String]) -> io::Result<()> {
        let mut bytes = vec![b'E'];
        for message in chain {
            if bytes.len() + message.len() + 1 > MESSAGE_BYTES {
                break;
            }
            bytes.extend_from_slice(message.as_bytes());
            bytes.push(0);
        }
        self.send(&bytes, None)
    }

    /// Waits for the next message. A message that this protocol does not have is an error.
    pub fn receive(&self) -> io::Result<Message> {
        let (bytes, fd) = receive_with_descriptor(self.0.as_fd(), MESSAGE_BYTES)?;
        let message = match (bytes.split_first(), fd) {
            (None, _) => Message::Closed,
            (Some((b'G', [])), None) => Message::Go,
            (Some((b'H', [])), None) => Message::Hooks,
            (Some((b'R', [])), None) => Message::Ready,
            (Some((b'C', [])), Some(fd)) => Message::Console(fd),
            (Some((b'N', [])), Some(fd)) => Message::Notify(fd),
            (Some((b'P', digits)), None) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .map(Message::Pid)
                .ok_or(io::ErrorKind::InvalidData)?,
            (Some((b'E', rest)), None) => Message::Error(
                rest.split(|&b| b == 0)
                    .filter(|m| !m.is_empty())
                    .map(|m| String::from_utf8_lossy(m).into_owned())
                    .collect(),
            ),
            _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        Ok(message)
    }

    /// Follows the other side until it runs its program, or is ready to (`stop_at_ready`), or fails.
    ///
    /// Messages that ask for something are handed to `on`; `lost` makes an error of a connection that
    /// broke.
    pub fn follow<E>(
        &self,
        stop_at_ready: bool,
        lost: impl Fn(io::Error) -> E,
        mut on: impl FnMut(Message) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let mut ready = false;
        loop {
            match self.receive().map_err(&lost)? {
                Message::Ready if stop_at_ready => return Ok(Outcome::Fine),
                Message::Ready => ready = true,
                Message::Closed if ready => return Ok(Outcome::Fine),
                Message::Closed => return Ok(Outcome::Died),
                Message::Error(chain) => {
                    return Ok(Remote::from_chain(chain).map_or(Outcome::Died, Outcome::Failed));
                }
                message => on(message)?,
            }
        }
    }

    fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send_with_descriptor(self.0.as_fd(), bytes, fd)
    }
}

/// Sends bytes and, where given, a descriptor over a unix socket.
pub fn send_with_descriptor(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(source) => return Err(source.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives at most `limit` bytes and at most one descriptor from a unix socket.
fn receive_with_descriptor(socket: BorrowedFd<'_>, limit: usize) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            // The other side died with our message unread.
            Err(Errno::CONNRESET) => break 0,
            Err(source) => return Err(source.into()),
            Ok(message) => break message.bytes,
        }
    };
    bytes.truncate(count);
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    Ok((bytes, fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_kind_and_their_descriptor() {
        let (a, b) = Channel::pair().unwrap();
        a.send_go().unwrap();
        a.send_hooks().unwrap();
        a.send_ready().unwrap();
        a.send_console(a.socket()).unwrap();
        a.send_error(&["outer".into(), "inner".into()]).unwrap();
        assert!(matches!(b.receive().unwrap(), Message::Go));
        assert!(matches!(b.receive().unwrap(), Message::Hooks));
        assert!(matches!(b.receive().unwrap(), Message::Ready));
        assert!(matches!(b.receive().unwrap(), Message::Console(_)));
        assert!(matches!(b.receive().unwrap(), Message::Error(chain) if chain == ["outer", "inner"]));
        drop(a);
        assert!(matches!(b.receive().unwrap(), Message::Closed));
    }

    #[test]
    fn an_error_too_long_for_a_message_loses_its_tail_only() {
        let (a, b) = Channel::pair().unwrap();
        a.send_error(&["outer".into(), "x".repeat(MESSAGE_BYTES)]).unwrap();
        assert!(matches!(b.receive().unwrap(), Message::Error(chain) if chain == ["outer"]));
    }
}
