//! What the containers of a pod share.

use crate::container::Neighbour;
use crate::support::{Bundle, Pod, bundle, pod_dir, start_monitor};
use kit_runtime::monitor::protocol::Exit;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Lets a container join the namespaces of a pod.
fn join(bundle: &mut Bundle, pod: &mut Pod) {
    let paths = pod.state().namespaces;
    let kinds = ["pid", "network", "ipc", "uts", "mount"];
    let namespaces: Vec<Value> = kinds
        .iter()
        .map(|&kind| match paths.get(kind) {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        })
        .collect();
    bundle.set("/linux/namespaces", json!(namespaces));
    bundle.config.as_object_mut().unwrap().remove("hostname");
}

fn identity(path: impl AsRef<Path>) -> String {
    fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn two_containers_share_the_pods_namespaces_and_no_process_holds_them() {
    let (mut first, mut second) = (bundle!(), bundle!());
    let sandbox = json!({
        "hostname": "the-pod",
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "99"},
    });
    let mut pod = Pod::new(&sandbox);
    assert_eq!(pod.state().pause, None);
    let children = format!("/proc/{0}/task/{0}/children", pod.monitor.id());
    assert_eq!(fs::read_to_string(children).unwrap(), "");
    join(&mut first, &mut pod);
    join(&mut second, &mut pod);
    first.sh("exec sleep 1000");
    second.sh("hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni; \
         grep -c lo: /proc/net/dev; exec sleep 1000");
    let (one, two) = (pod.run(&first), pod.run(&second));
    for (kind, same) in [("net", true), ("ipc", true), ("uts", true), ("pid", false), ("mnt", false)] {
        let (one, two) =
            (identity(format!("/proc/{one}/ns/{kind}")), identity(format!("/proc/{two}/ns/{kind}")));
        assert_eq!(one == two, same, "{kind}");
        assert_ne!(one, identity(format!("/proc/self/ns/{kind}")), "{kind}");
    }
    crate::support::wait_until("the second has told", || pod.log().lines().count() == 4);
    assert_eq!(pod.log(), "stdout F the-pod\nstdout F 7\nstdout F 99\nstdout F 1\n");
    // They outlive all containers.
    pod.delete(&first, true);
    pod.delete(&second, true);
    pod.exit(&second);
    second.sh("exec hostname");
    pod.run(&second);
    pod.exit(&second);
    assert!(pod.log().ends_with("stdout F the-pod\n"));
}

#[test]
fn a_shared_pid_namespace_has_a_harmless_first_process() {
    let (mut first, mut second) = (bundle!(), bundle!());
    let mut pod = Pod::new(&json!({"shared_pid": true}));
    let pause = pod.state().pause.unwrap();
    let status = fs::read_to_string(format!("/proc/{pause}/status")).unwrap();
    for line in ["Uid:\t65535\t65535\t65535\t65535", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let paths = pod.state().namespaces;
    let stat = |path: &Path| {
        let stat = rustix::fs::stat(path).unwrap();
        (stat.st_dev, stat.st_ino)
    };
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let own = format!("/proc/{pause}/ns/{file}");
        assert_eq!(stat(&paths[kind]), stat(own.as_ref()), "{kind}");
    }
    assert_eq!(fs::read_dir(format!("/proc/{pause}/root")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(format!("/proc/{pause}/fd")).unwrap().count(), 1);
    join(&mut first, &mut pod);
    join(&mut second, &mut pod);
    first.sh("exec sleep 1000");
    // The pause process waits for orphans: no zombie stays.
    second.sh("ps -o pid,comm | head -3; sh -c 'sleep 0 & :'; while ps -o stat | grep -q Z; do :; done");
    pod.run(&first);
    pod.run(&second);
    assert_eq!(pod.exit(&second).exit, Exit::Code(0));
    let log = pod.log();
    let names: Vec<&str> = log.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(names[..3], ["COMMAND", "pause", "sleep"], "{log}");
}

#[test]
fn in_a_shared_pid_namespace_a_container_takes_its_children_along() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({"net": "host", "ipc": "host", "uts": "host", "shared_pid": true}));
    join(&mut bundle, &mut pod);
    bundle.sh("sleep 1000 & exit 5");
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(5));
    pod.delete(&bundle, false);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn namespaces_can_be_the_hosts_or_be_there_already() {
    let Some(neighbour) = Neighbour::new(&["--net"]) else {
        return println!("skipped: needs the rights to make namespaces");
    };
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({"net": {"path": neighbour.namespace("net")}, "uts": "host"}));
    let kinds: Vec<String> = pod.state().namespaces.into_keys().collect();
    assert_eq!(kinds, ["ipc", "network"]);
    join(&mut bundle, &mut pod);
    bundle.sh("exec sleep 1000");
    let pid = pod.run(&bundle);
    assert_eq!(identity(format!("/proc/{pid}/ns/net")), neighbour.identity("net"));
}

#[test]
fn a_pod_that_cannot_be_is_an_error_that_leaves_nothing() {
    let _root = bundle!();
    for (sandbox, expected) in [
        (json!({"nett": "host"}), "read sandbox.json"),
        (json!({"uts": "host", "hostname": "x"}), "hostname needs a uts namespace"),
        (json!({"sysctls": {"net.no.such": "1"}}), "write to /proc/sys/net/no/such"),
        (json!({"hostname": "x".repeat(100)}), "set the host's name"),
        (json!({"net": {"path": "/no/such"}, "shared_pid": true}), "join the namespace /no/such"),
    ] {
        let dir = pod_dir(&sandbox);
        let error = start_monitor(dir.path(), &[]).map(drop).unwrap_err();
        assert!(error.contains(expected), "{sandbox}: {error}");
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["sandbox.json"], "{sandbox}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    }
}
