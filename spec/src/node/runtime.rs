//! `runtime`: what is done around a container's start that no `config.json` can say.
//!
//! [`RuntimeSettings`] is what a file or label says, each key by itself present or not; [`Runtime`] is what comes of
//! both. Its JSON is the `runtime.json` that LinuxKit writes beside `config.json`: every key present, an absent
//! namespace as an empty text.
//!
//! In the order of what is done: cgroups are made; mounts, each after its destination (and the `upperdir` and `workdir`
//! of an overlay) has been made; directories; the container; interfaces and bound namespaces; then it is started. The
//! paths of mounts and directories are the machine's where they are absolute, and else in the container's root file
//! system.

use super::settings::Mount;
use serde::{Deserialize, Serialize};

/// `runtime` as written: a key that is missing leaves the label's value, an empty one clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeSettings {
    /// Cgroups to make before the container starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<Vec<String>>,
    /// Mounts to make before the container starts.
    #[serde(serialize_with = "super::settings::as_written", skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Directories to make before the container starts, after the mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mkdir: Option<Vec<String>>,
    /// Network interfaces to make or to move into the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<Interface>>,
    /// Where to bind the container's namespaces.
    #[serde(rename = "bindNS", skip_serializing_if = "Option::is_none")]
    pub bind_ns: Option<BindNsSettings>,
    /// Kept for LinuxKit's files: the containerd namespace of a service. Nothing of ours reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// `runtime.bindNS` as written: absolute paths; an empty one clears the label's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BindNsSettings {
    /// The cgroup namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The IPC namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// The mount namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mnt: Option<String>,
    /// The network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// The pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// The user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
}

/// `runtime.interfaces[]`: a network interface of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// Its name. Without `add` and `peer`, an interface of the machine that is moved into the container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The type of interface to make, `veth` or `wireguard`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub add: String,
    /// The name of the end that stays on the machine; says `add: veth` by itself. Empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Whether it is made in the machine's namespace and then moved (wireguard needs it).
    #[serde(default)]
    pub create_in_root: bool,
}

/// What is done around a container's start, decided. The JSON is LinuxKit's `runtime.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// Cgroups to make before the container starts.
    pub cgroups: Vec<String>,
    /// Mounts to make before the container starts, in this order; not checked for volumes or types.
    pub mounts: Vec<Mount>,
    /// Directories to make before the container starts, after the mounts.
    pub mkdir: Vec<String>,
    /// Network interfaces to make or to move into the container.
    pub interfaces: Vec<Interface>,
    /// Where to bind the container's namespaces.
    #[serde(rename = "bindNS")]
    pub bind_ns: BindNs,
    /// The containerd namespace of LinuxKit; empty for its default.
    pub namespace: String,
}

/// Paths to bind the container's namespaces to; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BindNs {
    /// The cgroup namespace.
    pub cgroup: String,
    /// The IPC namespace.
    pub ipc: String,
    /// The mount namespace.
    pub mnt: String,
    /// The network namespace.
    pub net: String,
    /// The pid namespace.
    pub pid: String,
    /// The user namespace.
    pub user: String,
    /// The UTS namespace.
    pub uts: String,
}

impl Runtime {
    /// What comes of a label and a node file: each key of the file, where it is present, in place of the label's.
    pub fn merged(label: Option<&RuntimeSettings>, written: Option<&RuntimeSettings>) -> Runtime {
        let none = RuntimeSettings::default();
        let (label, written) = (label.unwrap_or(&none), written.unwrap_or(&none));
        Runtime {
            cgroups: later(&label.cgroups, &written.cgroups),
            mounts: later(&label.mounts, &written.mounts),
            mkdir: later(&label.mkdir, &written.mkdir),
            interfaces: later(&label.interfaces, &written.interfaces),
            bind_ns: BindNs::merged(label.bind_ns.as_ref(), written.bind_ns.as_ref()),
            namespace: later(&label.namespace, &written.namespace),
        }
    }
}

impl BindNs {
    fn merged(label: Option<&BindNsSettings>, written: Option<&BindNsSettings>) -> BindNs {
        let none = BindNsSettings::default();
        let (label, written) = (label.unwrap_or(&none), written.unwrap_or(&none));
        BindNs {
            cgroup: later(&label.cgroup, &written.cgroup),
            ipc: later(&label.ipc, &written.ipc),
            mnt: later(&label.mnt, &written.mnt),
            net: later(&label.net, &written.net),
            pid: later(&label.pid, &written.pid),
            user: later(&label.user, &written.user),
            uts: later(&label.uts, &written.uts),
        }
    }
}

fn later<T: Clone + Default>(label: &Option<T>, written: &Option<T>) -> T {
    written.as_ref().or(label.as_ref()).cloned().unwrap_or_default()
}
