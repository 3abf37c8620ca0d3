//! The machine made ready for containers: steps that can be named, in order.
//!
//! What a step's failure means is decided in one place, [`Step::is_fatal`]: without its mounts a node is none; without a
//! clock, a name or a driver it is a node that says so.

use crate::mounts::{DIRECTORIES, LINKS, Options, SYSTEM};
use crate::{module, sys};
use kit_spec::plan::{Plan, Volume};
use rustix::mount::{MountPropagationFlags, mount_change};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A step of making the machine ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The kernel's file systems, and the tmpfs that are written to.
    Mounts,
    /// Every controller is handed down in the cgroup tree.
    Cgroups,
    /// Drivers for the devices that are there.
    Modules,
    /// The loopback interface.
    Loopback,
    /// The node's name.
    Hostname,
    /// What every process may use.
    Limits,
    /// The plan's volumes.
    Volumes,
}

/// All, in order.
pub const STEPS: [Step; 7] =
    [Step::Mounts, Step::Cgroups, Step::Limits, Step::Modules, Step::Loopback, Step::Hostname, Step::Volumes];

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
        matches!(self, Step::Mounts)
    }

    /// Does it.
    ///
    /// # Errors
    /// The first thing that failed; what does not depend on it was tried.
    pub fn run(self, plan: &Plan) -> Result<(), StepError> {
        match self {
            Step::Mounts => mounts(),
            Step::Cgroups => cgroups(Path::new("/sys/fs/cgroup")),
            Step::Modules => modules(),
            Step::Loopback => sys::loopback_up().map_err(failed("bring lo up")),
            Step::Hostname => hostname(),
            Step::Limits => sys::raise_limits().map_err(failed("raise limits")),
            Step::Volumes => plan.volumes.iter().try_for_each(volume),
        }
    }
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> StepError {
    let doing = doing.into();
    move |source| StepError { doing, source }
}

fn mounts() -> Result<(), StepError> {
    // Before /proc is mounted nothing is known to be.
    let _ = SYSTEM[0].mount(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for system in SYSTEM {
        system.mount(&mounted).map_err(failed(format!("mount {} on {}", system.kind, system.at)))?;
    }
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
    Ok(())
}

/// Hands every controller down from a cgroup to those below it.
fn cgroups(root: &Path) -> Result<(), StepError> {
    let controllers =
        fs::read_to_string(root.join("cgroup.controllers")).map_err(failed("read cgroup.controllers"))?;
    let at = root.join("cgroup.subtree_control");
    for controller in controllers.split_whitespace() {
        // One that is not to be had (cpu with real-time processes) is no reason to lose the others.
        let _ =
            fs::OpenOptions::new().write(true).open(&at).and_then(|mut file| write!(file, "+{controller}"));
    }
    Ok(())
}

/// In a child, so that the indexes' memory goes with it.
fn modules() -> Result<(), StepError> {
    sys::in_child(|| {
        let Ok(mut loader) = module::Loader::new(&module::running()) else { return };
        let complain = |error: module::LoadError| eprintln!("kit: {error}: {}", error.source);
        module::each_modalias(Path::new("/sys/devices"), &mut |alias| {
            if let Err(error) = loader.alias(alias) {
                complain(error);
            }
        });
        for name in wanted_modules(Path::new("/etc/modules-load.d")) {
            if let Err(error) = loader.name(&name) {
                complain(error);
            }
        }
        // A device that a driver brought forth (virtio's, behind PCI) may want one of its own.
        module::each_modalias(Path::new("/sys/devices"), &mut |alias| drop(loader.alias(alias)));
    })
    .map_err(failed("load kernel modules"))
}

/// Names in `modules-load.d`: a line each, comments begin with `#` or `;` (modules-load.d(5)). Containers need overlay,
/// which no device asks for.
fn wanted_modules(dir: &Path) -> Vec<String> {
    let mut names = vec!["overlay".to_owned()];
    let Ok(entries) = fs::read_dir(dir) else { return names };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "conf")) {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        names.extend(lines.map(str::to_owned));
    }
    names
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
    let dir = format!("/containers/volumes/{}", volume.name);
    let (lower, tmp, merged) = (format!("{dir}/lower"), format!("{dir}/tmp"), format!("{dir}/merged"));
    let doing = || failed(format!("mount volume {}", volume.name));
    if volume.readonly {
        return Options::parse(&["bind", "ro"]).apply("bind", &lower, &merged).map_err(doing());
    }
    Options::parse(&["nodev"]).apply("tmpfs", "tmpfs", &tmp).map_err(doing())?;
    for sub in ["upper", "work"] {
        fs::create_dir_all(format!("{tmp}/{sub}")).map_err(doing())?;
    }
    let data = [format!("lowerdir={lower}"), format!("upperdir={tmp}/upper"), format!("workdir={tmp}/work")];
    Options::parse(&data).apply("overlay", "overlay", &merged).map_err(doing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_modules_are_read_in_the_order_of_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.conf"), "# no\nip_vs\n").unwrap();
        fs::write(dir.path().join("a.conf"), "br_netfilter\n;x\n\n").unwrap();
        fs::write(dir.path().join("c.txt"), "never\n").unwrap();
        assert_eq!(wanted_modules(dir.path()), ["overlay", "br_netfilter", "ip_vs"]);
    }

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
    fn only_mounts_are_vital() {
        assert_eq!(STEPS.iter().filter(|step| step.is_fatal()).count(), 1);
    }
}
