//! The file tree of a root, as a value.
//!
//! Layers yield [`Change`]s, a builder folds them into a [`Tree`], writers of archives and file systems walk it.
//! Contents are a handle `C`: the tree knows how long a file is, never what is in it.
//!
//! ```text
//!   Change ──apply──▶ Tree ──walk──▶ (path, inode id, inode), directories before what they hold, names in byte order
//! ```
//!
//! Inodes live in an arena and names point at them, so hard links are two names with one [`InodeId`].
//! Symbolic links in the *parents* of a path are followed inside the tree, as a kernel would with this tree as its
//! root; a link that leads out ends at the root, and a loop is an error. The last component is never followed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

mod path;
#[cfg(test)]
mod tests;

pub use path::{PathError, TreePath};

/// Extended attributes by full name (`security.capability`), in byte order.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What every inode has, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with set-id and sticky, `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change, in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Meta {
    /// Owned by root, without extended attributes.
    pub fn root_owned(mode: u16, mtime: i64) -> Self {
        Meta { mode: mode & 0o7777, uid: 0, gid: 0, mtime, xattrs: Xattrs::new() }
    }
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind<C> {
    /// A directory; what it holds is reached through the tree.
    Dir,
    /// A regular file.
    File {
        /// Bytes.
        len: u64,
        /// Where they are to be had.
        content: C,
    },
    /// A symbolic link and its target, as written.
    Symlink(Box<[u8]>),
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// One step of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<C> {
    /// Where.
    pub path: TreePath,
    /// What happens there.
    pub action: Action<C>,
}

/// What a [`Change`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action<C> {
    /// Puts a new inode there; a directory over a directory changes only its metadata.
    Put(Meta, Kind<C>),
    /// Gives an existing file this further name.
    Link(TreePath),
    /// Takes away what is there, with all below it (a whiteout).
    Remove,
    /// Takes away all below it that earlier layers brought (an opaque whiteout).
    Opaque,
}

/// An inode's place in its tree's arena; stable while the tree lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(u32);

impl InodeId {
    /// A number below [`Tree::arena_len`], to index side tables with.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One inode.
#[derive(Clone, Debug)]
pub struct Inode<C> {
    /// Mode, owner, times, attributes.
    pub meta: Meta,
    kind: Kind<C>,
    children: BTreeMap<Box<[u8]>, InodeId>,
    links: u32,
}

impl<C> Inode<C> {
    /// What it is.
    pub fn kind(&self) -> &Kind<C> {
        &self.kind
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir)
    }

    /// Names that point at it (for a directory always 1: the subdirectories' `..` are not counted).
    pub fn links(&self) -> u32 {
        self.links
    }

    /// What a directory holds, in byte order of the names; nothing for other kinds.
    pub fn children(&self) -> impl ExactSizeIterator<Item = (&[u8], InodeId)> {
        self.children.iter().map(|(name, id)| (name.as_ref(), *id))
    }
}

/// Why a change cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// A parent is not a directory.
    #[error("put {path}: {parent} is not a directory")]
    NotADirectory {
        /// The path of the change.
        path: TreePath,
        /// The parent in question.
        parent: TreePath,
    },
    /// Too many symbolic links on the way.
    #[error("put {path}: more than 40 symbolic links on the way")]
    LinkLoop {
        /// The path of the change.
        path: TreePath,
    },
    /// A hard link's target is missing or is a directory.
    #[error("hard link {path}: its target {target} is {what}")]
    LinkTarget {
        /// The new name.
        path: TreePath,
        /// What it was to point at.
        target: TreePath,
        /// What is wrong with that.
        what: &'static str,
    },
    /// The root itself cannot be anything but a directory.
    #[error("the root can only be a directory")]
    Root,
    /// More than four billion inodes.
    #[error("more inodes than a tree can hold")]
    TooMany,
}

/// A file tree. See the module's text.
#[derive(Clone, Debug)]
pub struct Tree<C> {
    inodes: Vec<Inode<C>>,
}

const ROOT: InodeId = InodeId(0);
const MAX_LINKS: u32 = 40;

