//! What is done with a service while it runs: when it is restarted, how it is known to be ready, how it is stopped.
//!
//! These go into the boot plan as they are, so they read back from JSON without a YAML parser.

use super::duration;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// `restart`: what happens when a service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// Whether it is started again.
    pub policy: Policy,
    /// The wait before the first restart; doubled with each restart in a row.
    #[serde(with = "duration")]
    pub backoff: Duration,
    /// The longest wait between two restarts.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// After how many restarts in a row it is given up; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// Which ends of a service lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// None.
    #[default]
    No,
    /// An exit code other than 0, or a signal.
    OnFailure,
    /// Every one.
    Always,
}

/// `ready`: how to tell that a service does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What is tried.
    #[serde(flatten)]
    pub probe: Probe,
    /// How long after its start the service may take before it counts as failed.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// The time between two tries.
    #[serde(with = "duration")]
    pub interval: Duration,
}

/// What tells that a service is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// This command, run in the container, exits with 0.
    Command(Vec<String>),
    /// A connection to this address is accepted, in the container's network.
    Tcp(TcpAddress),
    /// This path exists in the container's root.
    File(String),
}

/// `HOST:PORT`, or a port of `127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpAddress {
    host: String,
    port: u16,
}

/// `stop`: how a service is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// What is sent first.
    pub signal: Signal,
    /// How long it is waited for before SIGKILL.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Who is killed then.
    pub kill: Kill,
}

/// Whom SIGKILL reaches when a service does not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kill {
    /// The first process only (a daemon whose children outlive it).
    Process,
    /// All processes of the cgroup.
    #[default]
    Cgroup,
}

/// A signal by its number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// A text is neither the name nor the number of a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{text}`")]
pub struct SignalError {
    /// The text.
    pub text: String,
}

/// A text is not an address that a probe can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TcpAddressError {
    /// The port is not a number from 1 to 65535.
    #[error("the port `{port}` is not a number from 1 to 65535")]
    Port {
        /// What stands in its place.
        port: String,
    },
    /// The host is empty or holds a character that no name or address has.
    #[error("the host `{host}` is neither a name nor an address")]
    Host {
        /// What stands in its place.
        host: String,
    },
}

/// Linux's numbers on every architecture that kit builds for (signal(7)).
const SIGNALS: [(&str, i32); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

impl Restart {
    /// The wait before the first restart unless written.
    pub const BACKOFF: Duration = Duration::from_secs(1);
    /// The longest wait unless written.
    pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

    /// `policy` with the default waits and no limit.
    pub fn new(policy: Policy) -> Restart {
        Restart { policy, backoff: Self::BACKOFF, max_backoff: Self::MAX_BACKOFF, max_retries: None }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Restart::default()
    }
}

/// A service is not restarted unless its file says so, as in LinuxKit.
impl Default for Restart {
    fn default() -> Restart {
        Restart::new(Policy::No)
    }
}

impl Policy {
    /// Every policy by the word of the node file.
    pub const ALL: [(&'static str, Policy); 3] =
        [("no", Policy::No), ("on-failure", Policy::OnFailure), ("always", Policy::Always)];
}

impl Ready {
    /// How long a service may take to become ready unless written.
    pub const DEADLINE: Duration = Duration::from_secs(60);
    /// The time between two tries unless written.
    pub const INTERVAL: Duration = Duration::from_secs(1);
}

impl Stop {
    /// How long a service may take to end unless written.
    pub const GRACE: Duration = Duration::from_secs(10);

    pub(crate) fn is_default(&self) -> bool {
        *self == Stop::default()
    }
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { signal: Signal::TERM, grace: Self::GRACE, kill: Kill::default() }
    }
}

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);

    /// The number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Every name that [`FromStr`] takes, without the real-time ones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIGNALS.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None if self.0 == SIGRTMIN => f.write_str("SIGRTMIN"),
            None => write!(f, "SIGRTMIN+{}", self.0 - SIGRTMIN),
        }
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    /// Takes `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` and `RTMIN+3`, in any case.
    fn from_str(text: &str) -> Result<Signal, SignalError> {
        let unknown = || SignalError { text: text.to_owned() };
        if let Ok(number) = text.parse::<i32>() {
            let known = SIGNALS.iter().any(|(_, n)| *n == number) || (SIGRTMIN..=SIGRTMAX).contains(&number);
            return if known { Ok(Signal(number)) } else { Err(unknown()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| known[3..] == *name) {
            return Ok(Signal(*number));
        }
        let offset = match name.strip_prefix("RTMIN") {
            Some("") => Some(0),
            Some(plus) => plus.strip_prefix('+').and_then(|n| n.parse::<i32>().ok()),
            None => None,
        };
        let number = offset.filter(|n| (0..=SIGRTMAX - SIGRTMIN).contains(n)).ok_or_else(unknown)?;
        Ok(Signal(SIGRTMIN + number))
    }
}

impl TcpAddress {
    /// The host to connect to: a name or an address; an IPv6 address is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for TcpAddress {
    type Err = TcpAddressError;

    /// Takes `8080`, `localhost:8080`, `10.0.0.1:80` and `[::1]:80`.
    fn from_str(text: &str) -> Result<TcpAddress, TcpAddressError> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let number =
            Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
        let number: u16 =
            number.filter(|n| *n != 0).ok_or_else(|| TcpAddressError::Port { port: port.to_owned() })?;
        let bad_host = || TcpAddressError::Host { host: host.to_owned() };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').ok_or_else(bad_host)?;
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad_host())?;
                address
            }
            None => {
                let known = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                if host.is_empty() || !host.bytes().all(known) {
                    return Err(bad_host());
                }
                host
            }
        };
        Ok(TcpAddress { host: host.to_owned(), port: number })
    }
}

