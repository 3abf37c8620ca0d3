//! Answers to those who ask over the control socket.

use super::engine::{Engine, LOGS};
use super::{Source, word};
use crate::control::{Answer, Client, MAX_CLIENTS, Request};
use crate::log::Reader;
use crate::supervise::{Finish, Order, Status, Supervisor, Unit};
use rustix::event::epoll::{self, EventFlags};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Everybody who is connected.
pub(super) struct Clients {
    door: UnixListener,
    clients: BTreeMap<u32, Client>,
    last: u32,
}

impl Clients {
    pub(super) fn new(door: UnixListener) -> Clients {
        Clients { door, clients: BTreeMap::new(), last: 0 }
    }

    pub(super) fn accept(&mut self, poll: &OwnedFd) {
        let Some(client) = Client::accept(&self.door) else { return };
        if self.clients.len() < MAX_CLIENTS {
            self.last = self.last.wrapping_add(1);
            let _ = epoll::add(poll, client.stream(), word(Source::Client, self.last), EventFlags::IN);
            self.clients.insert(self.last, client);
        }
    }

    /// Passes on what a container printed to those who follow it.
    pub(super) fn printed(&mut self, name: &str, poll: &OwnedFd) {
        let following = |(which, client): (&u32, &Client)| client.follows(name).then_some(*which);
        let all: Vec<u32> = self.clients.iter().filter_map(following).collect();
        all.into_iter().for_each(|which| self.send(which, poll));
    }

    /// Sends what a client takes; then it is waited for until it takes more, or asks for more.
    fn send(&mut self, which: u32, poll: &OwnedFd) {
        let Some(client) = self.clients.get_mut(&which) else { return };
        if !client.send() {
            return self.let_go(which, poll);
        }
        let wanted = if client.is_behind() { EventFlags::OUT } else { EventFlags::IN };
        let _ = epoll::modify(poll, client.stream(), word(Source::Client, which), wanted);
    }

    fn let_go(&mut self, which: u32, poll: &OwnedFd) {
        if let Some(client) = self.clients.remove(&which) {
            let _ = epoll::delete(poll, client.stream());
        }
    }

    /// Reads a client's requests and answers them; what they order.
    pub(super) fn serve(
        &mut self,
        which: u32,
        node: &Supervisor,
        engine: &Engine,
        poll: &OwnedFd,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        self.send(which, poll);
        while let Some(client) = self.clients.get_mut(&which) {
            match client.read() {
                None => self.let_go(which, poll),
                Some(None) => break,
                Some(Some(Ok(request))) => orders.extend(answer(client, &request, node, engine)),
                Some(Some(Err(why))) => client.answer(&Answer::Error { why }),
            }
            self.send(which, poll);
        }
        orders
    }
}

fn answer(client: &mut Client, request: &Request, node: &Supervisor, engine: &Engine) -> Option<Order> {
    let place = |name: &str| node.plan().services.iter().position(|service| service.name == name);
    let order = match request {
        Request::List => {
            (0..node.plan().services.len()).for_each(|at| client.answer(&service(at, node, engine)));
            None
        }
        Request::Status { name } => {
            let answer = place(name).map_or_else(|| unknown(name), |at| service(at, node, engine));
            client.answer(&answer);
            return None;
        }
        Request::Logs { name, follow } => {
            if is_container(name, node) {
                client.answer_log(name, Reader::new(Path::new(LOGS), name), *follow);
            } else {
                client.answer(&Answer::Error { why: format!("there is no container `{name}`") });
            }
            return None;
        }
        Request::Restart { name } => Some((name, Order::Restart as fn(usize) -> Order)),
        Request::Stop { name } => Some((name, Order::Stop as fn(usize) -> Order)),
        Request::Start { name } => Some((name, Order::Start as fn(usize) -> Order)),
        Request::Poweroff | Request::Reboot => {
            client.answer(&Answer::Done);
            let off = *request == Request::Poweroff;
            return Some(Order::Finish(if off { Finish::PowerOff } else { Finish::Reboot }));
        }
    };
    match order.map(|(name, make)| place(name).map(make).ok_or(name)) {
        Some(Err(name)) => {
            client.answer(&unknown(name));
            None
        }
        order => {
            client.answer(&Answer::Done);
            order.and_then(Result::ok)
        }
    }
}

fn unknown(name: &str) -> Answer {
    Answer::Error { why: format!("there is no service `{name}`") }
}

fn is_container(name: &str, node: &Supervisor) -> bool {
    let plan = node.plan();
    let tasks = plan.onboot.iter().chain(&plan.onshutdown).map(|task| &task.name);
    tasks.chain(plan.services.iter().map(|service| &service.name)).any(|known| known == name)
}

fn service(at: usize, node: &Supervisor, engine: &Engine) -> Answer {
    let (status, why) = match node.status(at) {
        Status::Waiting => ("waiting", String::new()),
        Status::Starting => ("starting", String::new()),
        Status::Running { ready: false, .. } => ("running", String::new()),
        Status::Running { ready: true, .. } => ("ready", String::new()),
        Status::Backoff { .. } => ("backoff", String::new()),
        Status::Stopping { .. } => ("stopping", String::new()),
        Status::Done => ("done", String::new()),
        Status::Failed(why) => ("failed", why.clone()),
    };
    Answer::Service {
        name: node.plan().services[at].name.clone(),
        status: status.into(),
        pid: engine.pid(Unit::Service(at)),
        restarts: node.restarts(at),
        why,
    }
}
