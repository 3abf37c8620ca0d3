//! From create to delete, and what is known on the way.

use crate::support::{Pod, bundle, wait_until};
use kit_runtime::monitor::Client;
use kit_runtime::monitor::protocol::{Ended, Event, Exit, Outcome, Reason, Request, Status};
use serde_json::json;
use std::fs;
use std::path::Path;

#[test]
fn a_container_is_made_runs_ends_and_is_deleted() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("echo hello; exit 7");
    let pid = pod.create(&bundle, |_| {});
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(pod.status(&bundle), Status::Created);
    pod.start(&bundle);
    let ended = pod.exit(&bundle);
    assert_eq!((ended.exit, ended.oom), (Exit::Code(7), false));
    assert!(ended.started.unwrap() <= ended.finished);
    let file = pod.path().join("containers").join(&bundle.id).join("exit.json");
    assert_eq!(serde_json::from_slice::<Ended>(&fs::read(file).unwrap()).unwrap(), ended);
    let state = pod.state();
    let container = &state.containers[&bundle.id];
    assert_eq!((container.status, container.pid), (Status::Exited, Some(pid)));
    assert_eq!((container.started, container.ended.as_ref()), (ended.started, Some(&ended)));
    assert_eq!(pod.log(), "stdout F hello\n");
    pod.delete(&bundle, false);
    assert!(pod.state().containers.is_empty());
    assert_eq!(fs::read_dir(pod.path().join("containers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(pod.path().join("jobs")).unwrap().count(), 0);
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn a_signal_ends_a_container_and_is_told_as_one() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    assert_eq!(pod.status(&bundle), Status::Running);
    let (reason, message) = pod.refused(&Request::Delete { id: bundle.id.clone(), force: false });
    assert_eq!((reason, message), (Reason::State, format!("container {}: it is running", bundle.id)));
    pod.signal(&bundle, libc::SIGKILL);
    assert_eq!(pod.exit(&bundle).exit, Exit::Signal(libc::SIGKILL));
    let signal = Request::Signal { id: bundle.id.clone(), exec: None, number: 9, all: false };
    assert_eq!(pod.refused(&signal).0, Reason::State);
}

#[test]
fn a_living_container_is_deleted_by_force() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    pod.delete(&bundle, true);
    assert_eq!(pod.exit(&bundle).exit, Exit::Signal(libc::SIGKILL));
    assert!(pod.state().containers.is_empty());
    assert_eq!(bundle.leftovers(), Vec::<String>::new());
}

#[test]
fn an_error_of_kitc_is_the_answer_and_nothing_is_left() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.set("/process/cwd", json!("not/absolute"));
    let Outcome::Refused { reason, message } = pod.try_create(&bundle, |_| {}) else { panic!("no error") };
    assert_eq!(reason, Reason::Runtime);
    assert!(message.starts_with(&format!("create container {}: ", bundle.id)), "{message}");
    assert!(message.contains("process.cwd"), "{message}");
    assert!(pod.state().containers.is_empty());
    assert_eq!(fs::read_dir(pod.path().join("containers")).unwrap().count(), 0);
    // The name is free.
    bundle.set("/process/cwd", json!("/"));
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
}

#[test]
fn what_ends_while_nobody_is_connected_is_known_to_the_next_client() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("while [ ! -e /tmp/go ]; do :; done; echo bye; exit 3");
    pod.run(&bundle);
    // The client goes in the middle of a request, without waiting for the answer.
    let other = Client::connect(pod.path()).unwrap();
    other.send(br#"{"id":1,"request":"state"}"#, &[]).unwrap();
    drop(std::mem::replace(&mut pod.client, other));
    fs::write(bundle.inside("tmp/go"), "").unwrap();
    let exit = pod.path().join("containers").join(&bundle.id).join("exit.json");
    wait_until("the end is written", || exit.exists());
    pod.client = Client::connect(pod.path()).unwrap();
    let state = pod.state();
    assert_eq!(state.containers[&bundle.id].ended.as_ref().unwrap().exit, Exit::Code(3));
    assert_eq!(pod.log(), "stdout F bye\n");
}

#[test]
fn two_containers_of_a_pod_live_and_end_by_themselves() {
    let (mut first, mut second) = (bundle!(), bundle!());
    let mut pod = Pod::plain();
    first.sh("exec sleep 1000");
    second.sh("exit 4");
    pod.run(&first);
    pod.run(&second);
    assert_eq!(pod.exit(&second).exit, Exit::Code(4));
    assert_eq!(pod.status(&first), Status::Running);
    pod.delete(&second, false);
    assert_eq!(pod.status(&first), Status::Running);
}

#[test]
fn a_container_that_wants_too_much_memory_is_told_as_killed_for_it() {
    let mut bundle = bundle!();
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !Path::new("/sys/fs/cgroup/memory").exists() && !controllers.contains("memory") {
        return println!("skipped: needs the memory controller");
    }
    let mut pod = Pod::plain();
    bundle.set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    bundle.set("/process/args", json!(["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]));
    pod.create(&bundle, |_| {});
    pod.start(&bundle);
    assert_eq!(pod.event(), Event::Oom { id: bundle.id.clone() });
    let ended = pod.exit(&bundle);
    assert_eq!((ended.exit, ended.oom), (Exit::Signal(libc::SIGKILL), true));
}

#[test]
fn containers_do_not_inherit_the_monitors_place_in_the_world() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("cat /proc/self/oom_score_adj; grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd");
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let zero = "0".repeat(16);
    let expected = format!("stdout F {}\nstdout F SigBlk:\t{zero}\nstdout F SigIgn:\t{zero}\n", own.trim());
    let log = pod.log();
    let fds = log.strip_prefix(&expected).unwrap_or_else(|| panic!("{log}"));
    // The last one is that of the directory that is listed.
    assert_eq!(fds, "stdout F 0\nstdout F 1\nstdout F 2\nstdout F 3\n");
}