impl<C> Tree<C> {
    /// An empty root directory. Its time is given to parents that no layer names.
    pub fn new(root: Meta) -> Self {
        Tree { inodes: vec![Inode { meta: root, kind: Kind::Dir, children: BTreeMap::new(), links: 1 }] }
    }

    /// The root directory.
    pub fn root(&self) -> InodeId {
        ROOT
    }

    /// Looks an inode up by its id.
    pub fn inode(&self, id: InodeId) -> &Inode<C> {
        &self.inodes[id.index()]
    }

    /// One past the highest [`InodeId::index`]; some of them may no longer be reachable.
    pub fn arena_len(&self) -> usize {
        self.inodes.len()
    }

    /// What is at a path, without following a symbolic link in its last component.
    pub fn get(&self, path: &TreePath) -> Option<&Inode<C>> {
        self.find(path).map(|id| self.inode(id))
    }

    /// The id of what is at a path, without following a symbolic link in its last component.
    pub fn find(&self, path: &TreePath) -> Option<InodeId> {
        let Some(name) = path.file_name() else { return Some(ROOT) };
        let parent = self.resolve_dir(&path.parent()).ok().flatten()?;
        self.inode(parent).children.get(name).copied()
    }

    /// What is at a path, symbolic links followed to the end.
    pub fn follow(&self, path: &TreePath) -> Option<&Inode<C>> {
        self.real_path(path).and_then(|real| self.get(&real))
    }

    /// The path without symbolic links that a path leads to, if there is something.
    pub fn real_path(&self, path: &TreePath) -> Option<TreePath> {
        self.walk_path(path).ok().flatten().map(|(real, _)| real)
    }

    /// Changes the metadata of what is at a path; false if there is nothing.
    pub fn set_meta(&mut self, path: &TreePath, change: impl FnOnce(&mut Meta)) -> bool {
        match self.find(path) {
            Some(id) => {
                change(&mut self.inodes[id.index()].meta);
                true
            }
            None => false,
        }
    }

    /// Does what a layer says.
    ///
    /// # Errors
    /// See [`TreeError`]; the tree is then as it was, but for parents made on the way.
    pub fn apply(&mut self, change: Change<C>) -> Result<(), TreeError> {
        match change.action {
            Action::Put(meta, kind) => self.put(&change.path, meta, kind),
            Action::Link(target) => self.link(&change.path, &target),
            Action::Remove => {
                self.remove(&change.path);
                Ok(())
            }
            Action::Opaque => {
                self.clear(&change.path);
                Ok(())
            }
        }
    }

    /// Puts an inode at a path, making missing parents (0755, root's). A directory over a directory keeps what it
    /// holds; anything else takes the place of what was there.
    ///
    /// # Errors
    /// A parent that is not a directory, a loop of links, or another kind than a directory for the root.
    pub fn put(&mut self, path: &TreePath, meta: Meta, kind: Kind<C>) -> Result<(), TreeError> {
        let Some(name) = path.file_name() else {
            if !matches!(kind, Kind::Dir) {
                return Err(TreeError::Root);
            }
            self.inodes[0].meta = meta;
            return Ok(());
        };
        let parent = self.make_dirs(path)?;
        if let Some(old) = self.inode(parent).children.get(name).copied() {
            if self.inode(old).is_dir() && matches!(kind, Kind::Dir) {
                self.inodes[old.index()].meta = meta;
                return Ok(());
            }
            self.forget(parent, name);
        }
        let id = self.push(Inode { meta, kind, children: BTreeMap::new(), links: 1 })?;
        self.inodes[parent.index()].children.insert(name.into(), id);
        Ok(())
    }

