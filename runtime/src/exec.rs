//! `kitc exec`: another process in a container that runs.
//!
//! The process is made in the container's cgroup and pid namespace, joins its other namespaces in one
//! call, and then goes the same way to its program as the first process did.

use crate::bundle;
use crate::channel::{Channel, Message, Outcome};
use crate::console;
use crate::init::become_root_of_namespace;
use crate::kill::open_process;
use crate::launch::{self, Until, check_terminal};
use crate::namespace;
use crate::notify;
use crate::process::{self, Last, Prepared};
use crate::report::{self, Remote};
use crate::seccomp::{self, Filter};
use crate::state::{self, Record, StateDir, Status};
use crate::sys;
use crate::sys::clone::{Cloned, clone3, exit_now, join_session_keyring};
use crate::sys::signal;
use oci_spec::runtime::{Capability, Linux, LinuxCapabilities, LinuxNamespaceType, Process, User};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is to be run, where and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The directory of all containers.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// A file with `process` of the specification; else that of the container with changes.
    pub process: Option<PathBuf>,
    /// The changes.
    pub changes: Changes,
    /// `kitc` goes as soon as the program runs.
    pub detach: bool,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// The socket to which a terminal's master is sent.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// Also in a paused container.
    pub ignore_paused: bool,
    /// Cgroups below the container's to make the process in, as `[CONTROLLER,..:]PATH`.
    pub cgroups: Vec<String>,
}

/// How the process differs from the container's first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// More variables for its environment.
    pub env: Vec<String>,
    /// Another working directory.
    pub cwd: Option<PathBuf>,
    /// Another user, as `UID` or `UID:GID`.
    pub user: Option<String>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// More capabilities.
    pub capabilities: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// It cannot gain privileges.
    pub no_new_privileges: bool,
    /// Another AppArmor profile.
    pub apparmor: Option<String>,
}

