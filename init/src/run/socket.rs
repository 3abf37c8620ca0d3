//! Answers to those who ask over the control socket.

use super::engine::{Engine, Printed};
use super::{Source, word};
use crate::control::{Answer, Client, MAX_CLIENTS, Request};
use crate::supervise::{Finish, Order, Status, Supervisor, Unit};
use rustix::event::epoll;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

const LOGS: &str = "/run/kit/log";

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
            self.last += 1;
            let _ = epoll::add(poll, client.stream(), word(Source::Client, self.last), epoll::EventFlags::IN);
            self.clients.insert(self.last, client);
        }
    }

    /// Passes on what a container printed to those who follow it.
    pub(super) fn follow(&mut self, printed: Printed, poll: &OwnedFd) {
        let Some((name, bytes)) = printed else { return };
        let answer = Answer::Log { text: String::from_utf8_lossy(&bytes).into_owned() };
        let mut gone = Vec::new();
        for (which, client) in &mut self.clients {
            if client.follows.as_ref() == Some(&name) && !client.answer(&answer) {
                gone.push(*which);
            }
        }
        gone.into_iter().for_each(|which| self.let_go(which, poll));
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
        let Some(client) = self.clients.get_mut(&which) else { return Vec::new() };
        let mut orders = Vec::new();
        let stays = match client.read() {
            None => false,
            Some(requests) => requests.into_iter().all(|request| match request {
                Ok(request) => answer(client, &request, node, engine, &mut orders),
                Err(why) => client.answer(&Answer::Error { why }),
            }),
        };
        if !stays {
            self.let_go(which, poll);
        }
        orders
    }
}

fn answer(
    client: &mut Client,
    request: &Request,
    node: &Supervisor,
    engine: &Engine,
    orders: &mut Vec<Order>,
) -> bool {
    let place = |name: &str| node.plan().services.iter().position(|service| service.name == name);
    let mut order = |client: &mut Client, name: &str, make: fn(usize) -> Order| match place(name) {
        Some(at) => {
            orders.push(make(at));
            client.answer(&Answer::Done)
        }
        None => client.answer(&unknown(name)),
    };
    match request {
        Request::List => {
            (0..node.plan().services.len()).all(|at| client.answer(&service(at, node, engine)))
                && client.answer(&Answer::Done)
        }
        Request::Status { name } => match place(name) {
            Some(at) => client.answer(&service(at, node, engine)),
            None => client.answer(&unknown(name)),
        },
        Request::Logs { name, follow } => logs(client, name, *follow, node),
        Request::Restart { name } => order(client, name, Order::Restart),
        Request::Stop { name } => order(client, name, Order::Stop),
        Request::Start { name } => order(client, name, Order::Start),
        Request::Poweroff => {
            orders.push(Order::Finish(Finish::PowerOff));
            client.answer(&Answer::Done)
        }
        Request::Reboot => {
            orders.push(Order::Finish(Finish::Reboot));
            client.answer(&Answer::Done)
        }
    }
}

fn unknown(name: &str) -> Answer {
    Answer::Error { why: format!("there is no service `{name}`") }
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

fn logs(client: &mut Client, name: &str, follow: bool, node: &Supervisor) -> bool {
    let plan = node.plan();
    let tasks = plan.onboot.iter().chain(&plan.onshutdown).map(|task| &task.name);
    if !tasks.chain(plan.services.iter().map(|service| &service.name)).any(|known| known == name) {
        return client.answer(&Answer::Error { why: format!("there is no container `{name}`") });
    }
    for end in ["log.1", "log"] {
        let Ok(mut file) = File::open(format!("{LOGS}/{name}.{end}")) else { continue };
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = file.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if !client.answer(&Answer::Log { text }) {
                return false;
            }
        }
    }
    if follow {
        client.follows = Some(name.to_owned());
        return true;
    }
    client.answer(&Answer::Done)
}
