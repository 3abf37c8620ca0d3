//! The machine made ready for containers: steps that can be named, in order.
//!
//! What a step's failure means is decided in one place, [`Step::is_fatal`]: without its mounts a node is none; without a
//! clock, a name or a volume it is a node that says so.

use crate::mounts::{self, DIRECTORIES, FIRST, LINKS, Need, Options, SYSTEM, System};
use crate::sys;
use kit_spec::plan::{Plan, Volume};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A step of making the machine ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The kernel's most needed file systems.
    Kernel,
    /// Every controller is handed down in the cgroup tree, and the first group is made.
    Cgroups,
    /// All the others, and the tmpfs that are written to.
    Mounts,
    /// What every process may use.
    Limits,
    /// The time, if the kernel did not set it.
    Clock,
    /// The loopback interface.
    Loopback,
    /// The plan's volumes.
    Volumes,
    /// The node's name, which may be that of a network card.
    Hostname,
}

/// Before drivers are looked for. With the first cgroup the kernel changes its own code, on which all processors wait:
/// better while only one is at work.
pub const BEFORE_DRIVERS: [Step; 2] = [Step::Kernel, Step::Cgroups];
/// While they are being loaded.
pub const WITH_DRIVERS: [Step; 5] = [Step::Mounts, Step::Limits, Step::Clock, Step::Loopback, Step::Volumes];
/// When the devices have their drivers.
pub const AFTER_DRIVERS: [Step; 1] = [Step::Hostname];

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct StepError {
    /// What was being done, to what.
    pub doing: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl Step {
    /// Whether a node cannot go on without.
    pub fn is_fatal(self) -> bool {
        matches!(self, Step::Kernel | Step::Mounts)
    }

    /// Does it.
    ///
    /// # Errors
    /// The first thing that failed; what does not depend on it was tried.
    pub fn run(self, plan: &Plan) -> Result<(), StepError> {
        match self {
            Step::Kernel => kernel(),
            Step::Mounts => mounts(),
            Step::Cgroups => cgroups(Path::new("/sys/fs/cgroup")),
            Step::Limits => sys::raise_limits().map_err(failed("raise limits")),
            Step::Clock => clock(Path::new("/sys/class/rtc")),
            Step::Loopback => sys::loopback_up().map_err(failed("bring lo up")),
            Step::Volumes => all(plan.volumes.iter().map(volume)),
            Step::Hostname => hostname(),
        }
    }
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> StepError {
    let doing = doing.into();
    move |source| StepError { doing, source }
}

/// Tries all, and keeps the first failure.
fn all(results: impl Iterator<Item = Result<(), StepError>>) -> Result<(), StepError> {
    results.fold(Ok(()), Result::and)
}

fn kernel() -> Result<(), StepError> {
    // Before /proc is mounted nothing is known to be.
    mount_all(&SYSTEM[..1])?;
    mount_all(&SYSTEM[1..FIRST])
}

fn mount_all(systems: &[System]) -> Result<(), StepError> {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let mounted: Vec<String> = mounts::points(&text("/proc/self/mounts")).collect();
    let known = text("/proc/filesystems");
    for system in systems {
        let doing = || format!("mount {} on {}", system.kind, system.at);
        system.mount(&mounted, &known).map_err(|source| StepError { doing: doing(), source })?;
    }
    Ok(())
}

fn mounts() -> Result<(), StepError> {
    let (these, last): (Vec<System>, Vec<System>) =
        SYSTEM[FIRST..].iter().partition(|system| system.need != Need::Place);
    mount_all(&these)?;
    // What the kernel executes for a module that it lacks: this program, as `module::requested`. Not by its own name,
    // at which security modules (TOMOYO) take it for the beginning of a boot.
    let _ = fs::write("/proc/sys/kernel/modprobe", "/proc/1/exe");
    mount_all(&last)?;
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|error| failed("make mounts shared")(error.into()))?;
    for (dir, mode) in DIRECTORIES {
        let made = fs::create_dir_all(dir)
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(*mode)));
        made.map_err(failed(format!("create {dir}")))?;
    }
    for (link, target) in LINKS {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(failed(format!("link {link}")))?,
        }
    }
    // Containers bind the file that /etc/resolv.conf leads to; who knows the servers writes it later.
    match fs::File::create_new(RESOLV_CONF) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(RESOLV_CONF)(error)),
        _ => Ok(()),
    }
}

const RESOLV_CONF: &str = "/run/resolvconf/resolv.conf";

