//! The output, counted from the image's first byte.

use super::WriteError;
use std::io::{Seek, SeekFrom, Write};

/// Images end at a multiple of this many bytes, so that a loop device shows all of them.
const PADDING: u64 = 4096;

pub(super) struct Output<'w, W> {
    out: &'w mut W,
    origin: u64,
    position: u64,
}

impl<'w, W: Write + Seek> Output<'w, W> {
    /// Begins an image where `out` stands, with room for the superblock.
    pub(super) fn begin(out: &'w mut W) -> Result<Self, WriteError> {
        let origin = out.stream_position().map_err(|source| WriteError::Output { offset: 0, source })?;
        let mut begun = Output { out, origin, position: 0 };
        begun.put(&[0; super::superblock::LEN])?;
        Ok(begun)
    }

    /// Bytes since the image's first.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let offset = self.position;
        self.out.write_all(bytes).map_err(|source| WriteError::Output { offset, source })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Pads the image, puts the superblock in its place and returns to the end: the image's length.
    pub(super) fn end(mut self, superblock: &[u8]) -> Result<u64, WriteError> {
        let padding = self.position.next_multiple_of(PADDING) - self.position;
        self.put(&[0; PADDING as usize][..padding as usize])?;
        let mut last = || {
            self.out.seek(SeekFrom::Start(self.origin))?;
            self.out.write_all(superblock)?;
            self.out.seek(SeekFrom::Start(self.origin + self.position))?;
            self.out.flush()
        };
        last().map_err(|source| WriteError::Output { offset: 0, source })?;
        Ok(self.position)
    }
}
