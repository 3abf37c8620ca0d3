//! Reading a bundle: `config.json` into a checked [`Bundle`].
//!
//! Checked here, before anything is made: that the configuration has what Linux containers need,
//! that its parts agree with each other, and that it asks for nothing that `kitc` does not do. Each
//! error names the key.

use crate::namespace;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A bundle whose configuration is complete and consistent.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's absolute path.
    pub dir: PathBuf,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// The text it was read from.
    pub text: Vec<u8>,
}

/// Why a bundle is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the bundle cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration is not the JSON of the specification.
    #[error("read {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A key is missing.
    #[error("{key} is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is none that the key can have.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// What is there.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// Two keys contradict each other.
    #[error("{key} needs {needs}")]
    Needs {
        /// The key.
        key: String,
        /// What has to be there as well.
        needs: &'static str,
    },
    /// The configuration asks for something that `kitc` does not do.
    #[error("{key}: {what} is not supported")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What.
        what: &'static str,
    },
    /// The namespaces do not fit together.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
}

impl Bundle {
    /// Reads and checks the bundle in `dir`.
    pub fn load(dir: &Path) -> Result<Bundle, Error> {
        let dir = fs::canonicalize(dir).map_err(|source| Error::Read { path: dir.to_owned(), source })?;
        let (spec, text) = read_spec(&dir.join("config.json"))?;
        check(&spec)?;
        let root = spec.root().as_ref().ok_or(Error::Missing { key: "root" })?;
        let rootfs = dir.join(root.path());
        let rootfs = fs::canonicalize(&rootfs).map_err(|source| Error::Read { path: rootfs, source })?;
        Ok(Bundle { dir, rootfs, spec, text })
    }

    /// `process` of the configuration, which [`check`] found to be there.
    pub fn process(&self) -> Result<&Process, Error> {
        self.spec.process().as_ref().ok_or(Error::Missing { key: "process" })
    }

    /// `linux` of the configuration, which [`check`] found to be there.
    pub fn linux(&self) -> Result<&Linux, Error> {
        self.spec.linux().as_ref().ok_or(Error::Missing { key: "linux" })
    }
}

/// Reads a `config.json`, unchecked, with its text.
pub fn read_spec(path: &Path) -> Result<(Spec, Vec<u8>), Error> {
    let text = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let spec =
        serde_json::from_slice(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    Ok((spec, text))
}

/// Checks a configuration as a whole.
pub fn check(spec: &Spec) -> Result<(), Error> {
    if !spec.version().starts_with("1.") {
        return Err(Error::Value {
            key: "ociVersion".to_owned(),
            value: spec.version().clone(),
            expected: "a version 1 of the runtime specification",
        });
    }
    let process = spec.process().as_ref().ok_or(Error::Missing { key: "process" })?;
    check_process(process)?;
    let linux = spec.linux().as_ref().ok_or(Error::Missing { key: "linux" })?;
    check_linux(spec, linux)?;
    if spec.mounts().iter().flatten().any(|m| m.destination().as_os_str().is_empty()) {
        return Err(Error::Missing { key: "mounts[].destination" });
    }
    Ok(())
}

/// Checks a process, that of the configuration or one for `exec`.
pub fn check_process(process: &Process) -> Result<(), Error> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Missing { key: "process.args" });
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Value {
            key: "process.cwd".to_owned(),
            value: process.cwd().display().to_string(),
            expected: "an absolute path",
        });
    }
    if process.selinux_label().as_ref().is_some_and(|l| !l.is_empty()) {
        return Err(Error::Unsupported { key: "process.selinuxLabel", what: "SELinux" });
    }
    let apparmor = process.apparmor_profile().as_ref().is_some_and(|p| !p.is_empty());
    if apparmor && !Path::new("/sys/module/apparmor").exists() {
        return Err(Error::Needs {
            key: "process.apparmorProfile".to_owned(),
            needs: "a kernel with AppArmor, which this one is not",
        });
    }
    Ok(())
}

