//! The data area: what packs hold is copied, the rest is compressed.

use super::output::Output;
use super::plan::{Contents, Origin, Unique};
use super::{LIVE, Options, Source, WriteError, path_of};
use crate::content::ContentError;
use crate::squashfs::block::{self, Compressor, stored_len};
use crate::squashfs::feed::{at_end, fill};
use crate::squashfs::ordered::{Ordered, WorkerGone};
use crate::squashfs::pack::{Pack, Place};
use kit_spec::tree::{Kind, Tree};
use std::collections::VecDeque;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;

/// Blocks of a pack that lie together are copied in pieces of about this many bytes.
const COPY: u64 = 1 << 20;

/// Where the contents are in the image.
pub(super) struct Data {
    /// By number of the unique content.
    pub(super) placed: Vec<Placed>,
    /// Where each fragment block begins, and its size word.
    pub(super) fragments: Vec<(u64, u32)>,
    /// Size words of the runs that were compressed here.
    words: Vec<u32>,
    block_size: u32,
    /// Bytes copied out of packs.
    pub(super) copied: u64,
    /// Bytes compressed.
    pub(super) compressed: u64,
}

/// Where a content is.
#[derive(Clone, Debug)]
pub(super) enum Placed {
    /// It has no bytes.
    Empty,
    /// In consecutive blocks from byte `start` of the image on.
    Run { start: u64, words: Words },
    /// In a fragment block.
    Fragment { number: u32, offset: u32 },
}

/// Where a run's size words are.
#[derive(Clone, Debug)]
pub(super) enum Words {
    /// With these blocks of a pack.
    Pack { pack: u32, blocks: Range<u32> },
    /// In [`Data::words`].
    Fresh(Range<usize>),
}

impl Data {
    /// The size words of a run.
    pub(super) fn words(&self, contents: &Contents<'_>, words: &Words, mut each: impl FnMut(u32)) {
        match words {
            Words::Pack { pack, blocks } => {
                let all = contents.packs[*pack as usize].index().blocks();
                all[blocks.start as usize..blocks.end as usize].iter().for_each(|block| each(block.word));
            }
            Words::Fresh(range) => self.words[range.clone()].iter().for_each(|word| each(*word)),
        }
    }

    /// Bytes of a run's content, `len` in all, that are zeros and not stored.
    pub(super) fn sparse_len(&self, contents: &Contents<'_>, words: &Words, len: u64) -> u64 {
        let (mut left, mut sparse) = (len, 0);
        self.words(contents, words, |word| {
            let block = left.min(u64::from(self.block_size));
            left -= block;
            sparse += if word == 0 { block } else { 0 };
        });
        sparse
    }
}

/// Writes all contents where `out` stands.
pub(super) fn write<'a, C, W: Write + Seek>(
    tree: &'a Tree<C>,
    contents: &Contents<'a>,
    source: &mut impl FnMut(&'a C) -> io::Result<Source<'a>>,
    out: &mut Output<'_, W>,
    options: &Options,
) -> Result<Data, WriteError> {
    let compressors =
        (0..options.threads.max(1)).map(|_| Compressor::new(options.settings)).collect::<Result<_, _>>();
    let pool = Ordered::new(compressors.map_err(WriteError::Compress)?, work);
    let data = Data {
        placed: vec![Placed::Empty; contents.unique.len()],
        fragments: Vec::new(),
        words: Vec::new(),
        block_size: options.settings.block_size(),
        copied: 0,
        compressed: 0,
    };
    let mut writer = Writer {
        out,
        pool: pool.map_err(|WorkerGone| WriteError::Workers)?,
        events: VecDeque::new(),
        spare: Vec::new(),
        data,
        filling: Vec::new(),
        filling_number: 0,
        block_size: options.settings.block_size() as usize,
    };
    for small in writer.copy_packs(contents)? {
        let raw = contents.packs[small.pack as usize].fragment(small.fragment).map_err(WriteError::Pack)?;
        let start = small.offset as usize;
        let end = start + contents.unique[small.unique].len as usize;
        writer.add_small(small.unique, &raw[start..end])?;
    }
    for (number, unique) in contents.unique.iter().enumerate() {
        let Origin::Fresh(id) = unique.origin else { continue };
        let Kind::File { content, .. } = tree.inode(id).kind() else { continue };
        let opened =
            source(content).map_err(|source| WriteError::Source { path: path_of(tree, id), source })?;
        let added = match opened {
            Source::Reader(mut reader) => writer.add_fresh(number, unique, &mut reader),
            Source::Packed { .. } => Err(Fresh::Changed),
        };
        added.map_err(|failure| match failure {
            Fresh::Content(source) => WriteError::Content { path: path_of(tree, id), source },
            Fresh::Changed => WriteError::Changed { path: path_of(tree, id) },
            Fresh::Write(e) => e,
        })?;
    }
    writer.finish()
}