/// A process that was made.
#[derive(Debug)]
pub struct Entered {
    /// The process.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where `kitc` itself is to copy.
    pub console: Option<OwnedFd>,
}

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// It cannot be entered.
    #[error("container {id} is {}", status.word())]
    Status {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// The process or the configuration.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// An option's value is none that it can have.
    #[error("{option}: {value:?} is not {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// As given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The process file cannot be read.
    #[error("--process: read {}", path.display())]
    ProcessFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What goes into the process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The seccomp listener.
    #[error(transparent)]
    Notify(#[from] notify::Error),
    /// The terminal.
    #[error(transparent)]
    Console(#[from] console::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// The pid file.
    #[error(transparent)]
    Launch(#[from] launch::Error),
    /// A call that has nothing to do with the configuration failed.
    #[error("{doing}")]
    Call {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The new process says what went wrong.
    #[error("in container {id}")]
    Child {
        /// The container.
        id: String,
        /// What it said.
        source: Remote,
    },
    /// The new process ended without a word.
    #[error("the process in container {id} ended before its program ran ({how})")]
    Died {
        /// The container.
        id: String,
        /// How.
        how: String,
    },
}

fn call<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Call { doing, source: source.into() }
}

/// Runs a process in a container.
pub fn exec(request: &Request) -> Result<Entered, Error> {
    let dir = StateDir::open(&request.root, &request.id)?;
    let refuse = |status| Error::Status { id: request.id.clone(), status };
    let mut record = dir.read()?.ok_or(refuse(Status::Creating))?;
    match record.status_now() {
        Status::Created | Status::Running => {}
        Status::Paused if request.ignore_paused => {}
        status => return Err(refuse(status)),
    }
    for word in &request.cgroups {
        record.cgroup = record.cgroup.below(word)?;
    }
    let (spec, _) = bundle::read_spec(&dir.config())?;
    let linux = spec.linux().as_ref().ok_or(bundle::Error::Missing { key: "linux" })?;
    let process = match &request.process {
        Some(path) => read_process(path)?,
        None => {
            let first = spec.process().clone().ok_or(bundle::Error::Missing { key: "process" })?;
            changed(first, &request.changes)?
        }
    };
    bundle::check_process(&process)?;
    let until = if request.detach { Until::Detached } else { Until::Foreground };
    check_terminal(process.terminal() == Some(true), request.console_socket.is_some(), until)?;
    let filter = linux.seccomp().as_ref().map(Filter::new).transpose()?;
    let size = (until == Until::Foreground).then(console::own_size).flatten();
    let prepared = Prepared::new(&process, filter.as_ref())?.with_terminal_size(size);
    let init = open_process(&record)
        .map_err(call::<io::Error>("open the container's process"))?
        .ok_or_else(|| refuse(Status::Stopped))?;
    let socket = request.console_socket.as_deref().map(console::connect).transpose()?;

    let (pid, pidfd, ours) = spawn(request, &record, linux, &init, prepared)?;
    let result = accompany(request, &record, filter.as_ref(), (pid, &pidfd), &ours)
        .and_then(|console| launch::hand_over(socket.as_ref(), console).map_err(Error::from))
        .and_then(|console| {
            if let Some(path) = &request.pid_file {
                launch::write_pid_file(path, pid.as_raw_nonzero().get())?;
            }
            Ok(console)
        });
    match result {
        Ok(console) => Ok(Entered { pidfd, console }),
        Err(error) => {
            let _ = signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            Err(error)
        }
    }
}

fn read_process(path: &Path) -> Result<Process, Error> {
    let text = fs::read(path).map_err(|source| Error::ProcessFile { path: path.to_owned(), source })?;
    Ok(serde_json::from_slice(&text)
        .map_err(|source| bundle::Error::Parse { path: path.to_owned(), source })?)
}

/// The container's own process with the changes that options ask for.
fn changed(mut process: Process, changes: &Changes) -> Result<Process, Error> {
    process.set_args(Some(changes.args.clone()));
    process.set_terminal(Some(changes.tty));
    if !changes.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(changes.env.iter().cloned());
        process.set_env(Some(env));
    }
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(user) = &changes.user {
        process.set_user(parse_user(user, process.user())?);
    }
    if !changes.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&changes.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if !changes.capabilities.is_empty() {
        let sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
        process.set_capabilities(Some(with_capabilities(sets, &changes.capabilities)?));
    }
    if changes.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &changes.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    Ok(process)
}

fn parse_user(text: &str, old: &User) -> Result<User, Error> {
    let bad =
        || Error::Option { option: "--user", value: text.to_owned(), expected: "UID or UID:GID, in numbers" };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    let mut user = old.clone();
    user.set_uid(uid.parse().map_err(|_| bad())?);
    if !gid.is_empty() {
        user.set_gid(gid.parse().map_err(|_| bad())?);
    }
    Ok(user)
}

fn no_capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_inheritable(None).set_permitted(None).set_ambient(None);
    sets
}

fn with_capabilities(mut sets: LinuxCapabilities, names: &[String]) -> Result<LinuxCapabilities, Error> {
    let more: Vec<Capability> = names
        .iter()
        .map(|name| {
            serde_json::from_value(serde_json::Value::from(name.as_str())).map_err(|_| Error::Option {
                option: "--cap",
                value: name.clone(),
                expected: "the name of a capability",
            })
        })
        .collect::<Result<_, _>>()?;
    let with = |old: &Option<oci_spec::runtime::Capabilities>| {
        let mut set = old.clone().unwrap_or_default();
        set.extend(&more);
        Some(set)
    };
    let (bounding, effective, permitted) =
        (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(sets)
}

/// Makes the process, in the container's cgroup and pid namespace.
fn spawn(
    request: &Request,
    record: &Record,
    linux: &Linux,
    init: &OwnedFd,
    prepared: Prepared<'_>,
) -> Result<(Pid, OwnedFd, Channel), Error> {
    let (ours, theirs) = Channel::pair().map_err(call("make a socket pair"))?;
    let twice = enters_twice(record);
    if record.namespaces.contains(&LinuxNamespaceType::Pid) && !twice {
        namespace::join_all(init, [LinuxNamespaceType::Pid].into_iter())
            .map_err(call("join the container's pid namespace"))?;
    }
    let (pid, pidfd) = match clone_into_cgroup(record, request.cgroups.is_empty())? {
        Cloned::Child => {
            drop(ours);
            let rlimits_done = has_user(record);
            run(Inside { request, record, linux, init, prepared, channel: theirs, rlimits_done })
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    if !twice {
        set_up_from_outside(record, prepared.process(), pid)?;
        if waits(record) {
            // Where nobody hears it there is an error to be heard next.
            let _ = ours.send_go();
        }
        return Ok((pid, pidfd, ours));
    }
    let message = ours.receive().map_err(call("hear from the process"))?;
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    let died = |how: &str| Error::Died { id: request.id.clone(), how: how.to_owned() };
    match message {
        Message::Pid(pid) => {
            let pid = Pid::from_raw(pid).ok_or_else(|| died("without a process id"))?;
            let pidfd =
                rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(call("open the process"))?;
            Ok((pid, pidfd, ours))
        }
        Message::Error(chain) => Err(match Remote::from_chain(chain) {
            Some(source) => Error::Child { id: request.id.clone(), source },
            None => died("with an empty message"),
        }),
        _ => Err(died("while joining its namespaces")),
    }
}

/// An ordinary user may join a pid namespace only from inside the user namespace that owns it: a first
/// process joins that, and makes a second one.
fn enters_twice(record: &Record) -> bool {
    has_user(record) && !rustix::process::geteuid().is_root()
}

/// What the process cannot do for itself.
fn set_up_from_outside(record: &Record, process: &Process, pid: Pid) -> Result<(), Error> {
    let raw = pid.as_raw_nonzero().get();
    record.cgroup.join(raw, false)?;
    if has_user(record) {
        process::set_rlimits(process, Some(pid))?;
        process::set_oom_score(process, &raw.to_string())?;
    }
    Ok(())
}

fn clone_into_cgroup(record: &Record, anywhere: bool) -> Result<Cloned, Error> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let failed = call("make a process in the container's cgroup");
    let Some(path) = &record.cgroup.v2 else { return clone3(0, None).map_err(failed) };
    let dir = open(path).map_err(call("open the container's cgroup"))?;
    match clone3(0, Some(dir.as_fd())) {
        // The container has put its processes into cgroups of its own, and its top takes none.
        Err(e) if anywhere && e.raw_os_error() == Some(libc::EBUSY) => {
            let text = fs::read_to_string(format!("/proc/{}/cgroup", record.pid))
                .map_err(call("read the cgroup of the container's process"))?;
            let below = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
            let root = crate::cgroup::v2_root().unwrap_or_default();
            let dir = open(&root.join(below)).map_err(call("open the container's cgroup"))?;
            clone3(0, Some(dir.as_fd())).map_err(failed)
        }
        result => result.map_err(failed),
    }
}

/// Follows the new process to its program. Returns its terminal, if it has one.
fn accompany(
    request: &Request,
    record: &Record,
    filter: Option<&Filter>,
    (pid, pidfd): (Pid, &OwnedFd),
    ours: &Channel,
) -> Result<Option<OwnedFd>, Error> {
    let raw = pid.as_raw_nonzero().get();
    let mut console = None;
    let outcome = ours.follow(false, call("hear from the process"), |message| {
        match message {
            Message::Console(master) => console = Some(master),
            Message::Notify(listener) => {
                if let Some(filter) = filter {
                    notify::send(filter, &record.oci(Status::Running), raw, &listener)?;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    match outcome {
        Outcome::Fine => Ok(console),
        Outcome::Failed(source) => Err(Error::Child { id: request.id.clone(), source }),
        Outcome::Died => Err(Error::Died { id: request.id.clone(), how: launch::how_it_ended(pidfd) }),
    }
}

fn has_user(record: &Record) -> bool {
    record.namespaces.contains(&LinuxNamespaceType::User)
}

fn waits(record: &Record) -> bool {
    (has_user(record) || !record.cgroup.v1.is_empty()) && !enters_twice(record)
}

/// What the new process needs.
struct Inside<'a> {
    request: &'a Request,
    record: &'a Record,
    linux: &'a Linux,
    init: &'a OwnedFd,
    prepared: Prepared<'a>,
    channel: Channel,
    rlimits_done: bool,
}

/// Runs the new process. Never returns to what the parent goes on to do.
fn run(inside: Inside<'_>) -> ! {
    let channel = inside.channel.duplicate();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| enter(inside)));
    let chain = match outcome {
        Ok(error) => report::chain(&*error),
        Err(_) => vec!["a defect in kitc: its container process panicked".to_owned()],
    };
    if let Ok(channel) = channel {
        let _ = channel.send_error(&chain);
    }
    exit_now(1)
}

/// Becomes the program; returns only why not.
fn enter(mut inside: Inside<'_>) -> Box<dyn StdError> {
    match enter_container(&mut inside) {
        Err(error) => error,
        Ok(()) => match become_user(&inside) {
            Err(error) => error,
            Ok(last) => last.exec(|fd| inside.channel.send_notify(fd.as_fd())).into(),
        },
    }
}

fn enter_container(inside: &mut Inside<'_>) -> Result<(), Box<dyn StdError>> {
    let twice = enters_twice(inside.record);
    if !has_user(inside.record) || twice {
        inside.prepared.set_oom_score()?;
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(call("hide the process"))?;
    rustix::process::setsid().map_err(call("make a session"))?;
    let _ = join_session_keyring();
    inside.prepared.open_early()?;
    if waits(inside.record) {
        match inside.channel.receive().map_err(call("wait for kitc"))? {
            Message::Go => {}
            _ => return Err("the other side went away".into()),
        }
    }
    let kinds = inside.record.namespaces.iter().copied();
    let kinds = kinds.filter(|&kind| twice || kind != LinuxNamespaceType::Pid);
    namespace::join_all(inside.init, kinds).map_err(call("join the container's namespaces"))?;
    if twice {
        let flags = libc::CLONE_PARENT as u64;
        if let Cloned::Parent { pid, .. } = clone3(flags, None).map_err(call("make the second process"))? {
            let _ = inside.channel.send_pid(pid.as_raw_nonzero().get());
            exit_now(0);
        }
        inside.rlimits_done = false;
        rustix::process::setsid().map_err(call("make a session"))?;
    }
    if has_user(inside.record) {
        become_root_of_namespace()?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(call("hide the process"))?;
    }
    Ok(())
}

fn become_user<'a>(inside: &'a Inside<'_>) -> Result<Last<'a>, Box<dyn StdError>> {
    if let Some(size) = inside.prepared.terminal() {
        let terminal = console::open_in_container(size, false)?;
        console::adopt(&terminal.slave)?;
        inside.channel.send_console(terminal.master.as_fd()).map_err(call("send the terminal"))?;
    }
    inside.prepared.limit(inside.rlimits_done, inside.linux)?;
    sys::exec::close_on_exec_from(3 + inside.request.preserve_fds).map_err(call("mark descriptors"))?;
    for number in 3..3 + inside.request.preserve_fds as i32 {
        sys::exec::keep_on_exec(number).map_err(call("keep a descriptor (--preserve-fds)"))?;
    }
    let last = inside.prepared.become_user()?;
    inside.channel.send_ready().map_err(call("say that all is ready"))?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Process {
        serde_json::from_str(
            r#"{"user":{"uid":1,"gid":2},"args":["a"],"env":["A=1"],"cwd":"/","terminal":true,
                "capabilities":{"bounding":["CAP_KILL"]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn options_change_the_containers_own_process() {
        let changes = Changes {
            args: vec!["b".into()],
            env: vec!["B=2".into()],
            cwd: Some("/tmp".into()),
            user: Some("7".into()),
            additional_gids: vec![9],
            capabilities: vec!["CAP_CHOWN".into()],
            ..Changes::default()
        };
        let process = changed(first(), &changes).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["b".to_owned()][..]));
        assert_eq!(process.env().as_deref(), Some(&["A=1".to_owned(), "B=2".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 2));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[9][..]));
        assert_eq!(process.terminal(), Some(false));
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 2);
        assert_eq!(sets.permitted().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn a_user_is_given_in_numbers() {
        assert!(parse_user("1:2", first().user()).is_ok());
        for bad in ["", "root", "1:x", "-1", ":5"] {
            assert!(parse_user(bad, first().user()).is_err(), "{bad}");
        }
    }
}
