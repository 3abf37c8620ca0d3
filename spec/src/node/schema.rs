//! The JSON schema of the node file, for editors.
//!
//! It comes from the structures that read the file, with their documentation as descriptions. What the derivation does
//! not know is added here: words that a key is one of, patterns, and which keys of a container stand in which section.

use super::capability::Capability;
use super::raw::RawNode;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Keys of a container that only a service has.
const OF_SERVICES: [&str; 4] = ["restart", "after", "ready", "stop"];
/// Keys of a container that only an onboot container has.
const OF_ONBOOT: [&str; 2] = ["timeout", "required"];

/// Keys that a structure cannot do without.
const REQUIRED: [(&str, &[&str]); 12] = [
    ("OnbootContainer", &["name", "image"]),
    ("OnshutdownContainer", &["name", "image"]),
    ("Service", &["name", "image"]),
    ("Volume", &["name"]),
    ("File", &["path"]),
    ("Device", &["path", "type"]),
    ("IdMapping", &["hostID", "containerID", "size"]),
    ("WeightDevice", &["major", "minor"]),
    ("ThrottleDevice", &["major", "minor", "rate"]),
    ("HugepageLimit", &["pageSize", "limit"]),
    ("InterfacePriority", &["name", "priority"]),
    ("Restart", &["policy"]),
];

/// The JSON schema of a node file, draft 2020-12.
///
/// What it refuses, parsing refuses; parsing refuses more, since names and values that depend on each other are beyond
/// a schema.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<RawNode>().to_value();
    schema["title"] = json!("kit node file");
    sections(&mut schema);
    for (name, keys) in REQUIRED {
        schema["$defs"][name]["required"] = json!(keys);
    }
    words(&mut schema);
    schema
}

/// Makes of the one container a kind for each section.
fn sections(schema: &mut Value) {
    let Some(container) = schema["$defs"].as_object_mut().and_then(|defs| defs.remove("Container")) else {
        return;
    };
    let kinds = [
        ("onboot", "OnbootContainer", &OF_SERVICES[..], &[][..]),
        ("onshutdown", "OnshutdownContainer", &OF_SERVICES[..], &OF_ONBOOT[..]),
        ("services", "Service", &[][..], &OF_ONBOOT[..]),
    ];
    for (section, name, without, nor) in kinds {
        let mut kind = container.clone();
        if let Some(properties) = kind["properties"].as_object_mut() {
            properties.retain(|key, _| !without.contains(&key.as_str()) && !nor.contains(&key.as_str()));
        }
        schema["$defs"][name] = kind;
        schema["properties"][section]["items"] = json!({ "$ref": format!("#/$defs/{name}") });
    }
}

/// Adds what a text may be.
fn words(schema: &mut Value) {
    let capabilities: Vec<&str> =
        ["all", "none"].into_iter().chain(Capability::all().map(Capability::name)).collect();
    let propagation =
        ["", "shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];

    let duration = json!({ "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$" });
    let mode = json!({ "pattern": "^0*[0-7]{0,4}$" });
    let containers = ["OnbootContainer", "OnshutdownContainer", "Service"];
    for container in containers {
        for key in ["capabilities", "capabilities.add", "ambient"] {
            add(schema, container, key, "/items", json!({ "examples": capabilities }));
        }
        add(
            schema,
            container,
            "name",
            "",
            json!({ "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 76 }),
        );
        add(schema, container, "rlimits", "/items", json!({ "pattern": "^[^,]+,[^,]+,[^,]+$" }));
        add(schema, container, "rootfsPropagation", "", json!({ "enum": propagation }));
        add(schema, container, "oomScoreAdj", "", json!({ "minimum": -1000, "maximum": 1000 }));
        for key in ["binds", "binds.add"] {
            add(schema, container, key, "/items", json!({ "pattern": "^[^:]+:[^:]+(:[^:]*)?$" }));
        }
        add(schema, container, "tmpfs", "/items", json!({ "pattern": "^[^:]+(:[^:]*)?$" }));
    }
    add(schema, "OnbootContainer", "timeout", "", duration.clone());
    for (kind, key) in [
        ("Restart", "backoff"),
        ("Restart", "maxBackoff"),
        ("Ready", "deadline"),
        ("Ready", "interval"),
        ("Stop", "grace"),
    ] {
        add(schema, kind, key, "", duration.clone());
    }
    let policies = json!({ "enum": ["no", "on-failure", "always"] });
    add(schema, "Restart", "policy", "", policies.clone());
    add(schema, "Service", "restart", "/anyOf/0", policies);
    add(schema, "Stop", "kill", "", json!({ "enum": ["process", "cgroup"] }));
    add(schema, "Volume", "name", "", json!({ "pattern": "^[a-z0-9_-]+$" }));
    add(schema, "Volume", "format", "", json!({ "enum": ["filesystem", "oci"] }));
    add(schema, "File", "metadata", "", json!({ "enum": ["", "yaml", "json"] }));
    add(schema, "File", "mode", "", mode.clone());
    add(schema, "Device", "mode", "", mode);
    add(schema, "Device", "type", "", json!({ "enum": ["a", "b", "c", "u", "p"] }));
    add(schema, "DeviceRule", "type", "", json!({ "enum": ["", "a", "b", "c"] }));
    add(schema, "DeviceRule", "access", "", json!({ "pattern": "^[rwm]*$" }));
    add(schema, "Memory", "swappiness", "", json!({ "minimum": 0, "maximum": 100 }));
}

/// Adds keywords to the schema of one key; `inner` points at a part of it.
fn add(schema: &mut Value, kind: &str, key: &str, inner: &str, keywords: Value) {
    let found = schema.pointer_mut(&format!("/$defs/{kind}/properties/{key}{inner}"));
    debug_assert!(found.is_some(), "{kind}.{key}{inner} is a key of the schema");
    if let (Some(Value::Object(found)), Value::Object(keywords)) = (found, keywords) {
        found.extend::<Map<String, Value>>(keywords);
    }
}
