//! The command line, and the only printing to stdout.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::status;
use crate::up::{self, Form, Options};

const HELP: &str = "\
Gives this node its network: DHCPv4, static addresses, routes, resolv.conf.

Usage:
  kit-net up [OPTIONS]        keep the network configured until SIGTERM
  kit-net up --once [OPTIONS] configure it and return as soon as it can be used
  kit-net status [--json]     show interfaces, addresses, routes and leases

Options of up:
  --once              Return when the first interface has an address, or, if the
                      configuration has `required` ones, when all of those do
  --timeout SECS      With --once: give up after this long [default: 30]
  --config FILE       The configuration [default: /etc/kit/net.json, if it exists;
                      else DHCP on every physical Ethernet interface]
  --resolv-conf FILE  [default: /run/resolvconf/resolv.conf]
  --cmdline FILE      Where `ip=` is looked for; it takes the place of the
                      configuration [default: /proc/cmdline]

Options of up and status:
  --state DIR         Where leases are kept [default: /run/kit-net]

  --help              Print this
  --version           Print the version

IPv6 is left to the kernel (SLAAC).

Exit code: 0 done, 1 not done (the reason is on stderr), 2 wrong usage.
";

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Up(Options),
    Status { json: bool, state: PathBuf },
}

/// Arguments that make no sense.
#[derive(Debug, PartialEq, Eq, Error)]
enum Usage {
    #[error("a command is missing")]
    NoCommand,
    #[error("unknown command `{0}`")]
    Command(String),
    #[error("unknown argument `{0}`")]
    Argument(String),
    #[error("`{0}` takes a value")]
    NoValue(String),
    #[error("`--timeout {0}`: not a number of seconds from 1 to 86400")]
    Timeout(String),
    #[error("`--timeout` is for `--once`")]
    TimeoutForEver,
}

/// Runs the program with these arguments (without its name); gives the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    match parse(args) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("kit-net ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Up(options)) => up::run(&options).map_or_else(|e| complain(&e), |()| 0),
        Ok(Command::Status { json, state }) => match status::look(&state) {
            Ok(status) if json => match serde_json::to_string_pretty(&status) {
                Ok(text) => print(&format!("{text}\n")),
                Err(e) => complain(&e),
            },
            Ok(status) => print(&status.to_string()),
            Err(e) => complain(&e),
        },
        Err(usage) => {
            say(&format!("error: {usage}\nhint: kit-net --help\n"));
            2
        }
    }
}

fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

/// In one write; a stderr that is gone changes nothing.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// An error and its causes, a line each.
fn complain(error: &dyn std::error::Error) -> u8 {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("caused by: {error}\n"));
        cause = error.source();
    }
    say(&text);
    1
}

fn parse(args: Vec<OsString>) -> Result<Command, Usage> {
    let mut args = args.into_iter();
    let command = args.next().ok_or(Usage::NoCommand)?;
    match command.to_str() {
        Some("--help" | "-h" | "help") => Ok(Command::Help),
        Some("--version" | "-V") => Ok(Command::Version),
        Some("up") => parse_up(args),
        Some("status") => parse_status(args),
        _ => Err(Usage::Command(command.to_string_lossy().into_owned())),
    }
}

fn parse_up(mut args: impl Iterator<Item = OsString>) -> Result<Command, Usage> {
    let (mut once, mut timeout, mut config) = (false, None, None);
    let mut options = Options {
        form: Form::Service,
        config: None,
        cmdline: "/proc/cmdline".into(),
        state: "/run/kit-net".into(),
        resolv_conf: "/run/resolvconf/resolv.conf".into(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| Usage::NoValue(arg.to_string_lossy().into_owned()));
        match arg.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--once") => once = true,
            Some("--timeout") => timeout = Some(seconds(value()?)?),
            Some("--config") => config = Some(value()?.into()),
            Some("--resolv-conf") => options.resolv_conf = value()?.into(),
            Some("--cmdline") => options.cmdline = value()?.into(),
            Some("--state") => options.state = value()?.into(),
            _ => return Err(Usage::Argument(arg.to_string_lossy().into_owned())),
        }
    }
    options.config = config;
    options.form = match (once, timeout) {
        (true, timeout) => Form::Once { timeout: timeout.unwrap_or(Duration::from_secs(30)) },
        (false, Some(_)) => return Err(Usage::TimeoutForEver),
        (false, None) => Form::Service,
    };
    Ok(Command::Up(options))
}

fn parse_status(mut args: impl Iterator<Item = OsString>) -> Result<Command, Usage> {
    let (mut json, mut state) = (false, PathBuf::from("/run/kit-net"));
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--json") => json = true,
            Some("--state") => state = args.next().ok_or_else(|| Usage::NoValue("--state".into()))?.into(),
            _ => return Err(Usage::Argument(arg.to_string_lossy().into_owned())),
        }
    }
    Ok(Command::Status { json, state })
}

fn seconds(text: OsString) -> Result<Duration, Usage> {
    let secs = text.to_str().and_then(|text| text.parse().ok()).filter(|secs| (1..=86_400).contains(secs));
    secs.map(Duration::from_secs).ok_or_else(|| Usage::Timeout(text.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, Usage> {
        parse(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn arguments_become_a_command() {
        let options = Options {
            form: Form::Service,
            config: None,
            cmdline: "/proc/cmdline".into(),
            state: "/run/kit-net".into(),
            resolv_conf: "/run/resolvconf/resolv.conf".into(),
        };
        assert_eq!(parsed(&["up"]), Ok(Command::Up(options.clone())));
        let once = |secs| Form::Once { timeout: Duration::from_secs(secs) };
        assert_eq!(parsed(&["up", "--once"]), Ok(Command::Up(Options { form: once(30), ..options.clone() })));
        assert_eq!(
            parsed(&["up", "--timeout", "5", "--once", "--config", "c", "--state", "s"]),
            Ok(Command::Up(Options {
                form: once(5),
                config: Some("c".into()),
                state: "s".into(),
                ..options
            }))
        );
        assert_eq!(
            parsed(&["status", "--json"]),
            Ok(Command::Status { json: true, state: "/run/kit-net".into() })
        );
    }

    #[test]
    fn arguments_that_make_no_sense_are_named() {
        for (args, want) in [
            (&[][..], "a command is missing"),
            (&["down"], "unknown command `down`"),
            (&["up", "-1"], "unknown argument `-1`"),
            (&["up", "--config"], "`--config` takes a value"),
            (&["up", "--once", "--timeout", "0"], "`--timeout 0`: not a number of seconds from 1 to 86400"),
            (&["up", "--timeout", "5"], "`--timeout` is for `--once`"),
        ] {
            assert_eq!(parsed(args).unwrap_err().to_string(), want);
        }
    }
}
