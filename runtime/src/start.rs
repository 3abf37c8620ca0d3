//! `kitc start`: lets a created container go on, and hears whether its program runs.

use crate::bundle;
use crate::channel::{Channel, Message, Outcome};
use crate::hook;
use crate::launch::short_address;
use crate::notify;
use crate::report::{self, Remote};
use crate::seccomp::{self, Filter};
use crate::state::{self, Record, StateDir, Status};
use oci_spec::runtime::{Hooks, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs;
use std::io;
use std::path::Path;

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// It is not waiting for start.
    #[error("container {id} is {}, not created", status.word())]
    NotCreated {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Its process cannot be reached.
    #[error("reach the process of container {id}")]
    Reach {
        /// Its name.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// Its process says what went wrong.
    #[error("start container {id}")]
    Child {
        /// Its name.
        id: String,
        /// What it said.
        source: Remote,
    },
    /// Its process ended without a word.
    #[error("the process of container {id} ended before its program ran")]
    Died {
        /// Its name.
        id: String,
    },
    /// The configuration that was kept cannot be read.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The seccomp listener.
    #[error(transparent)]
    Notify(#[from] notify::Error),
}

/// Starts a created container. Its poststart hooks have run when this returns.
pub fn start(root: &Path, id: &str) -> Result<(), Error> {
    let dir = StateDir::open(root, id)?;
    let not_created = |status| Error::NotCreated { id: id.to_owned(), status };
    let mut record = dir.read()?.ok_or(not_created(Status::Creating))?;
    let status = record.status_now();
    if status != Status::Created {
        return Err(not_created(status));
    }
    let channel =
        connect(&dir.start_socket()).map_err(|e| Error::Reach { id: id.to_owned(), source: e.into() })?;
    let _ = fs::remove_file(dir.start_socket());
    wait_for_exec(&channel, &dir, &record)?;
    record.status = Status::Running;
    dir.write(&record)?;
    run_poststart(&dir, &record);
    Ok(())
}

fn connect(path: &Path) -> rustix::io::Result<Channel> {
    let (_dir, address) = short_address(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(Channel::from_socket(socket))
}

fn wait_for_exec(channel: &Channel, dir: &StateDir, record: &Record) -> Result<(), Error> {
    let id = || record.id.clone();
    let lost = |source| Error::Reach { id: id(), source };
    let outcome = channel.follow(false, lost, |message| {
        if let Message::Notify(listener) = message {
            let (spec, _) = bundle::read_spec(&dir.config())?;
            if let Some(profile) = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) {
                let filter = Filter::new(profile)?;
                notify::send(&filter, &record.oci(Status::Created), record.pid, &listener)?;
            }
        }
        Ok(())
    })?;
    match outcome {
        Outcome::Fine => Ok(()),
        Outcome::Failed(source) => Err(Error::Child { id: id(), source }),
        Outcome::Died => Err(Error::Died { id: id() }),
    }
}

/// Runs the poststart hooks, if the configuration has any. What goes wrong with them is only told.
pub fn run_poststart(dir: &StateDir, record: &Record) {
    if record.poststart {
        run_hooks(dir, record, Status::Running, "poststart", Hooks::poststart);
    }
}

/// Runs the poststop hooks, if the configuration has any. What goes wrong with them is only told.
pub fn run_poststop(dir: &StateDir, record: &Record) {
    if record.poststop {
        run_hooks(dir, record, Status::Stopped, "poststop", Hooks::poststop);
    }
}

fn run_hooks(
    dir: &StateDir,
    record: &Record,
    status: Status,
    point: &'static str,
    list: fn(&Hooks) -> &Option<Vec<oci_spec::runtime::Hook>>,
) {
    let spec = match bundle::read_spec(&dir.config()) {
        Ok((spec, _)) => spec,
        Err(error) => return report::warn(point, &error),
    };
    let hooks = Spec::hooks(&spec).as_ref().and_then(|h| list(h).as_deref()).unwrap_or_default();
    for error in hook::run_each(point, hooks, &record.oci(status)) {
        report::warn(point, &error);
    }
}
