//! Control groups, as far as a machine that mounts version 1 can show them; version 2 is tested in a
//! guest.

use crate::support::{Bundle, bundle, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

fn directory(bundle: &Bundle, controller: &str) -> Option<PathBuf> {
    let unified = Path::new("/sys/fs/cgroup/kitc-test").join(&bundle.id);
    let split = Path::new("/sys/fs/cgroup").join(controller).join("kitc-test").join(&bundle.id);
    [unified, split].into_iter().find(|dir| dir.exists())
}

#[test]
fn a_limit_on_processes_holds_and_can_be_changed() {
    let mut bundle = bundle!();
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !unified.contains("pids") && !Path::new("/sys/fs/cgroup/pids").exists() {
        println!("skipped: needs the pids controller");
        return;
    }
    bundle.set("/linux/resources/pids", json!({"limit": 20}));
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    let dir = directory(&bundle, "pids").unwrap();
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap(), "20\n");
    assert_eq!(fs::read_to_string(dir.join("cgroup.procs")).unwrap(), format!("{}\n", bundle.pid()));
    let resources = bundle.path().join("resources.json");
    fs::write(&resources, r#"{"pids":{"limit":30}}"#).unwrap();
    bundle.ok(&["update", "-r", resources.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap(), "30\n");
    let own = bundle.exec("cat /proc/self/cgroup");
    assert!(own.contains(&bundle.id), "{own}");
    bundle.ok(&["delete", "--force"]);
    assert!(!dir.exists());
}

/// Whether this machine can limit by this controller.
fn has(controller: &str) -> bool {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    unified.contains(controller) || Path::new("/sys/fs/cgroup").join(controller).exists()
}

/// What a file of the container's cgroup says, by its name under version 2 or version 1.
fn said(bundle: &Bundle, controller: &str, v2: &str, v1: &str) -> String {
    let dir = directory(bundle, controller).unwrap();
    let text = fs::read_to_string(dir.join(v2)).or_else(|_| fs::read_to_string(dir.join(v1)));
    text.unwrap().trim().to_owned()
}

#[test]
fn limits_can_be_given_to_a_container_that_had_none() {
    let mut bundle = bundle!();
    if !has("memory") || !has("pids") {
        println!("skipped: needs the memory and pids controllers");
        return;
    }
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    bundle.ok(&["update", "--memory", "64M", "--pids-limit", "40"]);
    let memory = || said(&bundle, "memory", "memory.max", "memory.limit_in_bytes");
    assert_eq!(memory(), (64 << 20).to_string());
    assert_eq!(said(&bundle, "pids", "pids.max", "pids.max"), "40");
    let procs = said(&bundle, "memory", "cgroup.procs", "cgroup.procs");
    assert_eq!(procs, bundle.pid().to_string());
    bundle.ok(&["update", "--memory", "32M"]);
    assert_eq!(memory(), (32 << 20).to_string());
    assert_eq!(said(&bundle, "pids", "pids.max", "pids.max"), "40");
    assert!(bundle.fails(&["update", "--memory", "lots"]).contains("--memory cannot be"));
    bundle.ok(&["delete", "--force"]);
    assert_eq!(directory(&bundle, "memory"), None);
}

#[test]
fn a_stopped_container_has_no_limits_to_change_and_no_events() {
    let bundle = bundle!();
    bundle.ok(&["run", "--keep"]);
    for args in [&["update", "--pids-limit", "40"][..], &["events", "--stats"], &["events"]] {
        let error = bundle.fails(args);
        assert!(error.contains("container not running"), "{error}");
    }
}

#[test]
fn devices_need_a_rule_and_an_update_replaces_the_rules() {
    let mut bundle = bundle!();
    let unified = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];
    if !unified.iter().any(|path| Path::new(path).exists()) {
        println!("skipped: needs cgroup2");
        return;
    }
    bundle.all_capabilities().sh("exec sleep 1000");
    bundle.set("/linux/resources", json!({}));
    bundle.ok(&["run", "--detach"]);
    // There is no such disk, so what is allowed ends in another error.
    bundle.exec("mknod /tmp/disk b 7 4000; cat /dev/null");
    let opens = |bundle: &Bundle| !bundle.exec("cat /tmp/disk 2>&1 || true").contains("not permitted");
    assert!(!opens(&bundle));
    let resources = bundle.path().join("resources.json");
    for (rules, expected) in [
        (json!([{"allow": true, "type": "b", "major": 7, "access": "r"}]), true),
        (json!([{"allow": true, "type": "b", "major": 8, "access": "r"}]), false),
        (json!([{"allow": true, "access": "rwm"}]), true),
    ] {
        fs::write(&resources, json!({"devices": rules}).to_string()).unwrap();
        bundle.ok(&["update", "-r", resources.to_str().unwrap()]);
        assert_eq!(opens(&bundle), expected, "{rules}");
        bundle.exec("cat /dev/null");
    }
}

#[test]
fn what_a_container_uses_can_be_read() {
    let mut bundle = bundle!();
    if !has("memory") || !has("pids") {
        println!("skipped: needs the memory and pids controllers");
        return;
    }
    bundle.set("/linux/resources/pids", json!({"limit": 20}));
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20}));
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    let event: Value = serde_json::from_str(&bundle.ok(&["events", "--stats"])).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id)));
    let data = &event["data"];
    assert_eq!(data["pids"], json!({"current": 1, "limit": 20}));
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
}

#[test]
fn want_of_memory_is_an_event_and_events_end_with_the_container() {
    let mut bundle = bundle!();
    if !has("memory") {
        println!("skipped: needs the memory controller");
        return;
    }
    bundle.set("/linux/resources/memory", json!({"limit": 16 << 20}));
    bundle.sh("read word </tmp/go; dd if=/dev/zero of=/dev/null bs=200M count=1; read word </tmp/go");
    std::process::Command::new("mkfifo").arg(bundle.inside("tmp/go")).status().unwrap();
    bundle.ok(&["run", "--detach"]);
    let mut events = bundle.spawn(&["events", "--interval", "1h"]);
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(next().unwrap()["type"], "stats");
    fs::write(bundle.inside("tmp/go"), "go\n").unwrap();
    assert_eq!(next().unwrap(), json!({"type": "oom", "id": bundle.id}));
    fs::write(bundle.inside("tmp/go"), "go\n").unwrap();
    assert_eq!(next(), None);
    assert!(events.wait().unwrap().success());
    wait_until("it has stopped", || bundle.status() == "stopped");
}

#[test]
fn a_limit_that_the_machine_cannot_set_is_an_error() {
    let mut bundle = bundle!();
    bundle.set("/linux/resources/hugepageLimits", json!([{"pageSize": "3TB", "limit": 0}]));
    let error = bundle.fails(&["create"]);
    assert!(error.contains("linux.resources.hugepageLimits: this machine has no hugetlb.3TB"), "{error}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_cgroup_with_processes_is_not_taken_over() {
    let mut first = bundle!();
    let mut second = bundle!();
    first.sh("exec sleep 1000");
    first.ok(&["run", "--detach"]);
    let path = first.config["linux"]["cgroupsPath"].clone();
    second.set("/linux/cgroupsPath", path);
    assert!(second.fails(&["create"]).contains("has processes in it already"));
    assert_eq!(first.status(), "running");
}
