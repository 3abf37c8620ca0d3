//! YAML text as a tree whose every value knows its place.
//!
//! One document is one file. The tree is an arena: a value is an index, its parent and the step from there are kept,
//! so that a path such as `services[2].binds[0]` can be told for any value. Aliases are expanded into copies, which
//! have the place of what they stand for and the path of where they stand. What is read is bounded: [`MAX_TEXT`] bytes,
//! [`MAX_VALUES`] values with aliases expanded, [`MAX_DEPTH`] levels.
//!
//! Words are resolved by the core schema of YAML 1.2 (section 10.3.2): `no` and `on` are texts, `0644` is a number. Two
//! equal keys in one mapping are an error at the second. `<<` merges, explicit keys first.

mod compose;

use super::finding::{Finding, Findings};
use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

/// Bytes of text that are read at most.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// Values of a document at most, those that aliases stand for counted each time.
pub(super) const MAX_VALUES: usize = 200_000;
/// Levels of lists and mappings at most.
pub(super) const MAX_DEPTH: usize = 64;

/// A value of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueId(u32);

impl ValueId {
    pub fn number(self) -> u32 {
        self.0
    }

    /// The inverse of [`ValueId::number`], for a number that came from there.
    pub fn from_number(number: u32) -> ValueId {
        ValueId(number)
    }
}

/// A file, read.
#[derive(Debug)]
pub(super) struct Document {
    name: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    values: Vec<Entry>,
    root: Option<ValueId>,
    /// Parts of the text that are never quoted.
    secret: Vec<Range<usize>>,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    at: Range<usize>,
    up: Option<(ValueId, Step)>,
}

#[derive(Debug, Clone)]
enum Step {
    Index(usize),
    Key(Key),
}

/// A key of a mapping, with its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub name: String,
    pub at: Range<usize>,
}

/// What was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is not a 64-bit integer; the text is kept for messages.
    Number(String),
    Text(String),
    List(Vec<ValueId>),
    Map(Vec<(Key, ValueId)>),
}

/// A line and a column of a text, both counted from 1; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineColumn {
    pub line: usize,
    pub column: usize,
}

/// The keys of `files[]` whose values may be shown.
const OPEN_FILE_KEYS: [&str; 9] =
    ["path", "directory", "symlink", "source", "metadata", "optional", "mode", "uid", "gid"];

/// The sections that hold no file contents: a line that begins one ends what may be secret.
const OPEN_SECTIONS: [&str; 7] = ["kernel", "init", "onboot", "onshutdown", "services", "trust", "volumes"];

impl Document {
    /// Reads the first and only document of `text`. What is wrong goes to `findings`, under the number `file`.
    pub fn read(name: &str, text: &str, file: usize, findings: &Findings) -> Document {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let name = name.to_owned();
        if text.len() > MAX_TEXT {
            let message = format!("the file has {} bytes, and {MAX_TEXT} is the limit", text.len());
            findings.push(Finding::error(file, 0..0, message));
            return Document {
                name,
                text: String::new(),
                lines: vec![0],
                values: Vec::new(),
                root: None,
                secret: Vec::new(),
            };
        }
        let compose::Composed { values, root, dropped } = compose::compose(&text, file, findings);
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let lines = [0].into_iter().chain(newlines).collect();
        let mut document = Document { name, text, lines, values, root, secret: Vec::new() };
        document.hide_contents(&dropped);
        document
    }

    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The outermost value; none if there is none or the text could not be read.
    pub fn root(&self) -> Option<ValueId> {
        self.root
    }

