//! A machine that runs: wait, type, stop, let go.

use crate::console::{Console, Line, SendError};
use crate::exit::Exit;
use crate::feed::{Feed, Match, WaitError};
use crate::home::Place;
use crate::pause::ANSWER_WITHIN;
use crate::process::Process;
use crate::qmp::{Client, QmpError};
use crate::watch::{Monitor, Release, Watch};
use kit_spec::machine::Name;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a monitor that was told to quit may take to do so.
pub(crate) const QUIT_WITHIN: Duration = Duration::from_secs(5);

/// How long the kernel may take to end a process that was killed.
pub(crate) const KILL_WITHIN: Duration = Duration::from_secs(10);

/// How soon the power button is pressed again.
const PRESSED_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// What a monitor is told so that its machine ends, and how long that is waited for after each.
pub(crate) fn stopping(grace: Duration) -> impl Iterator<Item = (&'static str, Duration)> {
    let mut left = Some(grace);
    let presses = std::iter::from_fn(move || {
        let now = left.take()?;
        let rest = now.saturating_sub(PRESSED_AGAIN_AFTER);
        left = (!rest.is_zero()).then_some(rest);
        Some(("system_powerdown", now.min(PRESSED_AGAIN_AFTER)))
    });
    presses.chain([("quit", QUIT_WITHIN)])
}

/// How long letting go may take: a few answers of the monitor.
const LET_GO_WITHIN: Duration = Duration::from_secs(30);

/// A machine that runs, in the charge of this process.
///
/// One that was launched is killed when this is dropped, and also when this process dies in a way that drops nothing.
/// One that was attached to goes on. All methods may be called from several threads at once.
#[derive(Debug)]
pub struct Running {
    name: Name,
    place: Option<Place>,
    feed: Arc<Feed>,
    process: Arc<Process>,
    line: Arc<Line>,
    monitor: Monitor,
    release: Arc<Release>,
    watch: Option<JoinHandle<()>>,
    /// Held by whoever launched the machine, until it is detached.
    lifeline: Option<Lifeline>,
}

/// A machine that goes on without this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Its name, by which it is attached to again.
    pub name: Name,
    /// The monitor's process.
    pub pid: u32,
    /// The file with what its console prints.
    pub log: PathBuf,
}

