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

use kit_spec::node::{Kill, Policy, Signal};
use kit_spec::plan::Plan;
use std::fmt;
use std::time::Duration;

/// Since some beginning; only differences count.
pub type Time = Duration;

/// A service that ran for so long has recovered: its next wait is the first one again.
pub const RECOVERED: Duration = Duration::from_secs(60);
/// How long a container of `onshutdown` may run that has no timeout: a node that is told to stop, stops.
pub const ONSHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// A container of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// By its place in `onboot`.
    Onboot(usize),
    /// By its place in `services`.
    Service(usize),
    /// By its place in `onshutdown`.
    Onshutdown(usize),
}

/// How a container's first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was never there: why.
    NotStarted(String),
}

/// What the machine is to do at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Turn itself off.
    PowerOff,
    /// Start anew.
    Reboot,
    /// Stand still.
    Halt,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The whole node to end.
    Finish(Finish),
    /// A service to end and stay so.
    Stop(usize),
    /// A service to start, if it does not run.
    Start(usize),
    /// A service to end and start.
    Restart(usize),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The plan begins.
    Boot,
    /// A container's process runs.
    Started(Unit),
    /// A container's process ended, or never began.
    Ended(Unit, End),
    /// A service's probe succeeded.
    Ready(usize),
    /// Somebody wants something.
    Order(Order),
    /// The time of [`Supervisor::deadline`] came.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a container.
    Start(Unit),
    /// Send a signal to a container's first process.
    Signal(Unit, Signal),
    /// End a container for good.
    Kill(Unit, Kill),
    /// Try a service's probe until it succeeds.
    Probe(usize),
    /// Say a line on the console.
    Say(Line),
    /// All is over: end the machine.
    Finish(Finish),
}

/// A line for the console; tests and people wait for these words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Every service is ready.
    Ready,
    /// Something failed.
    Failed(String, String),
    /// Services will not be started.
    BootStopped(String),
    /// The end begins.
    Shutdown,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Ready => f.write_str("kit: ready"),
            Line::Failed(name, why) => write!(f, "kit: {name} failed: {why}"),
            Line::BootStopped(name) => write!(f, "kit: boot stopped: {name} is required"),
            Line::Shutdown => f.write_str("kit: shutdown"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "exit code {code}"),
            End::Signal(signal) => write!(f, "killed by signal {signal}"),
            End::NotStarted(why) => f.write_str(why),
        }
    }
}

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
        /// When it is killed; none once it was.
        kill_at: Option<Time>,
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
    /// Why it is being killed, where that counts as a failure.
    blame: Option<String>,
    /// Restarts altogether.
    restarts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Onboot { index: usize, since: Time, killed: bool },
    Stopped,
    Services { said: bool },
    Stopping { finish: Finish, boot_killed: bool },
    Onshutdown { finish: Finish, index: usize, since: Time, killed: bool },
    Over,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Supervisor {
    plan: Plan,
    /// For each service, the places of those that it starts after.
    after: Vec<Vec<usize>>,
    services: Vec<ServiceState>,
    phase: Phase,
    /// The onboot container that runs.
    boot_runs: bool,
}

impl Supervisor {
    /// Over a checked plan.
    pub fn new(plan: Plan) -> Self {
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
        Supervisor { after, services, phase: Phase::Stopped, boot_runs: false, plan }
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
        matches!(self.phase, Phase::Stopping { .. } | Phase::Onshutdown { .. } | Phase::Over)
    }

