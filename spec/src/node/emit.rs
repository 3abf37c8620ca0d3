//! A node written as a node file, as `files[].metadata` wants it.
//!
//! The same node gives the same bytes, and parsing them gives the same node: keys are in a fixed order, image names in
//! full, what is as it would be anyway is left out.

use super::Node;
use serde_json::Value;

/// Keys that come first, in this order; all others follow by name.
const FIRST: [&str; 11] = [
    "kernel",
    "init",
    "volumes",
    "onboot",
    "onshutdown",
    "services",
    "files",
    "name",
    "image",
    "path",
    "destination",
];

impl Node {
    /// The node as JSON, in the shape of a node file, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Keys are texts and numbers are integers, so there is nothing that JSON could not say.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The node as YAML, in the shape of a node file.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        match serde_json::to_value(self).unwrap_or_default() {
            Value::Object(map) if map.is_empty() => text.push_str("{}\n"),
            value => block(&mut text, &value, 0, false),
        }
        text
    }
}

/// Writes a value that is not empty on lines of its own; the first without its indent if it follows a `- `.
fn block(text: &mut String, value: &Value, indent: usize, mut begun: bool) {
    let mut pad = |text: &mut String| {
        if !std::mem::take(&mut begun) {
            text.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| {
                (FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()), *key)
            });
            for key in keys {
                pad(text);
                text.push_str(&scalar(key));
                text.push(':');
                inner(text, &map[key.as_str()], indent + 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                pad(text);
                text.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        text.push(' ');
                        block(text, item, indent + 2, true);
                    }
                    item => inner(text, item, indent + 2),
                }
            }
        }
        scalar => inner(text, scalar, indent),
    }
}

/// Writes what follows a `:` or a `-`.
fn inner(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if map.is_empty() => text.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => text.push_str(" []\n"),
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            block(text, value, indent, false);
        }
        Value::String(word) => {
            text.push(' ');
            text.push_str(&scalar(word));
            text.push('\n');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            text.push(' ');
            text.push_str(&value.to_string());
            text.push('\n');
        }
    }
}

/// A text as it is where no reader could take it for something else, else in quotes.
fn scalar(word: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let begins = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.,@=+-".contains(&b));
    let colons = word.split(':').all(|part| !part.is_empty()) && word.bytes().any(|b| b == b':');
    let plain =
        plain || (colons && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.,@=+-:".contains(&b)));
    if begins && plain && !WORDS.contains(&word.to_ascii_lowercase().as_str()) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
