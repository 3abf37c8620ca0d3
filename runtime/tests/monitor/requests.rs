//! Requests that are none, and clients that do not behave.

use crate::support::{DEADLINE, Pod, bundle};
use kit_runtime::monitor::Client;
use kit_runtime::monitor::protocol::{Create, Message, Outcome, PACKET_BYTES, Reason, Request};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

fn answer(client: &mut Client) -> (u64, Outcome) {
    match client.receive(DEADLINE).unwrap().expect("an answer") {
        (Message::Answer { id, outcome }, _) => (id, outcome),
        message => panic!("{message:?}"),
    }
}

#[track_caller]
fn assert_bad(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Refused { reason: Reason::BadRequest, .. }), "{outcome:?}");
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    let _root = bundle!();
    let mut pod = Pod::plain();
    let long = vec![b' '; PACKET_BYTES + 1];
    let deep = "[".repeat(100_000).into_bytes();
    for packet in [
        &b"x"[..],
        b"\xff\xfe\x00",
        b"{}",
        br#"{"id":5,"request":"nothing"}"#,
        br#"{"id":5,"request":"state","extra":1}"#,
        br#"{"id":5,"request":{"start":{"id":"a","extra":1}}}"#,
        br#"{"id":5,"request":{"start":{"id":["a"]}}}"#,
        &long,
        &deep,
    ] {
        pod.client.send(packet, &[]).unwrap();
        let (id, outcome) = answer(&mut pod.client);
        assert_eq!(id, 0);
        assert_bad(&outcome);
    }
    pod.state();
}

#[test]
fn descriptors_that_do_not_fit_are_refused() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let null = File::open("/dev/null").unwrap();
    let datagram =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let attach = Request::Attach { id: bundle.id.clone() };
    let process = serde_json::json!({"args": ["/bin/true"]});
    let exec = Request::Exec { id: bundle.id.clone(), exec: "e".into(), process };
    for (request, fds) in [
        (&Request::State, &[null.as_fd()][..]),
        (&attach, &[]),
        (&attach, &[null.as_fd()]),
        (&attach, &[datagram.as_fd()]),
        (&attach, &[null.as_fd(); 2]),
        (&exec, &[]),
        (&exec, &[null.as_fd(); 2]),
    ] {
        assert_bad(&pod.ask(request, fds).0);
    }
    // A stream that is not connected is dropped, and no more.
    let lonely =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .unwrap();
    assert_eq!(pod.ask(&attach, &[lonely.as_fd()]).0, Outcome::Done);
    // No descriptor of all these stays.
    let open = format!("/proc/{}/fd", pod.monitor.id());
    pod.delete(&bundle, true);
    let count = || std::fs::read_dir(&open).unwrap().count();
    let before = count();
    for _ in 0..20 {
        assert_bad(&pod.ask(&Request::State, &[null.as_fd(); 3]).0);
    }
    assert_eq!(count(), before);
}

#[test]
fn frames_of_no_stream_end_the_attachment_only() {
    use std::io::{Read, Write};
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.create(&bundle, |create| create.stdin = true);
    pod.start(&bundle);
    let mut stream = pod.attach(&bundle);
    stream.write_all(&[9, 0, 0, 0, 1, 0]).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    assert_eq!(pod.status(&bundle), kit_runtime::monitor::protocol::Status::Running);
}

#[test]
fn names_and_paths_are_checked() {
    let bundle = bundle!();
    let mut pod = Pod::plain();
    for id in ["", "..", "a/b", "../../etc", &"x".repeat(300)] {
        let create = Create { id: id.to_owned(), bundle: bundle.path().to_owned(), ..Create::default() };
        assert_bad(&pod.ask(&Request::Create(create), &[]).0);
    }
    let create = Create { id: "a".into(), bundle: "relative".into(), ..Create::default() };
    assert_bad(&pod.ask(&Request::Create(create), &[]).0);
    assert_eq!(pod.refused(&Request::Start { id: "nobody".into() }).0, Reason::NotFound);
    pod.create(&bundle, |_| {});
    let outcome = pod.try_create(&bundle, |_| {});
    assert!(matches!(outcome, Outcome::Refused { reason: Reason::Exists, .. }), "{outcome:?}");
    let resize = Request::Resize { id: bundle.id.clone(), rows: 1, columns: 1 };
    assert_eq!(pod.refused(&resize).0, Reason::State);
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_and_nobody_waits_for_it() {
    let bundle = bundle!();
    let mut pod = Pod::plain();
    let mut silent = Client::connect(pod.path()).unwrap();
    silent.request(&Request::Subscribe, &[]).unwrap();
    // Asks and asks, and never reads an answer.
    while silent.send(br#"{"id":1,"request":"state"}"#, &[]).is_ok() {}
    pod.run(&bundle);
    pod.exit(&bundle);
}

#[test]
fn only_the_owner_can_connect() {
    let _root = bundle!();
    let pod = Pod::plain();
    let mode = std::fs::metadata(pod.path().join("monitor.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn one_client_too_many_is_turned_away_and_the_others_go_on() {
    let _root = bundle!();
    let mut pod = Pod::plain();
    let mut others: Vec<Client> = (0..70).map(|_| Client::connect(pod.path()).unwrap()).collect();
    let mut served = 0;
    for client in &mut others {
        served += usize::from(client.request(&Request::State, &[]).is_ok());
    }
    assert_eq!(served, 63);
    drop(others);
    pod.state();
}
