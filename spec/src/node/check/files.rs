//! `files`: what each is, and where it stands.

use super::{Checker, NONE, each};
use crate::node::raw::{RawFile, RawNode};
use crate::node::read::{Field, Place};
use crate::node::settings::Id;
use crate::node::{File, FileKind, MetadataFormat};
use std::collections::BTreeMap;

impl Checker<'_> {
    pub(super) fn file(&self, at: Place, raw: &RawFile) -> Option<File> {
        let path = self.required(at, "path", &raw.path).and_then(|(place, path)| self.file_path(place, path));
        let kind = self.file_kind(at, raw);
        let mode = raw.mode.given().filter(|(_, mode)| !mode.is_empty());
        let mode = mode.map(|(place, mode)| self.mode(place, mode));
        let (uid, gid) = (self.id(&raw.uid).unwrap_or(Id::ROOT), self.id(&raw.gid).unwrap_or(Id::ROOT));
        if let (true, false, Some(place)) =
            (raw.optional.get() == Some(&true), is_there(&raw.source), raw.optional.place())
        {
            self.warning_at_key(place, "`optional` counts with `source` only", "remove it");
        }
        let kind = kind?;
        let default = if kind == FileKind::DIRECTORY { 0o700 } else { 0o600 };
        Some(File { path: path?, kind, mode: mode.unwrap_or(Some(default))?, uid, gid })
    }

    /// A path in the root, without its leading `/`.
    fn file_path(&self, place: Place, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            self.error(place, format!("the path `{path}` has `..` in it"), "write the path without it");
            return None;
        }
        if parts.is_empty() {
            self.error(place, format!("the path `{path}` is the root itself"), NONE);
            return None;
        }
        Some(parts.join("/"))
    }

    /// Exactly one of the keys that say what it is. An empty `symlink`, `source` or `metadata` is as none, and so is
    /// `directory: false`; empty contents are contents.
    fn file_kind(&self, at: Place, raw: &RawFile) -> Option<FileKind> {
        let directory = raw.directory.get() == Some(&true);
        let kinds: Vec<Place> = [
            raw.directory.place().filter(|_| directory),
            raw.symlink.place().filter(|_| is_there(&raw.symlink)),
            raw.contents.place(),
            raw.source.place().filter(|_| is_there(&raw.source)),
            raw.metadata.place().filter(|_| is_there(&raw.metadata)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let metadata = self.one_of(
            &raw.metadata,
            &[("yaml", MetadataFormat::Yaml), ("json", MetadataFormat::Json)],
            "a language of metadata",
        );
        match kinds[..] {
            [_] => {}
            [first, second, ..] => {
                let message = format!("`{}` and `{}` exclude each other", self.key(first), self.key(second));
                let hint = "keep one of `directory`, `symlink`, `contents`, `source` and `metadata`";
                self.error_at_key(second, message, hint);
                return None;
            }
            [] if matches!(raw.directory, Field::Bad(_)) => return None,
            [] => {
                let hint = "add one of `directory: true`, `symlink`, `contents`, `source` and `metadata`";
                self.error(at, "there is nothing that says what the file is", hint);
                return None;
            }
        }
        if directory {
            return Some(FileKind::DIRECTORY);
        }
        let given = |field: &Field<String>| field.get().filter(|text| !text.is_empty()).cloned();
        if let Some(symlink) = given(&raw.symlink) {
            return Some(FileKind::Symlink { symlink });
        }
        if let Some(contents) = raw.contents.get().cloned() {
            return Some(FileKind::Contents { contents });
        }
        if let Some(source) = given(&raw.source) {
            return Some(FileKind::Source { source, optional: raw.optional.get() == Some(&true) });
        }
        metadata.map(|metadata| FileKind::Metadata { metadata })
    }

    /// Warns of a file that a later one replaces, and of a file below another that is not a directory.
    pub(super) fn files_that_meet(&self, raws: &[RawNode]) {
        let mut seen: BTreeMap<String, (Place, bool)> = BTreeMap::new();
        for (place, path, raw) in raws
            .iter()
            .flat_map(|raw| each(&raw.files))
            .filter_map(|(_, raw)| raw.path.given().map(|p| (p.0, p.1, raw)))
        {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            let directory = raw.directory.get() == Some(&true);
            let above = (1..parts.len()).map(|n| parts[..n].join("/"));
            for above in above.filter(|above| seen.get(above).is_some_and(|(_, directory)| !directory)) {
                let link = format!("`{path}` is below `{above}`, which is not a directory");
                self.warning(place, link, "a symbolic link is not followed while files are added");
            }
            let first = seen.insert(parts.join("/"), (place, directory));
            if let Some((first, false)) = first.filter(|_| !directory) {
                let start = self.docs[first.file].at(first.value).start;
                let finding =
                    self.finding(place, format!("an earlier file at `{path}` is replaced by this one"), NONE);
                self.findings.push(finding.into_warning().see(first.file, start, "the earlier one"));
            }
        }
    }
}

fn is_there(field: &Field<String>) -> bool {
    match field {
        Field::Absent => false,
        Field::Bad(_) => true,
        Field::Given(_, text) => !text.is_empty(),
    }
}
