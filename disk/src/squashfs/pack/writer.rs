//! Making a pack.
//!
//! ```text
//! caller's thread                                   threads
//! add: read a block ─▶ push ───────────────────────▶ hash, look for it in donors, else compress
//!      full window: take the oldest ◀───────────────  stored bytes
//!                   write it at the end of the pack
//! ```
//!
//! Results are taken in the order in which the blocks were read, so the pack does not depend on the threads. A file
//! of one block or more is known by its digest only when its last block was taken: if the content is there already,
//! its blocks are taken back by moving the end of the pack to where they began. A smaller file is hashed before it
//! joins the fragment block under way.

use super::{Block, Content, FileRef, Pack, PackError, PackIndex, Place};
use crate::content::ContentError;
use crate::squashfs::Settings;
use crate::squashfs::block::{self, Checksum, Compressor, Digest, stored_len};
use crate::squashfs::feed::{at_end, fill};
use crate::squashfs::ordered::{Ordered, WorkerGone};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Packs made before, to take equal blocks from instead of compressing them again. What a pack holds does not depend
/// on them, only the time that it takes: they are of use when a layer changed a little, or shares much with another.
#[derive(Clone, Debug, Default)]
pub struct Donors {
    packs: Vec<Pack>,
    blocks: HashMap<Digest, (u32, u32)>,
}

impl Donors {
    /// Those of `packs` that were made with `settings`; others cannot help.
    pub fn new(settings: Settings, packs: impl IntoIterator<Item = Pack>) -> Self {
        let packs: Vec<Pack> = packs.into_iter().filter(|pack| pack.index().made_with(settings)).collect();
        let mut blocks = HashMap::new();
        for (pack, number) in packs.iter().zip(0..) {
            for (block, at) in pack.index().blocks().iter().zip(0..) {
                if block.word != 0 {
                    blocks.entry(block.digest).or_insert((number, at));
                }
            }
        }
        Donors { packs, blocks }
    }

    /// The size word of an equal block, its stored bytes in `stored`; none too if the donor cannot be read.
    fn find(&self, digest: &Digest, stored: &mut Vec<u8>) -> Option<u32> {
        let (pack, block) = self.blocks.get(digest)?;
        let pack = &self.packs[*pack as usize];
        pack.read_blocks(*block, block + 1, stored).ok()?;
        Some(pack.index().blocks()[*block as usize].word)
    }
}

/// Makes a pack at a path, file after file. Memory is bounded by the number of threads and the block size, not by
/// the files.
pub struct PackWriter {
    path: PathBuf,
    file: File,
    settings: Settings,
    pool: Ordered<Job, io::Result<Done>>,
    /// What was given to the threads and not yet taken back, and the ends of files between.
    events: VecDeque<Event>,
    /// The end of the pack, in bytes.
    position: u64,
    blocks: Vec<Block>,
    /// The block of each fragment block that was written.
    fragments: Vec<u32>,
    /// One for each file added.
    files: Vec<FileState>,
    /// The first file with a content.
    known: HashMap<(Digest, u64), u32>,
    /// The fragment block being filled, and its number.
    filling: Vec<u8>,
    filling_number: u32,
    /// Buffers to be used again.
    spare: Vec<Job>,
    /// A call did not complete.
    torn: bool,
}

/// A block to be stored, and a buffer to store it in.
#[derive(Default)]
struct Job {
    raw: Vec<u8>,
    stored: Vec<u8>,
    /// What the block is.
    part: Part,
}

#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    Fragment,
    /// All of a file.
    Whole,
    /// What is at that byte of a file.
    At(u64),
}

struct Done {
    job: Job,
    word: u32,
    checksum: Checksum,
    digest: Digest,
}

enum Event {
    /// A block of a file's run.
    Block,
    Fragment,
    /// The run of a file that began at block `first` of the run is complete.
    End {
        file: u32,
        len: u64,
        count: u32,
    },
}

#[derive(Clone, Copy)]
enum FileState {
    /// The first with this content.
    First(Content),
    /// As that earlier file.
    Same(u32),
    /// Its blocks are with the threads.
    UnderWay,
}

impl PackWriter {
    /// Begins a pack at `path` (an existing file is overwritten), compressed by `threads` threads besides the
    /// caller's. Blocks that `donors` have are taken from them.
    ///
    /// # Errors
    /// The file cannot be made, or no thread be started.
    pub fn create(
        path: &Path,
        settings: Settings,
        threads: usize,
        donors: Arc<Donors>,
    ) -> Result<Self, PackError> {
        let create = |source| PackError::Create { path: path.to_owned(), source };
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(create)?;
        PackWriter::over(file, path, settings, threads, donors)
    }