/// Hands every controller down from a cgroup to those below it.
fn cgroups(root: &Path) -> Result<(), StepError> {
    let controllers =
        fs::read_to_string(root.join("cgroup.controllers")).map_err(failed("read cgroup.controllers"))?;
    let at = root.join("cgroup.subtree_control");
    let enable = |text: &str| {
        fs::OpenOptions::new().write(true).open(&at).and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let together: String =
        controllers.split_whitespace().map(|controller| format!("+{controller} ")).collect();
    if enable(&together).is_err() {
        // One that is not to be had (cpu with real-time processes) is no reason to lose the others.
        controllers.split_whitespace().for_each(|controller| drop(enable(&format!("+{controller}"))));
    }
    fs::create_dir_all(root.join("kit")).map_err(failed("create the cgroup kit"))
}

/// Before this the clock was not set: 2020-01-01, in seconds since 1970.
const SANE: u64 = 1_577_836_800;

/// Sets the clock from the first real-time clock that tells a time, if it tells of a time long ago.
fn clock(clocks: &Path) -> Result<(), StepError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now >= Duration::from_secs(SANE) {
        return Ok(());
    }
    let Some(seconds) = hardware_time(clocks) else { return Ok(()) };
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })
        .map_err(|error| failed("set the clock")(error.into()))
}

fn hardware_time(clocks: &Path) -> Option<i64> {
    let mut clocks: Vec<_> = fs::read_dir(clocks).ok()?.flatten().map(|entry| entry.path()).collect();
    clocks.sort();
    let read = |path: &Path| fs::read_to_string(path.join("since_epoch")).ok()?.trim().parse().ok();
    clocks.iter().filter_map(|path| read(path)).find(|seconds| *seconds >= SANE as i64)
}

/// `/etc/hostname`, or `kit-` and the first hardware address.
fn hostname() -> Result<(), StepError> {
    let written = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = match written.trim() {
        "" => hardware_name(Path::new("/sys/class/net")),
        name => name.to_owned(),
    };
    rustix::system::sethostname(name.as_bytes())
        .map_err(|error| failed(format!("set the host name `{name}`"))(error.into()))
}

fn hardware_name(net: &Path) -> String {
    let mut interfaces: Vec<_> =
        fs::read_dir(net).map(|e| e.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    interfaces.sort();
    let address = interfaces.iter().filter(|path| path.join("device").exists()).find_map(|path| {
        let address = fs::read_to_string(path.join("address")).ok()?;
        Some(address.trim().replace(':', ""))
    });
    address.map_or_else(|| "kit".into(), |address| format!("kit-{address}"))
}

fn volume(volume: &Volume) -> Result<(), StepError> {
    let dir = Path::new("/containers/volumes").join(&volume.name);
    let (lower, tmp, merged) = (dir.join("lower"), dir.join("tmp"), dir.join("merged"));
    let mount = || -> io::Result<()> {
        let source = lower.to_string_lossy();
        if volume.readonly {
            return Options::parse(&["bind", "ro"]).apply("bind", &source, &merged);
        }
        Options::parse(&["nodev"]).apply("tmpfs", "tmpfs", &tmp)?;
        let (upper, work) = (tmp.join("upper"), tmp.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let data = [
            format!("lowerdir={source}"),
            format!("upperdir={}", upper.display()),
            format!("workdir={}", work.display()),
        ];
        Options::parse(&data).apply("overlay", "overlay", &merged)
    };
    mount().map_err(failed(format!("mount volume {}", volume.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_from_the_first_real_interface() {
        let dir = tempfile::tempdir().unwrap();
        for (name, real) in [("lo", false), ("eth1", true), ("eth0", true)] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("address"), format!("52:54:{}\n", name.len())).unwrap();
            if real {
                fs::create_dir_all(dir.path().join(name).join("device")).unwrap();
            }
        }
        assert_eq!(hardware_name(dir.path()), "kit-52544");
        assert_eq!(hardware_name(Path::new("/nowhere")), "kit");
    }

    #[test]
    fn a_clock_that_tells_a_sane_time_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, time) in [("rtc0", "17\n"), ("rtc1", "1700000000\n"), ("rtc2", "1800000000\n")] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("since_epoch"), time).unwrap();
        }
        assert_eq!(hardware_time(dir.path()), Some(1_700_000_000));
        assert_eq!(hardware_time(Path::new("/nowhere")), None);
    }

    #[test]
    fn only_mounts_are_vital() {
        let steps = [BEFORE_DRIVERS.as_slice(), &WITH_DRIVERS, &AFTER_DRIVERS].concat();
        let fatal: Vec<Step> = steps.into_iter().filter(|step| step.is_fatal()).collect();
        assert_eq!(fatal, [Step::Kernel, Step::Mounts]);
    }

    #[test]
    fn one_failure_does_not_keep_the_others_from_being_tried() {
        let mut tried = 0;
        let error = || io::Error::from(io::ErrorKind::NotFound);
        let results = ["a", "b", "c"].map(|name| (name != "a").then_some(()).ok_or(failed(name)(error())));
        let result = all(results.into_iter().inspect(|_| tried += 1));
        assert_eq!((result.unwrap_err().doing.as_str(), tried), ("a", 3));
    }
}
