//! What is wrong with node files, for a reader: place, path, rule, what to write instead, and the line itself.
//!
//! ```text
//! error: services[0].binds[1]: the source `data` is neither an absolute path nor a volume
//!   --> node.yml:12:9
//!    |
//! 12 |     - data:/data
//!    |       ^^^^^^^^^^
//!    |
//!    = help: declare it under `volumes` (`- name: data`), or write an absolute path
//! ```
//!
//! A line that holds some of `files[].contents` is never shown, whatever is wrong with it.

use super::document::Document;
use super::finding::{Finding, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// Something wrong or dubious in a node file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Path of the value in its file, such as `services[2].binds[0]`; empty where there is none.
    pub path: String,
    /// The rule that is broken.
    pub message: String,
    /// What to write instead, if that can be said.
    pub hint: Option<String>,
    /// Another place that matters.
    pub see: Option<See>,
    excerpt: Option<Excerpt>,
}

/// Another place that matters to a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct See {
    /// The file's name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What stands there.
    pub what: &'static str,
}

/// Something that is accepted, and hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Problem);

/// Everything that is wrong with the files of a node: at least one error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    errors: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// A line of a file and what is marked in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    mark: Range<usize>,
    /// Whether the line does not begin at its beginning.
    cut: bool,
}

/// How many errors are written out; the number of all is told.
const MAX_SHOWN: usize = 100;
/// Bytes of a line that are shown at most, about.
const MAX_LINE: usize = 240;
/// Bytes of them before what is marked, about.
const MAX_BEFORE: usize = 80;

impl Diagnostics {
    /// The errors, by file and place.
    pub fn errors(&self) -> &[Problem] {
        &self.errors
    }

    /// What is dubious besides.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The errors in full, for a terminal that shows colours or for one that does not. `Display` is without.
    pub fn render(&self, colour: bool) -> String {
        let shown: Vec<String> =
            self.errors.iter().take(MAX_SHOWN).map(|error| error.render(Level::ERROR, colour)).collect();
        let mut text = shown.join("\n\n");
        if self.errors.len() > MAX_SHOWN {
            text.push_str(&format!("\n\nand {} more errors", self.errors.len() - MAX_SHOWN));
        }
        text
    }

    /// Puts findings into words. An error among them makes it `Err`.
    pub(super) fn settle<T>(
        value: Option<T>,
        docs: &[Document],
        mut findings: Vec<Finding>,
    ) -> Result<(T, Vec<Warning>), Diagnostics> {
        findings.sort_by_key(|finding| (finding.file, finding.at.start, finding.severity));
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        let errors: Vec<Problem> = errors.into_iter().map(|finding| Problem::new(finding, docs)).collect();
        let warnings = warnings.into_iter().map(|finding| Warning(Problem::new(finding, docs))).collect();
        match value {
            Some(value) if errors.is_empty() => Ok((value, warnings)),
            _ => Err(Diagnostics { errors, warnings }),
        }
    }
}

impl Warning {
    /// The warning in full, for a terminal that shows colours or for one that does not. `Display` is without.
    pub fn render(&self, colour: bool) -> String {
        self.0.render(Level::WARNING, colour)
    }
}

impl Problem {
    fn new(finding: Finding, docs: &[Document]) -> Problem {
        let doc = &docs[finding.file];
        let start = doc.line_column(finding.at.start);
        let see = finding.see.map(|(file, at, what)| {
            let place = docs[file].line_column(at);
            See { file: docs[file].name().to_owned(), line: place.line, column: place.column, what }
        });
        Problem {
            file: doc.name().to_owned(),
            line: start.line,
            column: start.column,
            path: finding.path,
            message: finding.message,
            hint: finding.hint,
            see,
            excerpt: Excerpt::new(doc, finding.at),
        }
    }

    fn title(&self) -> String {
        if self.path.is_empty() { self.message.clone() } else { format!("{}: {}", self.path, self.message) }
    }

    fn render(&self, level: Level<'_>, colour: bool) -> String {
        let mut group = Group::with_title(level.primary_title(self.title()));
        let origin = || Origin::path(&*self.file).line(self.line).char_column(self.column);
        group = match &self.excerpt {
            None => group.element(origin()),
            Some(excerpt) => {
                let mark = AnnotationKind::Primary.span(excerpt.mark.clone());
                let snippet = Snippet::source(&*excerpt.line).line_start(self.line).fold(false);
                match excerpt.cut {
                    // The column in what is left is not the column in the file.
                    true => group.element(origin()).element(snippet.annotation(mark)),
                    false => group.element(snippet.path(&*self.file).annotation(mark)),
                }
            }
        };
        let see =
            self.see.as_ref().map(|see| format!("{}: {}:{}:{}", see.what, see.file, see.line, see.column));
        group = group.elements(see.map(|see| Level::NOTE.message(see)));
        group = group.elements(self.hint.as_deref().map(|hint| Level::HELP.message(hint)));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl Excerpt {
    /// The first line of what is marked; none if it must not be shown or there is nothing on it.
    fn new(doc: &Document, at: Range<usize>) -> Option<Excerpt> {
        let line = doc.line_of(at.start);
        let text = doc.text()[line.clone()].trim_end();
        if doc.is_secret(&at) || text.is_empty() {
            return None;
        }
        let start = (at.start - line.start).min(text.len());
        let end = (at.end.max(at.start) - line.start).clamp(start, text.len());
        if text.len() <= MAX_LINE {
            return Some(Excerpt { line: text.to_owned(), mark: start..end, cut: false });
        }
        // A line as long as a file: what is marked, with some of what is around it.
        let from = text.floor_char_boundary(start.saturating_sub(MAX_BEFORE));
        let to = text.floor_char_boundary((from + MAX_LINE).min(text.len()));
        let mark = start - from..end.min(to).max(start) - from;
        Some(Excerpt { line: text[from..to].to_owned(), mark, cut: from > 0 })
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// One line: place, path, rule.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.title())
    }
}

impl std::error::Error for Diagnostics {}