    /// What was written.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize].value
    }

    /// Where it stands: bytes of the text. Of a mapping or list in block style, its first line.
    pub fn at(&self, id: ValueId) -> Range<usize> {
        self.values[id.0 as usize].at.clone()
    }

    /// Where its key stands, or the value itself if it has none.
    pub fn key_at(&self, id: ValueId) -> Range<usize> {
        match &self.values[id.0 as usize].up {
            Some((_, Step::Key(key))) => key.at.clone(),
            _ => self.at(id),
        }
    }

    /// The key that leads to it; none for the root and for an item of a list.
    pub fn key(&self, id: ValueId) -> Option<&str> {
        match &self.values[id.0 as usize].up {
            Some((_, Step::Key(key))) => Some(&key.name),
            _ => None,
        }
    }

    /// The path from the root: `services[2].binds[0]`; empty for the root.
    pub fn path(&self, id: ValueId) -> String {
        path(&self.values, id)
    }

    /// Whether a part of the text lies on a line that holds some of a file's contents.
    pub fn is_secret(&self, at: &Range<usize>) -> bool {
        let line = self.line_of(at.start);
        let until = at.end.max(line.end);
        self.secret.iter().any(|secret| secret.start < until && line.start < secret.end.max(secret.start + 1))
    }

    /// The bytes of the line that holds `offset`, without its end.
    pub fn line_of(&self, offset: usize) -> Range<usize> {
        let number = self.line_number(offset);
        let end = self.lines.get(number + 1).map_or(self.text.len(), |next| next - 1);
        self.lines[number]..end
    }

    /// The line and the column of a byte of the text.
    pub fn line_column(&self, offset: usize) -> LineColumn {
        let line = self.line_number(offset);
        let before = &self.text[self.lines[line]..offset.min(self.text.len())];
        LineColumn { line: line + 1, column: before.chars().count() + 1 }
    }

    /// All values that are texts.
    pub fn texts(&self) -> impl Iterator<Item = (ValueId, &str)> {
        self.values.iter().enumerate().filter_map(|(i, entry)| match &entry.value {
            Value::Text(text) => Some((ValueId(i as u32), text.as_str())),
            _ => None,
        })
    }

    /// The line that holds a byte of the text, from 0.
    fn line_number(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Finds what must not be quoted: in a file's entry, every value but those of the keys known to be harmless.
    fn hide_contents(&mut self, dropped: &[(ValueId, Key, ValueId)]) {
        let Some(root) = self.root else {
            // The tree is not there to say what is contents: everything from such a key on, up to another section.
            self.secret = hidden_by_words(&self.text);
            return;
        };
        let items: Vec<ValueId> = match self.value(root) {
            Value::Map(pairs) => {
                let files = pairs.iter().filter(|(key, _)| key.name == "files");
                files.flat_map(|(_, list)| self.children(*list)).collect()
            }
            _ => Vec::new(),
        };
        let mut hidden = Vec::new();
        for item in &items {
            if let Value::Map(pairs) = self.value(*item) {
                hidden.extend(pairs.iter().filter(|(key, _)| may_be_secret(key)).map(|(_, value)| *value));
            }
        }
        let twice = dropped.iter().filter(|(_, key, _)| may_be_secret(key));
        hidden.extend(twice.filter(|(map, ..)| path(&self.values, *map).starts_with("files")).map(|d| d.2));
        let secret = hidden.into_iter().map(|id| self.whole(id)).collect::<Vec<_>>();
        // A text in block style ends where the next line begins.
        let trimmed = |at: Range<usize>| at.start..at.start + self.text[at.clone()].trim_end().len();
        self.secret = secret.into_iter().map(trimmed).collect();
    }

    fn children(&self, id: ValueId) -> Vec<ValueId> {
        match self.value(id) {
            Value::List(items) => items.clone(),
            Value::Map(pairs) => pairs.iter().map(|(_, value)| *value).collect(),
            _ => Vec::new(),
        }
    }

    /// From the first to the last byte of a value and all in it.
    fn whole(&self, id: ValueId) -> Range<usize> {
        let mut at = self.at(id);
        let mut rest = self.children(id);
        while let Some(child) = rest.pop() {
            let inner = self.at(child);
            at = at.start.min(inner.start)..at.end.max(inner.end);
            rest.extend(self.children(child));
        }
        at
    }
}

fn may_be_secret(key: &Key) -> bool {
    !OPEN_FILE_KEYS.contains(&key.name.as_str())
}

/// Lines that follow the word `contents`, that line included, up to the next section without contents.
fn hidden_by_words(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut from = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let section =
            OPEN_SECTIONS.iter().any(|word| line.strip_prefix(word).is_some_and(|r| r.starts_with(':')));
        if section && let Some(start) = from.take() {
            hidden.push(start..offset);
        }
        if from.is_none() && line.contains("content") {
            from = Some(offset);
        }
        offset += line.len();
    }
    hidden.extend(from.map(|start| start..offset + 1));
    hidden
}

fn path(values: &[Entry], id: ValueId) -> String {
    let mut steps = Vec::new();
    let mut up = values[id.0 as usize].up.as_ref();
    while let Some((parent, step)) = up {
        steps.push(step);
        up = values[parent.0 as usize].up.as_ref();
    }
    let mut path = String::new();
    for step in steps.into_iter().rev() {
        match step {
            Step::Index(index) => _ = write!(path, "[{index}]"),
            Step::Key(key) => push_key(&mut path, &key.name),
        }
    }
    path
}

/// Appends a key to a path.
pub(super) fn push_key(path: &mut String, key: &str) {
    let dot = if path.is_empty() { "" } else { "." };
    let plain = |c: char| c.is_alphanumeric() || "._-/<".contains(c);
    let _ = match key.chars().all(plain) && !key.is_empty() {
        true => write!(path, "{dot}{}", shortened(key)),
        false => write!(path, "{dot}{:?}", shortened(key)),
    };
}

/// A text short enough for a message.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => Cow::Owned(format!("{}..", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests;
