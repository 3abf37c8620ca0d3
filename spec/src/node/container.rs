//! The settings of a container, decided: what an image, its label and a node file come to.
//!
//! Precedence is LinuxKit's: image (entry point and command, environment, working directory) < label
//! `org.mobyproject.config` < node file, key by key, where a key that is present and empty clears what is before it.
//! [`Container`] leaves nothing to guess and names no type of the OCI: lowering it to a `config.json` is a matter of
//! spelling.

use super::capability::{Capability, CapabilityList};
use super::resources::{DeviceRule, Resources};
use super::runtime::Runtime;
use super::settings::{
    Bind, ContainerSettings, Device, DeviceNode, Id, IdMapping, Mount, Namespace, Propagation, Rlimit, Tmpfs,
};
use super::{IdMap, merged_dir};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What an image's own configuration says of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`.
    pub env: Vec<String>,
    /// `WorkingDir`; empty for `/`.
    pub working_dir: String,
    /// `User`, resolved to numbers by who can read the image's passwd file. It counts only where neither the label nor
    /// the node file says a `uid`. LinuxKit ignores it: none gives its behaviour, the superuser.
    pub user: Option<User>,
}

/// Who a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// The five sets of a process (capabilities(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CapabilitySets {
    /// The limit of what it can ever have: `capabilities` and `ambient`.
    pub bounding: BTreeSet<Capability>,
    /// What it has: `capabilities`.
    pub effective: BTreeSet<Capability>,
    /// What it can pass on: as `bounding`.
    pub inheritable: BTreeSet<Capability>,
    /// What it may make effective: as `bounding`.
    pub permitted: BTreeSet<Capability>,
    /// What it keeps over the execution of a file: `ambient`.
    pub ambient: BTreeSet<Capability>,
}

/// The namespaces of a container. Its mount namespace is always new, its cgroup namespace the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespaces {
    /// Network.
    pub net: Namespace,
    /// IPC.
    pub ipc: Namespace,
    /// UTS.
    pub uts: Namespace,
    /// Pid.
    pub pid: Namespace,
    /// User.
    pub user: Namespace,
}

/// A container with everything decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The command with its arguments; never empty.
    pub args: Vec<String>,
    /// The environment, `NAME=value` each.
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// Who the process is.
    pub user: User,
    /// What it may do.
    pub capabilities: CapabilitySets,
    /// Its limits, in the order written.
    pub rlimits: Vec<Rlimit>,
    /// Whether it can gain no privilege by executing a file.
    pub no_new_privileges: bool,
    /// What the kernel adds to its badness; nothing is set if none.
    pub oom_score_adj: Option<i32>,
    /// The host name; nothing is set if none.
    pub hostname: Option<String>,
    /// Whether the root file system cannot be written.
    pub readonly: bool,
    /// All mounts, the default ones among them, sorted by destination, each destination once. Volumes are resolved to
    /// their directories.
    pub mounts: Vec<Mount>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Device nodes to make. What allows their use is in `resources.devices`.
    pub devices: Vec<DeviceNode>,
    /// Limits of its cgroup; `devices` ends with a rule for each of the container's devices.
    pub resources: Resources,
    /// The cgroup's path; none: where the runtime puts it.
    pub cgroups_path: Option<String>,
    /// Kernel settings of its namespaces.
    pub sysctl: BTreeMap<String, String>,
    /// Users, if the user namespace is not the machine's.
    pub uid_mappings: Vec<IdMapping>,
    /// Groups, if the user namespace is not the machine's.
    pub gid_mappings: Vec<IdMapping>,
    /// Paths that are hidden.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// How its mounts and the machine's reach each other; the runtime's default if none.
    pub rootfs_propagation: Option<Propagation>,
    /// Words for other programs.
    pub annotations: BTreeMap<String, String>,
    /// What is done around its start: `runtime.json`, still without the mounts of the root file system itself.
    pub runtime: Runtime,
}

/// Why settings that are right each by itself do not make a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// Neither the image nor the label nor the node file has a command, or the last one empties it.
    #[error(
        "there is no command to run: the image has none, and neither the label nor the node file gives one"
    )]
    NoCommand,
    /// A host name is set where the UTS namespace is the machine's, whose name it would change.
    #[error("the host name `{hostname}` needs a UTS namespace of the container's own (`uts: new`)")]
    HostnameOfMachine {
        /// The name.
        hostname: String,
    },
    /// A label's `uid` or `gid` names a container that the node does not have.
    #[error("`{name}` in `{key}` is not the name of a container of this node")]
    UnknownId {
        /// `uid`, `gid` or `additionalGids`.
        key: &'static str,
        /// The name.
        name: String,
    },
}

