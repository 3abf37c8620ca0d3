//! Coming to and leaving a console while the guest stands still, so that nothing is printed meanwhile.
//!
//! QEMU writes each byte to the socket and to the log. While a connection comes or goes a byte may reach only one of
//! them, or be logged twice; a pause of a few milliseconds keeps the two the same. While somebody is connected, what
//! QEMU cannot send at once (it happens after some 280 bytes, since a socket's buffer counts each one's overhead) is
//! logged once more at each attempt; who leaves therefore writes down what was really received.

use crate::deadline::Deadline;
use crate::qmp::{Client, QmpError};
use std::time::Duration;

/// How long a monitor may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Does something while the guest does nothing. One that was paused before stays so.
pub(crate) fn paused<T>(client: &mut Client, act: impl FnOnce(&mut Client) -> T) -> Result<T, QmpError> {
    let runs = client.execute("query-status", ANSWER_WITHIN)?["running"] == true;
    if runs {
        client.execute("stop", ANSWER_WITHIN)?;
    }
    let done = act(client);
    if runs {
        client.execute("cont", ANSWER_WITHIN)?;
    }
    Ok(done)
}

/// Waits until the monitor sees somebody at the console, or nobody.
pub(crate) fn wait_console(client: &mut Client, connected: bool) -> Result<(), QmpError> {
    let deadline = Deadline::after(ANSWER_WITHIN);
    loop {
        // Each answer takes one turn of the monitor's main loop, in which it also looks at the console's socket.
        let devices = client.execute("query-chardev", ANSWER_WITHIN)?;
        let console = devices.as_array().into_iter().flatten().find(|device| device["label"] == "console");
        let address = console.and_then(|device| device["filename"].as_str()).unwrap_or_default();
        if address.starts_with("disconnected:") != connected {
            return Ok(());
        }
        if deadline.remaining().is_none() {
            return Err(QmpError::Deadline { command: "query-chardev".into(), within: ANSWER_WITHIN });
        }
    }
}
