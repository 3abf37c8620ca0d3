//! Containers as PID 1 holds them: who is which process, and what they print.
//!
//! ```text
//! Idle ─start▶ Starting (a child: kitc) ─its end▶ Running (the container) ─its end▶ Deleting (a child: kitc) ─▶ Idle
//!                  └──────────────── kitc failed ──────────────────────────────────────▲
//! ```
//!
//! Each container has one pipe for as long as it may start again: what lives on after an end prints into the same.

use super::probe::Probes;
use super::{Source, word};
use crate::container::{self, Container, cgroup};
use crate::log::{self, Console, Log};
use crate::supervise::{End, Event, Time, Unit};
use crate::sys;
use kit_spec::node::{Kill, Runtime, Signal};
use kit_spec::plan::{Plan, Task};
use rustix::event::epoll;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// Below it: what containers printed.
pub(super) const LOGS: &str = "/run/kit/log";
/// What is read at a time of what a container prints, in bytes.
const PIECE: usize = 8192;
/// Pieces that are read of it at its end: as much as the pipe holds, even if somebody goes on printing.
const LAST_PIECES: usize = 16;

/// A container of the plan.
struct Slot {
    unit: Unit,
    id: String,
    /// The place of its log.
    log: usize,
    /// What it prints comes out of the first and goes into the second.
    pipe: Option<(OwnedFd, OwnedFd)>,
    /// Whether its mounts were made.
    mounted: bool,
    state: State,
}

enum State {
    Idle,
    Starting {
        /// The child that becomes `kitc`.
        starter: i32,
        /// The container's first process, if this is the second step.
        created: Option<i32>,
    },
    Running {
        pid: i32,
        cgroup: Option<String>,
    },
    Deleting {
        child: i32,
        /// Whether it starts when that is done.
        again: bool,
    },
}

/// What the engine is lent to do its work.
pub(super) struct Io<'a> {
    pub(super) events: &'a mut VecDeque<Event>,
    pub(super) console: &'a mut Console,
    pub(super) poll: &'a OwnedFd,
}

/// See the module's text.
pub(super) struct Engine {
    plan: Rc<Plan>,
    slots: Vec<Slot>,
    logs: Vec<Log>,
    probes: Probes,
}

impl Engine {
    pub(super) fn new(plan: Rc<Plan>) -> Engine {
        let mut logs: Vec<Log> = Vec::new();
        let mut slot = |unit| {
            let (name, bundle, _) = parts(&plan, unit);
            let known = logs.iter().position(|log| log.name() == name);
            let log = known.unwrap_or_else(|| {
                logs.push(Log::new(Path::new(LOGS), name));
                logs.len() - 1
            });
            Slot { unit, id: id(bundle), log, pipe: None, mounted: false, state: State::Idle }
        };
        let slots = units(&plan).map(&mut slot).collect();
        Engine { plan, slots, logs, probes: Probes::default() }
    }

    /// Begins to start a container; the event comes when `kitc` has ended.
    pub(super) fn start(&mut self, unit: Unit, poll: &OwnedFd) -> Result<(), String> {
        let at = self.place(unit);
        match &mut self.slots[at].state {
            State::Idle => self.begin(at, poll),
            State::Deleting { again, .. } => {
                *again = true;
                Ok(())
            }
            State::Starting { .. } | State::Running { .. } => Err("its last run has not ended".into()),
        }
    }

    fn begin(&mut self, at: usize, poll: &OwnedFd) -> Result<(), String> {
        let slot = &mut self.slots[at];
        if slot.pipe.is_none() {
            let (output, input) = log::pipe().map_err(|error| format!("make a pipe: {error}"))?;
            let _ = epoll::add(poll, &output, word(Source::Output, at as u32), epoll::EventFlags::IN);
            slot.pipe = Some((output, input));
        }
        let started = slot.with_output(&self.plan, |container, input| container.start(slot.mounted, input));
        slot.state = State::Starting { starter: started?, created: None };
        Ok(())
    }

    /// Takes some of what a container printed; into the log of this name.
    pub(super) fn output(&mut self, which: u32, console: &mut Console, now: Time) -> Option<&str> {
        self.read(which as usize, console, now).then(|| self.logs[self.slots[which as usize].log].name())
    }

