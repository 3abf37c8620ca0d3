//! What is decided before a byte is written: inode numbers, and which contents are one.

use super::{Source, WriteError, path_of};
use crate::content::ContentError;
use crate::squashfs::Settings;
use crate::squashfs::block::Digest;
use crate::squashfs::feed::{at_end, fill};
use crate::squashfs::pack::Pack;
use kit_spec::tree::{InodeId, Kind, Tree};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read};

/// Bytes hashed at a time.
const PIECE: u64 = 1 << 17;

/// Inode numbers, from 1, in walk order.
pub(super) struct Numbering {
    /// Each inode once, in the order of the numbers.
    pub(super) order: Vec<InodeId>,
    /// The directories among them with their parents' numbers, in the same order.
    pub(super) dirs: Vec<(InodeId, u32)>,
    /// By [`InodeId::index`]; 0 for inodes out of reach.
    numbers: Vec<u32>,
}

impl Numbering {
    pub(super) fn of(&self, id: InodeId) -> u32 {
        self.numbers[id.index()]
    }

    pub(super) fn count(&self) -> u32 {
        self.order.len() as u32
    }
}

/// Numbers a tree's inodes.
pub(super) fn number<C>(tree: &Tree<C>) -> Result<Numbering, WriteError> {
    let mut numbering = Numbering { order: Vec::new(), dirs: Vec::new(), numbers: vec![0; tree.arena_len()] };
    let mut stack = vec![(tree.root(), 0)];
    let mut children = Vec::new();
    while let Some((id, parent)) = stack.pop() {
        if numbering.of(id) != 0 {
            continue;
        }
        numbering.order.push(id);
        // One number more is needed, for the root's parent.
        let number = u32::try_from(numbering.order.len()).ok().filter(|number| *number < u32::MAX);
        let limit = u64::from(u32::MAX) - 1;
        let number =
            number.ok_or_else(|| WriteError::TooMany { path: path_of(tree, id), what: "inodes", limit })?;
        numbering.numbers[id.index()] = number;
        if tree.inode(id).is_dir() {
            numbering.dirs.push((id, parent));
            children.extend(tree.inode(id).children().map(|(_, child)| (child, number)));
            stack.extend(children.drain(..).rev());
        }
    }
    // What mksquashfs gives the root for a parent; nothing follows it.
    numbering.dirs[0].1 = numbering.count() + 1;
    Ok(numbering)
}

/// The contents of a tree's regular files.
pub(super) struct Contents<'a> {
    /// The different ones, in the order in which files refer to them.
    pub(super) unique: Vec<Unique>,
    /// In the order in which files refer to them.
    pub(super) packs: Vec<&'a Pack>,
    /// By inode number less one; meaningless for what is no regular file.
    of_inode: Vec<u32>,
}

/// A content that is stored once.
pub(super) struct Unique {
    pub(super) digest: Digest,
    pub(super) len: u64,
    pub(super) origin: Origin,
}

/// Where a content is taken from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Packed {
        /// In [`Contents::packs`].
        pack: u32,
        /// In the pack's index.
        content: u32,
    },
    /// The source of this inode.
    Fresh(InodeId),
}

impl Contents<'_> {
    /// The content of the inode with that number, in [`Contents::unique`].
    pub(super) fn of(&self, number: u32) -> usize {
        self.of_inode[number as usize - 1] as usize
    }
}

