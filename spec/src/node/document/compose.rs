//! From the events of a YAML parser to the tree of a [`Document`](super::Document).

use super::{Entry, Key, MAX_DEPTH, MAX_VALUES, Step, Value, ValueId, path, shortened};
use crate::node::finding::{Finding, Findings};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The document cannot be read on; why has been recorded.
struct Stop;

/// What was read of a text.
pub(super) struct Composed {
    pub values: Vec<Entry>,
    /// None if the text could not be read to its end.
    pub root: Option<ValueId>,
    /// The second of two equal keys: the mapping, the key, its value.
    pub dropped: Vec<(ValueId, Key, ValueId)>,
}

/// Reads the one document of a text.
pub(super) fn compose(text: &str, file: usize, findings: &Findings) -> Composed {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        values: Vec::new(),
        anchors: HashMap::new(),
        dropped: Vec::new(),
        text,
        file,
        findings,
    };
    let root = composer.stream().unwrap_or(None);
    Composed { values: composer.values, root, dropped: composer.dropped }
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
