//! squashfs 4.0 images with zstd, put together from contents that were compressed before.
//!
//! Most of what makes a file system slow is compression, and most of a root does not change from one build to the
//! next. So compression is done once for each *layer*, into a [`pack::Pack`]: the contents of the layer's regular
//! files, already as squashfs data blocks. An image is then a copy of the blocks its tree still refers to, and a
//! few hundred kilobytes of fresh metadata:
//!
//! ```text
//! layer.tar ──PackWriter──▶ pack + index      once for each layer; compression on all cores
//!                              │
//! Tree<C>, C ──source──▶ (pack, FileRef) or a reader
//!                              │
//!                           write            copies blocks, packs leftovers anew, writes metadata
//!                              ▼
//! superblock | options | blocks, pack by pack | fresh blocks | inodes | directories | fragments | export | ids | xattrs
//! ```
//!
//! Guarantees:
//! - **A pack is a pure function** of the contents in the order they were added and of its [`Settings`]; an image one
//!   of its tree, the packs' contents and its [`Options`]. Neither depends on the number of threads, on what was in a
//!   cache, or on the order in which packs came to be.
//! - **Equal contents are stored once** in a pack and once in an image, whichever packs they come from. They are
//!   compared by length and BLAKE3.
//! - **What is read back is checked**: an index by its checksum and its bounds, each stored block by its own. A pack
//!   that rotted on disk is an error that names the block, never a torn image.
//!
//! ```
//! use kit_disk::squashfs::{Options, Settings, Source, write};
//! use kit_spec::tree::{Kind, Meta, Tree, TreePath};
//!
//! let mut tree = Tree::new(Meta::root_owned(0o755, 0));
//! let hostname = Kind::File { len: 5, content: "node\n" };
//! tree.put(&TreePath::parse("etc/hostname")?, Meta::root_owned(0o644, 0), hostname)?;
//!
//! let options = Options { settings: Settings::default(), epoch: 1_700_000_000, threads: 2 };
//! let mut image = std::io::Cursor::new(Vec::new());
//! let summary = write(&tree, |text| Ok(Source::Reader(Box::new(text.as_bytes()))), &mut image, &options)?;
//! assert_eq!(summary.bytes_written, image.into_inner().len() as u64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Format: `Documentation/filesystems/squashfs.rst` of Linux, and its `fs/squashfs/squashfs_fs.h`.

mod block;
mod feed;
mod ordered;
pub mod pack;
#[cfg(test)]
mod tests;
mod write;

pub use write::{Options, Source, Summary, WriteError, write};

/// Marks the layout of packs and the rules by which images are put together; part of every [`Settings::key`].
const REVISION: u32 = 2;

/// What, besides contents, decides the bytes of a pack and of an image's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    block_log: u8,
    level: u8,
}

/// Why some numbers are not [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not a power of two, or too small or large.
    #[error("squashfs block size {bytes} is not a power of two between 4096 and 1048576")]
    BlockSize {
        /// The size asked for, in bytes.
        bytes: u32,
    },
    /// Not a level of zstd.
    #[error("zstd level {level} is not between 1 and 22")]
    Level {
        /// The level asked for.
        level: u8,
    },
}

impl Settings {
    /// Blocks of `block_size` bytes, compressed at zstd level `level`.
    ///
    /// # Errors
    /// A block size that is not a power of two from 4 KiB to 1 MiB, a level outside 1 to 22.
    pub fn new(block_size: u32, level: u8) -> Result<Self, SettingsError> {
        if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
            return Err(SettingsError::BlockSize { bytes: block_size });
        }
        if !(1..=22).contains(&level) {
            return Err(SettingsError::Level { level });
        }
        Ok(Self { block_log: block_size.trailing_zeros() as u8, level })
    }

    /// Bytes of a full block, uncompressed.
    pub fn block_size(&self) -> u32 {
        1 << self.block_log
    }

    /// The zstd level.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// A short name of all that decides a pack's bytes besides its contents: these settings, the version of the zstd
    /// that is linked, and the revision of this module's rules. A cache of packs has it in its keys.
    pub fn key(&self) -> String {
        self.key_with(block::zstd_version())
    }

    fn key_with(&self, zstd: u32) -> String {
        format!("r{REVISION}-b{}-zstd{zstd}-l{}", self.block_size(), self.level)
    }
}

impl Default for Settings {
    /// 128 KiB, level 3.
    fn default() -> Self {
        Self { block_log: 17, level: 3 }
    }
}