    /// Makes a path a further name of the inode at `target`.
    ///
    /// # Errors
    /// As [`Tree::put`], and when the target is missing or a directory.
    pub fn link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), TreeError> {
        let wrong = |what| TreeError::LinkTarget { path: path.clone(), target: target.clone(), what };
        let id = self.find(target).ok_or_else(|| wrong("missing"))?;
        if self.inode(id).is_dir() {
            return Err(wrong("a directory"));
        }
        let Some(name) = path.file_name() else { return Err(TreeError::Root) };
        let parent = self.make_dirs(path)?;
        if self.inode(parent).children.get(name) == Some(&id) {
            return Ok(());
        }
        self.forget(parent, name);
        self.inodes[id.index()].links += 1;
        self.inodes[parent.index()].children.insert(name.into(), id);
        Ok(())
    }

    /// Takes away what is at a path, with all below it; true if there was something. The root is only emptied.
    pub fn remove(&mut self, path: &TreePath) -> bool {
        let Some(name) = path.file_name() else {
            return self.clear(path);
        };
        match self.resolve_dir(&path.parent()) {
            Ok(Some(parent)) => self.forget(parent, name),
            _ => false,
        }
    }

    /// Takes away all below a directory; true if there was something.
    pub fn clear(&mut self, path: &TreePath) -> bool {
        let Some(dir) = self.find(path) else { return false };
        let names: Vec<_> = self.inode(dir).children.keys().cloned().collect();
        for name in &names {
            self.forget(dir, name);
        }
        !names.is_empty()
    }

    /// Lays another tree over the directory at `at`, which is made if it is missing. What `other` says of a path wins;
    /// directories are joined, through symbolic links of this tree too (`lib` -> `usr/lib` stays a link).
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn merge(&mut self, at: &TreePath, other: Tree<C>) -> Result<(), TreeError> {
        let order: Vec<(TreePath, InodeId)> = other.walk().map(|(path, id, _)| (path, id)).collect();
        let mut inodes: Vec<Option<Inode<C>>> = other.inodes.into_iter().map(Some).collect();
        let mut placed: BTreeMap<InodeId, TreePath> = BTreeMap::new();
        let mut homeless = Vec::new();
        for (path, id) in order {
            let path = at.join(&path);
            let Some(inode) = inodes[id.index()].take() else {
                if let Some(first) = placed.get(&id).cloned() {
                    self.link(&path, &first)?;
                }
                continue;
            };
            if inode.links > 1 {
                placed.insert(id, path.clone());
            }
            let through = inode.is_dir() && self.get(&path).is_some_and(|old| !old.is_dir());
            if through && self.resolve_dir(&path).ok().flatten().is_some() {
                continue;
            }
            // A link in the place of a directory (`lib` -> `usr/lib`): what that held goes where the link leads.
            if matches!(inode.kind, Kind::Symlink(_))
                && let Some(old) = self.find(&path)
            {
                let children = std::mem::take(&mut self.inodes[old.index()].children);
                homeless.push((path.clone(), children));
            }
            self.put(&path, inode.meta, inode.kind)?;
        }
        for (path, children) in homeless {
            match (self.resolve_dir(&path).ok().flatten(), children.keys().next()) {
                (_, None) => {}
                (Some(dir), _) => self.adopt(dir, children),
                (None, Some(first)) => {
                    return Err(TreeError::NotADirectory { path: path.child(first), parent: path });
                }
            }
        }
        Ok(())
    }

    /// Gives a directory what another held; what it has already stays.
    fn adopt(&mut self, dir: InodeId, children: BTreeMap<Box<[u8]>, InodeId>) {
        let mut waiting = vec![(dir, children)];
        while let Some((dir, children)) = waiting.pop() {
            for (name, id) in children {
                match self.inode(dir).children.get(&name).copied() {
                    None => {
                        self.inodes[dir.index()].children.insert(name, id);
                    }
                    Some(kept) if self.inode(kept).is_dir() && self.inode(id).is_dir() => {
                        waiting.push((kept, std::mem::take(&mut self.inodes[id.index()].children)));
                    }
                    Some(_) => {
                        let inode = &mut self.inodes[id.index()];
                        inode.links = inode.links.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// Everything in the tree, each directory before what it holds, names in byte order. A file with several names
    /// comes once for each, with the same id.
    pub fn walk(&self) -> Walk<'_, C> {
        Walk { tree: self, stack: vec![(TreePath::root(), ROOT)] }
    }

    /// The same tree over other handles; each inode's content is mapped once.
    pub fn map<D>(self, mut f: impl FnMut(C) -> D) -> Tree<D> {
        let inodes = self.inodes.into_iter().map(|inode| Inode {
            meta: inode.meta,
            kind: match inode.kind {
                Kind::Dir => Kind::Dir,
                Kind::File { len, content } => Kind::File { len, content: f(content) },
                Kind::Symlink(target) => Kind::Symlink(target),
                Kind::Char(device) => Kind::Char(device),
                Kind::Block(device) => Kind::Block(device),
                Kind::Fifo => Kind::Fifo,
                Kind::Socket => Kind::Socket,
            },
            children: inode.children,
            links: inode.links,
        });
        Tree { inodes: inodes.collect() }
    }

    fn push(&mut self, inode: Inode<C>) -> Result<InodeId, TreeError> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| TreeError::TooMany)?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    /// Takes a name away; the inodes below stay in the arena, out of reach, with their link counts lowered.
    fn forget(&mut self, parent: InodeId, name: &[u8]) -> bool {
        let Some(id) = self.inodes[parent.index()].children.remove(name) else { return false };
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            let inode = &mut self.inodes[id.index()];
            inode.links = inode.links.saturating_sub(1);
            gone.extend(std::mem::take(&mut inode.children).into_values());
        }
        true
    }

    fn make_dirs(&mut self, path: &TreePath) -> Result<InodeId, TreeError> {
        let parent = path.parent();
        let mtime = self.inodes[0].meta.mtime;
        let mut real = TreePath::root();
        let mut at = ROOT;
        for (depth, name) in parent.components().enumerate() {
            let next = real.child(name);
            match self.walk_path(&next).map_err(|_| TreeError::LinkLoop { path: path.clone() })? {
                Some((found, id)) if self.inode(id).is_dir() => (real, at) = (found, id),
                Some(_) => {
                    let parent = TreePath::from_components(parent.components().take(depth + 1));
                    return Err(TreeError::NotADirectory { path: path.clone(), parent });
                }
                // A dangling link in the middle is replaced by a real directory.
                None => {
                    self.forget(at, name);
                    let inode = Inode {
                        meta: Meta::root_owned(0o755, mtime),
                        kind: Kind::Dir,
                        children: BTreeMap::new(),
                        links: 1,
                    };
                    let id = self.push(inode)?;
                    self.inodes[at.index()].children.insert(name.into(), id);
                    (real, at) = (next, id);
                }
            }
        }
        Ok(at)
    }

    fn resolve_dir(&self, path: &TreePath) -> Result<Option<InodeId>, TooManyLinks> {
        Ok(self.walk_path(path)?.map(|(_, id)| id).filter(|id| self.inode(*id).is_dir()))
    }

    /// Follows a path to the end, links and all: the path without links, and the inode there.
    fn walk_path(&self, path: &TreePath) -> Result<Option<(TreePath, InodeId)>, TooManyLinks> {
        let mut pending: Vec<Box<[u8]>> = path.components().rev().map(Into::into).collect();
        let mut trail: Vec<(Box<[u8]>, InodeId)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                trail.pop();
                continue;
            }
            let here = trail.last().map_or(ROOT, |(_, id)| *id);
            let Some(id) = self.inode(here).children.get(&name).copied() else { return Ok(None) };
            if let Kind::Symlink(target) = &self.inode(id).kind {
                links += 1;
                if links > MAX_LINKS {
                    return Err(TooManyLinks);
                }
                if target.first() == Some(&b'/') {
                    trail.clear();
                }
                let parts = target.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
                pending.extend(parts.rev().map(Box::<[u8]>::from));
            } else {
                trail.push((name, id));
            }
        }
        let id = trail.last().map_or(ROOT, |(_, id)| *id);
        Ok(Some((TreePath::from_components(trail.iter().map(|(name, _)| name.as_ref())), id)))
    }
}

struct TooManyLinks;

/// See [`Tree::walk`].
pub struct Walk<'a, C> {
    tree: &'a Tree<C>,
    stack: Vec<(TreePath, InodeId)>,
}

impl<'a, C> Iterator for Walk<'a, C> {
    type Item = (TreePath, InodeId, &'a Inode<C>);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, id) = self.stack.pop()?;
        let inode = self.tree.inode(id);
        self.stack.extend(inode.children.iter().rev().map(|(name, id)| (path.child(name), *id)));
        Some((path, id, inode))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}
