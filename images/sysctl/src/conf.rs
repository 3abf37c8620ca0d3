//! One sysctl.d(5) file, from text to entries.
//!
//! ```text
//! # comment            ; comment
//! kernel.panic = 10            dots separate when the first separator is a dot; a `/` is then a literal dot
//! net/ipv4/conf/eth0.5/forwarding = 0    slashes separate when the first separator is a slash; dots are literal
//! -kernel.maybe = 1            `-`: a failure to write is not worth a word
//! net.ipv4.conf.*.rp_filter = 2          glob, see [`crate::glob`]
//! -net.ipv4.conf.lo.rp_filter  no `=`: leave this key out of every glob
//! ```
//!
//! The parser touches no file. A line it cannot use becomes a [`Fault`], and the lines after it still count.

use std::fmt;
use std::rc::Rc;

use thiserror::Error;

use crate::glob;

/// Where an entry was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file as the user would name it.
    pub file: Rc<str>,
    /// Line number, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The path of a setting below `/proc/sys`, as its components; none is empty, `.`, `..` or holds a slash.
///
/// A component may be a glob; [`Key::is_glob`] tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<String>);

impl Key {
    /// Parses a key in either spelling.
    ///
    /// # Errors
    /// Says which component of the key no path below `/proc/sys` can have.
    pub fn parse(text: &str) -> Result<Self, FaultKind> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(FaultKind::SpaceInKey);
        }
        let dotted = match text.find(['.', '/']) {
            Some(at) => text.as_bytes()[at] == b'.',
            None => true,
        };
        let components: Vec<String> = if dotted {
            text.split('.').map(|part| part.replace('/', ".")).collect()
        } else {
            text.split('/').map(str::to_owned).collect()
        };
        match components.iter().find(|part| matches!(part.as_str(), "" | "." | "..")) {
            Some(part) => Err(FaultKind::Component { part: part.clone() }),
            None => Ok(Self(components)),
        }
    }

    /// A key from components already known to be plain names, as a directory listing gives them.
    pub(crate) fn from_names(names: Vec<String>) -> Self {
        Self(names)
    }

    /// The components, outermost first.
    #[must_use]
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// Whether any component is a pattern.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.0.iter().any(|part| glob::is_pattern(part))
    }

    /// Whether this (pattern) key matches `name`, component by component.
    #[must_use]
    pub fn matches(&self, name: &Self) -> bool {
        self.0.len() == name.0.len() && self.0.iter().zip(&name.0).all(|(p, n)| glob::matches(p, n))
    }
}

/// The dotted spelling, in which a literal dot shows as `/`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(&part.replace('.', "/"))?;
        }
        Ok(())
    }
}

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this value; it holds no line end.
    Assign(String),
    /// Keep the key out of the globs.
    Exclude,
}

/// One useful line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub origin: Origin,
    /// What it is about.
    pub key: Key,
    /// What to do.
    pub action: Action,
    /// Written with a leading `-`: a failure is not reported.
    pub lenient: bool,
}

/// A line that says nothing usable; its message completes `FILE:LINE: `.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}: {text}: {kind}")]
pub struct Fault {
    /// Where it stands.
    pub origin: Origin,
    /// The key, or the whole line when it has none.
    pub text: String,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// Neither an assignment nor an exclusion.
    #[error("neither `key = value` nor `-key`")]
    NoAssignment,
    /// Nothing before the `=`.
    #[error("no key before `=`")]
    NoKey,
    /// A blank or control character inside the key.
    #[error("a key holds no blanks")]
    SpaceInKey,
    /// A component that would leave the tree or name nothing.
    #[error("`{part}` is no part of a key")]
    Component {
        /// The offending component.
        part: String,
    },
    /// A control character inside the value.
    #[error("the value holds a control character")]
    ControlInValue,
}

/// Parses the text of one file; `file` is only for messages.
#[must_use]
pub fn parse(file: &str, text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let file: Rc<str> = file.into();
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let origin = Origin { file: file.clone(), line: index + 1 };
        match parse_line(line) {
            Ok((key, action, lenient)) => entries.push(Entry { origin, key, action, lenient }),
            Err((text, kind)) => faults.push(Fault { origin, text: text.to_owned(), kind }),
        }
    }
    (entries, faults)
}

fn parse_line(line: &str) -> Result<(Key, Action, bool), (&str, FaultKind)> {
    let (lenient, rest) = match line.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, line),
    };
    let Some((name, value)) = rest.split_once('=') else {
        if !lenient {
            return Err((line, FaultKind::NoAssignment));
        }
        let key = Key::parse(rest).map_err(|kind| (rest, kind))?;
        return Ok((key, Action::Exclude, true));
    };
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err((line, FaultKind::NoKey));
    }
    let key = Key::parse(name).map_err(|kind| (name, kind))?;
    // A tab separates the numbers of a vector (`net.ipv4.tcp_rmem`).
    if value.contains(|c: char| c.is_control() && c != '\t') {
        return Err((name, FaultKind::ControlInValue));
    }
    Ok((key, Action::Assign(value.to_owned()), lenient))
}

#[cfg(test)]
mod tests;
