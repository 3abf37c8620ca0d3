//! The directories that a list of paths makes, with every name's alias.

use super::name::{self, Short};
use super::{Content, Entry, LayoutError, MAX_FILE_LEN};
use std::collections::{BTreeMap, BTreeSet};

/// A directory has at most so many entries of 32 bytes (2 MiB).
const MAX_ENTRIES: u64 = 65_536;

/// All directories; the first is the root.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    directories: Vec<Directory>,
}

/// A directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    /// Index of the directory above; the root's is its own.
    pub(super) parent: usize,
    /// Names in the order in which their paths came.
    pub(super) names: Vec<Name>,
    /// Entries of 32 bytes, with `.` and `..` or the label.
    entries: u64,
}

/// A name in a directory.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) long: String,
    pub(super) short: Short,
    pub(super) target: Target,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The directory of this index.
    Directory(usize),
    /// The content of the entry of this index.
    File(usize),
}

impl Tree {
    pub(super) fn new(entries: &[Entry], with_label: bool) -> Result<Self, LayoutError> {
        let mut tree = Self { directories: vec![Directory::default()] };
        // Names as folded, by directory: what makes a path the same as another.
        let mut known: BTreeMap<(usize, String), Target> = BTreeMap::new();
        for (n, entry) in entries.iter().enumerate() {
            tree.add(n, entry, &mut known)?;
        }
        for (n, directory) in tree.directories.iter_mut().enumerate() {
            let own = if n > 0 { 2 } else { u64::from(with_label) };
            directory.assign_aliases(own)?;
        }
        Ok(tree)
    }

    /// Index and number of entries of each directory.
    pub(super) fn directories(&self) -> impl Iterator<Item = (usize, u64)> {
        self.directories.iter().enumerate().map(|(n, d)| (n, d.entries))
    }

    pub(super) fn directory(&self, n: usize) -> &Directory {
        &self.directories[n]
    }

    fn add(
        &mut self,
        n: usize,
        entry: &Entry,
        known: &mut BTreeMap<(usize, String), Target>,
    ) -> Result<(), LayoutError> {
        let path = &entry.path;
        if let Content::File(len @ MAX_FILE_LEN..) = entry.content
            && len > MAX_FILE_LEN
        {
            return Err(LayoutError::TooLarge { path: path.clone(), len });
        }
        let mut above = 0;
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            name::check(component).map_err(|fault| LayoutError::Name { path: path.clone(), fault })?;
            let is_directory = components.peek().is_some() || entry.content == Content::Directory;
            let key = (above, name::fold(component));
            match (known.get(&key), is_directory) {
                (Some(Target::Directory(existing)), true) => above = *existing,
                (Some(_), _) => return Err(LayoutError::Duplicate { path: path.clone() }),
                (None, is_directory) => {
                    let target = if is_directory {
                        self.directories.push(Directory { parent: above, ..Directory::default() });
                        Target::Directory(self.directories.len() - 1)
                    } else {
                        Target::File(n)
                    };
                    known.insert(key, target);
                    let (long, short) = (component.to_owned(), [0; 11]);
                    self.directories[above].names.push(Name { long, short, target });
                    if let Target::Directory(new) = target {
                        above = new;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Directory {
    /// Gives every name its alias, and counts the entries after `own` ones that are not names.
    fn assign_aliases(&mut self, own: u64) -> Result<(), LayoutError> {
        // Names that differ have different plain forms, since those are the folded names.
        let mut taken: BTreeSet<Short> =
            self.names.iter().filter_map(|name| name::plain_short(&name.long)).collect();
        self.entries = own;
        for name in &mut self.names {
            let full = || LayoutError::DirectoryFull { path: name.long.clone() };
            name.short = match name::plain_short(&name.long) {
                Some(short) => short,
                None => name::alias(&name.long, &mut taken).ok_or_else(full)?,
            };
            self.entries += name::entries(&name.long, &name.short) as u64;
            if self.entries > MAX_ENTRIES {
                return Err(full());
            }
        }
        Ok(())
    }
}