    fn read(&mut self, at: usize, console: &mut Console, now: Time) -> bool {
        let Some((output, _)) = self.slots.get(at).and_then(|slot| slot.pipe.as_ref()) else { return false };
        let mut buffer = [0; PIECE];
        match rustix::io::read(output, &mut buffer) {
            Ok(len @ 1..) => {
                self.logs[self.slots[at].log].take(&buffer[..len], console, now);
                true
            }
            _ => false,
        }
    }

    pub(super) fn signal(&self, unit: Unit, signal: Signal) {
        if let State::Running { pid, .. } = &self.slots[self.place(unit)].state {
            sys::kill(*pid, signal.number());
        }
    }

    pub(super) fn kill(&self, unit: Unit, how: Kill) {
        match &self.slots[self.place(unit)].state {
            State::Starting { starter, created } => {
                for pid in [Some(*starter), *created].into_iter().flatten() {
                    sys::kill(pid, libc::SIGKILL);
                }
            }
            State::Running { pid, cgroup } => {
                if let (Kill::Cgroup, Some(cgroup)) = (how, cgroup) {
                    let _ = cgroup::kill(cgroup);
                }
                sys::kill(*pid, libc::SIGKILL);
            }
            State::Idle | State::Deleting { .. } => {}
        }
    }

    /// A container's first process; 0 if there is none.
    pub(super) fn pid(&self, unit: Unit) -> i32 {
        match self.slots[self.place(unit)].state {
            State::Running { pid, .. } => pid,
            _ => 0,
        }
    }

    /// A child of PID 1 died; what that means. False if it was nobody's.
    pub(super) fn dead(&mut self, pid: i32, end: &End, now: Time, io: &mut Io<'_>) -> bool {
        if let Some(ready) = self.probes.dead(pid, end, now, &self.plan) {
            io.events.extend(ready.map(Event::Ready));
            return true;
        }
        if self.dead_of_a_container(pid, end, now, io) {
            return true;
        }
        // The first process of a container may be reaped before the kitc that started it: that one is dead, too, or the
        // process would not be PID 1's.
        let starters: Vec<i32> = self.slots.iter().filter_map(Slot::starter).collect();
        for starter in starters {
            if let Some((starter, status)) = sys::reap(Some(starter)) {
                self.dead_of_a_container(starter, &status.into(), now, io);
            }
        }
        self.dead_of_a_container(pid, end, now, io)
    }

    fn dead_of_a_container(&mut self, dead: i32, end: &End, now: Time, io: &mut Io<'_>) -> bool {
        let ours = |slot: &Slot| match slot.state {
            State::Idle => false,
            State::Starting { starter, .. } => starter == dead,
            State::Running { pid, .. } => pid == dead,
            State::Deleting { child, .. } => child == dead,
        };
        let Some(at) = self.slots.iter().position(ours) else { return false };
        match self.slots[at].state {
            State::Idle => {}
            State::Starting { created, .. } => self.started(at, created, end, now, io),
            State::Running { .. } => self.ended(at, end.clone(), now, io),
            State::Deleting { again, .. } => {
                self.slots[at].state = State::Idle;
                if again && let Err(why) = self.begin(at, io.poll) {
                    io.events.push_back(Event::Ended(self.slots[at].unit, End::NotStarted(why)));
                }
            }
        }
        true
    }

    /// `kitc` has ended: the container runs, or is ready for its second step, or never will be.
    fn started(&mut self, at: usize, created: Option<i32>, end: &End, now: Time, io: &mut Io<'_>) {
        let slot = &mut self.slots[at];
        let container = slot.container(&self.plan);
        if *end != End::Code(0) {
            let why = container.reason().unwrap_or_else(|| format!("kitc: {end}"));
            return self.ended(at, End::NotStarted(why), now, io);
        }
        let Some(pid) = created.or_else(|| container::read_pid(&slot.id)) else {
            return self.ended(at, End::NotStarted("kitc wrote no pid".into()), now, io);
        };
        let second = created.is_none() && container.needs_two_steps();
        slot.mounted = true;
        if !second {
            slot.state = State::Running { pid, cgroup: cgroup::of_process(pid) };
            return io.events.push_back(Event::Started(slot.unit));
        }
        match slot.with_output(&self.plan, |container, input| container.start_created(pid, input)) {
            Ok(starter) => slot.state = State::Starting { starter, created: Some(pid) },
            Err(why) => self.ended(at, End::NotStarted(why), now, io),
        }
    }

