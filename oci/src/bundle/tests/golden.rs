//! The configurations of a few containers, as LinuxKit makes them of the same node file and image.
//!
//! Two things differ: sets are in byte order here, and LinuxKit loses the keys of `resources` and of mappings that are
//! in camel case (`disableOOMKiller`, `weightDevice`, `hostID`), which are kept here.

use super::super::layout::Roots;
use super::*;
use kit_spec::node::Capability;

fn read(case: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bundle/tests/golden").join(case).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check(case: &str) {
    let image = parsed(read(case, "image.json").as_bytes());
    let container = settle(&read(case, "node.yml"), &image);
    let config = parsed(&config_json(&container).unwrap());
    compare("config.json", &config, &parsed(read(case, "config.json").as_bytes()));
    let place = Roots::new().place(Section::Services, 0, "app", "image", container.readonly).unwrap();
    let runtime = serde_json::to_value(place.with_mounts(container.runtime)).unwrap();
    compare("runtime.json", &runtime, &parsed(read(case, "runtime.json").as_bytes()));
}

/// Compares member by member: what differs is named.
fn compare(at: &str, found: &Value, want: &Value) {
    match (found, want) {
        (Value::Object(found), Value::Object(want)) => {
            assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "members of {at}");
            want.iter().for_each(|(key, want)| compare(&format!("{at}/{key}"), &found[key], want));
        }
        (Value::Array(found), Value::Array(want)) if found.len() == want.len() => {
            let pairs = found.iter().zip(want).enumerate();
            pairs.for_each(|(index, (found, want))| compare(&format!("{at}/{index}"), found, want));
        }
        _ => assert_eq!(found, want, "{at}"),
    }
}

#[test]
fn a_container_that_says_nothing_has_linuxkits_defaults() {
    check("defaults");
}

#[test]
fn a_container_that_says_everything_has_it_all() {
    check("everything");
}

#[test]
fn devices_and_limits_become_rules() {
    check("limits");
}

#[test]
fn a_label_comes_between_the_image_and_the_node_file() {
    check("label");
}

#[test]
fn the_same_container_is_the_same_bytes() {
    let text = read("everything", "node.yml");
    let image = parsed(read("everything", "image.json").as_bytes());
    let first = config_json(&settle(&text, &image)).unwrap();
    for _ in 0..20 {
        assert_eq!(config_json(&settle(&text, &image)).unwrap(), first);
    }
    assert!(first.ends_with(b"}\n"));
}

#[test]
fn every_capability_and_limit_has_a_name_in_the_specification() {
    let limits: Vec<String> = Rlimit::names().map(|name| format!("{name},1,2")).collect();
    let node = format!(
        "services: [{{name: app, image: x, command: [a], capabilities: [all], rlimits: {}}}]",
        json!(limits)
    );
    let config = parsed(&config_json(&settle(&node, &json!({}))).unwrap());
    let names: Vec<&str> = Capability::all().map(Capability::name).collect();
    let said: Vec<&str> = config["process"]["capabilities"]["bounding"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(said.len(), names.len());
    assert!(said.is_sorted() && names.iter().all(|name| said.contains(name)));
    assert_eq!(config["process"]["rlimits"].as_array().unwrap().len(), limits.len());
}

#[test]
fn the_configuration_reads_back_as_it_was_written() {
    let image = parsed(read("everything", "image.json").as_bytes());
    let spec = spec(&settle(&read("everything", "node.yml"), &image)).unwrap();
    let back: runtime::Spec = serde_json::from_slice(&to_json(&spec).unwrap()).unwrap();
    assert_eq!(back, spec);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn maps_are_written_in_order_whatever_is_in_them(
        pairs in prop::collection::btree_map("[a-zA-Z0-9./_-]{1,12}", "[ -~]{0,12}", 0..20),
    ) {
        let node = format!("services: [{{name: app, image: x, command: [a], annotations: {}}}]", json!(pairs));
        let container = settle(&node, &json!({}));
        let config = config_json(&container).unwrap();
        prop_assert_eq!(&config, &config_json(&container).unwrap());
        let places: Vec<usize> = container
            .annotations
            .keys()
            .map(|key| String::from_utf8_lossy(&config).find(&format!("\n    {}: ", json!(key))).expect("it is there"))
            .collect();
        prop_assert!(places.is_sorted());
    }
}
