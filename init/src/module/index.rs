//! `modules.dep`, `modules.alias` and `modules.softdep`, as depmod writes them.

use super::glob::matches;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// The indexes of one kernel's modules.
#[derive(Debug, Default)]
pub struct Index {
    dep: String,
    /// Module name -> its line of `dep`.
    lines: BTreeMap<String, (usize, usize)>,
    alias: String,
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
        let mut lines = BTreeMap::new();
        let mut at = 0;
        for line in dep.split_inclusive('\n') {
            if let Some(name) = line.split(':').next().and_then(name_of) {
                lines.insert(name, (at, at + line.len()));
            }
            at += line.len();
        }
        Index { dep, lines, alias, softdep }
    }

    /// The names of the modules that serve a modalias.
    pub fn matching<'a>(&'a self, modalias: &'a str) -> impl Iterator<Item = &'a str> {
        self.alias.lines().filter_map(move |line| {
            let (pattern, name) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
            matches(pattern, modalias).then_some(name)
        })
    }

    /// The files to load for a module, below the directory, the needed first; none for an unknown name.
    pub fn files(&self, name: &str) -> Vec<String> {
        let mut files = Vec::new();
        self.add(name, &mut files, 0);
        files
    }

    fn add(&self, name: &str, files: &mut Vec<String>, depth: u8) {
        let Some((from, to)) = self.lines.get(&name.replace('-', "_")) else { return };
        let line = self.dep[*from..*to].trim_end();
        let Some((file, needed)) = line.split_once(':') else { return };
        // What a module had better find loaded, one step far: these lists may lead in a circle.
        if depth < 4 {
            for before in self.before(name) {
                self.add(&before, files, depth + 1);
            }
        }
        for path in needed.split_whitespace().rev().chain([file]) {
            if !files.iter().any(|known| known == path) {
                files.push(path.to_owned());
            }
        }
    }

    fn before(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        for line in self.softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") || words.next() != Some(name) {
                continue;
            }
            let mut pre = false;
            for word in words {
                match word {
                    "pre:" => pre = true,
                    "post:" => pre = false,
                    name if pre => names.push(name.replace('-', "_")),
                    _ => {}
                }
            }
        }
        names
    }
}

/// The module's name in a path: `kernel/net/ipv6/ip6_tunnel.ko.xz` is `ip6_tunnel`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (stem, _) = file.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(
            "kernel/a.ko: kernel/b.ko kernel/c-d.ko\nkernel/b.ko: kernel/c-d.ko\nkernel/c-d.ko:\nkernel/e.ko.xz:\n".into(),
            "# comment\nalias pci:v1* a\nalias pci:* b\nalias virtio:d00000002v* c_d\n".into(),
            "softdep e pre: a post: b\n".into(),
        )
    }

    #[test]
    fn needed_files_come_first() {
        assert_eq!(index().files("a"), ["kernel/c-d.ko", "kernel/b.ko", "kernel/a.ko"]);
        assert_eq!(index().files("e"), ["kernel/c-d.ko", "kernel/b.ko", "kernel/a.ko", "kernel/e.ko.xz"]);
        assert!(index().files("nope").is_empty());
    }

    #[test]
    fn all_modules_that_match_are_named() {
        assert_eq!(index().matching("pci:v1d2").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(index().matching("usb:x").count(), 0);
    }
}
