use super::*;
use kit_spec::node::container::ImageDefaults;
use kit_spec::node::{ContainerSettings, IdMap};

fn spec(label: &str) -> Value {
    let image = ImageDefaults { entrypoint: vec!["/x".into()], ..ImageDefaults::default() };
    let label = ContainerSettings::from_label(label).unwrap();
    let written = ContainerSettings::default();
    let container = ContainerSettings::merged(&image, &label, &written, &IdMap::default()).unwrap();
    serde_json::from_slice(&config(&container).unwrap()).unwrap()
}

#[test]
fn a_container_of_which_nothing_is_said_gets_the_defaults() {
    let spec = spec("{}");
    assert_eq!(spec["process"]["args"], json!(["/x"]));
    assert_eq!(spec["process"]["cwd"], "/");
    assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": false}));
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "mount"}]));
    let at: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().filter_map(|m| m["destination"].as_str()).collect();
    assert_eq!(at, ["/dev", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"]);
}

#[test]
fn what_is_said_is_in_its_place() {
    let spec = spec(
        r#"{"capabilities": ["CAP_NET_ADMIN"], "net": "new", "pid": "host", "readonly": true, "uid": 5, "hostname": "h",
            "uts": "new", "oomScoreAdj": -5, "rlimits": ["nofile,10,unlimited"], "sysctl": {"net.x": "1"},
            "resources": {"memory": {"limit": 1000}, "pids": {"limit": 7}},
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": "0600"}]}"#,
    );
    assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_NET_ADMIN"]));
    assert_eq!(spec["process"]["user"]["uid"], 5);
    assert_eq!(spec["process"]["oomScoreAdj"], -5);
    assert_eq!(spec["process"]["rlimits"][0], json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": u64::MAX}));
    assert_eq!(spec["linux"]["namespaces"], json!([{"type": "network"}, {"type": "uts"}, {"type": "mount"}]));
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 1000);
    assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 7);
    assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/x");
    assert_eq!(spec["linux"]["resources"]["devices"][0]["access"], "rwm");
    assert_eq!((&spec["hostname"], &spec["linux"]["sysctl"]["net.x"]), (&json!("h"), &json!("1")));
}

#[test]
fn equal_settings_give_equal_bytes() {
    let text = || {
        serde_json::to_string(&spec(r#"{"sysctl": {"b": "1", "a": "2"}, "capabilities": ["all"]}"#)).unwrap()
    };
    assert_eq!(text(), text());
}
