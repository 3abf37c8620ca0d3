//! The end of pods: asked for, by signals, by force.

use crate::support::{Bundle, DEADLINE, Pod, bundle, start_monitor, wait_until};
use kit_runtime::monitor::protocol::{Exit, Message, Outcome, Reason, Request, Status};
use kit_runtime::monitor::{ClientError, Remains, bury};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

fn send(pod: &Pod, signal: Signal) {
    kill_process(Pid::from_raw(pod.monitor.id() as i32).unwrap(), signal).unwrap();
}

#[test]
fn a_pod_is_stopped_when_it_is_empty() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({"shared_pid": true}));
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let (reason, message) = pod.refused(&Request::Stop { force: false });
    assert_eq!((reason, message), (Reason::State, format!("container {} is there", bundle.id)));
    pod.delete(&bundle, true);
    let pause = pod.state().pause.unwrap();
    pod.ok(&Request::Stop { force: false });
    assert!(pod.monitor.wait().unwrap().success());
    wait_until("the pause process is gone", || !Path::new(&format!("/proc/{pause}")).exists());
    assert_eq!(pod.leftovers(), Vec::<String>::new());
}

#[test]
fn a_pod_is_stopped_with_all_its_containers_by_force() {
    let (mut first, mut second, third) = (bundle!(), bundle!(), bundle!());
    let mut pod = Pod::new(&json!({}));
    first.sh("exec sleep 1000");
    second.sh("exit 0");
    pod.run(&first);
    pod.run(&second);
    pod.create(&third, |_| {});
    pod.ok(&Request::Stop { force: true });
    assert!(pod.monitor.wait().unwrap().success());
    assert_eq!(pod.leftovers(), Vec::<String>::new());
    for bundle in [&first, &second, &third] {
        assert_eq!(bundle.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_term_signal_ends_a_monitor_only_when_no_container_lives() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({}));
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    send(&pod, Signal::TERM);
    wait_until("the signal was taken", || {
        let log = fs::read_to_string(pod.path().join("monitor.log")).unwrap();
        log.contains("signal 15 has no effect")
    });
    assert_eq!(pod.status(&bundle), Status::Running);
    pod.signal(&bundle, libc::SIGKILL);
    pod.exit(&bundle);
    send(&pod, Signal::TERM);
    assert!(pod.monitor.wait().unwrap().success());
    assert_eq!(pod.leftovers(), Vec::<String>::new());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn after_a_monitor_was_killed_its_pod_is_buried_without_a_trace() {
    let (mut lives, mut ended) = (bundle!(), bundle!());
    let mut pod = Pod::new(&json!({"shared_pid": true}));
    lives.sh("sleep 1000 & exec sleep 1000");
    ended.sh("exit 3");
    let pid = pod.run(&lives);
    pod.run(&ended);
    assert_eq!(pod.exit(&ended).exit, Exit::Code(3));
    let pause = pod.state().pause.unwrap();
    send(&pod, Signal::KILL);
    pod.monitor.wait().unwrap();
    assert!(matches!(
        pod.client.request(&Request::State, &[]),
        Err(ClientError::Closed | ClientError::Broken { .. })
    ));
    // The container lives on without it.
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let error = start_monitor(pod.path(), &[]).map(drop).unwrap_err();
    assert!(error.contains("is to be buried"), "{error}");
    let mut remains = bury(pod.path()).unwrap();
    remains.sort_by_key(|remains| remains.ended.is_some());
    let exits: Vec<_> = remains.iter().map(|r| (&r.id, r.ended.as_ref().map(|e| e.exit))).collect();
    assert_eq!(exits, [(&lives.id, None), (&ended.id, Some(Exit::Code(3)))]);
    for pid in [pid, pause] {
        let ended = |stat: String| stat.contains(") Z ");
        wait_until("it has ended", || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, ended));
    }
    assert_eq!(pod.leftovers(), Vec::<String>::new());
    assert_eq!((lives.leftovers(), ended.leftovers()), (Vec::new(), Vec::new()));
    assert_eq!(bury(pod.path()).unwrap(), Vec::<Remains>::new());
}

#[test]
fn a_pod_whose_monitor_lives_is_buried_with_it() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({}));
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    assert_eq!(bury(pod.path()).unwrap().len(), 1);
    assert!(!pod.monitor.wait().unwrap().success());
    assert_eq!(pod.leftovers(), Vec::<String>::new());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_monitor_that_is_killed_at_any_step_of_a_create_can_be_buried() {
    for step in
        ["jobs/1.process", "runtime/ID", "runtime/ID/config.json", "runtime/ID/state.json", "jobs/1.pid"]
    {
        let mut bundle = bundle!();
        let mut pod = Pod::new(&json!({"shared_pid": true}));
        bundle.sh("exec sleep 1000");
        fs::write(bundle.path().join("config.json"), bundle.config.to_string()).unwrap();
        let create = json!({"id": 1, "request": {"create": {"id": bundle.id, "bundle": bundle.path()}}});
        pod.client.send(create.to_string().as_bytes(), &[]).unwrap();
        let path = pod.path().join(step.replace("ID", &bundle.id));
        // A call that has ended has taken its files away.
        let made = pod.path().join("runtime").join(&bundle.id).join("start.sock");
        wait_until("the step is done", || path.exists() || made.exists());
        send(&pod, Signal::KILL);
        pod.monitor.wait().unwrap();
        assert_eq!(bury(pod.path()).unwrap(), [Remains { id: bundle.id.clone(), ended: None }], "{step}");
        assert_eq!(pod.leftovers(), Vec::<String>::new(), "{step}");
        // A process that was not yet the container's ends by itself when kitc is gone.
        wait_until("nothing is left", || bundle.leftovers().is_empty());
    }
}