    /// What is to be done now that something happened.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Boot => self.boot(0, now, &mut actions),
            Event::Started(Unit::Service(at)) => self.started(at, now, &mut actions),
            Event::Started(_) => {}
            Event::Ended(Unit::Service(at), end) => self.down(at, &end, now, &mut actions),
            Event::Ended(unit, end) => self.ended(unit, &end, now, &mut actions),
            Event::Ready(at) => self.ready(at),
            Event::Order(order) => self.order(order, now, &mut actions),
            Event::Tick => {}
        }
        self.time(now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    /// When [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Time> {
        let services = self.services.iter().enumerate().filter_map(|(at, state)| match &state.status {
            Status::Backoff { until } => Some(*until),
            Status::Stopping { kill_at, .. } => *kill_at,
            Status::Running { since, ready: false } => {
                self.plan.services[at].ready.as_ref().map(|ready| *since + ready.deadline)
            }
            _ => None,
        });
        services.chain(self.task_deadline()).min()
    }

    fn task_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Onboot { index, since, killed: false } => {
                self.plan.onboot.get(*index)?.timeout.map(|timeout| *since + timeout)
            }
            Phase::Onshutdown { index, since, killed: false, .. } => {
                Some(*since + self.plan.onshutdown.get(*index)?.timeout.unwrap_or(ONSHUTDOWN_LIMIT))
            }
            _ => None,
        }
    }

    fn boot(&mut self, index: usize, now: Time, actions: &mut Vec<Action>) {
        if index < self.plan.onboot.len() {
            self.phase = Phase::Onboot { index, since: now, killed: false };
            self.boot_runs = true;
            actions.push(Action::Start(Unit::Onboot(index)));
        } else {
            self.phase = Phase::Services { said: false };
        }
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

    fn ready(&mut self, at: usize) {
        let state = &mut self.services[at];
        if let Status::Running { ready, .. } = &mut state.status {
            *ready = true;
            state.was_ready = true;
        }
    }

    /// A task ended: what that means for the boot, or the end.
    fn ended(&mut self, unit: Unit, end: &End, now: Time, actions: &mut Vec<Action>) {
        if matches!(unit, Unit::Onboot(_)) {
            self.boot_runs = false;
        }
        match (&self.phase, unit) {
            (Phase::Onboot { index, killed, .. }, Unit::Onboot(at)) if *index == at => {
                let task = &self.plan.onboot[at];
                let failed = *killed || *end != End::Code(0);
                if failed && !killed {
                    actions.push(Action::Say(Line::Failed(task.name.clone(), end.to_string())));
                }
                if failed && task.required {
                    actions.push(Action::Say(Line::BootStopped(task.name.clone())));
                    self.phase = Phase::Stopped;
                } else {
                    self.boot(at + 1, now, actions);
                }
            }
            (Phase::Onshutdown { finish, index, killed, .. }, Unit::Onshutdown(at)) if *index == at => {
                let finish = *finish;
                if !killed && *end != End::Code(0) {
                    let name = self.plan.onshutdown[at].name.clone();
                    actions.push(Action::Say(Line::Failed(name, end.to_string())));
                }
                self.onshutdown(at + 1, finish, now, actions);
            }
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
                return self.finish_blame(at, blame, now, actions);
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

    /// A service that was killed for a reason, such as never being ready, has failed.
    fn finish_blame(&mut self, at: usize, blame: Option<String>, now: Time, _actions: &mut Vec<Action>) {
        if let Some(why) = blame {
            self.again(at, true, why, now);
        }
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
                state.backoff = (state.backoff * 2).min(restart.max_backoff.max(restart.backoff));
                state.retries += 1;
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
            Order::Finish(finish) => {
                if self.is_ending() {
                    return;
                }
                actions.push(Action::Say(Line::Shutdown));
                self.phase = Phase::Stopping { finish, boot_killed: false };
                for state in &mut self.services {
                    if matches!(state.status, Status::Waiting | Status::Backoff { .. }) {
                        state.status = Status::Done;
                    }
                }
            }
            _ if self.is_ending() => {}
            Order::Stop(at) => self.stop(at, false, now, actions),
            Order::Restart(at) => self.stop(at, true, now, actions),
            Order::Start(at) => {
                let state = &mut self.services[at];
                match &mut state.status {
                    Status::Stopping { again, .. } => *again = true,
                    Status::Done | Status::Failed(_) | Status::Backoff { .. } => {
                        state.status = Status::Waiting;
                        state.backoff = self.plan.services[at].restart.backoff;
                        state.retries = 0;
                    }
                    _ => {}
                }
            }
        }
    }

    fn stop(&mut self, at: usize, again: bool, now: Time, actions: &mut Vec<Action>) {
        let stop = &self.plan.services[at].stop;
        let state = &mut self.services[at];
        match &mut state.status {
            Status::Running { .. } => {
                actions.push(Action::Signal(Unit::Service(at), stop.signal));
                state.status = Status::Stopping { kill_at: Some(now + stop.grace), again };
            }
            Status::Starting => state.status = Status::Stopping { kill_at: Some(now + stop.grace), again },
            Status::Stopping { again: before, .. } => *before = again,
            _ => state.status = if again { Status::Waiting } else { Status::Done },
        }
        state.retries = 0;
        state.backoff = self.plan.services[at].restart.backoff;
    }

    /// What the time alone brings.
    fn time(&mut self, now: Time, actions: &mut Vec<Action>) {
        for at in 0..self.services.len() {
            let service = &self.plan.services[at];
            let state = &mut self.services[at];
            match &mut state.status {
                Status::Backoff { until } if *until <= now => {
                    state.status = Status::Waiting;
                    state.restarts += 1;
                }
                Status::Stopping { kill_at, .. } if kill_at.is_some_and(|kill_at| kill_at <= now) => {
                    *kill_at = None;
                    actions.push(Action::Kill(Unit::Service(at), service.stop.kill));
                }
                Status::Running { since, ready: false } => {
                    let Some(ready) = &service.ready else { continue };
                    if *since + ready.deadline <= now {
                        let why = format!("not ready after {:?}", ready.deadline);
                        actions.push(Action::Say(Line::Failed(service.name.clone(), why.clone())));
                        actions.push(Action::Signal(Unit::Service(at), service.stop.signal));
                        state.blame = Some(why);
                        state.status =
                            Status::Stopping { kill_at: Some(now + service.stop.grace), again: false };
                    }
                }
                _ => {}
            }
        }
        if self.task_deadline().is_some_and(|deadline| deadline <= now) {
            self.time_out(now, actions);
        }
    }

    fn time_out(&mut self, now: Time, actions: &mut Vec<Action>) {
        let (unit, name, since) = match &mut self.phase {
            Phase::Onboot { index, since, killed } => {
                *killed = true;
                (Unit::Onboot(*index), &self.plan.onboot[*index].name, *since)
            }
            Phase::Onshutdown { index, since, killed, .. } => {
                *killed = true;
                (Unit::Onshutdown(*index), &self.plan.onshutdown[*index].name, *since)
            }
            _ => return,
        };
        let why = format!("timed out after {} s", now.saturating_sub(since).as_secs_f64().round());
        actions.push(Action::Say(Line::Failed(name.clone(), why)));
        actions.push(Action::Kill(unit, Kill::Cgroup));
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
            Phase::Stopping { finish, boot_killed } => {
                if self.boot_runs && !boot_killed {
                    self.phase = Phase::Stopping { finish, boot_killed: true };
                    let running = (0..self.plan.onboot.len()).map(Unit::Onboot);
                    actions.extend(running.map(|unit| Action::Kill(unit, Kill::Cgroup)));
                }
                self.stop_in_order(now, actions);
                let all_down = (0..self.services.len()).all(|at| !self.is_up(at));
                if all_down && !self.boot_runs {
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
            // A service that waits to be started again must not be, now.
            if let Status::Stopping { again, .. } = &mut self.services[at].status {
                *again = false;
                self.services[at].blame = None;
            }
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
        if index < self.plan.onshutdown.len() {
            self.phase = Phase::Onshutdown { finish, index, since: now, killed: false };
            actions.push(Action::Start(Unit::Onshutdown(index)));
        } else {
            self.phase = Phase::Over;
            actions.push(Action::Finish(finish));
        }
    }
}

#[cfg(test)]
mod tests;