    /// A container has ended, or could not be started. What is left of it goes in the background.
    fn ended(&mut self, at: usize, end: End, now: Time, io: &mut Io<'_>) {
        // What it printed before comes before what is said of it.
        for _ in 0..LAST_PIECES {
            if !self.read(at, io.console, now) {
                break;
            }
        }
        let slot = &mut self.slots[at];
        let keep = match (&slot.state, slot.unit) {
            (State::Running { cgroup, .. }, Unit::Service(service)) => {
                cgroup.as_deref().filter(|_| self.plan.services[service].stop.kill == Kill::Process)
            }
            _ => None,
        };
        let for_good = !matches!(slot.unit, Unit::Service(_));
        slot.state = match slot.container(&self.plan).delete(keep, for_good) {
            Ok(child) => State::Deleting { child, again: false },
            Err(_) => State::Idle,
        };
        if let Some((output, _)) = slot.pipe.take_if(|_| for_good) {
            let _ = epoll::delete(io.poll, &output);
        }
        self.logs[slot.log].flush(io.console, now);
        if let Unit::Service(service) = slot.unit {
            self.probes.end(service);
        }
        io.events.push_back(Event::Ended(slot.unit, end));
    }

    /// Begins to ask whether a service is ready.
    pub(super) fn probe(&mut self, service: usize, now: Time) {
        self.probes.begin(service, now);
    }

    /// When [`Engine::tick`] is wanted.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.logs.iter().filter_map(Log::deadline).chain(self.probes.deadline()).min()
    }

    /// What the time alone brings.
    pub(super) fn tick(&mut self, console: &mut Console, now: Time) {
        self.logs.iter_mut().for_each(|log| log.tell(console, now));
        let first = self.plan.onboot.len();
        let slots = &self.slots;
        self.probes.ask(&self.plan, now, |service| {
            let slot = &slots[first + service];
            match slot.state {
                State::Running { pid, .. } => Some((slot.id.as_str(), pid)),
                _ => None,
            }
        });
    }

    /// True while something is being started or deleted.
    pub(super) fn is_busy(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Starting { .. } | State::Deleting { .. }))
    }

    /// Slots lie in the order of [`units`].
    fn place(&self, unit: Unit) -> usize {
        match unit {
            Unit::Onboot(at) => at,
            Unit::Service(at) => self.plan.onboot.len() + at,
            Unit::Onshutdown(at) => self.plan.onboot.len() + self.plan.services.len() + at,
        }
    }
}

impl Slot {
    fn starter(&self) -> Option<i32> {
        match self.state {
            State::Starting { starter, .. } => Some(starter),
            _ => None,
        }
    }

    fn container<'a>(&'a self, plan: &'a Plan) -> Container<'a> {
        let (_, bundle, runtime) = parts(plan, self.unit);
        Container { id: &self.id, bundle, runtime }
    }

    /// Makes a child that prints into the container's pipe.
    fn with_output(
        &self,
        plan: &Plan,
        make: impl FnOnce(Container<'_>, BorrowedFd<'_>) -> io::Result<i32>,
    ) -> Result<i32, String> {
        let (_, input) = self.pipe.as_ref().ok_or("it has no pipe")?;
        make(self.container(plan), input.as_fd()).map_err(|error| format!("make a process: {error}"))
    }
}

/// All containers of a plan.
fn units(plan: &Plan) -> impl Iterator<Item = Unit> {
    let boot = (0..plan.onboot.len()).map(Unit::Onboot);
    let services = (0..plan.services.len()).map(Unit::Service);
    boot.chain(services).chain((0..plan.onshutdown.len()).map(Unit::Onshutdown))
}

/// A container's name, bundle and what is made around its start.
fn parts(plan: &Plan, unit: Unit) -> (&str, &str, &Runtime) {
    match unit {
        Unit::Onboot(at) => of_task(&plan.onboot[at]),
        Unit::Onshutdown(at) => of_task(&plan.onshutdown[at]),
        Unit::Service(at) => {
            let service = &plan.services[at];
            (&service.name, &service.bundle, &service.runtime)
        }
    }
}

fn of_task(task: &Task) -> (&str, &str, &Runtime) {
    (&task.name, &task.bundle, &task.runtime)
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
