//! Containers as PID 1 holds them: who is which process, what they print, how they are asked whether they are ready.

use super::{Source, word};
use crate::container;
use crate::log::{self, Console, Log};
use crate::supervise::{End, Event, Time, Unit};
use crate::sys;
use kit_spec::node::{Kill, Probe, Signal};
use kit_spec::plan::Plan;
use rustix::event::epoll;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

const LOGS: &str = "/run/kit/log";
/// The first wait between two tries of a probe; doubled up to the probe's own interval.
const FIRST_TRY: Duration = Duration::from_millis(20);
/// Ends of children that nobody asked about are remembered while a container is being started: one may have been its.
const STRAYS: usize = 64;

/// A container that is being started, runs, or has left output behind.
struct Running {
    unit: Unit,
    id: String,
    /// `kitc`, while it starts the container.
    starter: Option<i32>,
    /// The container's first process.
    pid: Option<i32>,
    output: Option<OwnedFd>,
    log: Log,
}

struct Trial {
    service: usize,
    next: Time,
    wait: Duration,
    /// The child that tries.
    child: Option<i32>,
}

/// See the module's text.
pub(super) struct Engine {
    containers: BTreeMap<u32, Running>,
    last: u32,
    trials: Vec<Trial>,
    strays: VecDeque<(i32, End)>,
    plan: Plan,
}

/// Something that a follower of a log wants to see.
pub(super) type Printed = Option<(String, Vec<u8>)>;

impl Engine {
    pub(super) fn new(plan: &Plan) -> Engine {
        Engine {
            containers: BTreeMap::new(),
            last: 0,
            trials: vec![],
            strays: VecDeque::new(),
            plan: plan.clone(),
        }
    }

    /// Begins to start a container; the event comes when `kitc` has ended.
    pub(super) fn start(&mut self, unit: Unit, plan: &Plan, poll: &OwnedFd) -> Result<(), String> {
        let (name, bundle, runtime) = parts(plan, unit);
        let id = id(bundle);
        let chain = |error: &container::PrepareError| format!("{error}: {}", error.source);
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        container::prepare(runtime, &mounted).map_err(|error| chain(&error))?;
        let (output, input) = log::pipe().map_err(|error| format!("make a pipe: {error}"))?;
        let starter = container::spawn(&id, bundle, container::needs_two_steps(runtime), &input)
            .map_err(|error| format!("execute kitc: {error}"))?;
        self.last += 1;
        let _ = epoll::add(poll, &output, word(Source::Output, self.last), epoll::EventFlags::IN);
        let log = Log::new(Path::new(LOGS), name);
        let running = Running { unit, id, starter: Some(starter), pid: None, output: Some(output), log };
        self.containers.insert(self.last, running);
        Ok(())
    }

    /// Takes what a container printed.
    pub(super) fn output(&mut self, which: u32, console: &mut Console, now: Time, poll: &OwnedFd) -> Printed {
        let running = self.containers.get_mut(&which)?;
        let mut buffer = [0; 8192];
        match rustix::io::read(running.output.as_ref()?, &mut buffer) {
            Ok(0) => {
                running.log.flush(console, now);
                if let Some(output) = running.output.take() {
                    let _ = epoll::delete(poll, &output);
                }
                self.sweep(which);
                None
            }
            Ok(len) => {
                running.log.take(&buffer[..len], console, now);
                Some((name_of(&self.plan, running.unit).to_owned(), buffer[..len].to_vec()))
            }
            Err(_) => None,
        }
    }

    pub(super) fn signal(&self, unit: Unit, signal: Signal) {
        if let Some(pid) = self.find(unit).and_then(|running| running.pid) {
            sys::kill(pid, signal.number());
        }
    }

    pub(super) fn kill(&self, unit: Unit, how: Kill) {
        let Some(running) = self.find(unit) else { return };
        if let (Kill::Cgroup, Ok(_)) = (how, container::kill_all(&running.id)) {
            return;
        }
        if let Some(pid) = running.pid.or(running.starter) {
            sys::kill(pid, libc::SIGKILL);
        }
    }

