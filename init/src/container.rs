//! Containers, started and ended through `kitc`. Their processes become children of PID 1.
//!
//! ```text
//! child of PID 1: cgroups, mounts, directories ─exec▶ kitc run --detach ─▶ the pid file, exit
//!   with interfaces or bound namespaces:        ─exec▶ kitc create ─▶ child: interfaces, binds ─exec▶ kitc start
//! at the end:     child of PID 1: who is to stay is taken out ─exec▶ kitc delete --force ─▶ its mounts go (tasks)
//! ```
//!
//! Whatever may block or fail is done in these children; PID 1 makes them and hears of their ends. Why one failed is in a
//! file, see [`reason`]: kitc's own error, or that of the child.

pub mod cgroup;
mod interface;

use crate::mounts::{self, Options};
use crate::sys;
use kit_spec::node::Runtime;
use kit_spec::node::runtime::BindNs;
use kit_spec::node::settings::Mount;
use rustix::mount::{UnmountFlags, unmount};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The OCI runtime program.
pub(crate) const KITC: &str = "/usr/bin/kitc";
/// Where it keeps its state.
const STATE: &str = "/run/kitc";
/// Where pids of containers are written.
const PIDS: &str = "/run/kit/pids";
/// Where it is written why one could not be started.
const WHY: &str = "/run/kit/why";
/// The longest reason, in bytes.
const MAX_WHY: u64 = 4096;

/// A container of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// What kitc calls it.
    pub id: &'a str,
    /// Its bundle's directory.
    pub bundle: &'a str,
    /// What is made around its start.
    pub runtime: &'a Runtime,
}

/// Why a container cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
struct PrepareError {
    /// What was being done, to what.
    doing: String,
    /// Why it failed.
    #[source]
    source: io::Error,
}

fn failed(doing: String) -> impl FnOnce(io::Error) -> PrepareError {
    move |source| PrepareError { doing, source }
}

impl Container<'_> {
    /// True if something is to be done between `create` and `start`.
    pub fn needs_two_steps(&self) -> bool {
        !self.runtime.interfaces.is_empty() || self.runtime.bind_ns != BindNs::default()
    }

    /// Makes a child that prepares the container and becomes the `kitc` which starts it, or for two steps creates it.
    /// What both print goes to `output`. `mounted` says that an earlier start made the mounts, which stay as they are
    /// when it starts again, and with them what was written.
    ///
    /// # Errors
    /// When no child can be made.
    pub fn start(&self, mounted: bool, output: BorrowedFd<'_>) -> io::Result<i32> {
        let _ = fs::remove_file(pid_file(self.id));
        self.child(output, || {
            prepare(self.runtime, Path::new(self.bundle), mounted)?;
            let mut command = self.kitc();
            if self.needs_two_steps() {
                command.arg("create")
            } else {
                command.args(["run", "--detach"])
            };
            command.arg("--pid-file").arg(pid_file(self.id)).args(["--bundle", self.bundle, self.id]);
            execute(command)
        })
    }

    /// Makes a child for the second step: interfaces and namespaces, then it becomes `kitc start`.
    ///
    /// # Errors
    /// When no child can be made.
    pub fn start_created(&self, pid: i32, output: BorrowedFd<'_>) -> io::Result<i32> {
        self.child(output, || {
            for interface in &self.runtime.interfaces {
                interface::give(interface, pid)
                    .map_err(failed(format!("give it the interface {}", interface.name)))?;
            }
            bind_namespaces(&self.runtime.bind_ns, pid)?;
            let mut command = self.kitc();
            command.args(["start", self.id]);
            execute(command)
        })
    }

    /// Makes a child that forgets a container which has ended, with its state and cgroup, and with whoever is left of
    /// it: `keep` is its cgroup when those are to live on. A container that will not start again loses its mounts.
    ///
    /// # Errors
    /// When no child can be made.
    pub fn delete(&self, keep: Option<&str>, for_good: bool) -> io::Result<i32> {
        let _ = fs::remove_file(pid_file(self.id));
        sys::fork(|| {
            if let Some(cgroup) = keep {
                cgroup::move_out(cgroup, self.id);
            }
            let mut command = quiet_kitc();
            command.args(["delete", "--force", self.id]);
            if !for_good {
                let _ = command.exec();
                return 1;
            }
            let deleted = command.status().is_ok_and(|status| status.success());
            self.unmount_own();
            i32::from(!deleted)
        })
    }

    /// Why it could not be started, in one line; none if nothing is known.
    pub fn reason(&self) -> Option<String> {
        let mut text = Vec::new();
        File::open(Path::new(WHY).join(self.id)).ok()?.take(MAX_WHY).read_to_end(&mut text).ok()?;
        reason_of(&String::from_utf8_lossy(&text), self.id)
    }

    /// A child with `output` as its own, that ends with an error or becomes another program.
    fn child(
        &self,
        output: BorrowedFd<'_>,
        work: impl FnOnce() -> Result<Infallible, PrepareError>,
    ) -> io::Result<i32> {
        let why = Path::new(WHY).join(self.id);
        let _ = fs::remove_file(&why);
        sys::fork(|| {
            if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stdin(null.as_fd());
            }
            let _ = rustix::stdio::dup2_stdout(output);
            let _ = rustix::stdio::dup2_stderr(output);
            let Err(error) = work();
            let text = format!("{error}: {}", error.source);
            eprintln!("error: {text}");
            let _ = fs::write(&why, text);
            1
        })
    }

    fn kitc(&self) -> Command {
        let mut command = Command::new(KITC);
        command.args(["--root", STATE, "--log-format", "json", "--log"]).arg(Path::new(WHY).join(self.id));
        command
    }

    /// Unmounts what is mounted in the bundle, the last first: the memory of what a task wrote.
    fn unmount_own(&self) {
        for mount in self.runtime.mounts.iter().rev() {
            let at = place(Path::new(self.bundle), &mount.destination);
            if at.starts_with(self.bundle) && !Options::parse(&mount.options).is_remount() {
                let _ = unmount(&at, UnmountFlags::empty());
            }
        }
    }
}

