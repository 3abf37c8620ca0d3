//! What is in a pack, and its form on disk.
//!
//! ```text
//! "kitpack\n" | revision, zstd u32 | block_log, level u8 | files, contents, fragments, blocks u32
//! file:     content u32                                         one for each file added, in order
//! content:  digest 32 | len u64 | kind, a, b u32                kind 0 empty, 1 first block, 2 fragment and offset
//! fragment: block u32
//! block:    size word, uncompressed len u32 | checksum 16 | digest 32           in the order they are stored
//! checksum 16 of all before
//! ```
//!
//! Little-endian. Blocks lie back to back, so positions are sums and are not written. Everything is checked when it is
//! read: after [`PackIndex::from_bytes`] every number in an index is one that can be used.

use super::FileRef;
use crate::squashfs::block::{self, Checksum, Digest, UNCOMPRESSED, stored_len};
use crate::squashfs::{REVISION, Settings};

const MAGIC: &[u8; 8] = b"kitpack\n";
const HEADER_LEN: usize = 8 + 8 + 2 + 16;
const CONTENT_LEN: usize = 32 + 8 + 12;
const BLOCK_LEN: usize = 8 + 16 + 32;
const SUM_LEN: usize = 16;

/// Why some bytes are not the index of a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// They do not begin as an index does.
    #[error("not the index of a pack")]
    Magic,
    /// Written by another revision of this module.
    #[error("index of a pack of revision {found}, {REVISION} is read here")]
    Revision {
        /// The revision found.
        found: u32,
    },
    /// Longer or shorter than its own counts say.
    #[error("index of a pack is {found} bytes long, its header says {expected}")]
    Length {
        /// Bytes found.
        found: u64,
        /// Bytes that the header tells of.
        expected: u64,
    },
    /// Not what was written.
    #[error("index of a pack does not match its checksum")]
    Checksum,
    /// A number that leads nowhere.
    #[error("index of a pack is inconsistent: {what} {number}")]
    Inconsistent {
        /// What is wrong.
        what: &'static str,
        /// The number of the entry.
        number: u32,
    },
}

/// What is in a pack. Equal packs have equal indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackIndex {
    settings: Settings,
    zstd: u32,
    files: Vec<u32>,
    contents: Vec<Content>,
    /// The block of each fragment block.
    fragments: Vec<u32>,
    blocks: Vec<Block>,
    /// Where each block begins, and at the end where the last one ends.
    positions: Vec<u64>,
}

/// A content, which several files may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct Content {
    pub(in crate::squashfs) digest: Digest,
    pub(in crate::squashfs) len: u64,
    pub(in crate::squashfs) place: Place,
}

/// Where a content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::squashfs) enum Place {
    /// It has no bytes.
    Empty,
    /// In blocks from this one on.
    Blocks(u32),
    /// In a fragment block.
    Fragment { fragment: u32, offset: u32 },
}

/// A stored block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct Block {
    /// As in an inode's block list: stored bytes, and [`UNCOMPRESSED`]; 0 for zeros that are not stored.
    pub(in crate::squashfs) word: u32,
    /// Bytes uncompressed.
    pub(in crate::squashfs) raw_len: u32,
    /// Of the stored bytes.
    pub(in crate::squashfs) checksum: Checksum,
    /// Of the uncompressed bytes; of one of several blocks of a file its [`block::subtree`].
    pub(in crate::squashfs) digest: Digest,
}

impl Block {
    pub(super) fn matches(&self, stored: &[u8]) -> bool {
        self.word == 0 && stored.is_empty() || block::checksum(stored) == self.checksum
    }
}

impl PackIndex {
    /// Puts an index together; `Inconsistent` if the parts do not fit.
    pub(super) fn new(
        settings: Settings,
        zstd: u32,
        files: Vec<u32>,
        contents: Vec<Content>,
        fragments: Vec<u32>,
        blocks: Vec<Block>,
    ) -> Result<Self, IndexError> {
        let ends = blocks.iter().scan(0, |end, block| {
            *end += u64::from(stored_len(block.word));
            Some(*end)
        });
        let positions = std::iter::once(0).chain(ends).collect();
        let index = PackIndex { settings, zstd, files, contents, fragments, blocks, positions };
        index.check()?;
        Ok(index)
    }

