//! The container's first process, from `clone3` until it becomes the configured program.
//!
//! ```text
//! session, keyring; join namespaces; wait for id maps
//! host name, loopback, kernel settings
//! root: its own mount, then mounts, devices, links         paths of the host still work here
//! hooks: prestart, createRuntime (kitc), createContainer (here)
//! enter the root; terminal; masked and read-only paths
//! limits; user, groups, capabilities
//! wait for start (create) | go on (run);  hooks: startContainer
//! filter; exec
//! ```
//!
//! It is a copy of a single-threaded process, so it may allocate. Whatever fails is sent to the
//! parent as a chain of messages, and the process ends.

use crate::bundle::Bundle;
use crate::channel::{Channel, Message};
use crate::namespace::Plan;
use crate::process::{Last, Prepared};
use crate::state::{Record, Status};
use crate::sys::clone::{Cloned, clone3, exit_now, join_session_keyring};
use crate::{console, device, hook, mount, report, rootfs, sys};
use oci_spec::runtime::{Hook, Hooks, Linux, LinuxNamespaceType};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::DumpableBehavior;
use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Everything that the process needs, prepared by its parent.
pub struct Inside<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// `linux` of its configuration.
    pub linux: &'a Linux,
    /// The namespaces.
    pub plan: &'a Plan,
    /// The program to become.
    pub prepared: Prepared<'a>,
    /// The state, for hooks.
    pub record: Record,
    /// To the parent.
    pub channel: Channel,
    /// Where to wait for start; without one the program runs at once.
    pub start: Option<OwnedFd>,
    /// The mounts of its configuration, understood.
    pub mounts: &'a [mount::options::Plan<'a>],
    /// Trees cloned by the parent, by the mount's place in the list.
    pub trees: Vec<(usize, OwnedFd)>,
    /// Whether the parent has to do something before this process goes on.
    pub waits: bool,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// Whether to make a session keyring.
    pub new_keyring: bool,
}

/// What can go wrong inside, where no other module has a word for it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{doing}")]
    Call { doing: &'static str, source: io::Error },
    #[error("{key}: set {value:?}")]
    Set { key: String, value: String, source: io::Error },
    #[error("the other side went away")]
    Abandoned,
}

type Result<T> = std::result::Result<T, Box<dyn StdError>>;

fn call<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Call { doing, source: source.into() }
}

/// Runs the container's first process. Never returns to what the parent goes on to do.
pub fn run(inside: Inside<'_>) -> ! {
    let channel = inside.channel.duplicate();
    // Unwinding must not reach the parent's own clean-up, of which this process has a copy.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| enter(inside)));
    let chain = match outcome {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => report::chain(&*error),
        Err(_) => vec!["a defect in kitc: its container process panicked".to_owned()],
    };
    if let Ok(channel) = channel {
        let _ = channel.send_error(&chain);
    }
    exit_now(1)
}

/// There is no value of it: the process becomes another program, or fails.
enum Never {}

fn enter(mut inside: Inside<'_>) -> Result<Never> {
    // Nobody in the namespaces that are joined may look into this copy of kitc. But a caller that is not
    // root has to write to the process's files for a new user namespace first.
    if inside.record.owner == 0 || !inside.plan.makes(LinuxNamespaceType::User) {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(call("hide the process"))?;
    }
    rustix::process::setsid().map_err(call("make a session"))?;
    if inside.new_keyring {
        match join_session_keyring() {
            // A kernel without keys, or a filter that forbids them.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {}
            result => result.map_err(call("make a session keyring"))?,
        }
    }
    join_namespaces(&inside)?;
    set_up_system(&inside)?;
    inside.prepared.open_early()?;
    let hooks = inside.bundle.spec.hooks().clone().unwrap_or_default();
    let mut root = fill_root(&mut inside)?;
    run_create_hooks(&mut inside, &hooks)?;
    enter_root(&inside, &mut root)?;
    drop(root);
    let limited = inside.plan.has_user() && inside.record.owner == 0;
    inside.prepared.limit(limited, inside.linux)?;
    // The parent's descriptors are not for the program, but for those it was told to pass on.
    sys::exec::close_on_exec_from(3 + inside.preserve_fds).map_err(call("mark descriptors"))?;
    for number in 3..3 + inside.preserve_fds as i32 {
        sys::exec::keep_on_exec(number).map_err(call("keep a descriptor (--preserve-fds)"))?;
    }
    let last = inside.prepared.become_user()?;
    wait_and_exec(&inside, &hooks, &last)
}

