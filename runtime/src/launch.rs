//! Making a container, as `kitc` sees it: `create` up to the point where it waits for start, `run` up
//! to the exec of its program.
//!
//! ```text
//! read and check the bundle          nothing is made yet
//! directory under --root             the name is taken; from here on a failure undoes everything
//! cgroup, with its limits
//! namespaces to join, trees to show  opened here, where the host's paths mean something
//! clone3                             -> crate::init in the container's process
//! id maps, limits, version 1 cgroups -> Go
//! hooks of the runtime's namespace   -> Go
//! Ready                              state.json, pid file
//! ```

use crate::bundle::{self, Bundle};
use crate::cgroup::{self, Cgroup};
use crate::channel::{Channel, Message, Outcome};
use crate::console;
use crate::hook;
use crate::init::{self, Inside};
use crate::mount::{self, options, trees};
use crate::namespace::{self, Plan};
use crate::notify;
use crate::process::{self, Prepared};
use crate::report::{self, Remote};
use crate::seccomp::{self, Filter};
use crate::state::{self, Record, StateDir, Status};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::signal;
use oci_spec::runtime::{Hooks, LinuxNamespaceType};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is to be made, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The directory of all containers.
    pub root: PathBuf,
    /// The new container's name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Where the process id is written, once the container is there.
    pub pid_file: Option<PathBuf>,
    /// The socket to which a terminal's master is sent.
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// The container gets a session keyring of its own.
    pub new_keyring: bool,
}

/// How far the container is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It waits for `kitc start`.
    Created,
    /// Its program runs, and `kitc` goes.
    Detached,
    /// Its program runs, and `kitc` stays with it.
    Foreground,
}

/// A container that was made.
#[derive(Debug)]
pub struct Launched {
    /// Its first process.
    pub pidfd: OwnedFd,
    /// Its directory.
    pub dir: StateDir,
    /// Its state.
    pub record: Record,
    /// The master of its terminal, where `kitc` itself is to copy.
    pub console: Option<OwnedFd>,
}