struct Writer<'o, 'w, W> {
    out: &'o mut Output<'w, W>,
    pool: Ordered<(Job, Vec<u8>), Result<Stored, WriteError>>,
    /// What the jobs that are with the threads are for.
    events: VecDeque<Event>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    data: Data,
    /// The fragment block being filled, and its number.
    filling: Vec<u8>,
    filling_number: u32,
    block_size: usize,
}

enum Job {
    Copy { pack: Pack, blocks: Range<u32> },
    Compress { raw: Vec<u8>, sparse: bool },
}

/// What came of a job, in the buffer that came with it.
struct Stored {
    bytes: Vec<u8>,
    /// The size word, of what was compressed.
    word: u32,
}

enum Event {
    /// Blocks of a pack, placed already.
    Copied,
    Fragment,
    /// A block of a run.
    Block,
    /// The last so many blocks are a content.
    End {
        unique: usize,
        count: usize,
    },
}

/// A content that leaves its fragment block.
struct Leftover {
    pack: u32,
    fragment: u32,
    offset: u32,
    unique: usize,
}

/// Why a content that is in no pack could not be written.
enum Fresh {
    Content(ContentError),
    Changed,
    Write(WriteError),
}

impl<W: Write + Seek> Writer<'_, '_, W> {
    /// Copies what is taken over from packs as it is; returns the small contents that are not.
    fn copy_packs(&mut self, contents: &Contents<'_>) -> Result<Vec<Leftover>, WriteError> {
        let mut of_pack = vec![Vec::new(); contents.packs.len()];
        for (number, unique) in contents.unique.iter().enumerate() {
            if let Origin::Packed { pack, content } = unique.origin {
                of_pack[pack as usize].push((number, content));
            }
        }
        let mut leftovers = Vec::new();
        let mut position = self.out.position();
        for (number, live) in of_pack.iter().enumerate() {
            let pack = contents.packs[number];
            let layout = Layout::of(pack, live, number as u32);
            leftovers.extend(layout.leftovers);
            let first_fragment = self.data.fragments.len() as u32;
            let mut pieces = Pieces { pack, pending: 0..0 };
            for (blocks, what) in layout.items {
                match what {
                    Item::Run(unique) => {
                        let words = Words::Pack { pack: number as u32, blocks: blocks.clone() };
                        self.data.placed[unique] = Placed::Run { start: position, words };
                    }
                    Item::Fragment => {
                        self.data
                            .fragments
                            .push((position, pack.index().blocks()[blocks.start as usize].word));
                    }
                }
                for block in blocks {
                    position += u64::from(stored_len(pack.index().blocks()[block as usize].word));
                    if let Some(piece) = pieces.add(block) {
                        self.copy(pack, piece)?;
                    }
                }
            }
            self.copy(pack, pieces.pending)?;
            for (unique, taken, offset) in layout.smalls {
                self.data.placed[unique] = Placed::Fragment { number: first_fragment + taken, offset };
            }
        }
        self.filling_number = self.data.fragments.len() as u32;
        Ok(leftovers)
    }

    fn copy(&mut self, pack: &Pack, blocks: Range<u32>) -> Result<(), WriteError> {
        if blocks.is_empty() {
            return Ok(());
        }
        self.data.copied += pack.index().position(blocks.end) - pack.index().position(blocks.start);
        self.push(Job::Copy { pack: pack.clone(), blocks }, Event::Copied)
    }

    fn add_small(&mut self, unique: usize, raw: &[u8]) -> Result<(), WriteError> {
        if raw.len() > self.block_size - self.filling.len() {
            self.flush_fragment()?;
        }
        self.data.placed[unique] =
            Placed::Fragment { number: self.filling_number, offset: self.filling.len() as u32 };
        self.filling.extend_from_slice(raw);
        Ok(())
    }

    fn flush_fragment(&mut self) -> Result<(), WriteError> {
        if self.filling.is_empty() {
            return Ok(());
        }
        self.filling_number += 1;
        let raw = std::mem::take(&mut self.filling);
        self.compress(raw, false, Event::Fragment)
    }

    fn add_fresh(&mut self, number: usize, unique: &Unique, content: &mut dyn Read) -> Result<(), Fresh> {
        let len = unique.len;
        let mut hasher = blake3::Hasher::new();
        let mut count = 0;
        let mut done = 0;
        while done < len {
            let mut raw = vec![0; (len - done).min(self.block_size as u64) as usize];
            fill(content, &mut raw, done, len).map_err(Fresh::Content)?;
            done += raw.len() as u64;
            hasher.update(&raw);
            if len < self.block_size as u64 {
                self.add_small(number, &raw).map_err(Fresh::Write)?;
            } else {
                count += 1;
                self.compress(raw, true, Event::Block).map_err(Fresh::Write)?;
            }
        }
        at_end(content, len).map_err(Fresh::Content)?;
        if *hasher.finalize().as_bytes() != unique.digest {
            return Err(Fresh::Changed);
        }
        if count > 0 {
            self.events.push_back(Event::End { unique: number, count });
        }
        Ok(())
    }

