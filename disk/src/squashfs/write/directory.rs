//! A directory's listing: runs of entries whose inodes are in one metadata block, and the index of a long listing.

use super::WriteError;
use super::metadata::{BLOCK, Metadata, Place};

/// Entries that a header can count.
const RUN: usize = 256;
/// Listings longer than this have an index, one entry for each metadata block.
const INDEXED: usize = BLOCK;
/// What a directory's size has more than its listing, for `.` and `..`.
const DOTS: u32 = 3;

/// One name.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Where the inode is.
    pub(super) place: Place,
    pub(super) number: u32,
    /// The basic inode type.
    pub(super) kind: u16,
}

/// A listing that was written.
#[derive(Clone, Default)]
pub(super) struct Listing {
    /// Where it begins in the directory table.
    pub(super) place: Place,
    /// As the inode has it: three more than the bytes.
    pub(super) size: u32,
    /// The index, as it follows the inode.
    pub(super) index: Vec<u8>,
    /// Its entries.
    pub(super) index_len: u16,
}

/// Writes a listing; `entries` are sorted by name in byte order. None if it is too long.
pub(super) fn write(table: &mut Metadata, entries: &[Entry<'_>]) -> Result<Option<Listing>, WriteError> {
    let start = table.place()?;
    let mut listing = Listing { place: start, ..Listing::default() };
    let indexed = entries.iter().map(|entry| 8 + entry.name.len()).sum::<usize>() > INDEXED;
    let mut rest = entries;
    let mut len = 0u64;
    let mut indexed_block = start.block;
    while let Some(first) = rest.first() {
        let (run, later) = rest.split_at(run_len(rest, start.offset as usize + len as usize, indexed));
        let place = table.place()?;
        if indexed && place.block != indexed_block {
            indexed_block = place.block;
            let Ok(at) = u32::try_from(len) else { return Ok(None) };
            for word in [at, place.block, first.name.len() as u32 - 1] {
                listing.index.extend_from_slice(&word.to_le_bytes());
            }
            listing.index.extend_from_slice(first.name);
            let Some(count) = listing.index_len.checked_add(1) else { return Ok(None) };
            listing.index_len = count;
        }
        for word in [run.len() as u32 - 1, first.place.block, first.number] {
            table.put(&word.to_le_bytes())?;
        }
        len += 12;
        for entry in run {
            let delta = entry.number.wrapping_sub(first.number) as u16;
            for half in [entry.place.offset, delta, entry.kind, entry.name.len() as u16 - 1] {
                table.put(&half.to_le_bytes())?;
            }
            table.put(entry.name)?;
            len += 8 + entry.name.len() as u64;
        }
        rest = later;
    }
    let Some(size) = u32::try_from(len).ok().and_then(|len| len.checked_add(DOTS)) else { return Ok(None) };
    listing.size = size;
    Ok(Some(listing))
}

/// How many of `entries` one header can stand for, which is at `start` of the listing's first metadata block. With an
/// index a run also ends where a metadata block does, so that there is a header to point at in each.
fn run_len(entries: &[Entry<'_>], start: usize, indexed: bool) -> usize {
    let first = &entries[0];
    let mut end = start + 12;
    for (count, entry) in entries.iter().enumerate() {
        let near = i64::from(entry.number) - i64::from(first.number);
        let reached = entry.place.block == first.place.block && i16::try_from(near).is_ok();
        let crossed = indexed && end / BLOCK != start / BLOCK;
        if count == RUN || count > 0 && (!reached || crossed) {
            return count;
        }
        end += 8 + entry.name.len();
    }
    entries.len()
}
