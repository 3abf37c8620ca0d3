//! One pass over an archive: documents into memory, everything else into the store.

use std::collections::BTreeMap;
use std::io::Read;

use kit_spec::tree::{Action, Kind, TreePath};

use super::{ArchiveError, Limits, options, taking};
use crate::digest;
use crate::layer::Layer;
use crate::manifest::MAX_BYTES;
use crate::store::{Store, Stored};

/// Documents that say what the rest is.
const DOCUMENTS: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];
/// How many links lead to a file at most.
const MAX_LINKS: usize = 8;

/// What an archive held.
#[derive(Default)]
pub(super) struct Intake {
    entries: BTreeMap<String, Held>,
}

enum Held {
    Document(Vec<u8>),
    File(Stored),
    /// The name that it leads to.
    Link(String),
    Nothing,
}

impl Intake {
    /// Reads an archive to its end.
    pub(super) fn read(store: &Store, archive: impl Read, limits: &Limits) -> Result<Intake, ArchiveError> {
        let wrong = |source| ArchiveError::Archive { source };
        let mut layer = Layer::with_options(archive, None, options(limits)).map_err(wrong)?;
        let mut intake = Intake::default();
        while let Some(mut entry) = layer.next().map_err(wrong)? {
            let name = text(&entry.change.path)?;
            let refuse = |what| ArchiveError::Entry { name: name.clone(), what };
            let held = match &entry.change.action {
                Action::Put(_, Kind::Dir) => continue,
                Action::Put(_, Kind::File { len, .. }) => take(store, &name, *len, &mut entry.content)?,
                Action::Put(_, Kind::Symlink(target)) => {
                    let target = std::str::from_utf8(target).ok().and_then(|target| beside(&name, target));
                    Held::Link(target.ok_or_else(|| refuse("a link out of the archive"))?)
                }
                Action::Link(target) => Held::Link(text(target)?),
                _ => return Err(refuse("neither a file nor a directory nor a link")),
            };
            if intake.entries.insert(name.clone(), held).is_some() {
                return Err(refuse("there twice"));
            }
        }
        layer.finish().map_err(wrong)?;
        Ok(intake)
    }

    /// A document's bytes.
    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        match self.entries.get(name) {
            Some(Held::Document(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A file by its name or that of a link to it.
    pub(super) fn file(&self, name: &str) -> Option<&Stored> {
        let mut name = name;
        for _ in 0..=MAX_LINKS {
            match self.entries.get(name)? {
                Held::File(stored) => return Some(stored),
                Held::Link(target) => name = target,
                Held::Document(_) | Held::Nothing => return None,
            }
        }
        None
    }
}

/// Takes one file.
fn take(store: &Store, name: &str, len: u64, content: &mut impl Read) -> Result<Held, ArchiveError> {
    if DOCUMENTS.contains(&name) {
        if len > MAX_BYTES {
            return Err(ArchiveError::TooLarge { name: name.to_owned(), size: len });
        }
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Content { name: name.to_owned(), source })?;
        return Ok(Held::Document(bytes));
    }
    if let Some(path) = name.strip_prefix("blobs/") {
        let wrong = |source| ArchiveError::Name { name: name.to_owned(), source };
        let digest = digest::parse(&path.replacen('/', ":", 1)).map_err(wrong)?;
        let stored = store.put_stream(content, &digest, Some(len)).map_err(|error| taking(name, error))?;
        return Ok(Held::File(stored));
    }
    // What docker wrote for its first version, beside each layer.
    let is_legacy = name == "repositories" || name.ends_with("/VERSION") || name.ends_with("/json");
    if is_legacy {
        return Ok(Held::Nothing);
    }
    let stored = store.put_unnamed(content, len).map_err(|error| taking(name, error))?;
    Ok(Held::File(stored))
}

/// An entry's name, without a leading slash.
fn text(path: &TreePath) -> Result<String, ArchiveError> {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(name) => Ok(name.trim_matches('/').to_owned()),
        Err(_) => {
            let name = String::from_utf8_lossy(path.as_bytes()).into_owned();
            Err(ArchiveError::Entry { name, what: "of a name that is not UTF-8" })
        }
    }
}

/// The name that a link's target means beside the link; none if it leads out.
fn beside(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_name_in_the_archive_or_nowhere() {
        assert_eq!(beside("a/layer.tar", "../b/layer.tar").as_deref(), Some("b/layer.tar"));
        assert_eq!(beside("a", "./b//c").as_deref(), Some("b/c"));
        assert_eq!(beside("a/b", "../../etc/passwd"), None);
        assert_eq!(beside("a/b", "/etc/passwd"), None);
    }
}
