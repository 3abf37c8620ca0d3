//! Filters at work.

use crate::support::{Bundle, bundle, wait_until};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;

fn filter(bundle: &mut Bundle, default: &str, syscalls: Value) {
    bundle.set("/linux/seccomp", json!({"defaultAction": default, "syscalls": syscalls}));
}

#[test]
fn a_call_can_be_made_to_fail_with_a_chosen_error() {
    let mut bundle = bundle!();
    let rule = json!([{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
    filter(&mut bundle, "SCMP_ACT_ALLOW", rule);
    bundle.sh("mkdir /tmp/x; grep Seccomp: /proc/self/status");
    let output = bundle.kitc(&["run"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Seccomp:\t2\n");
}

#[test]
fn a_call_can_kill() {
    let mut bundle = bundle!();
    filter(&mut bundle, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}]));
    bundle.sh("mkdir /tmp/x; echo $?");
    assert_eq!(bundle.run(), "159\n", "128 and SIGSYS");
}

#[test]
fn arguments_decide() {
    let mut bundle = bundle!();
    // kill(2) with signal 0 is allowed, with others it is not.
    let rule = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                       "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}]}]);
    filter(&mut bundle, "SCMP_ACT_ALLOW", rule);
    bundle.sh("kill -0 $$ && echo zero; kill -TERM $$ || echo refused");
    let output = bundle.kitc(&["run"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "zero\nrefused\n");
}

#[test]
fn a_list_of_what_is_allowed_lets_a_program_run() {
    let mut bundle = bundle!();
    let names = [
        "execve",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "mprotect",
        "readlinkat",
        "readlink",
        "getrandom",
        "write",
        "exit_group",
        "getuid",
        "mmap",
        "munmap",
        "ioctl",
        "prctl",
        "capset",
        "fstat",
        "newfstatat",
        "uname",
        "sendmsg",
    ];
    for no_new_privileges in [true, false] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        filter(&mut bundle, "SCMP_ACT_ERRNO", json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]));
        bundle.set("/process/args", json!(["echo", "runs"]));
        assert_eq!(bundle.run(), "runs\n");
    }
}

#[test]
fn a_process_that_enters_has_the_same_filter() {
    let mut bundle = bundle!();
    filter(&mut bundle, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
    bundle.sh("exec sleep 1000");
    bundle.ok(&["run", "--detach"]);
    assert_eq!(bundle.exec("mkdir /tmp/x 2>/dev/null || echo refused"), "refused\n");
}

#[test]
fn a_listener_gets_the_descriptor_and_the_state() {
    let mut bundle = bundle!();
    let path = bundle.path().join("notify.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "data",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        }),
    );
    bundle.sh("exec sleep 1000");
    bundle.ok(&["create"]);
    let starting = bundle.spawn(&["start"]);
    let (socket, _) = listener.accept().unwrap();
    let (text, descriptor) = crate::terminal::receive(&socket);
    let message: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(message["metadata"], "data");
    assert_eq!(message["state"]["id"], json!(bundle.id));
    let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor)));
    assert_eq!(link.unwrap().to_str(), Some("anon_inode:seccomp notify"));
    let output = starting.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_until("it runs", || bundle.status() == "running");
}

#[test]
fn what_a_profile_cannot_mean_is_an_error() {
    let mut bundle = bundle!();
    for (profile, expected) in [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY cannot be the default"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
            "SCMP_ACT_NOTIFY needs listenerPath",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            "linux.seccomp.syscalls[0].args: there is no argument 6",
        ),
    ] {
        bundle.set("/linux/seccomp", profile);
        let error = bundle.fails(&["create"]);
        assert!(error.contains(expected), "{error}");
    }
}
