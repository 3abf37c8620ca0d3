//! What a bench prints: a table of figures, each with its limit if it has one.

use std::fmt;

/// What running something took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds from begin to end.
    pub wall: f64,
    /// Seconds of processors in programs.
    pub user: f64,
    /// Seconds of processors in the kernel.
    pub sys: f64,
    /// The most memory that was resident at once, in KiB.
    pub peak_kib: u64,
}

impl Cost {
    /// For limits of which only some count.
    pub const UNLIMITED: Cost =
        Cost { wall: f64::INFINITY, user: f64::INFINITY, sys: 0.0, peak_kib: u64::MAX };

    /// Seconds of processors.
    pub fn cpu(&self) -> f64 {
        self.user + self.sys
    }
}

/// Figures, in the order in which they were found.
#[derive(Debug)]
pub struct Table {
    name: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    limit: String,
    /// Of the figure to its limit.
    ratio: String,
    verdict: &'static str,
}

impl Table {
    /// An empty one.
    pub fn new(name: &str) -> Table {
        Table { name: name.into(), rows: Vec::new() }
    }

    /// Whether no figure is over its limit.
    pub fn is_within(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != OVER)
    }

    /// A figure, and what it may be at most.
    pub fn figure(&mut self, what: &str, figure: f64, limit: Option<f64>, unit: &str) {
        let text = |value: f64| match unit {
            "" => format!("{value:.2}"),
            _ => format!("{value:.2} {unit}"),
        };
        self.rows.push(Row {
            what: what.into(),
            measured: text(figure),
            limit: limit.map(text).unwrap_or_default(),
            ratio: limit.map(|limit| format!("{:.2}", figure / limit)).unwrap_or_default(),
            verdict: match limit {
                None => "",
                Some(limit) if figure <= limit => WITHIN,
                Some(_) => OVER,
            },
        });
    }

    /// Seconds.
    pub fn seconds(&mut self, what: &str, seconds: f64, limit: Option<f64>) {
        self.figure(what, seconds, limit, "s");
    }

    /// Bytes, shown in millions.
    pub fn bytes(&mut self, what: &str, bytes: u64, limit: Option<u64>) {
        self.figure(what, bytes as f64 / 1e6, limit.map(|limit| limit as f64 / 1e6), "MB");
    }

    /// Wall time, processor time and memory, a row each; an infinite limit is none.
    pub fn cost(&mut self, what: &str, cost: &Cost, limit: Option<&Cost>) {
        let limit = limit.copied().unwrap_or(Cost::UNLIMITED);
        let finite = |value: f64| value.is_finite().then_some(value);
        self.seconds(what, cost.wall, finite(limit.wall));
        self.figure("", cost.cpu(), finite(limit.cpu()), "CPU s");
        let peak = (limit.peak_kib < u64::MAX).then_some(limit.peak_kib as f64 * 1.024e-3);
        self.figure("", cost.peak_kib as f64 * 1.024e-3, peak, "MB peak");
    }
}

const WITHIN: &str = "ok";
const OVER: &str = "OVER";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.len()).chain([self.name.len()]).max().unwrap_or(0);
        writeln!(f, "{:width$}  {:>16}  {:>16}  {:>5}", self.name, "measured", "limit", "ratio")?;
        for row in &self.rows {
            let line = format!(
                "{:width$}  {:>16}  {:>16}  {:>5}  {}",
                row.what, row.measured, row.limit, row.ratio, row.verdict
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_over_its_limit_spoils_the_table() {
        let mut table = Table::new("t");
        table.seconds("quick", 0.5, Some(1.0));
        assert!(table.is_within());
        table.seconds("slow", 1.5, Some(1.0));
        assert!(!table.is_within());
        assert!(
            table.to_string().contains("slow             1.50 s            1.00 s   1.50  OVER"),
            "{table}"
        );
    }

    #[test]
    fn what_has_no_limit_is_never_over() {
        let mut table = Table::new("t");
        table.cost("build", &Cost { wall: 1e9, user: 1e9, sys: 1.0, peak_kib: 1 << 40 }, None);
        assert!(table.is_within());
    }
}
