//! User, groups, capabilities, and what else a program starts with.

use crate::support::{bundle, field};
use serde_json::json;
use std::fs;

#[test]
fn the_five_capability_sets_are_exact() {
    let mut bundle = bundle!();
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_KILL"],
        }),
    );
    // Another user than root: what it has after the exec is what was given to it.
    bundle.set("/process/user", json!({"uid": 7, "gid": 8}));
    bundle.sh("cat /proc/self/status");
    let text = bundle.run();
    let sets = ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"].map(|name| field(&text, name));
    assert_eq!(sets, [1 | 1 << 5 | 1 << 13, 1 << 5, 1 << 5, 1 | 1 << 5, 1 << 5]);
    // Root has after an exec whatever the bounding set lets through, if it may gain anything.
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
    let text = bundle.run();
    assert_eq!(field(&text, "CapPrm"), 1 | 1 << 5 | 1 << 13);
}

#[test]
fn without_capabilities_there_are_none() {
    let mut bundle = bundle!();
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    bundle.sh("cat /proc/self/status");
    let text = bundle.run();
    for name in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(field(&text, name), 0, "{name}");
    }
}

#[test]
fn new_privileges_are_refused_only_where_asked_for() {
    let mut bundle = bundle!();
    bundle.sh("grep NoNewPrivs /proc/self/status");
    assert_eq!(bundle.run(), "NoNewPrivs:\t1\n");
    bundle.set("/process/noNewPrivileges", json!(false));
    assert_eq!(bundle.run(), "NoNewPrivs:\t0\n");
}

#[test]
fn the_program_runs_as_its_user_with_its_groups_and_umask() {
    let mut bundle = bundle!();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o077}));
    bundle.set("/process/cwd", json!("/tmp"));
    fs::set_permissions(bundle.inside("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    bundle.sh("id -u; id -g; id -G; pwd; umask; touch f; stat -c '%a %u %g' f");
    assert_eq!(bundle.run(), "1000\n1001\n1001 5 6\n/tmp\n0077\n600 1000 1001\n");
}

#[test]
fn the_environment_is_that_of_the_configuration_and_a_home() {
    let mut bundle = bundle!();
    fs::write(bundle.inside("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nme:x:9:9::/home/me:/bin/sh\n")
        .unwrap();
    bundle.set("/process/env", json!(["PATH=/bin", "A=1 2"]));
    bundle.set("/process/args", json!(["env"]));
    assert_eq!(bundle.run(), "PATH=/bin\nA=1 2\nHOME=/root\n");
    bundle.set("/process/user/uid", json!(9));
    assert_eq!(bundle.run(), "PATH=/bin\nA=1 2\nHOME=/home/me\n");
    bundle.set("/process/env", json!(["HOME=/x", "PATH=/bin"]));
    assert_eq!(bundle.run(), "HOME=/x\nPATH=/bin\n");
}

#[test]
fn a_program_is_found_by_the_path_of_the_container() {
    let mut bundle = bundle!();
    fs::create_dir(bundle.inside("opt")).unwrap();
    fs::write(bundle.inside("opt/tool"), "#!/bin/sh\necho tool $0 $1\n").unwrap();
    bundle.set("/process/env", json!(["PATH=/nowhere:/opt:/bin"]));
    bundle.set("/process/args", json!(["tool", "x"]));
    let error = bundle.fails(&["run"]);
    assert!(error.contains("process.args[0]: run /opt/tool"), "{error}");
    fs::set_permissions(bundle.inside("opt/tool"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    assert_eq!(bundle.run(), "tool /opt/tool x\n");
}

#[test]
fn limits_of_the_process_are_set() {
    let mut bundle = bundle!();
    bundle.set(
        "/process/rlimits",
        json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ]),
    );
    bundle.set("/process/oomScoreAdj", json!(500));
    bundle.sh("ulimit -S -n; ulimit -H -n; ulimit -c; cat /proc/self/oom_score_adj");
    assert_eq!(bundle.run(), "100\n200\n0\n500\n");
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}]));
    let error = bundle.fails(&["run"]);
    assert!(error.contains("process.rlimits: set RLIMIT_NOFILE to 3, at most 2"), "{error}");
}

#[test]
fn scheduling_and_domain_are_set() {
    let mut bundle = bundle!();
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    bundle.sh(
        "cat /proc/self/stat | { read a; set -- ${a##*)}; echo ${17} ${39}; }; cat /proc/self/personality",
    );
    let text = bundle.run();
    // Fields 19 and 41: nice and the policy, of which 3 is batch.
    assert_eq!(text, "5 3\n00000008\n");
    bundle.set("/process/ioPriority/priority", json!(8));
    assert!(bundle.fails(&["run"]).contains("process.ioPriority"));
}

#[test]
fn a_process_that_enters_can_be_kept_on_some_cpus() {
    let mut bundle = bundle!();
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
    bundle.sh("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(bundle.run(), "Cpus_allowed_list:\t0\n");
}

#[test]
fn signals_have_their_defaults_and_none_is_blocked() {
    let mut bundle = bundle!();
    bundle.set("/process/args", json!(["cat", "/proc/self/status"]));
    let text = bundle.run();
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&text, name), 0, "{name}");
    }
}
