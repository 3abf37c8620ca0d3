//! The bytes of a volume, in the order of their places.

use super::geometry::Geometry;
use super::name::{self, ENTRY_LEN, Short};
use super::tree::{Name, Target};
use super::{Kind, Layout, Run, SECTOR, WriteError};
use crate::calendar::Civil;
use crate::content::{self, GiveError};
use std::io::Write;

const MEDIA_FIXED_DISK: u8 = 0xf8;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;
/// Where FAT32 keeps its FSInfo sector, and its copies of the first sectors.
const FS_INFO_SECTOR: u64 = 1;
const BACKUP_SECTOR: u64 = 6;

/// An output that knows how far it is.
struct Out<'a, W: ?Sized> {
    out: &'a mut W,
    at: u64,
}

impl<W: Write + ?Sized> Out<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(|source| WriteError::Volume { offset: self.at, source })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn zeros_to(&mut self, end: u64) -> Result<(), WriteError> {
        let zeros = [0; 16 * 1024];
        while self.at < end {
            let n = (end - self.at).min(zeros.len() as u64) as usize;
            self.put(&zeros[..n])?;
        }
        Ok(())
    }
}

/// Writes the first `end` bytes of the volume.
pub(super) fn volume<W: Write + ?Sized>(
    layout: &Layout,
    out: &mut W,
    mut give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    end: u64,
) -> Result<(), WriteError> {
    let mut out = Out { out, at: 0 };
    reserved(layout, &mut out)?;
    for _ in 0..2 {
        fat(layout, &mut out)?;
    }
    let geometry = &layout.geometry;
    for (n, run) in layout.directories.iter().enumerate() {
        // The root of FAT12/16 has no run: it stands where the stream is now.
        if run.first != 0 {
            out.zeros_to(geometry.offset(run.first))?;
        }
        out.put(&directory(layout, n))?;
    }
    for (n, run) in layout.files.iter().enumerate().filter(|(_, run)| run.first != 0) {
        out.zeros_to(geometry.offset(run.first))?;
        let wrap = |source| WriteError::File { path: layout.paths[n].clone(), source };
        content::give(|sink| give(n, sink), run.len, out.out).map_err(wrap)?;
        out.at += run.len;
    }
    out.zeros_to(end)
}

fn reserved<W: Write + ?Sized>(layout: &Layout, out: &mut Out<'_, W>) -> Result<(), WriteError> {
    let boot = boot_sector(layout);
    out.put(&boot)?;
    if layout.geometry.kind == Kind::Fat32 {
        let info = fs_info(layout);
        for first in [0, BACKUP_SECTOR] {
            out.zeros_to(first * SECTOR)?;
            if first > 0 {
                out.put(&boot)?;
            }
            out.zeros_to((first + FS_INFO_SECTOR) * SECTOR)?;
            out.put(&info)?;
        }
    }
    out.zeros_to(u64::from(layout.geometry.reserved) * SECTOR)
}

/// The boot sector (specification, sections 3.1 to 3.3), without code: nothing boots from it.
fn boot_sector(layout: &Layout) -> [u8; SECTOR as usize] {
    let Geometry { kind, sectors_per_cluster, reserved, fat, root_entries, total, .. } = layout.geometry;
    let mut b = [0; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    let wide = kind == Kind::Fat32;
    put(0, &[0xeb, if wide { 0x58 } else { 0x3c }, 0x90]);
    put(3, b"MSWIN4.1");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[sectors_per_cluster as u8]);
    put(14, &(reserved as u16).to_le_bytes());
    put(16, &[2]);
    put(17, &(root_entries as u16).to_le_bytes());
    match u16::try_from(total) {
        Ok(total) if !wide => put(19, &total.to_le_bytes()),
        _ => put(32, &total.to_le_bytes()),
    }
    put(21, &[MEDIA_FIXED_DISK]);
    // A geometry for those who ask for one: 63 sectors, 255 heads.
    put(24, &63u16.to_le_bytes());
    put(26, &255u16.to_le_bytes());
    put(28, &layout.options.hidden_sectors.to_le_bytes());
    let extended = if wide {
        put(36, &fat.to_le_bytes());
        put(44, &layout.directories.first().map_or(2, |root| root.first).to_le_bytes());
        put(48, &(FS_INFO_SECTOR as u16).to_le_bytes());
        put(50, &(BACKUP_SECTOR as u16).to_le_bytes());
        64
    } else {
        put(22, &(fat as u16).to_le_bytes());
        36
    };
    put(extended, &[0x80, 0, 0x29]);
    put(extended + 3, &layout.options.volume_id.to_le_bytes());
    put(extended + 7, &layout.label.unwrap_or(*b"NO NAME    "));
    let name = match kind {
        Kind::Fat12 => b"FAT12   ",
        Kind::Fat16 => b"FAT16   ",
        Kind::Fat32 => b"FAT32   ",
    };
    put(extended + 18, name);
    put(510, &[0x55, 0xaa]);
    b
}

/// FAT32's counts of free clusters (specification, section 5).
fn fs_info(layout: &Layout) -> [u8; SECTOR as usize] {
    let runs = || layout.directories.iter().chain(&layout.files);
    let used: u32 = runs().map(|run| run.count).sum();
    let next = runs().map(|run| run.first + run.count).max().unwrap_or(2);
    // Where nothing is free, "unknown" is what the specification has.
    let next = if next - 2 < layout.geometry.clusters { next } else { u32::MAX };
    let mut b = [0; SECTOR as usize];
    b[..4].copy_from_slice(b"RRaA");
    b[484..488].copy_from_slice(b"rrAa");
    b[488..492].copy_from_slice(&(layout.geometry.clusters - used).to_le_bytes());
    b[492..496].copy_from_slice(&next.to_le_bytes());
    b[510..].copy_from_slice(&[0x55, 0xaa]);
    b
}

