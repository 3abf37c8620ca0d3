//! The standard streams of a container: from it to its log and to attached clients, from them to it.
//!
//! Nothing here waits and nothing grows. What a client has not taken is at most one read's worth, and
//! as long as there is some the container's output is not read: its pipe fills up and it waits. A
//! client that takes nothing for [`Limits::stall`] is dropped. The standard input works the same way
//! in the other direction.

use super::log::Log;
use super::packet;
use super::poller::{Poller, Source, Watched};
use super::stream::{self, HEAD_BYTES, Kind, Part, Reader};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most bytes that are read at once.
pub const READ_BYTES: usize = 16 * 1024;
/// The most attached clients of a container.
pub const MOST_ATTACHED: usize = 16;
/// How many reads are done for a container that has ended, before others get their turn: more than a
/// pipe can hold.
const LAST_READS: u32 = 80;

/// What streams the container has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How long an attached client may take nothing.
    pub stall: Duration,
    /// The standard input is closed with that of the first attached client.
    pub stdin_once: bool,
}

/// The monitor's ends of a container's standard streams.
#[derive(Debug)]
pub struct Stdio {
    id: String,
    limits: Limits,
    log: Option<Log>,
    outputs: Vec<Output>,
    stdin: Option<Watched>,
    /// The terminal's master once more, to set its size.
    terminal: Option<OwnedFd>,
    /// What the container has not taken yet.
    pending: Vec<u8>,
    /// Close the standard input once that is empty.
    closing: bool,
    attached: Vec<Attached>,
}

#[derive(Debug)]
struct Output {
    kind: Kind,
    watched: Watched,
}

#[derive(Debug)]
struct Attached {
    socket: Watched,
    reader: Reader,
    /// What it has not taken yet.
    pending: Vec<u8>,
    /// Since when.
    stalled: Option<Instant>,
    /// It has sent all that it will.
    silent: bool,
    /// It is to be taken away.
    lost: bool,
}

/// The container's ends of its streams, to be given to `kitc`, and the monitor's.
#[derive(Debug)]
pub struct Pipes {
    /// For the container.
    pub theirs: [Option<OwnedFd>; 3],
    /// For the monitor.
    pub ours: [Option<OwnedFd>; 3],
}

impl Pipes {
    /// Pipes for the standard output and error, and for the input where there is one.
    pub fn new(stdin: bool) -> io::Result<Pipes> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let mut pipes = Pipes { theirs: [None, None, None], ours: [None, None, None] };
        for number in 0..3 {
            if number == 0 && !stdin {
                continue;
            }
            let (read, write) = pipe()?;
            let (ours, theirs) = if number == 0 { (write, read) } else { (read, write) };
            rustix::io::ioctl_fionbio(&ours, true)?;
            pipes.ours[number] = Some(ours);
            pipes.theirs[number] = Some(theirs);
        }
        Ok(pipes)
    }
}

impl Stdio {
    /// No streams yet.
    pub fn new(id: &str, limits: Limits, log: Option<Log>) -> Stdio {
        Stdio {
            id: id.to_owned(),
            limits,
            log,
            outputs: Vec::new(),
            stdin: None,
            terminal: None,
            pending: Vec::new(),
            closing: false,
            attached: Vec::new(),
        }
    }

    /// Begins to copy to and from pipes.
    pub fn connect_pipes(&mut self, poller: &mut Poller, ours: [Option<OwnedFd>; 3]) -> io::Result<()> {
        let [stdin, stdout, stderr] = ours;
        for (kind, fd) in [(Kind::Stdout, stdout), (Kind::Stderr, stderr)] {
            if let Some(fd) = fd {
                let source = Source::Output(self.id.clone(), kind);
                let watched = poller.watch(fd, source, Some(EventFlags::IN))?;
                self.outputs.push(Output { kind, watched });
            }
        }
        if let Some(fd) = stdin {
            self.stdin = Some(poller.watch(fd, Source::Stdin(self.id.clone()), None)?);
        }
        Ok(())
    }

    /// Begins to copy to and from a terminal.
    pub fn connect_terminal(&mut self, poller: &mut Poller, master: OwnedFd, stdin: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let second = stdin.then(|| master.try_clone()).transpose()?;
        self.terminal = Some(master.try_clone()?);
        self.connect_pipes(poller, [second, Some(master), None])
    }