    pub(super) fn pid(&self, unit: Unit) -> i32 {
        self.find(unit).and_then(|running| running.pid).unwrap_or(0)
    }

    fn find(&self, unit: Unit) -> Option<&Running> {
        self.containers
            .values()
            .find(|running| running.unit == unit && (running.pid.is_some() || running.starter.is_some()))
    }

    /// Reaps the dead and says whose they were.
    pub(super) fn reap(&mut self, plan: &Plan, events: &mut VecDeque<Event>) {
        while let Some((pid, status)) = sys::reap() {
            let end = match status {
                Ok(code) => End::Code(code),
                Err(signal) => End::Signal(signal),
            };
            self.dead(pid, end, plan, events);
        }
        if self.containers.values().all(|running| running.starter.is_none()) {
            self.strays.clear();
        }
    }

    fn dead(&mut self, pid: i32, end: End, plan: &Plan, events: &mut VecDeque<Event>) {
        if let Some(at) = self.trials.iter().position(|trial| trial.child == Some(pid)) {
            self.trials[at].child = None;
            if end == End::Code(0) {
                let trial = self.trials.swap_remove(at);
                events.push_back(Event::Ready(trial.service));
            }
        } else if let Some(which) = self.which(|running| running.starter == Some(pid)) {
            self.started(which, &end, plan, events);
        } else if let Some(which) = self.which(|running| running.pid == Some(pid)) {
            self.ended(which, end, events);
        } else {
            if self.strays.len() == STRAYS {
                self.strays.pop_front();
            }
            self.strays.push_back((pid, end));
        }
    }

    fn which(&self, wanted: impl Fn(&Running) -> bool) -> Option<u32> {
        self.containers.iter().find(|(_, running)| wanted(running)).map(|(which, _)| *which)
    }

    /// `kitc` has ended: the container runs, or never will.
    fn started(&mut self, which: u32, end: &End, plan: &Plan, events: &mut VecDeque<Event>) {
        let Some(running) = self.containers.get_mut(&which) else { return };
        running.starter = None;
        let (unit, id) = (running.unit, running.id.clone());
        let pid = match end {
            End::Code(0) => container::read_pid(&id),
            _ => None,
        };
        let Some(pid) = pid else {
            let why = format!("kitc: {end}; its log says why");
            events.push_back(Event::Ended(unit, End::NotStarted(why)));
            let _ = container::delete(&id);
            self.sweep(which);
            return;
        };
        running.pid = Some(pid);
        let runtime = parts(plan, unit).2;
        if container::needs_two_steps(runtime)
            && let Err(error) = container::second_step(&id, pid, runtime)
        {
            // Its end comes as an event of its own, after this one.
            let why = format!("{error}: {}", error.source);
            running.pid = None;
            events.push_back(Event::Ended(unit, End::NotStarted(why)));
            let _ = container::delete(&id);
            return;
        }
        events.push_back(Event::Started(unit));
        if let Some(at) = self.strays.iter().position(|(stray, _)| *stray == pid) {
            let (_, end) = self.strays.remove(at).unwrap_or((pid, End::Code(0)));
            self.ended(which, end, events);
        }
    }

    fn ended(&mut self, which: u32, end: End, events: &mut VecDeque<Event>) {
        let Some(running) = self.containers.get_mut(&which) else { return };
        running.pid = None;
        let _ = fs::remove_file(container::pid_file(&running.id));
        // Whoever of the container is left holds its cgroup; both go now, before it can start again.
        container::delete_now(&running.id);
        events.push_back(Event::Ended(running.unit, end));
        if let Unit::Service(service) = running.unit {
            self.trials.retain(|trial| trial.service != service);
        }
        self.sweep(which);
    }

    /// Forgets a container that has ended and whose output is read to the end.
    fn sweep(&mut self, which: u32) {
        let over = |running: &Running| {
            running.starter.is_none() && running.pid.is_none() && running.output.is_none()
        };
        if self.containers.get(&which).is_some_and(over) {
            self.containers.remove(&which);
        }
    }

