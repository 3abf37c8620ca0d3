use super::*;
use serde_json::{Value, json};

fn mount(json: Value) -> Mount {
    serde_json::from_value(json).unwrap()
}

fn bind(options: &[&str]) -> Mount {
    mount(json!({"destination": "/x", "type": "bind", "source": "/y", "options": options}))
}

#[test]
fn bind_mounts_are_known_by_type_or_option() {
    for (json, recursive) in [
        (json!({"destination": "/x", "type": "bind", "source": "/y"}), false),
        (json!({"destination": "/x", "type": "none", "source": "/y", "options": ["bind"]}), false),
        (json!({"destination": "/x", "source": "/y", "options": ["rbind"]}), true),
        (json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind", "bind"]}), true),
    ] {
        let mount = mount(json);
        let plan = parse(0, &mount).unwrap();
        assert_eq!(plan.kind, Kind::Bind { recursive, source: Path::new("/y") });
    }
}

#[test]
fn a_later_word_takes_back_an_earlier_one() {
    let mount = bind(&["ro", "nosuid", "rw", "noatime", "strictatime"]);
    let plan = parse(0, &mount).unwrap();
    assert_eq!(plan.attributes.set, ATTR_NOSUID | ATTR_STRICTATIME);
    assert_eq!(plan.attributes.clear & ATTR_RDONLY, ATTR_RDONLY);
    assert!(!plan.flags.contains(MountFlags::RDONLY));
    assert!(plan.flags.contains(MountFlags::NOSUID | MountFlags::STRICTATIME));
}

#[test]
fn recursive_words_are_kept_apart() {
    let mount = bind(&["rbind", "rro", "rnosuid", "rdev", "nodev"]);
    let plan = parse(0, &mount).unwrap();
    assert_eq!(plan.recursive_attributes, Attributes { set: ATTR_RDONLY | ATTR_NOSUID, clear: ATTR_NODEV });
    assert_eq!(plan.attributes, Attributes { set: ATTR_NODEV, clear: 0 });
}

#[test]
fn what_is_no_word_goes_to_the_file_system() {
    let options = ["nosuid", "mode=755", "size=64k", "rprivate", "shared", "relatime", "x-mine"];
    let mount = mount(json!({"destination": "/x", "type": "tmpfs", "options": options}));
    let plan = parse(0, &mount).unwrap();
    assert_eq!(plan.kind, Kind::FileSystem { fstype: "tmpfs" });
    assert_eq!(plan.data, "mode=755,size=64k,x-mine");
    assert_eq!(
        plan.propagation,
        [MountPropagationFlags::PRIVATE | MountPropagationFlags::REC, MountPropagationFlags::SHARED]
    );
}

#[test]
fn ids_are_mapped_by_the_mounts_own_maps_or_the_containers() {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let own = mount(json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["rbind"],
                           "uidMappings": map, "gidMappings": map}));
    assert_eq!(parse(0, &own).unwrap().idmap, Some(IdMap { recursive: true, own: true }));
    let mount_of = |options: &[&str]| parse(0, &bind(options)).unwrap().idmap;
    assert_eq!(mount_of(&["idmap"]), Some(IdMap { recursive: false, own: false }));
    assert_eq!(mount_of(&["rbind", "ridmap"]), Some(IdMap { recursive: true, own: false }));
    assert_eq!(mount_of(&["rbind"]), None);
}

#[test]
fn what_cannot_be_meant_is_an_error() {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    for (json, expected) in [
        (json!({"destination": "/x"}), "mounts[3].type is missing"),
        (json!({"destination": "/x", "type": "bind"}), "mounts[3].source is missing"),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["idmap"]}),
            "mounts[3]: mapped ids need a bind mount",
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/y", "uidMappings": map}),
            "mounts[3]: uidMappings and gidMappings come together or not at all",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["mode=\u{0}"]}),
            "mounts[3].options has a string with a zero byte",
        ),
    ] {
        assert_eq!(parse(3, &mount(json)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_words_of_features_are_those_that_parse() {
    for word in known_words() {
        let mount = bind(&[&word]);
        let plan = parse(0, &mount).unwrap();
        assert_eq!(plan.data, "", "{word}");
    }
    assert!(known_words().iter().any(|w| w == "rro"));
}
