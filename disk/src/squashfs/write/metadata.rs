//! Metadata blocks: 8 KiB each before compression, with a two-byte header.

use super::WriteError;
use super::output::Output;
use crate::squashfs::Settings;
use crate::squashfs::block::{Compressor, UNCOMPRESSED, stored_len};
use std::io::{Seek, Write};

/// Bytes of a metadata block before compression.
pub(super) const BLOCK: usize = 8192;
/// Set in a header when the block is stored as it is.
const RAW: u16 = 0x8000;

/// A place in a table of metadata blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the block begins, in bytes from the table's start.
    pub(super) block: u32,
    /// Bytes into the uncompressed block.
    pub(super) offset: u16,
}

impl Place {
    /// As references to inodes and attributes are written.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// A table under way, kept in memory: inodes and listings refer to each other's places.
pub(super) struct Metadata {
    compressor: Compressor,
    /// What is not yet a whole block.
    pending: Vec<u8>,
    stored: Vec<u8>,
    table: Vec<u8>,
}

impl Metadata {
    pub(super) fn new(settings: Settings) -> Result<Self, WriteError> {
        let compressor = Compressor::new(settings).map_err(WriteError::Compress)?;
        Ok(Metadata { compressor, pending: Vec::with_capacity(BLOCK), stored: Vec::new(), table: Vec::new() })
    }

    /// Where the next byte will be.
    pub(super) fn place(&self) -> Result<Place, WriteError> {
        let limit = u64::from(u32::MAX);
        let what = "bytes of metadata in one table";
        let block = u32::try_from(self.table.len());
        let block = block.map_err(|_| WriteError::TooMany { path: "/".to_owned(), what, limit })?;
        Ok(Place { block, offset: self.pending.len() as u16 })
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// The whole table.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        self.flush()?;
        Ok(self.table)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let word = self.compressor.compress(&self.pending, &mut self.stored).map_err(WriteError::Compress)?;
        let raw = if word & UNCOMPRESSED == 0 { 0 } else { RAW };
        self.table.extend_from_slice(&(stored_len(word) as u16 | raw).to_le_bytes());
        self.table.extend_from_slice(&self.stored);
        self.pending.clear();
        Ok(())
    }
}

/// Writes `entries`, of which a whole number fills a block, in metadata blocks, then `header`, then the blocks'
/// positions. Returns where the header begins.
pub(super) fn write_indexed<W: Write + Seek>(
    out: &mut Output<'_, W>,
    settings: Settings,
    header: &[u8],
    entries: &[u8],
) -> Result<u64, WriteError> {
    let mut metadata = Metadata::new(settings)?;
    let mut index = header.to_vec();
    let start = out.position();
    for block in entries.chunks(BLOCK) {
        index.extend_from_slice(&(start + u64::from(metadata.place()?.block)).to_le_bytes());
        metadata.put(block)?;
    }
    out.put(&metadata.finish()?)?;
    let index_start = out.position();
    out.put(&index)?;
    Ok(index_start)
}
