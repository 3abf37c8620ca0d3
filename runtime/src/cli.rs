//! The command line: words into an [`Invocation`], without touching anything.
//!
//! The conventions are those of runc, so that what drives it drives `kitc`: options before or after the
//! container's name (but for `exec`, where the program's own arguments follow), `--name value` or
//! `--name=value`. It is parsed by hand: a container start is a handful of milliseconds, and building a
//! parser for all commands on each start is a visible part of it.

mod resources;

use crate::exec::{self, Changes};
use crate::launch;
use crate::report::{Log, LogFormat};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The directory of all containers.
    pub root: PathBuf,
    /// Where errors are logged to.
    pub log: Option<Log>,
    /// The command.
    pub command: Command,
}

/// One command with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a container that waits for start.
    Create(launch::Request),
    /// Make a container and let it run.
    Run {
        /// The container.
        request: launch::Request,
        /// Go as soon as it runs.
        detach: bool,
        /// Do not delete it when it has ended.
        keep: bool,
    },
    /// Let a created container run.
    Start {
        /// The container.
        id: String,
    },
    /// Print the state of the specification.
    State {
        /// The container.
        id: String,
    },
    /// Send a signal.
    Kill {
        /// The container.
        id: String,
        /// The signal, by name or number.
        signal: String,
        /// To all processes.
        all: bool,
    },
    /// Take away a stopped container.
    Delete {
        /// The container.
        id: String,
        /// Kill it if it lives; do not mind if there is none.
        force: bool,
    },
    /// Run a process in a container.
    Exec(exec::Request),
    /// Print all containers.
    List {
        /// How.
        format: ListFormat,
    },
    /// Freeze or thaw a container.
    Pause {
        /// The container.
        id: String,
        /// Freeze, rather than thaw.
        paused: bool,
    },
    /// Print the process ids of a container.
    Ps {
        /// The container.
        id: String,
        /// As JSON rather than as a table.
        json: bool,
    },
    /// Change limits.
    Update {
        /// The container.
        id: String,
        /// The limits.
        change: Change,
    },
    /// Print what a container uses, and when it runs out of memory.
    Events {
        /// The container.
        id: String,
        /// Only what it uses now.
        stats: bool,
        /// How often what it uses is printed.
        interval: Duration,
    },
    /// Print what this runtime can do.
    Features,
    /// Print the version.
    Version,
    /// Print how to use it.
    Help,
}

/// Where new limits come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file with `linux.resources` of the specification; `-` for standard input.
    File(PathBuf),
    /// Options, put together to the same structure.
    Options(serde_json::Value),
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// As a table.
    Table,
    /// As JSON.
    Json,
    /// Only names.
    Names,
}

/// Why a command line means nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No command.
    #[error("no command is given (try kitc --help)")]
    NoCommand,
    /// No such command.
    #[error("there is no command {name:?} (try kitc --help)")]
    NoSuchCommand {
        /// As given.
        name: String,
    },
    /// No such option.
    #[error("{command}: there is no option {option}")]
    NoSuchOption {
        /// The command.
        command: String,
        /// As given.
        option: String,
    },
    /// An option that takes a value has none.
    #[error("{command}: {option} needs a value")]
    NoValue {
        /// The command.
        command: String,
        /// The option.
        option: String,
    },
    /// A value that an option cannot have.
    #[error("{command}: {option} cannot be {value:?}")]
    BadValue {
        /// The command.
        command: String,
        /// The option.
        option: String,
        /// As given.
        value: String,
    },
    /// Something is missing.
    #[error("{command}: {what} is missing")]
    Missing {
        /// The command.
        command: String,
        /// What.
        what: &'static str,
    },
    /// Something is too much.
    #[error("{command}: {word:?} is too much")]
    TooMuch {
        /// The command.
        command: String,
        /// As given.
        word: String,
    },
    /// Not text.
    #[error("{word:?} is not UTF-8")]
    NotText {
        /// As given.
        word: OsString,
    },
    /// A mode of working that `kitc` does not have.
    #[error("{option} is not supported: cgroups are made directly")]
    Unsupported {
        /// The option.
        option: &'static str,
    },
}

