//! What clients and the monitor say to each other: one JSON object a packet.
//!
//! ```text
//! {"id":7,"request":{"start":{"id":"web"}}}                                      client -> monitor
//! {"answer":{"id":7,"outcome":"done"}}                                           monitor -> client
//! {"answer":{"id":8,"outcome":{"refused":{"reason":"no-such-container","message":".."}}}}
//! {"event":{"exited":{"id":"web","ended":{"exit":{"code":0},"oom":false, ..}}}}  to subscribers
//! ```
//!
//! Unknown fields and words are refused. Descriptors come along with the packet that speaks of them. A
//! packet that cannot be read is answered with the id 0.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// The longest packet, in bytes. A longer one is refused.
pub const PACKET_BYTES: usize = 128 * 1024;
/// The most descriptors that come along with a packet.
pub const PACKET_DESCRIPTORS: usize = 3;

/// A request with the number that its answer carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered {
    /// Chosen by the client.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a client can ask for. Container names are those of [`crate::state`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything that the monitor knows: [`Outcome::State`].
    State,
    /// Make a container that waits for start.
    Create(Create),
    /// Let a created container run.
    Start {
        /// The container.
        id: String,
    },
    /// Run a process in a container. With `process.terminal` no descriptor comes along, and the answer
    /// brings the terminal's master; else three do: its standard input, output and error.
    Exec {
        /// The container.
        id: String,
        /// The process's name, unique in the container among those that are remembered.
        exec: String,
        /// `process` of the OCI runtime specification.
        process: Value,
    },
    /// Set the size of a container's terminal.
    Resize {
        /// The container.
        id: String,
        /// Lines.
        rows: u16,
        /// Characters a line.
        columns: u16,
    },
    /// Send a signal.
    Signal {
        /// The container.
        id: String,
        /// To this process in it rather than to its first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<String>,
        /// The signal's number.
        number: i32,
        /// To all its processes.
        #[serde(default)]
        all: bool,
    },
    /// Connect the stream socket that comes along to a container, see [`super::stream`].
    Attach {
        /// The container.
        id: String,
    },
    /// Open the container's log by its path again, after somebody has renamed it.
    ReopenLog {
        /// The container.
        id: String,
    },
    /// Take away a container that has ended or never started; with `force` any.
    Delete {
        /// The container.
        id: String,
        /// Kill it if it lives.
        #[serde(default)]
        force: bool,
    },
    /// End the pod: the monitor answers, takes away its namespaces and ends.
    Stop {
        /// Delete all its containers first; else there must be none.
        #[serde(default)]
        force: bool,
    },
    /// Get all events from now on.
    Subscribe,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name.
    pub id: String,
    /// The absolute path of its bundle.
    pub bundle: PathBuf,
    /// The absolute path of its log; its directory is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Its configuration has `process.terminal`.
    #[serde(default)]
    pub tty: bool,
    /// It has a standard input that attached clients write to.
    #[serde(default)]
    pub stdin: bool,
    /// Its standard input is closed when that of the first attached client is, or the client goes.
    #[serde(default)]
    pub stdin_once: bool,
}

/// What comes from the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// To a request.
    Answer {
        /// The request's number; 0 for one that could not be read.
        id: u64,
        /// How it went.
        outcome: Outcome,
    },
    /// To subscribers.
    Event(Event),
}

/// How a request went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As asked.
    Done,
    /// A process was made.
    Made {
        /// Its process id, as the monitor sees it.
        pid: i32,
    },
    /// To [`Request::State`].
    State(State),
    /// Not as asked.
    Refused {
        /// For programs.
        reason: Reason,
        /// For people.
        message: String,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is no request, or not one with these descriptors.
    BadRequest,
    /// There is no such container or process.
    NotFound,
    /// The name is taken.
    Exists,
    /// Not in the state that the container is in.
    State,
    /// `kitc` says no; the message is its error.
    Runtime,
    /// The monitor itself could not do it.
    Monitor,
}

