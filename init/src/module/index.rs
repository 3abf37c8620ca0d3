//! `modules.dep`, `modules.alias` and `modules.softdep`, as depmod writes them.
//!
//! The texts stay as they were read; beside them are the places of their lines, sorted, so that a look-up reads only the
//! lines of one module, or of one bus, and building the index makes no text.

use super::glob::matches;
use std::cmp::Ordering;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How far `softdep` lines are followed: they may lead in a circle.
const SOFT_DEPTH: u8 = 4;

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {path}")]
pub struct IndexError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A device node that stands for a module which is not loaded until somebody opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Below `/dev`.
    pub path: String,
    /// Of a character device.
    pub major: u32,
    /// Of a character device.
    pub minor: u32,
}

/// A line of `modules.dep`: the module's name in it, and all of it.
#[derive(Clone, Debug)]
struct Dep {
    name: Range<usize>,
    line: Range<usize>,
}

/// A line of `modules.alias`.
#[derive(Clone, Debug)]
struct Alias {
    pattern: Range<usize>,
    name: Range<usize>,
}

/// The indexes of one kernel's modules.
#[derive(Debug, Default)]
pub struct Index {
    dep: String,
    /// Sorted by name.
    deps: Vec<Dep>,
    alias: String,
    /// Sorted by bus, those of one bus as they were written.
    aliases: Vec<Alias>,
    softdep: String,
}

impl Index {
    /// Reads the indexes in a directory; one that is missing is empty.
    ///
    /// # Errors
    /// When one is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Index, IndexError> {
        let text = |name: &str| {
            let path = dir.join(name);
            match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                result => result.map_err(|source| IndexError { path, source }),
            }
        };
        Ok(Index::parse(text("modules.dep")?, text("modules.alias")?, text("modules.softdep")?))
    }

    /// From the files' texts.
    pub fn parse(dep: String, alias: String, softdep: String) -> Index {
        let mut deps: Vec<Dep> = lines(&dep).filter_map(|line| dep_of(&dep, line)).collect();
        deps.sort_by(|a, b| by_name(&dep[a.name.clone()], &dep[b.name.clone()]));
        let mut aliases: Vec<Alias> = lines(&alias).filter_map(|line| alias_of(&alias, line)).collect();
        aliases.sort_by_key(|entry| bus(&alias[entry.pattern.clone()]));
        Index { dep, deps, alias, aliases, softdep }
    }

    /// The names of the modules that serve a modalias, or that the kernel asks for by such a name.
    pub fn matching<'a>(&'a self, modalias: &'a str) -> impl Iterator<Item = &'a str> {
        let pattern = |entry: &Alias| &self.alias[entry.pattern.clone()];
        let wanted = bus(modalias);
        let from = self.aliases.partition_point(|entry| bus(pattern(entry)) < wanted);
        let of_bus = self.aliases[from..].iter().take_while(move |entry| bus(pattern(entry)) == wanted);
        // A pattern may leave the bus open; those have none and come first.
        let open =
            self.aliases.iter().take_while(move |entry| wanted.is_some() && bus(pattern(entry)).is_none());
        open.chain(of_bus)
            .filter(move |entry| matches(pattern(entry), modalias))
            .map(|entry| &self.alias[entry.name.clone()])
    }

    /// The files to load for a module, below the directory, the needed first; none for an unknown name.
    pub fn files(&self, name: &str) -> Vec<String> {
        let mut files = Vec::new();
        self.add(name, &mut files, 0);
        files
    }

    /// The nodes that aliases tell of: `devname:PATH` of a module that also has `char-major-MAJOR-MINOR`.
    pub fn nodes(&self) -> Vec<Node> {
        let entries =
            || self.aliases.iter().map(|a| (&self.alias[a.pattern.clone()], &self.alias[a.name.clone()]));
        let number = |module: &str| {
            entries().filter(|(_, name)| *name == module).find_map(|(pattern, _)| {
                let (major, minor) = pattern.strip_prefix("char-major-")?.split_once('-')?;
                Some((major.parse().ok()?, minor.parse().ok()?))
            })
        };
        let node = |(pattern, module): (&str, &str)| {
            let path = pattern.strip_prefix("devname:")?;
            let (major, minor) = number(module)?;
            let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            inside.then(|| Node { path: path.to_owned(), major, minor })
        };
        entries().filter_map(node).collect()
    }

    fn line(&self, name: &str) -> Option<&str> {
        let found = self.deps.binary_search_by(|entry| by_name(&self.dep[entry.name.clone()], name)).ok()?;
        Some(&self.dep[self.deps[found].line.clone()])
    }

    fn add(&self, name: &str, files: &mut Vec<String>, depth: u8) {
        let Some((file, needed)) = self.line(name).and_then(|line| line.split_once(':')) else { return };
        // What a module had better find loaded, and what is of use to it later.
        let (before, after) = if depth < SOFT_DEPTH { self.soft(name) } else { Default::default() };
        for name in before {
            self.add_soft(name, files, depth);
        }
        for path in needed.split_whitespace().rev().chain([file]) {
            if !files.iter().any(|known| known == path) {
                files.push(path.to_owned());
            }
        }
        for name in after {
            self.add_soft(name, files, depth);
        }
    }

    /// A soft dependency is a module's name, or an alias (`crypto-sha256`).
    fn add_soft(&self, name: &str, files: &mut Vec<String>, depth: u8) {
        if self.line(name).is_some() {
            return self.add(name, files, depth + 1);
        }
        for name in self.matching(name) {
            self.add(name, files, depth + 1);
        }
    }

    fn soft(&self, module: &str) -> (Vec<&str>, Vec<&str>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for line in self.softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep")
                || words.next().is_none_or(|name| by_name(name, module).is_ne())
            {
                continue;
            }
            let mut list = None;
            for word in words {
                match (word, &mut list) {
                    ("pre:", _) => list = Some(false),
                    ("post:", _) => list = Some(true),
                    (name, Some(false)) => before.push(name),
                    (name, Some(true)) => after.push(name),
                    _ => {}
                }
            }
        }
        (before, after)
    }
}

