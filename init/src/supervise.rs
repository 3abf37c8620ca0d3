//! What is to be done next: the node's life as a pure state machine.
//!
//! ```text
//! onboot, one after the other ─▶ services, by `after` and `ready` ─▶ .. restarts, orders .. ─▶ services stop, those
//! that were started after others first ─▶ onshutdown, one after the other ─▶ Finish
//! ```
//!
//! [`Supervisor::step`] takes what happened and the time, and says what to do. It starts no process and reads no clock,
//! so a million schedules can be tried in a test. All meaning of a failure is decided here, in [`Supervisor::ended`] for
//! tasks and [`Supervisor::down`] for services.
//!
//! A required task that fails stops the boot: its services are not started, and the node stands there to be looked at,
//! or starts anew after the time that `kit.panic=SECONDS` gives. Nothing waits for what cannot be killed: after
//! [`KILL_LIMIT`] it counts as ended.

mod event;

pub use event::{Action, End, Event, Finish, Line, Order, Unit};

use kit_spec::node::{Kill, Policy, Signal, Stop, duration};
use kit_spec::plan::Plan;
use std::rc::Rc;
use std::time::Duration;

/// Since some beginning; only differences count.
pub type Time = Duration;

/// A service that ran for so long has recovered: its next wait is the first one again.
pub const RECOVERED: Duration = Duration::from_secs(60);
/// How long a container of `onshutdown` may run that has no timeout: a node that is told to stop, stops.
pub const ONSHUTDOWN_LIMIT: Duration = Duration::from_secs(60);
/// How long a container may take to end that was killed. One that the kernel holds may never.
pub const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for others.
    Waiting,
    /// It is being started.
    Starting,
    /// It runs; `ready` once its probe succeeded, or it has none.
    Running {
        /// Since when.
        since: Time,
        /// Whether it is ready.
        ready: bool,
    },
    /// It ended and starts again.
    Backoff {
        /// When.
        until: Time,
    },
    /// It was told to end.
    Stopping {
        /// When it is killed; once it was, when it is given up.
        until: Time,
        /// Whether it was killed.
        killed: bool,
        /// Whether it starts again.
        again: bool,
    },
    /// It ended, and that is right.
    Done,
    /// It failed for good.
    Failed(String),
}

#[derive(Clone, Debug)]
struct ServiceState {
    status: Status,
    /// The wait before the next restart.
    backoff: Duration,
    /// Restarts in a row.
    retries: u32,
    /// Whether it was ever ready, which those after it wait for.
    was_ready: bool,
    /// Why it is being stopped, where that counts as a failure.
    blame: Option<String>,
    /// Restarts altogether.
    restarts: u32,
}

/// A container that runs to its end, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    unit: Unit,
    stage: Stage,
    /// When the next stage begins.
    until: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Runs,
    /// Told to end.
    Asked,
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The machine is being made ready.
    Before,
    Onboot,
    /// A required task failed.
    Stopped {
        reboot_at: Option<Time>,
    },
    Services {
        said: bool,
    },
    /// Services stop, and the task that runs.
    Stopping(Finish),
    Onshutdown(Finish),
    Over,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Supervisor {
    plan: Rc<Plan>,
    /// After how long a node starts anew whose boot stopped.
    panic: Option<Duration>,
    /// For each service, the places of those that it starts after.
    after: Vec<Vec<usize>>,
    services: Vec<ServiceState>,
    phase: Phase,
    task: Option<Task>,
}

impl Supervisor {
    /// Over a checked plan; `panic` is `kit.panic=` of the kernel's command line.
    pub fn new(plan: Rc<Plan>, panic: Option<Duration>) -> Self {
        let place = |name: &String| plan.services.iter().position(|other| other.name == *name);
        let after = plan.services.iter().map(|s| s.after.iter().filter_map(place).collect()).collect();
        let services = plan.services.iter().map(|service| ServiceState {
            status: Status::Waiting,
            backoff: service.restart.backoff,
            retries: 0,
            was_ready: false,
            blame: None,
            restarts: 0,
        });
        let services = services.collect();
        Supervisor { panic, after, services, phase: Phase::Before, task: None, plan }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where a service is.
    pub fn status(&self, service: usize) -> &Status {
        &self.services[service].status
    }

    /// How often a service was restarted.
    pub fn restarts(&self, service: usize) -> u32 {
        self.services[service].restarts
    }

    /// True once the end has begun.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_) | Phase::Onshutdown(_) | Phase::Over)
    }

