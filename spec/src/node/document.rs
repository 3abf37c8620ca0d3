//! YAML text as a tree whose every value knows its place.
//!
//! One document is one file. The tree is an arena: a value is an index, its parent and the step from there are kept,
//! so that a path such as `services[2].binds[0]` can be told for any value. Aliases are expanded into copies, which
//! have the place of what they stand for and the path of where they stand. What is read is bounded: [`MAX_TEXT`] bytes,
//! [`MAX_VALUES`] values with aliases expanded, [`MAX_DEPTH`] levels.
//!
//! Words are resolved by the core schema of YAML 1.2 (section 10.3.2): `no` and `on` are texts, `0644` is a number. Two
//! equal keys in one mapping are an error at the second. `<<` merges, explicit keys first.

use super::finding::{Finding, Findings};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
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

/// The document cannot be read on; why has been recorded.
struct Stop;

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
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut composer = Composer {
            parser: Parser::new_from_str_with_options(&text, options),
            values: Vec::new(),
            anchors: HashMap::new(),
            dropped: Vec::new(),
            text: &text,
            file,
            findings,
        };
        let root = composer.stream().unwrap_or(None);
        let (values, dropped) = (composer.values, composer.dropped);
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
        self.secret = hidden.into_iter().map(|id| self.whole(id)).collect();
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

struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    values: Vec<Entry>,
    anchors: HashMap<usize, ValueId>,
    /// The second of two equal keys: the mapping, the key, its value.
    dropped: Vec<(ValueId, Key, ValueId)>,
    text: &'a str,
    file: usize,
    findings: &'a Findings,
}