    /// Files in the pack; [`FileRef`]s are below this number.
    pub fn file_count(&self) -> u32 {
        self.files.len() as u32
    }

    /// A file's length in bytes, if the pack has the file.
    pub fn len_of(&self, file: FileRef) -> Option<u64> {
        Some(self.contents[self.content_of(file)? as usize].len)
    }

    /// The BLAKE3 of a file's content, if the pack has the file.
    pub fn digest_of(&self, file: FileRef) -> Option<[u8; 32]> {
        Some(self.contents[self.content_of(file)? as usize].digest)
    }

    /// Bytes of the pack itself.
    pub fn stored_len(&self) -> u64 {
        self.positions.last().copied().unwrap_or(0)
    }

    /// Bytes of the different contents in the pack, uncompressed.
    pub fn unique_len(&self) -> u64 {
        self.contents.iter().map(|content| content.len).sum()
    }

    /// The [`Settings::key`] under which the pack was made.
    pub fn key(&self) -> String {
        self.settings.key_with(self.zstd)
    }

    pub(in crate::squashfs) fn made_with(&self, settings: Settings) -> bool {
        self.settings == settings && self.zstd == block::zstd_version()
    }

    pub(in crate::squashfs) fn settings(&self) -> Settings {
        self.settings
    }

    pub(in crate::squashfs) fn content_of(&self, file: FileRef) -> Option<u32> {
        self.files.get(file.ordinal() as usize).copied()
    }

    pub(in crate::squashfs) fn contents(&self) -> &[Content] {
        &self.contents
    }

    pub(in crate::squashfs) fn fragments(&self) -> &[u32] {
        &self.fragments
    }

    pub(in crate::squashfs) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Where a block begins; for the number of blocks, where the last one ends.
    pub(in crate::squashfs) fn position(&self, block: u32) -> u64 {
        self.positions[block as usize]
    }

