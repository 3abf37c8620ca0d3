//! Taking charge of a machine that was detached, and stopping one from aside.
//!
//! What its console prints is written to its log whether or not anybody is connected. To go on from the log to the
//! socket without missing a byte or having one twice, the guest is paused for the moment in which the log is read and
//! the console connected.

use crate::console::Line;
use crate::deadline::Deadline;
use crate::exit::Exit;
use crate::feed::Feed;
use crate::home::{Finding, Home, HomeError, socket};
use crate::pause::{ANSWER_WITHIN, paused, wait_console};
use crate::process::{Identity, Process};
use crate::qmp::{Client, QmpError};
use crate::running::{KILL_WITHIN, Parts, Running, StopError, open_log, stopping};
use crate::transcript::KEPT;
use crate::watch::{tail, trim};
use kit_spec::machine::Name;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Why a machine cannot be attached to, or stopped from aside.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is none of that name.
    #[error("no machine `{name}` runs")]
    Absent {
        /// The name.
        name: Name,
    },
    /// Another process is in charge of it.
    #[error("machine `{name}` is in the charge of another process{by}", by = owner.map(|pid| format!(", {pid}")).unwrap_or_default())]
    Owned {
        /// The machine.
        name: Name,
        /// The process, if it has said so yet.
        owner: Option<u32>,
    },
    /// The machine's directory is of no use.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Something between this process and the monitor cannot be made.
    #[error("{doing} of machine `{name}`")]
    Wire {
        /// What was being done.
        doing: &'static str,
        /// The machine.
        name: Name,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor does not do what it is told.
    #[error("attach to machine `{name}`")]
    Monitor {
        /// The machine.
        name: Name,
        /// What it did instead.
        #[source]
        source: QmpError,
    },
    /// It cannot be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
}

impl Home {
    /// Takes charge of a detached machine. It goes on when the result is dropped.
    ///
    /// # Errors
    /// When there is none of that name, or another process is in charge.
    pub fn attach(&self, name: &Name) -> Result<Running, AttachError> {
        let (place, identity) = match self.find(name)? {
            Finding::Found(place, identity) => (place, identity),
            Finding::Owned(owner) => return Err(AttachError::Owned { name: name.clone(), owner }),
            Finding::Absent => return Err(AttachError::Absent { name: name.clone() }),
        };
        let process = process(name, identity)?;
        let connect =
            |socket| UnixStream::connect(place.socket(socket)).map_err(wire("connect to a socket", name));
        let broken = |source| AttachError::Monitor { name: name.clone(), source };
        let mut client = Client::greet(connect("monitor.sock")?, ANSWER_WITHIN).map_err(broken)?;
        let mut log = open_log(&place.file("console.log")).map_err(wire("open the console's log", name))?;
        let feed = Feed::new(name.clone());

        let joined = paused(&mut client, |client| {
            let console = connect("console.sock")?;
            wait_console(client, true).map_err(broken)?;
            recall(&feed, &mut log).map_err(wire("read the console's log", name))?;
            Ok::<_, AttachError>(Line::new(name.clone(), console))
        });
        let line = joined.map_err(broken)??;
        let (name, child, lifeline) = (name.clone(), None, None);
        let parts = Parts { name: name.clone(), place, process, child, feed, line, client, log, lifeline };
        Running::new(parts).map_err(wire("watch the monitor", &name))
    }

    /// Stops a machine, whoever is in charge of it, by the means and in the order of [`Running::stop`].
    ///
    /// # Errors
    /// When there is none of that name, or it cannot even be killed.
    pub fn stop(&self, name: &Name, grace: Duration) -> Result<Exit, AttachError> {
        let absent = || AttachError::Absent { name: name.clone() };
        let (dir, identity) = self.look_up(name)?.ok_or_else(absent)?;
        let process = process(name, identity)?;
        let exit = match stop_by_socket(&dir, &process, grace) {
            Some(exit) => exit,
            None => kill(name, &process)?,
        };
        // Unless somebody is in charge, nobody else will remove what it leaves.
        self.look_up(name)?;
        Ok(exit)
    }
}

/// Reads what was printed before, all that is kept of it.
fn recall(feed: &Feed, log: &mut File) -> io::Result<()> {
    trim(log, 0, log.metadata()?.len());
    let (position, bytes) = tail(log, KEPT as u64)?;
    feed.recall(position, &bytes);
    Ok(())
}

/// Asks a monitor to stop, politely and then firmly; nothing if it does not.
fn stop_by_socket(dir: &File, process: &Process, grace: Duration) -> Option<Exit> {
    let gone = |within| process.wait(Deadline::after(within)).unwrap_or(false);
    let stop = || {
        let stream = UnixStream::connect(socket(dir, "control.sock"))
            .map_err(|source| QmpError::Io { command: "connect".into(), source })?;
        // Somebody else may be stopping it, and has the socket meanwhile.
        let mut client = Client::greet(stream, grace.saturating_add(ANSWER_WITHIN))?;
        for (command, within) in stopping(grace) {
            client.execute(command, ANSWER_WITHIN)?;
            if gone(within) {
                return Ok(Some(Exit::of(None, client.shutdown_reason().as_deref(), String::new())));
            }
        }
        Ok(None)
    };
    match stop() {
        Ok(exit) => exit,
        // It is on its way out.
        Err(QmpError::Closed { .. }) => gone(KILL_WITHIN).then_some(Exit::Unknown),
        Err(_) => None,
    }
}

fn kill(name: &Name, process: &Process) -> Result<Exit, StopError> {
    let (name, pid, within) = (name.clone(), process.identity().pid, KILL_WITHIN);
    let ended = process.kill().and_then(|()| process.wait(Deadline::after(within)));
    match ended {
        Ok(true) => Ok(Exit::Signal(libc::SIGKILL)),
        Ok(false) => Err(StopError::Lives { name, pid, within }),
        Err(source) => Err(StopError::Kill { name, pid, source }),
    }
}

/// The monitor's process. That it has ended since it was looked up is the same as never having been there.
fn process(name: &Name, identity: Identity) -> Result<Process, AttachError> {
    let found = Process::find(identity).map_err(wire("hold the process", name))?;
    found.ok_or_else(|| AttachError::Absent { name: name.clone() })
}

fn wire(doing: &'static str, name: &Name) -> impl FnOnce(io::Error) -> AttachError {
    let name = name.clone();
    move |source| AttachError::Wire { doing, name, source }
}