/// How to use it.
pub const HELP: &str = "\
kitc makes and runs OCI containers.

Usage: kitc [--root DIR] [--log FILE] [--log-format text|json] COMMAND ..

  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--preserve-fds N] [--no-new-keyring] ID
  start ID
  run [-d|--detach] [--keep|--rm] [options of create] ID
  state ID
  kill [-a|--all] ID [SIGNAL]
  delete [-f|--force] ID
  exec [-d|--detach] [-t|--tty] [-e K=V].. [--cwd DIR] [-u UID[:GID]] [-g GID].. [-c CAP].. [--no-new-privs]
       [--apparmor PROFILE] [-p|--process FILE] [--pid-file FILE] [--console-socket SOCKET]
       [--preserve-fds N] [--ignore-paused] [--cgroup PATH].. ID [PROGRAM ARGS..]
  list [-q|--quiet] [-f|--format table|json]
  pause ID | resume ID
  ps [-f|--format table|json] ID
  update -r|--resources FILE|- ID
  update [--memory BYTES] [--memory-reservation BYTES] [--memory-swap BYTES] [--pids-limit N]
         [--cpu-period US] [--cpu-quota US] [--cpu-burst US] [--cpu-share N] [--cpu-idle 0|1]
         [--cpu-rt-period US] [--cpu-rt-runtime US] [--cpuset-cpus LIST] [--cpuset-mems LIST]
         [--blkio-weight N] ID
  events [--stats] [--interval 5s] ID
  features
";

/// Parses the words after the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, Error> {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| Error::NotText { word }))
        .collect::<Result<_, _>>()?;
    let mut words = Words { words: words.into_iter(), command: "kitc".to_owned() };
    let mut root = None;
    let mut log = None;
    let mut format = LogFormat::Text;
    let name = loop {
        match words.next() {
            None => return Err(Error::NoCommand),
            Some(Word::Plain(name)) => break name,
            Some(Word::Option { name, value }) => match name.as_str() {
                "--root" => root = Some(PathBuf::from(words.value(&name, value)?)),
                "--log" => log = Some(PathBuf::from(words.value(&name, value)?)),
                "--log-format" => {
                    format = match words.value(&name, value)?.as_str() {
                        "text" => LogFormat::Text,
                        "json" => LogFormat::Json,
                        other => return Err(words.bad_value(&name, other)),
                    }
                }
                // Without meaning here, but drivers pass them.
                "--debug" => {}
                "--rootless" | "--criu" | "--cgroup-manager" if value.is_some() => {}
                "--rootless" | "--criu" => drop(words.value(&name, value)?),
                "--systemd-cgroup" if value.as_deref() == Some("false") => {}
                "--systemd-cgroup" => return Err(Error::Unsupported { option: "--systemd-cgroup" }),
                "--version" | "-v" => break "version".to_owned(),
                "--help" | "-h" => break "help".to_owned(),
                _ => return Err(words.no_such_option(name)),
            },
        }
    };
    let root = root.unwrap_or_else(default_root);
    words.command.clone_from(&name);
    let command = match name.as_str() {
        "create" | "run" => words.launch(&root, name == "run")?,
        "start" => Command::Start { id: words.only_id()? },
        "state" => Command::State { id: words.only_id()? },
        "kill" => words.kill()?,
        "delete" => words.delete()?,
        "exec" => words.exec(&root)?,
        "list" => words.list()?,
        "pause" | "resume" => Command::Pause { id: words.only_id()?, paused: name == "pause" },
        "ps" => words.ps()?,
        "update" => words.update()?,
        "events" => words.events()?,
        "features" => Command::Features,
        "version" => Command::Version,
        "help" => Command::Help,
        _ => return Err(Error::NoSuchCommand { name }),
    };
    Ok(Invocation { root, log: log.map(|path| Log { path, format }), command })
}

fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/kitc");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => PathBuf::from(dir).join("kitc"),
        None => std::env::temp_dir().join("kitc"),
    }
}

enum Word {
    Option { name: String, value: Option<String> },
    Plain(String),
}

