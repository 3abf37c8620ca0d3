//! `/run/kit/init.sock`: what `kitctl` asks of PID 1. One JSON object a line, both ways; for root only.
//!
//! Requests are bounded, clients are few, and none is waited for: while one does not read its answers, no further request
//! of it is read, and no more of a log.

use crate::log::Reader;
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
    /// The request that is being read.
    line: Vec<u8>,
    /// Answers that were not taken yet.
    out: Vec<u8>,
    log: Option<Tail>,
}

/// A log that is being answered.
struct Tail {
    name: String,
    reader: Reader,
    /// Whether its end is not the answer's.
    follow: bool,
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
        Some(Client { stream, line: Vec::new(), out: Vec::new(), log: None })
    }

    /// The stream, to wait for.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// True while there are answers that it did not take.
    pub fn is_behind(&self) -> bool {
        !self.out.is_empty()
    }

    /// True if it waits for more of a log.
    pub fn follows(&self, name: &str) -> bool {
        self.log.as_ref().is_some_and(|log| log.name == name)
    }

    /// Reads; the next request that is complete, once what it asked before is answered. None when it is to be let go.
    pub fn read(&mut self) -> Option<Option<Result<Request, String>>> {
        let mut byte = [0];
        while !self.is_behind() {
            match self.stream.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) if byte == *b"\n" => {
                    let line = std::mem::take(&mut self.line);
                    return Some(Some(serde_json::from_slice(&line).map_err(|error| error.to_string())));
                }
                Ok(_) if self.line.len() == MAX_REQUEST => return None,
                Ok(_) => self.line.extend(byte),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(None)
    }

    /// Answers.
    pub fn answer(&mut self, answer: &Answer) {
        // What is made of texts and numbers can be written.
        self.out.extend(serde_json::to_vec(answer).unwrap_or_default());
        self.out.push(b'\n');
    }

    /// Answers with a log: what is there, and with `follow` what comes.
    pub fn answer_log(&mut self, name: &str, reader: Reader, follow: bool) {
        self.log = Some(Tail { name: name.to_owned(), reader, follow });
    }

    /// Sends what it takes now. False when it is to be let go.
    pub fn send(&mut self) -> bool {
        loop {
            while !self.out.is_empty() {
                match self.stream.write(&self.out) {
                    Ok(len) => drop(self.out.drain(..len)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
            }
            self.out = Vec::new();
            let Some(log) = &mut self.log else { return true };
            match log.reader.piece() {
                Some(text) => self.answer(&Answer::Log { text }),
                None if log.follow => return true,
                None => {
                    self.log = None;
                    self.answer(&Answer::Done);
                }
            }
        }
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

    fn pair(dir: &Path) -> Option<(Client, UnixStream)> {
        let path = dir.join("s");
        let listener = listen(&path).unwrap();
        let there = UnixStream::connect(&path).unwrap();
        let here = Client::accept(&listener);
        if here.is_none() {
            println!("skipped: only root is let in");
        }
        Some((here?, there))
    }

    #[test]
    fn a_client_sends_requests_in_pieces_and_gets_answers() {
        let dir = tempfile::tempdir().unwrap();
        let Some((mut here, mut there)) = pair(dir.path()) else { return };
        there.write_all(b"{\"do\":\"li").unwrap();
        assert_eq!(here.read(), Some(None));
        there.write_all(b"st\"}\nnonsense\n").unwrap();
        assert_eq!(here.read(), Some(Some(Ok(Request::List))));
        assert!(matches!(here.read(), Some(Some(Err(_)))));
        here.answer(&Answer::Done);
        assert!(here.send());
        let mut answer = [0; 14];
        there.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"{\"is\":\"done\"}\n");
        there.write_all(&vec![b'x'; MAX_REQUEST + 10]).unwrap();
        assert_eq!(here.read(), None);
    }

    #[test]
    fn a_client_that_does_not_read_is_neither_waited_for_nor_heard() {
        let dir = tempfile::tempdir().unwrap();
        let Some((mut here, mut there)) = pair(dir.path()) else { return };
        let line = "x".repeat(99) + "\n";
        fs::write(dir.path().join("web.log"), line.repeat(10_000)).unwrap();
        here.answer_log("web", Reader::new(dir.path(), "web"), true);
        assert!(here.send() && here.is_behind());
        assert!(here.out.len() < 16 << 10, "{} bytes are kept for it", here.out.len());
        there.write_all(b"{\"do\":\"list\"}\n").unwrap();
        assert_eq!(here.read(), Some(None));
        // Once it reads, it gets everything.
        let reading = std::thread::spawn(move || {
            let mut len = 0;
            for line in io::BufRead::lines(io::BufReader::new(there)) {
                let Answer::Log { text } = serde_json::from_str(&line.unwrap()).unwrap() else { panic!() };
                len += text.len();
                if len == 1_000_000 {
                    break;
                }
            }
            len
        });
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !reading.is_finished() && std::time::Instant::now() < end {
            assert!(here.send());
            std::thread::yield_now();
        }
        assert_eq!(reading.join().unwrap(), 1_000_000);
        assert!(here.follows("web"));
        assert_eq!(here.read(), Some(Some(Ok(Request::List))));
        assert_eq!(here.read(), None);
    }
}
