//! Containers, started and ended through `kitc`. Their processes become children of PID 1.

use crate::mounts::Options;
use kit_spec::node::Runtime;
use kit_spec::node::runtime::{BindNs, Interface};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The OCI runtime program.
const KITC: &str = "/usr/bin/kitc";
/// Where it keeps its state.
const STATE: &str = "/run/kitc";
/// Where pids of containers are written.
const PIDS: &str = "/run/kit/pids";

/// Why a container cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct PrepareError {
    /// What was being done, to what.
    pub doing: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// What is made before a container's first start: cgroups, directories, mounts, in this order. Mounts stay as they are
/// when it starts again, and with them what was written.
///
/// # Errors
/// The first thing that failed.
pub fn prepare(runtime: &Runtime, mounted: &str) -> Result<(), PrepareError> {
    for cgroup in &runtime.cgroups {
        let path = Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).map_err(failed(format!("create cgroup {cgroup}")))?;
    }
    for dir in &runtime.mkdir {
        fs::create_dir_all(dir).map_err(failed(format!("create {dir}")))?;
    }
    for mount in &runtime.mounts {
        let remount = mount.options.iter().any(|word| word == "remount");
        if crate::mounts::is_mounted(mounted, &mount.destination) && !remount {
            continue;
        }
        let doing = failed(format!("mount {} on {}", mount.source, mount.destination));
        mount_one(mount, remount).map_err(doing)?;
    }
    Ok(())
}

fn mount_one(mount: &kit_spec::node::settings::Mount, remount: bool) -> io::Result<()> {
    if !remount {
        fs::create_dir_all(&mount.destination)?;
    }
    // An overlay's upper and work directories are in a tmpfs that was mounted just now.
    for option in mount.options.iter().filter(|_| mount.kind == "overlay") {
        if let Some(dir) = option.strip_prefix("upperdir=").or_else(|| option.strip_prefix("workdir=")) {
            fs::create_dir_all(dir)?;
        }
    }
    Options::parse(&mount.options).apply(&mount.kind, &mount.source, &mount.destination)
}

fn failed(doing: String) -> impl FnOnce(io::Error) -> PrepareError {
    move |source| PrepareError { doing, source }
}

/// True if something is to be done between `create` and `start`.
pub fn needs_two_steps(runtime: &Runtime) -> bool {
    !runtime.interfaces.is_empty() || runtime.bind_ns != BindNs::default()
}

/// Where a container's pid is written.
pub fn pid_file(id: &str) -> PathBuf {
    Path::new(PIDS).join(id)
}

/// The pid that was written for a container.
pub fn read_pid(id: &str) -> Option<i32> {
    fs::read_to_string(pid_file(id)).ok()?.trim().parse().ok()
}

/// Starts `kitc`; it ends when the container runs. What both print goes to `output`.
///
/// # Errors
/// When it cannot be executed.
pub fn spawn(id: &str, bundle: &str, two_steps: bool, output: &OwnedFd) -> io::Result<i32> {
    let _ = fs::remove_file(pid_file(id));
    let mut command = Command::new(KITC);
    command.args(["--root", STATE]);
    if two_steps {
        command.arg("create")
    } else {
        command.args(["run", "--detach"])
    };
    command.arg("--pid-file").arg(pid_file(id)).args(["--bundle", bundle, id]);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    Ok(command.spawn()?.id() as i32)
}

/// Ends the first step: interfaces and namespaces, then `kitc start`.
///
/// # Errors
/// What could not be done; the container is then to be deleted.
pub fn second_step(id: &str, pid: i32, runtime: &Runtime) -> Result<(), PrepareError> {
    for interface in &runtime.interfaces {
        interface_of(interface, pid).map_err(failed(format!("give it interface {}", interface.name)))?;
    }
    bind_namespaces(&runtime.bind_ns, pid)?;
    let status = Command::new(KITC).args(["--root", STATE, "start", id]).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("start it: kitc ended with {status}"))(io::ErrorKind::Other.into())),
        Err(error) => Err(failed("start it".into())(error)),
    }
}

fn bind_namespaces(bind: &BindNs, pid: i32) -> Result<(), PrepareError> {
    let all = [
        ("cgroup", &bind.cgroup),
        ("ipc", &bind.ipc),
        ("mnt", &bind.mnt),
        ("net", &bind.net),
        ("pid", &bind.pid),
        ("user", &bind.user),
        ("uts", &bind.uts),
    ];
    for (name, at) in all.into_iter().filter(|(_, at)| !at.is_empty()) {
        let bind = || {
            if let Some(dir) = Path::new(at).parent() {
                fs::create_dir_all(dir)?;
            }
            fs::OpenOptions::new().create(true).append(true).open(at)?;
            Ok(rustix::mount::mount_bind(format!("/proc/{pid}/ns/{name}"), at.as_str())?)
        };
        bind().map_err(failed(format!("bind its {name} namespace to {at}")))?;
    }
    Ok(())
}

/// Interfaces are made and moved by `ip`, which an image that wants them has to bring into the root.
fn interface_of(interface: &Interface, pid: i32) -> io::Result<()> {
    let Interface { name, add, peer, create_in_root } = interface;
    let ip = |args: &[&str]| {
        let output = Command::new("/sbin/ip").args(args).stdin(Stdio::null()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    };
    let pid = pid.to_string();
    let kind = if add.is_empty() { "veth" } else { add };
    match (peer.is_empty(), add.is_empty(), create_in_root) {
        (false, ..) => ip(&["link", "add", name, "netns", &pid, "type", kind, "peer", "name", peer]),
        (true, true, _) => ip(&["link", "set", name, "netns", &pid]),
        (true, false, true) => {
            ip(&["link", "add", name, "type", kind])?;
            ip(&["link", "set", name, "netns", &pid])
        }
        (true, false, false) => ip(&["link", "add", name, "netns", &pid, "type", kind]),
    }
}

/// Forgets a container that has ended: its state, its cgroup.
pub fn delete(id: &str) -> io::Result<i32> {
    let mut command = Command::new(KITC);
    command.args(["--root", STATE, "delete", "--force", id]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?.id() as i32)
}

/// As [`delete`], and waits for it: a container that starts again must not find its own remains.
pub fn delete_now(id: &str) {
    let mut command = Command::new(KITC);
    command.args(["--root", STATE, "delete", "--force", id]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Kills every process of a container.
pub fn kill_all(id: &str) -> io::Result<i32> {
    let mut command = Command::new(KITC);
    command.args(["--root", STATE, "kill", "--all", id, "KILL"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?.id() as i32)
}

/// The command that runs a probe in a container.
pub fn exec_command(id: &str, args: &[String]) -> Command {
    let mut command = Command::new(KITC);
    command.args(["--root", STATE, "exec", id]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Unmounts what [`prepare`] mounted, the last first.
pub fn unmount_all(runtime: &Runtime) {
    for mount in runtime.mounts.iter().rev() {
        let _ = unmount(mount.destination.as_str(), UnmountFlags::DETACH);
    }
}