/// Everything that the monitor knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The monitor's process id.
    pub monitor: i32,
    /// The process id of the first process of the shared pid namespace, if there is one.
    pub pause: Option<i32>,
    /// The paths of the pod's namespaces by kind, as `linux.namespaces` wants them.
    pub namespaces: BTreeMap<String, PathBuf>,
    /// The containers by name.
    pub containers: BTreeMap<String, Container>,
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// How far it has come.
    pub status: Status,
    /// The process id of its first process, once it has one.
    pub pid: Option<i32>,
    /// When it was made.
    pub created: SystemTime,
    /// When its program started.
    pub started: Option<SystemTime>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// The processes that were made in it and live.
    pub execs: BTreeMap<String, i32>,
    /// The last ones that ended, oldest first.
    pub ended_execs: Vec<(String, Exit)>,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// `kitc create` runs.
    Creating,
    /// It waits for start.
    Created,
    /// Its program runs.
    Running,
    /// Its first process has ended.
    Exited,
}

/// How a container ended; this is what `exit.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How its first process ended.
    pub exit: Exit,
    /// The kernel killed a process of it for want of memory.
    pub oom: bool,
    /// When its program started, if it did.
    pub started: Option<SystemTime>,
    /// When its first process ended.
    pub finished: SystemTime,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// What happens without being asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A container's first process has ended; `exit.json` is written.
    Exited {
        /// The container.
        id: String,
        /// How.
        ended: Ended,
    },
    /// The kernel has killed a process of a container for want of memory.
    Oom {
        /// The container.
        id: String,
    },
    /// A process that was run in a container has ended.
    ExecExited {
        /// The container.
        id: String,
        /// The process.
        exec: String,
        /// How.
        exit: Exit,
    },
}

impl Numbered {
    /// Reads a packet.
    pub fn parse(packet: &[u8]) -> Result<Numbered, serde_json::Error> {
        serde_json::from_slice(packet)
    }
}

impl Message {
    /// The packet of a message.
    pub fn packet(&self) -> Vec<u8> {
        // Strings, numbers and maps with string keys: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Outcome {
    /// A refusal.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Outcome {
        Outcome::Refused { reason, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Numbered, String> {
        Numbered::parse(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn requests_are_read_as_written() {
        let start = Numbered { id: 7, request: Request::Start { id: "web".into() } };
        assert_eq!(parse(r#"{"id":7,"request":{"start":{"id":"web"}}}"#), Ok(start));
        let state = Numbered { id: 0, request: Request::State };
        assert_eq!(parse(r#"{"id":0,"request":"state"}"#), Ok(state));
        let create = Create { id: "a".into(), bundle: "/b".into(), ..Create::default() };
        let text = r#"{"id":1,"request":{"create":{"id":"a","bundle":"/b"}}}"#;
        assert_eq!(parse(text), Ok(Numbered { id: 1, request: Request::Create(create) }));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for text in [
            "",
            "null",
            "[]",
            r#"{"id":1}"#,
            r#"{"id":-1,"request":"state"}"#,
            r#"{"id":1,"request":"states"}"#,
            r#"{"id":1,"request":"state","more":1}"#,
            r#"{"id":1,"request":{"start":{"id":"a","x":1}}}"#,
            r#"{"id":1,"request":{"create":{"id":"a","bundle":"/b","x":1}}}"#,
            r#"{"id":1,"request":{"start":{"id":"a"},"delete":{"id":"a"}}}"#,
            r#"{"id":1,"request":{"signal":{"id":"a","number":"KILL"}}}"#,
            r#"{"id":1,"request":{"resize":{"id":"a","rows":70000,"columns":1}}}"#,
            r#"{"id":1,"request":"state"} x"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let ended = Ended {
            exit: Exit::Signal(9),
            oom: true,
            started: Some(SystemTime::UNIX_EPOCH),
            finished: SystemTime::UNIX_EPOCH,
        };
        for message in [
            Message::Answer { id: u64::MAX, outcome: Outcome::Done },
            Message::Answer { id: 1, outcome: Outcome::refused(Reason::NotFound, "no \u{0} \"x\"") },
            Message::Answer { id: 2, outcome: Outcome::State(State::default()) },
            Message::Event(Event::Exited { id: "a".into(), ended }),
        ] {
            assert_eq!(serde_json::from_slice::<Message>(&message.packet()).unwrap(), message);
        }
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange_to_be_refused(bytes: Vec<u8>) {
            let _ = Numbered::parse(&bytes);
        }
    }
}
