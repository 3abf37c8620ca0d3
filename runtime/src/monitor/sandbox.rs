//! What the containers of a pod share: namespaces, held by bind mounts.
//!
//! A child makes the namespaces and sets them up; the monitor mounts each of its namespace files onto
//! `ns/KIND` of the pod's directory, and the child ends. No process is needed to keep them.
//!
//! A shared pid namespace is the exception: it lives as long as its first process. That one is a copy
//! of the monitor that does nothing but wait for orphans ([`pause`]). Containers see it, and one with
//! CAP_SYS_PTRACE could become it: so it has an empty, read-only root, the pod's other namespaces, an
//! ordinary user's rights and no open file.

use crate::bundle::sysctl_namespace;
use crate::channel::{Channel, Message, Outcome};
use crate::report::{self, Remote};
use crate::state::life;
use crate::sys;
use crate::sys::clone::{Cloned, clone3, exit_now, unshare};
use crate::sys::signal;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Pid, WaitId, WaitIdOptions, WaitOptions};
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the mounts are, in the pod's directory.
const NAMESPACES: &str = "ns";
/// The user and group that [`pause`] runs as: nobody's.
const PAUSE_ID: u32 = 65_535;

/// The pod as `sandbox.json` of its directory describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// The network namespace.
    pub net: Namespace,
    /// The namespace of System V and POSIX message queues and shared memory.
    pub ipc: Namespace,
    /// The namespace of the host's name.
    pub uts: Namespace,
    /// The containers share a pid namespace.
    pub shared_pid: bool,
    /// The host's name; wants a `uts` namespace that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Kernel settings; each wants its namespace to be made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// It is made for the pod.
    #[default]
    Pod,
    /// It is the host's.
    Host,
    /// It is at a path already.
    Path(PathBuf),
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value needs a namespace that the pod does not make.
    #[error("sandbox.json: {key} needs a {kind} namespace of the pod")]
    Needs {
        /// The key.
        key: String,
        /// The kind.
        kind: &'static str,
    },
    /// No kernel setting that belongs to a namespace of a pod.
    #[error("sandbox.json: sysctls[{name:?}] belongs to no namespace of a pod")]
    Sysctl {
        /// The setting.
        name: String,
    },
    /// A call failed.
    #[error("{doing}")]
    Call {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A call on a file failed.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The child that makes namespaces says what went wrong.
    #[error("in the process that makes the pod's namespaces")]
    Child {
        /// What it said.
        source: Remote,
    },
    /// It ended without a word.
    #[error("the process that makes the pod's namespaces ended without a word")]
    Died,
}

/// A process by its number and the time when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The process id.
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl Named {
    /// The name of a process that lives.
    pub fn of(pid: i32) -> io::Result<Named> {
        let life = life(pid)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Named { pid, start_time: life.start_time })
    }
}

fn call<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Call { doing, source: source.into() }
}

impl Sandbox {
    /// The kinds that are made, with their files in `/proc/PID/ns`.
    fn made(&self) -> impl Iterator<Item = (LinuxNamespaceType, &'static str, u64)> {
        let all = [
            (&self.net, LinuxNamespaceType::Network, "net", libc::CLONE_NEWNET),
            (&self.ipc, LinuxNamespaceType::Ipc, "ipc", libc::CLONE_NEWIPC),
            (&self.uts, LinuxNamespaceType::Uts, "uts", libc::CLONE_NEWUTS),
        ];
        let made = all.into_iter().filter(|(namespace, ..)| **namespace == Namespace::Pod);
        made.map(|(_, kind, name, flag)| (kind, name, flag as u64))
    }

    /// Checks that every value has a namespace that it is for.
    pub fn check(&self) -> Result<(), Error> {
        let makes = |kind| self.made().any(|(made, ..)| made == kind);
        if self.hostname.is_some() && !makes(LinuxNamespaceType::Uts) {
            return Err(Error::Needs { key: "hostname".to_owned(), kind: "uts" });
        }
        for name in self.sysctls.keys() {
            let kind = sysctl_namespace(name).filter(|_| !name.split(['.', '/']).any(str::is_empty));
            let kind = kind.ok_or_else(|| Error::Sysctl { name: name.clone() })?;
            if !makes(kind) {
                let kind = match kind {
                    LinuxNamespaceType::Network => "net",
                    LinuxNamespaceType::Ipc => "ipc",
                    _ => "uts",
                };
                return Err(Error::Needs { key: format!("sysctls[{name:?}]"), kind });
            }
        }
        Ok(())
    }

    /// The paths of the namespaces that containers join, by the kinds' names in the OCI specification.
    pub fn paths(&self, dir: &Path) -> BTreeMap<String, PathBuf> {
        let all = [("network", "net", &self.net), ("ipc", "ipc", &self.ipc), ("uts", "uts", &self.uts)];
        let mut paths = BTreeMap::new();
        for (kind, name, namespace) in all {
            let path = match namespace {
                Namespace::Pod => dir.join(NAMESPACES).join(name),
                Namespace::Path(path) => path.clone(),
                Namespace::Host => continue,
            };
            paths.insert(kind.to_owned(), path);
        }
        if self.shared_pid {
            paths.insert("pid".to_owned(), dir.join(NAMESPACES).join("pid"));
        }
        paths
    }

