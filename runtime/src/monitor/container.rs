//! The life of a container as the monitor sees it. Pure: it is told what happened, and when.
//!
//! ```text
//!            made            started            ended
//! Creating --------> Created --------> Running --------> Exited
//!                       |                                  ^
//!                       +----------------------------------+   ended before or while it started
//! ```
//!
//! `kitc` works on a container in one process at a time ([`Work`]), but for signals and for processes
//! that are run in it.

use super::protocol::{Ended, Exit, Status};
use std::time::SystemTime;

/// What `kitc` is doing with the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `kitc create`.
    Create,
    /// `kitc start`.
    Start,
    /// `kitc delete`.
    Delete,
}

/// What somebody wants of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To start it.
    Start,
    /// To run a process in it, or to send a signal.
    Enter,
    /// To connect to its streams.
    Streams,
    /// To take it away when it is over.
    Delete,
    /// To take it away whatever it does.
    ForceDelete,
}

/// Why a wish is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its status is wrong for it.
    #[error("it is {0}")]
    Status(&'static str),
    /// Something else is being done.
    #[error("it is being {0}")]
    Busy(&'static str),
}

/// A container's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    created: SystemTime,
    phase: Phase,
    work: Option<Work>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Creating,
    Created { pid: i32, starting: Option<SystemTime> },
    Running { pid: i32, started: SystemTime },
    Exited { pid: i32, ended: Ended },
}

impl Life {
    /// `kitc create` was started.
    pub fn new(now: SystemTime) -> Life {
        Life { created: now, phase: Phase::Creating, work: Some(Work::Create) }
    }

    /// Whether a wish can be had now.
    pub fn check(&self, wish: Wish) -> Result<(), Refusal> {
        let status = Err(Refusal::Status(self.word()));
        match (wish, &self.phase) {
            (Wish::Enter | Wish::Streams, Phase::Created { .. } | Phase::Running { .. }) => return Ok(()),
            (Wish::Enter | Wish::Streams, _) => return status,
            (Wish::Start, Phase::Created { .. })
            | (Wish::Delete, Phase::Created { .. } | Phase::Exited { .. })
            | (Wish::ForceDelete, _) => {}
            (Wish::Start | Wish::Delete, Phase::Creating) => {}
            (Wish::Start | Wish::Delete, _) => return status,
        }
        match self.work {
            None => Ok(()),
            Some(Work::Create) => Err(Refusal::Busy("created")),
            Some(Work::Start) => Err(Refusal::Busy("started")),
            Some(Work::Delete) => Err(Refusal::Busy("deleted")),
        }
    }

    /// `kitc start` or `kitc delete` was started; [`Life::check`] has allowed it.
    pub fn begin(&mut self, work: Work, now: SystemTime) {
        self.work = Some(work);
        if let (Work::Start, Phase::Created { starting, .. }) = (work, &mut self.phase) {
            *starting = Some(now);
        }
    }

    /// `kitc create` has made its process.
    pub fn made(&mut self, pid: i32) {
        self.work = None;
        if self.phase == Phase::Creating {
            self.phase = Phase::Created { pid, starting: None };
        }
    }

    /// `kitc start` or `kitc delete` has ended; well, or not. Returns whether there is no container any
    /// more.
    pub fn finish(&mut self, fine: bool) -> bool {
        let work = self.work.take();
        if let (Some(Work::Start), Phase::Created { pid, starting }) = (work, &mut self.phase) {
            match *starting {
                Some(started) if fine => self.phase = Phase::Running { pid: *pid, started },
                _ => *starting = None,
            }
        }
        fine && work == Some(Work::Delete)
    }

    /// Its first process has ended. Returns how, as told from now on; `None` if it had ended before.
    pub fn ended(&mut self, exit: Exit, oom: bool, now: SystemTime) -> Option<&Ended> {
        let (pid, started) = match &self.phase {
            Phase::Created { pid, starting } => (*pid, *starting),
            Phase::Running { pid, started } => (*pid, Some(*started)),
            Phase::Creating | Phase::Exited { .. } => return None,
        };
        self.phase = Phase::Exited { pid, ended: Ended { exit, oom, started, finished: now } };
        self.how()
    }

