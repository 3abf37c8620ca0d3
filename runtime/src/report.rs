//! Errors as people and programs read them.
//!
//! An error is a chain: what was being done, then why it went wrong, then why that. It is printed
//! once, at the top, as `error: ..` and `caused by: ..` lines; with `--log` it is also appended to
//! the log file, where the programs that drive an OCI runtime look for it. The container's process
//! sends its chain over a socket, and [`Remote`] is that chain on the other side.

use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An error that happened in another process: its messages, outermost first.
#[derive(Debug)]
pub struct Remote {
    message: String,
    source: Option<Box<Remote>>,
}

impl Remote {
    /// Rebuilds an error from the messages of its chain, outermost first. `None` for no messages.
    pub fn from_chain(messages: Vec<String>) -> Option<Remote> {
        messages
            .into_iter()
            .rev()
            .fold(None, |source, message| Some(Remote { message, source: source.map(Box::new) }))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Remote {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// The messages of an error and its sources, outermost first.
pub fn chain(error: &dyn Error) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        messages.push(error.to_string());
        source = error.source();
    }
    messages
}

/// The text printed for a chain: `error: ..`, then a `caused by: ..` line for each source.
pub fn text(messages: &[String]) -> String {
    let mut out = String::new();
    for (index, message) in messages.iter().enumerate() {
        out.push_str(if index == 0 { "error: " } else { "caused by: " });
        out.push_str(message);
        out.push('\n');
    }
    out
}

/// How a log file is written (`--log-format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time="..." level=error msg="..."`
    #[default]
    Text,
    /// One JSON object a line with `level`, `msg` and `time`.
    Json,
}

/// Where errors go besides stderr (`--log`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file, appended to.
    pub path: PathBuf,
    /// Its format.
    pub format: LogFormat,
}

impl Log {
    /// Appends one error line. A log that cannot be written is not worth failing for: stderr has
    /// the message too.
    pub fn append(&self, messages: &[String], now: SystemTime) {
        let line = log_line(self.format, messages, now);
        if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(&self.path) {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// One line of a log file, with its newline.
fn log_line(format: LogFormat, messages: &[String], now: SystemTime) -> String {
    let message = messages.join(": ");
    let time = rfc3339(now);
    match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({"level": "error", "msg": message, "time": time}))
        }
        LogFormat::Text => {
            format!("time=\"{time}\" level=error msg={}\n", serde_json::Value::from(message))
        }
    }
}

/// A moment as RFC 3339 in UTC, with nanoseconds, as `list` and the log show it.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The date `days` after 1970-01-01, in the proleptic Gregorian calendar counted from March so that
/// the leap day is a year's last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Prints an error to stderr, and to the log where there is one.
pub fn print(error: &dyn Error, log: Option<&Log>) {
    let messages = chain(error);
    eprint!("{}", text(&messages));
    if let Some(log) = log {
        log.append(&messages, SystemTime::now());
    }
}

/// Prints what went wrong where going on is right (a poststop hook, say).
pub fn warn(doing: &str, error: &dyn Error) {
    eprintln!("warning: {doing}: {}", chain(error).join(": "));
}

/// Shows a path in a message.
pub fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_chain_survives_the_way_through_another_process() {
        let messages = vec!["start web".to_owned(), "mounts[2]: open target".to_owned(), "denied".to_owned()];
        let remote = Remote::from_chain(messages.clone()).unwrap();
        assert_eq!(chain(&remote), messages);
        assert_eq!(
            text(&messages),
            "error: start web\ncaused by: mounts[2]: open target\ncaused by: denied\n"
        );
        assert!(Remote::from_chain(Vec::new()).is_none());
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_log_is_what_callers_of_a_runtime_parse() {
        let line = log_line(LogFormat::Json, &["a \"b\"".into(), "c".into()], UNIX_EPOCH);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["msg"], "a \"b\": c");
        assert_eq!(value["level"], "error");
        assert_eq!(value["time"], "1970-01-01T00:00:00.000000000Z");
    }
}