fn quiet_kitc() -> Command {
    let mut command = Command::new(KITC);
    command.args(["--root", STATE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn execute(mut command: Command) -> Result<Infallible, PrepareError> {
    Err(failed(format!("execute {KITC}"))(command.exec()))
}

/// Where a container's pid is written.
fn pid_file(id: &str) -> PathBuf {
    Path::new(PIDS).join(id)
}

/// The pid that was written for a container.
pub fn read_pid(id: &str) -> Option<i32> {
    fs::read_to_string(pid_file(id)).ok()?.trim().parse().ok()
}

/// The command that runs a probe in a container.
pub fn exec_command(id: &str, args: &[String]) -> Command {
    let mut command = quiet_kitc();
    command.args(["exec", id]).args(args);
    command
}

/// The last line of kitc's log, or the text of [`Container::child`].
fn reason_of(text: &str, id: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        msg: String,
    }
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    let message = match serde_json::from_str::<Line>(last) {
        Ok(line) => line.msg,
        Err(_) => last.to_owned(),
    };
    // The console's line names the container already.
    let short = ["run", "create", "start"].iter().find_map(|doing| {
        message.strip_prefix(doing)?.strip_prefix(" container ")?.strip_prefix(id)?.strip_prefix(": ")
    });
    Some(short.unwrap_or(&message).replace(['\n', '\r'], " "))
}

/// What is made before a container's start: cgroups, mounts, directories, in this order.
fn prepare(runtime: &Runtime, bundle: &Path, mounted: bool) -> Result<(), PrepareError> {
    for cgroup in &runtime.cgroups {
        let path = Path::new(cgroup::ROOT).join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&path).map_err(failed(format!("create the cgroup {cgroup}")))?;
    }
    if !mounted && !runtime.mounts.is_empty() {
        let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points: Vec<String> = mounts::points(&text).collect();
        for mount in &runtime.mounts {
            let at = place(bundle, &mount.destination);
            mount_one(mount, &at, &points).map_err(failed(format!(
                "mount {} on {}",
                mount.source,
                at.display()
            )))?;
        }
    }
    for dir in &runtime.mkdir {
        let dir = place(bundle, dir);
        fs::create_dir_all(&dir).map_err(failed(format!("create {}", dir.display())))?;
    }
    Ok(())
}

/// Paths of the machine are absolute; others are of the container's root.
fn place(bundle: &Path, path: &str) -> PathBuf {
    if path.starts_with('/') { path.into() } else { bundle.join("rootfs").join(path) }
}

/// What an earlier start that failed half-way mounted is not mounted again.
fn mount_one(mount: &Mount, at: &Path, mounted: &[String]) -> io::Result<()> {
    let options = Options::parse(&mount.options);
    if !options.is_remount() {
        if mounted.iter().any(|point| Path::new(point) == at) {
            return Ok(());
        }
        fs::create_dir_all(at)?;
    }
    // An overlay's upper and work directories are in a tmpfs that was mounted just now.
    for option in mount.options.iter().filter(|_| mount.kind == "overlay") {
        if let Some(dir) = option.strip_prefix("upperdir=").or_else(|| option.strip_prefix("workdir=")) {
            fs::create_dir_all(dir)?;
        }
    }
    options.apply(&mount.kind, &mount.source, at)
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
            // An earlier start's, whose namespace this mount keeps alive.
            let _ = unmount(at.as_str(), UnmountFlags::DETACH);
            File::options().create(true).append(true).open(at)?;
            Ok(rustix::mount::mount_bind(format!("/proc/{pid}/ns/{name}"), at.as_str())?)
        };
        bind().map_err(failed(format!("bind its {name} namespace to {at}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_last_thing_that_kitc_said() {
        let text = "{\"level\":\"error\",\"msg\":\"a\"}\n\
            {\"level\":\"error\",\"msg\":\"run container web: bundle /x: read config.json: no such file\",\"time\":\"\"}\n";
        assert_eq!(reason_of(text, "web").unwrap(), "bundle /x: read config.json: no such file");
        assert_eq!(reason_of("mount a on b: no", "web").unwrap(), "mount a on b: no");
        assert_eq!(
            reason_of("{\"msg\":\"start container web2: x\\ny\"}", "web").unwrap(),
            "start container web2: x y"
        );
        assert_eq!(reason_of("", "web"), None);
    }

    #[test]
    fn relative_paths_are_of_the_containers_root() {
        let bundle = Path::new("/containers/services/web");
        assert_eq!(place(bundle, "/var/x"), Path::new("/var/x"));
        assert_eq!(place(bundle, "var/x"), Path::new("/containers/services/web/rootfs/var/x"));
    }

    #[test]
    fn directories_are_made_for_what_is_mounted_and_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path();
        let runtime = Runtime { mkdir: vec!["var/lib/x".into()], ..Runtime::default() };
        prepare(&runtime, bundle, false).unwrap();
        assert!(bundle.join("rootfs/var/lib/x").is_dir());
        let mkdir = bundle.join("rootfs/var/lib/x/y").display().to_string();
        fs::write(bundle.join("rootfs/var/lib/x/y"), "").unwrap();
        let error = prepare(&Runtime { mkdir: vec![mkdir.clone()], ..Runtime::default() }, bundle, false);
        assert_eq!(error.unwrap_err().to_string(), format!("create {mkdir}"));
    }
}
