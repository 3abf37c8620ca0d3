//! One data block: hashed, compressed, checked, decompressed.

use super::Settings;
use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
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

/// A full or last block's part, at `offset` bytes, in the digest of a content of more than one block. BLAKE3 is a tree
/// over chunks of 1 KiB, and blocks are whole subtrees of it: so the threads hash blocks, and [`join`] makes of them
/// what hashing the whole content gives.
pub(super) fn subtree(bytes: &[u8], offset: u64) -> Digest {
    Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// The digest of a content from its blocks' [`subtree`]s, in order; a single block's is its own [`digest`].
pub(super) fn join(blocks: &[Digest]) -> Digest {
    match blocks {
        [] => digest(&[]),
        [only] => *only,
        _ => {
            let (left, right) = halves(blocks);
            *merge_subtrees_root(&subtree_of(left), &subtree_of(right), Mode::Hash).as_bytes()
        }
    }
}

fn subtree_of(blocks: &[Digest]) -> Digest {
    match blocks {
        [only] => *only,
        _ => {
            let (left, right) = halves(blocks);
            merge_subtrees_non_root(&subtree_of(left), &subtree_of(right), Mode::Hash)
        }
    }
}

/// The left part is the largest power of two that leaves something for the right one.
fn halves(blocks: &[Digest]) -> (&[Digest], &[Digest]) {
    blocks.split_at(blocks.len().div_ceil(2).next_power_of_two())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_blocks_is_the_digest_of_the_whole() {
        let content: Vec<u8> = (0..40 * 4096u32 + 100).map(|n| (n % 251) as u8).collect();
        for len in
            [4096, 4097, 8192, 8193, 12_288, 5 * 4096, 7 * 4096 + 1, 8 * 4096, 33 * 4096, content.len()]
        {
            let content = &content[..len];
            let blocks: Vec<_> = match len {
                4096 => vec![digest(content)],
                _ => content.chunks(4096).zip(0..).map(|(block, n)| subtree(block, n * 4096)).collect(),
            };
            assert_eq!(join(&blocks), digest(content), "{len} bytes");
        }
        assert_eq!(join(&[]), digest(&[]));
    }

    #[test]
    fn only_zeros_are_zero() {
        assert!(is_zero(&[]) && is_zero(&[0]) && is_zero(&[0; 4096]));
        for at in [0, 1, 2047, 4095] {
            let mut bytes = [0; 4096];
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
        }
        assert!(!is_zero(&[1; 100]));
    }
}