    fn compress(&mut self, raw: Vec<u8>, sparse: bool, event: Event) -> Result<(), WriteError> {
        self.data.compressed += raw.len() as u64;
        self.push(Job::Compress { raw, sparse }, event)
    }

    fn push(&mut self, job: Job, event: Event) -> Result<(), WriteError> {
        while self.pool.is_full() {
            self.take_event()?;
        }
        let buffer = self.spare.pop().unwrap_or_default();
        self.pool.push((job, buffer)).map_err(|WorkerGone| WriteError::Workers)?;
        self.events.push_back(event);
        Ok(())
    }

    fn take_event(&mut self) -> Result<(), WriteError> {
        let Some(event) = self.events.pop_front() else { return Ok(()) };
        if let Event::End { unique, count } = event {
            let words = self.data.words.len() - count..self.data.words.len();
            let len: u64 =
                self.data.words[words.clone()].iter().map(|word| u64::from(stored_len(*word))).sum();
            let start = self.out.position() - len;
            self.data.placed[unique] = Placed::Run { start, words: Words::Fresh(words) };
            return Ok(());
        }
        let stored = self.pool.next().ok().flatten().ok_or(WriteError::Workers)??;
        match event {
            Event::Fragment => self.data.fragments.push((self.out.position(), stored.word)),
            Event::Block => self.data.words.push(stored.word),
            Event::Copied | Event::End { .. } => {}
        }
        self.out.put(&stored.bytes)?;
        self.spare.push(stored.bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<Data, WriteError> {
        self.flush_fragment()?;
        while !self.events.is_empty() {
            self.take_event()?;
        }
        Ok(self.data)
    }
}

/// What a thread does.
fn work(compressor: &mut Compressor, (job, mut bytes): (Job, Vec<u8>)) -> Result<Stored, WriteError> {
    let word = match job {
        Job::Copy { pack, blocks } => {
            pack.read_blocks(blocks.start, blocks.end, &mut bytes).map_err(WriteError::Pack)?;
            0
        }
        Job::Compress { raw, sparse } if sparse && block::is_zero(&raw) => {
            bytes.clear();
            0
        }
        Job::Compress { raw, .. } => compressor.compress(&raw, &mut bytes).map_err(WriteError::Compress)?,
    };
    Ok(Stored { bytes, word })
}

/// What is taken over from a pack as it is, and what is not.
struct Layout {
    /// In the order of the blocks.
    items: Vec<(Range<u32>, Item)>,
    /// Contents in fragment blocks that are taken over: content, which of those blocks, offset.
    smalls: Vec<(usize, u32, u32)>,
    /// In the order of the fragment blocks.
    leftovers: Vec<Leftover>,
}

enum Item {
    Run(usize),
    Fragment,
}

impl Layout {
    /// Lays out the contents `live` (numbers of the unique content, and in the pack) of a pack.
    fn of(pack: &Pack, live: &[(usize, u32)], number: u32) -> Self {
        let index = pack.index();
        let size = u64::from(index.settings().block_size());
        let mut items = Vec::new();
        let mut small = Vec::new();
        let mut used = vec![0; index.fragments().len()];
        for (unique, content) in live {
            let content = &index.contents()[*content as usize];
            match content.place {
                Place::Empty => {}
                Place::Blocks(first) => {
                    items.push((first..first + content.len.div_ceil(size) as u32, Item::Run(*unique)));
                }
                Place::Fragment { fragment, offset } => {
                    used[fragment as usize] += content.len;
                    small.push((fragment, offset, *unique));
                }
            }
        }
        let whole = |fragment: u32| {
            let raw_len = index.blocks()[index.fragments()[fragment as usize] as usize].raw_len;
            used[fragment as usize] * LIVE.1 >= u64::from(raw_len) * LIVE.0
        };
        let taken: Vec<u32> = (0..used.len() as u32).filter(|fragment| whole(*fragment)).collect();
        items.extend(taken.iter().map(|fragment| {
            let block = index.fragments()[*fragment as usize];
            (block..block + 1, Item::Fragment)
        }));
        items.sort_by_key(|(blocks, _)| blocks.start);
        small.sort_unstable();
        let mut smalls = Vec::new();
        let mut leftovers = Vec::new();
        for (fragment, offset, unique) in small {
            match taken.binary_search(&fragment) {
                Ok(at) => smalls.push((unique, at as u32, offset)),
                Err(_) => leftovers.push(Leftover { pack: number, fragment, offset, unique }),
            }
        }
        Layout { items, smalls, leftovers }
    }
}

/// Joins blocks that lie together.
struct Pieces<'p> {
    pack: &'p Pack,
    pending: Range<u32>,
}

impl Pieces<'_> {
    /// Adds a block; the piece before it, if that is complete.
    fn add(&mut self, block: u32) -> Option<Range<u32>> {
        let index = self.pack.index();
        let len = index.position(self.pending.end) - index.position(self.pending.start);
        if block == self.pending.end && len < COPY {
            self.pending.end += 1;
            return None;
        }
        Some(std::mem::replace(&mut self.pending, block..block + 1))
    }
}
