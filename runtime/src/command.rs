//! The commands: each is its options, one call into the crate, and what is printed.

use crate::cli::{self, Change, Command, HELP, Invocation, ListFormat};
use crate::foreground::{self, Signals};
use crate::launch::{self, Launched, Until};
use crate::state::{self, Record, StateDir};
use crate::{cgroup, delete, events, exec, features, kill, list, protect, report, start, sys, update};
use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container could not be made.
    #[error("create container {id}")]
    Create {
        /// Its name.
        id: String,
        /// Why not.
        source: launch::Error,
    },
    /// The container could not be run.
    #[error("run container {id}")]
    Run {
        /// Its name.
        id: String,
        /// Why not.
        source: launch::Error,
    },
    /// A process could not be run in the container.
    #[error("run a process in container {id}")]
    Exec {
        /// Its name.
        id: String,
        /// Why not.
        source: exec::Error,
    },
    /// A process could not be stayed with.
    #[error("wait for the process of container {id}")]
    Wait {
        /// Its name.
        id: String,
        /// Why not.
        source: io::Error,
    },
    /// Start.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// Kill, pause, resume.
    #[error(transparent)]
    Kill(#[from] kill::Error),
    /// The container could not be deleted.
    #[error("delete container {id}")]
    Delete {
        /// Its name.
        id: String,
        /// Why not.
        source: delete::Error,
    },
    /// The directory of a container, or of all.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Limits could not be changed.
    #[error(transparent)]
    Update(#[from] update::Error),
    /// There are no events.
    #[error(transparent)]
    Events(#[from] events::Error),
    /// The program could not be protected.
    #[error(transparent)]
    Protect(#[from] protect::Error),
    /// A descriptor to pass on is not open.
    #[error("--preserve-fds {count}: descriptor {number} is not open")]
    NoDescriptor {
        /// How many are to be passed on.
        count: u32,
        /// The first that is not there.
        number: u32,
    },
    /// The resources cannot be read.
    #[error("--resources: read {}", path.display())]
    Resources {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The result cannot be printed.
    #[error("print the result")]
    Print {
        /// Why not.
        source: io::Error,
    },
}

/// The program: parses, does, reports.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let invocation = match cli::parse(words.iter().skip(1).cloned()) {
        Ok(invocation) => invocation,
        Err(error) => {
            report::print(&error, None);
            return ExitCode::from(2);
        }
    };
    match run(&words, &invocation) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::print(&error, invocation.log.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[OsString], invocation: &Invocation) -> Result<u8, Error> {
    let root = &invocation.root;
    match &invocation.command {
        Command::Create(request) => {
            before_a_process(words, request.preserve_fds)?;
            launch::launch(&absolute(request), Until::Created)
                .map_err(|source| Error::Create { id: request.id.clone(), source })?;
        }
        Command::Run { request, detach, keep } => {
            before_a_process(words, request.preserve_fds)?;
            return run_container(&absolute(request), *detach, *keep);
        }
        Command::Exec(request) => {
            before_a_process(words, request.preserve_fds)?;
            return run_in_container(request);
        }
        Command::Start { id } => start::start(root, id)?,
        Command::Kill { id, signal, all } => kill::kill(root, id, kill::number(signal)?, *all)?,
        Command::Delete { id, force } => {
            delete::delete(root, id, *force).map_err(|source| Error::Delete { id: id.clone(), source })?
        }
        Command::Pause { id, paused } => kill::set_paused(root, id, *paused)?,
        Command::State { id } => {
            let record = record(root, id)?;
            print(&json(&record.oci(record.status_now())))?;
        }
        Command::List { format } => {
            let lines = list::list(root)?;
            print(&match format {
                ListFormat::Table => list::table(&lines),
                ListFormat::Json => list::json(&lines) + "\n",
                ListFormat::Names => list::names(&lines),
            })?;
        }
        Command::Ps { id, json } => {
            let pids = record(root, id)?.cgroup.processes()?;
            let words: Vec<String> = pids.iter().map(ToString::to_string).collect();
            print(&if *json {
                format!("[{}]\n", words.join(","))
            } else {
                format!("PID\n{}\n", words.join("\n"))
            })?;
        }
        Command::Update { id, change } => update::update(root, id, &read_resources(change)?)?,
        Command::Events { id, stats, interval } => {
            let mut out = io::stdout().lock();
            events::follow(root, id, *stats, *interval, |event| {
                writeln!(out, "{event}").and_then(|()| out.flush())
            })?;
        }
        Command::Features => print(&json(&features::features()))?,
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            print(&format!("kitc version {version}\nspec: {}\n", crate::OCI_VERSION))?;
        }
        Command::Help => print(HELP)?,
    }
    Ok(0)
}

/// What is due before a process is made that will be inside of a container.
fn before_a_process(words: &[OsString], preserve_fds: u32) -> Result<(), Error> {
    protect::ensure_read_only_program(words)?;
    // A descriptor of our own could take the number of one that is missing, and would be passed on.
    for number in 3..3 + preserve_fds {
        if sys::exec::duplicate(number as i32).is_err() {
            return Err(Error::NoDescriptor { count: preserve_fds, number });
        }
    }
    Ok(())
}

/// The state of a container that is being made has its directory, but may have no record yet.
fn record(root: &Path, id: &str) -> Result<Record, Error> {
    let dir = StateDir::open(root, id)?;
    dir.read()?
        .ok_or_else(|| Error::State(state::Error::Missing { id: id.to_owned(), root: root.to_owned() }))
}

/// The request with its root made absolute: the container's process changes directories.
fn absolute(request: &launch::Request) -> launch::Request {
    let root = std::path::absolute(&request.root).unwrap_or_else(|_| request.root.clone());
    launch::Request { root, ..request.clone() }
}

fn run_container(request: &launch::Request, detach: bool, keep: bool) -> Result<u8, Error> {
    let failed = |source| Error::Run { id: request.id.clone(), source };
    if detach {
        let Launched { dir, record, .. } = launch::launch(request, Until::Detached).map_err(failed)?;
        start::run_poststart(&dir, &record);
        return Ok(0);
    }
    let wait = |source| Error::Wait { id: request.id.clone(), source };
    let signals = Signals::take().map_err(wait)?;
    let Launched { pidfd, dir, record, console } =
        launch::launch(request, Until::Foreground).map_err(failed)?;
    start::run_poststart(&dir, &record);
    let code = foreground::stay(&pidfd, &signals, console).map_err(wait)?;
    if !keep {
        delete::finish(&dir, &record).map_err(|source| Error::Delete { id: request.id.clone(), source })?;
    }
    Ok(code)
}

fn run_in_container(request: &exec::Request) -> Result<u8, Error> {
    let failed = |source| Error::Exec { id: request.id.clone(), source };
    if request.detach {
        exec::exec(request).map_err(failed)?;
        return Ok(0);
    }
    let wait = |source| Error::Wait { id: request.id.clone(), source };
    let signals = Signals::take().map_err(wait)?;
    let entered = exec::exec(request).map_err(failed)?;
    foreground::stay(&entered.pidfd, &signals, entered.console).map_err(wait)
}

fn read_resources(change: &Change) -> Result<LinuxResources, Error> {
    let path = match change {
        Change::File(path) => path.as_path(),
        Change::Options(_) => Path::new("options"),
    };
    let failed = |source| Error::Resources { path: path.to_owned(), source };
    let parsed = match change {
        Change::Options(value) => LinuxResources::deserialize(value),
        Change::File(path) => {
            let mut text = Vec::new();
            if path == Path::new("-") {
                io::stdin().read_to_end(&mut text).map_err(failed)?;
            } else {
                text = std::fs::read(path).map_err(failed)?;
            }
            serde_json::from_slice(&text)
        }
    };
    parsed.map_err(|e| failed(e.into()))
}

fn json(value: &impl serde::Serialize) -> String {
    // Strings, numbers and maps with string keys: this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| Error::Print { source })
}
