//! The six lists of hooks.

use crate::support::{Bundle, bundle};
use serde_json::{Value, json};
use std::fs;

/// A hook that appends a word, its state's status and whether it is inside to a file of the host.
fn hook(bundle: &Bundle, word: &str) -> Value {
    let log = bundle.path().join("log");
    let script = format!(
        "state=$(cat); status=${{state#*status\\\":\\\"}}; status=${{status%%\\\"*}}; \
         echo {word} $status $(hostname) $A $0 >> {}",
        log.display()
    );
    json!({"path": "/bin/busybox", "args": ["sh", "-c", script, "name"], "env": ["PATH=/bin", "A=b"]})
}

fn log(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.path().join("log")).unwrap_or_default()
}

#[test]
fn hooks_run_in_order_in_their_namespaces_and_with_the_state() {
    let mut bundle = bundle!();
    // startContainer is inside: it sees the log only through a mount.
    let dir = bundle.path().to_owned();
    bundle.add("/mounts", json!({"destination": dir, "type": "bind", "source": dir, "options": ["bind"]}));
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let hook = hook(&bundle, point);
        if bundle.config["hooks"].is_null() {
            bundle.set("/hooks", json!({}));
        }
        bundle.set(&format!("/hooks/{point}"), json!([hook]));
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    bundle.ok(&["create"]);
    let created = format!(
        "prestart creating {host} b name\ncreateRuntime creating {host} b name\n\
         createContainer creating inside b name\n"
    );
    assert_eq!(log(&bundle), created);
    bundle.ok(&["start"]);
    let started = format!("{created}startContainer created inside b name\npoststart running {host} b name\n");
    assert_eq!(log(&bundle), started);
    bundle.ok(&["delete", "--force"]);
    assert_eq!(log(&bundle), format!("{started}poststop stopped {host} b name\n"));
}

#[test]
fn a_start_container_hook_without_an_environment_has_that_of_the_program() {
    let mut bundle = bundle!();
    let hook = |env: Value| json!({"path": "/bin/busybox", "args": ["sh", "-c", "echo ${OF_PROCESS:-none} >>/tmp/log"], "env": env});
    bundle.add("/process/env", json!("OF_PROCESS=x"));
    bundle.set("/hooks", json!({"startContainer": [hook(Value::Null), hook(json!(["PATH=/bin"]))]}));
    bundle.run();
    assert_eq!(fs::read_to_string(bundle.inside("tmp/log")).unwrap(), "x\nnone\n");
}

#[test]
fn hooks_are_told_the_process_id_that_kitc_sees() {
    let mut bundle = bundle!();
    let outside = bundle.path().join("outside");
    let inside = bundle.path().join("inside");
    let save = |path: &std::path::Path| json!([{"path": "/bin/busybox", "args": ["sh", "-c", format!("cat > {}", path.display())], "env": ["PATH=/bin"]}]);
    bundle.set("/hooks", json!({"createRuntime": save(&outside), "createContainer": save(&inside)}));
    bundle.ok(&["create"]);
    let read = |path| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let mut expected = bundle.state();
    expected["status"] = json!("creating");
    assert_eq!(read(&outside), expected);
    assert_eq!(read(&inside), expected);
}

#[test]
fn a_hook_that_takes_too_long_is_killed_and_fails_the_container() {
    let mut bundle = bundle!();
    bundle.set(
        "/hooks",
        json!({"createRuntime": [
            {"path": "/bin/busybox", "args": ["sleep", "1000"], "timeout": 1},
        ]}),
    );
    let error = bundle.fails(&["create"]);
    let expected = "hooks.createRuntime[0]: /bin/busybox ran longer than its timeout of 1 s";
    assert!(error.contains(expected), "{error}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn after_a_failed_hook_the_poststop_hooks_run() {
    let mut bundle = bundle!();
    let poststop = hook(&bundle, "poststop");
    bundle.set(
        "/hooks",
        json!({
            "createRuntime": [{"path": "/bin/false"}], "poststop": [poststop],
        }),
    );
    bundle.fails(&["create"]);
    assert!(log(&bundle).starts_with("poststop stopped "));
}

#[test]
fn a_failed_start_hook_is_told_by_start() {
    let mut bundle = bundle!();
    bundle.set("/hooks", json!({"startContainer": [{"path": "/bin/false"}]}));
    bundle.ok(&["create"]);
    let error = bundle.fails(&["start"]);
    assert!(error.contains("hooks.startContainer[0]: /bin/false ended with code 1"), "{error}");
    bundle.ok(&["delete", "--force"]);
    assert!(bundle.fails(&["run"]).contains("hooks.startContainer[0]"));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn failures_after_the_start_are_only_told() {
    let mut bundle = bundle!();
    let second = hook(&bundle, "second");
    bundle.set(
        "/hooks",
        json!({
            "poststart": [{"path": "/bin/false"}, second], "poststop": [{"path": "/no/such"}],
        }),
    );
    let output = bundle.kitc(&["run"]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("warning: poststart: hooks.poststart[0]: /bin/false ended with code 1"), "{told}");
    assert!(told.contains("warning: poststop: hooks.poststop[0]: start /no/such"), "{told}");
    assert!(log(&bundle).starts_with("second running"));
}
