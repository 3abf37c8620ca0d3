//! `expect`: what a case boots, and what its console must show, a line for each thing.
//!
//! ```text
//! # a comment
//! format: kernel+initrd     what is built and booted (the default)
//! firmware: uefi            bios or uefi, where there is a choice
//! medium: disk              cd or disk, where there is a choice
//! memory: 512               MiB
//! cpus: 2
//! within: 90s               how long each of the following may take
//! line: kit: ready          a line that contains this, after the one before
//! gap: 900ms                the next line comes no sooner than this after the one before
//! not: failed               no line contains this, from beginning to end
//! type: poweroff            types this on the console
//! power: button             presses the power button; the guest turns itself off
//! keys: ctrl-alt-del        presses these keys
//! exit: poweroff            the guest ends so by itself: poweroff or reboot
//! ```

use crate::guest::Boot;
use kit_spec::artifact::{Firmware, Format, UnknownFormat};
use kit_spec::machine::Medium;
use std::time::Duration;

/// How long a line may take unless said otherwise: a boot under emulation, beside another.
const WITHIN: Duration = Duration::from_secs(120);

/// What a case expects.
#[derive(Clone, Debug)]
pub struct Expect {
    /// What is built.
    pub format: Format,
    /// The machine that boots it.
    pub boot: Boot,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What never appears.
    pub never: Vec<String>,
}

/// One thing that is done or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for a line.
    Line {
        /// What it contains.
        text: String,
        /// How long after the one before at least.
        after: Duration,
        /// How long it may take.
        within: Duration,
    },
    /// Type a line.
    Type(String),
    /// Press the power button, and see the guest turn itself off.
    PressPower,
    /// Press ctrl-alt-del.
    PressCtrlAltDel,
    /// See the guest turn itself off by itself.
    PowersOff(Duration),
    /// See the guest reboot by itself.
    Reboots(Duration),
}

/// What is wrong with an `expect`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpectError {
    /// A line is none of the known ones.
    #[error(
        "line {line}: `{text}` is none of format firmware medium memory cpus within line gap not type power keys exit"
    )]
    Unknown {
        /// Its number.
        line: usize,
        /// The line.
        text: String,
    },
    /// A value is not one of its key's.
    #[error("line {line}: `{value}` is not {wanted}")]
    Value {
        /// Its number.
        line: usize,
        /// The value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// No such format.
    #[error("line {line}")]
    Format {
        /// Its number.
        line: usize,
        /// Why not.
        #[source]
        source: UnknownFormat,
    },
    /// Nothing is waited for.
    #[error("nothing is expected: a case needs a `line:` or an `exit:`")]
    Nothing,
}

impl Expect {
    /// Reads the text of an `expect`.
    ///
    /// # Errors
    /// At the first line that is malformed.
    pub fn parse(text: &str) -> Result<Expect, ExpectError> {
        let mut expect =
            Expect { format: Format::KernelInitrd, boot: Boot::default(), steps: vec![], never: vec![] };
        let (mut within, mut gap) = (WITHIN, Duration::ZERO);
        for (at, raw) in text.lines().enumerate() {
            let line = at + 1;
            if raw.trim().is_empty() || raw.starts_with('#') {
                continue;
            }
            let (key, value) = raw.split_once(':').map_or((raw, ""), |(key, value)| (key, value.trim()));
            let wrong = |wanted| ExpectError::Value { line, value: value.into(), wanted };
            match key {
                "format" => {
                    expect.format = value.parse().map_err(|source| ExpectError::Format { line, source })?;
                }
                "firmware" => expect.boot.firmware = Some(firmware(value).ok_or(wrong("bios or uefi"))?),
                "medium" => expect.boot.medium = Some(medium(value).ok_or(wrong("cd or disk"))?),
                "memory" => expect.boot.memory_mib = value.parse().map_err(|_| wrong("a number of MiB"))?,
                "cpus" => expect.boot.cpus = value.parse().map_err(|_| wrong("a number of processors"))?,
                "within" => within = duration(value).ok_or(wrong("a time, such as 90s"))?,
                "gap" => gap = duration(value).ok_or(wrong("a time, such as 900ms"))?,
                "not" if !value.is_empty() => expect.never.push(value.into()),
                "line" if !value.is_empty() => {
                    let after = std::mem::take(&mut gap);
                    expect.steps.push(Step::Line { text: value.into(), after, within });
                }
                "type" => expect.steps.push(Step::Type(value.into())),
                "power" if value == "button" => expect.steps.push(Step::PressPower),
                "keys" if value == "ctrl-alt-del" => expect.steps.push(Step::PressCtrlAltDel),
                "exit" => expect.steps.push(match value {
                    "poweroff" => Step::PowersOff(within),
                    "reboot" => Step::Reboots(within),
                    _ => return Err(wrong("poweroff or reboot")),
                }),
                _ => return Err(ExpectError::Unknown { line, text: raw.into() }),
            }
        }
        if expect.steps.is_empty() {
            return Err(ExpectError::Nothing);
        }
        Ok(expect)
    }
}

fn firmware(word: &str) -> Option<Firmware> {
    match word {
        "bios" => Some(Firmware::Bios),
        "uefi" => Some(Firmware::Uefi),
        _ => None,
    }
}

fn medium(word: &str) -> Option<Medium> {
    match word {
        "cd" => Some(Medium::Cd),
        "disk" => Some(Medium::Disk),
        _ => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let number = |digits: &str| digits.parse::<u64>().ok();
    match text.strip_suffix("ms") {
        Some(digits) => number(digits).map(Duration::from_millis),
        None => number(text.strip_suffix('s')?).map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_steps_in_order() {
        let text = "# what\nformat: iso\nfirmware: uefi\nmedium: disk\nmemory: 256\n\nline: kit: ready\nwithin: 5s\n\
                    gap: 900ms\nline: x\nline: y\nnot: panic\npower: button\n";
        let expect = Expect::parse(text).unwrap();
        assert_eq!((expect.format, expect.boot.memory_mib), (Format::Iso, 256));
        assert_eq!((expect.boot.firmware, expect.boot.medium), (Some(Firmware::Uefi), Some(Medium::Disk)));
        let line = |text: &str, after, within| Step::Line {
            text: text.into(),
            after: Duration::from_millis(after),
            within: Duration::from_secs(within),
        };
        let steps = [line("kit: ready", 0, 120), line("x", 900, 5), line("y", 0, 5), Step::PressPower];
        assert_eq!(expect.steps, steps);
        assert_eq!(expect.never, ["panic"]);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error = |text: &str| Expect::parse(text).unwrap_err().to_string();
        assert!(error("line: a\nlnie: b\n").starts_with("line 2: `lnie: b` is none of"));
        assert_eq!(error("within: 5\n"), "line 1: `5` is not a time, such as 90s");
        assert_eq!(error("exit: crash\n"), "line 1: `crash` is not poweroff or reboot");
        assert_eq!(Expect::parse("# empty\n").unwrap_err(), ExpectError::Nothing);
    }
}