fn check_linux(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    if linux.mount_label().as_ref().is_some_and(|l| !l.is_empty()) {
        return Err(Error::Unsupported { key: "linux.mountLabel", what: "SELinux" });
    }
    if linux.intel_rdt().is_some() {
        return Err(Error::Unsupported { key: "linux.intelRdt", what: "resource director technology" });
    }
    if linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()) {
        return Err(Error::Unsupported { key: "linux.netDevices", what: "moving network devices" });
    }
    if linux.personality().as_ref().is_some_and(|p| p.flags().as_ref().is_some_and(|f| !f.is_empty())) {
        return Err(Error::Unsupported {
            key: "linux.personality.flags",
            what: "a flag of an execution domain",
        });
    }
    if let Some(path) = linux.masked_paths().iter().flatten().find(|path| !path.starts_with('/')) {
        return Err(Error::Value {
            key: "linux.maskedPaths".to_owned(),
            value: path.clone(),
            expected: "an absolute path",
        });
    }
    namespace::check(linux)?;
    let has = |kind| namespace::has(linux, kind);
    if spec.hostname().is_some() && !has(LinuxNamespaceType::Uts) {
        return Err(Error::Needs { key: "hostname".to_owned(), needs: "a uts namespace" });
    }
    if spec.domainname().is_some() && !has(LinuxNamespaceType::Uts) {
        return Err(Error::Needs { key: "domainname".to_owned(), needs: "a uts namespace" });
    }
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        let kind = sysctl_namespace(name).ok_or_else(|| Error::Value {
            key: "linux.sysctl".to_owned(),
            value: name.clone(),
            expected: "the name of a setting that a namespace has of its own",
        })?;
        if !has(kind) {
            let needs = match kind {
                LinuxNamespaceType::Network => "a network namespace",
                LinuxNamespaceType::Uts => "a uts namespace",
                _ => "an ipc namespace",
            };
            return Err(Error::Needs { key: format!("linux.sysctl[{name:?}]"), needs });
        }
    }
    Ok(())
}

/// The kind of namespace that a kernel setting belongs to, if to any.
pub fn sysctl_namespace(name: &str) -> Option<LinuxNamespaceType> {
    let name = name.replace('/', ".");
    match name.as_str() {
        "kernel.hostname" | "kernel.domainname" => Some(LinuxNamespaceType::Uts),
        "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni"
        | "kernel.sem"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced" => Some(LinuxNamespaceType::Ipc),
        _ if name.starts_with("fs.mqueue.") => Some(LinuxNamespaceType::Ipc),
        _ if name.starts_with("net.") => Some(LinuxNamespaceType::Network),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(change: impl FnOnce(&mut Value)) -> String {
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["a"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "ipc"}]},
        });
        change(&mut config);
        let spec: Spec = serde_json::from_value(config).unwrap();
        check(&spec).map_or_else(|e| e.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn errors_name_the_key() {
        let cases: [(&str, Value, &str); 15] = [
            (
                "/ociVersion",
                json!("2.0.0"),
                "ociVersion: \"2.0.0\" is not a version 1 of the runtime specification",
            ),
            ("/process", Value::Null, "process is missing"),
            ("/process/args", json!([]), "process.args is missing"),
            ("/process/cwd", json!("x"), "process.cwd: \"x\" is not an absolute path"),
            ("/process/selinuxLabel", json!("x"), "process.selinuxLabel: SELinux is not supported"),
            ("/linux", Value::Null, "linux is missing"),
            ("/linux/namespaces", json!([]), "linux.namespaces has no mount namespace"),
            (
                "/linux/namespaces",
                json!([{"type": "mount"}, {"type": "mount"}]),
                "linux.namespaces: mount is there twice",
            ),
            (
                "/linux/namespaces",
                json!([{"type": "mount"}, {"type": "user"}]),
                "a new user namespace needs linux.uidMappings",
            ),
            ("/linux/timeOffsets", json!({"monotonic": {}}), "linux.timeOffsets needs a time namespace"),
            ("/linux/intelRdt", json!({}), "linux.intelRdt: resource director technology is not supported"),
            ("/linux/maskedPaths", json!(["../x"]), "linux.maskedPaths: \"../x\" is not an absolute path"),
            ("/hostname", json!("x"), "hostname needs a uts namespace"),
            (
                "/linux/sysctl",
                json!({"net.ipv4.ip_forward": "1"}),
                "linux.sysctl[\"net.ipv4.ip_forward\"] needs a network namespace",
            ),
            (
                "/linux/sysctl",
                json!({"vm.swappiness": "1"}),
                "linux.sysctl: \"vm.swappiness\" is not the name of a setting that a namespace has of its own",
            ),
        ];
        for (pointer, value, expected) in cases {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let error = checked(|config| config.pointer_mut(parent).unwrap()[key] = value);
            assert_eq!(error, expected);
        }
        assert_eq!(checked(|_| {}), "fine");
        assert_eq!(
            checked(|c| c["linux"]["sysctl"] = json!({"kernel.shmmax": "1", "fs/mqueue/msg_max": "1"})),
            "fine"
        );
    }
}