    /// How it ended, if it has.
    pub fn how(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Exited { ended, .. } => Some(ended),
            _ => None,
        }
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Creating => Status::Creating,
            Phase::Created { .. } => Status::Created,
            Phase::Running { .. } => Status::Running,
            Phase::Exited { .. } => Status::Exited,
        }
    }

    /// The process id of its first process, whether that lives or not.
    pub fn pid(&self) -> Option<i32> {
        match self.phase {
            Phase::Creating => None,
            Phase::Created { pid, .. } | Phase::Running { pid, .. } | Phase::Exited { pid, .. } => Some(pid),
        }
    }

    /// When it was made and when its program started.
    pub fn times(&self) -> (SystemTime, Option<SystemTime>) {
        let started = match &self.phase {
            Phase::Running { started, .. } => Some(*started),
            Phase::Exited { ended, .. } => ended.started,
            Phase::Creating | Phase::Created { .. } => None,
        };
        (self.created, started)
    }

    /// Whether its first process lives, or may be there soon.
    pub fn lives(&self) -> bool {
        self.status() != Status::Exited
    }

    fn word(&self) -> &'static str {
        match self.status() {
            Status::Creating => "being created",
            Status::Created => "created",
            Status::Running => "running",
            Status::Exited => "exited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_container_goes_from_creating_to_exited() {
        let mut life = Life::new(at(1));
        assert_eq!(life.check(Wish::Start), Err(Refusal::Busy("created")));
        assert_eq!(life.check(Wish::Enter), Err(Refusal::Status("being created")));
        life.made(7);
        assert_eq!((life.status(), life.pid()), (Status::Created, Some(7)));
        assert_eq!(life.check(Wish::Start), Ok(()));
        life.begin(Work::Start, at(2));
        assert_eq!(life.check(Wish::ForceDelete), Err(Refusal::Busy("started")));
        assert!(!life.finish(true));
        assert_eq!((life.status(), life.times()), (Status::Running, (at(1), Some(at(2)))));
        assert_eq!(life.check(Wish::Delete), Err(Refusal::Status("running")));
        let ended = life.ended(Exit::Code(3), false, at(4)).cloned();
        let expected = Ended { exit: Exit::Code(3), oom: false, started: Some(at(2)), finished: at(4) };
        assert_eq!(ended, Some(expected));
        assert_eq!(life.ended(Exit::Code(4), false, at(5)), None);
        assert_eq!(life.check(Wish::Delete), Ok(()));
        life.begin(Work::Delete, at(6));
        assert!(life.finish(true));
    }

    #[test]
    fn a_program_that_ends_while_it_is_started_has_started() {
        let mut life = Life::new(at(1));
        life.made(7);
        life.begin(Work::Start, at(2));
        life.ended(Exit::Code(0), false, at(3));
        life.finish(true);
        assert_eq!((life.status(), life.times().1), (Status::Exited, Some(at(2))));
    }

    #[test]
    fn a_start_that_failed_can_be_tried_again() {
        let mut life = Life::new(at(1));
        life.made(7);
        life.begin(Work::Start, at(2));
        life.finish(false);
        assert_eq!((life.check(Wish::Start), life.times().1), (Ok(()), None));
    }

    proptest! {
        #[test]
        fn nobody_goes_back_in_life(steps in prop::collection::vec(0_u8..7, 0..30)) {
            let order = |status| match status {
                Status::Creating => 0,
                Status::Created => 1,
                Status::Running => 2,
                Status::Exited => 3,
            };
            let mut life = Life::new(at(0));
            for (second, step) in steps.into_iter().enumerate() {
                let (before, how) = (life.status(), life.how().cloned());
                match step {
                    0 if life.work.is_some() => life.made(1),
                    1 if life.check(Wish::Start).is_ok() => life.begin(Work::Start, at(second as u64)),
                    2 if life.check(Wish::Delete).is_ok() => life.begin(Work::Delete, at(second as u64)),
                    3 if life.status() != Status::Creating => drop(life.finish(true)),
                    4 if life.status() != Status::Creating => drop(life.finish(false)),
                    5 => drop(life.ended(Exit::Signal(9), true, at(second as u64)).cloned()),
                    _ => {}
                }
                prop_assert!(order(before) <= order(life.status()));
                prop_assert!(how.is_none() || how.as_ref() == life.how());
                prop_assert_eq!(life.lives(), life.how().is_none());
            }
        }
    }
}
