//! `kitc events`: what a container uses, at intervals, and when it runs out of memory.
//!
//! One JSON object a line, as runc prints them: `{"type":"stats","id":..,"data":..}` and
//! `{"type":"oom","id":..}`. The end of the container, its want of memory and the next interval are waited
//! for in one call. Under cgroup2 the kernel tells of changes of `memory.events` by inotify, under version 1
//! by an event descriptor of the memory hierarchy.

use crate::cgroup::{Place, stats};
use crate::kill::open_process;
use crate::state::{self, StateDir, Status};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// It has ended, or is not there yet.
    #[error("container not running: {id} is {}", status.word())]
    Status {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// The kernel does not tell.
    #[error("{doing} of container {id}")]
    Watch {
        /// What was being done.
        doing: &'static str,
        /// The container.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// An event cannot be printed.
    #[error("print an event")]
    Print {
        /// Why not.
        source: io::Error,
    },
}

/// Hands events to `print`, until the container ends; with `once` only what it uses now.
pub fn follow(
    root: &Path,
    id: &str,
    once: bool,
    interval: Duration,
    mut print: impl FnMut(&Value) -> io::Result<()>,
) -> Result<(), Error> {
    let record = StateDir::open(root, id)?.read()?;
    let status = record.as_ref().map_or(Status::Creating, |r| r.status_now());
    let record = record
        .filter(|_| matches!(status, Status::Created | Status::Running | Status::Paused))
        .ok_or_else(|| Error::Status { id: id.to_owned(), status })?;
    let failed = |doing| move |source: io::Error| Error::Watch { doing, id: id.to_owned(), source };
    let mut print = |event: Value| print(&event).map_err(|source| Error::Print { source });
    let used = || json!({"type": "stats", "id": id, "data": stats::read(&record.cgroup)});
    if once {
        return print(used());
    }
    let ended = || Error::Status { id: id.to_owned(), status: Status::Stopped };
    let pidfd = open_process(&record).map_err(failed("open the process"))?.ok_or_else(ended)?;
    let mut memory = Memory::watch(&record.cgroup).map_err(failed("watch the memory"))?;
    loop {
        print(used())?;
        let next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let ends = wait(&pidfd, memory.as_ref(), left).map_err(failed("wait for events"))?;
            if memory.as_mut().is_some_and(Memory::ran_out) {
                print(json!({"type": "oom", "id": id}))?;
            }
            if ends {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
        }
    }
}

/// Waits for the end of the process, an event of the memory or the time. Returns whether it has ended.
fn wait(pidfd: &OwnedFd, memory: Option<&Memory>, left: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    fds.extend(memory.map(|memory| PollFd::new(&memory.events, PollFlags::IN)));
    match poll(&mut fds, Some(&timeout)) {
        Err(Errno::INTR) => Ok(false),
        result => {
            result?;
            Ok(!fds[0].revents().is_empty())
        }
    }
}

/// Tells when a container's memory does not suffice.
struct Memory {
    events: OwnedFd,
    /// The cgroup2 directory, and how many processes had been killed in it.
    kills: Option<(PathBuf, u64)>,
}

impl Memory {
    /// `None` where nothing accounts the container's memory.
    fn watch(place: &Place) -> io::Result<Option<Memory>> {
        if let Some(dir) = place.v2.as_ref().filter(|dir| dir.join("memory.events").exists()) {
            let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&events, dir.join("memory.events"), inotify::WatchFlags::MODIFY)?;
            let kills = Some((dir.clone(), stats::oom_kills(dir)));
            return Ok(Some(Memory { events, kills }));
        }
        let Some(dir) = place.v1.iter().find(|dir| dir.join("memory.oom_control").exists()) else {
            return Ok(None);
        };
        let control = fs::File::open(dir.join("memory.oom_control"))?;
        let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
        fs::write(dir.join("cgroup.event_control"), line)?;
        Ok(Some(Memory { events, kills: None }))
    }

    /// Whether a process was killed since the last call.
    fn ran_out(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let mut heard = false;
        while rustix::io::read(&self.events, &mut bytes).is_ok_and(|count| count > 0) {
            heard = true;
        }
        let Some((dir, before)) = &mut self.kills else { return heard };
        let now = stats::oom_kills(dir);
        std::mem::replace(before, now) < now
    }
}