    /// Begins to ask whether a service is ready.
    pub(super) fn probe(&mut self, service: usize, now: Time) {
        self.trials.retain(|trial| trial.service != service);
        self.trials.push(Trial { service, next: now, wait: FIRST_TRY, child: None });
    }

    /// When the next probe is to be tried.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.trials.iter().filter(|trial| trial.child.is_none()).map(|trial| trial.next).min()
    }

    /// Tries the probes whose time has come, each in a child that may block.
    pub(super) fn probes(&mut self, plan: &Plan, now: Time) {
        for at in 0..self.trials.len() {
            let trial = &self.trials[at];
            if trial.child.is_some() || trial.next > now {
                continue;
            }
            let service = &plan.services[trial.service];
            let (Some(ready), pid) = (&service.ready, self.pid(Unit::Service(trial.service))) else {
                continue;
            };
            let child = match pid {
                0 => None,
                pid => try_once(&ready.probe, pid, &id(&service.bundle)),
            };
            let trial = &mut self.trials[at];
            trial.child = child;
            trial.next = now + trial.wait;
            trial.wait = (trial.wait * 2).min(ready.interval);
        }
    }

    /// Shows what is left, and takes the bundles' mounts away.
    pub(super) fn close(&mut self, console: &mut Console, now: Time) {
        for running in self.containers.values_mut() {
            running.log.flush(console, now);
        }
        for unit in units(&self.plan) {
            container::unmount_all(parts(&self.plan, unit).2);
        }
    }
}

fn units(plan: &Plan) -> impl Iterator<Item = Unit> {
    let tasks =
        (0..plan.onboot.len()).map(Unit::Onboot).chain((0..plan.onshutdown.len()).map(Unit::Onshutdown));
    tasks.chain((0..plan.services.len()).map(Unit::Service))
}

/// A container's name, bundle and what is made around its start.
fn parts(plan: &Plan, unit: Unit) -> (&str, &str, &kit_spec::node::Runtime) {
    match unit {
        Unit::Onboot(at) => task(&plan.onboot[at]),
        Unit::Onshutdown(at) => task(&plan.onshutdown[at]),
        Unit::Service(at) => {
            let service = &plan.services[at];
            (&service.name, &service.bundle, &service.runtime)
        }
    }
}

fn task(task: &kit_spec::plan::Task) -> (&str, &str, &kit_spec::node::Runtime) {
    (&task.name, &task.bundle, &task.runtime)
}

fn name_of(plan: &Plan, unit: Unit) -> &str {
    parts(plan, unit).0
}

/// The last component of a bundle's path, and its list's name before it where that is no service.
fn id(bundle: &str) -> String {
    let mut words = bundle.rsplit('/');
    let last = words.next().unwrap_or(bundle);
    match words.next() {
        Some("services") | None => last.to_owned(),
        Some(section) => format!("{section}-{last}"),
    }
}

fn try_once(probe: &Probe, pid: i32, id: &str) -> Option<i32> {
    if let Probe::Command(args) = probe {
        return container::exec_command(id, args).spawn().ok().map(|child| child.id() as i32);
    }
    let found = || match probe {
        Probe::Tcp(address) => {
            sys::enter_net(pid).is_ok()
                && (address.host(), address.port()).to_socket_addrs().is_ok_and(|mut all| {
                    all.any(|one| TcpStream::connect_timeout(&one, Duration::from_secs(5)).is_ok())
                })
        }
        Probe::File(path) => {
            fs::symlink_metadata(format!("/proc/{pid}/root/{}", path.trim_start_matches('/'))).is_ok()
        }
        Probe::Command(_) => false,
    };
    sys::fork(|| {
        sys::end_after(10);
        i32::from(!found())
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_over_all_lists() {
        assert_eq!(id("/containers/services/web"), "web");
        assert_eq!(id("/containers/onboot/000-net"), "onboot-000-net");
        assert_eq!(id("/containers/onshutdown/000-net"), "onshutdown-000-net");
    }
}
