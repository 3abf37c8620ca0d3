//! The first sector: boot code and four partition entries.
//!
//! ```text
//! 0    boot code (440 bytes; isohybrid: 432 and the boot image's address)
//! 440  disk signature | 2 reserved | 446: 4 entries of 16 bytes | 510: 55 aa
//! ```
//!
//! On a GPT disk it holds one *protective* entry over everything (UEFI specification 2.10 section 5.2.3). A hybrid ISO
//! adds an active entry of type 0, for firmware that refuses a stick without one: type 0 means "not in use", so
//! neither UEFI nor Linux take it for a partition and the disk remains a plain GPT one to them.

/// Bytes of a sector, and the unit of every LBA here.
pub const SECTOR: u64 = 512;

/// Entry type of a GPT disk's protective entry.
pub const KIND_PROTECTIVE: u8 = 0xee;
/// Entry type of an EFI system partition.
pub const KIND_ESP: u8 = 0xef;
/// Entry type of FAT32 with LBA addressing.
pub const KIND_FAT32_LBA: u8 = 0x0c;

/// One of four entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MbrEntry {
    /// Whether the entry has the active flag (0x80).
    pub active: bool,
    /// The type byte; 0 is an entry not in use.
    pub kind: u8,
    /// First sector.
    pub first_lba: u32,
    /// Number of sectors.
    pub sectors: u32,
}

impl MbrEntry {
    /// The entry that keeps tools without GPT from taking the disk for empty: sector 1 to the end, or as much of it
    /// as 32 bits can say.
    pub fn protective(disk_sectors: u64) -> Self {
        let sectors = u32::try_from(disk_sectors.saturating_sub(1)).unwrap_or(u32::MAX);
        Self { active: false, kind: KIND_PROTECTIVE, first_lba: 1, sectors }
    }

    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if self == Self::default() {
            return bytes;
        }
        bytes[0] = if self.active { 0x80 } else { 0 };
        bytes[1..4].copy_from_slice(&chs(u64::from(self.first_lba)));
        bytes[4] = self.kind;
        let last = (u64::from(self.first_lba) + u64::from(self.sectors)).saturating_sub(1);
        bytes[5..8].copy_from_slice(&chs(last));
        bytes[8..12].copy_from_slice(&self.first_lba.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.sectors.to_le_bytes());
        bytes
    }
}

/// Cylinder, head and sector of `lba` on 255 heads and 63 sectors, all ones where that overflows (as the UEFI
/// specification asks of the protective entry).
fn chs(lba: u64) -> [u8; 3] {
    let (cylinder, head, sector) = (lba / (255 * 63), lba / 63 % 255, lba % 63 + 1);
    if cylinder > 1023 {
        return [0xff; 3];
    }
    [head as u8, (sector | cylinder >> 8 << 6) as u8, cylinder as u8]
}

/// A master boot record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// Boot code; zeros on a disk that only UEFI boots.
    pub code: [u8; 440],
    /// The disk's 32-bit signature, zero for none.
    pub signature: u32,
    /// The entries.
    pub entries: [MbrEntry; 4],
}

impl Mbr {
    /// No code and one protective entry.
    pub fn protective(disk_sectors: u64) -> Self {
        let mut entries = [MbrEntry::default(); 4];
        entries[0] = MbrEntry::protective(disk_sectors);
        Self { code: [0; 440], signature: 0, entries }
    }

    /// The sector's bytes.
    pub fn encode(&self) -> [u8; SECTOR as usize] {
        let mut bytes = [0; SECTOR as usize];
        bytes[..440].copy_from_slice(&self.code);
        bytes[440..444].copy_from_slice(&self.signature.to_le_bytes());
        for (n, entry) in self.entries.iter().enumerate() {
            bytes[446 + 16 * n..][..16].copy_from_slice(&entry.encode());
        }
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        bytes
    }
}
