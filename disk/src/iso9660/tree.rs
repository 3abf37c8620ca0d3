//! The directories that a list of entries makes, in the order of the path table, and their records.

use super::identifier::identifier;
use super::susp::{self, CE_LEN};
use super::{BLOCK, Content, Date, Entry, LayoutError, PathFault};
use std::collections::{BTreeMap, BTreeSet};

/// The deepest directory that ECMA-119 allows (section 6.8.2.1), the root being 1.
const MAX_DEPTH: usize = 8;
/// A path table has 16 bits for the number of a directory.
const MAX_DIRECTORIES: usize = 65_535;
/// Bytes of a directory record before its identifier.
pub(super) const RECORD_LEN: usize = 33;
const MAX_RECORD_LEN: usize = 254;
pub(super) const FLAG_DIRECTORY: u8 = 2;

/// All directories; the first is the root.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) directories: Vec<Directory>,
    /// What did not fit in records: areas that each lie within a block.
    pub(super) continuation: Vec<u8>,
}

/// A directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// Its identifier in the path table; the root's is a zero byte.
    pub(super) identifier: Vec<u8>,
    /// Index of the directory above; the root's is its own.
    pub(super) parent: usize,
    /// Its records in order, `.` and `..` first.
    pub(super) records: Vec<Record>,
}

/// A directory record, but for addresses.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) identifier: Vec<u8>,
    pub(super) target: Target,
    /// Rock Ridge fields in the record.
    pub(super) inline: Vec<u8>,
    /// Where the rest of them is in the continuation, and how long it is.
    pub(super) continued: Option<(usize, usize)>,
}

/// What a record points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The directory of this index.
    Directory(usize),
    /// The content of the entry of this index.
    Entry(usize),
}

impl Record {
    /// Bytes of the record, an even number.
    pub(super) fn len(&self) -> usize {
        let padding = (self.identifier.len() + 1) % 2;
        let ce = if self.continued.is_some() { CE_LEN } else { 0 };
        (RECORD_LEN + self.identifier.len() + padding + self.inline.len() + ce).next_multiple_of(2)
    }
}

impl Directory {
    /// Blocks of the directory; no record crosses from one into the next.
    pub(super) fn blocks(&self) -> u32 {
        let mut at = 0;
        for record in &self.records {
            at = place(at, record.len()) + record.len();
        }
        at.div_ceil(BLOCK as usize) as u32
    }
}

/// Where a record of `len` bytes goes if there is room from `at` on.
pub(super) fn place(at: usize, len: usize) -> usize {
    let block = BLOCK as usize;
    if at % block + len > block { at.next_multiple_of(block) } else { at }
}

/// Owner and mode of a node.
#[derive(Clone, Copy)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// A directory while paths are collected.
struct Node {
    owner: Owner,
    children: BTreeMap<String, Child>,
}

#[derive(Clone, Copy)]
enum Child {
    Node(usize),
    Entry(usize),
}

/// A child with its identifier.
struct Sorted<'a> {
    identifier: Vec<u8>,
    name: &'a str,
    child: Child,
}

/// A directory that no entry names.
const IMPLICIT: Owner = Owner { mode: 0o040_555, uid: 0, gid: 0 };

impl Tree {
    pub(super) fn new(entries: &[Entry], date: Date) -> Result<Self, LayoutError> {
        let mut nodes = vec![Node { owner: IMPLICIT, children: BTreeMap::new() }];
        for (n, entry) in entries.iter().enumerate() {
            insert(&mut nodes, n, entry)?;
        }
        let mut tree = Self { directories: Vec::with_capacity(nodes.len()), continuation: Vec::new() };
        // Breadth first with sorted identifiers is the order of the path table (ECMA-119 section 6.9.1).
        let mut queue = vec![(0, Directory { identifier: vec![0], parent: 0, records: Vec::new() })];
        let mut done = 0;
        while done < queue.len() {
            let index = done;
            let (node, parent) = (queue[index].0, queue[index].1.parent);
            let children = sorted_children(&nodes[node])?;
            let own = owner_fields(&nodes, node, date);
            let above = owner_fields(&nodes, queue[parent].0, date);
            let root = if index == 0 { vec![susp::sp(), susp::er()] } else { Vec::new() };
            let mut records = vec![
                tree.record(vec![0], Target::Directory(index), [root, own].concat()),
                tree.record(vec![1], Target::Directory(parent), above),
            ];
            for Sorted { identifier, name, child } in children {
                let (target, mut fields) = match child {
                    Child::Node(n) => {
                        let (identifier, records) = (identifier.clone(), Vec::new());
                        queue.push((n, Directory { identifier, parent: index, records }));
                        (Target::Directory(queue.len() - 1), owner_fields(&nodes, n, date))
                    }
                    Child::Entry(n) => (Target::Entry(n), entry_fields(&entries[n], date)),
                };
                fields.splice(0..0, susp::nm(name));
                records.push(tree.record(identifier, target, fields));
            }
            queue[index].1.records = records;
            done += 1;
        }
        tree.directories = queue.into_iter().map(|(_, directory)| directory).collect();
        Ok(tree)
    }