/// Why a container could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle is of no use.
    #[error("bundle {}", path.display())]
    Bundle {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: bundle::Error,
    },
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Namespaces.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// Mounts that are prepared on the host's side.
    #[error(transparent)]
    Mount(#[from] mount::Error),
    /// Trees that are cloned on the host's side.
    #[error(transparent)]
    Trees(#[from] trees::Error),
    /// The process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// The terminal.
    #[error(transparent)]
    Console(#[from] console::Error),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] hook::Error),
    /// The seccomp listener.
    #[error(transparent)]
    Notify(#[from] notify::Error),
    /// A file of the caller cannot be written.
    #[error("{option}: write {}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A call that has nothing to do with the configuration failed.
    #[error("{doing}")]
    Call {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The container's process says what went wrong.
    #[error("in the container's process")]
    Child {
        /// What it said.
        source: Remote,
    },
    /// The container's process ended without a word.
    #[error("the container's process ended before its program ran ({how})")]
    Died {
        /// How.
        how: String,
    },
}

fn call(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Call { doing, source }
}

/// Makes a container.
pub fn launch(request: &Request, until: Until) -> Result<Launched, Error> {
    let bundle = Bundle::load(&request.bundle)
        .map_err(|source| Error::Bundle { path: request.bundle.clone(), source })?;
    let linux = bundle.linux().map_err(|source| of_bundle(request, source))?;
    let process = bundle.process().map_err(|source| of_bundle(request, source))?;
    check_terminal(process.terminal() == Some(true), request.console_socket.is_some(), until)?;
    let filter = linux.seccomp().as_ref().map(Filter::new).transpose()?;
    let size = (until == Until::Foreground).then(console::own_size).flatten();
    let prepared = Prepared::new(process, filter.as_ref())?.with_terminal_size(size);
    let plan = Plan::open(linux)?;
    let mounts = options::parse_all(bundle.spec.mounts().as_deref().unwrap_or_default())
        .map_err(mount::Error::from)?;

    let dir = StateDir::create(&request.root, &request.id)?;
    let mut undo = Undo::of(&dir);
    dir.write_config(&bundle.text)?;
    let cgroup = Cgroup::create(&request.id, linux.cgroups_path().as_deref(), linux.resources().as_ref())?;
    let record = first_record(request, &bundle, cgroup.place());
    let cgroup = undo.cgroup.insert(cgroup);
    let trees = trees::prepare(linux, &mounts, &plan)?;
    let console_socket = request.console_socket.as_deref().map(console::connect).transpose()?;
    let start = (until == Until::Created).then(|| listen(&dir.start_socket())).transpose()?;
    let (ours, theirs) = Channel::pair().map_err(call("make a socket pair"))?;

    let inside = Inside {
        bundle: &bundle,
        linux,
        plan: &plan,
        prepared,
        record,
        channel: theirs,
        start,
        mounts: &mounts,
        trees,
        waits: plan.has_user() || cgroup.has_v1(),
        preserve_fds: request.preserve_fds,
        new_keyring: request.new_keyring,
    };
    let waits = inside.waits;
    let (mut record, pid, pidfd, ours) = spawn(inside, cgroup, ours)?;
    undo.child = Some(pidfd.try_clone().map_err(call("keep the process's descriptor"))?);
    record.pid = pid.as_raw_nonzero().get();
    record.start_time = state::life(record.pid)
        .and_then(|life| life.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(call("read the start time of the container's process"))?
        .start_time;
    dir.write(&record)?;
    if waits {
        set_up_from_outside(&bundle, &plan, cgroup, pid).map_err(|e| or_childs_own(e, &ours, &pidfd))?;
        // Where nobody hears it there is an error to be heard next.
        let _ = ours.send_go();
    }
    let outcome = converse(&ours, &pidfd, &bundle, &record, filter.as_ref(), until);
    let console = outcome.inspect_err(|_| after_failure(&bundle, &record))?;
    let console = hand_over(console_socket.as_ref(), console)?;
    record.status = if until == Until::Created { Status::Created } else { Status::Running };
    dir.write(&record)?;
    if let Some(path) = &request.pid_file {
        write_pid_file(path, record.pid)?;
    }
    undo.disarm();
    Ok(Launched { pidfd, dir, record, console })
}

fn of_bundle(request: &Request, source: bundle::Error) -> Error {
    Error::Bundle { path: request.bundle.clone(), source }
}

/// Whether the way a terminal is asked for fits the way the container is run.
pub fn check_terminal(terminal: bool, socket: bool, until: Until) -> Result<(), console::Error> {
    match (terminal, socket, until) {
        (false, true, _) => {
            Err(console::Error::Mode("--console-socket is given, but process.terminal is not true"))
        }
        (true, false, Until::Created | Until::Detached) => Err(console::Error::Mode(
            "process.terminal is true: without a --console-socket nobody would have the terminal",
        )),
        _ => Ok(()),
    }
}

/// Sends a terminal's master to the caller's socket where there is one; else gives it back.
pub fn hand_over(socket: Option<&OwnedFd>, console: Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
    match (socket, console) {
        (Some(socket), Some(master)) => {
            console::hand_over(socket, &master)?;
            Ok(None)
        }
        (_, console) => Ok(console),
    }
}

/// Writes the process id beside and puts it in place, so that nobody reads half of it.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, pid.to_string())
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| Error::File { option: "--pid-file", path: path.to_owned(), source })
}

fn first_record(request: &Request, bundle: &Bundle, place: &cgroup::Place) -> Record {
    let hooks = |list: fn(&Hooks) -> &Option<Vec<oci_spec::runtime::Hook>>| {
        bundle.spec.hooks().as_ref().is_some_and(|h| list(h).as_ref().is_some_and(|l| !l.is_empty()))
    };
    let annotations: BTreeMap<String, String> =
        bundle.spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Record {
        oci_version: bundle.spec.version().clone(),
        id: request.id.clone(),
        status: Status::Creating,
        pid: 0,
        start_time: 0,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: SystemTime::now(),
        owner: rustix::process::geteuid().as_raw(),
        annotations,
        cgroup: place.clone(),
        namespaces: bundle.spec.linux().as_ref().map(namespace::kinds).unwrap_or_default(),
        ends_all: bundle.spec.linux().as_ref().is_some_and(namespace::has_own_pids),
        poststart: hooks(Hooks::poststart),
        poststop: hooks(Hooks::poststop),
    }
}

/// Makes the socket on which a created container waits. Its path may be longer than an address can
/// be, so it is named by way of its directory's descriptor.
fn listen(path: &Path) -> Result<OwnedFd, Error> {
    let fail = |e: rustix::io::Errno| call("make the start socket")(e.into());
    let address = short_address(path).map_err(fail)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(fail)?;
    rustix::net::bind(&socket, &address.1).map_err(fail)?;
    rustix::net::listen(&socket, 1).map_err(fail)?;
    Ok(socket)
}

/// The address of a socket in a directory with a long path, and the descriptor that it needs.
pub fn short_address(path: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let parent = path.parent().unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(path.file_name().unwrap_or_default());
    let address = SocketAddrUnix::new(short)?;
    Ok((dir, address))
}

/// Makes the container's process, which continues in [`init::run`].
fn spawn(
    inside: Inside<'_>,
    cgroup: &Cgroup,
    ours: Channel,
) -> Result<(Record, Pid, OwnedFd, Channel), Error> {
    let plan = inside.plan;
    let user_joined = plan.joins(LinuxNamespaceType::User);
    if !user_joined {
        plan.enter_before(inside.linux.time_offsets().as_ref())?;
    }
    let cloned =
        clone3(plan.clone_flags(), cgroup.clone_into()).map_err(call("make the container's process"))?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // Its own copy would keep it from noticing that kitc has gone.
            drop(ours);
            init::run(inside)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let record = inside.record.clone();
    // This side's copy would keep the connection open after the child has closed its own.
    drop(inside);
    if !user_joined {
        plan.leave_after()?;
        return Ok((record, pid, pidfd, ours));
    }
    // The first one only joins the user namespace and makes the one that counts.
    let message = ours.receive().map_err(call("hear from the container's process"))?;
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    match message {
        Message::Pid(pid) => {
            let pid = Pid::from_raw(pid).ok_or(Error::Died { how: "no process id".to_owned() })?;
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                .map_err(|e| call("open the container's process")(e.into()))?;
            Ok((record, pid, pidfd, ours))
        }
        Message::Error(chain) => Err(match Remote::from_chain(chain) {
            Some(source) => Error::Child { source },
            None => Error::Died { how: how_it_ended(&pidfd) },
        }),
        _ => Err(Error::Died { how: "while joining its user namespace".to_owned() }),
    }
}

/// What the container's process cannot do for itself.
fn set_up_from_outside(bundle: &Bundle, plan: &Plan, cgroup: &Cgroup, pid: Pid) -> Result<(), Error> {
    let raw = pid.as_raw_nonzero().get();
    cgroup.place().join(raw, false)?;
    let (Some(linux), Some(process)) = (bundle.spec.linux(), bundle.spec.process()) else { return Ok(()) };
    if plan.makes(LinuxNamespaceType::User) {
        let uids = linux.uid_mappings().as_deref().unwrap_or_default();
        namespace::write_id_maps(pid, uids, linux.gid_mappings().as_deref().unwrap_or_default())?;
    }
    if plan.has_user() && rustix::process::geteuid().is_root() {
        // Raising a limit, or lowering this score, takes rights in the first user namespace.
        process::set_rlimits(process, Some(pid))?;
        process::set_oom_score(process, &raw.to_string())?;
    }
    Ok(())
}

/// What cannot be done for a process that has failed by itself is not what has to be told.
fn or_childs_own(error: Error, ours: &Channel, pidfd: &OwnedFd) -> Error {
    let _ = signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    match ours.receive() {
        Ok(Message::Error(chain)) => {
            Remote::from_chain(chain).map_or(error, |source| Error::Child { source })
        }
        _ => error,
    }
}

/// Talks with the container's process until it is ready. Returns its terminal, if it has one.
fn converse(
    ours: &Channel,
    pidfd: &OwnedFd,
    bundle: &Bundle,
    record: &Record,
    filter: Option<&Filter>,
    until: Until,
) -> Result<Option<OwnedFd>, Error> {
    let mut console = None;
    let lost = call("hear from the container's process");
    let outcome = ours.follow(until == Until::Created, lost, |message| {
        match message {
            Message::Hooks => {
                run_outside_hooks(bundle, record)?;
                ours.send_go().map_err(call("let the container's process go on"))?;
            }
            Message::Console(master) => console = Some(master),
            Message::Notify(listener) => {
                if let Some(filter) = filter {
                    notify::send(filter, &record.oci(record.status), record.pid, &listener)?;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    match outcome {
        Outcome::Fine => Ok(console),
        Outcome::Failed(source) => Err(Error::Child { source }),
        Outcome::Died => Err(Error::Died { how: how_it_ended(pidfd) }),
    }
}

/// The hooks of the runtime's namespace, while the container is being made.
fn run_outside_hooks(bundle: &Bundle, record: &Record) -> Result<(), Error> {
    let state = record.oci(Status::Creating);
    let Some(hooks) = bundle.spec.hooks() else { return Ok(()) };
    #[allow(deprecated)] // Still part of the specification.
    let prestart = hooks.prestart().as_deref().unwrap_or_default();
    hook::run_all("prestart", prestart, &state)?;
    Ok(hook::run_all("createRuntime", hooks.create_runtime().as_deref().unwrap_or_default(), &state)?)
}

/// How the process behind `pidfd`, a child of this one, ended.
pub fn how_it_ended(pidfd: &OwnedFd) -> String {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("code {code}"),
            (None, Some(number)) => format!("signal {number}"),
            (None, None) => "unknown".to_owned(),
        },
        _ => "unknown".to_owned(),
    }
}

/// A container that failed while it was being made is stopped and deleted: poststop hooks run.
fn after_failure(bundle: &Bundle, record: &Record) {
    let hooks = bundle.spec.hooks().as_ref().and_then(|h| h.poststop().as_deref()).unwrap_or_default();
    for error in hook::run_each("poststop", hooks, &record.oci(Status::Stopped)) {
        report::warn("after the failure", &error);
    }
}

/// Takes back what a failed launch has made, in the opposite order.
struct Undo {
    dir: Option<StateDir>,
    cgroup: Option<Cgroup>,
    child: Option<OwnedFd>,
}

impl Undo {
    fn of(dir: &StateDir) -> Undo {
        Undo { dir: Some(dir.clone()), cgroup: None, child: None }
    }

    fn disarm(mut self) {
        self.dir = None;
        self.cgroup = None;
        self.child = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(pidfd) = self.child.take() {
            let _ = signal::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
        if let Some(mut cgroup) = self.cgroup.take() {
            cgroup.undo();
        }
        if let Some(dir) = self.dir.take() {
            let _ = dir.remove();
        }
    }
}
