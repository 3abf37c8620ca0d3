//! What parsing finds while it goes on: errors and warnings, before they are put into words for a reader.

use std::cell::RefCell;
use std::ops::Range;

/// Whether a node with this can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Error,
    Warning,
}

/// Something wrong or dubious, at a place of a file.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub severity: Severity,
    /// Number of the file among the sources.
    pub file: usize,
    /// Bytes of the file's text.
    pub at: Range<usize>,
    /// Path of the value, if one is known.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
    /// Another place that matters: file, byte, what it is.
    pub see: Option<(usize, usize, &'static str)>,
}

/// All that is found, in order.
#[derive(Debug, Default)]
pub(super) struct Findings(RefCell<Vec<Finding>>);

impl Finding {
    pub fn error(file: usize, at: Range<usize>, message: impl Into<String>) -> Finding {
        let message = message.into();
        Finding { severity: Severity::Error, file, at, path: String::new(), message, hint: None, see: None }
    }

    pub fn into_warning(self) -> Finding {
        Finding { severity: Severity::Warning, ..self }
    }

    pub fn path(self, path: impl Into<String>) -> Finding {
        Finding { path: path.into(), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Finding {
        Finding { hint: Some(hint.into()), ..self }
    }

    pub fn hint_option(self, hint: Option<impl Into<String>>) -> Finding {
        Finding { hint: hint.map(Into::into), ..self }
    }

    pub fn see(self, file: usize, at: usize, what: &'static str) -> Finding {
        Finding { see: Some((file, at, what)), ..self }
    }
}

impl Findings {
    pub fn push(&self, finding: Finding) {
        self.0.borrow_mut().push(finding);
    }

    pub fn into_inner(self) -> Vec<Finding> {
        self.0.into_inner()
    }
}
