//! Seconds since 1970 as a date and time of day in UTC, for formats that store those.

/// The date and time of `epoch` as RFC 3339 has them: `2024-02-29T23:59:59Z`.
pub fn rfc3339(epoch: u32) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::from_epoch(epoch);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A moment, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u16,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
}

impl Civil {
    /// The date and time of `epoch`, which reaches to 2106.
    pub(crate) fn from_epoch(epoch: u32) -> Self {
        let (mut days, second) = (epoch / 86_400, epoch % 86_400);
        let mut year = 1970u16;
        while days >= days_in_year(year) {
            days -= days_in_year(year);
            year += 1;
        }
        let mut month = 1u8;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: days as u8 + 1,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_in_year(year: u16) -> u32 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u16, month: u8) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        let text = |epoch| {
            let c = Civil::from_epoch(epoch);
            format!("{}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
        };
        for (epoch, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_827_696, "2000-02-29T12:34:56"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (u32::MAX, "2106-02-07T06:28:15"),
        ] {
            assert_eq!(text(epoch), expected);
        }
    }
}