/// Asks for every regular file's source and joins equal contents. A content that is both in a pack and not is taken
/// from the pack.
pub(super) fn contents<'a, C>(
    tree: &'a Tree<C>,
    numbering: &Numbering,
    source: &mut impl FnMut(&'a C) -> io::Result<Source<'a>>,
    settings: Settings,
) -> Result<Contents<'a>, WriteError> {
    let of_inode = vec![u32::MAX; numbering.order.len()];
    let mut joined = Joined {
        contents: Contents { unique: Vec::new(), packs: Vec::new(), of_inode },
        known: HashMap::new(),
        opened: HashMap::new(),
    };
    // For each pack what is known of its contents, so that a layer used many times is cheap.
    let mut memo: Vec<Vec<u32>> = Vec::new();
    for (id, at) in numbering.order.iter().zip(0..) {
        let Kind::File { len, content } = tree.inode(*id).kind() else { continue };
        let path = || path_of(tree, *id);
        let unique = match source(content).map_err(|source| WriteError::Source { path: path(), source })? {
            Source::Packed { pack, file } => {
                let number = joined.pack(pack, settings)?;
                let index = pack.index();
                memo.resize(joined.contents.packs.len(), Vec::new());
                let memo = &mut memo[number as usize];
                memo.resize(index.contents().len(), u32::MAX);
                let content =
                    pack.content(file).map_err(|source| WriteError::Lookup { path: path(), source })?;
                let entry = &index.contents()[content as usize];
                if entry.len != *len {
                    let (path, pack) = (path(), pack.path().to_owned());
                    return Err(WriteError::Length { path, pack, expected: *len, found: entry.len });
                }
                let known = &mut memo[content as usize];
                if *known == u32::MAX {
                    *known = joined.join(entry.digest, *len, Origin::Packed { pack: number, content });
                }
                *known
            }
            Source::Reader(mut reader) => {
                let digest = digest(&mut reader, *len);
                let digest = digest.map_err(|source| WriteError::Content { path: path(), source })?;
                joined.join(digest, *len, Origin::Fresh(*id))
            }
        };
        let at: usize = at;
        joined.contents.of_inode[at] = unique;
    }
    Ok(joined.contents)
}

struct Joined<'a> {
    contents: Contents<'a>,
    known: HashMap<(Digest, u64), u32>,
    /// The numbers of packs by [`Pack::id`].
    opened: HashMap<usize, u32>,
}

impl<'a> Joined<'a> {
    /// The pack's number, given at its first use. Whether a layer's pack was opened once or twice must not show, so
    /// equal packs are one.
    fn pack(&mut self, pack: &'a Pack, settings: Settings) -> Result<u32, WriteError> {
        if let Some(number) = self.opened.get(&pack.id()) {
            return Ok(*number);
        }
        if !pack.index().made_with(settings) {
            let (found, expected) = (pack.index().key(), settings.key());
            return Err(WriteError::Settings { pack: pack.path().to_owned(), found, expected });
        }
        let packs = &mut self.contents.packs;
        let number = packs.iter().position(|known| known.index() == pack.index()).unwrap_or(packs.len());
        if number == packs.len() {
            packs.push(pack);
        }
        self.opened.insert(pack.id(), number as u32);
        Ok(number as u32)
    }

    fn join(&mut self, digest: Digest, len: u64, origin: Origin) -> u32 {
        let unique = &mut self.contents.unique;
        match self.known.entry((digest, len)) {
            Entry::Vacant(unknown) => {
                unique.push(Unique { digest, len, origin });
                *unknown.insert(unique.len() as u32 - 1)
            }
            Entry::Occupied(known) => {
                let known = *known.get();
                let first = &mut unique[known as usize].origin;
                if matches!((&first, &origin), (Origin::Fresh(_), Origin::Packed { .. })) {
                    *first = origin;
                }
                known
            }
        }
    }
}

/// The digest of a content.
fn digest(content: &mut dyn Read, len: u64) -> Result<Digest, ContentError> {
    let mut buf = vec![0; len.min(PIECE) as usize];
    let mut done = 0;
    let mut hasher = blake3::Hasher::new();
    while done < len {
        buf.truncate((len - done).min(PIECE) as usize);
        fill(content, &mut buf, done, len)?;
        done += buf.len() as u64;
        hasher.update(&buf);
    }
    at_end(content, len)?;
    Ok(*hasher.finalize().as_bytes())
}
