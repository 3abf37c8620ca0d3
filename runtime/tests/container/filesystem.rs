//! Mounts, devices, and the root.

use crate::support::{bundle, wait_until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

#[test]
fn a_bind_mount_shows_the_hosts_directory_with_its_flags() {
    let mut bundle = bundle!();
    let host = bundle.path().join("host");
    fs::create_dir_all(&host).unwrap();
    fs::write(host.join("file"), "text").unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/a/b", "type": "bind", "source": host, "options": ["rbind", "ro", "nosuid"]}),
    );
    bundle
        .add("/mounts", json!({"destination": "/etc/one", "source": host.join("file"), "options": ["bind"]}));
    bundle
        .sh("cat /a/b/file /etc/one; echo x > /a/b/new; echo y > /etc/one; grep ' /a/b ' /proc/self/mounts");
    let output = bundle.kitc(&["run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("texttext"), "{text}");
    assert!(text.contains(" ro,nosuid,"), "{text}");
    assert!(!host.join("new").exists());
    assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "y\n");
}

#[test]
fn recursive_options_reach_the_mounts_below() {
    let mut bundle = bundle!();
    let host = bundle.path().join("host");
    fs::create_dir_all(host.join("below")).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "t"]).arg(host.join("below")).status().unwrap();
    assert!(mounted.success());
    for (option, expected) in [("ro", "rw"), ("rro", "ro")] {
        bundle.set(
            "/mounts",
            json!([
                {"destination": "/proc", "type": "proc"},
                {"destination": "/x", "type": "bind", "source": host, "options": ["rbind", option]},
            ]),
        );
        bundle.sh("grep ' /x/below ' /proc/self/mounts");
        let line = bundle.run();
        let flags = line.split(' ').nth(3).unwrap();
        assert!(flags.starts_with(expected), "{option}: {line}");
    }
    assert!(Command::new("umount").arg(host.join("below")).status().unwrap().success());
}

