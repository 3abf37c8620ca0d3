//! The bytes of a volume: the head is encoded in memory, data is streamed.

use super::boot::{self, Image};
use super::susp;
use super::tree::{self, Record, Target, Tree};
use super::{BLOCK, Content, Date, FIRST_DESCRIPTOR, Layout, LayoutError, WriteError, narrow};
use crate::calendar::Civil;
use crate::content::{self, GiveError};
use crate::gpt::{Partition, SECTOR, Table, kind};
use crate::window::Window;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Where the structures before the data are, in blocks.
#[derive(Debug, Clone)]
pub(super) struct Head {
    catalog: Option<u32>,
    terminator: u32,
    /// Bytes of either path table.
    path_table_len: u32,
    path_table_le: u32,
    path_table_be: u32,
    /// First block and number of blocks of each directory.
    directories: Vec<(u32, u32)>,
    continuation: u32,
    end: u32,
}

impl Head {
    pub(super) fn new(tree: &Tree, has_catalog: bool) -> Result<Self, LayoutError> {
        let mut next = u64::from(FIRST_DESCRIPTOR) + 1;
        let mut take = |blocks: u64| {
            let at = next;
            next += blocks;
            narrow(next)?;
            narrow(at)
        };
        if has_catalog {
            // The boot record, which El Torito wants in block 17.
            take(1)?;
        }
        let terminator = take(1)?;
        let catalog = if has_catalog { Some(take(1)?) } else { None };
        let lens = tree.directories.iter().map(|d| 8 + d.identifier.len().next_multiple_of(2));
        // At most 65,535 directories of 40 bytes.
        let path_table_len = lens.sum::<usize>() as u32;
        let path_table_blocks = u64::from(path_table_len).div_ceil(BLOCK);
        let path_table_le = take(path_table_blocks)?;
        let path_table_be = take(path_table_blocks)?;
        let mut directories = Vec::with_capacity(tree.directories.len());
        for directory in &tree.directories {
            let blocks = directory.blocks();
            directories.push((take(blocks.into())?, blocks));
        }
        let continuation = take((tree.continuation.len() as u64).div_ceil(BLOCK))?;
        let end = take(0)?;
        Ok(Self {
            catalog,
            terminator,
            path_table_len,
            path_table_le,
            path_table_be,
            directories,
            continuation,
            end,
        })
    }

    /// The first block of data.
    pub(super) fn end(&self) -> u32 {
        self.end
    }
}

/// The GPT of a hybrid image with a UEFI boot image.
pub(super) fn table(layout: &Layout) -> Result<Option<Table>, LayoutError> {
    let (Some(hybrid), Some(esp)) = (&layout.options.hybrid, layout.options.uefi) else { return Ok(None) };
    let per_block = BLOCK / SECTOR;
    let extent = layout.extents[esp];
    let first_lba = u64::from(extent.block) * per_block;
    let partition = Partition {
        kind: kind::ESP,
        id: hybrid.esp_id,
        name: "EFI system partition".into(),
        attributes: 0,
        first_lba,
        // The image is not empty; `check_boot` has seen to that.
        last_lba: first_lba + extent.len.div_ceil(SECTOR).max(1) - 1,
    };
    let table = Table::new(hybrid.disk_id, u64::from(layout.blocks) * per_block, vec![partition]);
    table.map(Some).map_err(LayoutError::Gpt)
}

/// Writes a volume all of whose sizes are known.
pub(super) fn volume<W: Write + ?Sized>(
    layout: &Layout,
    out: &mut W,
    give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
) -> Result<(), WriteError> {
    put(out, 0, &head(layout).map_err(WriteError::Finish)?)?;
    data(layout, out, give)?;
    tail(layout, out, layout.data_end * BLOCK)
}

