//! Bundles: a decided container as an OCI runtime configuration, and where its parts lie in a root.
//!
//! ```text
//!   image config, label, node file ──kit_spec::node──▶ Container ──spec──▶ Spec ──to_json──▶ config.json
//!        │ User, /etc/passwd, /etc/group
//!        └──account::resolve──▶ uid, gid, groups
//!   image's tree ──root::furnish──▶ the tree with what every root must hold
//!   section, name, readonly ──layout::Roots::place──▶ paths, and the mounts that make the root writable
//! ```
//!
//! Everything here is pure: no file is read, nothing is looked up. What comes out is what LinuxKit's builder makes of
//! the same settings, field by field (runtime-spec 1.2.1, config.md and config-linux.md), so that either project's init
//! can start it. The same container gives the same bytes: maps and sets are written in order.

use std::path::PathBuf;

use kit_spec::node::container::{CapabilitySets, Namespaces};
use kit_spec::node::settings::{DeviceNode, DeviceType, IdMapping, Mount, Namespace, Propagation, Rlimit};
use kit_spec::node::{Capability, Container};
use oci_spec::runtime;
use serde_json::Value;

pub mod account;
pub mod layout;
mod resources;
pub mod root;
#[cfg(test)]
mod tests;

/// The version of the runtime specification that a configuration says it follows.
pub const OCI_VERSION: &str = "1.2.1";

/// The directory of a bundle that holds the root file system, which a configuration names.
pub const ROOTFS: &str = "rootfs";

/// Why a container cannot be said in the words of the runtime specification.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A capability that the specification's types do not know.
    #[error("the runtime specification has no capability `{name}`")]
    Capability {
        /// Its name.
        name: &'static str,
    },
    /// A limit that the specification's types do not know.
    #[error("the runtime specification has no limit `{name}`")]
    Rlimit {
        /// Its name.
        name: &'static str,
    },
    /// A value that JSON cannot hold, such as a path that is not UTF-8.
    #[error("write the container's configuration as JSON")]
    Json {
        /// What serialising said.
        #[source]
        source: serde_json::Error,
    },
}

/// The `config.json` of a container: [`spec`], then [`to_json`].
///
/// # Errors
/// See [`BundleError`].
pub fn config_json(container: &Container) -> Result<Vec<u8>, BundleError> {
    to_json(&spec(container)?)
}

/// A container in the words of the runtime specification.
///
/// # Errors
/// [`BundleError::Capability`] and [`BundleError::Rlimit`]: a name that is newer than the specification's types.
pub fn spec(container: &Container) -> Result<runtime::Spec, BundleError> {
    let mut root = runtime::Root::default();
    root.set_path(ROOTFS.into());
    root.set_readonly(container.readonly.then_some(true));
    let mounts = container.mounts.iter().map(mount).collect();
    let mut spec = runtime::Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_process(Some(process(container)?));
    spec.set_root(Some(root));
    spec.set_hostname(container.hostname.clone());
    spec.set_mounts(Some(mounts));
    spec.set_annotations(filled(&container.annotations).map(|map| map.clone().into_iter().collect()));
    spec.set_linux(Some(linux(container)));
    Ok(spec)
}