struct Words {
    words: std::vec::IntoIter<String>,
    command: String,
}

impl Words {
    fn next(&mut self) -> Option<Word> {
        let word = self.words.next()?;
        if word == "--" {
            return self.words.next().map(Word::Plain);
        }
        if !word.starts_with('-') || word == "-" {
            return Some(Word::Plain(word));
        }
        Some(match word.split_once('=') {
            Some((name, value)) => Word::Option { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Word::Option { name: word, value: None },
        })
    }

    /// The value of an option, from behind its `=` or from the next word.
    fn value(&mut self, name: &str, value: Option<String>) -> Result<String, Error> {
        value
            .or_else(|| self.words.next())
            .ok_or_else(|| Error::NoValue { command: self.command.clone(), option: name.to_owned() })
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, value: Option<String>) -> Result<T, Error> {
        let text = self.value(name, value)?;
        text.parse().map_err(|_| self.bad_value(name, &text))
    }

    fn bad_value(&self, name: &str, value: &str) -> Error {
        Error::BadValue { command: self.command.clone(), option: name.to_owned(), value: value.to_owned() }
    }

    fn no_such_option(&self, option: String) -> Error {
        Error::NoSuchOption { command: self.command.clone(), option }
    }

    fn missing(&self, what: &'static str) -> Error {
        Error::Missing { command: self.command.clone(), what }
    }

    fn too_much(&self, word: String) -> Error {
        Error::TooMuch { command: self.command.clone(), word }
    }

    /// Reads the words of a command that takes flags without values and one or two plain words.
    fn plain(&mut self, flags: &mut [(&[&str], &mut bool)]) -> Result<(String, Option<String>), Error> {
        let mut plain = Vec::new();
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) if plain.len() < 2 => plain.push(word),
                Word::Plain(word) => return Err(self.too_much(word)),
                Word::Option { name, value } => {
                    let found = flags.iter_mut().find(|(names, _)| names.contains(&name.as_str()));
                    let (_, flag) = found.ok_or_else(|| self.no_such_option(name))?;
                    **flag = value.as_deref() != Some("false");
                }
            }
        }
        let mut plain = plain.into_iter();
        let id = plain.next().ok_or_else(|| self.missing("the container's id"))?;
        Ok((id, plain.next()))
    }

    fn only_id(&mut self) -> Result<String, Error> {
        match self.plain(&mut [])? {
            (id, None) => Ok(id),
            (_, Some(word)) => Err(self.too_much(word)),
        }
    }

    fn kill(&mut self) -> Result<Command, Error> {
        let mut all = false;
        let (id, signal) = self.plain(&mut [(&["-a", "--all"], &mut all)])?;
        Ok(Command::Kill { id, signal: signal.unwrap_or_else(|| "TERM".to_owned()), all })
    }

    fn delete(&mut self) -> Result<Command, Error> {
        let mut force = false;
        match self.plain(&mut [(&["-f", "--force"], &mut force)])? {
            (id, None) => Ok(Command::Delete { id, force }),
            (_, Some(word)) => Err(self.too_much(word)),
        }
    }

    fn launch(&mut self, root: &std::path::Path, run: bool) -> Result<Command, Error> {
        let mut request = launch::Request {
            root: root.to_owned(),
            id: String::new(),
            bundle: PathBuf::from("."),
            pid_file: None,
            console_socket: None,
            preserve_fds: 0,
            new_keyring: true,
        };
        let (mut detach, mut keep) = (false, false);
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) if request.id.is_empty() => request.id = word,
                Word::Plain(word) => return Err(self.too_much(word)),
                Word::Option { name, value } => match name.as_str() {
                    "-b" | "--bundle" => request.bundle = self.value(&name, value)?.into(),
                    "--pid-file" => request.pid_file = Some(self.value(&name, value)?.into()),
                    "--console-socket" => {
                        request.console_socket = Some(self.value(&name, value)?.into());
                    }
                    "--preserve-fds" => request.preserve_fds = self.number(&name, value)?,
                    "--no-new-keyring" => request.new_keyring = false,
                    // The root is always pivoted to; where that is impossible the error says so.
                    "--no-pivot" => {}
                    "-d" | "--detach" if run => detach = true,
                    "--keep" if run => keep = true,
                    "--rm" if run => keep = false,
                    "--no-subreaper" if run => {}
                    _ => return Err(self.no_such_option(name)),
                },
            }
        }
        if request.id.is_empty() {
            return Err(self.missing("the container's id"));
        }
        Ok(if run { Command::Run { request, detach, keep } } else { Command::Create(request) })
    }

    fn exec(&mut self, root: &std::path::Path) -> Result<Command, Error> {
        let mut request = exec::Request { root: root.to_owned(), ..exec::Request::default() };
        loop {
            match self.next() {
                None => return Err(self.missing("the container's id")),
                Some(Word::Plain(id)) => {
                    request.id = id;
                    break;
                }
                Some(Word::Option { name, value }) => self.exec_option(&mut request, name, value)?,
            }
        }
        // What follows is the program's, dashes and all.
        let mut args: Vec<String> = self.words.by_ref().collect();
        if args.first().is_some_and(|word| word == "--") {
            args.remove(0);
        }
        match (&request.process, args.is_empty()) {
            (None, true) => return Err(self.missing("the program, or --process,")),
            (Some(_), false) => return Err(self.too_much(args.swap_remove(0))),
            _ => {}
        }
        request.changes.args = args;
        Ok(Command::Exec(request))
    }

    fn exec_option(
        &mut self,
        request: &mut exec::Request,
        name: String,
        value: Option<String>,
    ) -> Result<(), Error> {
        let changes: &mut Changes = &mut request.changes;
        match name.as_str() {
            "-p" | "--process" => request.process = Some(self.value(&name, value)?.into()),
            "-d" | "--detach" => request.detach = true,
            "-t" | "--tty" => changes.tty = value.as_deref() != Some("false"),
            "-e" | "--env" => changes.env.push(self.value(&name, value)?),
            "--cwd" => changes.cwd = Some(self.value(&name, value)?.into()),
            "-u" | "--user" => changes.user = Some(self.value(&name, value)?),
            "-g" | "--additional-gids" => changes.additional_gids.push(self.number(&name, value)?),
            "-c" | "--cap" => changes.capabilities.push(self.value(&name, value)?),
            "--no-new-privs" => changes.no_new_privileges = true,
            "--apparmor" => changes.apparmor = Some(self.value(&name, value)?),
            "--pid-file" => request.pid_file = Some(self.value(&name, value)?.into()),
            "--console-socket" => request.console_socket = Some(self.value(&name, value)?.into()),
            "--preserve-fds" => request.preserve_fds = self.number(&name, value)?,
            "--ignore-paused" => request.ignore_paused = true,
            "--cgroup" => request.cgroups.push(self.value(&name, value)?),
            "--no-subreaper" => {}
            _ => return Err(self.no_such_option(name)),
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Command, Error> {
        let mut format = ListFormat::Table;
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) => return Err(self.too_much(word)),
                Word::Option { name, value } => match name.as_str() {
                    "-q" | "--quiet" => format = ListFormat::Names,
                    "-f" | "--format" => {
                        format = match self.value(&name, value)?.as_str() {
                            "table" => ListFormat::Table,
                            "json" => ListFormat::Json,
                            other => return Err(self.bad_value(&name, other)),
                        }
                    }
                    _ => return Err(self.no_such_option(name)),
                },
            }
        }
        Ok(Command::List { format })
    }

    fn ps(&mut self) -> Result<Command, Error> {
        let (mut id, mut json) = (None, false);
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) if id.is_none() => id = Some(word),
                // Options of ps(1) that other runtimes pass on.
                Word::Plain(_) => {}
                Word::Option { name, value } => match name.as_str() {
                    "-f" | "--format" => json = self.value(&name, value)? == "json",
                    _ => return Err(self.no_such_option(name)),
                },
            }
        }
        Ok(Command::Ps { id: id.ok_or_else(|| self.missing("the container's id"))?, json })
    }
}

#[cfg(test)]
mod tests;