#[test]
fn a_tmpfs_can_begin_with_what_the_image_has() {
    let mut bundle = bundle!();
    fs::create_dir_all(bundle.inside("data/dir")).unwrap();
    fs::write(bundle.inside("data/dir/file"), "text").unwrap();
    symlink("dir/file", bundle.inside("data/link")).unwrap();
    fs::set_permissions(bundle.inside("data"), std::os::unix::fs::PermissionsExt::from_mode(0o710)).unwrap();
    std::os::unix::fs::chown(bundle.inside("data/dir"), Some(7), Some(8)).unwrap();
    bundle.add("/mounts", json!({"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "ro"]}));
    bundle
        .sh("cat /data/link; stat -c ' %u %g' /data/dir; stat -c %a /data; echo > /data/new || echo refused");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "text 7 8\n710\nrefused\n");
    assert!(bundle.inside("data/dir/file").exists());
}

#[test]
fn links_of_an_image_lead_no_mount_out_of_it() {
    let mut bundle = bundle!();
    let outside = bundle.path().join("outside");
    let source = bundle.path().join("source");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("mark"), "").unwrap();
    symlink(&outside, bundle.inside("absolute")).unwrap();
    symlink("../../../../../../../../../..", bundle.inside("dots")).unwrap();
    for destination in
        ["/absolute".to_owned(), format!("/dots{}", outside.display()), "/dots/made/here".to_owned()]
    {
        bundle.add(
            "/mounts",
            json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}),
        );
    }
    let inside = outside.display().to_string();
    bundle.sh(&format!("ls {inside} /made/here"));
    assert_eq!(bundle.run(), format!("/made/here:\nmark\n\n{inside}:\nmark\n"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_link_to_nothing_gets_its_target_made_inside() {
    let mut bundle = bundle!();
    let source = bundle.path().join("resolv.conf");
    fs::write(&source, "text").unwrap();
    symlink("../run/resolve/stub.conf", bundle.inside("etc/resolv.conf")).unwrap();
    bundle.add(
        "/mounts",
        json!({"destination": "/etc/resolv.conf", "type": "bind", "source": source, "options": ["bind"]}),
    );
    bundle.sh("cat /run/resolve/stub.conf");
    assert_eq!(bundle.run(), "text");
}

#[test]
fn procfs_is_not_mounted_where_a_link_leads_to() {
    let bundle = bundle!();
    fs::remove_dir(bundle.inside("proc")).unwrap();
    symlink("tmp", bundle.inside("proc")).unwrap();
    let error = bundle.fails(&["create"]);
    assert!(error.contains("mounts[0].destination: /proc must be mounted on ordinary directory"), "{error}");
}

#[test]
fn a_mount_can_be_over_the_root() {
    let mut bundle = bundle!();
    let root = bundle.inside("");
    bundle.set(
        "/mounts",
        json!([
            {"destination": "/", "type": "bind", "source": root, "options": ["bind", "nosuid"]},
            {"destination": "/proc", "type": "proc"},
        ]),
    );
    bundle.sh("grep -c ' / .*nosuid' /proc/self/mounts");
    assert_eq!(bundle.run(), "1\n");
}

#[test]
fn flags_of_a_mount_can_be_changed_by_another_entry() {
    let mut bundle = bundle!();
    let host = bundle.path().join("host");
    fs::create_dir_all(&host).unwrap();
    let bind = json!({"destination": "/x", "type": "bind", "source": host, "options": ["bind"]});
    bundle.add("/mounts", bind);
    bundle.add("/mounts", json!({"destination": "/x", "options": ["remount", "bind", "ro", "nosuid"]}));
    bundle.add("/mounts", json!({"destination": "/y", "type": "tmpfs", "options": ["size=8k"]}));
    bundle.add("/mounts", json!({"destination": "/y", "type": "tmpfs", "options": ["remount", "size=16k"]}));
    bundle.sh("grep -E ' /(x|y) ' /proc/self/mounts");
    let text = bundle.run();
    assert!(text.contains(" ro,nosuid") && text.contains("size=16k"), "{text}");
    // Only the mount has changed, not the file system that it shows.
    fs::write(host.join("file"), "").unwrap();
}

#[test]
fn ids_of_a_bind_mount_can_be_mapped() {
    let mut bundle = bundle!();
    // The temporary directory's own file system may not be able to: a tmpfs is, since Linux 6.3.
    let host = bundle.path().join("host");
    fs::create_dir_all(&host).unwrap();
    std::os::unix::fs::chown(&host, Some(1000), Some(1001)).unwrap();
    bundle.add(
        "/mounts",
        json!({
            "destination": "/x", "type": "bind", "source": host, "options": ["bind"],
            "uidMappings": [{"containerID": 1000, "hostID": 5000, "size": 10}],
            "gidMappings": [{"containerID": 1000, "hostID": 6000, "size": 10}],
        }),
    );
    bundle.sh("stat -c '%u %g' /x");
    assert_eq!(bundle.run(), "5000 6001\n");
}

#[test]
fn the_root_can_be_read_only() {
    let mut bundle = bundle!();
    bundle.set("/root/readonly", json!(true));
    bundle.sh("echo x > /tmp/x || echo x > /dev/x && echo ok");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{output:?}");
    assert!(!bundle.inside("tmp/x").exists());
}

#[test]
fn a_read_only_tmpfs_takes_what_belongs_in_it_first() {
    let mut bundle = bundle!();
    bundle.config["mounts"][1]["options"].as_array_mut().unwrap().push(json!("ro"));
    bundle.sh("stat -c '%t,%T' /dev/null; stat -f -c %T /dev/pts; echo > /dev/x || echo refused");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1,3\ndevpts\nrefused\n", "{output:?}");
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_are() {
    let mut bundle = bundle!();
    fs::create_dir_all(bundle.inside("secret")).unwrap();
    fs::create_dir_all(bundle.inside("secret2")).unwrap();
    fs::write(bundle.inside("secret/file"), "text").unwrap();
    fs::write(bundle.inside("secret2/file"), "text").unwrap();
    fs::write(bundle.inside("etc/shadow"), "text").unwrap();
    fs::create_dir_all(bundle.inside("fixed")).unwrap();
    bundle.set(
        "/linux/maskedPaths",
        json!(["/secret", "/secret2", "/etc/shadow", "/no/such", "/proc/timer_list"]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/fixed", "/proc/sys", "/no/such"]));
    bundle.sh("ls /secret /secret2 | wc -l; cat /etc/shadow /proc/timer_list | wc -c; \
         for f in /secret/x /fixed/x /proc/sys/kernel/hostname; do echo x > $f || echo refused; done");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n0\nrefused\nrefused\nrefused\n");
    assert!(!bundle.inside("fixed/x").exists());
}

#[test]
fn the_default_devices_and_links_are_there() {
    let mut bundle = bundle!();
    bundle.sh("for f in null zero full random urandom tty; do stat -c '%n %t,%T %a' /dev/$f; done; \
         for f in fd stdin stdout stderr ptmx; do readlink /dev/$f; done; head -c 3 /dev/zero | wc -c");
    assert_eq!(
        bundle.run(),
        "/dev/null 1,3 666\n/dev/zero 1,5 666\n/dev/full 1,7 666\n/dev/random 1,8 666\n\
         /dev/urandom 1,9 666\n/dev/tty 5,0 666\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\n"
    );
}

#[test]
fn configured_devices_are_made_and_may_replace_a_default() {
    let mut bundle = bundle!();
    bundle.set("/linux/devices", json!([
        {"path": "/dev/deep/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/pipe", "type": "p", "major": 0, "minor": 0},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
    ]));
    bundle.sh("stat -c '%F %t,%T %a %u %g' /dev/deep/kmsg /dev/pipe /dev/null");
    assert_eq!(
        bundle.run(),
        "character special file 1,b 640 5 6\nfifo 0,0 666 0 0\ncharacter special file 1,3 600 0 0\n"
    );
}

#[test]
fn only_allowed_devices_can_be_used() {
    let mut bundle = bundle!();
    let kmsg = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11});
    let port = json!({"path": "/dev/mem", "type": "c", "major": 1, "minor": 1});
    bundle.set("/linux/devices", json!([kmsg, port]));
    bundle.add(
        "/linux/resources/devices",
        json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}),
    );
    bundle.all_capabilities();
    bundle.sh(
        "exec 3</dev/kmsg && echo kmsg; (exec 3</dev/mem) || echo no mem; (exec 3>/dev/kmsg) || echo no writing; \
         echo > /dev/null && echo null; mknod /tmp/m c 1 1 && echo made; (exec 3</tmp/m) || echo no use",
    );
    let output = bundle.kitc(&["run"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "kmsg\nno mem\nno writing\nnull\nmade\nno use\n",
        "{output:?}"
    );
}

#[test]
fn the_containers_mounts_stay_its_own_and_the_hosts_reach_it_as_asked() {
    let mut bundle = bundle!();
    let host = bundle.path().join("host");
    fs::create_dir_all(host.join("in")).unwrap();
    fs::create_dir_all(host.join("out")).unwrap();
    let mount = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    mount(&["--bind", &text(&host), &text(&host)]);
    mount(&["--make-shared", &text(&host)]);
    bundle.add(
        "/mounts",
        json!({"destination": "/x", "type": "bind", "source": host, "options": ["rbind", "rslave"]}),
    );
    bundle.all_capabilities();
    bundle.sh("mount -t tmpfs t /x/out && echo made; exec sleep 1000");
    let output = bundle.path().join("output");
    let status = bundle
        .command(&["run", "-d", &bundle.id])
        .stdout(fs::File::create(&output).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    wait_until("it has mounted", || fs::read_to_string(&output).unwrap() == "made\n");
    let below = |path: &str| {
        let dev = |p: std::path::PathBuf| fs::metadata(p).unwrap().dev();
        dev(host.join(path)) != dev(host.clone())
    };
    assert!(!below("out"), "a mount of the container reached the host");
    mount(&["-t", "tmpfs", "t", &text(&host.join("in"))]);
    assert!(bundle.exec("cat /proc/mounts").contains(" /x/in tmpfs "));
    bundle.ok(&["delete", "--force"]);
    for path in [host.join("in"), host.clone()] {
        assert!(Command::new("umount").arg(path).status().unwrap().success());
    }
}

#[test]
fn a_shared_root_lets_mounts_through_to_the_host() {
    let mut bundle = bundle!();
    let host = bundle.path().join("host");
    fs::create_dir_all(host.join("out")).unwrap();
    let mount = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    mount(&["--bind", &text(&host), &text(&host)]);
    mount(&["--make-shared", &text(&host)]);
    bundle.set("/linux/rootfsPropagation", json!("rshared"));
    bundle.add(
        "/mounts",
        json!({"destination": "/x", "type": "bind", "source": host, "options": ["rbind", "rshared"]}),
    );
    bundle.all_capabilities();
    bundle.sh("mount -t tmpfs t /x/out");
    bundle.run();
    let reached = fs::metadata(host.join("out")).unwrap().dev() != fs::metadata(&host).unwrap().dev();
    assert!(Command::new("umount").args(["-R"]).arg(&host).status().unwrap().success());
    assert!(reached);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    for (word, expected) in
        [("private", ""), ("slave", ""), ("shared", "shared"), ("unbindable", "unbindable")]
    {
        let mut bundle = bundle!();
        bundle.set("/linux/rootfsPropagation", json!(word));
        bundle.set("/linux/readonlyPaths", json!(["/etc"]));
        bundle.sh("cat /proc/self/mountinfo");
        let table = bundle.run();
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        let optional = root.split(' ').nth(6).unwrap();
        assert!(optional.starts_with(expected), "{word}: {root}");
        assert!(!expected.is_empty() || !optional.starts_with("shared"), "{word}: {root}");
    }
}

#[test]
fn the_containers_cgroups_can_be_mounted() {
    let mut bundle = bundle!();
    bundle.add("/mounts", json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]}));
    bundle.sh("cd /sys/fs/cgroup; for d in . unified freezer; do [ -e $d/cgroup.procs ] && break; done; \
         cat $d/cgroup.procs; mkdir $d/x || echo refused");
    let output = bundle.kitc(&["run"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("1\n") && text.ends_with("refused\n"), "{output:?}");
}