/// One copy of the FAT. Runs are in the order of their clusters, so it is made in one pass.
fn fat<W: Write + ?Sized>(layout: &Layout, out: &mut Out<'_, W>) -> Result<(), WriteError> {
    let geometry = &layout.geometry;
    let end = out.at + u64::from(geometry.fat) * SECTOR;
    let (ones, bits): (u32, u32) = match geometry.kind {
        Kind::Fat12 => (0xfff, 12),
        Kind::Fat16 => (0xffff, 16),
        Kind::Fat32 => (0x0fff_ffff, 32),
    };
    let mut entries = Entries { bits, pending: 0, pending_bits: 0, bytes: Vec::with_capacity(1 << 16) };
    entries.push(ones & !0xff | u32::from(MEDIA_FIXED_DISK));
    entries.push(ones);
    let mut next = 2;
    for run in layout.directories.iter().chain(&layout.files).filter(|run| run.count > 0) {
        for cluster in next..run.first + run.count {
            entries.push(match cluster {
                c if c < run.first => 0,
                c if c + 1 == run.first + run.count => ones,
                c => c + 1,
            });
            if entries.bytes.len() >= 1 << 16 {
                out.put(&entries.bytes)?;
                entries.bytes.clear();
            }
        }
        next = run.first + run.count;
    }
    entries.flush();
    out.put(&entries.bytes)?;
    out.zeros_to(end)
}

/// FAT entries packed low bits first, which is what all three widths are.
struct Entries {
    bits: u32,
    pending: u64,
    pending_bits: u32,
    bytes: Vec<u8>,
}

impl Entries {
    fn push(&mut self, entry: u32) {
        self.pending |= u64::from(entry) << self.pending_bits;
        self.pending_bits += self.bits;
        while self.pending_bits >= 8 {
            self.shift();
        }
    }

    /// The half byte that an odd number of 12-bit entries leaves.
    fn flush(&mut self) {
        if self.pending_bits > 0 {
            self.shift();
        }
    }

    fn shift(&mut self) {
        self.bytes.push(self.pending as u8);
        self.pending >>= 8;
        self.pending_bits = self.pending_bits.saturating_sub(8);
    }
}

/// The bytes of a directory, up to the end of its run or (root of FAT12/16) of its region.
fn directory(layout: &Layout, n: usize) -> Vec<u8> {
    let tree = layout.tree.directory(n);
    let run = layout.directories[n];
    let mut bytes = Vec::new();
    if n == 0 {
        if let Some(label) = &layout.label {
            bytes.extend(entry(layout, label, ATTRIBUTE_LABEL, 0, 0));
        }
    } else {
        // The root is 0 to its children, on FAT32 too.
        let parent = if tree.parent == 0 { 0 } else { layout.directories[tree.parent].first };
        bytes.extend(entry(layout, b".          ", ATTRIBUTE_DIRECTORY, run.first, 0));
        bytes.extend(entry(layout, b"..         ", ATTRIBUTE_DIRECTORY, parent, 0));
    }
    for Name { long, short, target } in &tree.names {
        name::long_entries(long, short).iter().for_each(|part| bytes.extend(part));
        bytes.extend(match *target {
            Target::Directory(n) => entry(layout, short, ATTRIBUTE_DIRECTORY, layout.directories[n].first, 0),
            Target::File(n) => {
                let Run { first, len, .. } = layout.files[n];
                // The tree has refused longer files.
                entry(layout, short, ATTRIBUTE_ARCHIVE, first, len as u32)
            }
        });
    }
    let size = if run.first == 0 {
        layout.geometry.root_entries as usize * ENTRY_LEN
    } else {
        run.count as usize * layout.geometry.cluster() as usize
    };
    bytes.resize(size, 0);
    bytes
}

/// A directory entry (specification, section 6).
fn entry(layout: &Layout, short: &Short, attributes: u8, first: u32, len: u32) -> [u8; ENTRY_LEN] {
    let (date, time) = dos_time(layout.options.epoch);
    let mut b = [0; ENTRY_LEN];
    b[..11].copy_from_slice(short);
    b[11] = attributes;
    let is_label = attributes == ATTRIBUTE_LABEL;
    if !is_label {
        b[14..16].copy_from_slice(&time.to_le_bytes());
        b[16..18].copy_from_slice(&date.to_le_bytes());
        b[18..20].copy_from_slice(&date.to_le_bytes());
    }
    b[20..22].copy_from_slice(&((first >> 16) as u16).to_le_bytes());
    b[22..24].copy_from_slice(&time.to_le_bytes());
    b[24..26].copy_from_slice(&date.to_le_bytes());
    b[26..28].copy_from_slice(&(first as u16).to_le_bytes());
    b[28..].copy_from_slice(&len.to_le_bytes());
    b
}

/// Date and time in FAT's 16 bits each, from 1980 on, in steps of two seconds.
fn dos_time(epoch: u32) -> (u16, u16) {
    let at = Civil::from_epoch(epoch);
    if at.year < 1980 {
        return (1 << 5 | 1, 0);
    }
    let date = (at.year - 1980) << 9 | u16::from(at.month) << 5 | u16::from(at.day);
    (date, u16::from(at.hour) << 11 | u16::from(at.minute) << 5 | u16::from(at.second / 2))
}
