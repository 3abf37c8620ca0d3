//! Locks, boot plans and descriptions of artifacts come from disks and from others: whatever their bytes are, they are
//! read or refused, and what is read keeps its promises.

use kit_spec::artifact::Artifact;
use kit_spec::lock::Lock;
use kit_spec::plan::Plan;
use proptest::prelude::*;
use serde_json::{Value, json};

fn lock() -> Value {
    json!({
        "version": 1,
        "images": {"amd64": {"docker.io/library/a:1":
            {"digest": format!("sha256:{}", "a".repeat(64)), "media_type": "application/json", "size": 3}}},
        "packages": {"amd64": {"nginx": [
            {"name": "nginx", "version": "1:2-3", "architecture": "amd64", "sha256": "0".repeat(64), "size": 9}]}},
    })
}

fn artifact() -> Value {
    json!({
        "version": 1, "name": "node", "format": "kernel+squashfs", "arch": "amd64",
        "boot": {"kind": "kernel", "kernel": "k", "initrd": "i", "cmdline": "quiet", "root": "r"},
        "files": [
            {"path": "i", "size": 1, "sha256": "00"},
            {"path": "k", "size": 1, "sha256": "00"},
            {"path": "r", "size": 1, "sha256": "00"},
        ],
    })
}

fn plan() -> Value {
    let service = |name: &str, after: Value| {
        json!({
            "name": name, "bundle": format!("/containers/services/{name}"), "after": after,
            "runtime": {"mkdir": ["/var/a"]}, "restart": {"policy": "always", "backoff": "1s", "maxBackoff": "30s"},
            "ready": {"tcp": "127.0.0.1:80", "interval": "1s", "deadline": "30s"},
            "stop": {"signal": "SIGTERM", "grace": "10s", "kill": "cgroup"},
        })
    };
    json!({
        "version": 1,
        "volumes": [{"name": "data", "readonly": false}],
        "onboot": [{"name": "net", "bundle": "/containers/onboot/000-net", "runtime": {}, "timeout": "30s", "required": true}],
        "services": [service("a", json!([])), service("b", json!(["a"]))],
        "onshutdown": [],
    })
}

/// A document, with some of its values and bytes changed.
fn changed(of: fn() -> Value) -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([[]])),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "a",
            "b",
            "../../x",
            "/etc/passwd",
            "-o",
            "1e99h",
            "\u{0}",
            "é\n",
            "SIGKILL"
        ])
        .prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    let values = prop::collection::vec((any::<prop::sample::Index>(), odd), 0..3);
    let bytes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (values, bytes, prop::option::of(any::<prop::sample::Index>())).prop_map(move |(values, bytes, cut)| {
        let mut document = of();
        for (at, odd) in values {
            let mut places = 0;
            visit(&mut document, &mut |_| places += 1);
            let mut left = at.index(places);
            visit(&mut document, &mut |value| {
                if left == 0 {
                    *value = odd.clone();
                }
                left = left.wrapping_sub(1);
            });
        }
        let mut text = document.to_string().into_bytes();
        for (at, byte) in bytes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if let Some(cut) = cut {
            text.truncate(cut.index(4 * text.len()));
        }
        text
    })
}

/// Shows every value below a value, and itself, in order.
fn visit(value: &mut Value, see: &mut impl FnMut(&mut Value)) {
    see(value);
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| visit(value, see)),
        Value::Object(map) => map.values_mut().for_each(|value| visit(value, see)),
        _ => {}
    }
}

#[test]
fn the_documents_themselves_are_read() {
    Lock::parse(&lock().to_string()).unwrap();
    Artifact::parse(&artifact().to_string()).unwrap();
    Plan::parse(plan().to_string().as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_lock_is_refused_or_names_only_packages_and_digests(bytes in changed(lock)) {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Ok(lock) = Lock::parse(&text) {
            prop_assert_eq!(Lock::parse(&lock.to_json()).unwrap(), lock.clone());
            for pin in lock.packages.values().flat_map(|requests| requests.values()).flatten() {
                for word in [&pin.name, &pin.version, &pin.architecture, &pin.sha256] {
                    prop_assert!(!word.is_empty() && !word.starts_with(['-', '.']), "{}", word);
                    prop_assert!(!word.contains(['/', ' ', '\n', '\0']), "{}", word);
                }
            }
        }
    }

    #[test]
    fn an_artifact_is_refused_or_stays_in_its_directory(bytes in changed(artifact)) {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Ok(artifact) = Artifact::parse(&text) {
            let again = serde_json::to_string(&artifact).unwrap();
            prop_assert_eq!(Artifact::parse(&again).unwrap(), artifact.clone());
            let listed = artifact.files.iter().map(|file| file.path.as_str());
            for name in listed.chain(artifact.boot.files()).chain([artifact.file_name().as_str()]) {
                let plain = std::path::Path::new(name).components().count() == 1;
                prop_assert!(plain && !name.contains(['/', '\0']) && name != "..", "{}", name);
            }
        }
    }

    #[test]
    fn a_plan_is_refused_or_can_be_executed(bytes in changed(plan)) {
        if let Ok(plan) = Plan::parse(&bytes) {
            prop_assert!(plan.check().is_ok());
            let again = serde_json::to_vec(&plan).unwrap();
            prop_assert_eq!(Plan::parse(&again).unwrap(), plan);
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Plan::parse(&bytes).is_err());
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(Lock::parse(&text).is_err() && Artifact::parse(&text).is_err());
        }
    }
}