/// Why a machine could not be stopped or let go.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The monitor cannot be killed.
    #[error("kill process {pid}, the monitor of machine `{name}`")]
    Kill {
        /// The machine.
        name: Name,
        /// The process.
        pid: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor does not die.
    #[error("process {pid}, the monitor of machine `{name}`, lives {within:?} after it was killed")]
    Lives {
        /// The machine.
        name: Name,
        /// The process.
        pid: u32,
        /// The time it was given.
        within: Duration,
    },
    /// The machine ended before it could be let go.
    #[error("machine `{name}` ended: {exit}")]
    Ended {
        /// The machine.
        name: Name,
        /// How.
        exit: Exit,
    },
    /// The bond between the monitor and this process cannot be cut.
    #[error("cut machine `{name}` loose")]
    Cut {
        /// The machine.
        name: Name,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The pipe whose end is the monitor's end (see [`sys`](crate::sys)).
#[derive(Debug)]
pub(crate) struct Lifeline {
    pub(crate) read: OwnedFd,
    /// Closed by the kernel when this process dies.
    pub(crate) _write: OwnedFd,
}

impl Lifeline {
    /// The monitor shares the read end's open file, so that what is changed here is changed there.
    fn disarm(&self) -> io::Result<()> {
        let flags = fcntl_getfl(&self.read)?;
        Ok(fcntl_setfl(&self.read, flags & !OFlags::ASYNC)?)
    }
}

/// What a [`Running`] is made of.
pub(crate) struct Parts {
    pub(crate) name: Name,
    pub(crate) place: Place,
    pub(crate) process: Process,
    pub(crate) child: Option<Child>,
    pub(crate) feed: Feed,
    pub(crate) line: Line,
    pub(crate) client: Client,
    pub(crate) log: File,
    pub(crate) lifeline: Option<Lifeline>,
}

impl Running {
    /// Begins to watch a machine.
    pub(crate) fn new(parts: Parts) -> io::Result<Running> {
        let Parts { name, place, process, child, feed, line, client, log, lifeline } = parts;
        let words = place.file("qemu.log");
        let mut running = Running {
            name,
            place: Some(place),
            feed: Arc::new(feed),
            process: Arc::new(process),
            line: Arc::new(line),
            monitor: Arc::new(Mutex::new(Some(client))),
            release: Arc::new(Release::new()?),
            watch: None,
            lifeline,
        };
        let watch = Watch {
            feed: running.feed.clone(),
            process: running.process.clone(),
            child,
            line: running.line.clone(),
            monitor: running.monitor.clone(),
            release: running.release.clone(),
            log,
            words,
        };
        let thread = std::thread::Builder::new().name("machine".into());
        match thread.spawn(move || watch.run()) {
            Ok(watch) => running.watch = Some(watch),
            Err(error) => {
                // Nobody will see its end: dropping the lifeline is that, if it was launched.
                running.feed.close(Some(Exit::Unknown));
                return Err(error);
            }
        }
        Ok(running)
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The monitor's process.
    pub fn pid(&self) -> u32 {
        self.process.identity().pid
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.feed.exit()
    }

    /// Its console, from the beginning: of one attached to, from the beginning of what its log has kept.
    pub fn console(&self) -> Console {
        Console::new(self.feed.clone(), self.line.clone())
    }

    /// All that its console printed, of that the last 16 MiB.
    pub fn transcript(&self) -> Vec<u8> {
        self.feed.text()
    }

    /// Waits for text anywhere on the console, printed before or after this call. To wait for one thing after
    /// another, use [`Console::wait_for`].
    ///
    /// # Errors
    /// When the deadline passes or the machine ends first; the error shows the console's last lines.
    pub fn wait_for(&self, marker: &str, within: Duration) -> Result<Match, WaitError> {
        self.feed.wait_for(0, marker, within)
    }

    /// Waits for a whole line that is `wanted`; `what` names it in an error.
    ///
    /// # Errors
    /// As [`Running::wait_for`].
    pub fn wait_for_line(
        &self,
        what: &str,
        wanted: impl FnMut(&str) -> bool,
        within: Duration,
    ) -> Result<Match, WaitError> {
        self.feed.wait_for_line(0, what, wanted, within)
    }

    /// Types on the console.
    ///
    /// # Errors
    /// When the guest does not read for ten seconds, or there is none any more.
    pub fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.console().send(bytes)
    }

    /// Waits for the machine's end.
    ///
    /// # Errors
    /// When it has not ended within that time, and the console's last lines.
    pub fn wait(&self, within: Duration) -> Result<Exit, WaitError> {
        self.feed.wait_exit(within)
    }

    /// Stops it: presses the power button and gives the guest that long to turn itself off, then has the monitor
    /// quit, then kills it. How it ended says which of these it took. The button is pressed again and again: a guest
    /// that has only just been started does not hear it yet.
    ///
    /// # Errors
    /// When it cannot even be killed.
    pub fn stop(&self, grace: Duration) -> Result<Exit, StopError> {
        let mut refused = None;
        for (command, within) in stopping(grace) {
            // A monitor that does not listen is dealt with by the next means.
            if refused == Some(command) {
                continue;
            }
            match self.ask(command).map(|()| self.feed.wait_exit(within)) {
                Ok(Ok(exit)) => return Ok(exit),
                Ok(Err(_)) => {}
                Err(_) => refused = Some(command),
            }
        }
        self.kill()
    }

    /// Presses ctrl-alt-del on the machine's keyboard: what that comes to is the guest's affair.
    ///
    /// # Errors
    /// When the monitor does not take it.
    pub fn press_ctrl_alt_del(&self) -> Result<(), QmpError> {
        let keys = ["ctrl", "alt", "delete"].map(|key| json!({"type": "qcode", "data": key}));
        self.ask_with("send-key", json!({ "keys": keys }))
    }

    /// Pulls the plug. One that has ended already is left as it is.
    ///
    /// # Errors
    /// When the monitor cannot be killed, or does not die of it.
    pub fn kill(&self) -> Result<Exit, StopError> {
        if let Some(exit) = self.exit() {
            return Ok(exit);
        }
        let (name, pid, within) = (self.name.clone(), self.pid(), KILL_WITHIN);
        if let Err(source) = self.process.kill() {
            return Err(StopError::Kill { name, pid, source });
        }
        self.feed.wait_exit(within).map_err(|_| StopError::Lives { name, pid, within })
    }

    /// Lets it go on by itself, until it is attached to again.
    ///
    /// # Errors
    /// When it has ended, or cannot be cut loose; then it is killed.
    pub fn detach(mut self) -> Result<Detached, StopError> {
        let name = self.name.clone();
        if let Some(lifeline) = &self.lifeline {
            lifeline.disarm().map_err(|source| StopError::Cut { name: name.clone(), source })?;
        }
        if let Some(exit) = self.exit() {
            return Err(StopError::Ended { name, exit });
        }
        self.lifeline = None;
        let log = self.place.as_ref().map(|place| place.file("console.log")).unwrap_or_default();
        Ok(Detached { name, pid: self.pid(), log })
    }

    fn ask(&self, command: &str) -> Result<(), QmpError> {
        self.ask_with(command, json!({}))
    }

    fn ask_with(&self, command: &str, arguments: Value) -> Result<(), QmpError> {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || QmpError::Closed { command: command.into() };
        monitor.as_mut().ok_or_else(closed)?.execute_with(command, arguments, ANSWER_WITHIN).map(|_| ())
    }

    /// Has the watching thread give up the console and the monitor.
    fn let_go(&mut self) {
        self.release.wish();
        // Detached, or ended: either will do.
        let _ = self.feed.wait_exit(LET_GO_WITHIN);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.exit().is_some() || (self.lifeline.is_some() && self.kill().is_ok());
        if !ended {
            self.let_go();
            return;
        }
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
        if let Some(place) = self.place.take() {
            // What stays is removed by the next who looks.
            let _ = place.remove();
        }
    }
}

/// The file that the monitor writes, to be read and to be trimmed.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_button_is_pressed_again_until_the_grace_is_over() {
        let told = |secs: u64| -> Vec<(&str, u64)> {
            let told = stopping(Duration::from_secs(secs));
            told.map(|(command, within)| (command, within.as_secs())).collect()
        };
        let (press, quit) = ("system_powerdown", ("quit", QUIT_WITHIN.as_secs()));
        assert_eq!(told(7), [(press, 3), (press, 3), (press, 1), quit]);
        assert_eq!(told(3), [(press, 3), quit]);
        assert_eq!(told(0), [(press, 0), quit]);
    }
}
