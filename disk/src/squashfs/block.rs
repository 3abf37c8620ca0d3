//! One data block: hashed, compressed, checked, decompressed.

use super::Settings;
use std::io;

/// Set in a block's size word when the block is stored as it is.
pub(super) const UNCOMPRESSED: u32 = 1 << 24;

/// BLAKE3 of uncompressed bytes: what contents and blocks are told apart by.
pub(super) type Digest = [u8; 32];

/// The first half of the BLAKE3 of stored bytes: what they are checked by when they are read back.
pub(super) type Checksum = [u8; 16];

pub(super) fn digest(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

pub(super) fn checksum(stored: &[u8]) -> Checksum {
    let mut sum = [0; 16];
    sum.copy_from_slice(&blake3::hash(stored).as_bytes()[..16]);
    sum
}

/// The linked zstd's version, as `10507` for 1.5.7.
pub(super) fn zstd_version() -> u32 {
    zstd::zstd_safe::version_number()
}

/// Bytes that a size word says are stored.
pub(super) fn stored_len(word: u32) -> u32 {
    word & !UNCOMPRESSED
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // The first is zero and each is as the one before: a single comparison of memory with itself.
    bytes.split_first().is_none_or(|(first, rest)| *first == 0 && *rest == bytes[..rest.len()])
}

/// A zstd context, used for one block after another.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(super) fn new(settings: Settings) -> io::Result<Self> {
        zstd::bulk::Compressor::new(i32::from(settings.level)).map(Self)
    }

    /// Compresses `raw` into `stored` and returns the size word: with [`UNCOMPRESSED`] and a plain copy if it does not
    /// get smaller.
    pub(super) fn compress(&mut self, raw: &[u8], stored: &mut Vec<u8>) -> io::Result<u32> {
        stored.clear();
        stored.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let len = self.0.compress_to_buffer(raw, stored)?;
        if len < raw.len() {
            return Ok(len as u32);
        }
        stored.clear();
        stored.extend_from_slice(raw);
        Ok(raw.len() as u32 | UNCOMPRESSED)
    }
}

/// Decompresses what [`Compressor::compress`] made; `raw_len` is what must come out. False if it does not.
pub(super) fn decompress(
    zstd: &mut zstd::bulk::Decompressor<'_>,
    stored: &[u8],
    word: u32,
    raw_len: usize,
    raw: &mut Vec<u8>,
) -> bool {
    raw.clear();
    if word & UNCOMPRESSED != 0 {
        raw.extend_from_slice(stored);
    } else if word == 0 {
        raw.resize(raw_len, 0);
    } else {
        raw.reserve(raw_len);
        if zstd.decompress_to_buffer(stored, raw).is_err() {
            return false;
        }
    }
    raw.len() == raw_len
}
