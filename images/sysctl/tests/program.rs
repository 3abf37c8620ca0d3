//! The program itself, on a made-up tree and, as root, on the real `/proc/sys` of a namespace of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn kit_sysctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kit-sysctl")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_bad_key_fails_the_run_only_when_strict() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("proc/kernel")).unwrap();
    fs::create_dir_all(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("proc/kernel/panic"), "0\n").unwrap();
    fs::write(dir.path().join("d/50-x.conf"), "# panic\nkernel.panics = 1\nkernel.panic = 10\n").unwrap();
    let conf = dir.path().join("d").display().to_string();
    let proc = dir.path().join("proc").display().to_string();

    let lax = kit_sysctl(&["--dir", &conf, "--proc", &proc]);
    let said = format!(
        "warning: {conf}/50-x.conf:2: kernel.panics: this kernel has no such key\nkit-sysctl: 1 set, 1 not\n"
    );
    assert_eq!((lax.status.code(), stderr(&lax)), (Some(0), said.clone()));
    assert_eq!(fs::read_to_string(dir.path().join("proc/kernel/panic")).unwrap(), "10\n");

    let strict = kit_sysctl(&["--strict", "--dir", &conf, "--proc", &proc]);
    assert_eq!((strict.status.code(), stderr(&strict)), (Some(1), said));
}

#[test]
fn a_directory_that_is_not_there_is_told_with_its_cause() {
    let output = kit_sysctl(&["--dir", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "error: list /nowhere/at/all\ncaused by: No such file or directory (os error 2)\n"
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let output = kit_sysctl(&["--frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "error: unknown argument `--frobnicate`\nhint: kit-sysctl --help\n");
}

/// Runs a shell script in network and mount namespaces of its own, where /proc/sys/net is that namespace's.
fn in_namespace(script: &str) -> Output {
    Command::new("unshare").args(["--net", "--mount", "sh", "-euc", script]).output().unwrap()
}

/// What the namespace's keys are after `program` ran, one `key=value` a line.
fn keys_after(program: &str) -> Result<String, String> {
    let script = format!(
        "ip link add d0 type veth peer name d0.5; {program} >&2; cd /proc/sys/net/ipv4; \
         for f in conf/*/rp_filter conf/*/accept_redirects conf/*/send_redirects tcp_syncookies ip_local_port_range; \
         do echo \"$f=$(cat $f)\"; done"
    );
    let output = in_namespace(&script);
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(stderr(&output)) }
}

/// Root and the tools, or why not.
fn missing() -> Option<&'static str> {
    if !in_namespace("ip link add d0 type veth peer name d1").status.success() {
        return Some("needs root, unshare, ip and veth");
    }
    None
}

const CONF: &str = "\
# both spellings, a glob, an exception before it, a vector
net/ipv4/conf/d0.5/rp_filter = 1
net.ipv4.conf.*.rp_filter = 2
net.ipv4.conf.d0.accept_redirects = 0
net.ipv4.conf.all.send_redirects=0
net.ipv4.tcp_syncookies = 2
net.ipv4.ip_local_port_range = 40000 50000
-net.ipv4.no_such_thing = 1
";

#[test]
fn the_kernel_takes_what_is_written() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.conf"), CONF).unwrap();
    let program = format!("{} --strict --dir {}", env!("CARGO_BIN_EXE_kit-sysctl"), dir.path().display());
    let keys = keys_after(&program).unwrap();
    for want in [
        "conf/all/rp_filter=2",
        "conf/d0/rp_filter=2",
        "conf/d0.5/rp_filter=1",
        "conf/d0/accept_redirects=0",
        "conf/d0.5/accept_redirects=1",
        "tcp_syncookies=2",
        "ip_local_port_range=40000\t50000",
    ] {
        assert!(keys.lines().any(|line| line == want), "no {want} in:\n{keys}");
    }
}

#[test]
fn procps_sets_the_same_keys() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    if !Path::new("/usr/sbin/sysctl").exists() && !Path::new("/sbin/sysctl").exists() {
        println!("skipped: sysctl (procps) is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.conf");
    // Its 4.0.2 has something to say about an absent key even with a `-`.
    let conf: String = CONF.lines().filter(|l| !l.starts_with('-')).map(|l| format!("{l}\n")).collect();
    fs::write(&file, conf).unwrap();
    let theirs = keys_after(&format!("sysctl -q -p {}", file.display())).unwrap();
    let ours =
        keys_after(&format!("{} --dir {}", env!("CARGO_BIN_EXE_kit-sysctl"), dir.path().display())).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn the_hardening_set_has_no_bad_line() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        kit_sysctl(&["--dir", env!("CARGO_MANIFEST_DIR"), "--proc", &dir.path().display().to_string()]);
    for line in stderr(&output).lines().filter(|line| line.starts_with("warning")) {
        assert!(line.ends_with("this kernel has no such key"), "{line}");
    }
    assert!(stderr(&output).ends_with(" not\n"));
}

#[test]
fn this_kernel_takes_the_network_half_of_the_hardening_set() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    // The other keys are the whole machine's: they are not this test's to change.
    let all = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/50-hardening.conf")).unwrap();
    let network: String = all.lines().filter(|l| l.contains("net.ipv")).map(|l| format!("{l}\n")).collect();
    assert!(network.lines().count() >= 8);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("50-hardening.conf"), network).unwrap();
    let keys =
        keys_after(&format!("{} --strict --dir {}", env!("CARGO_BIN_EXE_kit-sysctl"), dir.path().display()))
            .unwrap();
    assert!(keys.contains("conf/d0/accept_redirects=0\n"), "{keys}");
}