    /// Sets the size of the terminal. Returns whether there is one.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<bool> {
        let Some(terminal) = &self.terminal else { return Ok(false) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size)?;
        Ok(true)
    }

    /// Goes on with the log under its path. Returns whether there is one.
    pub fn reopen_log(&mut self) -> io::Result<bool> {
        let Some(log) = &mut self.log else { return Ok(false) };
        log.reopen().map(|()| true)
    }

    /// Takes on a client. `None` for one too many.
    pub fn attach(&mut self, poller: &mut Poller, socket: OwnedFd) -> io::Result<Option<()>> {
        if self.attached.len() >= MOST_ATTACHED {
            return Ok(None);
        }
        let socket = poller.watch(socket, Source::Attached(self.id.clone()), None)?;
        let reader = Reader::default();
        self.attached.push(Attached {
            socket,
            reader,
            pending: Vec::new(),
            stalled: None,
            silent: false,
            lost: false,
        });
        self.update(poller);
        Ok(Some(()))
    }

    /// Copies output that is there. Returns whether there was any.
    pub fn copy_output(&mut self, poller: &mut Poller, kind: Kind, buffer: &mut [u8]) -> bool {
        let Some(place) = self.outputs.iter().position(|output| output.kind == kind) else { return false };
        let copied = match rustix::io::read(&self.outputs[place].watched, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // An error is a terminal's way to say that nobody has it open any more.
            Ok(0) | Err(_) => {
                if let Some(log) = &mut self.log {
                    log.finish(kind);
                }
                let output = self.outputs.remove(place);
                poller.forget(output.watched);
                false
            }
            Ok(count) => {
                self.hand_out(kind, &buffer[..count]);
                true
            }
        };
        self.update(poller);
        copied
    }

    /// The container has ended: copies what it has left, as far as clients take it.
    pub fn copy_rest(&mut self, poller: &mut Poller, buffer: &mut [u8]) {
        for _ in 0..LAST_READS {
            let mut copied = false;
            for kind in [Kind::Stdout, Kind::Stderr] {
                copied |= !self.is_paused() && self.copy_output(poller, kind, buffer);
            }
            if !copied {
                return;
            }
        }
    }

    fn hand_out(&mut self, kind: Kind, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.push(kind, bytes);
        }
        for attached in &mut self.attached {
            attached.send(kind, bytes);
        }
    }

    /// A client's socket is ready.
    pub fn on_attached(&mut self, poller: &mut Poller, token: u64, flags: EventFlags, buffer: &mut [u8]) {
        let Some(place) = self.attached.iter().position(|a| a.socket.token() == token) else { return };
        if flags.contains(EventFlags::OUT) {
            self.attached[place].flush();
        }
        if flags.contains(EventFlags::IN) && self.pending.is_empty() && !self.attached[place].silent {
            self.read_attached(place, buffer);
        } else if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.attached[place].drop_soon();
        }
        self.update(poller);
    }

    fn read_attached(&mut self, place: usize, buffer: &mut [u8]) {
        let attached = &mut self.attached[place];
        let received = packet::receive(attached.socket.as_fd(), buffer);
        let count = match received {
            Err(Errno::AGAIN) => return,
            Ok(received) => received.length,
            Err(_) => 0,
        };
        let mut closed = count == 0;
        let pending = &mut self.pending;
        let takes = self.stdin.is_some() && !self.closing;
        let result = attached.reader.push(&buffer[..count], |part| match part {
            Part::Bytes(Kind::Stdin, bytes) if takes && !closed => pending.extend_from_slice(bytes),
            Part::Close(Kind::Stdin) => closed = true,
            _ => {}
        });
        attached.silent |= count == 0;
        if result.is_err() {
            attached.drop_soon();
            closed = true;
        }
        self.closing |= closed && self.limits.stdin_once;
        self.write_stdin();
    }

    /// The standard input can take more.
    pub fn on_stdin(&mut self, poller: &mut Poller) {
        self.write_stdin();
        self.update(poller);
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &self.stdin else { return self.pending.clear() };
        while !self.pending.is_empty() {
            match rustix::io::write(stdin, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.pending.clear();
                    self.closing = true;
                }
            }
        }
        // Most inputs are short: an empty buffer is not worth keeping.
        self.pending = Vec::new();
    }

    /// When the first of the clients that take nothing is to be dropped.
    pub fn deadline(&self) -> Option<Instant> {
        self.attached.iter().filter_map(|a| a.stalled).min().map(|since| since + self.limits.stall)
    }

    /// Drops the clients whose time is over.
    pub fn on_deadline(&mut self, poller: &mut Poller, now: Instant) {
        for attached in &mut self.attached {
            if attached.stalled.is_some_and(|since| since + self.limits.stall <= now) {
                // The kernel says that a socket can take more only when it is nearly empty: a slow
                // reader has made room before that.
                let before = attached.pending.len();
                attached.flush();
                if attached.pending.len() == before {
                    attached.drop_soon();
                }
            }
        }
        self.update(poller);
    }

    fn is_paused(&self) -> bool {
        self.attached.iter().any(|a| !a.pending.is_empty())
    }

    /// Drops who is to be dropped, and waits for what is of use now.
    fn update(&mut self, poller: &mut Poller) {
        let over = self.outputs.is_empty();
        let mut place = 0;
        while let Some(attached) = self.attached.get(place) {
            if attached.lost || over && attached.pending.is_empty() {
                poller.forget(self.attached.remove(place).socket);
                self.closing |= self.limits.stdin_once;
            } else {
                place += 1;
            }
        }
        if self.closing && self.pending.is_empty() && self.terminal.is_none() {
            self.stdin.take().into_iter().for_each(|stdin| poller.forget(stdin));
        }
        let output = (!self.is_paused()).then_some(EventFlags::IN);
        let (full, stdin) = (!self.pending.is_empty(), self.pending.is_empty());
        // Registering what is open can fail for want of memory only; then it is as if nobody sent.
        for watched in self.outputs.iter_mut().map(|output| &mut output.watched) {
            let _ = poller.set(watched, output);
        }
        if let Some(watched) = &mut self.stdin {
            let _ = poller.set(watched, full.then_some(EventFlags::OUT));
        }
        for attached in &mut self.attached {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, stdin && !attached.silent);
            flags.set(EventFlags::OUT, !attached.pending.is_empty());
            let nothing = flags.is_empty() && !attached.silent;
            let _ = poller.set(&mut attached.socket, (!nothing).then_some(flags));
        }
    }

    /// Closes everything.
    pub fn close(&mut self, poller: &mut Poller) {
        let outputs = self.outputs.drain(..).map(|output| output.watched);
        let attached = self.attached.drain(..).map(|attached| attached.socket);
        outputs.chain(attached).chain(self.stdin.take()).for_each(|watched| poller.forget(watched));
        if let Some(log) = &mut self.log {
            log.finish(Kind::Stdout);
            log.finish(Kind::Stderr);
        }
    }
}

