use super::*;
use std::io::{BufRead, BufReader, Write};
use std::thread::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#;

/// A server that says each of the lines, the first at once and each other after one it has heard, then hangs up when
/// its client does. It returns what it heard.
fn server(lines: Vec<String>) -> (UnixStream, JoinHandle<Vec<String>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut input = BufReader::new(theirs.try_clone().unwrap());
        let mut output = theirs;
        for (at, line) in lines.iter().enumerate() {
            let mut command = String::new();
            if at > 0 && input.read_line(&mut command).unwrap() > 0 {
                heard.push(command.trim_end().to_owned());
            }
            if writeln!(output, "{line}").is_err() {
                break;
            }
        }
        heard
    });
    (ours, thread)
}

fn greeted(rest: &[&str]) -> (Client, JoinHandle<Vec<String>>) {
    let mut lines = vec![GREETING.to_owned(), r#"{"return": {}, "id": 0}"#.into()];
    lines.extend(rest.iter().map(ToString::to_string));
    let (stream, thread) = server(lines);
    (Client::greet(stream, MINUTE).unwrap(), thread)
}

#[test]
fn events_and_other_answers_before_the_answer_are_skipped() {
    let answer = concat!(
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#,
        "\n",
        r#"{"return": {"no": "answer to this"}, "id": 0}"#,
        "\n",
        r#"{"return": {"status": "running"}, "id": 1}"#,
    );
    let (mut client, server) = greeted(&[answer]);
    assert_eq!(client.execute("query-status", MINUTE).unwrap(), json!({"status": "running"}));
    drop(client);
    let heard: Vec<Value> =
        server.join().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({"execute": "qmp_capabilities", "arguments": {}, "id": 0}),
        json!({"execute": "query-status", "arguments": {}, "id": 1}),
    ];
    assert_eq!(heard, expected);
}

#[test]
fn a_refusal_carries_the_monitors_words() {
    let (mut client, _server) =
        greeted(&[r#"{"id": 1, "error": {"class": "GenericError", "desc": "no disk"}}"#]);
    let error = client.execute("eject", MINUTE).unwrap_err();
    assert_eq!(error.to_string(), "the monitor refused `eject`: no disk (GenericError)");
}

#[test]
fn silence_ends_at_the_deadline() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let error = Client::greet(ours, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.to_string(), "the monitor did not answer `qmp_capabilities` within 20ms");
}

#[test]
fn a_monitor_that_hangs_up_is_said_to_have_done_so() {
    let (mut client, server) = greeted(&[]);
    server.join().unwrap();
    let error = client.execute("stop", SECOND).unwrap_err();
    assert_eq!(error.to_string(), "the monitor hung up before it answered `stop`");
}

#[test]
fn the_reason_of_a_shutdown_is_kept_until_asked_for() {
    let event = r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#;
    let answer = format!("{event}\n{{\"return\": {{}}, \"id\": 1}}");
    let (mut client, server) = greeted(&[&answer]);
    client.execute("stop", MINUTE).unwrap();
    server.join().unwrap();
    assert_eq!(client.shutdown_reason().as_deref(), Some("guest-shutdown"));
    assert_eq!(client.shutdown_reason(), None);
}

#[test]
fn a_line_without_end_is_not_taken() {
    let (stream, _server) = server(vec!["x".repeat(LINE_MAX + 5000)]);
    let error = Client::greet(stream, MINUTE).unwrap_err();
    assert!(matches!(error, QmpError::TooLong { .. }), "{error}");
}

#[test]
fn a_line_that_is_no_message_is_an_error() {
    let (stream, _server) = server(vec![r#"{"hello": 1}"#.into()]);
    let error = Client::greet(stream, MINUTE).unwrap_err();
    assert!(matches!(error, QmpError::Syntax { .. }), "{error}");
}
