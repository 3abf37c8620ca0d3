//! From create to delete, and what is left when it goes wrong.

use crate::support::{bundle, output_of, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

#[test]
fn a_container_goes_through_all_its_states() {
    let mut bundle = bundle!();
    bundle.sh("echo started > /tmp/mark; exec sleep 1000");
    bundle.set("/annotations", json!({"org.example": "x"}));
    bundle.ok(&["create"]);
    assert!(!bundle.inside("tmp/mark").exists(), "the program ran before start");
    let state = bundle.state();
    let pid = state["pid"].as_i64().unwrap();
    assert_eq!(
        state,
        json!({
            "ociVersion": "1.0.2",
            "id": bundle.id,
            "status": "created",
            "pid": pid,
            "bundle": bundle.path().canonicalize().unwrap(),
            "annotations": {"org.example": "x"},
        })
    );
    bundle.ok(&["start"]);
    assert_eq!(bundle.status(), "running");
    wait_until("the program has run", || bundle.inside("tmp/mark").exists());
    assert!(bundle.fails(&["delete"]).contains("is running, not stopped"));
    bundle.ok(&["kill"]);
    // A first process of a pid namespace has no default for TERM: it takes KILL.
    assert_eq!(bundle.status(), "running");
    let output = bundle.command(&["kill", &bundle.id, "KILL"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_until("it is stopped", || bundle.status() == "stopped");
    assert_eq!(bundle.state().get("pid"), None);
    bundle.ok(&["delete"]);
    assert!(bundle.fails(&["state"]).contains("does not exist"));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_name_can_be_used_once() {
    let bundle = bundle!();
    bundle.ok(&["create"]);
    assert!(bundle.fails(&["create"]).contains("exists already"));
    assert_eq!(bundle.status(), "created");
}

#[test]
fn only_a_created_container_can_be_started() {
    let mut bundle = bundle!();
    bundle.sh("exec sleep 1000");
    assert!(bundle.fails(&["start"]).contains("does not exist"));
    bundle.ok(&["create"]);
    bundle.ok(&["start"]);
    assert!(bundle.fails(&["start"]).contains("is running, not created"));
}

#[test]
fn a_created_container_can_be_deleted_without_having_run() {
    let bundle = bundle!();
    bundle.ok(&["create"]);
    bundle.ok(&["delete"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn forced_deletion_kills_and_does_not_mind_a_container_that_is_not_there() {
    let mut bundle = bundle!();
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    bundle.ok(&["delete", "--force"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    bundle.ok(&["delete", "--force"]);
    assert!(bundle.fails(&["delete"]).contains("does not exist"));
}

#[test]
fn run_returns_the_exit_code_and_deletes_the_container() {
    let mut bundle = bundle!();
    bundle.sh("echo out; echo err >&2; exit 7");
    let output = bundle.kitc(&["run"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
    // The second shell is killed, and the first tells of it.
    bundle.sh("sh -c 'kill -KILL $$'; exit $?");
    assert_eq!(bundle.kitc(&["run"]).status.code(), Some(137));
}

#[test]
fn a_kept_container_is_there_until_it_is_deleted() {
    let bundle = bundle!();
    bundle.ok(&["run", "--keep"]);
    assert_eq!(bundle.status(), "stopped");
    bundle.ok(&["delete"]);
}

#[test]
fn a_detached_container_goes_on_with_the_descriptors_it_was_given() {
    let mut bundle = bundle!();
    bundle.sh("read line; echo \"got $line\"; exec sleep 1000");
    let pid_file = bundle.path().join("pid");
    let input = fs::File::from(rustix::fs::memfd_create("in", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    (&input).write_all(b"word\n").unwrap();
    std::io::Seek::seek(&mut &input, std::io::SeekFrom::Start(0)).unwrap();
    let output = fs::File::create(bundle.path().join("out")).unwrap();
    let status = bundle
        .command(&["run", "-d", "--pid-file", pid_file.to_str().unwrap(), &bundle.id])
        .stdin(input)
        .stdout(output)
        .status()
        .unwrap();
    assert!(status.success());
    let out = || fs::read_to_string(bundle.path().join("out")).unwrap();
    wait_until("it has answered", || out() == "got word\n");
    assert_eq!(bundle.status(), "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), bundle.pid().to_string());
}

#[test]
fn signals_to_kitc_go_to_the_container() {
    let mut bundle = bundle!();
    bundle.sh("trap 'echo term; exit 3' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 1 & wait $!; done");
    let mut child = bundle.spawn(&["run"]);
    let mut out = child.stdout.take().unwrap();
    let mut expect = |text: &str| {
        let mut bytes = vec![0; text.len()];
        out.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    };
    expect("ready\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    expect("usr1\n");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    expect("term\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn kill_all_reaches_what_the_first_process_has_left_behind() {
    let mut bundle = bundle!();
    bundle.without_namespace("pid").sh("sleep 1000 & sleep 1000 & echo");
    bundle.ok(&["run", "--detach"]);
    wait_until("the first process has ended", || bundle.status() == "stopped");
    let pids = || -> Vec<i32> { serde_json::from_str(&bundle.ok(&["ps", "-f", "json"])).unwrap() };
    assert_eq!(pids().len(), 2);
    assert!(bundle.fails(&["kill"]).contains("container not running"));
    let kill = |signal| bundle.command(&["kill", "--all", &bundle.id, signal]).output().unwrap();
    assert!(kill("STOP").status.success());
    assert_eq!(pids().len(), 2);
    assert!(kill("KILL").status.success());
    wait_until("all have ended", || pids().is_empty());
}

#[test]
fn deletion_takes_the_processes_along_that_outlived_the_first() {
    let mut bundle = bundle!();
    bundle.without_namespace("pid").sh("sleep 1000 & echo");
    bundle.ok(&["run", "--detach"]);
    wait_until("the first process has ended", || bundle.status() == "stopped");
    bundle.ok(&["delete"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_paused_container_is_frozen_until_it_is_resumed() {
    let mut bundle = bundle!();
    bundle.sh("i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done");
    bundle.ok(&["run", "--detach"]);
    bundle.ok(&["pause"]);
    assert_eq!(bundle.status(), "paused");
    let output = bundle.command(&["exec", &bundle.id, "/bin/true"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is paused"));
    bundle.ok(&["resume"]);
    assert_eq!(bundle.status(), "running");
    bundle.ok(&["pause"]);
    bundle.ok(&["delete", "--force"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_failure_names_the_key_and_leaves_nothing() {
    let file = |path: &str, text: &str, b: &crate::support::Bundle| fs::write(b.inside(path), text).unwrap();
    let cases: [(&str, &str, Value); 14] = [
        (
            "process.args[0]: executable file not found in $PATH: \"nothing\" in /bin",
            "/process/args",
            json!(["nothing"]),
        ),
        ("process.args[0]: run /etc/text", "/process/args", json!(["/etc/text"])),
        ("process.cwd: change to /nowhere", "/process/cwd", json!("/nowhere")),
        ("process.cwd: \"x\" is not an absolute path", "/process/cwd", json!("x")),
        (
            "mounts[0].source: open /no/such",
            "/mounts",
            json!([{"destination": "/x", "type": "bind", "source": "/no/such"}]),
        ),
        ("mounts[0]: mount nofs on /x", "/mounts", json!([{"destination": "/x", "type": "nofs"}])),
        ("mounts[0].type is missing", "/mounts", json!([{"destination": "/x"}])),
        ("linux.rootfsPropagation: \"odd\"", "/linux/rootfsPropagation", json!("odd")),
        ("linux.sysctl[\"net.no_such\"]", "/linux/sysctl", json!({"net.no_such": "1"})),
        ("linux.sysctl: \"kernel.panic\"", "/linux/sysctl", json!({"kernel.panic": "1"})),
        (
            "hooks.createRuntime[0]: /bin/false ended with code 1",
            "/hooks",
            json!({"createRuntime": [{"path": "/bin/false"}]}),
        ),
        (
            "hooks.createContainer[0]: start /no/such",
            "/hooks",
            json!({"createContainer": [{"path": "/no/such"}]}),
        ),
        ("linux.cgroupsPath: /a/../b has a ..", "/linux/cgroupsPath", json!("/a/../b")),
        ("linux.mountLabel: SELinux is not supported", "/linux/mountLabel", json!("x")),
    ];
    for (expected, pointer, value) in cases {
        let mut bundle = bundle!();
        file("etc/text", "no program", &bundle);
        bundle.set(pointer, value);
        let error = bundle.fails(&["create"]);
        assert!(error.contains(expected), "{pointer}: {error}");
        assert!(error.starts_with(&format!("error: create container {}\ncaused by: ", bundle.id)), "{error}");
        assert_eq!(bundle.leftovers(), Vec::<String>::new(), "{pointer}");
    }
}

#[test]
fn what_a_killed_kitc_has_left_is_deleted_by_force() {
    let mut bundle = bundle!();
    let mark = bundle.path().join("mark");
    let script = format!("echo $$ > {}; exec sleep 1000", mark.display());
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]}));
    let mut child = bundle.spawn(&["create"]);
    let hook = || fs::read_to_string(&mark).ok().and_then(|text| text.trim().parse().ok());
    wait_until("the hook runs", || hook().is_some());
    assert_eq!(bundle.status(), "creating");
    child.kill().unwrap();
    child.wait().unwrap();
    let hook = rustix::process::Pid::from_raw(hook().unwrap()).unwrap();
    rustix::process::kill_process(hook, rustix::process::Signal::KILL).unwrap();
    // The container's process notices that nobody is left to make it.
    wait_until("its process has ended", || bundle.status() == "stopped");
    bundle.ok(&["delete", "--force"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_container_that_was_cut_off_before_its_state_is_deleted_by_force() {
    let bundle = bundle!();
    bundle.ok(&["create"]);
    let dir = bundle.path().join("state").join(&bundle.id);
    let pid = rustix::process::Pid::from_raw(bundle.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("its process has ended", || bundle.status() == "stopped");
    fs::remove_file(dir.join("state.json")).unwrap();
    assert!(bundle.fails(&["delete"]).contains("is creating, not stopped"));
    bundle.ok(&["delete", "--force"]);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn errors_go_to_the_log_as_its_readers_expect_them() {
    let bundle = bundle!();
    let log = bundle.path().join("log.json");
    let output = bundle
        .command(&["--log", log.to_str().unwrap(), "--log-format", "json", "start", "nobody"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().starts_with("container nobody does not exist"));
}

#[test]
fn the_list_has_all_containers_by_name() {
    let bundle = bundle!();
    assert_eq!(bundle.command(&["list", "-q"]).output().unwrap().stdout, b"");
    bundle.ok(&["create"]);
    let second = format!("{}-b", bundle.id);
    let mut config = bundle.config.clone();
    config["linux"]["cgroupsPath"] = json!(format!("/kitc-test/{second}"));
    let other = bundle.path().join("other");
    fs::create_dir(&other).unwrap();
    config["root"]["path"] = json!(bundle.inside(""));
    fs::write(other.join("config.json"), config.to_string()).unwrap();
    let output = output_of(&mut bundle.command(&["create", "-b", other.to_str().unwrap(), &second]));
    assert!(output.status.success(), "{output:?}");
    let names = bundle.command(&["list", "-q"]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(names).unwrap(), format!("{}\n{second}\n", bundle.id));
    let json = bundle.command(&["list", "-f", "json"]).output().unwrap().stdout;
    let list: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&list[0]["status"], &list[1]["id"]), (&json!("created"), &json!(second)));
    let output = bundle.command(&["delete", "--force", &second]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_descriptor_is_passed_on_only_when_asked_for_and_there() {
    let mut bundle = bundle!();
    bundle.sh("ls /proc/self/fd | wc -l; cat <&3");
    // A shell passes on descriptor 3; the test's own are all close-on-exec.
    let through_shell = |options: &str| {
        let call = bundle.command(&[]);
        let kitc = call.get_program().to_str().unwrap();
        let root = bundle.path().join("state");
        let line = format!("exec 3</etc/hostname; exec {kitc} --root {} {options}", root.display());
        std::process::Command::new("sh")
            .args(["-c", &line])
            .current_dir(bundle.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let output = through_shell(&format!("run --preserve-fds 1 {}", bundle.id));
    let hostname = fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("5\n{hostname}"));
    let output = through_shell(&format!("run {}", bundle.id));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n", "{output:?}");
    let output = through_shell(&format!("run --preserve-fds 3 {}", bundle.id));
    assert!(String::from_utf8_lossy(&output.stderr).contains("descriptor 4 is not open"), "{output:?}");
}