impl<'a> Composer<'a> {
    /// Reads the stream, which must be of one document.
    fn stream(&mut self) -> Result<Option<ValueId>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    let message = "a second document begins here";
                    let hint = "a node file is one document: put the rest into a file of its own";
                    self.findings.push(Finding::error(self.file, self.bytes(&span), message).hint(hint));
                    return Err(Stop);
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.value(event, &span, None, 0)?),
            }
        }
        if root.is_none() {
            let hint =
                "a node file has at least one of kernel, init, onboot, onshutdown, services, files, volumes";
            self.findings.push(Finding::error(self.file, 0..0, "the file is empty").hint(hint));
            return Err(Stop);
        }
        Ok(root)
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> Stop {
        let start = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let end = self.text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        let message = format!("this is not YAML: {}", error.kind());
        self.findings.push(Finding::error(self.file, start..end, message).hint_option(syntax_hint(error)));
        Stop
    }

    fn value(
        &mut self,
        event: Event<'a>,
        span: &Span,
        up: Option<(ValueId, Step)>,
        depth: usize,
    ) -> Result<ValueId, Stop> {
        let at = self.bytes(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(text, style, tag.as_deref(), &at);
                let id = self.add(value, at, up)?;
                self.define(anchor, id);
                Ok(id)
            }
            Event::SequenceStart(_, anchor, _) => {
                let id = self.add(Value::List(Vec::new()), at, up)?;
                let items = self.items(id, depth + 1)?;
                self.values[id.0 as usize].value = Value::List(items);
                self.define(anchor, id);
                Ok(id)
            }
            Event::MappingStart(_, anchor, _) => {
                let id = self.add(Value::Map(Vec::new()), at, up)?;
                let pairs = self.pairs(id, depth + 1)?;
                if let Some((key, _)) = pairs.first() {
                    self.values[id.0 as usize].at = key.at.clone();
                }
                self.values[id.0 as usize].value = Value::Map(pairs);
                self.define(anchor, id);
                Ok(id)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).copied() {
                Some(target) => self.copy(target, up, depth),
                None => {
                    let message = "an alias stands inside of what it is an alias of";
                    self.findings.push(Finding::error(self.file, at.clone(), message));
                    self.add(Value::Null, at, up)
                }
            },
            _ => self.add(Value::Null, at, up),
        }
    }

    fn items(&mut self, list: ValueId, depth: usize) -> Result<Vec<ValueId>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.value(event, &span, Some((list, Step::Index(items.len()))), depth)?);
        }
    }

    fn pairs(&mut self, map: ValueId, depth: usize) -> Result<Vec<(Key, ValueId)>, Stop> {
        let mut pairs: Vec<(Key, ValueId)> = Vec::new();
        let mut seen: HashMap<String, Range<usize>> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let at = self.bytes(&span);
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.key(event, &span, depth)?;
            let (event, span) = self.next()?;
            let key = Key { name: key, at };
            let value = self.value(event, &span, Some((map, Step::Key(key.clone()))), depth)?;
            if merge {
                merged.push(value);
            } else if let Some(first) = seen.get(&key.name) {
                let message = format!("the key `{}` is written twice", shortened(&key.name));
                let hint = "remove one of the two";
                let finding = Finding::error(self.file, key.at.clone(), message).hint(hint);
                let finding = finding.path(path(&self.values, value));
                self.findings.push(finding.see(self.file, first.start, "the first one"));
                self.dropped.push((map, key, value));
            } else {
                seen.insert(key.name.clone(), key.at.clone());
                pairs.push((key, value));
            }
        }
        for value in merged {
            self.merge(map, value, &mut pairs, &mut seen);
        }
        Ok(pairs)
    }

    /// The text of a key. One that is not a scalar is an error, and stands as an empty text.
    fn key(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<String, Stop> {
        let at = self.bytes(span);
        let id = match event {
            Event::Scalar(text, style, anchor, tag) => {
                if anchor == 0 {
                    return Ok(text.into_owned());
                }
                let value = self.scalar(text.clone(), style, tag.as_deref(), &at);
                let id = self.add(value, at, None)?;
                self.define(anchor, id);
                return Ok(text.into_owned());
            }
            event => self.value(event, span, None, depth)?,
        };
        match &self.values[id.0 as usize].value {
            Value::Text(text) | Value::Number(text) => Ok(text.clone()),
            Value::Int(number) => Ok(number.to_string()),
            Value::Bool(word) => Ok(word.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.findings.push(Finding::error(self.file, at, "a key is a word, not a list or a mapping"));
                Ok(String::new())
            }
        }
    }

    /// `<<`: adds the keys of a mapping, or of each mapping of a list, that are not there yet.
    fn merge(
        &mut self,
        map: ValueId,
        value: ValueId,
        pairs: &mut Vec<(Key, ValueId)>,
        seen: &mut HashMap<String, Range<usize>>,
    ) {
        match self.values[value.0 as usize].value.clone() {
            Value::Map(inner) => {
                for (key, value) in inner {
                    if !seen.contains_key(&key.name) {
                        self.values[value.0 as usize].up = Some((map, Step::Key(key.clone())));
                        seen.insert(key.name.clone(), key.at.clone());
                        pairs.push((key, value));
                    }
                }
            }
            Value::List(items) if self.are_maps(&items) => {
                for item in items {
                    self.merge(map, item, pairs, seen);
                }
            }
            _ => {
                let at = self.values[value.0 as usize].at.clone();
                let finding = Finding::error(self.file, at, "`<<` takes a mapping, or a list of mappings");
                self.findings.push(finding.path(path(&self.values, value)));
            }
        }
    }

    fn are_maps(&self, items: &[ValueId]) -> bool {
        items.iter().all(|item| matches!(self.values[item.0 as usize].value, Value::Map(_)))
    }

    fn copy(&mut self, from: ValueId, up: Option<(ValueId, Step)>, depth: usize) -> Result<ValueId, Stop> {
        let Entry { value, at, .. } = self.values[from.0 as usize].clone();
        if depth > MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} levels, with aliases expanded");
            self.findings.push(Finding::error(self.file, at, message));
            return Err(Stop);
        }
        let id = self.add(Value::Null, at, up)?;
        let value = match value {
            Value::List(items) => {
                let mut copies = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    copies.push(self.copy(item, Some((id, Step::Index(index))), depth + 1)?);
                }
                Value::List(copies)
            }
            Value::Map(pairs) => {
                let mut copies = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let value = self.copy(value, Some((id, Step::Key(key.clone()))), depth + 1)?;
                    copies.push((key, value));
                }
                Value::Map(copies)
            }
            scalar => scalar,
        };
        self.values[id.0 as usize].value = value;
        Ok(id)
    }

    fn add(&mut self, value: Value, at: Range<usize>, up: Option<(ValueId, Step)>) -> Result<ValueId, Stop> {
        if self.values.len() >= MAX_VALUES {
            let message = format!("more than {MAX_VALUES} values, with aliases expanded");
            self.findings.push(Finding::error(self.file, at, message));
            return Err(Stop);
        }
        let id = ValueId(self.values.len() as u32);
        self.values.push(Entry { value, at, up });
        Ok(id)
    }

    fn define(&mut self, anchor: usize, id: ValueId) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
    }

    fn scalar(&self, text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Tag>, at: &Range<usize>) -> Value {
        let text = text.into_owned();
        let wanted = tag.and_then(Tag::core_suffix);
        match (wanted, style) {
            (Some("str"), _) => return Value::Text(text),
            (None, ScalarStyle::Plain) if tag.is_none() => return resolved(text),
            (None, _) if tag.is_none() => return Value::Text(text),
            _ => {}
        }
        let value = resolved(text);
        let fits = matches!(
            (wanted, &value),
            (Some("int"), Value::Int(_))
                | (Some("bool"), Value::Bool(_))
                | (Some("null"), Value::Null)
                | (Some("float"), Value::Int(_) | Value::Number(_))
        );
        if !fits {
            let finding = Finding::error(self.file, at.clone(), "a tag that a node file has no use for");
            self.findings.push(finding.hint("leave the tag (`!..`) out"));
        }
        value
    }

    fn bytes(&self, span: &Span) -> Range<usize> {
        let range = span.byte_range().unwrap_or(0..0);
        let end = range.end.min(self.text.len());
        range.start.min(end)..end
    }
}

/// The core schema of YAML 1.2, section 10.3.2.
fn resolved(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::Text(text);
    }
    let based = |prefix: &str, base: u32| text.strip_prefix(prefix).map(|d| i64::from_str_radix(d, base));
    if let Some(number) = based("0x", 16).or_else(|| based("0o", 8)) {
        return number.map_or(Value::Text(text), Value::Int);
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        // A leading zero means octal to YAML 1.1 and nothing to YAML 1.2: neither is meant.
        let ambiguous = digits.len() > 1 && digits.starts_with('0');
        let number = text.parse().ok().filter(|_| !ambiguous);
        return number.map_or(Value::Number(text), Value::Int);
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let special = [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&digits);
    if special || (float && text.parse::<f64>().is_ok()) { Value::Number(text) } else { Value::Text(text) }
}

fn syntax_hint(error: &ScanError) -> Option<&'static str> {
    use granit_parser::ErrorKind::*;
    match error.kind() {
        TabNotAllowed | TabInBlockIndentation | TabInIndentation => Some("indent with blanks"),
        UnknownAnchor => Some("a text that begins with `*` must be in quotes"),
        UnexpectedCharacter { character: '@' } => Some("a text that begins with `@` must be in quotes"),
        UnexpectedCharacter { .. } => Some("a text that begins with this character must be in quotes"),
        UnclosedQuotedScalar => Some("a quote that is opened here or above is not closed"),
        _ => None,
    }
}
