//! `kitc list`: all containers under a root.

use crate::report::rfc3339;
use crate::state::{self, Record, StateDir, Status};
use serde::Serialize;
use std::path::Path;

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    oci_version: String,
    id: String,
    pid: i32,
    status: Status,
    bundle: String,
    rootfs: String,
    created: String,
    owner: u32,
}

impl Line {
    fn of(record: Record) -> Line {
        let status = record.status_now();
        Line {
            oci_version: record.oci_version,
            id: record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: rfc3339(record.created),
            owner: record.owner,
        }
    }
}

/// The containers under `root`, by name. One that another `kitc` makes or deletes at this moment may
/// be missing.
pub fn list(root: &Path) -> Result<Vec<Line>, state::Error> {
    let mut lines = Vec::new();
    for id in StateDir::list(root)? {
        match StateDir::open(root, &id).and_then(|dir| dir.read()) {
            Err(state::Error::Missing { .. }) | Ok(None) => {}
            result => lines.extend(result?.map(Line::of)),
        }
    }
    Ok(lines)
}

/// The list as JSON.
pub fn json(lines: &[Line]) -> String {
    // Strings and numbers: this cannot fail.
    serde_json::to_string(lines).unwrap_or_default()
}

/// Only the names.
pub fn names(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.id)).collect()
}

/// The list as a table.
pub fn table(lines: &[Line]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(lines.iter().map(|l| {
            [
                l.id.clone(),
                l.pid.to_string(),
                l.status.word().to_owned(),
                l.bundle.clone(),
                l.created.clone(),
                format!("#{}", l.owner),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