fn join_namespaces(inside: &Inside<'_>) -> Result<()> {
    let plan = inside.plan;
    plan.join_early()?;
    if plan.joins(LinuxNamespaceType::User) {
        plan.join(LinuxNamespaceType::User)?;
        plan.enter_before(inside.linux.time_offsets().as_ref())?;
        let flags = plan.second_clone_flags().unwrap_or(0) | libc::CLONE_PARENT as u64;
        if let Cloned::Parent { pid, .. } = clone3(flags, None).map_err(call("make the second process"))? {
            let _ = inside.channel.send_pid(pid.as_raw_nonzero().get());
            exit_now(0);
        }
        rustix::process::setsid().map_err(call("make a session"))?;
    }
    if inside.waits {
        wait_for_go(&inside.channel)?;
    }
    if plan.has_user() {
        become_root_of_namespace()?;
        if inside.record.owner != 0 {
            inside.prepared.set_oom_score()?;
        }
        // Changing the user of a process undoes this.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(call("hide the process"))?;
    } else {
        inside.prepared.set_oom_score()?;
    }
    plan.join(LinuxNamespaceType::Mount)?;
    plan.make_late()?;
    Ok(())
}

/// Becomes user and group 0 of the user namespace that was made or joined.
pub fn become_root_of_namespace() -> Result<()> {
    use rustix::fs::{Gid, Uid};
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .map_err(call("become group 0 of the user namespace"))?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .map_err(call("become user 0 of the user namespace"))?;
    Ok(())
}

fn wait_for_go(channel: &Channel) -> Result<()> {
    match channel.receive().map_err(call("wait for kitc"))? {
        Message::Go => Ok(()),
        _ => Err(Error::Abandoned.into()),
    }
}

/// Names, the loopback device, kernel settings: what namespaces have of their own.
fn set_up_system(inside: &Inside<'_>) -> Result<()> {
    let spec = &inside.bundle.spec;
    if let Some(name) = spec.hostname() {
        rustix::system::sethostname(name.as_bytes()).map_err(|e| set("hostname", name, e))?;
    }
    if let Some(name) = spec.domainname() {
        rustix::system::setdomainname(name.as_bytes()).map_err(|e| set("domainname", name, e))?;
    }
    if inside.plan.makes(LinuxNamespaceType::Network) {
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .map_err(call("make a socket for the loopback device"))?;
        sys::net::loopback_up(socket.as_fd()).map_err(call("bring the loopback device up"))?;
    }
    let mut settings: Vec<_> = inside.linux.sysctl().iter().flatten().collect();
    settings.sort();
    for (name, value) in settings {
        // A name with slashes may have dots within its parts (interfaces with VLANs).
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        fs::write(format!("/proc/sys/{path}"), value)
            .map_err(|e| set(&format!("linux.sysctl[{name:?}]"), value, e))?;
    }
    Ok(())
}

fn set(key: &str, value: &str, source: impl Into<io::Error>) -> Error {
    Error::Set { key: key.to_owned(), value: value.to_owned(), source: source.into() }
}

/// Makes the root a mount of its own and fills it: mounts, devices, links.
fn fill_root(inside: &mut Inside<'_>) -> Result<OwnedFd> {
    // What is made here has the modes that it was asked for.
    rustix::process::umask(Mode::empty());
    let bundle = inside.bundle;
    let mut root = rootfs::prepare(&bundle.rootfs, inside.linux.rootfs_propagation().as_deref())?;
    let mut context = mount::Context {
        rootfs: &bundle.rootfs,
        cgroup: &inside.record.cgroup,
        cgroup_namespace: inside.plan.makes(LinuxNamespaceType::Cgroup),
        user_namespace: inside.plan.has_user(),
        trees: std::mem::take(&mut inside.trees),
    };
    mount::perform_all(&mut context, &mut root, inside.mounts)?;
    if !device::dev_is_shown(inside.mounts) {
        let root = root.as_fd();
        let nodes = device::nodes(inside.linux.devices().as_deref().unwrap_or_default())?;
        device::make_all(root, &nodes)?;
        device::link_all(root)?;
    }
    Ok(root)
}