    /// Makes the namespaces of the pod in `dir`. The caller has one thread. On failure it calls
    /// [`unmount`]. Returns the first process of the pid namespace, if that is shared.
    pub fn make(&self, dir: &Path) -> Result<Option<Named>, Error> {
        let ns = dir.join(NAMESPACES);
        fs::create_dir_all(&ns).map_err(|source| Error::File {
            doing: "make directory",
            path: ns.clone(),
            source,
        })?;
        let flags = self.made().fold(0, |flags, (.., flag)| flags | flag);
        if flags != 0 {
            self.in_child(flags, |pid| {
                self.made().try_for_each(|(_, name, _)| hold(pid, name, &ns.join(name)))
            })?;
        }
        if !self.shared_pid {
            return Ok(None);
        }
        let (ours, theirs) = Channel::pair().map_err(call("make a socket pair"))?;
        let pid = match clone3(libc::CLONE_NEWPID as u64, None).map_err(call("make the pause process"))? {
            Cloned::Child => {
                drop(ours);
                let failed = self.pause(dir, theirs);
                drop(failed);
                exit_now(1)
            }
            Cloned::Parent { pid, .. } => pid.as_raw_nonzero().get(),
        };
        drop(theirs);
        let followed = follow(&ours).and_then(|()| hold(pid, "pid", &ns.join("pid")));
        match followed.and_then(|()| Named::of(pid).map_err(call("look at the pause process"))) {
            Ok(named) => Ok(Some(named)),
            Err(error) => {
                let _ = signal::kill(pid, libc::SIGKILL);
                let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::empty());
                Err(error)
            }
        }
    }

    /// Calls `on` with the process id of a child that is in new namespaces, set up as told.
    fn in_child(&self, flags: u64, on: impl FnOnce(i32) -> Result<(), Error>) -> Result<(), Error> {
        let (ours, theirs) = Channel::pair().map_err(call("make a socket pair"))?;
        let (pid, pidfd) = match clone3(0, None).map_err(call("make a process"))? {
            Cloned::Child => {
                drop(ours);
                let _ = match self.set_up(flags) {
                    Ok(()) => theirs.send_ready(),
                    Err(error) => theirs.send_error(&report::chain(&*error)),
                };
                // Until the other side has what it wants, or is gone.
                let _ = theirs.receive();
                exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => (pid.as_raw_nonzero().get(), pidfd),
        };
        drop(theirs);
        let result = follow(&ours).and_then(|()| on(pid));
        drop(ours);
        let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        result
    }

    /// In the child: makes the namespaces and sets them up.
    fn set_up(&self, flags: u64) -> Result<(), Box<dyn StdError>> {
        unshare(flags).map_err(call("make the namespaces"))?;
        if let Some(name) = &self.hostname {
            rustix::system::sethostname(name.as_bytes()).map_err(call("set the host's name"))?;
        }
        if self.net == Namespace::Pod {
            let socket =
                rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                    .map_err(call("make a socket for the loopback device"))?;
            sys::net::loopback_up(socket.as_fd()).map_err(call("bring the loopback device up"))?;
        }
        for (name, value) in &self.sysctls {
            // A name with slashes may have dots within its parts (interfaces with VLANs).
            let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
            let path = Path::new("/proc/sys").join(path);
            fs::write(&path, value).map_err(|source| Error::File { doing: "write to", path, source })?;
        }
        Ok(())
    }

    /// In the first process of the pid namespace: gives up what it has and waits for orphans for ever.
    /// Returns only when it could not.
    fn pause(&self, dir: &Path, channel: Channel) -> Result<(), Error> {
        match self.become_harmless(dir) {
            Ok(()) => channel.send_ready().map_err(call("say that it is ready"))?,
            Err(error) => return channel.send_error(&report::chain(&error)).map_err(call("tell an error")),
        }
        drop(channel);
        sys::exec::close_from(0).map_err(call("close all files"))?;
        let signals = signal::block_all_into_descriptor().map_err(call("take signals as data"))?;
        let mut bytes = [0; 128];
        loop {
            let _ = rustix::io::read(&signals, &mut bytes);
            while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        }
    }

    fn become_harmless(&self, dir: &Path) -> Result<(), Error> {
        let _ = rustix::thread::set_name(c"pause");
        rustix::process::setsid().map_err(call("make a session"))?;
        for path in self.paths(dir).into_iter().filter(|(kind, _)| kind != "pid").map(|(_, path)| path) {
            let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            file.and_then(|file| rustix::thread::move_into_link_name_space(file.as_fd(), None))
                .map_err(|errno| Error::File { doing: "join the namespace", path, source: errno.into() })?;
        }
        unshare(libc::CLONE_NEWNS as u64).map_err(call("make a mount namespace"))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).map_err(call("make the mounts private"))?;
        let ns = dir.join(NAMESPACES);
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount(c"tmpfs", &ns, c"tmpfs", flags, None).map_err(call("mount an empty root"))?;
        rustix::process::chdir(&ns).map_err(call("enter the empty root"))?;
        rustix::process::pivot_root(c".", c".").map_err(call("make it the root"))?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(call("unmount the old root"))?;
        rustix::process::chdir(c"/").map_err(call("enter the root"))?;
        rustix::thread::set_thread_groups(&[]).map_err(call("give up all groups"))?;
        let (uid, gid) = (Uid::from_raw(PAUSE_ID), Gid::from_raw(PAUSE_ID));
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(call("become an ordinary group"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(call("become an ordinary user"))?;
        rustix::thread::set_no_new_privs(true).map_err(call("give up new privileges"))?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(call("hide the process"))
    }
}

/// Mounts a namespace of a process onto a file.
fn hold(pid: i32, name: &str, path: &Path) -> Result<(), Error> {
    let fail = |doing| {
        let path = path.to_owned();
        move |source: io::Error| Error::File { doing, path, source }
    };
    fs::File::create(path).map_err(fail("make"))?;
    let source = format!("/proc/{pid}/ns/{name}");
    rustix::mount::mount_bind(source, path).map_err(|errno| fail("hold a namespace at")(errno.into()))
}

fn follow(channel: &Channel) -> Result<(), Error> {
    let ignore = |_: Message| Ok(());
    match channel.follow(true, call("hear from the process that makes namespaces"), ignore)? {
        Outcome::Fine => Ok(()),
        Outcome::Failed(source) => Err(Error::Child { source }),
        Outcome::Died => Err(Error::Died),
    }
}

/// Takes away the mounts of a pod's namespaces, and their directory. What is gone is fine.
pub fn unmount(dir: &Path) -> Result<(), Error> {
    let ns = dir.join(NAMESPACES);
    let fail = |doing, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::File { doing, path, source }
    };
    let entries = match fs::read_dir(&ns) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(fail("list", &ns))?,
    };
    for entry in entries {
        let path = entry.map_err(fail("list", &ns))?.path();
        loop {
            match rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // Nothing is mounted there (any more).
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(fail("unmount", &path)(errno.into())),
            }
        }
    }
    fs::remove_dir_all(&ns).map_err(fail("remove", &ns))
}

