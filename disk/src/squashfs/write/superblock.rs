//! The superblock, the compressor's options behind it, and the tables at the image's end.

use super::data::Data;
use super::inode::Tables;
use super::metadata::write_indexed;
use super::output::Output;
use super::plan::Numbering;
use super::xattr::Xattrs;
use super::{Options, WriteError};
use crate::squashfs::Settings;
use std::io::{Seek, Write};

/// Bytes of a superblock.
pub(super) const LEN: usize = 96;

const MAGIC: u32 = 0x7371_7368;
const ZSTD: u16 = 6;
/// Equal contents are stored once.
const DUPLICATES: u16 = 0x40;
/// There is an export table.
const EXPORT: u16 = 0x80;
/// A block of compressor options follows the superblock.
const COMPRESSOR_OPTIONS: u16 = 0x400;
/// The position of a table that is not there.
const NONE: u64 = u64::MAX;

/// Where everything is.
pub(super) struct Layout {
    settings: Settings,
    epoch: u32,
    inodes: u32,
    fragments: u32,
    ids: u16,
    root: u64,
    bytes_used: u64,
    id_table: u64,
    xattr_table: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
    export_table: u64,
}

/// Writes the options of the compressor: an uncompressed metadata block that holds the level.
pub(super) fn write_options<W: Write + Seek>(
    out: &mut Output<'_, W>,
    settings: Settings,
) -> Result<(), WriteError> {
    out.put(&(4u16 | 0x8000).to_le_bytes())?;
    out.put(&u32::from(settings.level()).to_le_bytes())
}

impl Layout {
    /// Writes the tables where `out` stands.
    pub(super) fn write<W: Write + Seek>(
        out: &mut Output<'_, W>,
        tables: Tables,
        data: &Data,
        xattrs: Xattrs,
        numbering: &Numbering,
        options: &Options,
    ) -> Result<Self, WriteError> {
        let settings = options.settings;
        let inode_table = out.position();
        out.put(&tables.inodes)?;
        let directory_table = out.position();
        out.put(&tables.directories)?;
        let mut fragments = Vec::with_capacity(16 * data.fragments.len());
        for (start, word) in &data.fragments {
            fragments.extend_from_slice(&start.to_le_bytes());
            fragments.extend_from_slice(&u64::from(*word).to_le_bytes());
        }
        let fragment_table = write_indexed(out, settings, &[], &fragments)?;
        let places: Vec<u8> =
            tables.places.iter().flat_map(|place| place.reference().to_le_bytes()).collect();
        let export_table = write_indexed(out, settings, &[], &places)?;
        let ids: Vec<u8> = tables.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let id_table = write_indexed(out, settings, &[], &ids)?;
        let xattr_table = if xattrs.is_empty() { NONE } else { xattrs.write(out, settings)? };
        Ok(Layout {
            settings,
            epoch: options.epoch,
            inodes: numbering.count(),
            fragments: data.fragments.len() as u32,
            ids: tables.ids.len() as u16,
            root: tables.root.reference(),
            bytes_used: out.position(),
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        })
    }

    pub(super) fn bytes_used(&self) -> u64 {
        self.bytes_used
    }

    /// The superblock's bytes (`struct squashfs_super_block`).
    pub(super) fn encode(&self) -> [u8; LEN] {
        let flags = DUPLICATES | EXPORT | COMPRESSOR_OPTIONS;
        let block_size = self.settings.block_size();
        let mut out = Vec::with_capacity(LEN);
        for word in [MAGIC, self.inodes, self.epoch, block_size, self.fragments] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for half in [ZSTD, block_size.trailing_zeros() as u16, flags, self.ids, 4, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for long in [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&out);
        bytes
    }
}
