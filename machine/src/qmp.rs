//! A client of QEMU's machine protocol: one JSON object a line, over a unix socket.
//!
//! The server greets; the client sends `qmp_capabilities`, then commands. Each is answered by `return` or `error` with
//! the command's id; in between come events, of which the last reason to shut down is remembered and the rest
//! skipped. Lines are bounded, and nothing waits without a deadline. (Protocol: QEMU's docs/interop/qmp-spec.)

use crate::deadline::{Deadline, poll};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest line taken; replies to what is asked here are a few KiB.
const LINE_MAX: usize = 1 << 20;

/// A conversation with a monitor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
    next_id: u64,
    shutdown: Option<String>,
}

/// Why a monitor did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed.
    #[error("talk to the monitor about `{command}`")]
    Io {
        /// What was being asked.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor hung up.
    #[error("the monitor hung up before it answered `{command}`")]
    Closed {
        /// What was being asked.
        command: String,
    },
    /// No answer in time.
    #[error("the monitor did not answer `{command}` within {within:?}")]
    Deadline {
        /// What was being asked.
        command: String,
        /// The time it was given.
        within: Duration,
    },
    /// A line of no sense.
    #[error("the monitor answered `{command}` with a line that is not its protocol's")]
    Syntax {
        /// What was being asked.
        command: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line too long to be an answer.
    #[error("the monitor answered `{command}` with a line of more than {LINE_MAX} bytes")]
    TooLong {
        /// What was being asked.
        command: String,
    },
    /// The monitor refused.
    #[error("the monitor refused `{command}`: {description} ({class})")]
    Refused {
        /// What was asked.
        command: String,
        /// The kind of error.
        class: String,
        /// The monitor's words.
        description: String,
    },
}

/// One line from the server.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Message {
    Greeting {
        #[serde(rename = "QMP")]
        _server: Value,
    },
    Return {
        #[serde(rename = "return")]
        value: Value,
        id: Option<u64>,
    },
    Error {
        error: Refusal,
        id: Option<u64>,
    },
    Event {
        event: String,
        #[serde(default)]
        data: Value,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

impl Client {
    /// Waits for the greeting and leaves the negotiation: from then on commands are taken.
    ///
    /// # Errors
    /// When the server is not heard within that time, hangs up, or is no QMP server.
    pub fn greet(stream: UnixStream, within: Duration) -> Result<Client, QmpError> {
        let mut client = Client { stream, unread: Vec::new(), next_id: 0, shutdown: None };
        let exchange = Exchange { command: "qmp_capabilities", within, deadline: Deadline::after(within) };
        while !matches!(client.message(&exchange)?, Message::Greeting { .. }) {}
        client.ask(&exchange, json!({}))?;
        Ok(client)
    }

    /// Has a command executed and returns its result.
    ///
    /// # Errors
    /// When the monitor refuses, hangs up, or has not answered within that time.
    pub fn execute(&mut self, command: &str, within: Duration) -> Result<Value, QmpError> {
        self.execute_with(command, json!({}), within)
    }

    /// [`Client::execute`] with arguments, a JSON object.
    ///
    /// # Errors
    /// As [`Client::execute`].
    pub fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        within: Duration,
    ) -> Result<Value, QmpError> {
        self.ask(&Exchange { command, within, deadline: Deadline::after(within) }, arguments)
    }

    /// Why the machine shut down, if the monitor has said so by now; call it when the monitor is gone.
    pub(crate) fn shutdown_reason(&mut self) -> Option<String> {
        let within = Duration::ZERO;
        let exchange = Exchange { command: "SHUTDOWN", within, deadline: Deadline::after(within) };
        while self.message(&exchange).is_ok() {}
        self.shutdown.take()
    }

    fn ask(&mut self, exchange: &Exchange<'_>, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({ "execute": exchange.command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        self.send(exchange, line.as_bytes())?;
        loop {
            match self.message(exchange)? {
                Message::Return { value, id: Some(answered) } if answered == id => return Ok(value),
                // An error without an id is about a line the server could not read, which can only be ours.
                Message::Error { error, id: answered } if answered.is_none_or(|answered| answered == id) => {
                    return Err(QmpError::Refused {
                        command: exchange.command.into(),
                        class: error.class,
                        description: error.desc,
                    });
                }
                _ => {}
            }
        }
    }

    fn send(&self, exchange: &Exchange<'_>, mut bytes: &[u8]) -> Result<(), QmpError> {
        while !bytes.is_empty() {
            exchange.ready(&self.stream, PollFlags::OUT)?;
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.stream, bytes, flags) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(errno) if retry(errno) => {}
                Err(rustix::io::Errno::PIPE) => return Err(exchange.closed()),
                Err(errno) => return Err(exchange.io(errno.into())),
            }
        }
        Ok(())
    }

    /// The next message; a shutdown's reason is noted in passing.
    fn message(&mut self, exchange: &Exchange<'_>) -> Result<Message, QmpError> {
        let line = self.line(exchange)?;
        let message = serde_json::from_slice(&line)
            .map_err(|source| QmpError::Syntax { command: exchange.command.into(), source })?;
        if let Message::Event { event, data } = &message
            && event == "SHUTDOWN"
        {
            self.shutdown = data.get("reason").and_then(Value::as_str).map(String::from);
        }
        Ok(message)
    }

    fn line(&mut self, exchange: &Exchange<'_>) -> Result<Vec<u8>, QmpError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            searched = self.unread.len();
            if searched > LINE_MAX {
                return Err(QmpError::TooLong { command: exchange.command.into() });
            }
            exchange.ready(&self.stream, PollFlags::IN)?;
            let mut buffer = [0; 4096];
            match rustix::net::recv(&self.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Err(exchange.closed()),
                Ok((count, _)) => self.unread.extend_from_slice(&buffer[..count]),
                Err(errno) if retry(errno) => {}
                Err(errno) => return Err(exchange.io(errno.into())),
            }
        }
    }
}

/// One command on its way: what errors speak of, and the time it has.
struct Exchange<'a> {
    command: &'a str,
    within: Duration,
    deadline: Deadline,
}

impl Exchange<'_> {
    fn ready(&self, stream: &UnixStream, flags: PollFlags) -> Result<(), QmpError> {
        match poll(&mut [PollFd::new(stream, flags)], self.deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(QmpError::Deadline { command: self.command.into(), within: self.within }),
            Err(source) => Err(self.io(source)),
        }
    }

    fn io(&self, source: io::Error) -> QmpError {
        QmpError::Io { command: self.command.into(), source }
    }

    fn closed(&self) -> QmpError {
        QmpError::Closed { command: self.command.into() }
    }
}

fn retry(errno: rustix::io::Errno) -> bool {
    errno == rustix::io::Errno::AGAIN || errno == rustix::io::Errno::INTR
}

#[cfg(test)]
mod tests;
