//! The command line, and the only printing.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

use crate::apply::{self, Options};

const HELP: &str = "\
Writes the settings of /etc/sysctl.d/*.conf to /proc/sys, in the order of the file names.

Usage: kit-sysctl [OPTIONS]

Options:
  --dir DIR    Read *.conf from here instead of /etc/sysctl.d; may be repeated,
               and of two files with one name the earlier directory's counts
  --proc DIR   Write below this directory [default: /proc/sys]
  --strict     Exit with 1 when any line had no effect
  --help       Print this
  --version    Print the version

A line that cannot be applied is a warning: `warning: FILE:LINE: KEY: WHY`.
A line that starts with `-` may fail without a word. See sysctl.d(5) for the syntax.

Exit code: 0 done (perhaps with warnings), 1 not done, 2 wrong usage.
";

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Apply { dirs: Vec<PathBuf>, proc: PathBuf, strict: bool },
}

/// Arguments that make no sense.
#[derive(Debug, PartialEq, Eq, Error)]
enum Usage {
    #[error("unknown argument `{0}`")]
    Unknown(String),
    #[error("`{0}` takes a value")]
    NoValue(&'static str),
}

/// Runs the program with these arguments (without its name); gives the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    match parse(args) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("kit-sysctl ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Apply { dirs, proc, strict }) => apply_all(dirs, proc, strict),
        Err(usage) => {
            say(format_args!("error: {usage}\nhint: kit-sysctl --help"));
            2
        }
    }
}

/// One line in one write; a log that is gone is no reason to leave settings unwritten.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

fn apply_all(dirs: Vec<PathBuf>, proc: PathBuf, strict: bool) -> u8 {
    let dirs_optional = dirs.is_empty();
    let dirs = if dirs_optional { vec![PathBuf::from("/etc/sysctl.d")] } else { dirs };
    match apply::apply(&Options { dirs, dirs_optional, proc }) {
        Ok(outcome) => {
            for warning in &outcome.warnings {
                say(format_args!("warning: {warning}"));
            }
            say(format_args!("kit-sysctl: {} set, {} not", outcome.written, outcome.warnings.len()));
            u8::from(strict && !outcome.warnings.is_empty())
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                say(format_args!("caused by: {error}"));
                cause = error.source();
            }
            1
        }
    }
}

fn parse(args: Vec<OsString>) -> Result<Command, Usage> {
    let (mut dirs, mut proc, mut strict) = (Vec::new(), PathBuf::from("/proc/sys"), false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--version" | "-V") => return Ok(Command::Version),
            Some("--strict") => strict = true,
            Some("--dir") => dirs.push(args.next().ok_or(Usage::NoValue("--dir"))?.into()),
            Some("--proc") => proc = args.next().ok_or(Usage::NoValue("--proc"))?.into(),
            _ => return Err(Usage::Unknown(arg.to_string_lossy().into_owned())),
        }
    }
    Ok(Command::Apply { dirs, proc, strict })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, Usage> {
        parse(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn arguments_become_a_command() {
        assert_eq!(
            parsed(&["--dir", "a", "--strict", "--dir", "b", "--proc", "p"]),
            Ok(Command::Apply { dirs: vec!["a".into(), "b".into()], proc: "p".into(), strict: true })
        );
        assert_eq!(parsed(&["--help"]), Ok(Command::Help));
    }

    #[test]
    fn arguments_that_make_no_sense_are_named() {
        assert_eq!(parsed(&["--dirs"]), Err(Usage::Unknown("--dirs".into())));
        assert_eq!(parsed(&["--dir"]), Err(Usage::NoValue("--dir")));
    }
}
