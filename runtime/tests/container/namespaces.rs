//! Namespaces: new, joined, none.

use crate::support::{Neighbour, bundle};
use serde_json::{Value, json};
use std::fs;

fn identity(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

#[test]
fn listed_namespaces_are_new_and_others_are_those_of_kitc() {
    let mut bundle = bundle!();
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    let kinds = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "time", "user"];
    bundle.sh(&format!("for k in {}; do readlink /proc/self/ns/$k; done", kinds.join(" ")));
    let text = bundle.run();
    for (kind, line) in kinds.iter().zip(text.lines()) {
        let new = !matches!(*kind, "time" | "user");
        assert_eq!(line != identity(kind), new, "{kind}");
    }
}

#[test]
fn a_new_network_has_its_loopback_device_up() {
    let mut bundle = bundle!();
    bundle.sh("cat /sys/class/net/lo/flags; ls /sys/class/net | wc -l");
    let text = bundle.run();
    let flags = u32::from_str_radix(text.lines().next().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1);
}

#[test]
fn namespaces_can_be_joined_by_path() {
    let mut bundle = bundle!();
    let Some(other) = Neighbour::new(&["--net", "--ipc", "--uts"]) else {
        println!("skipped: needs unshare");
        return;
    };
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.without_namespace(kind);
        bundle.add("/linux/namespaces", json!({"type": kind, "path": other.namespace(file)}));
    }
    bundle.sh("for k in net ipc uts; do readlink /proc/self/ns/$k; done; exec sleep 1000");
    let output = bundle.path().join("output");
    let file = fs::File::create(&output).unwrap();
    assert!(bundle.command(&["run", "-d", &bundle.id]).stdout(file).status().unwrap().success());
    let expected: String = ["net", "ipc", "uts"].map(|k| other.identity(k) + "\n").concat();
    let read = || fs::read_to_string(&output).unwrap();
    crate::support::wait_until("it has printed", || read() == expected);
    assert_eq!(bundle.exec("for k in net ipc uts; do readlink /proc/self/ns/$k; done"), expected);
}

#[test]
fn a_pid_namespace_can_be_that_of_another_container() {
    let mut first = bundle!();
    let mut second = bundle!();
    first.sh("exec sleep 1000");
    first.ok(&["run", "--detach"]);
    second.without_namespace("pid");
    let path = format!("/proc/{}/ns/pid", first.pid());
    second.add("/linux/namespaces", json!({"type": "pid", "path": path}));
    second.sh("readlink /proc/1/exe; [ $$ != 1 ] && echo not first; grep -c sleep /proc/1/cmdline");
    second.all_capabilities();
    assert_eq!(second.run(), "/bin/busybox\nnot first\n1\n");
    // Its end is not the end of the other.
    assert_eq!(first.status(), "running");

    // What it leaves in the other's namespace goes with it.
    second.sh("sleep 1000 & echo left");
    second.ok(&["run", "--detach"]);
    crate::support::wait_until("it has ended", || second.status() == "stopped");
    second.ok(&["delete"]);
    assert_eq!(second.leftovers(), Vec::<String>::new());
    assert_eq!(first.exec("ps | grep -c '[s]leep 1000'"), "1\n");
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    let mut bundle = bundle!();
    bundle.set("/linux/namespaces/1/path", json!("/no/such"));
    let error = bundle.fails(&["create"]);
    assert!(error.contains("linux.namespaces[1].path: open /no/such"), "{error}");
    bundle.set("/linux/namespaces/1/path", json!("/proc/self/ns/uts"));
    let error = bundle.fails(&["create"]);
    let expected = "linux.namespaces[1]: join the network namespace /proc/self/ns/uts";
    assert!(error.contains(expected), "{error}");
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

fn mapping(container: u32, host: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 65536}])
}

#[test]
fn a_user_namespace_maps_ids_and_devices_are_still_there() {
    let mut bundle = bundle!();
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", mapping(0, 100_000));
    bundle.set("/linux/gidMappings", mapping(0, 200_000));
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]));
    fs::set_permissions(bundle.inside("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    bundle.sh(
        "id -u; cat /proc/self/uid_map /proc/self/gid_map | wc -l; echo x > /tmp/file; echo > /dev/null && echo null; \
         ulimit -n; hostname",
    );
    assert_eq!(bundle.run(), "0\n2\nnull\n100\ninside\n");
    let meta = fs::metadata(bundle.inside("tmp/file")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((meta.uid(), meta.gid()), (100_000, 200_000));
}

#[test]
fn an_ordinary_user_can_run_a_container_without_limits() {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    let nobody = 65_534;
    let allowed = std::process::Command::new("unshare").args(["-U", "true"]).uid(nobody).gid(nobody).status();
    let mut bundle = bundle!();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: needs user namespaces for ordinary users");
        return;
    }
    // The built program may lie where nobody else can go.
    let program = bundle.path().join("kitc");
    fs::copy(&bundle.program, &program).unwrap();
    bundle.program = program;
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    let own = json!([{"containerID": 0, "hostID": nobody, "size": 1}]);
    bundle.set("/linux/uidMappings", own.clone()).set("/linux/gidMappings", own);
    for path in [bundle.path().to_owned(), bundle.inside(""), bundle.inside("tmp")] {
        chown(path, Some(nobody), Some(nobody)).unwrap();
    }
    let kitc = |args: &[&str], bundle: &crate::support::Bundle| {
        crate::support::output_of(bundle.command(args).uid(nobody).gid(nobody))
    };
    bundle.sh("echo x > /tmp/file; exec sleep 1000");
    let id = bundle.id.clone();
    let output = kitc(&["run", "-d", &id], &bundle);
    assert!(output.status.success(), "{output:?}");
    let output = kitc(&["exec", &id, "sh", "-c", "id -u; hostname"], &bundle);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\ninside\n", "{output:?}");
    let output = kitc(&["delete", "--force", &id], &bundle);
    assert!(output.status.success(), "{output:?}");
    bundle.set("/linux/resources/pids", json!({"limit": 5}));
    let output = kitc(&["run", &id], &bundle);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("make directory /sys/fs/cgroup/"), "{error}");
}