fn run_create_hooks(inside: &mut Inside<'_>, hooks: &Hooks) -> Result<()> {
    #[allow(deprecated)] // Still part of the specification.
    let outside = !list(hooks.prestart()).is_empty() || !list(hooks.create_runtime()).is_empty();
    if outside {
        inside.channel.send_hooks().map_err(call("ask for hooks"))?;
        wait_for_go(&inside.channel)?;
    }
    if !list(hooks.create_container()).is_empty() || !list(hooks.start_container()).is_empty() {
        // Hooks are told the process id that kitc sees, which this process has not.
        let own = fs::read_link("/proc/self").map_err(call("read /proc/self"))?;
        inside.record.pid = own.to_str().and_then(|pid| pid.parse().ok()).unwrap_or_default();
        let state = inside.record.oci(Status::Creating);
        hook::run_all("createContainer", list(hooks.create_container()), &state)?;
    }
    Ok(())
}

fn list(hooks: &Option<Vec<Hook>>) -> &[Hook] {
    hooks.as_deref().unwrap_or_default()
}

/// Enters the root and closes it down.
fn enter_root(inside: &Inside<'_>, root: &mut OwnedFd) -> Result<()> {
    let path = &inside.bundle.rootfs;
    let propagation = inside.linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty());
    if inside.plan.makes(LinuxNamespaceType::Mount) {
        rootfs::enter(root, path, propagation.is_some())?;
    } else {
        rootfs::enter_shared(root, path)?;
    }
    if let Some(size) = inside.prepared.terminal() {
        let terminal = console::open_in_container(size, true)?;
        console::adopt(&terminal.slave)?;
        inside.channel.send_console(terminal.master.as_fd()).map_err(call("send the terminal"))?;
    }
    mount::close_all(root.as_fd(), inside.mounts)?;
    rootfs::make_paths_read_only(inside.linux.readonly_paths().as_deref().unwrap_or_default())?;
    rootfs::mask_paths(inside.linux.masked_paths().as_deref().unwrap_or_default())?;
    if inside.bundle.spec.root().as_ref().and_then(|r| r.readonly()) == Some(true) {
        rootfs::make_read_only()?;
    }
    if let Some(word) = propagation {
        rootfs::set_propagation(word)?;
    }
    Ok(())
}

/// The end: wait for start where there is a start to wait for, and become the program.
fn wait_and_exec(inside: &Inside<'_>, hooks: &Hooks, last: &Last<'_>) -> Result<Never> {
    let Some(listener) = &inside.start else {
        start_hooks(inside, hooks)?;
        inside.channel.send_ready().map_err(call("say that all is ready"))?;
        return Err(last.exec(|fd| inside.channel.send_notify(fd.as_fd())).into());
    };
    inside.channel.send_ready().map_err(call("say that all is ready"))?;
    let connection = loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            result => break result.map_err(call("wait for start"))?,
        }
    };
    let channel = Channel::from_socket(connection);
    let error = match start_hooks(inside, hooks) {
        Err(error) => error,
        Ok(()) => {
            // From here on end of file means success, as the exec closes the connection.
            channel.send_ready().map_err(call("say that all is ready"))?;
            last.exec(|fd| channel.send_notify(fd.as_fd())).into()
        }
    };
    let _ = channel.send_error(&report::chain(&*error));
    exit_now(1)
}

fn start_hooks(inside: &Inside<'_>, hooks: &Hooks) -> Result<()> {
    let state = inside.record.oci(Status::Created);
    // They run where the program will, and without an environment of their own in that of the program.
    let mut hooks = list(hooks.start_container()).to_vec();
    for hook in hooks.iter_mut().filter(|hook| hook.env().is_none()) {
        hook.set_env(inside.prepared.process().env().clone());
    }
    Ok(hook::run_all("startContainer", &hooks, &state)?)
}
