//! Another process in a container.

use crate::support::{Bundle, bundle, field, succeeded, wait_until};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Stdio;

fn running() -> Result<Bundle, &'static str> {
    let mut bundle = Bundle::new()?;
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    Ok(bundle)
}

macro_rules! running {
    () => {
        match running() {
            Ok(bundle) => bundle,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

#[test]
fn a_process_runs_beside_the_first_with_the_same_rights() {
    let bundle = running!();
    assert_eq!(bundle.exec("readlink /proc/1/exe; hostname"), "/bin/busybox\ninside\n");
    let own = bundle.exec("cat /proc/self/status");
    let first = bundle.exec("cat /proc/1/status");
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"] {
        assert_eq!(field(&own, name), field(&first, name), "{name}");
    }
    for kind in ["pid", "net", "ipc", "uts", "mnt"] {
        let link = |who: &str| bundle.exec(&format!("readlink /proc/{who}/ns/{kind}"));
        assert_eq!(link("self"), link("1"), "{kind}");
    }
    assert_eq!(bundle.exec("cat /proc/self/cgroup"), bundle.exec("cat /proc/1/cgroup"));
}

#[test]
fn options_change_the_process() {
    let bundle = running!();
    let output = bundle
        .command(&["exec", "-e", "X=1", "--cwd", "/tmp", "-u", "5:6", "-g", "7", &bundle.id, "sh", "-c"])
        .arg("echo $X; pwd; id -u; id -g; id -G")
        .output()
        .unwrap();
    assert_eq!(succeeded(&output), "1\n/tmp\n5\n6\n6 7\n");
}

#[test]
fn the_last_value_of_a_variable_counts() {
    let mut bundle = bundle!();
    bundle.add("/process/env", json!("X=first")).add("/process/env", json!("X=second"));
    bundle.sh("env | grep ^X >/tmp/own; exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    let own = || fs::read_to_string(bundle.inside("tmp/own")).unwrap_or_default();
    wait_until("it has written", || own() == "X=second\n");
    let output = bundle.command(&["exec", "-e", "X=third", &bundle.id, "env"]).output().unwrap();
    let lines: Vec<String> =
        succeeded(&output).lines().filter(|l| l.starts_with('X')).map(str::to_owned).collect();
    assert_eq!(lines, ["X=third"]);
}

#[test]
fn it_is_made_in_a_cgroup_below_the_containers() {
    let bundle = running!();
    let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|root| Path::new(root).join("kitc-test").join(&bundle.id));
    let Some(dir) = unified.iter().find(|dir| dir.join("cgroup.events").exists()) else {
        println!("skipped: needs cgroup2");
        return;
    };
    let exec = |group: &str| {
        let args = ["exec", "--cgroup", group, &bundle.id, "cat", "/proc/self/cgroup"];
        bundle.command(&args).output().unwrap()
    };
    let missing = exec("below");
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--cgroup: enter"), "{missing:?}");
    fs::create_dir(dir.join("below")).unwrap();
    let own = |text: String| text.lines().find(|l| l.starts_with("0::")).map(str::to_owned).unwrap();
    assert!(own(succeeded(&exec("below"))).ends_with(&format!("{}/below", bundle.id)));
    assert!(own(succeeded(&exec("/"))).ends_with(&bundle.id));
    assert!(!exec("../..").status.success());
    assert!(!exec("nothing:/").status.success());
}

#[test]
fn it_has_the_personality_and_the_memory_policy_of_the_container() {
    let mut bundle = bundle!();
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let numa = Path::new("/proc/self/numa_maps").exists();
    if numa {
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    }
    let script = "busybox uname -m; grep -c bind:0 /proc/self/numa_maps";
    bundle.sh(&format!("({script}) >/tmp/own; exec sleep 1000"));
    bundle.ok(&["run", "--detach"]);
    let own = || fs::read_to_string(bundle.inside("tmp/own")).unwrap_or_default();
    wait_until("it has written", || own().lines().count() == if numa { 2 } else { 1 });
    let of_exec = bundle.exec(&format!("{script} || true"));
    for said in [own(), of_exec] {
        let mut lines = said.lines();
        let machine = lines.next().unwrap();
        assert!(["i686", "armv8l"].contains(&machine), "{machine}");
        if numa {
            assert_ne!(lines.next(), Some("0"));
        }
    }
    let mut bundle = bundle!();
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-1024"}));
    assert!(
        bundle.fails(&["create"]).contains("linux.memoryPolicy.nodes: \"0-1024\" is not a list of nodes")
    );
}

#[test]
fn its_exit_code_is_that_of_kitc() {
    let bundle = running!();
    let code = |script: &str| {
        let output = bundle.command(&["exec", &bundle.id, "sh", "-c", script]).output().unwrap();
        output.status.code()
    };
    assert_eq!(code("exit 9"), Some(9));
    assert_eq!(code("kill -TERM $$"), Some(143));
}

#[test]
fn a_process_file_says_it_all() {
    let bundle = running!();
    let process = bundle.path().join("process.json");
    let text = json!({
        "args": ["sh", "-c", "echo $A > /tmp/out; exec sleep 1000"], "env": ["PATH=/bin", "A=b"], "cwd": "/",
        "user": {"uid": 0, "gid": 0},
    });
    fs::write(&process, text.to_string()).unwrap();
    let pid_file = bundle.path().join("exec.pid");
    let args = ["exec", "--detach", "--process", process.to_str().unwrap(), "--pid-file"];
    let output = bundle.command(&args).arg(&pid_file).arg(&bundle.id).stdout(Stdio::null()).status().unwrap();
    assert!(output.success());
    let out = || fs::read_to_string(bundle.inside("tmp/out")).unwrap_or_default();
    wait_until("it has written", || out() == "b\n");
    let pid = fs::read_to_string(pid_file).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(field(&status, "CapEff"), 0, "a process without capabilities in its file has none");
    let pids: Vec<i32> = serde_json::from_str(&bundle.ok(&["ps", "-f", "json"])).unwrap();
    assert!(pids.contains(&pid.parse().unwrap()), "{pids:?}");
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let bundle = running!();
    let output = bundle.command(&["exec", &bundle.id, "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: run a process in container {0}\ncaused by: in container {0}\n\
         caused by: process.args[0]: executable file not found in $PATH: \"nothing\" in /bin\n",
        bundle.id
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn a_stopped_container_cannot_be_entered() {
    let bundle = bundle!();
    bundle.ok(&["run", "--keep"]);
    let output = bundle.command(&["exec", &bundle.id, "true"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is stopped"));
}

#[test]
fn a_created_container_can_be_entered() {
    let bundle = bundle!();
    bundle.ok(&["create"]);
    assert_eq!(bundle.exec("hostname"), "inside\n");
}

#[test]
fn the_containers_programs_cannot_write_to_the_program_of_kitc() {
    let mut bundle = bundle!();
    // A file of its own, which nobody else runs: one that is run cannot be written to anyway.
    let own = bundle.path().join("kitc");
    fs::copy(&bundle.program, &own).unwrap();
    bundle.program = own.clone();
    let before = fs::read(&own).unwrap();
    bundle.all_capabilities().sh("exec sleep 1000");
    bundle.ok(&["create"]);
    // While the file is run the error is another one: again until it is not.
    let script = "exec 3</proc/1/exe || exit 0; echo > /tmp/open; \
                  while sh -c 'echo x >/proc/self/fd/3' 2>/tmp/error; grep -q busy /tmp/error; do :; done; \
                  echo > /tmp/end";
    let status = bundle
        .command(&["exec", "--detach", &bundle.id, "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    wait_until("it has the file", || bundle.inside("tmp/open").exists());
    bundle.ok(&["start"]);
    wait_until("it has tried", || bundle.inside("tmp/end").exists());
    let error = fs::read_to_string(bundle.inside("tmp/error")).unwrap();
    assert!(error.contains("Read-only file system"), "{error}");
    assert!(fs::read(&own).unwrap() == before);
}