#[test]
fn a_mount_with_mapped_ids_belongs_to_the_user_namespace() {
    let mut bundle = bundle!();
    // A directory that only the host's root may search: kitc itself has to clone the mount.
    let private = bundle.path().join("private");
    fs::create_dir_all(private.join("volume")).unwrap();
    fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", mapping(0, 100_000));
    bundle.set("/linux/gidMappings", mapping(0, 100_000));
    let volume = private.join("volume");
    // The container's root user may not make directories in a root that is not its own.
    fs::create_dir(bundle.inside("v")).unwrap();
    fs::create_dir(bundle.inside("w")).unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind", "idmap"]}),
    );
    bundle.add(
        "/mounts",
        json!({"destination": "/w", "type": "bind", "source": volume, "options": ["bind", "ro"]}),
    );
    bundle.sh("stat -c %u /v /w; echo x > /v/file && stat -c %u /v/file");
    assert_eq!(bundle.run(), "0\n65534\n0\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(volume.join("file")).unwrap().uid(), 0);
}

#[test]
fn a_user_namespace_can_be_joined_with_new_ones_inside_it() {
    let mut first = bundle!();
    let mut second = bundle!();
    for bundle in [&mut first, &mut second] {
        bundle.set("/linux/uidMappings", mapping(0, 100_000));
        bundle.set("/linux/gidMappings", mapping(0, 100_000));
    }
    first.add("/linux/namespaces", json!({"type": "user"}));
    first.sh("exec sleep 1000");
    first.ok(&["run", "--detach"]);
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", first.pid());
    second.without_namespace("network").without_namespace("uts");
    second.config.as_object_mut().unwrap().remove("hostname");
    for (kind, file) in [("user", "user"), ("network", "net"), ("uts", "uts")] {
        second.add("/linux/namespaces", json!({"type": kind, "path": path(file)}));
    }
    second.sh(
        "echo $$; hostname; for k in user net uts pid; do readlink /proc/self/ns/$k; done; exec sleep 1000",
    );
    let output = second.path().join("output");
    let file = fs::File::create(&output).unwrap();
    assert!(second.command(&["run", "-d", &second.id]).stdout(file).status().unwrap().success());
    let read = || fs::read_to_string(&output).unwrap();
    crate::support::wait_until("it has printed", || read().lines().count() == 6);
    let text = read();
    let lines: Vec<&str> = text.lines().collect();
    let link =
        |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
    assert_eq!(lines[..2], ["1", "inside"]);
    for (line, kind) in lines[2..5].iter().zip(["user", "net", "uts"]) {
        assert_eq!(*line, link(first.pid(), kind));
    }
    assert_ne!(lines[5], link(first.pid(), "pid"));
    assert_eq!(second.exec("id -u; readlink /proc/self/ns/user"), format!("0\n{}\n", lines[2]));
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let mut bundle = bundle!();
    bundle.add("/linux/namespaces", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 864_000, "nanosecs": 0}}));
    bundle.sh("cat /proc/uptime; readlink /proc/self/ns/time; exec sleep 1000");
    let output = bundle.path().join("output");
    let file = fs::File::create(&output).unwrap();
    assert!(bundle.command(&["run", "-d", &bundle.id]).stdout(file).status().unwrap().success());
    let read = || fs::read_to_string(&output).unwrap();
    crate::support::wait_until("it has printed", || read().lines().count() == 2);
    let uptime: f64 = read().split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 864_000.0);
    assert_eq!(bundle.exec("readlink /proc/self/ns/time"), format!("{}\n", read().lines().nth(1).unwrap()));
}

#[test]
fn a_cgroup_namespace_begins_at_the_containers_cgroup() {
    let mut bundle = bundle!();
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.sh("grep '^0::' /proc/self/cgroup");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0::/\n", "{output:?}");
}

#[test]
fn kernel_settings_and_names_are_the_containers_own() {
    let mut bundle = bundle!();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}));
    bundle.set("/domainname", json!("example.org"));
    bundle.sh(
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/kernel/domainname; hostname",
    );
    assert_eq!(bundle.run(), "1\n4242\nexample.org\ninside\n");
}