    fn record(&mut self, identifier: Vec<u8>, target: Target, fields: Vec<Vec<u8>>) -> Record {
        let padding = (identifier.len() + 1) % 2;
        let room = MAX_RECORD_LEN - RECORD_LEN - identifier.len() - padding;
        let (inline, rest) = susp::split(fields, room);
        let continued = (!rest.is_empty()).then(|| {
            let at = place(self.continuation.len(), rest.len());
            self.continuation.resize(at, 0);
            self.continuation.extend_from_slice(&rest);
            (at, rest.len())
        });
        Record { identifier, target, inline, continued }
    }
}

fn insert(nodes: &mut Vec<Node>, n: usize, entry: &Entry) -> Result<(), LayoutError> {
    let path = &entry.path;
    let fault = |fault| LayoutError::Path { path: path.clone(), fault };
    let mut above = 0;
    let mut components = path.split('/').enumerate().peekable();
    while let Some((depth, component)) = components.next() {
        check(component).map_err(fault)?;
        let is_last = components.peek().is_none();
        let is_directory = !is_last || matches!(entry.content, Content::Directory);
        match (nodes[above].children.get(component), is_directory) {
            (Some(Child::Node(existing)), true) => above = *existing,
            (Some(_), _) => return Err(LayoutError::Duplicate { path: path.clone() }),
            (None, true) => {
                if depth + 2 > MAX_DEPTH {
                    return Err(fault(PathFault::TooDeep));
                }
                if nodes.len() == MAX_DIRECTORIES {
                    return Err(LayoutError::TooManyDirectories);
                }
                nodes.push(Node { owner: IMPLICIT, children: BTreeMap::new() });
                let new = nodes.len() - 1;
                nodes[above].children.insert(component.to_owned(), Child::Node(new));
                above = new;
            }
            (None, false) => {
                nodes[above].children.insert(component.to_owned(), Child::Entry(n));
            }
        }
    }
    if matches!(entry.content, Content::Directory) {
        nodes[above].owner = owner(entry);
    }
    Ok(())
}

fn check(component: &str) -> Result<(), PathFault> {
    match component {
        "" | "." | ".." => Err(PathFault::NotAName),
        name if name.len() > 255 => Err(PathFault::TooLong),
        name if name.contains('\0') => Err(PathFault::Nul),
        _ => Ok(()),
    }
}

/// Children with their identifiers, in the order of those.
fn sorted_children(node: &Node) -> Result<Vec<Sorted<'_>>, LayoutError> {
    let mut taken = BTreeSet::new();
    let mut children = Vec::with_capacity(node.children.len());
    for (name, child) in &node.children {
        let identifier = identifier(name, matches!(child, Child::Node(_)), &mut taken)
            .ok_or_else(|| LayoutError::Identifiers { name: name.clone() })?;
        children.push(Sorted { identifier, name, child: *child });
    }
    children.sort_by(|a, b| a.identifier.cmp(&b.identifier));
    Ok(children)
}

fn owner(entry: &Entry) -> Owner {
    let kind = match entry.content {
        Content::Directory => 0o040_000,
        Content::Symlink(_) => 0o120_000,
        _ => 0o100_000,
    };
    Owner { mode: kind | u32::from(entry.mode & 0o7777), uid: entry.uid, gid: entry.gid }
}

fn owner_fields(nodes: &[Node], node: usize, date: Date) -> Vec<Vec<u8>> {
    let Node { owner, children } = &nodes[node];
    let below = children.values().filter(|c| matches!(c, Child::Node(_))).count() as u32;
    vec![susp::px(owner.mode, 2 + below, owner.uid, owner.gid), susp::tf(date)]
}

fn entry_fields(entry: &Entry, date: Date) -> Vec<Vec<u8>> {
    let owner = owner(entry);
    let mut fields = vec![susp::px(owner.mode, 1, owner.uid, owner.gid), susp::tf(date)];
    if let Content::Symlink(target) = &entry.content {
        fields.extend(susp::sl(target));
    }
    fields
}