    /// The index as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            HEADER_LEN
                + 4 * (self.files.len() + self.fragments.len())
                + CONTENT_LEN * self.contents.len()
                + BLOCK_LEN * self.blocks.len()
                + SUM_LEN,
        );
        out.extend_from_slice(MAGIC);
        put(&mut out, [REVISION, self.zstd]);
        out.extend_from_slice(&[self.settings.block_log, self.settings.level]);
        let counts = [self.files.len(), self.contents.len(), self.fragments.len(), self.blocks.len()];
        put(&mut out, counts.map(|count| count as u32));
        put(&mut out, self.files.iter().copied());
        for content in &self.contents {
            out.extend_from_slice(&content.digest);
            out.extend_from_slice(&content.len.to_le_bytes());
            put(
                &mut out,
                match content.place {
                    Place::Empty => [0, 0, 0],
                    Place::Blocks(first) => [1, first, 0],
                    Place::Fragment { fragment, offset } => [2, fragment, offset],
                },
            );
        }
        put(&mut out, self.fragments.iter().copied());
        for block in &self.blocks {
            put(&mut out, [block.word, block.raw_len]);
            out.extend_from_slice(&block.checksum);
            out.extend_from_slice(&block.digest);
        }
        let sum = block::checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads what [`PackIndex::to_bytes`] wrote.
    ///
    /// # Errors
    /// See [`IndexError`]. Any bytes can be given.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(IndexError::Magic)?;
        let short = |expected| IndexError::Length { found: bytes.len() as u64, expected };
        let header = (HEADER_LEN + SUM_LEN) as u64;
        let [revision, zstd] = take_words(&mut rest).ok_or(short(header))?;
        if revision != REVISION {
            return Err(IndexError::Revision { found: revision });
        }
        let [block_log, level] = take(&mut rest).ok_or(short(header))?;
        let counts: [u32; 4] = take_words(&mut rest).ok_or(short(header))?;
        let [files, contents, fragments, blocks] = counts.map(u64::from);
        let expected =
            header + 4 * (files + fragments) + CONTENT_LEN as u64 * contents + BLOCK_LEN as u64 * blocks;
        if expected != bytes.len() as u64 {
            return Err(short(expected));
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM_LEN);
        if block::checksum(body) != sum {
            return Err(IndexError::Checksum);
        }
        let settings = 1u32
            .checked_shl(u32::from(block_log))
            .and_then(|size| Settings::new(size, level).ok())
            .ok_or(IndexError::Inconsistent { what: "block size or level", number: 0 })?;
        let torn = || short(expected);
        let files = (0..files).map(|_| take_word(&mut rest)).collect::<Option<_>>().ok_or_else(torn)?;
        let contents =
            (0..counts[1]).map(|number| take_content(&mut rest, number)).collect::<Result<_, _>>()?;
        let fragments =
            (0..fragments).map(|_| take_word(&mut rest)).collect::<Option<_>>().ok_or_else(torn)?;
        let blocks = (0..blocks).map(|_| take_block(&mut rest)).collect::<Option<_>>().ok_or_else(torn)?;
        Self::new(settings, zstd, files, contents, fragments, blocks)
    }

    /// Every number leads somewhere, and every length fits.
    fn check(&self) -> Result<(), IndexError> {
        let wrong = |what, number: usize| IndexError::Inconsistent { what, number: number as u32 };
        let size = self.settings.block_size();
        for (number, block) in self.blocks.iter().enumerate() {
            let stored = stored_len(block.word);
            let fits = match block.word & UNCOMPRESSED {
                0 => stored < block.raw_len,
                _ => stored == block.raw_len,
            };
            if !fits || block.raw_len > size {
                return Err(wrong("block", number));
            }
        }
        for (number, block) in self.fragments.iter().enumerate() {
            if self.blocks.get(*block as usize).is_none_or(|block| block.word == 0) {
                return Err(wrong("fragment", number));
            }
        }
        for (number, content) in self.contents.iter().enumerate() {
            if !self.content_fits(content) {
                return Err(wrong("content", number));
            }
        }
        for (number, content) in self.files.iter().enumerate() {
            if *content as usize >= self.contents.len() {
                return Err(wrong("file", number));
            }
        }
        Ok(())
    }

    fn content_fits(&self, content: &Content) -> bool {
        let size = u64::from(self.settings.block_size());
        match content.place {
            Place::Empty => content.len == 0,
            Place::Fragment { fragment, offset } => {
                let block = self.fragments.get(fragment as usize).map(|block| &self.blocks[*block as usize]);
                let end = u64::from(offset).checked_add(content.len);
                (1..size).contains(&content.len)
                    && block.zip(end).is_some_and(|(block, end)| end <= u64::from(block.raw_len))
            }
            Place::Blocks(first) => {
                let end = u64::from(first).saturating_add(content.len.div_ceil(size));
                if content.len < size || end > self.blocks.len() as u64 {
                    return false;
                }
                let run = &self.blocks[first as usize..end as usize];
                let tail = content.len - (run.len() as u64 - 1) * size;
                run.split_last().is_some_and(|(last, full)| {
                    full.iter().all(|block| u64::from(block.raw_len) == size)
                        && u64::from(last.raw_len) == tail
                })
            }
        }
    }
}

fn put(out: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn take_word(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

fn take_words<const N: usize>(rest: &mut &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    for word in &mut words {
        *word = take_word(rest)?;
    }
    Some(words)
}

fn take_content(rest: &mut &[u8], number: u32) -> Result<Content, IndexError> {
    let wrong = IndexError::Inconsistent { what: "content", number };
    let fields = || Some((take(rest)?, u64::from_le_bytes(take(rest)?), take_words(rest)?));
    let (digest, len, place) = { fields }().ok_or(wrong.clone())?;
    let place = match place {
        [0, 0, 0] => Place::Empty,
        [1, first, 0] => Place::Blocks(first),
        [2, fragment, offset] => Place::Fragment { fragment, offset },
        _ => return Err(wrong),
    };
    Ok(Content { digest, len, place })
}

fn take_block(rest: &mut &[u8]) -> Option<Block> {
    let [word, raw_len] = take_words(rest)?;
    Some(Block { word, raw_len, checksum: take(rest)?, digest: take(rest)? })
}
