//! Bundles: a decided container as an OCI runtime configuration, and where its parts lie in a root.
//!
//! ```text
//!   image config, label, node file ──kit_spec::node──▶ Container ──config_json──▶ config.json (or spec ─▶ Spec)
//!        │ User, /etc/passwd, /etc/group
//!        └──account::resolve──▶ uid, gid, groups
//!   image's tree ──root::furnish──▶ the tree with what every root must hold
//!   section, name, readonly ──layout::Roots::place──▶ paths, and the mounts that make the root writable
//! ```
//!
//! Everything here is pure: no file is read, nothing is looked up. What comes out is what LinuxKit's builder makes of
//! the same settings, field by field (runtime-spec 1.2.1, config.md and config-linux.md), so that either project's init
//! can start it. The same container gives the same bytes: maps and sets are written in order.

use kit_spec::node::Container;
use kit_spec::node::container::Namespaces;
use kit_spec::node::resources::Resources;
use kit_spec::node::settings::{DeviceNode, Namespace, Rlimit};
use oci_spec::runtime;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub mod account;
pub mod layout;
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
    /// A value that JSON or the specification's types cannot hold.
    #[error("say the container in the words of the runtime specification")]
    Json {
        /// Which, and why not.
        #[source]
        source: serde_json::Error,
    },
}

impl From<serde_json::Error> for BundleError {
    fn from(source: serde_json::Error) -> Self {
        BundleError::Json { source }
    }
}

/// The `config.json` of a container, checked against the specification's types: keys and sets in byte order, two
/// spaces, a newline at the end.
///
/// # Errors
/// See [`BundleError`].
pub fn config_json(container: &Container) -> Result<Vec<u8>, BundleError> {
    let value = value(container)?;
    serde_json::from_value::<runtime::Spec>(value.clone())?;
    text(value)
}

/// A container in the words of the runtime specification.
///
/// # Errors
/// See [`BundleError`].
pub fn spec(container: &Container) -> Result<runtime::Spec, BundleError> {
    Ok(serde_json::from_value(value(container)?)?)
}

/// A configuration as JSON, in the form of [`config_json`]. (The types' own serialisation writes maps and sets in an
/// order that differs each time.)
///
/// # Errors
/// [`BundleError::Json`]: a path that is not UTF-8.
pub fn to_json(spec: &runtime::Spec) -> Result<Vec<u8>, BundleError> {
    let mut value = serde_json::to_value(spec)?;
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    text(value)
}

fn text(mut value: Value) -> Result<Vec<u8>, BundleError> {
    value.sort_all_objects();
    let mut bytes = serde_json::to_vec_pretty(&value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn value(container: &Container) -> Result<Value, BundleError> {
    let mut root = Said::default();
    root.say("path", ROOTFS)?;
    root.say("readonly", container.readonly)?;
    let mut config = Said::default();
    config.say("ociVersion", OCI_VERSION)?;
    config.say("process", process(container)?)?;
    config.say("root", root.0)?;
    config.say("hostname", &container.hostname)?;
    config.say("mounts", &container.mounts)?;
    config.say("annotations", &container.annotations)?;
    config.say("linux", linux(container)?)?;
    Ok(config.0.into())
}

fn process(container: &Container) -> Result<Value, BundleError> {
    let mut user = Said::default();
    user.say("uid", container.user.uid)?;
    user.say("gid", container.user.gid)?;
    user.say("additionalGids", &container.user.additional_gids)?;
    let sets = &container.capabilities;
    let mut capabilities = Said::default();
    capabilities.say("bounding", &sets.bounding)?;
    capabilities.say("effective", &sets.effective)?;
    capabilities.say("inheritable", &sets.inheritable)?;
    capabilities.say("permitted", &sets.permitted)?;
    capabilities.say("ambient", &sets.ambient)?;
    let rlimits: Vec<Value> = container.rlimits.iter().map(rlimit).collect();
    let mut process = Said::default();
    process.say("user", user.0)?;
    process.say("args", &container.args)?;
    process.say("env", &container.env)?;
    process.say("cwd", &container.cwd)?;
    process.0.insert("capabilities".to_owned(), capabilities.0.into());
    process.say("rlimits", rlimits)?;
    process.say("noNewPrivileges", container.no_new_privileges)?;
    process.say("oomScoreAdj", container.oom_score_adj)?;
    Ok(process.0.into())
}

fn linux(container: &Container) -> Result<Value, BundleError> {
    let devices: Vec<Value> = container.devices.iter().map(device).collect();
    let mut linux = Said::default();
    linux.say("uidMappings", &container.uid_mappings)?;
    linux.say("gidMappings", &container.gid_mappings)?;
    linux.say("sysctl", &container.sysctl)?;
    linux.0.insert("resources".to_owned(), resources(&container.resources)?);
    linux.say("cgroupsPath", &container.cgroups_path)?;
    linux.say("namespaces", namespaces(&container.namespaces))?;
    linux.say("devices", devices)?;
    linux.say("rootfsPropagation", container.rootfs_propagation)?;
    linux.say("maskedPaths", &container.masked_paths)?;
    linux.say("readonlyPaths", &container.readonly_paths)?;
    Ok(linux.0.into())
}

/// The node file's words are the specification's, but for one.
fn resources(resources: &Resources) -> Result<Value, BundleError> {
    let mut value = serde_json::to_value(resources)?;
    if let Some(map) = value.as_object_mut() {
        if let Some(block_io) = map.remove("blockio") {
            map.insert("blockIO".to_owned(), block_io);
        }
        for rule in map.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
            // No access written is all of it, for the runtimes too; saying so spares them the rule.
            if rule.get("access").is_none() {
                rule["access"] = "rwm".into();
            }
        }
    }
    Ok(value)
}

/// In LinuxKit's order, the mount namespace last: it is always new.
fn namespaces(namespaces: &Namespaces) -> Vec<Value> {
    let all = [
        ("network", &namespaces.net),
        ("ipc", &namespaces.ipc),
        ("uts", &namespaces.uts),
        ("pid", &namespaces.pid),
        ("user", &namespaces.user),
        ("mount", &Namespace::New),
    ];
    let said = |(kind, namespace): (&str, &Namespace)| match namespace {
        Namespace::Host => None,
        Namespace::New => Some(json!({ "type": kind })),
        Namespace::Path(path) => Some(json!({ "type": kind, "path": path })),
    };
    all.into_iter().filter_map(said).collect()
}

fn device(node: &DeviceNode) -> Value {
    json!({
        "path": node.path,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode,
    })
}

fn rlimit(limit: &Rlimit) -> Value {
    json!({ "type": limit.name(), "soft": limit.soft(), "hard": limit.hard() })
}

/// A JSON object of what is said: what is false, empty or nothing at all is left out, as LinuxKit leaves it out.
#[derive(Default)]
struct Said(Map<String, Value>);

impl Said {
    fn say(&mut self, key: &str, value: impl Serialize) -> Result<(), BundleError> {
        let value = serde_json::to_value(value)?;
        let empty = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        if !empty {
            self.0.insert(key.to_owned(), value);
        }
        Ok(())
    }
}
