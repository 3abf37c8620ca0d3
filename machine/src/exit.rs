//! How a machine came to its end.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest turned itself off.
    PowerOff,
    /// The guest rebooted, and [`OnReboot::End`](crate::qemu::OnReboot) was asked for.
    Reboot,
    /// The monitor was told to quit, through its socket or by a signal it heeds.
    Quit,
    /// The monitor was killed.
    Signal(i32),
    /// The monitor gave up.
    Failed {
        /// Its exit status.
        code: i32,
        /// The last it wrote to its standard error.
        words: String,
    },
    /// It ended, and nobody who could tell how was there: it was attached to, and is no child of this process.
    Unknown,
}

impl Exit {
    /// From what the parent sees (`None` if this process is not the parent), the reason in the monitor's own last
    /// message (QMP's event SHUTDOWN), and its standard error.
    pub(crate) fn of(status: Option<ExitStatus>, reason: Option<&str>, words: String) -> Exit {
        if let Some(signal) = status.and_then(|status| status.signal()) {
            return Exit::Signal(signal);
        }
        if let Some(code) = status.and_then(|status| status.code()).filter(|code| *code != 0) {
            return Exit::Failed { code, words };
        }
        match reason {
            Some("guest-shutdown") => Exit::PowerOff,
            Some("guest-reset") => Exit::Reboot,
            Some(_) => Exit::Quit,
            None => Exit::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::PowerOff => f.write_str("the guest powered off"),
            Exit::Reboot => f.write_str("the guest rebooted"),
            Exit::Quit => f.write_str("the monitor was told to quit"),
            Exit::Signal(signal) => write!(f, "the monitor was killed by signal {signal}"),
            Exit::Failed { code, words } if words.is_empty() => {
                write!(f, "the monitor gave up with status {code} and said nothing")
            }
            Exit::Failed { code, words } => write!(f, "the monitor gave up with status {code}: {words}"),
            Exit::Unknown => f.write_str("the machine ended, it is not known how"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_by_status_before_reason() {
        let status = ExitStatus::from_raw;
        let of = |status, reason| Exit::of(status, reason, "no such disk".into());
        assert_eq!(of(Some(status(0)), Some("guest-shutdown")), Exit::PowerOff);
        assert_eq!(of(Some(status(0)), Some("guest-reset")), Exit::Reboot);
        assert_eq!(of(Some(status(0)), Some("host-qmp-quit")), Exit::Quit);
        assert_eq!(of(Some(status(0)), Some("host-signal")), Exit::Quit);
        assert_eq!(of(Some(status(9)), Some("guest-shutdown")), Exit::Signal(9));
        assert_eq!(of(Some(status(1 << 8)), None), Exit::Failed { code: 1, words: "no such disk".into() });
        assert_eq!(of(None, Some("guest-shutdown")), Exit::PowerOff);
        assert_eq!(of(None, None), Exit::Unknown);
    }
}