impl ContainerSettings {
    /// What the image's `defaults`, its `label` and the node file's settings (`written`) come to.
    ///
    /// `ids` are those of the node ([`Node::ids`](super::Node::ids)).
    ///
    /// # Errors
    /// If there is no command, a host name without a namespace for it, or a name in the label of a container that the
    /// node does not have.
    pub fn merged(
        defaults: &ImageDefaults,
        label: &ContainerSettings,
        written: &ContainerSettings,
        ids: &IdMap,
    ) -> Result<Container, SettleError> {
        let image_args = || defaults.entrypoint.iter().chain(&defaults.cmd).cloned().collect();
        let args: Vec<String> = last(&label.command, &written.command).cloned().unwrap_or_else(image_args);
        if args.is_empty() {
            return Err(SettleError::NoCommand);
        }
        let namespaces = namespaces(label, written);
        let hostname = last(&label.hostname, &written.hostname).cloned();
        if let (Some(hostname), Namespace::Host) = (&hostname, &namespaces.uts) {
            return Err(SettleError::HostnameOfMachine { hostname: hostname.clone() });
        }
        let image_cwd = || if defaults.working_dir.is_empty() { "/" } else { &defaults.working_dir };
        let cwd = last(&label.cwd, &written.cwd).map_or_else(image_cwd, String::as_str).to_owned();
        let readonly = settled(&label.readonly, &written.readonly);
        let (devices, resources) = devices(label, written);
        let propagation = last(&label.rootfs_propagation, &written.rootfs_propagation).copied();
        Ok(Container {
            args,
            env: last(&label.env, &written.env).unwrap_or(&defaults.env).clone(),
            cwd,
            user: user(defaults, label, written, ids)?,
            capabilities: capabilities(label, written),
            rlimits: settled(&label.rlimits, &written.rlimits),
            no_new_privileges: settled(&label.no_new_privileges, &written.no_new_privileges),
            oom_score_adj: last(&label.oom_score_adj, &written.oom_score_adj).copied(),
            hostname,
            readonly,
            mounts: mounts(label, written, readonly),
            namespaces,
            devices,
            resources,
            cgroups_path: last(&label.cgroups_path, &written.cgroups_path)
                .filter(|path| !path.is_empty())
                .cloned(),
            sysctl: settled(&label.sysctl, &written.sysctl),
            uid_mappings: settled(&label.uid_mappings, &written.uid_mappings),
            gid_mappings: settled(&label.gid_mappings, &written.gid_mappings),
            masked_paths: settled(&label.masked_paths, &written.masked_paths),
            readonly_paths: settled(&label.readonly_paths, &written.readonly_paths),
            rootfs_propagation: propagation.filter(|kind| *kind != Propagation::Unset),
            annotations: settled(&label.annotations, &written.annotations),
            runtime: Runtime::merged(label.runtime.as_ref(), written.runtime.as_ref()),
        })
    }
}

fn last<'a, T>(label: &'a Option<T>, written: &'a Option<T>) -> Option<&'a T> {
    written.as_ref().or(label.as_ref())
}

fn settled<T: Clone + Default>(label: &Option<T>, written: &Option<T>) -> T {
    last(label, written).cloned().unwrap_or_default()
}

fn user(
    defaults: &ImageDefaults,
    label: &ContainerSettings,
    written: &ContainerSettings,
    ids: &IdMap,
) -> Result<User, SettleError> {
    let number = |key: &'static str, id: &Id| {
        ids.number(id).ok_or_else(|| match id {
            Id::Container(name) => SettleError::UnknownId { key, name: name.clone() },
            Id::Number(number) => SettleError::UnknownId { key, name: number.to_string() },
        })
    };
    let uid = last(&label.uid, &written.uid);
    let gid = last(&label.gid, &written.gid);
    let groups = last(&label.additional_gids, &written.additional_gids);
    let image = match uid {
        None => defaults.user.clone().unwrap_or_default(),
        Some(_) => User::default(),
    };
    Ok(User {
        uid: uid.map_or(Ok(image.uid), |id| number("uid", id))?,
        gid: gid.map_or(Ok(image.gid), |id| number("gid", id))?,
        additional_gids: match groups {
            None => image.additional_gids,
            Some(groups) => groups.iter().map(|id| number("additionalGids", id)).collect::<Result<_, _>>()?,
        },
    })
}

