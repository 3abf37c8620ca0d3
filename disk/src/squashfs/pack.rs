//! A pack: the contents of one layer's regular files, already as squashfs data blocks.
//!
//! ```text
//! pack file   | block | block | fragment block | block | ..      back to back, from byte 0, nothing else
//! index       files ─▶ contents ─▶ runs of blocks, or places in fragment blocks;  blocks: sizes, checksums
//! ```
//!
//! A content shorter than a block goes, with its neighbours, into a *fragment block*; all others are a run of blocks,
//! the last one short. A block of zeros is not stored. Blocks that do not get smaller are stored as they are.
//!
//! [`PackWriter::add`] is called for each regular file in the layer's order, and the files are known by that order
//! ever after ([`FileRef`]). Whoever keeps a pack keeps two files: the pack, and [`PackIndex::to_bytes`].

mod index;
mod reader;
mod writer;

pub use index::{IndexError, PackIndex};
pub use reader::PackReader;
pub use writer::{Donors, PackWriter};

pub(super) use index::{Block, Content, Place};
use reader::Unpacking;

use crate::content::ContentError;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A file of a pack: the number of the [`PackWriter::add`] call that brought it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FileRef(u32);

impl FileRef {
    /// The file that the call number `ordinal` of [`PackWriter::add`] brought, from 0.
    pub fn new(ordinal: u32) -> Self {
        FileRef(ordinal)
    }

    /// The number of the call, from 0.
    pub fn ordinal(self) -> u32 {
        self.0
    }
}

/// Why a pack could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The pack's file could not be made.
    #[error("create pack {path}")]
    Create {
        /// The pack.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The pack's file could not be opened or asked for its length.
    #[error("open pack {path}")]
    Open {
        /// The pack.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The pack's file is not as long as its index says.
    #[error("pack {path} is {found} bytes long, its index says {expected}")]
    Length {
        /// The pack.
        path: PathBuf,
        /// Bytes found.
        found: u64,
        /// Bytes that the index tells of.
        expected: u64,
    },
    /// Stored bytes could not be read.
    #[error("read pack {path} at byte {offset}")]
    Read {
        /// The pack.
        path: PathBuf,
        /// Position in the pack.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// Stored bytes could not be written.
    #[error("write pack {path} at byte {offset}")]
    Write {
        /// The pack.
        path: PathBuf,
        /// Position in the pack.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },
    /// A block is not what was written.
    #[error("pack {path} is corrupt: block {block} at byte {offset} does not match its checksum")]
    Corrupt {
        /// The pack.
        path: PathBuf,
        /// The block's number.
        block: u32,
        /// Its position in the pack.
        offset: u64,
    },
    /// A reference that this pack did not give out.
    #[error("pack {path} has no file {file}, it has {files}")]
    NoSuchFile {
        /// The pack.
        path: PathBuf,
        /// The file's number.
        file: u32,
        /// Files in the pack.
        files: u32,
    },
    /// A content was not as announced or could not be read.
    #[error("pack {path}: file {file}")]
    Content {
        /// The pack.
        path: PathBuf,
        /// The file's number.
        file: u32,
        /// What went wrong.
        source: ContentError,
    },
    /// zstd could not compress.
    #[error("pack {path}: compress a block")]
    Compress {
        /// The pack.
        path: PathBuf,
        /// zstd's error.
        source: io::Error,
    },
    /// zstd could not be made ready to decompress.
    #[error("pack {path}: decompress a block")]
    Decompress {
        /// The pack.
        path: PathBuf,
        /// zstd's error.
        source: io::Error,
    },
    /// The threads that compress could not be started, or one died.
    #[error("pack {path}: a compressor thread could not be started or died")]
    Workers {
        /// The pack.
        path: PathBuf,
    },
    /// An earlier call did not complete.
    #[error("pack {path} is torn: an earlier file was not completed")]
    Torn {
        /// The pack.
        path: PathBuf,
    },
    /// The parts of a pack do not fit together.
    #[error("pack {path}: put its index together")]
    Index {
        /// The pack.
        path: PathBuf,
        /// What does not fit.
        source: IndexError,
    },
    /// More files or blocks than 32 bits can count.
    #[error("pack {path} has too many files or blocks")]
    TooMany {
        /// The pack.
        path: PathBuf,
    },
}

/// A pack that can be read; clones are the same pack.
#[derive(Clone)]
pub struct Pack(Arc<Inner>);

struct Inner {
    path: PathBuf,
    file: File,
    index: PackIndex,
    unpacking: Mutex<Unpacking>,
}

impl Pack {
    /// Opens the pack at `path`, of which `index` tells.
    ///
    /// # Errors
    /// The file cannot be opened, or is not as long as the index says. Its bytes are checked when they are read.
    pub fn open(path: &Path, index: PackIndex) -> Result<Self, PackError> {
        let open = |source| PackError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        let found = file.metadata().map_err(open)?.len();
        if found != index.stored_len() {
            return Err(PackError::Length { path: path.to_owned(), found, expected: index.stored_len() });
        }
        Ok(Self::new(path.to_owned(), file, index))
    }

    fn new(path: PathBuf, file: File, index: PackIndex) -> Self {
        Pack(Arc::new(Inner { path, file, index, unpacking: Mutex::default() }))
    }

    /// What is in the pack.
    pub fn index(&self) -> &PackIndex {
        &self.0.index
    }

    /// Where the pack was opened or made.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A file's uncompressed bytes. They are checked as they are read; errors are [`PackError`]s in an
    /// [`io::Error`]. Files are read quickest in the order they were added.
    ///
    /// # Errors
    /// The reference is not of this pack.
    pub fn reader(&self, file: FileRef) -> Result<PackReader, PackError> {
        Ok(PackReader::new(self.clone(), self.content(file)?))
    }

    /// The number of the file's content in the index.
    pub(super) fn content(&self, file: FileRef) -> Result<u32, PackError> {
        self.index().content_of(file).ok_or_else(|| PackError::NoSuchFile {
            path: self.0.path.clone(),
            file: file.0,
            files: self.index().file_count(),
        })
    }

    /// The same for clones, another for each pack that is open.
    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Reads the stored bytes of the blocks `first..end` into `out`, in place of what it held, and checks each.
    pub(super) fn read_blocks(&self, first: u32, end: u32, out: &mut Vec<u8>) -> Result<(), PackError> {
        let index = self.index();
        let start = index.position(first);
        // Not cleared before: what a reused buffer held need not be overwritten twice.
        out.resize((index.position(end) - start) as usize, 0);
        let read = self.0.file.read_exact_at(out, start);
        read.map_err(|source| PackError::Read { path: self.0.path.clone(), offset: start, source })?;
        let mut rest = &out[..];
        for block in first..end {
            let (stored, later) = rest.split_at((index.position(block + 1) - index.position(block)) as usize);
            if !index.blocks()[block as usize].matches(stored) {
                return Err(self.corrupt(block));
            }
            rest = later;
        }
        Ok(())
    }

    fn corrupt(&self, block: u32) -> PackError {
        PackError::Corrupt { path: self.0.path.clone(), block, offset: self.index().position(block) }
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pack").field(&self.0.path).finish()
    }
}
