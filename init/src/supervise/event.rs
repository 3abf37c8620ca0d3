//! What the supervisor hears and what it says: the words of its `step`.

use kit_spec::node::{Kill, Signal};
use std::fmt;

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

impl From<Result<i32, i32>> for End {
    /// From an exit code, or the signal that ended a process.
    fn from(status: Result<i32, i32>) -> End {
        match status {
            Ok(code) => End::Code(code),
            Err(signal) => End::Signal(signal),
        }
    }
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
    /// The machine is ready for the plan to begin.
    Boot,
    /// A container's process runs.
    Started(Unit),
    /// A container's process ended, or never began.
    Ended(Unit, End),
    /// A service's probe succeeded.
    Ready(usize),
    /// Somebody wants something.
    Order(Order),
    /// The time of [`Supervisor::deadline`](super::Supervisor::deadline) came.
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
    /// Something failed: its name, and why.
    Failed(String, String),
    /// Services will not be started, for want of this container.
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
