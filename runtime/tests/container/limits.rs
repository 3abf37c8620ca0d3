//! Control groups, as far as a machine that mounts version 1 can show them; version 2 is tested in a
//! guest.

use crate::support::{Bundle, bundle};
use serde_json::json;
use std::fs;
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
