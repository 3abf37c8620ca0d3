//! `kitc features`: what this runtime can do (runtime-spec, "Features Structure").

use crate::capability;
use crate::mount::options;
use crate::seccomp;
use serde_json::{Value, json};

/// The structure as JSON.
pub fn features() -> Value {
    let capabilities: Vec<String> = capability::ALL.iter().map(|c| format!("CAP_{c}")).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::OCI_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
        ],
        "mountOptions": options::known_words(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": seccomp::known(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": false },
        },
    })
}
