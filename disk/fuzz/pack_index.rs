//! Any numbers in the index of a pack, its counts and its checksum being right, are refused, or can all be used.
#![no_main]

use kit_disk::squashfs::pack::{FileRef, PackIndex};

/// Bytes of a file, a content, a fragment and a block in an index.
const LENGTHS: [usize; 4] = [4, 52, 4, 56];

libfuzzer_sys::fuzz_target!(|input: (u8, u8, [u8; 4], &[u8])| {
    let (block_log, level, counts, rest) = input;
    let counts = counts.map(|count| usize::from(count % 8));
    let mut bytes = b"kitpack\n\x02\0\0\0\0\0\0\0".to_vec();
    bytes.extend([block_log, level]);
    bytes.extend(counts.iter().flat_map(|count| (*count as u32).to_le_bytes()));
    let len: usize = counts.iter().zip(LENGTHS).map(|(count, len)| count * len).sum();
    bytes.extend(rest.iter().copied().chain(std::iter::repeat(0)).take(len));
    let sum = blake3::hash(&bytes);
    bytes.extend(&sum.as_bytes()[..16]);
    let Ok(index) = PackIndex::from_bytes(&bytes) else { return };
    assert_eq!(index.to_bytes(), bytes);
    for file in (0..index.file_count()).map(FileRef::new) {
        assert!(index.len_of(file).is_some() && index.digest_of(file).is_some());
    }
    let _ = (index.stored_len(), index.unique_len(), index.key());
});