/// A configuration as JSON, the same bytes for the same value: keys and sets in byte order, two spaces, a newline at
/// the end.
///
/// # Errors
/// [`BundleError::Json`].
pub fn to_json(spec: &runtime::Spec) -> Result<Vec<u8>, BundleError> {
    let json = |source| BundleError::Json { source };
    let mut value = serde_json::to_value(spec).map_err(json)?;
    value.sort_all_objects();
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn process(container: &Container) -> Result<runtime::Process, BundleError> {
    let mut user = runtime::User::default();
    user.set_uid(container.user.uid);
    user.set_gid(container.user.gid);
    user.set_additional_gids(some(&container.user.additional_gids));
    let rlimits: Vec<_> = container.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?;
    let mut process = runtime::Process::default();
    process.set_terminal(None);
    process.set_user(user);
    process.set_args(some(&container.args));
    process.set_env(some(&container.env));
    process.set_cwd(PathBuf::from(&container.cwd));
    process.set_capabilities(Some(capabilities(&container.capabilities)?));
    process.set_rlimits(some(&rlimits));
    process.set_no_new_privileges(container.no_new_privileges.then_some(true));
    process.set_oom_score_adj(container.oom_score_adj);
    Ok(process)
}

fn linux(container: &Container) -> runtime::Linux {
    let devices: Vec<_> = container.devices.iter().map(device).collect();
    let mut linux = runtime::Linux::default();
    linux.set_uid_mappings(mappings(&container.uid_mappings));
    linux.set_gid_mappings(mappings(&container.gid_mappings));
    linux.set_sysctl(filled(&container.sysctl).map(|map| map.clone().into_iter().collect()));
    linux.set_resources(Some(resources::lower(&container.resources)));
    linux.set_cgroups_path(container.cgroups_path.as_ref().map(PathBuf::from));
    linux.set_namespaces(Some(namespaces(&container.namespaces)));
    linux.set_devices(some(&devices));
    linux.set_rootfs_propagation(container.rootfs_propagation.map(Propagation::as_str).map(str::to_owned));
    // The specification's types have Docker's paths here by default; LinuxKit has none unless they are asked for.
    linux.set_masked_paths(some(&container.masked_paths));
    linux.set_readonly_paths(some(&container.readonly_paths));
    linux
}

fn capabilities(sets: &CapabilitySets) -> Result<runtime::LinuxCapabilities, BundleError> {
    let lower = |set: &std::collections::BTreeSet<Capability>| {
        let known = |capability: &Capability| {
            let name = capability.name();
            let short = name.strip_prefix("CAP_").unwrap_or(name);
            short.parse().map_err(|_| BundleError::Capability { name })
        };
        let set: runtime::Capabilities = set.iter().map(known).collect::<Result<_, _>>()?;
        Ok((!set.is_empty()).then_some(set))
    };
    let mut capabilities = runtime::LinuxCapabilities::default();
    capabilities.set_bounding(lower(&sets.bounding)?);
    capabilities.set_effective(lower(&sets.effective)?);
    capabilities.set_inheritable(lower(&sets.inheritable)?);
    capabilities.set_permitted(lower(&sets.permitted)?);
    capabilities.set_ambient(lower(&sets.ambient)?);
    Ok(capabilities)
}

fn rlimit(limit: &Rlimit) -> Result<runtime::PosixRlimit, BundleError> {
    let name = limit.name();
    let mut lowered = runtime::PosixRlimit::default();
    lowered.set_typ(name.parse().map_err(|_| BundleError::Rlimit { name })?);
    lowered.set_soft(limit.soft());
    lowered.set_hard(limit.hard());
    Ok(lowered)
}

fn mount(mount: &Mount) -> runtime::Mount {
    let mut lowered = runtime::Mount::default();
    lowered.set_destination(PathBuf::from(&mount.destination));
    lowered.set_typ((!mount.kind.is_empty()).then(|| mount.kind.clone()));
    lowered.set_source((!mount.source.is_empty()).then(|| PathBuf::from(&mount.source)));
    lowered.set_options(some(&mount.options));
    lowered.set_uid_mappings(mappings(&mount.uid_mappings));
    lowered.set_gid_mappings(mappings(&mount.gid_mappings));
    lowered
}

/// In LinuxKit's order, the mount namespace last: it is always new.
fn namespaces(namespaces: &Namespaces) -> Vec<runtime::LinuxNamespace> {
    use runtime::LinuxNamespaceType as Type;
    let all = [
        (Type::Network, &namespaces.net),
        (Type::Ipc, &namespaces.ipc),
        (Type::Uts, &namespaces.uts),
        (Type::Pid, &namespaces.pid),
        (Type::User, &namespaces.user),
        (Type::Mount, &Namespace::New),
    ];
    let lower = |(kind, namespace): (Type, &Namespace)| {
        let path = match namespace {
            Namespace::Host => return None,
            Namespace::New => None,
            Namespace::Path(path) => Some(PathBuf::from(path)),
        };
        let mut lowered = runtime::LinuxNamespace::default();
        lowered.set_typ(kind);
        lowered.set_path(path);
        Some(lowered)
    };
    all.into_iter().filter_map(lower).collect()
}

fn device(node: &DeviceNode) -> runtime::LinuxDevice {
    let mut device = runtime::LinuxDevice::default();
    device.set_path(PathBuf::from(&node.path));
    device.set_typ(device_type(node.kind));
    device.set_major(node.major);
    device.set_minor(node.minor);
    device.set_file_mode(Some(node.mode));
    device
}

fn device_type(kind: DeviceType) -> runtime::LinuxDeviceType {
    match kind {
        DeviceType::Any => runtime::LinuxDeviceType::A,
        DeviceType::Block => runtime::LinuxDeviceType::B,
        DeviceType::Char => runtime::LinuxDeviceType::C,
        DeviceType::Unbuffered => runtime::LinuxDeviceType::U,
        DeviceType::Pipe => runtime::LinuxDeviceType::P,
    }
}

fn mappings(mappings: &[IdMapping]) -> Option<Vec<runtime::LinuxIdMapping>> {
    let lower = |mapping: &IdMapping| {
        let mut lowered = runtime::LinuxIdMapping::default();
        lowered.set_container_id(mapping.container_id);
        lowered.set_host_id(mapping.host_id);
        lowered.set_size(mapping.size);
        lowered
    };
    (!mappings.is_empty()).then(|| mappings.iter().map(lower).collect())
}

/// A list that is left out when it is empty.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// A map that is left out when it is empty.
fn filled<K, V>(map: &std::collections::BTreeMap<K, V>) -> Option<&std::collections::BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}