text_serde!(Signal, "a signal");
text_serde!(TcpAddress, "a host and a port");

#[cfg(test)]
mod tests {
    use super::{Policy, Probe, Ready, Restart, Signal, Stop, TcpAddress};
    use std::time::Duration;

    #[test]
    fn a_signal_has_a_name_and_a_number() {
        for (text, number, name) in [
            ("SIGTERM", 15, "SIGTERM"),
            ("hup", 1, "SIGHUP"),
            ("9", 9, "SIGKILL"),
            ("SIGRTMIN", 34, "SIGRTMIN"),
            ("rtmin+3", 37, "SIGRTMIN+3"),
            ("64", 64, "SIGRTMIN+30"),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, name), "{text}");
            assert_eq!(name.parse(), Ok(signal));
        }
        for text in ["", "0", "32", "65", "-1", "SIGFOO", "RTMIN+31", "RTMIN-1", "SIG"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_a_port_or_a_host_with_one() {
        for (text, host, port, full) in [
            ("80", "127.0.0.1", 80, "127.0.0.1:80"),
            ("localhost:8080", "localhost", 8080, "localhost:8080"),
            ("[::1]:1", "::1", 1, "[::1]:1"),
        ] {
            let address: TcpAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port(), address.to_string().as_str()), (host, port, full));
            assert_eq!(full.parse(), Ok(address));
        }
        for text in ["", ":80", "0", "70000", "+80", "a:b", "::1:80", "[::1]", "[x]:80", "a/b:80"] {
            assert!(text.parse::<TcpAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_plan_reads_back_what_it_was_written_from() {
        let restart = Restart { max_retries: Some(3), ..Restart::new(Policy::OnFailure) };
        let text = r#"{"policy":"on-failure","backoff":"1s","maxBackoff":"1m","maxRetries":3}"#;
        assert_eq!(serde_json::to_string(&restart).unwrap(), text);
        assert_eq!(serde_json::from_str::<Restart>(text).unwrap(), restart);

        let stop = r#"{"signal":"SIGTERM","grace":"10s","kill":"cgroup"}"#;
        assert_eq!(serde_json::to_string(&Stop::default()).unwrap(), stop);
        assert_eq!(serde_json::from_str::<Stop>(stop).unwrap(), Stop::default());

        for (probe, text) in [
            (
                Probe::Tcp("80".parse().unwrap()),
                r#"{"tcp":"127.0.0.1:80","deadline":"1m","interval":"250ms"}"#,
            ),
            (Probe::File("/run/a".to_owned()), r#"{"file":"/run/a","deadline":"1m","interval":"250ms"}"#),
            (Probe::Command(vec!["a".to_owned()]), r#"{"command":["a"],"deadline":"1m","interval":"250ms"}"#),
        ] {
            let ready = Ready { probe, deadline: Ready::DEADLINE, interval: Duration::from_millis(250) };
            assert_eq!(serde_json::to_string(&ready).unwrap(), text);
            assert_eq!(serde_json::from_str::<Ready>(text).unwrap(), ready);
        }
    }

    #[test]
    fn a_service_is_not_restarted_unless_it_says_so() {
        assert_eq!(Restart::default().policy, Policy::No);
    }
}
