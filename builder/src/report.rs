//! What the user sees: progress, results, errors. One renderer for all of them.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

mod transfer;

pub use transfer::{Blobs, Transfer};

/// How things are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line that changes, on a terminal.
    Terminal,
    /// A line for each thing done.
    Lines,
    /// A JSON object for each thing done, on standard output.
    Json,
    /// Errors only.
    Quiet,
}

impl Style {
    /// The one that suits standard error.
    pub fn detect() -> Style {
        if io::stderr().is_terminal() { Style::Terminal } else { Style::Lines }
    }
}

/// Says what happens.
pub struct Report {
    style: Style,
    /// What changes at the foot of a terminal; everything else is printed above.
    bars: MultiProgress,
}

/// Something that takes a while.
pub struct Step<'a> {
    report: &'a Report,
    what: String,
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Report {
    /// In a style.
    pub fn new(style: Style) -> Self {
        Report { style, bars: MultiProgress::new() }
    }

    /// In which style.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Something begins.
    pub fn step(&self, what: impl Into<String>) -> Step<'_> {
        let what = what.into();
        let bar = (self.style == Style::Terminal).then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        Step { report: self, what, bar, began: Instant::now() }
    }

    /// What a person should know, though nothing failed.
    pub fn warning(&self, text: &str) {
        match self.style {
            Style::Json => self.event(json!({"event": "warning", "message": text})),
            _ => self.line(&format!("warning: {text}")),
        }
    }

    /// A diagnostic of a node file, rendered already.
    pub fn diagnostic(&self, rendered: &str) {
        match self.style {
            Style::Json => self.event(json!({"event": "diagnostic", "text": rendered})),
            _ => self.line(rendered),
        }
    }

    /// A line of progress.
    pub fn note(&self, text: &str) {
        match self.style {
            Style::Json | Style::Quiet => {}
            _ => self.line(text),
        }
    }

    /// A result: a line on standard output, or an object.
    pub fn result(&self, text: &str, object: serde_json::Value) {
        match self.style {
            Style::Json => self.event(object),
            Style::Quiet => {}
            _ => self.out(text),
        }
    }

    /// What a command was asked to print, in every style.
    pub fn out(&self, text: &str) {
        self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            // A reader that went away wants no more.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        });
    }

    /// An object a line.
    pub fn event(&self, object: serde_json::Value) {
        self.out(&object.to_string());
    }

    /// An error, as a chain, with a hint if there is one to give.
    pub fn failure(&self, error: &anyhow::Error) {
        let chain = chain(error.as_ref());
        let hint = hint(error);
        if self.style == Style::Json {
            self.event(json!({"event": "error", "chain": chain, "hint": hint}));
        }
        let mut text = String::new();
        for (i, message) in chain.iter().enumerate() {
            let head = if i == 0 { "error" } else { "caused by" };
            text.push_str(&format!("{head}: {message}\n"));
        }
        if let Some(hint) = hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        self.line(text.trim_end());
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}

impl Step<'_> {
    /// It is done; `more` says with which result.
    pub fn done(self, more: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.clear();
        match self.report.style {
            Style::Json => {
                self.report
                    .event(json!({"event": "step", "what": self.what, "result": more, "seconds": seconds}));
            }
            Style::Quiet => {}
            _ => {
                let more = if more.is_empty() { String::new() } else { format!(": {more}") };
                self.report.line(&format!("{}{more} ({seconds:.1} s)", self.what));
            }
        }
    }
}

impl Step<'_> {
    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.report.bars.remove(bar);
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The messages of an error and of what caused it; one that only repeats the one before is left out.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        if messages.last() != Some(&message) {
            messages.push(message);
        }
        next = error.source();
    }
    messages
}

/// What to try, where the kind of error tells.
fn hint(error: &anyhow::Error) -> Option<String> {
    use crate::resolve::ResolveError;
    use crate::source::deb::DebError;
    use kit_oci::pull::PullError;
    use kit_oci::push::PushError;
    use kit_oci::store::StoreError;
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<StoreError>() {
            return error.hint().map(str::to_owned);
        }
        if let Some(error) = cause.downcast_ref::<PullError>() {
            return error.hint().map(str::to_owned);
        }
        if let Some(error) = cause.downcast_ref::<PushError>() {
            return error.hint().map(str::to_owned);
        }
        if let Some(error) = cause.downcast_ref::<DebError>() {
            return match error {
                DebError::NoApt(_) => Some("`deb:` packages and kit/ recipes made of them need a Debian machine; lock on one, or name built images".into()),
                DebError::Gone { .. } => Some("mirrors drop superseded versions: `kitbuild lock --update` pins what they have now".into()),
                _ => None,
            };
        }
        match cause.downcast_ref::<ResolveError>() {
            Some(ResolveError::NotLocked { .. }) => Some("`kitbuild lock` pins it; without --locked a build does so itself".into()),
            Some(ResolveError::Offline { .. }) => Some("`kitbuild lock` pins and fetches every input while there is a network".into()),
            _ => None,
        }
    })
}

/// So many of something, for people.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Bytes, for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_thing_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("build x")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Middle(io::Error);
        let error = Outer(Middle(io::Error::other("full")));
        assert_eq!(chain(&error), ["build x", "full"]);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(5), size(12_300), size(6_700_000)], ["5 B", "12.3 kB", "6.7 MB"]);
    }
}