    /// The same in an empty file that is open for reading and writing, whether or not it has a name; `path` is only
    /// what errors call it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn over(
        file: File,
        path: &Path,
        settings: Settings,
        threads: usize,
        donors: Arc<Donors>,
    ) -> Result<Self, PackError> {
        let compressors = (0..threads.max(1)).map(|_| Compressor::new(settings)).collect::<io::Result<_>>();
        let compressors =
            compressors.map_err(|source| PackError::Compress { path: path.to_owned(), source })?;
        let pool = Ordered::new(compressors, move |compressor, job| store(compressor, &donors, job));
        Ok(PackWriter {
            path: path.to_owned(),
            file,
            settings,
            pool: pool.map_err(|WorkerGone| PackError::Workers { path: path.to_owned() })?,
            events: VecDeque::new(),
            position: 0,
            blocks: Vec::new(),
            fragments: Vec::new(),
            files: Vec::new(),
            known: HashMap::new(),
            filling: Vec::with_capacity(settings.block_size() as usize),
            filling_number: 0,
            spare: Vec::new(),
            torn: false,
        })
    }

    /// Adds the next regular file: `len` bytes from `content`, which must then be at its end.
    ///
    /// # Errors
    /// A content of another length, and any failure to read, compress or write; the pack is then of no use.
    pub fn add(&mut self, len: u64, content: &mut dyn Read) -> Result<FileRef, PackError> {
        if self.torn {
            return Err(PackError::Torn { path: self.path.clone() });
        }
        self.torn = true;
        let file = u32::try_from(self.files.len()).map_err(|_| self.too_many())?;
        if len < u64::from(self.settings.block_size()) {
            self.add_small(file, len, content)?;
        } else {
            self.files.push(FileState::UnderWay);
            self.add_run(file, len, content)?;
        }
        self.torn = false;
        Ok(FileRef::new(file))
    }

    /// Completes the pack.
    ///
    /// # Errors
    /// As [`PackWriter::add`].
    pub fn finish(mut self) -> Result<Pack, PackError> {
        if self.torn {
            return Err(PackError::Torn { path: self.path });
        }
        self.flush_fragment()?;
        while !self.events.is_empty() {
            self.take_event()?;
        }
        self.file.set_len(self.position).map_err(|source| self.write_error(source))?;
        let mut contents = Vec::new();
        let mut files: Vec<u32> = Vec::with_capacity(self.files.len());
        for state in &self.files {
            files.push(match state {
                FileState::First(content) => {
                    contents.push(*content);
                    contents.len() as u32 - 1
                }
                FileState::Same(earlier) => files[*earlier as usize],
                FileState::UnderWay => return Err(PackError::Torn { path: self.path }),
            });
        }
        let zstd = block::zstd_version();
        let index = PackIndex::new(self.settings, zstd, files, contents, self.fragments, self.blocks);
        let index = index.map_err(|source| PackError::Index { path: self.path.clone(), source })?;
        Ok(Pack::new(self.path, self.file, index))
    }

    fn add_small(&mut self, file: u32, len: u64, content: &mut dyn Read) -> Result<(), PackError> {
        // The content is read to the end of the fragment block under way, and leaves it if it has to.
        let start = self.filling.len();
        let len = len as usize;
        self.filling.resize(start + len, 0);
        let read = fill(content, &mut self.filling[start..], 0, len as u64)
            .and_then(|()| at_end(content, len as u64));
        read.map_err(|source| self.content_error(file, source))?;
        let digest = block::digest(&self.filling[start..]);
        if let Some(first) = self.known.get(&(digest, len as u64)) {
            self.filling.truncate(start);
            self.files.push(FileState::Same(*first));
            return Ok(());
        }
        self.known.insert((digest, len as u64), file);
        let place = if len == 0 {
            Place::Empty
        } else if start + len > self.settings.block_size() as usize {
            let moved = self.filling.split_off(start);
            self.flush_fragment()?;
            self.filling.extend_from_slice(&moved);
            Place::Fragment { fragment: self.filling_number, offset: 0 }
        } else {
            Place::Fragment { fragment: self.filling_number, offset: start as u32 }
        };
        self.files.push(FileState::First(Content { digest, len: len as u64, place }));
        Ok(())
    }

    fn add_run(&mut self, file: u32, len: u64, content: &mut dyn Read) -> Result<(), PackError> {
        let size = u64::from(self.settings.block_size());
        let count = u32::try_from(len.div_ceil(size)).map_err(|_| self.too_many())?;
        for number in 0..u64::from(count) {
            let done = number * size;
            let mut job = self.room()?;
            job.raw.resize((len - done).min(size) as usize, 0);
            let read = fill(content, &mut job.raw, done, len);
            read.map_err(|source| self.content_error(file, source))?;
            job.part = if count == 1 { Part::Whole } else { Part::At(done) };
            self.push(job, Event::Block)?;
        }
        at_end(content, len).map_err(|source| self.content_error(file, source))?;
        self.events.push_back(Event::End { file, len, count });
        Ok(())
    }

    fn flush_fragment(&mut self) -> Result<(), PackError> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let mut job = self.room()?;
        std::mem::swap(&mut job.raw, &mut self.filling);
        self.filling.clear();
        self.filling_number += 1;
        job.part = Part::Fragment;
        self.push(job, Event::Fragment)
    }

    fn push(&mut self, job: Job, event: Event) -> Result<(), PackError> {
        self.pool.push(job).map_err(|WorkerGone| PackError::Workers { path: self.path.clone() })?;
        self.events.push_back(event);
        Ok(())
    }

    /// Buffers for another block, once the window has room for it.
    fn room(&mut self) -> Result<Job, PackError> {
        while self.pool.is_full() {
            self.take_event()?;
        }
        Ok(self.spare.pop().unwrap_or_default())
    }

    /// Takes the oldest event: a block back from the threads, or the end of a file.
    fn take_event(&mut self) -> Result<(), PackError> {
        match self.events.pop_front() {
            Some(Event::Block) => self.take_block(),
            Some(Event::Fragment) => {
                self.fragments.push(self.blocks.len() as u32);
                self.take_block()
            }
            Some(Event::End { file, len, count }) => {
                self.end_run(file, len, count);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take_block(&mut self) -> Result<(), PackError> {
        let gone = || PackError::Workers { path: self.path.clone() };
        let done = self.pool.next().map_err(|WorkerGone| gone())?.ok_or_else(gone)?;
        let done = done.map_err(|source| PackError::Compress { path: self.path.clone(), source })?;
        if self.blocks.len() >= u32::MAX as usize {
            return Err(self.too_many());
        }
        let stored = &done.job.stored[..stored_len(done.word) as usize];
        self.file.write_all_at(stored, self.position).map_err(|source| self.write_error(source))?;
        self.position += stored.len() as u64;
        let raw_len = done.job.raw.len() as u32;
        self.blocks.push(Block { word: done.word, raw_len, checksum: done.checksum, digest: done.digest });
        self.spare.push(done.job);
        Ok(())
    }

    /// The last `count` blocks are a file: they stay, or go if the content is known.
    fn end_run(&mut self, file: u32, len: u64, count: u32) {
        let first = self.blocks.len() - count as usize;
        let digests: Vec<Digest> = self.blocks[first..].iter().map(|block| block.digest).collect();
        let digest = block::join(&digests);
        self.files[file as usize] = match self.known.entry((digest, len)) {
            Entry::Occupied(earlier) => {
                self.position -=
                    self.blocks.drain(first..).map(|block| u64::from(stored_len(block.word))).sum::<u64>();
                FileState::Same(*earlier.get())
            }
            Entry::Vacant(unknown) => {
                unknown.insert(file);
                FileState::First(Content { digest, len, place: Place::Blocks(first as u32) })
            }
        };
    }

    fn too_many(&self) -> PackError {
        PackError::TooMany { path: self.path.clone() }
    }

    fn write_error(&self, source: io::Error) -> PackError {
        PackError::Write { path: self.path.clone(), offset: self.position, source }
    }

    fn content_error(&self, file: u32, source: ContentError) -> PackError {
        PackError::Content { path: self.path.clone(), file, source }
    }
}

/// What a thread does with a block.
fn store(compressor: &mut Compressor, donors: &Donors, mut job: Job) -> io::Result<Done> {
    let digest = match job.part {
        Part::Fragment | Part::Whole => block::digest(&job.raw),
        Part::At(offset) => block::subtree(&job.raw, offset),
    };
    // A fragment block's zeros are stored: its size word cannot be 0.
    let word = if !matches!(job.part, Part::Fragment) && block::is_zero(&job.raw) {
        job.stored.clear();
        0
    } else if let Some(word) = donors.find(&digest, &mut job.stored) {
        word
    } else {
        compressor.compress(&job.raw, &mut job.stored)?
    };
    Ok(Done { word, checksum: block::checksum(&job.stored), digest, job })
}
