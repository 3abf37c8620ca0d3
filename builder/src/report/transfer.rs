//! Bytes on their way: how many of how many, and how fast.
//!
//! | style | while it goes on | when it is done |
//! |---|---|---|
//! | terminal | a bar each | a line each |
//! | lines | nothing | a line each |
//! | JSON | `progress`, once a second | `transfer` |
//! | quiet | nothing | nothing |

use super::{Report, Style, size};
use indicatif::{ProgressBar, ProgressStyle};
use kit_oci::digest::Digest;
use kit_oci::pull::Progress;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a transfer is told of in JSON.
const EVERY: Duration = Duration::from_secs(1);

/// Something of known size that goes from one place to another. Dropped before its end, it says nothing more.
pub struct Transfer<'a> {
    report: &'a Report,
    what: String,
    total: u64,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    /// What was there before: it does not count for the rate.
    before: u64,
    so_far: u64,
    told: Instant,
}

impl Report {
    /// A transfer begins, `before` of its `total` bytes being there already.
    pub fn transfer(&self, what: impl Into<String>, before: u64, total: u64) -> Transfer<'_> {
        let what = what.into();
        let bar = (self.style == Style::Terminal).then(|| {
            let bar = self.bars.add(ProgressBar::new(total));
            let form = "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(form) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(what.clone());
            bar.set_position(before);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        let state = Mutex::new(State { began: now, before, so_far: before, told: now });
        Transfer { report: self, what, total, bar, state }
    }

    /// The transfers of blobs, to or from a registry.
    pub fn blobs(&self, verb: &'static str) -> Blobs<'_> {
        Blobs { report: self, verb, under_way: Mutex::default() }
    }
}

impl Transfer<'_> {
    /// So many bytes are there.
    pub fn at(&self, so_far: u64) {
        self.change(|state| state.so_far = so_far);
    }

    /// So many bytes more are there.
    pub fn add(&self, bytes: u64) {
        self.change(|state| state.so_far += bytes);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if let Some(bar) = &self.bar {
            bar.set_position(state.so_far);
        }
        if self.report.style == Style::Json && state.told.elapsed() >= EVERY {
            state.told = Instant::now();
            let (what, so_far, total) = (&self.what, state.so_far, self.total);
            self.report.event(json!({"event": "progress", "what": what, "bytes": so_far, "total": total}));
        }
    }

    /// It is done.
    pub fn done(&self) {
        let (seconds, moved) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.began.elapsed().as_secs_f64(), self.total.saturating_sub(state.before))
        };
        let rate = rate(moved, seconds);
        match self.report.style {
            Style::Json => self.report.event(json!({
                "event": "transfer", "what": self.what, "bytes": self.total, "seconds": seconds, "rate": rate,
            })),
            Style::Quiet => {}
            Style::Terminal | Style::Lines => {
                let (what, total, rate) = (&self.what, size(self.total), size(rate));
                self.clear();
                self.report.line(&format!("{what}: {total} ({seconds:.1} s, {rate}/s)"));
            }
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.report.bars.remove(bar);
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Bytes a second.
fn rate(bytes: u64, seconds: f64) -> u64 {
    // Below a millisecond nothing was measured.
    (bytes as f64 / seconds.max(0.001)) as u64
}

/// A transfer for each blob of an image.
pub struct Blobs<'a> {
    report: &'a Report,
    verb: &'static str,
    under_way: Mutex<HashMap<String, Transfer<'a>>>,
}

impl Progress for Blobs<'_> {
    fn blob(&self, digest: &Digest, so_far: u64, total: u64) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let name = digest.to_string();
        if so_far == total {
            // A blob that was there already never began.
            if let Some(transfer) = under_way.remove(&name) {
                transfer.done();
            }
            return;
        }
        let report = self.report;
        let begin = || report.transfer(format!("{} {}", self.verb, short(&name)), so_far, total);
        under_way.entry(name.clone()).or_insert_with(begin).at(so_far);
    }
}

/// As much of a digest as tells blobs apart.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_a_second_and_never_infinite() {
        assert_eq!(rate(3_000_000, 1.5), 2_000_000);
        assert_eq!(rate(500, 0.0), 500_000);
    }

    #[test]
    fn only_blobs_that_began_are_done() {
        let report = Report::new(Style::Quiet);
        let blobs = report.blobs("fetch");
        let (there, coming) = (kit_oci::digest::of(b"there"), kit_oci::digest::of(b"coming"));
        blobs.blob(&there, 9, 9);
        blobs.blob(&coming, 3, 9);
        let under_way = |blobs: &Blobs| blobs.under_way.lock().unwrap().len();
        assert_eq!(under_way(&blobs), 1);
        blobs.blob(&coming, 9, 9);
        assert_eq!(under_way(&blobs), 0);
        assert_eq!(short(coming.as_ref()).len(), "sha256:".len() + 12);
    }
}
