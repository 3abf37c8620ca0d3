//! The words of `update` and `events`: limits, sizes and spans of time.

use super::{Change, Command, Error, Word, Words};
use serde_json::{Map, Value};
use std::time::Duration;

/// How often `events` prints what a container uses, where nothing else is said.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the value of an option is.
#[derive(Clone, Copy)]
enum Kind {
    /// A number from 0.
    Number,
    /// A number, or -1 for no limit.
    OrNone,
    /// Bytes, with an optional unit, or -1 for no limit.
    Bytes,
    /// Text.
    Text,
}

/// The options of `update`, each with the place of its value in `linux.resources`.
const LIMITS: [(&str, &str, &str, Kind); 14] = [
    ("--memory", "memory", "limit", Kind::Bytes),
    ("--memory-reservation", "memory", "reservation", Kind::Bytes),
    ("--memory-swap", "memory", "swap", Kind::Bytes),
    ("--pids-limit", "pids", "limit", Kind::OrNone),
    ("--cpu-period", "cpu", "period", Kind::Number),
    ("--cpu-quota", "cpu", "quota", Kind::OrNone),
    ("--cpu-burst", "cpu", "burst", Kind::Number),
    ("--cpu-share", "cpu", "shares", Kind::Number),
    ("--cpu-idle", "cpu", "idle", Kind::Number),
    ("--cpu-rt-period", "cpu", "realtimePeriod", Kind::Number),
    ("--cpu-rt-runtime", "cpu", "realtimeRuntime", Kind::OrNone),
    ("--cpuset-cpus", "cpu", "cpus", Kind::Text),
    ("--cpuset-mems", "cpu", "mems", Kind::Text),
    ("--blkio-weight", "blockIO", "weight", Kind::Number),
];

impl Words {
    pub(super) fn update(&mut self) -> Result<Command, Error> {
        let (mut id, mut file, mut limits) = (None, None, Map::new());
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) if id.is_none() => id = Some(word),
                Word::Plain(word) => return Err(self.too_much(word)),
                Word::Option { name, value } => match name.as_str() {
                    "-r" | "--resources" => file = Some(self.value(&name, value)?.into()),
                    _ => self.limit(name, value, &mut limits)?,
                },
            }
        }
        let id = id.ok_or_else(|| self.missing("the container's id"))?;
        let change = match (file, limits.is_empty()) {
            (Some(file), true) => Change::File(file),
            (Some(_), false) => return Err(self.too_much("--resources beside limits".to_owned())),
            (None, true) => return Err(self.missing("--resources, or a limit,")),
            (None, false) => Change::Options(limits.into()),
        };
        Ok(Command::Update { id, change })
    }

    /// Puts the value of an option where it belongs.
    fn limit(
        &mut self,
        name: String,
        value: Option<String>,
        limits: &mut Map<String, Value>,
    ) -> Result<(), Error> {
        let Some(&(_, group, key, kind)) = LIMITS.iter().find(|(option, ..)| *option == name) else {
            return Err(self.no_such_option(name));
        };
        let text = self.value(&name, value)?;
        let least = |least| text.parse::<i64>().ok().filter(|&n| n >= least).map(Value::from);
        let value = match kind {
            Kind::Number if name == "--blkio-weight" => text.parse::<u16>().ok().map(Value::from),
            Kind::Number => least(0),
            Kind::OrNone => least(-1),
            Kind::Bytes => bytes(&text).map(Value::from),
            Kind::Text => (!text.is_empty()).then(|| text.clone().into()),
        };
        let value = value.ok_or_else(|| self.bad_value(&name, &text))?;
        let group = limits.entry(group).or_insert_with(|| Map::new().into());
        group[key] = value;
        Ok(())
    }

    pub(super) fn events(&mut self) -> Result<Command, Error> {
        let (mut id, mut stats, mut interval) = (None, false, INTERVAL);
        while let Some(word) = self.next() {
            match word {
                Word::Plain(word) if id.is_none() => id = Some(word),
                Word::Plain(word) => return Err(self.too_much(word)),
                Word::Option { name, value } => match name.as_str() {
                    "--stats" => stats = value.as_deref() != Some("false"),
                    "--interval" => {
                        let text = self.value(&name, value)?;
                        let span = duration(&text).filter(|span| !span.is_zero());
                        interval = span.ok_or_else(|| self.bad_value(&name, &text))?;
                    }
                    _ => return Err(self.no_such_option(name)),
                },
            }
        }
        let id = id.ok_or_else(|| self.missing("the container's id"))?;
        Ok(Command::Events { id, stats, interval })
    }
}

/// A size such as `512M` or `1.5g`, in powers of 1024; -1 is none.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let unit = lower.chars().last().and_then(|c| "kmgtp".find(c));
    let digits = if unit.is_some() { &lower[..lower.len() - 1] } else { lower };
    let shift = unit.map_or(0, |place| 10 * (place as u32 + 1));
    if let Ok(number) = digits.parse::<i64>() {
        return number.checked_mul(1 << shift).filter(|&n| n >= 0);
    }
    let number = digits.parse::<f64>().ok()? * (1_u64 << shift) as f64;
    (number >= 0.0 && number < i64::MAX as f64).then_some(number as i64)
}

/// A span such as `5s`, `500ms` or `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let span = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(span)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("4096", Some(4096)),
            ("512M", Some(512 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2KiB", Some(2048)),
            ("10b", Some(10)),
            ("", None),
            ("M", None),
            ("-2", None),
            ("1x", None),
            ("9999999999G", None),
            ("nan", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn spans_are_written_as_go_does() {
        for (text, expected) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("1e9h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