/// Has a create hook wait, and asks for the container. Returns what lets the hook go on.
fn begin_create(bundle: &mut Bundle, pod: &mut Pod) -> PathBuf {
    let (mark, go, hook) = (bundle.path().join("mark"), bundle.path().join("go"), bundle.path().join("hook"));
    let script =
        format!("#!/bin/sh\n: > {}\nwhile [ ! -e {} ]; do sleep 0.1; done\n", mark.display(), go.display());
    fs::write(&hook, script).unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/hooks", json!({"createRuntime": [{"path": hook}]}));
    fs::write(bundle.path().join("config.json"), bundle.config.to_string()).unwrap();
    let create = json!({"id": 99, "request": {"create": {"id": bundle.id, "bundle": bundle.path()}}});
    pod.client.send(create.to_string().as_bytes(), &[]).unwrap();
    wait_until("the hook runs", || mark.exists());
    go
}

#[test]
fn a_call_of_kitc_that_runs_dies_with_its_monitor() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({}));
    let go = begin_create(&mut bundle, &mut pod);
    assert_eq!(pod.status(&bundle), Status::Creating);
    let remains = bury(pod.path()).unwrap();
    assert_eq!(remains, [Remains { id: bundle.id.clone(), ended: None }]);
    pod.monitor.wait().unwrap();
    assert_eq!(pod.leftovers(), Vec::<String>::new());
    // The hook is the caller's own program, and is not what is buried.
    fs::write(go, "").unwrap();
    wait_until("nothing is left", || bundle.leftovers().is_empty());
}

#[test]
fn a_call_of_kitc_that_is_killed_leaves_nothing_that_is_in_the_way() {
    let mut bundle = bundle!();
    let mut pod = Pod::new(&json!({}));
    let go = begin_create(&mut bundle, &mut pod);
    let process = fs::read(pod.path().join("jobs/1.process")).unwrap();
    let process: serde_json::Value = serde_json::from_slice(&process).unwrap();
    let kitc = Pid::from_raw(process["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(kitc, Signal::KILL).unwrap();
    let Some((Message::Answer { id: 99, outcome }, _)) = pod.client.receive(DEADLINE).unwrap() else {
        panic!("no answer");
    };
    let message = "kitc ended with Signal(9)".to_owned();
    assert_eq!(outcome, Outcome::Refused { reason: Reason::Runtime, message });
    let left = pod.path().join("runtime").join(&bundle.id);
    wait_until("what it left is deleted", || !left.exists());
    fs::write(go, "").unwrap();
    wait_until("nothing is left", || bundle.leftovers().is_empty());
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
}
