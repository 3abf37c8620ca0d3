//! `/run/kit/init.sock`: what `kitctl` asks of PID 1. One JSON object a line, both ways; for root only.
//!
//! Requests are bounded, clients are few, and none is waited for: who does not read its answers is let go.

use rustix::net::sockopt::socket_peercred;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Where the socket is.
pub const PATH: &str = "/run/kit/init.sock";
/// The longest request, in bytes.
const MAX_REQUEST: usize = 4096;
/// The most clients at a time.
pub const MAX_CLIENTS: usize = 16;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Every service and where it is.
    List,
    /// One service.
    Status {
        /// Its name.
        name: String,
    },
    /// What a container printed.
    Logs {
        /// Its name.
        name: String,
        /// Whether to go on with what it will print.
        #[serde(default)]
        follow: bool,
    },
    /// End a service and start it.
    Restart {
        /// Its name.
        name: String,
    },
    /// End a service.
    Stop {
        /// Its name.
        name: String,
    },
    /// Start a service.
    Start {
        /// Its name.
        name: String,
    },
    /// End the node and turn the machine off.
    Poweroff,
    /// End the node and start the machine anew.
    Reboot,
}

/// What is answered: one object, or for [`Request::List`] and [`Request::Logs`] several and then `Done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Answer {
    /// A service.
    Service {
        /// Its name.
        name: String,
        /// Where it is: `waiting`, `starting`, `running`, `ready`, `backoff`, `stopping`, `done`, `failed`.
        status: String,
        /// The first process's pid; 0 if there is none.
        pid: i32,
        /// How often it was restarted.
        restarts: u32,
        /// Why it failed, or what else is to be said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Some of a log; bytes that are no text are replaced.
    Log {
        /// The text.
        text: String,
    },
    /// All was said, or done.
    Done,
    /// It cannot be done.
    Error {
        /// Why.
        why: String,
    },
}

/// Opens the socket, for root only.
///
/// # Errors
/// The kernel's.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Somebody who asks.
pub struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    /// The log that it follows.
    pub follows: Option<String>,
}

impl Client {
    /// The next one at the door, if it is root.
    pub fn accept(listener: &UnixListener) -> Option<Client> {
        let (stream, _) = listener.accept().ok()?;
        let peer = socket_peercred(&stream).ok()?;
        if !peer.uid.is_root() {
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        Some(Client { stream, line: Vec::new(), follows: None })
    }

    /// The stream, to wait for.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads; the requests that are complete. None when it is to be let go.
    pub fn read(&mut self) -> Option<Vec<Result<Request, String>>> {
        let mut buffer = [0; 1024];
        let mut requests = Vec::new();
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return if requests.is_empty() { None } else { Some(requests) },
                Ok(len) => {
                    for byte in &buffer[..len] {
                        match byte {
                            b'\n' => {
                                let request =
                                    serde_json::from_slice(&self.line).map_err(|error| error.to_string());
                                requests.push(request);
                                self.line.clear();
                            }
                            _ if self.line.len() == MAX_REQUEST => return None,
                            byte => self.line.push(*byte),
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(requests),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Answers; false when it is to be let go.
    pub fn answer(&mut self, answer: &Answer) -> bool {
        let Ok(mut line) = serde_json::to_vec(answer) else { return true };
        line.push(b'\n');
        self.stream.write_all(&line).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        let request: Request = serde_json::from_str(r#"{"do":"logs","name":"web","follow":true}"#).unwrap();
        assert_eq!(request, Request::Logs { name: "web".into(), follow: true });
        assert!(serde_json::from_str::<Request>(r#"{"do":"explode"}"#).is_err());
    }

    #[test]
    fn a_client_sends_requests_in_pieces_and_gets_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = listen(&path).unwrap();
        let mut there = UnixStream::connect(&path).unwrap();
        let Some(mut here) = Client::accept(&listener) else {
            println!("skipped: only root is let in");
            return;
        };
        there.write_all(b"{\"do\":\"li").unwrap();
        assert_eq!(here.read(), Some(vec![]));
        there.write_all(b"st\"}\nnonsense\n").unwrap();
        let requests = here.read().unwrap();
        assert_eq!(requests[0], Ok(Request::List));
        assert!(requests[1].is_err());
        assert!(here.answer(&Answer::Done));
        let mut answer = [0; 14];
        there.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"{\"is\":\"done\"}\n");
        there.write_all(&vec![b'x'; MAX_REQUEST + 10]).unwrap();
        assert_eq!(here.read(), None);
    }
}
