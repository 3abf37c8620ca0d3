//! Terminals, attached clients, processes that are run in a container.

use crate::support::{Bundle, Pod, bundle, wait_until};
use kit_runtime::monitor::protocol::{Event, Exit, Outcome, Reason, Request};
use kit_runtime::monitor::stream::{HEAD_BYTES, Kind, head};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Reads frames until the text of a stream has what is wanted, or to the end.
fn read_until(stream: &mut UnixStream, kind: Kind, wanted: &str) -> String {
    let mut text = String::new();
    while let Some((number, bytes)) = read_frame(stream) {
        if number == kind.number() {
            let begin = text.len().saturating_sub(wanted.len());
            text.push_str(&String::from_utf8_lossy(&bytes));
            if text[begin..].contains(wanted) {
                return text;
            }
        }
    }
    panic!("{:?} has no {wanted:?}", &text[text.len().saturating_sub(200)..]);
}

fn read_frame(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; HEAD_BYTES];
    if stream.read(&mut start[..1]).unwrap() == 0 {
        return None;
    }
    stream.read_exact(&mut start[1..]).unwrap();
    let mut bytes = vec![0; u32::from_be_bytes(start[1..].try_into().unwrap()) as usize];
    stream.read_exact(&mut bytes).unwrap();
    Some((start[0], bytes))
}

fn write_frame(stream: &mut UnixStream, bytes: &[u8]) {
    stream.write_all(&head(Kind::Stdin, bytes.len() as u32)).unwrap();
    stream.write_all(bytes).unwrap();
}

fn exec(bundle: &Bundle, exec: &str, script: &str, terminal: bool) -> Request {
    let process: Value = json!({
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
    });
    Request::Exec { id: bundle.id.clone(), exec: exec.to_owned(), process }
}

#[test]
fn a_terminal_is_attached_to_and_resized() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.set("/process/terminal", json!(true));
    bundle.sh("echo ready; read word; stty size; echo got $word >&2; exit 6");
    pod.create(&bundle, |create| (create.tty, create.stdin) = (true, true));
    let mut stream = pod.attach(&bundle);
    pod.start(&bundle);
    read_until(&mut stream, Kind::Stdout, "ready");
    pod.ok(&Request::Resize { id: bundle.id.clone(), rows: 33, columns: 77 });
    write_frame(&mut stream, b"word\n");
    let text = read_until(&mut stream, Kind::Stdout, "got word\r\n");
    assert!(text.contains("33 77"), "{text:?}");
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(6));
    assert_eq!(read_frame(&mut stream), None);
    assert!(pod.log().lines().any(|line| line == "stdout F got word"), "{:?}", pod.log());
}

#[test]
fn two_clients_see_the_same_and_one_that_stalls_is_dropped() {
    let mut bundle = bundle!();
    let mut pod =
        Pod::with_options(&json!({"net": "host", "ipc": "host", "uts": "host"}), &["--stall-ms", "2000"]);
    bundle.sh("i=0; while [ $i -lt 60000 ]; do echo some line of output $i; i=$((i+1)); done; echo the end");
    pod.create(&bundle, |_| {});
    let (mut reads, mut stalls) = (pod.attach(&bundle), pod.attach(&bundle));
    pod.start(&bundle);
    let text = read_until(&mut reads, Kind::Stdout, "the end\n");
    assert_eq!(text.lines().count(), 60_001);
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
    assert_eq!(read_frame(&mut reads), None);
    assert_eq!(pod.log().lines().count(), 60_001);
    // What it was sent before it was dropped is there, and then the end of the socket.
    let mut bytes = Vec::new();
    stalls.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() < text.len(), "{} bytes", bytes.len());
}

#[test]
fn a_client_that_goes_in_the_middle_of_the_stream_takes_nothing_along() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("echo first; read a; echo $a; read b; echo $b");
    pod.create(&bundle, |create| create.stdin = true);
    let mut stream = pod.attach(&bundle);
    pod.start(&bundle);
    read_until(&mut stream, Kind::Stdout, "first\n");
    // Only a part of a frame: the rest is never sent.
    stream.write_all(&head(Kind::Stdin, 100)).unwrap();
    stream.write_all(b"one\n").unwrap();
    wait_until("the first line has come", || pod.log().contains("one"));
    drop(stream);
    let mut stream = pod.attach(&bundle);
    write_frame(&mut stream, b"two\n");
    read_until(&mut stream, Kind::Stdout, "two\n");
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
    assert_eq!(pod.log(), "stdout F first\nstdout F one\nstdout F two\n");
}

#[test]
fn with_stdin_once_the_input_ends_with_that_of_the_first_client() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("cat; echo over");
    pod.create(&bundle, |create| (create.stdin, create.stdin_once) = (true, true));
    pod.start(&bundle);
    let mut stream = pod.attach(&bundle);
    write_frame(&mut stream, b"text\n");
    write_frame(&mut stream, b"");
    let text = read_until(&mut stream, Kind::Stdout, "over\n");
    assert_eq!(text, "text\nover\n");
    assert_eq!(pod.exit(&bundle).exit, Exit::Code(0));
}