/// The places of a text's lines, without their ends.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let range = at..at + line.trim_end().len();
        at += line.len();
        range
    })
}

/// `kernel/net/ipv6/ip6_tunnel.ko.xz: ..` is the line of `ip6_tunnel`.
fn dep_of(text: &str, line: Range<usize>) -> Option<Dep> {
    let path = text[line.clone()].split(':').next()?;
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    let name = path[file..].find(".ko")?;
    Some(Dep { name: line.start + file..line.start + file + name, line })
}

/// `alias PATTERN NAME`.
fn alias_of(text: &str, line: Range<usize>) -> Option<Alias> {
    let rest = text[line.clone()].strip_prefix("alias ")?;
    let space = rest.rfind(' ')?;
    let start = line.end - rest.len();
    Some(Alias { pattern: start..start + space, name: start + space + 1..line.end })
}

/// What stands before the first colon; none where that is not said, or left open.
fn bus(alias: &str) -> Option<&str> {
    let (bus, _) = alias.split_once(':')?;
    (!bus.contains(['*', '?', '['])).then_some(bus)
}

/// Names of modules are the same whether written with `-` or `_`.
fn by_name(a: &str, b: &str) -> Ordering {
    let same = |byte| if byte == b'-' { b'_' } else { byte };
    a.bytes().map(same).cmp(b.bytes().map(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/a.ko: kernel/b.ko kernel/c-d.ko\nkernel/b.ko: kernel/c-d.ko\nkernel/c-d.ko:\nkernel/e.ko.xz:\n\
            kernel/v.ko:\nkernel/w.ko:\n"
                .into(),
            "# comment\nalias pci:v1* a\nalias pci:* b\nalias virtio:d00000002v* c_d\nalias fs-e e\n\
            alias *:d00000002vFF b\nalias crypto-a a\nalias devname:net/tun tun\nalias char-major-10-200 tun\n\
            alias devname:../x y\nalias char-major-1-1 y\nalias devname:z z\nalias char-major-21-* z\n"
                .into(),
            "softdep e pre: crypto-a post: b\nsoftdep v post: w\nsoftdep w pre: v\n".into(),
        )
    }

    #[test]
    fn needed_files_come_first() {
        assert_eq!(index().files("a"), ["kernel/c-d.ko", "kernel/b.ko", "kernel/a.ko"]);
        assert_eq!(index().files("c_d"), ["kernel/c-d.ko"]);
        assert!(index().files("nope").is_empty());
    }

    #[test]
    fn soft_dependencies_may_be_aliases_and_lead_in_a_circle() {
        assert_eq!(index().files("e"), ["kernel/c-d.ko", "kernel/b.ko", "kernel/a.ko", "kernel/e.ko.xz"]);
        assert_eq!(index().files("v"), ["kernel/v.ko", "kernel/w.ko"]);
    }

    #[test]
    fn all_modules_that_match_are_named_in_the_order_of_the_file() {
        assert_eq!(index().matching("pci:v1d2").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(index().matching("virtio:d00000002vFF").collect::<Vec<_>>(), ["b", "c_d"]);
        assert_eq!(index().matching("fs-e").collect::<Vec<_>>(), ["e"]);
        assert_eq!(index().matching("usb:x").count(), 0);
    }

    #[test]
    fn nodes_have_a_name_and_a_number_and_stay_below_dev() {
        assert_eq!(index().nodes(), [Node { path: "net/tun".into(), major: 10, minor: 200 }]);
    }
}
