//! Terminals: the container's side, the socket that a caller gets the master from, and the copying
//! that `kitc run` and `kitc exec` do in the foreground.

use crate::channel::send_with_descriptor;
use crate::mount;
use crate::sys;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What can go wrong with a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's socket cannot be reached.
    #[error("--console-socket: connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The master cannot be handed over.
    #[error("--console-socket: send the terminal")]
    Send {
        /// Why not.
        source: io::Error,
    },
    /// A terminal and the way it is asked for do not fit.
    #[error("{0}")]
    Mode(&'static str),
    /// A step of making the terminal failed.
    #[error("process.terminal: {doing}")]
    Make {
        /// The step.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Connects to the unix socket on which a caller waits for the terminal's master.
pub fn connect(path: &Path) -> Result<OwnedFd, Error> {
    let fail = |e: Errno| Error::Connect { path: path.to_owned(), source: e.into() };
    let address = SocketAddrUnix::new(path).map_err(fail)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(fail)?;
    rustix::net::connect(&socket, &address).map_err(fail)?;
    Ok(socket)
}

/// Hands the master to the caller, with the path of the slave as the message.
pub fn hand_over(socket: &OwnedFd, master: &OwnedFd) -> Result<(), Error> {
    send_with_descriptor(socket.as_fd(), b"/dev/ptmx", Some(master.as_fd()))
        .map_err(|source| Error::Send { source })
}

/// A terminal of the container: the master goes to the caller, the slave to the process.
#[derive(Debug)]
pub struct Terminal {
    /// For the one who looks on.
    pub master: OwnedFd,
    /// For the process.
    pub slave: OwnedFd,
}

/// Makes a terminal in the container's own `/dev/pts`, and lets `/dev/console` be it where `console`.
/// The root is entered already.
pub fn open_in_container(size: Option<(u16, u16)>, console: bool) -> Result<Terminal, Error> {
    let fail = |doing| move |e: Errno| Error::Make { doing, source: e.into() };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master =
        rustix::fs::open(c"/dev/pts/ptmx", flags, Mode::empty()).map_err(fail("open /dev/pts/ptmx"))?;
    rustix::pty::unlockpt(&master).map_err(fail("unlock the terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(fail("open the terminal"))?;
    if let Some((height, width)) = size {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).map_err(fail("set the terminal's size"))?;
    }
    if console {
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, c"/dev/console", create, Mode::from_raw_mode(0o620)) {
            Ok(_) | Err(Errno::EXIST | Errno::NXIO | Errno::IO) => {}
            Err(errno) => return Err(fail("make /dev/console")(errno)),
        }
        let clone =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&slave, c"", clone).map_err(fail("clone the terminal"))?;
        let target = rustix::fs::open(
            c"/dev/console",
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fail("open /dev/console"))?;
        mount::attach(tree.as_fd(), target.as_fd()).map_err(fail("mount /dev/console"))?;
    }
    Ok(Terminal { master, slave })
}

/// The caller's own terminal in raw mode, put back when dropped.
#[derive(Debug)]
pub struct Raw {
    saved: Option<Termios>,
}

impl Raw {
    /// Puts standard input into raw mode, if it is a terminal.
    pub fn enter() -> Raw {
        let stdin = rustix::stdio::stdin();
        let saved = rustix::termios::tcgetattr(stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        Raw { saved }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// The size of the caller's terminal (rows, columns), if standard input is one.
pub fn own_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Gives the container's terminal the size of the caller's.
pub fn copy_size(master: &OwnedFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// What there is to copy between the caller's standard streams and a terminal's master.
#[derive(Debug)]
pub struct Copier {
    master: OwnedFd,
    input: bool,
    buffer: Vec<u8>,
}

impl Copier {
    /// A copier for `master`.
    pub fn new(master: OwnedFd) -> Copier {
        Copier { master, input: true, buffer: vec![0; 16 * 1024] }
    }

    /// The terminal's master.
    pub fn master(&self) -> &OwnedFd {
        &self.master
    }

    /// Whether standard input is still to be waited for.
    pub fn wants_input(&self) -> bool {
        self.input
    }

    /// Copies what standard input has to the terminal.
    pub fn copy_input(&mut self) {
        match rustix::io::read(rustix::stdio::stdin(), &mut self.buffer) {
            Ok(0) | Err(_) => {
                self.input = false;
                // End of file on a terminal is a character.
                let _ = rustix::io::write(&self.master, &[4]);
            }
            Ok(count) => {
                let _ = write_all(&self.master, &self.buffer[..count]);
            }
        }
    }

    /// Copies what the terminal has to standard output. Returns `false` at its end.
    pub fn copy_output(&mut self) -> bool {
        match rustix::io::read(&self.master, &mut self.buffer) {
            Ok(0) => false,
            Ok(count) => write_all(rustix::stdio::stdout(), &self.buffer[..count]).is_ok(),
            Err(Errno::INTR | Errno::AGAIN) => true,
            // The kernel's way to say that nobody has the slave open any more.
            Err(_) => false,
        }
    }

    /// Copies what is left in the terminal after the process has ended.
    pub fn drain(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            match poll(&mut fds, Some(&now)) {
                Ok(n) if n > 0 && fds[0].revents().contains(PollFlags::IN) => {}
                _ => return,
            }
            if !self.copy_output() {
                return;
            }
        }
    }
}

fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Connects the process to its terminal.
pub fn adopt(terminal: &OwnedFd) -> Result<(), Error> {
    rustix::process::ioctl_tiocsctty(terminal)
        .map_err(|e| Error::Make { doing: "make the terminal the controlling one", source: e.into() })?;
    (0..3)
        .try_for_each(|number| sys::exec::duplicate_onto(terminal.as_fd(), number))
        .map_err(|source| Error::Make { doing: "connect the standard streams", source })
}
