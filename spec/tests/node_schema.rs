//! The schema and the reader know the same keys, and a file that has them all is accepted.

use kit_spec::node::{Node, Source, schema};
use serde_json::Value;
use std::collections::BTreeSet;

const EVERY_KEY: &str = include_str!("every-key.yml");

#[test]
fn a_file_with_every_key_is_accepted() {
    let (node, warnings) = Node::parse(&[Source { name: "every-key.yml", text: EVERY_KEY }]).unwrap();
    assert_eq!(node.services.len(), 3);
    let warned: Vec<&str> = warnings.iter().map(|warning| warning.0.path.as_str()).collect();
    let of_web = |key: &str| format!("services[0].resources.{key}");
    assert_eq!(
        warned,
        [
            "trust".to_owned(),
            of_web("memory.kernel"),
            of_web("memory.kernelTCP"),
            of_web("memory.swappiness"),
            of_web("memory.disableOOMKiller"),
            of_web("cpu.realtimeRuntime"),
            of_web("cpu.realtimePeriod"),
            of_web("blockio.leafWeight"),
            of_web("blockio.weightDevice[0].leafWeight"),
            of_web("network"),
        ]
    );
}

#[test]
fn every_key_of_the_schema_is_in_the_file_and_the_other_way_round() {
    let schema = schema();
    let mut known = BTreeSet::new();
    for (name, structure) in
        schema["$defs"].as_object().unwrap().iter().chain([(&"Node".to_owned(), &schema)])
    {
        let keys = structure["properties"].as_object().unwrap().keys();
        known.extend(keys.map(|key| format!("{}.{key}", one_container(name))));
    }
    let mut used = BTreeSet::new();
    let document: Value = serde_saphyr::from_str(EVERY_KEY).unwrap();
    keys_of(&schema, "Node", &schema, &document, &mut used);
    let unused: Vec<_> = known.difference(&used).collect();
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unused.is_empty(), "in the schema and not in the file: {unused:#?}");
    assert!(unknown.is_empty(), "in the file and not in the schema: {unknown:#?}");
    assert!(known.len() > 150, "{} keys", known.len());
}

#[test]
fn every_key_is_described_and_no_structure_takes_others() {
    let schema = schema();
    let mut structures = 1;
    let check = |name: &str, structure: &Value| {
        assert_eq!(structure["additionalProperties"], Value::Bool(false), "{name}");
        assert!(structure["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        for (key, value) in structure["properties"].as_object().unwrap() {
            let text = value["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{name}.{key}: {text:?}");
        }
    };
    check("the node", &schema);
    for (name, structure) in schema["$defs"].as_object().unwrap() {
        check(name, structure);
        structures += 1;
    }
    assert!(structures > 25, "{structures}");
    let text = schema.to_string();
    assert!(!text.contains("null"), "a key that is there has a value: {text}");
    assert!(!text.contains("\"default\""), "{text}");
}

#[test]
fn a_container_has_only_the_keys_of_its_section() {
    let schema = schema();
    let keys = |kind: &str| -> BTreeSet<String> {
        schema["$defs"][kind]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let (onboot, onshutdown, service) =
        (keys("OnbootContainer"), keys("OnshutdownContainer"), keys("Service"));
    let more = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(more(&onboot, &onshutdown), ["required", "timeout"]);
    assert_eq!(more(&service, &onshutdown), ["after", "ready", "restart", "stop"]);
    assert!(more(&onshutdown, &onboot).is_empty() && more(&onshutdown, &service).is_empty());
    assert_eq!(schema["$defs"]["Service"]["required"], serde_json::json!(["name", "image"]));
}

/// The keys of LinuxKit's schema and of the runtime block that its init executes, a line for each structure; a container
/// is one of `onboot`, `onshutdown` and `services`.
const LINUXKIT: &str = "\
: kernel init onboot onshutdown services trust files volumes
kernel: image cmdline binary tar ucode
trust: image org
volumes: name image readonly format platforms
files: path directory symlink contents source metadata optional mode uid gid
container: name image capabilities capabilities.add ambient mounts binds binds.add devices tmpfs command env cwd net \
pid ipc uts userns readonly maskedPaths readonlyPaths uid gid additionalGids noNewPrivileges hostname oomScoreAdj \
rootfsPropagation cgroupsPath resources sysctl rlimits uidMappings gidMappings annotations runtime
container/mounts: destination type source options uidmappings gidmappings
container/mounts/uidmappings: hostID containerID size
container/devices: path type major minor mode
container/uidMappings: hostID containerID size
container/gidMappings: hostID containerID size
container/resources: devices memory cpu pids blockio hugepageLimits network
container/resources/devices: allow type major minor access
container/resources/memory: limit reservation swap kernel kernelTCP swappiness disableOOMKiller
container/resources/cpu: shares quota period realtimeRuntime realtimePeriod cpus mems
container/resources/pids: limit
container/resources/blockio: weight leafWeight weightDevice throttleReadBpsDevice throttleWriteBpsDevice \
throttleReadIOPSDevice throttleWriteIOPSDevice
container/resources/blockio/weightDevice: major minor weight leafWeight
container/resources/blockio/throttleReadBpsDevice: major minor rate
container/resources/hugepageLimits: pageSize limit
container/resources/network: classID priorities
container/resources/network/priorities: name priority
container/runtime: cgroups mounts mkdir interfaces bindNS namespace
container/runtime/mounts: destination type source options
container/runtime/interfaces: name add peer createInRoot
container/runtime/bindNS: cgroup ipc mnt net pid user uts";

#[test]
fn every_key_of_linuxkit_is_in_the_file() {
    let mut used = BTreeSet::new();
    let document: Value = serde_saphyr::from_str(EVERY_KEY).unwrap();
    paths_of("", &document, &mut used);
    let mut missing = Vec::new();
    let mut count = 0;
    for line in LINUXKIT.lines() {
        let (structure, keys) = line.split_once(':').unwrap();
        for key in keys.split_whitespace() {
            let path = format!("{structure}/{key}");
            count += 1;
            if !used.contains(path.trim_start_matches('/')) {
                missing.push(path);
            }
        }
    }
    assert!(missing.is_empty(), "LinuxKit has it and the file has not: {missing:#?}");
    assert_eq!(count, 154);
}

/// Records the way to every key of a value; lists are not counted as steps.
fn paths_of(at: &str, value: &Value, paths: &mut BTreeSet<String>) {
    for item in value.as_array().into_iter().flatten() {
        paths_of(at, item, paths);
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}/{key}") };
        paths.insert(path.clone());
        let is_container = at.is_empty() && matches!(key.as_str(), "onboot" | "onshutdown" | "services");
        paths_of(if is_container { "container" } else { &path }, inner, paths);
    }
}

/// Records `STRUCTURE.key` for every key of a value, as the schema has the structure.
fn keys_of(root: &Value, name: &str, schema: &Value, value: &Value, keys: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return keys_of(root, name, root.pointer(reference.trim_start_matches('#')).unwrap(), value, keys);
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        let map = one["$ref"].is_string() || one["properties"].is_object();
        if map == value.is_object() {
            keys_of(root, name, one, value, keys);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        keys_of(root, name, &schema["items"], item, keys);
    }
    if schema["properties"].is_object() {
        for (key, inner) in value.as_object().unwrap() {
            keys.insert(format!("{}.{key}", one_container(name)));
            keys_of(root, key, &schema["properties"][key], inner, keys);
        }
    }
}

/// A container's keys count wherever they stand.
fn one_container(name: &str) -> &str {
    match name {
        "OnbootContainer" | "OnshutdownContainer" | "Service" => "Container",
        name => name,
    }
}