#[test]
fn without_stdin_once_the_input_stays_open_for_the_next_client() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("while read line; do echo got $line; done");
    pod.create(&bundle, |create| create.stdin = true);
    pod.start(&bundle);
    for word in ["one", "two"] {
        let mut stream = pod.attach(&bundle);
        write_frame(&mut stream, format!("{word}\n").as_bytes());
        write_frame(&mut stream, b"");
        read_until(&mut stream, Kind::Stdout, &format!("got {word}\n"));
    }
}

#[test]
fn more_input_than_a_pipe_holds_arrives_whole() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("while [ ! -e /tmp/go ]; do :; done; wc -c");
    pod.create(&bundle, |create| (create.stdin, create.stdin_once) = (true, true));
    pod.start(&bundle);
    let mut stream = pod.attach(&bundle);
    let mut writer = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..100 {
            write_frame(&mut writer, &[b'x'; 10_000]);
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    // The monitor is not held up by an input that nobody reads.
    pod.state();
    std::fs::write(bundle.inside("tmp/go"), "").unwrap();
    read_until(&mut stream, Kind::Stdout, "1000000\n");
    writer.join().unwrap();
}

#[test]
fn a_process_is_run_with_the_descriptors_that_come_along() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (input, output, error) = (pipe(), pipe(), pipe());
    let request = exec(&bundle, "e1", "read line; echo got $line; echo bad >&2; exit 9", false);
    let fds = [input.0.as_fd(), output.1.as_fd(), error.1.as_fd()];
    let (outcome, _) = pod.ask(&request, &fds);
    let Outcome::Made { pid } = outcome else { panic!("{outcome:?}") };
    assert_eq!(pod.state().containers[&bundle.id].execs["e1"], pid);
    drop((input.0, output.1, error.1));
    File::from(input.1).write_all(b"word\n").unwrap();
    let read = |fd: OwnedFd| {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!((read(output.0), read(error.0)), ("got word\n".into(), "bad\n".into()));
    let exited = Event::ExecExited { id: bundle.id.clone(), exec: "e1".into(), exit: Exit::Code(9) };
    assert_eq!(pod.event(), exited);
    let state = pod.state();
    assert_eq!(state.containers[&bundle.id].ended_execs, [("e1".to_owned(), Exit::Code(9))]);
    assert_eq!(pod.log(), "");
}

#[test]
fn a_process_that_is_run_can_be_killed_by_its_name() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let fds = [null.as_fd(); 3];
    let (outcome, _) = pod.ask(&exec(&bundle, "e", "exec sleep 1000", false), &fds);
    assert!(matches!(outcome, Outcome::Made { .. }), "{outcome:?}");
    let signal = |exec: &str| Request::Signal {
        id: bundle.id.clone(),
        exec: Some(exec.to_owned()),
        number: libc::SIGKILL,
        all: false,
    };
    assert_eq!(pod.refused(&signal("other")).0, Reason::NotFound);
    pod.ok(&signal("e"));
    let exit = Exit::Signal(libc::SIGKILL);
    assert_eq!(pod.event(), Event::ExecExited { id: bundle.id.clone(), exec: "e".into(), exit });
}

#[test]
fn the_terminal_of_a_process_that_is_run_goes_to_its_client() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let (outcome, mut fds) = pod.ask(&exec(&bundle, "t", "tty; read line; exit 8", true), &[]);
    assert!(matches!(outcome, Outcome::Made { .. }), "{outcome:?}");
    let mut terminal = File::from(fds.pop().unwrap());
    let mut text = String::new();
    while !text.contains('\n') {
        let mut bytes = [0; 64];
        let count = terminal.read(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert_eq!(text, "/dev/pts/0\r\n");
    // The client goes: the process is hung up.
    drop(terminal);
    let exit = Exit::Signal(libc::SIGHUP);
    assert_eq!(pod.event(), Event::ExecExited { id: bundle.id.clone(), exec: "t".into(), exit });
}

#[test]
fn a_program_that_is_not_there_is_an_error_of_the_request() {
    let mut bundle = bundle!();
    let mut pod = Pod::plain();
    bundle.sh("exec sleep 1000");
    pod.run(&bundle);
    let process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/no/such"], "cwd": "/"});
    let request = Request::Exec { id: bundle.id.clone(), exec: "e".into(), process };
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let (outcome, _) = pod.ask(&request, &[null.as_fd(); 3]);
    let Outcome::Refused { reason, message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, Reason::Runtime);
    assert!(message.contains("/no/such"), "{message}");
    assert!(pod.state().containers[&bundle.id].execs.is_empty());
    assert_eq!(pod.client.event(std::time::Duration::ZERO).unwrap(), None);
}