    /// What is to be done now that something happened.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Boot if self.phase == Phase::Before => self.boot(0, now, &mut actions),
            Event::Started(Unit::Service(at)) => self.started(at, now, &mut actions),
            Event::Started(unit) => self.task_started(unit, &mut actions),
            Event::Ended(Unit::Service(at), end) => self.down(at, &end, now, &mut actions),
            Event::Ended(unit, end) => self.ended(unit, &end, now, &mut actions),
            Event::Ready(at) => self.ready(at),
            Event::Order(order) => self.order(order, now, &mut actions),
            Event::Boot | Event::Tick => {}
        }
        self.time(now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    /// When [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let services = self.services.iter().enumerate().filter_map(|(at, state)| match &state.status {
            Status::Backoff { until } | Status::Stopping { until, .. } => Some(*until),
            Status::Running { since, ready: false } => {
                self.plan.services[at].ready.as_ref().map(|ready| *since + ready.deadline)
            }
            _ => None,
        });
        let phase = match self.phase {
            Phase::Stopped { reboot_at } => reboot_at,
            _ => None,
        };
        services.chain(self.task.and_then(|task| task.until)).chain(phase).min()
    }

    fn boot(&mut self, index: usize, now: Time, actions: &mut Vec<Action>) {
        match self.plan.onboot.get(index) {
            Some(task) => {
                self.phase = Phase::Onboot;
                let until = task.timeout.map(|timeout| now + timeout);
                self.begin(Unit::Onboot(index), until, actions);
            }
            None => self.phase = Phase::Services { said: false },
        }
    }

    fn begin(&mut self, unit: Unit, until: Option<Time>, actions: &mut Vec<Action>) {
        self.task = Some(Task { unit, stage: Stage::Runs, until });
        actions.push(Action::Start(unit));
    }

    fn started(&mut self, at: usize, now: Time, actions: &mut Vec<Action>) {
        let state = &mut self.services[at];
        match state.status {
            Status::Starting => {
                let ready = self.plan.services[at].ready.is_none();
                state.status = Status::Running { since: now, ready };
                state.was_ready |= ready;
                if !ready {
                    actions.push(Action::Probe(at));
                }
            }
            // It was told to end while it was being started.
            Status::Stopping { .. } => {
                actions.push(Action::Signal(Unit::Service(at), self.plan.services[at].stop.signal));
            }
            _ => {}
        }
    }

    fn task_started(&mut self, unit: Unit, actions: &mut Vec<Action>) {
        if self.task.is_some_and(|task| task.unit == unit && task.stage == Stage::Asked) {
            actions.push(Action::Signal(unit, Signal::TERM));
        }
    }

    fn ready(&mut self, at: usize) {
        let state = &mut self.services[at];
        if let Status::Running { ready, .. } = &mut state.status {
            *ready = true;
            state.was_ready = true;
        }
    }

    /// A task ended: what that means for the boot, or the end.
    fn ended(&mut self, unit: Unit, end: &End, now: Time, actions: &mut Vec<Action>) {
        let Some(task) = self.task.take_if(|task| task.unit == unit) else { return };
        // Why one was killed has been said.
        let failed = task.stage != Stage::Runs || *end != End::Code(0);
        let (index, list) = match unit {
            Unit::Onboot(at) => (at, &self.plan.onboot),
            Unit::Onshutdown(at) => (at, &self.plan.onshutdown),
            Unit::Service(_) => return,
        };
        let (name, required) = (&list[index].name, list[index].required);
        if failed && task.stage == Stage::Runs {
            actions.push(Action::Say(Line::Failed(name.clone(), end.to_string())));
        }
        match self.phase {
            Phase::Onboot if failed && required => {
                actions.push(Action::Say(Line::BootStopped(name.clone())));
                self.phase = Phase::Stopped { reboot_at: self.panic.map(|panic| now + panic) };
            }
            Phase::Onboot => self.boot(index + 1, now, actions),
            Phase::Onshutdown(finish) => self.onshutdown(index + 1, finish, now, actions),
            _ => {}
        }
    }

    /// A service's process ended: whether that is a failure, and whether it starts again.
    fn down(&mut self, at: usize, end: &End, now: Time, actions: &mut Vec<Action>) {
        let service = &self.plan.services[at];
        let state = &mut self.services[at];
        let blame = state.blame.take();
        let ran = match state.status {
            Status::Running { since, .. } => now.saturating_sub(since),
            Status::Starting => Duration::ZERO,
            Status::Stopping { again, .. } => {
                state.status = if again { Status::Waiting } else { Status::Done };
                if let Some(why) = blame {
                    self.again(at, true, why, now);
                }
                return;
            }
            // An end that is known already.
            _ => return,
        };
        let failed = *end != End::Code(0);
        if failed {
            actions.push(Action::Say(Line::Failed(service.name.clone(), end.to_string())));
        }
        if ran >= RECOVERED {
            state.backoff = service.restart.backoff;
            state.retries = 0;
        }
        self.again(at, failed, end.to_string(), now);
    }

    /// After an end that nobody ordered.
    fn again(&mut self, at: usize, failed: bool, why: String, now: Time) {
        let restart = &self.plan.services[at].restart;
        let state = &mut self.services[at];
        let wanted = match restart.policy {
            Policy::No => false,
            Policy::OnFailure => failed,
            Policy::Always => true,
        };
        let allowed = restart.max_retries.is_none_or(|most| state.retries < most);
        state.status = match (wanted && allowed, failed) {
            (true, _) => {
                let until = now + state.backoff;
                state.backoff = state.backoff.saturating_mul(2).min(restart.max_backoff.max(restart.backoff));
                state.retries = state.retries.saturating_add(1);
                Status::Backoff { until }
            }
            (false, true) => Status::Failed(why),
            // What was to run once and did, is as good as ready.
            (false, false) => {
                state.was_ready = true;
                Status::Done
            }
        };
    }

    fn order(&mut self, order: Order, now: Time, actions: &mut Vec<Action>) {
        match order {
            _ if self.is_ending() => {}
            Order::Finish(finish) => self.finish(finish, now, actions),
            Order::Stop(at) => self.stop(at, false, now, actions),
            Order::Restart(at) => self.stop(at, true, now, actions),
            Order::Start(at) => {
                self.forgive(at);
                let state = &mut self.services[at];
                match &mut state.status {
                    Status::Stopping { again, .. } => *again = true,
                    Status::Done | Status::Failed(_) | Status::Backoff { .. } => {
                        state.status = Status::Waiting
                    }
                    _ => {}
                }
            }
        }
    }

    fn finish(&mut self, finish: Finish, now: Time, actions: &mut Vec<Action>) {
        actions.push(Action::Say(Line::Shutdown));
        self.phase = Phase::Stopping(finish);
        for state in &mut self.services {
            state.blame = None;
            match &mut state.status {
                Status::Waiting | Status::Backoff { .. } => state.status = Status::Done,
                Status::Stopping { again, .. } => *again = false,
                _ => {}
            }
        }
        if let Some(task) = self.task.as_mut().filter(|task| task.stage == Stage::Runs) {
            (task.stage, task.until) = (Stage::Asked, Some(now + Stop::GRACE));
            actions.push(Action::Signal(task.unit, Signal::TERM));
        }
    }

    /// An order makes up for what a service did before.
    fn forgive(&mut self, at: usize) {
        let state = &mut self.services[at];
        state.blame = None;
        state.retries = 0;
        state.backoff = self.plan.services[at].restart.backoff;
    }

    fn stop(&mut self, at: usize, again: bool, now: Time, actions: &mut Vec<Action>) {
        self.forgive(at);
        let stop = &self.plan.services[at].stop;
        let state = &mut self.services[at];
        let stopping = Status::Stopping { until: now + stop.grace, killed: false, again };
        match &mut state.status {
            Status::Running { .. } => {
                actions.push(Action::Signal(Unit::Service(at), stop.signal));
                state.status = stopping;
            }
            Status::Starting => state.status = stopping,
            Status::Stopping { again: before, .. } => *before = again,
            _ => state.status = if again { Status::Waiting } else { Status::Done },
        }
    }

    /// What the time alone brings.
    fn time(&mut self, now: Time, actions: &mut Vec<Action>) {
        for at in 0..self.services.len() {
            match self.services[at].status {
                Status::Backoff { until } if until <= now => {
                    let state = &mut self.services[at];
                    state.status = Status::Waiting;
                    state.restarts = state.restarts.saturating_add(1);
                }
                Status::Stopping { until, killed, again } if until <= now => {
                    self.kill(at, killed, again, now, actions);
                }
                Status::Running { since, ready: false } => self.blame(at, since, now, actions),
                _ => {}
            }
        }
        if let Some(task) = self.task.filter(|task| task.until.is_some_and(|until| until <= now)) {
            self.task_time(task, now, actions);
        }
        if matches!(self.phase, Phase::Stopped { reboot_at: Some(at) } if at <= now) {
            self.finish(Finish::Reboot, now, actions);
        }
    }

    /// A service did not end in its grace, or not even when it was killed.
    fn kill(&mut self, at: usize, killed: bool, again: bool, now: Time, actions: &mut Vec<Action>) {
        let service = &self.plan.services[at];
        let state = &mut self.services[at];
        if !killed {
            actions.push(Action::Kill(Unit::Service(at), service.stop.kill));
            state.status = Status::Stopping { until: now + KILL_LIMIT, killed: true, again };
            return;
        }
        let why = "cannot be killed";
        actions.push(Action::Say(Line::Failed(service.name.clone(), why.into())));
        state.blame = None;
        state.status = Status::Failed(why.into());
    }

    /// A service that is not ready in time has failed.
    fn blame(&mut self, at: usize, since: Time, now: Time, actions: &mut Vec<Action>) {
        let service = &self.plan.services[at];
        let Some(ready) = service.ready.as_ref().filter(|ready| since + ready.deadline <= now) else {
            return;
        };
        let why = format!("not ready after {}", duration::format(ready.deadline));
        actions.push(Action::Say(Line::Failed(service.name.clone(), why.clone())));
        actions.push(Action::Signal(Unit::Service(at), service.stop.signal));
        let state = &mut self.services[at];
        state.blame = Some(why);
        state.status = Status::Stopping { until: now + service.stop.grace, killed: false, again: false };
    }

    /// A task's time is over.
    fn task_time(&mut self, task: Task, now: Time, actions: &mut Vec<Action>) {
        if task.stage == Stage::Killed {
            return self.ended(task.unit, &End::Signal(Signal::KILL.number()), now, actions);
        }
        if task.stage == Stage::Runs {
            let (task, limit) = match task.unit {
                Unit::Onboot(at) => (&self.plan.onboot[at], Duration::ZERO),
                Unit::Onshutdown(at) => (&self.plan.onshutdown[at], ONSHUTDOWN_LIMIT),
                Unit::Service(_) => return,
            };
            let why = format!("timed out after {}", duration::format(task.timeout.unwrap_or(limit)));
            actions.push(Action::Say(Line::Failed(task.name.clone(), why)));
        }
        actions.push(Action::Kill(task.unit, Kill::Cgroup));
        self.task = Some(Task { stage: Stage::Killed, until: Some(now + KILL_LIMIT), ..task });
    }

    /// What follows from where everything is.
    fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Services { said } => {
                self.start_waiting(actions);
                if !said && self.services.iter().all(|state| state.was_ready) {
                    self.phase = Phase::Services { said: true };
                    actions.push(Action::Say(Line::Ready));
                }
            }
            Phase::Stopping(finish) => {
                self.stop_in_order(now, actions);
                let all_down = (0..self.services.len()).all(|at| !self.is_up(at));
                if all_down && self.task.is_none() {
                    self.onshutdown(0, finish, now, actions);
                }
            }
            _ => {}
        }
    }

    fn start_waiting(&mut self, actions: &mut Vec<Action>) {
        // A service that waits for one that failed for good will never start; that may make further ones fail.
        loop {
            let mut changed = false;
            for at in 0..self.services.len() {
                if self.services[at].status != Status::Waiting {
                    continue;
                }
                let dead = self.after[at].iter().find(|before| {
                    matches!(self.services[**before].status, Status::Failed(_))
                        && !self.services[**before].was_ready
                });
                if let Some(before) = dead {
                    let why = format!("{}, which it starts after, failed", self.plan.services[*before].name);
                    actions.push(Action::Say(Line::Failed(self.plan.services[at].name.clone(), why.clone())));
                    self.services[at].status = Status::Failed(why);
                    changed = true;
                } else if self.after[at].iter().all(|before| self.services[*before].was_ready) {
                    self.services[at].status = Status::Starting;
                    actions.push(Action::Start(Unit::Service(at)));
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn is_up(&self, at: usize) -> bool {
        matches!(
            self.services[at].status,
            Status::Starting | Status::Running { .. } | Status::Stopping { .. }
        )
    }

    /// Stops every service that no running one was started after.
    fn stop_in_order(&mut self, now: Time, actions: &mut Vec<Action>) {
        for at in 0..self.services.len() {
            let needed =
                (0..self.services.len()).any(|other| self.after[other].contains(&at) && self.is_up(other));
            if !needed && matches!(self.services[at].status, Status::Starting | Status::Running { .. }) {
                self.stop(at, false, now, actions);
            } else if matches!(self.services[at].status, Status::Waiting | Status::Backoff { .. }) {
                self.services[at].status = Status::Done;
            }
        }
    }

    fn onshutdown(&mut self, index: usize, finish: Finish, now: Time, actions: &mut Vec<Action>) {
        match self.plan.onshutdown.get(index) {
            Some(task) => {
                self.phase = Phase::Onshutdown(finish);
                let until = now + task.timeout.unwrap_or(ONSHUTDOWN_LIMIT);
                self.begin(Unit::Onshutdown(index), Some(until), actions);
            }
            None => {
                self.phase = Phase::Over;
                actions.push(Action::Finish(finish));
            }
        }
    }
}

#[cfg(test)]
mod tests;
