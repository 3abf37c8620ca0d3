//! Writing an image.
//!
//! ```text
//! number     walk the tree: an inode number for each inode, in walk order
//! contents   ask for each file's source; equal contents become one
//! data       lay out what packs hold, copy it; compress the rest
//! metadata   inodes and listings, a directory's children together, last directory first
//! tables     fragments, export, ids, extended attributes; then the superblock
//! ```
//!
//! Packs are copied one after another in the order in which the tree refers to them first, each in its own order, so
//! that a layer stays one sequential stretch. A fragment block of a pack is taken over whole if at least
//! [`LIVE`] of its bytes are in use; what is in use of the others is packed into new ones, as are small contents that
//! are in no pack.

mod data;
mod directory;
mod inode;
mod metadata;
mod output;
mod plan;
mod superblock;
mod xattr;

use super::Settings;
use super::pack::{FileRef, Pack, PackError};
use crate::content::ContentError;
use kit_spec::tree::{InodeId, Tree};
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

/// A fragment block of a pack is taken over if the bytes in use are at least this fraction (numerator, denominator)
/// of it: taking one over wastes the rest, not taking it over costs time at every build.
const LIVE: (u64, u64) = (3, 4);

/// How an image is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Block size and level; all packs must have been made with the same.
    pub settings: Settings,
    /// The image's own time, in seconds since 1970.
    pub epoch: u32,
    /// Threads to check and compress with, besides the caller's. They change nothing in the image.
    pub threads: usize,
}

/// Where a content is to be had.
pub enum Source<'a> {
    /// In a pack.
    Packed {
        /// The pack.
        pack: &'a Pack,
        /// The file in it.
        file: FileRef,
    },
    /// Wherever this reads from, compressed while the image is written. It is asked for twice (once to compare, once
    /// to write) and must give the same bytes both times.
    Reader(Box<dyn Read + 'a>),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file system.
    pub bytes_used: u64,
    /// Bytes written: those used, and zeros up to a multiple of 4096.
    pub bytes_written: u64,
    /// Inodes.
    pub inodes: u32,
    /// Different contents of regular files.
    pub contents: u32,
    /// Their bytes, uncompressed.
    pub contents_len: u64,
    /// Fragment blocks.
    pub fragments: u32,
    /// Bytes copied out of packs, as stored.
    pub copied: u64,
    /// Bytes compressed anew, uncompressed.
    pub compressed: u64,
}

/// Why an image could not be written. Paths are in the tree, from `/`.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The content's source could not be had.
    #[error("squashfs file {path}: open content")]
    Source {
        /// The file.
        path: String,
        /// The caller's error.
        source: io::Error,
    },
    /// The content could not be read, or is not as long as the tree says.
    #[error("squashfs file {path}")]
    Content {
        /// The file.
        path: String,
        /// What went wrong.
        source: ContentError,
    },
    /// The content was another when it was read again.
    #[error("squashfs file {path}: its content changed between two reads")]
    Changed {
        /// The file.
        path: String,
    },
    /// The pack has no such file.
    #[error("squashfs file {path}: look it up in its pack")]
    Lookup {
        /// The file.
        path: String,
        /// What went wrong.
        source: PackError,
    },
    /// The tree and the pack differ on a file's length.
    #[error("squashfs file {path} is {expected} bytes long, but its pack {pack} has {found}")]
    Length {
        /// The file.
        path: String,
        /// The pack.
        pack: PathBuf,
        /// Bytes by the tree.
        expected: u64,
        /// Bytes by the pack.
        found: u64,
    },
    /// A pack was made with other settings than the image's.
    #[error("pack {pack} was made with {found}, the image needs {expected}")]
    Settings {
        /// The pack.
        pack: PathBuf,
        /// The [`Settings::key`] of the pack.
        found: String,
        /// The [`Settings::key`] of the image.
        expected: String,
    },
    /// A pack could not be read, or is corrupt.
    #[error("copy blocks of a pack")]
    Pack(#[source] PackError),
    /// An extended attribute that squashfs has no place for.
    #[error("squashfs {path}: extended attribute {name:?} is in none of user, trusted and security")]
    XattrName {
        /// The inode's path.
        path: String,
        /// The attribute's name, with invalid UTF-8 replaced.
        name: String,
    },
    /// An extended attribute that Linux would not take.
    #[error("squashfs {path}: extended attribute {name:?} has {len} bytes, at most 65536 are possible")]
    XattrLength {
        /// The inode's path.
        path: String,
        /// The attribute's name, with invalid UTF-8 replaced.
        name: String,
        /// Bytes of its value.
        len: usize,
    },
    /// A symbolic link that Linux would not take.
    #[error("squashfs {path}: symbolic link to {len} bytes, 1 to 4095 are possible")]
    Symlink {
        /// The link's path.
        path: String,
        /// Bytes of its target.
        len: usize,
    },
    /// Device numbers that squashfs cannot hold.
    #[error("squashfs {path}: device {major}:{minor}, at most 4095:1048575 is possible")]
    Device {
        /// The device's path.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// More of something than squashfs can count.
    #[error("squashfs {path}: no room for more {what}, at most {limit} are possible")]
    TooMany {
        /// Where it was noticed.
        path: String,
        /// Of what.
        what: &'static str,
        /// The format's limit.
        limit: u64,
    },
    /// zstd could not compress.
    #[error("compress a block of squashfs")]
    Compress(#[source] io::Error),
    /// The threads that compress could not be started, or one died.
    #[error("a squashfs thread could not be started or died")]
    Workers,
    /// The output failed.
    #[error("write squashfs image at byte {offset}")]
    Output {
        /// Position in the image.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
}

/// Writes `tree` as a squashfs image to `out`, beginning where `out` stands, and leaves `out` at the image's end.
/// `source` tells where a file's content is; it is called once for each inode, and once more for those that are in no
/// pack.
///
/// Times before 1970 are written as 1970, times after 2106 as the last second that 32 bits hold.
///
/// # Errors
/// See [`WriteError`]. `out` is then left with an incomplete image.
pub fn write<'a, C, W: Write + Seek>(
    tree: &'a Tree<C>,
    mut source: impl FnMut(&'a C) -> io::Result<Source<'a>>,
    out: &mut W,
    options: &Options,
) -> Result<Summary, WriteError> {
    let mut out = output::Output::begin(out)?;
    let numbering = plan::number(tree)?;
    let contents = plan::contents(tree, &numbering, &mut source, options.settings)?;
    superblock::write_options(&mut out, options.settings)?;
    let data = data::write(tree, &contents, &mut source, &mut out, options)?;
    let xattrs = xattr::collect(tree, &numbering, options.settings)?;
    let tables = inode::tables(tree, &numbering, &contents, &data, &xattrs, options.settings)?;
    let super_block = superblock::Layout::write(&mut out, tables, &data, xattrs, &numbering, options)?;
    let bytes_used = super_block.bytes_used();
    let bytes_written = out.end(&super_block.encode())?;
    Ok(Summary {
        bytes_used,
        bytes_written,
        inodes: numbering.count(),
        contents: contents.unique.len() as u32,
        contents_len: contents.unique.iter().map(|content| content.len).sum(),
        fragments: data.fragments.len() as u32,
        copied: data.copied,
        compressed: data.compressed,
    })
}

/// An inode's (first) path, for errors.
fn path_of<C>(tree: &Tree<C>, id: InodeId) -> String {
    let path = tree.walk().find(|(_, found, _)| *found == id).map(|(path, _, _)| path);
    path.map_or_else(|| "/".to_owned(), |path| path.to_string())
}