fn capabilities(label: &ContainerSettings, written: &ContainerSettings) -> CapabilitySets {
    let none = CapabilityList::These(BTreeSet::new());
    let effective = match (&written.capabilities, &written.capabilities_add) {
        (Some(list), _) => list.to_set(),
        (None, Some(add)) => label.capabilities.as_ref().unwrap_or(&none).union(add).to_set(),
        (None, None) => label.capabilities.as_ref().unwrap_or(&none).to_set(),
    };
    let ambient = last(&label.ambient, &written.ambient).unwrap_or(&none).to_set();
    let bounding = &effective | &ambient;
    CapabilitySets {
        inheritable: bounding.clone(),
        permitted: bounding.clone(),
        bounding,
        effective,
        ambient,
    }
}

fn namespaces(label: &ContainerSettings, written: &ContainerSettings) -> Namespaces {
    let or = |found: Option<&Namespace>, default: Namespace| found.cloned().unwrap_or(default);
    Namespaces {
        net: or(last(&label.net, &written.net), Namespace::Host),
        ipc: or(last(&label.ipc, &written.ipc), Namespace::Host),
        uts: or(last(&label.uts, &written.uts), Namespace::Host),
        pid: or(last(&label.pid, &written.pid), Namespace::New),
        user: or(last(&label.userns, &written.userns), Namespace::Host),
    }
}

/// The default mounts, then tmpfs, then binds, then mounts: of two with one destination the later counts.
fn mounts(label: &ContainerSettings, written: &ContainerSettings, readonly: bool) -> Vec<Mount> {
    let mut all: BTreeMap<String, Mount> = BTreeMap::new();
    let tmpfs = last(&label.tmpfs, &written.tmpfs).into_iter().flatten().map(Mount::from);
    let binds: Vec<&Bind> = match (&written.binds, &written.binds_add) {
        (Some(binds), _) => binds.iter().collect(),
        (None, add) => label.binds.iter().flatten().chain(add.iter().flatten()).collect(),
    };
    let mounts = last(&label.mounts, &written.mounts).into_iter().flatten().cloned();
    let of_volumes_too = mounts.map(|mut mount| {
        mount.source = mount.volume().map(merged_dir).unwrap_or(mount.source);
        if mount.kind == "bind" && !mount.options.iter().any(|o| o == "bind" || o == "rbind") {
            mount.options.push("rbind".to_owned());
        }
        mount
    });
    let in_order = default_mounts(readonly).into_iter().chain(tmpfs);
    for mount in in_order.chain(binds.into_iter().map(Mount::from)).chain(of_volumes_too) {
        all.insert(mount.destination.clone(), mount);
    }
    all.into_values().collect()
}

/// What LinuxKit mounts in every container; `/dev/shm` and `/dev/mqueue` are not among it.
fn default_mounts(readonly: bool) -> [Mount; 5] {
    let mount = |destination: &str, kind: &str, options: &[&str], last: Option<&str>| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: kind.to_owned(),
        options: options.iter().copied().chain(last).map(str::to_owned).collect(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    };
    let ro = readonly.then_some("ro");
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    [
        mount("/proc", "proc", &["nosuid", "nodev", "noexec", "relatime"], None),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"], ro),
        mount("/dev/pts", "devpts", &pts, None),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev"], ro),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"], None),
    ]
}

impl From<&Tmpfs> for Mount {
    fn from(tmpfs: &Tmpfs) -> Mount {
        Mount {
            destination: tmpfs.destination.clone(),
            kind: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            options: tmpfs.options.clone(),
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
        }
    }
}

/// A volume's name becomes its directory.
impl From<&Bind> for Mount {
    fn from(bind: &Bind) -> Mount {
        Mount {
            destination: bind.destination.clone(),
            kind: "bind".to_owned(),
            source: bind.volume().map_or_else(|| bind.source.clone(), merged_dir),
            options: bind.mount_options(),
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
        }
    }
}

/// The nodes to make, and the limits with a rule for each device at their end: a node is of no use without one.
fn devices(label: &ContainerSettings, written: &ContainerSettings) -> (Vec<DeviceNode>, Resources) {
    let mut resources = settled(&label.resources, &written.resources);
    let mut nodes = Vec::new();
    for device in last(&label.devices, &written.devices).into_iter().flatten() {
        let (kind, major, minor) = match device {
            Device::All(kind) => (*kind, None, None),
            Device::Node(node) => {
                nodes.push(node.clone());
                (node.kind, Some(node.major), Some(node.minor))
            }
        };
        let access = "rwm".to_owned();
        resources.devices.push(DeviceRule { allow: true, kind: Some(kind), major, minor, access });
    }
    (nodes, resources)
}

#[cfg(all(test, feature = "yaml"))]
mod tests;
