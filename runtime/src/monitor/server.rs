//! The loop: waits for clients, signals and streams, and does what is due.

use super::call::Program;
use super::children::Job;
use super::container::Life;
use super::note;
use super::packet;
use super::poller::{Poller, Source, Watched};
use super::protocol::{Event, Exit, Message, Numbered, Outcome, PACKET_BYTES, Reason};
use super::sandbox::{Named, Sandbox};
use super::stdio::Stdio;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The most clients at a time; one more is turned away.
const MOST_CLIENTS: usize = 64;

/// Everything that a monitor has.
#[derive(Debug)]
pub struct Monitor {
    pub(super) dir: PathBuf,
    pub(super) sandbox: Sandbox,
    pub(super) pause: Option<Named>,
    pub(super) program: Program,
    pub(super) stall: Duration,
    pub(super) poller: Poller,
    pub(super) listener: Watched,
    pub(super) signals: Watched,
    pub(super) null: OwnedFd,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) jobs: BTreeMap<i32, Job>,
    pub(super) stop: Stop,
    pub(super) buffer: Vec<u8>,
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Watched,
    pub(super) subscribed: bool,
}

/// A request to be answered later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: u64,
    pub(super) id: u64,
}

/// A container of the pod.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) life: Life,
    pub(super) stdio: Stdio,
    pub(super) stdin: bool,
    /// Processes that were made in it and live; 0 for one that is being made.
    pub(super) execs: BTreeMap<String, i32>,
    pub(super) ended_execs: VecDeque<(String, Exit)>,
}

/// Whether the pod is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// It goes on.
    No,
    /// Its containers are being deleted, because somebody asked for it.
    Asked(Asked),
    /// They are, because of a signal.
    Signalled,
    /// Nothing is left.
    Over,
}

impl Monitor {
    /// Serves until the pod is over.
    pub fn serve(&mut self) -> io::Result<()> {
        while !matches!(self.stop, Stop::Over) {
            let deadline = self.containers.values().filter_map(|c| c.stdio.deadline()).min();
            let limit = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            for (token, flags) in self.poller.wait(limit)? {
                if let Some(source) = self.poller.source(token) {
                    self.on_ready(token, source, flags);
                }
            }
            if deadline.is_some() {
                let now = Instant::now();
                for container in self.containers.values_mut() {
                    container.stdio.on_deadline(&mut self.poller, now);
                }
            }
            self.advance_stop();
        }
        Ok(())
    }

    fn on_ready(&mut self, token: u64, source: Source, flags: EventFlags) {
        let (poller, buffer) = (&mut self.poller, &mut self.buffer[..super::stdio::READ_BYTES]);
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.on_signals(),
            Source::Client => self.on_client(token),
            Source::Output(id, kind) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.stdio.copy_output(poller, kind, buffer);
                }
            }
            Source::Stdin(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.stdio.on_stdin(poller);
                }
            }
            Source::Attached(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.stdio.on_attached(poller, token, flags, buffer);
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => return note(format_args!("accept a client: {errno}")),
        };
        if self.clients.len() >= MOST_CLIENTS {
            return;
        }
        if let Ok(socket) = self.poller.watch(socket, Source::Client, Some(EventFlags::IN)) {
            self.clients.insert(socket.token(), Client { socket, subscribed: false });
        }
    }

    /// SIGTERM and SIGINT end a pod without living containers; nothing else does anything.
    fn on_signals(&mut self) {
        // struct signalfd_siginfo is 128 bytes and begins with the number.
        let mut bytes = [0_u8; 128 * 8];
        let count = rustix::io::read(&self.signals, &mut bytes).unwrap_or(0);
        for info in bytes[..count].chunks_exact(128) {
            let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            if matches!(number, libc::SIGTERM | libc::SIGINT) && matches!(self.stop, Stop::No) {
                match self.containers.iter().find(|(_, container)| container.life.lives()) {
                    Some((id, _)) => {
                        note(format_args!("signal {number} has no effect: container {id} lives"))
                    }
                    None => self.stop = Stop::Signalled,
                }
            }
        }
        self.reap();
    }

    fn on_client(&mut self, token: u64) {
        let Some(client) = self.clients.get(&token) else { return };
        let received = packet::receive(client.socket.as_fd(), &mut self.buffer);
        let received = match received {
            Err(Errno::AGAIN) => return,
            Ok(received) if received.length > 0 => received,
            _ => return self.drop_client(token),
        };
        if received.cut {
            let text = format!("a packet has at most {PACKET_BYTES} bytes and 3 descriptors");
            let asked = Asked { client: token, id: 0 };
            return self.answer(asked, Outcome::refused(Reason::BadRequest, text));
        }
        match Numbered::parse(&self.buffer[..received.length]) {
            Err(error) => {
                let asked = Asked { client: token, id: 0 };
                self.answer(asked, Outcome::refused(Reason::BadRequest, error.to_string()));
            }
            Ok(Numbered { id, request }) => {
                let asked = Asked { client: token, id };
                if let Some(outcome) = self.on_request(asked, request, received.fds) {
                    self.answer(asked, outcome);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, asked: Asked, outcome: Outcome) {
        self.answer_with(asked, outcome, &[]);
    }

    pub(super) fn answer_with(&mut self, asked: Asked, outcome: Outcome, fds: &[BorrowedFd<'_>]) {
        let packet = Message::Answer { id: asked.id, outcome }.packet();
        let Some(client) = self.clients.get(&asked.client) else { return };
        // One who does not take its answers could not use them either.
        if let Err(errno) = packet::send(client.socket.as_fd(), &[IoSlice::new(&packet)], fds) {
            note(format_args!("answer a client: {errno}: it is dropped"));
            self.drop_client(asked.client);
        }
    }

    /// Tells all subscribers. One who does not read is dropped: it will ask for the state when it is
    /// back.
    pub(super) fn tell(&mut self, event: Event) {
        let packet = Message::Event(event).packet();
        let subscribed = self.clients.iter().filter(|(_, client)| client.subscribed);
        let lost: Vec<u64> = subscribed
            .filter(|(_, client)| packet::send(client.socket.as_fd(), &[IoSlice::new(&packet)], &[]).is_err())
            .map(|(token, _)| *token)
            .collect();
        lost.into_iter().for_each(|token| self.drop_client(token));
    }

    fn drop_client(&mut self, token: u64) {
        if let Some(client) = self.clients.remove(&token) {
            self.poller.forget(client.socket);
        }
    }
}