/// Writes a volume whose `n`th entry is written by `last`.
pub(super) fn volume_in_place<W: Write + Seek>(
    layout: &Layout,
    n: usize,
    out: &mut W,
    give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    last: impl FnOnce(&mut Window<'_, W>) -> Result<(), GiveError>,
) -> Result<Layout, WriteError> {
    let at = |offset| move |source| WriteError::Volume { offset, source };
    let origin = out.stream_position().map_err(at(0))?;
    put(out, 0, &head(layout).map_err(WriteError::Finish)?)?;
    data(layout, out, give)?;
    let begin = layout.data_end * BLOCK;
    let mut window = Window::new(out, super::MAX_FILE_LEN).map_err(at(begin))?;
    last(&mut window).map_err(|source| WriteError::File {
        path: layout.entries[n].path.clone(),
        source: content::ContentError::Give(source),
    })?;
    let len = window.len();
    let mut finished = layout.clone();
    finished.finish(len).map_err(WriteError::Finish)?;
    let end = begin + len;
    out.seek(SeekFrom::Start(origin + end)).map_err(at(end))?;
    tail(&finished, out, end)?;
    out.seek(SeekFrom::Start(origin)).map_err(at(0))?;
    put(out, 0, &head(&finished).map_err(WriteError::Finish)?)?;
    let size = finished.size();
    out.seek(SeekFrom::Start(origin + size)).map_err(at(size))?;
    Ok(finished)
}

fn put<W: Write + ?Sized>(out: &mut W, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
    out.write_all(bytes).map_err(|source| WriteError::Volume { offset, source })
}

fn zeros<W: Write + ?Sized>(out: &mut W, from: u64, to: u64) -> Result<(), WriteError> {
    let zeros = io::copy(&mut io::repeat(0).take(to.saturating_sub(from)), out);
    zeros.map(drop).map_err(|source| WriteError::Volume { offset: from, source })
}

/// Writes the files, each to the end of its last block.
fn data<W: Write + ?Sized>(
    layout: &Layout,
    out: &mut W,
    mut give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
) -> Result<(), WriteError> {
    for (n, (entry, extent)) in layout.entries.iter().zip(&layout.extents).enumerate() {
        let offset = u64::from(extent.block) * BLOCK;
        match &entry.content {
            Content::Bytes(bytes) => put(out, offset, bytes)?,
            Content::File(len) if *len > 0 => {
                let given = content::give(|sink| give(n, sink), *len, out);
                given.map_err(|source| WriteError::File { path: entry.path.clone(), source })?;
            }
            _ => continue,
        }
        let end = offset + extent.len;
        zeros(out, end, end.next_multiple_of(BLOCK))?;
    }
    Ok(())
}

/// Writes what follows the data, which ends at byte `from`.
fn tail<W: Write + ?Sized>(layout: &Layout, out: &mut W, from: u64) -> Result<(), WriteError> {
    let backup = table(layout).map_err(WriteError::Finish)?.map_or(Vec::new(), |t| t.backup());
    let to = layout.size() - backup.len() as u64;
    zeros(out, from, to)?;
    put(out, to, &backup)
}

/// Everything before the data.
fn head(layout: &Layout) -> Result<Vec<u8>, LayoutError> {
    let Head { catalog, terminator, path_table_le, path_table_be, continuation, end, .. } = layout.head;
    let mut bytes = vec![0; end as usize * BLOCK as usize];
    let mut put = |block: u32, content: &[u8]| {
        bytes[block as usize * BLOCK as usize..][..content.len()].copy_from_slice(content);
    };
    put(0, &system_area(layout)?);
    put(FIRST_DESCRIPTOR, &primary_descriptor(layout));
    put(terminator, b"\xffCD001\x01");
    if let Some(block) = catalog {
        let mut record = [0; 75];
        record[..7].copy_from_slice(b"\0CD001\x01");
        record[7..30].copy_from_slice(b"EL TORITO SPECIFICATION");
        record[71..].copy_from_slice(&block.to_le_bytes());
        put(FIRST_DESCRIPTOR + 1, &record);
        put(block, &boot::catalog(image(layout, layout.options.bios), image(layout, layout.options.uefi)));
    }
    put(path_table_le, &path_table(layout, u32::to_le_bytes, u16::to_le_bytes));
    put(path_table_be, &path_table(layout, u32::to_be_bytes, u16::to_be_bytes));
    for (n, (block, _)) in layout.head.directories.iter().enumerate() {
        put(*block, &directory(layout, n));
    }
    put(continuation, &layout.tree.continuation);
    Ok(bytes)
}

fn image(layout: &Layout, entry: Option<usize>) -> Option<Image> {
    entry.map(|n| Image { block: layout.extents[n].block, len: layout.extents[n].len })
}

fn system_area(layout: &Layout) -> Result<Vec<u8>, LayoutError> {
    let Some(hybrid) = &layout.options.hybrid else { return Ok(Vec::new()) };
    let table = table(layout)?;
    let sectors = u64::from(layout.blocks) * (BLOCK / SECTOR);
    let (code, bios) = (hybrid.code.as_deref(), image(layout, layout.options.bios));
    let mbr = boot::hybrid_mbr(code, hybrid.signature, bios, table.is_some(), sectors);
    Ok(table.map_or_else(|| mbr.encode().to_vec(), |table| table.primary(&mbr)))
}

/// The primary volume descriptor (ECMA-119 section 8.4).
fn primary_descriptor(layout: &Layout) -> Vec<u8> {
    let head = &layout.head;
    let mut b = vec![0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x01CD001\x01");
    // System, volume (spaces to its end) and the five text fields from the volume set on.
    put(8, &[b' '; 64]);
    put(40, layout.options.volume_id.as_bytes());
    put(80, &susp::both32(layout.blocks));
    for at in [120, 124] {
        put(at, &both16(1));
    }
    put(128, &both16(BLOCK as u16));
    put(132, &susp::both32(head.path_table_len));
    put(140, &head.path_table_le.to_le_bytes());
    put(148, &head.path_table_be.to_be_bytes());
    let root =
        Record { identifier: vec![0], target: Target::Directory(0), inline: Vec::new(), continued: None };
    put(156, &record(layout, &root));
    put(190, &[b' '; 813 - 190]);
    let long = long_date(layout.options.epoch);
    for at in [813, 830, 864] {
        put(at, &long);
    }
    // It does not expire.
    put(847, b"0000000000000000\0");
    put(881, &[1]);
    b
}

/// A path table (ECMA-119 section 9.4) in one byte order.
fn path_table(layout: &Layout, long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (directory, (block, _)) in layout.tree.directories.iter().zip(&layout.head.directories) {
        bytes.extend_from_slice(&[directory.identifier.len() as u8, 0]);
        bytes.extend_from_slice(&long(*block));
        // Numbers count from 1; there are at most 65,535.
        bytes.extend_from_slice(&short(directory.parent as u16 + 1));
        bytes.extend_from_slice(&directory.identifier);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
    }
    bytes
}

fn directory(layout: &Layout, n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record_of in &layout.tree.directories[n].records {
        let record = record(layout, record_of);
        bytes.resize(tree::place(bytes.len(), record.len()), 0);
        bytes.extend_from_slice(&record);
    }
    bytes
}

/// A directory record (ECMA-119 section 9.1).
fn record(layout: &Layout, record: &Record) -> Vec<u8> {
    let (block, len, flags) = match record.target {
        Target::Directory(n) => {
            let (block, blocks) = layout.head.directories[n];
            // A directory of 4 GiB would have been gigabytes of entries.
            (block, blocks * BLOCK as u32, tree::FLAG_DIRECTORY)
        }
        // Lengths are under 4 GiB: checked, or bounded by the window.
        Target::Entry(n) => (layout.extents[n].block, layout.extents[n].len as u32, 0),
    };
    let mut b = vec![record.len() as u8, 0];
    b.extend_from_slice(&susp::both32(block));
    b.extend_from_slice(&susp::both32(len));
    b.extend_from_slice(&date(layout.options.epoch));
    b.extend_from_slice(&[flags, 0, 0]);
    b.extend_from_slice(&both16(1));
    b.push(record.identifier.len() as u8);
    b.extend_from_slice(&record.identifier);
    if record.identifier.len().is_multiple_of(2) {
        b.push(0);
    }
    b.extend_from_slice(&record.inline);
    if let Some((at, len)) = record.continued {
        let (block, offset) = (at as u64 / BLOCK, at as u64 % BLOCK);
        b.extend_from_slice(&susp::ce(layout.head.continuation + block as u32, offset as u32, len as u32));
    }
    b.resize(record.len(), 0);
    b
}

fn both16(value: u16) -> [u8; 4] {
    let (le, be) = (value.to_le_bytes(), value.to_be_bytes());
    [le[0], le[1], be[0], be[1]]
}

/// A record's date.
pub(super) fn date(epoch: u32) -> Date {
    let at = Civil::from_epoch(epoch);
    // The year is at most 2106.
    [(at.year - 1900) as u8, at.month, at.day, at.hour, at.minute, at.second, 0]
}

/// A descriptor's date (ECMA-119 section 8.4.26.1).
fn long_date(epoch: u32) -> Vec<u8> {
    let Civil { year, month, day, hour, minute, second } = Civil::from_epoch(epoch);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00\0").into_bytes()
}