impl Attached {
    /// Sends a frame; what the socket does not take is kept: at most a read of each output.
    fn send(&mut self, kind: Kind, bytes: &[u8]) {
        if self.lost {
            return;
        }
        let head = stream::head(kind, bytes.len() as u32);
        let parts = [IoSlice::new(&head), IoSlice::new(bytes)];
        let sent =
            if self.pending.is_empty() { packet::send(self.socket.as_fd(), &parts, &[]) } else { Ok(0) };
        match sent {
            Ok(count) if count == HEAD_BYTES + bytes.len() => {}
            Ok(count) => self.keep(&head, bytes, count),
            Err(Errno::AGAIN) => self.keep(&head, bytes, 0),
            Err(_) => self.drop_soon(),
        }
    }

    fn keep(&mut self, head: &[u8], bytes: &[u8], sent: usize) {
        self.pending.extend(head.iter().chain(bytes).skip(sent));
        self.stalled.get_or_insert_with(Instant::now);
    }

    /// Sends what was kept.
    fn flush(&mut self) {
        match packet::send(self.socket.as_fd(), &[IoSlice::new(&self.pending)], &[]) {
            Ok(count) if count == self.pending.len() => {
                self.pending = Vec::new();
                self.stalled = None;
            }
            Ok(count) => {
                self.pending.drain(..count);
                self.stalled = Some(Instant::now());
            }
            Err(Errno::AGAIN) => {}
            Err(_) => self.drop_soon(),
        }
    }

    /// Gives it up: [`Stdio::update`] takes it away.
    fn drop_soon(&mut self) {
        self.pending = Vec::new();
        self.stalled = None;
        self.silent = true;
        self.lost = true;
    }
}

/// Whether a descriptor is a stream socket of the unix family.
pub fn is_stream(fd: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_type(fd).is_ok_and(|kind| kind == rustix::net::SocketType::STREAM)
        && rustix::net::sockopt::socket_domain(fd).is_ok_and(|kind| kind == rustix::net::AddressFamily::UNIX)
}