/// Opens a process that was named, if it is still that one and lives.
pub fn open(named: Named) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(named.pid) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        result => result?,
    };
    let life = life(named.pid)?;
    Ok(life.is_some_and(|life| life.start_time == named.start_time && !life.ended).then_some(pidfd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> String {
        let sandbox: Result<Sandbox, _> = serde_json::from_str(text);
        match sandbox {
            Err(error) => error.to_string(),
            Ok(sandbox) => sandbox.check().map_or_else(|e| e.to_string(), |()| "fine".to_owned()),
        }
    }

    #[test]
    fn values_need_the_namespace_that_they_are_for() {
        for (text, expected) in [
            (r#"{}"#, "fine"),
            (r#"{"hostname":"a","sysctls":{"net.ipv4.ip_forward":"1","kernel.shmmax":"9"}}"#, "fine"),
            (r#"{"uts":"host","hostname":"a"}"#, "sandbox.json: hostname needs a uts namespace of the pod"),
            (
                r#"{"net":{"path":"/x"},"sysctls":{"net.core.somaxconn":"1"}}"#,
                "sandbox.json: sysctls[\"net.core.somaxconn\"] needs a net namespace of the pod",
            ),
            (
                r#"{"sysctls":{"vm.swappiness":"1"}}"#,
                "sandbox.json: sysctls[\"vm.swappiness\"] belongs to no namespace of a pod",
            ),
            (
                r#"{"sysctls":{"net/../kernel/core_pattern":"x"}}"#,
                "sandbox.json: sysctls[\"net/../kernel/core_pattern\"] belongs to no namespace of a pod",
            ),
        ] {
            assert_eq!(checked(text), expected, "{text}");
        }
        assert!(checked(r#"{"nett":"host"}"#).starts_with("unknown field `nett`"));
    }

    #[test]
    fn paths_are_named_by_the_kinds_of_the_specification() {
        let sandbox = Sandbox {
            ipc: Namespace::Host,
            uts: Namespace::Path("/u".into()),
            shared_pid: true,
            ..Sandbox::default()
        };
        let paths = sandbox.paths(Path::new("/p"));
        let paths: Vec<_> = paths.iter().map(|(k, p)| format!("{k} {}", p.display())).collect();
        assert_eq!(paths, ["network /p/ns/net", "pid /p/ns/pid", "uts /u"]);
    }
}
