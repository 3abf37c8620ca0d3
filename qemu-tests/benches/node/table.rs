//! The table: a row for each figure, with what it is held against.

/// A figure.
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How much it was.
    pub measured: f64,
    /// How much it may be.
    pub limit: f64,
    /// Of both.
    pub unit: &'static str,
    /// More to know of it: a peer's figure, the spread.
    pub note: String,
}

impl Row {
    /// Whether it is within its limit.
    pub fn is_ok(&self) -> bool {
        self.measured <= self.limit
    }

    fn cells(&self) -> [String; 6] {
        let number = |value: f64| format!("{value:.2} {}", self.unit);
        [
            self.name.clone(),
            number(self.measured),
            number(self.limit),
            format!("{:.2}", self.measured / self.limit),
            if self.is_ok() { "ok" } else { "OVER" }.into(),
            self.note.clone(),
        ]
    }
}

/// The rows below each other, columns as wide as they must be.
pub fn text(rows: &[Row]) -> String {
    let head = ["", "measured", "limit", "ratio", "", ""].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Numbers stand under each other's ends.
            let padded =
                if matches!(column, 1..=3) { format!("{cell:>width$}") } else { format!("{cell:width$}") };
            text.push_str(&padded);
            text.push_str("  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// The middle one; of an even number the lower of both.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
