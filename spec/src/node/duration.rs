//! Durations as node files write them: `10s`, `1m30s`, `500ms`, `1.5h`.
//!
//! A number with a unit, or several in a row: `ns us ms s m h`. Fields hold a [`std::time::Duration`] and name
//! [`option`] or this module in `#[serde(with = "..")]`.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::fmt::Write;
use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("a duration is empty")]
    Empty,
    /// A part has no number.
    #[error("the duration `{text}` lacks a number before `{rest}`")]
    NoNumber {
        /// The whole text.
        text: String,
        /// From where it could not be read.
        rest: String,
    },
    /// A number has no unit, or one that is not known.
    #[error("the duration `{text}` has {}", .unit.as_ref().map_or("no unit".to_owned(), |u| format!("the unknown unit `{u}`")))]
    Unit {
        /// The whole text.
        text: String,
        /// What stands in the unit's place, if anything.
        unit: Option<String>,
    },
    /// It does not fit into 64 bits of nanoseconds (584 years).
    #[error("the duration `{text}` is too long")]
    TooLong {
        /// The whole text.
        text: String,
    },
}

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration.
///
/// # Errors
/// If a part lacks its number or its unit, or the sum does not fit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text;
    let mut nanos = 0_u64;
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    let too_long = || DurationError::TooLong { text: text.to_owned() };
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (digits, after) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || (digits.contains('.') && fraction.is_empty()) || fraction.contains('.') {
            return Err(DurationError::NoNumber { text: text.to_owned(), rest: rest.to_owned() });
        }
        let unit = after.split(|c: char| c.is_ascii_digit() || c == '.').next().unwrap_or("");
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let unit = (!unit.is_empty()).then(|| unit.to_owned());
            return Err(DurationError::Unit { text: text.to_owned(), unit });
        };
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        let part = whole.checked_mul(*scale).ok_or_else(too_long)?;
        nanos = nanos.checked_add(part).ok_or_else(too_long)?;
        nanos = nanos.checked_add(fraction_of(fraction, *scale)).ok_or_else(too_long)?;
        rest = &after[unit.len()..];
    }
    Ok(Duration::from_nanos(nanos))
}

/// `0.FRACTION` of `scale`, rounded down; digits below a nanosecond do not count.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let mut weight = scale;
    let mut sum = 0;
    for digit in fraction.bytes() {
        // Exact as long as the scale still divides by ten, and below that it is less than a nanosecond's tenth.
        sum += u64::from(digit - b'0') * weight / 10;
        weight /= 10;
    }
    sum
}

/// Writes a duration so that [`parse`] gives it back: the largest units that are whole, `0s` for none.
pub fn format(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS.iter().rev().filter(|(unit, _)| *unit != "µs") {
        let count = nanos / u128::from(*scale);
        nanos %= u128::from(*scale);
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    text
}

/// Serialises as text.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Reads from text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

/// The same for a duration that may be missing.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    /// Serialises as text, or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads from text, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = <Option<std::borrow::Cow<'de, str>>>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::{DurationError, format, parse};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, nanos) in [
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("0.1s", 100_000_000),
            ("1.000000001s", 1_000_000_001),
            ("2us3ns", 2_003),
            ("2µs", 2_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_says_why() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "a duration is empty");
        assert_eq!(error("10"), "the duration `10` has no unit");
        assert_eq!(error("10 s"), "the duration `10 s` has the unknown unit ` s`");
        assert_eq!(error("1d"), "the duration `1d` has the unknown unit `d`");
        assert_eq!(error("s"), "the duration `s` lacks a number before `s`");
        assert_eq!(error("-1s"), "the duration `-1s` lacks a number before `-1s`");
        assert_eq!(error("1.s"), "the duration `1.s` lacks a number before `1.s`");
        assert_eq!(error("1..5s"), "the duration `1..5s` lacks a number before `1..5s`");
        assert!(matches!(parse("9999999999999h"), Err(DurationError::TooLong { .. })));
        assert!(matches!(parse("99999999999999999999s"), Err(DurationError::TooLong { .. })));
    }

    #[test]
    fn the_largest_whole_units_are_written() {
        assert_eq!(format(Duration::from_secs(0)), "0s");
        assert_eq!(format(Duration::from_secs(3690)), "1h1m30s");
        assert_eq!(format(Duration::from_millis(1500)), "1s500ms");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.hmsnuµ -]{0,24}") {
            let _ = parse(&text);
        }
    }
}
