//! Logs on the disk.

use crate::support::{Pod, bundle, log_of, wait_until};
use kit_runtime::monitor::protocol::{Exit, Outcome, Reason, Request};
use std::fs;

#[test]
fn both_streams_are_logged_with_long_and_unfinished_lines_in_pieces() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("echo out; echo err >&2; dd if=/dev/zero bs=20000 count=1 2>/dev/null; echo; echo -n end");
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
    let log = pod.log();
    let (err, out): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("stderr"));
    assert_eq!(err, ["stderr F err"]);
    let zeroes = |count| "\0".repeat(count);
    let pieces = [format!("stdout P {}", zeroes(16_384)), format!("stdout F {}", zeroes(20_000 - 16_384))];
    assert_eq!(out, ["stdout F out", &pieces[0], &pieces[1], "stdout P end"]);
}

#[test]
fn after_a_rotation_the_log_goes_on_under_its_name() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("echo one; while [ ! -e /tmp/go ]; do :; done; echo two");
    pod.run(&bundle);
    let (log, old) = (pod.log_path(), pod.path().join("1.log"));
    wait_until("the first line is there", || fs::read_to_string(&log).unwrap().contains("one"));
    fs::rename(&log, &old).unwrap();
    pod.ok(&Request::ReopenLog { id: bundle.id.clone() });
    fs::write(bundle.inside("tmp/go"), "").unwrap();
    pod.exit(&bundle);
    assert_eq!((log_of(&old), pod.log()), ("stdout F one\n".into(), "stdout F two\n".into()));
}

#[test]
fn much_output_is_logged_whole() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    pod.run(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
    let expected: String = (0..20_000).map(|i| format!("stdout F line {i}\n")).collect();
    assert!(pod.log() == expected, "lines are missing");
}

#[test]
fn a_container_without_a_log_runs_and_has_none_to_reopen() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("echo nobody hears this; exit 2");
    pod.create(&bundle, |create| create.log = None);
    assert_eq!(pod.refused(&Request::ReopenLog { id: bundle.id.clone() }).0, Reason::State);
    pod.start(&bundle);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(2));
    assert!(!pod.log_path().exists());
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_before_anything_is_made() {
    let bundle = bundle!();
    let mut pod = Pod::plain();
    let outcome = pod.try_create(&bundle, |create| create.log = Some("/no/such/dir/0.log".into()));
    let Outcome::Refused { reason, message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, Reason::Monitor);
    assert!(message.starts_with("open the log /no/such/dir/0.log: No such file"), "{message}");
    assert!(pod.state().containers.is_empty());
}
