//! GUID partition tables (UEFI specification 2.10, chapter 5), in sectors of 512 bytes.
//!
//! ```text
//! LBA 0    MBR, protective or hybrid            \
//! 1        primary header                        > Table::primary, 34 sectors
//! 2..33    128 entries of 128 bytes             /
//! 34..     partitions, each at a multiple of 1 MiB
//! n-33..   the entries again                    \  Table::backup, 33 sectors
//! n-1      backup header                        /
//! ```
//!
//! A [`Table`] is a value that has been checked: its partitions lie in the usable area and apart from each other, and
//! have names and identities that fit. It yields the bytes of both copies, so a disk is streamed: primary, partitions,
//! backup. [`read`] is the way back, made for a loader that meets disks it has not written.

use std::collections::BTreeSet;

mod guid;
mod mbr;
mod read;

pub use guid::{Guid, ParseGuidError};
pub use mbr::{KIND_ESP, KIND_FAT32_LBA, KIND_PROTECTIVE, Mbr, MbrEntry, SECTOR};
pub use read::{Copy, CopyError, Found, MAX_ENTRIES, ReadError, read};

/// Partition types (UEFI, and the Discoverable Partitions Specification).
pub mod kind {
    use super::Guid;

    /// EFI system partition.
    pub const ESP: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    /// Linux file system data.
    pub const LINUX_DATA: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
    /// Linux root, x86-64.
    pub const LINUX_ROOT_X86_64: Guid = Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
    /// Linux root, 64-bit Arm.
    pub const LINUX_ROOT_ARM64: Guid = Guid::from_u128(0xb921b045_1df0_41c3_af44_4c6f280d3fae);
    /// dm-verity data of the x86-64 root.
    pub const LINUX_ROOT_VERITY_X86_64: Guid = Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
    /// dm-verity data of the 64-bit Arm root.
    pub const LINUX_ROOT_VERITY_ARM64: Guid = Guid::from_u128(0xdf3300ce_d69f_4c92_978c_9bfb0f38d820);
    /// `/var` of a Linux system.
    pub const LINUX_VAR: Guid = Guid::from_u128(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d);
    /// Linux swap.
    pub const LINUX_SWAP: Guid = Guid::from_u128(0x0657fd6d_a4ab_43c4_84e5_0933c84b4f4f);
    /// Second stage of a BIOS boot loader.
    pub const BIOS_BOOT: Guid = Guid::from_u128(0x21686148_6449_6e6f_744e_656564454649);
    /// Data in any file system ("Microsoft basic data").
    pub const BASIC_DATA: Guid = Guid::from_u128(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);
}

/// Attribute bits of a partition.
pub mod attribute {
    /// The platform needs the partition.
    pub const REQUIRED: u64 = 1;
    /// BIOS boot code may boot from it.
    pub const LEGACY_BOOTABLE: u64 = 1 << 2;
    /// Mounted read-only (Discoverable Partitions Specification).
    pub const READ_ONLY: u64 = 1 << 60;
    /// Not mounted automatically.
    pub const NO_AUTO: u64 = 1 << 63;
}

/// Entries of a table written here.
pub const ENTRIES: usize = 128;
/// Sectors of [`Table::primary`].
pub const PRIMARY_SECTORS: u64 = 34;
/// Sectors of [`Table::backup`].
pub const BACKUP_SECTORS: u64 = 33;
/// Sectors of 1 MiB, at multiples of which partitions begin.
pub const ALIGNMENT: u64 = 2048;

const ENTRY_LEN: usize = 128;
const HEADER_LEN: usize = 92;
const NAME_UNITS: usize = 36;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;

/// The next sector at a multiple of 1 MiB, from `lba` on.
pub const fn align_lba(lba: u64) -> u64 {
    lba.next_multiple_of(ALIGNMENT)
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for; see [`kind`].
    pub kind: Guid,
    /// Its own identity (Linux' `PARTUUID`).
    pub id: Guid,
    /// Its label, at most 36 UTF-16 units.
    pub name: String,
    /// See [`attribute`].
    pub attributes: u64,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
}

impl Partition {
    /// Byte offset of its first sector.
    pub fn offset(&self) -> u64 {
        self.first_lba.saturating_mul(SECTOR)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.last_lba.saturating_sub(self.first_lba).saturating_add(1).saturating_mul(SECTOR)
    }
}

/// A partition that has a size and no place yet; see [`Table::pack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is for.
    pub kind: Guid,
    /// Its own identity.
    pub id: Guid,
    /// Its label.
    pub name: String,
    /// See [`attribute`].
    pub attributes: u64,
    /// Its size in bytes, rounded up to sectors.
    pub size: u64,
}

/// Why partitions do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The disk cannot hold the two copies of the table.
    #[error("a disk of {sectors} sectors has no room for a GPT")]
    DiskTooSmall {
        /// The disk's size.
        sectors: u64,
    },
    /// More partitions than entries.
    #[error("{count} partitions, but a table has {ENTRIES} entries")]
    TooMany {
        /// Partitions given.
        count: usize,
    },
    /// A partition ends before it begins, or leaves the usable area.
    #[error("partition {name:?}: sectors {first}..={last} are not within {usable_first}..={usable_last}")]
    OutOfBounds {
        /// The partition's name.
        name: String,
        /// First sector.
        first: u64,
        /// Last sector.
        last: u64,
        /// First sector that may be used.
        usable_first: u64,
        /// Last sector that may be used.
        usable_last: u64,
    },
    /// Two partitions share a sector.
    #[error("partitions {a:?} and {b:?} share sector {lba}")]
    Overlap {
        /// The one that begins first.
        a: String,
        /// The other.
        b: String,
        /// The first sector they share.
        lba: u64,
    },
    /// Two partitions have one identity.
    #[error("partition {name:?}: the GUID {id} is another partition's")]
    DuplicateId {
        /// The second of them.
        name: String,
        /// The identity.
        id: Guid,
    },
    /// The type is all zeros, which means an empty entry.
    #[error("partition {name:?} has no type")]
    NoKind {
        /// The partition's name.
        name: String,
    },
    /// The label is too long.
    #[error("partition {name:?}: the name takes {units} UTF-16 units, an entry has {NAME_UNITS}")]
    Name {
        /// The partition's name.
        name: String,
        /// Its length.
        units: usize,
    },
}

/// A checked table: what is in it can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    disk_id: Guid,
    disk_sectors: u64,
    partitions: Vec<Partition>,
}

impl Table {
    /// A table for a disk of `disk_sectors` sectors with `partitions` in this order.
    ///
    /// # Errors
    /// See [`TableError`]. Alignment is not checked: [`Table::pack`] sees to it, and a hybrid ISO has its own.
    pub fn new(disk_id: Guid, disk_sectors: u64, partitions: Vec<Partition>) -> Result<Self, TableError> {
        if disk_sectors <= PRIMARY_SECTORS + BACKUP_SECTORS {
            return Err(TableError::DiskTooSmall { sectors: disk_sectors });
        }
        if partitions.len() > ENTRIES {
            return Err(TableError::TooMany { count: partitions.len() });
        }
        let table = Self { disk_id, disk_sectors, partitions };
        let mut ids = BTreeSet::new();
        for partition in &table.partitions {
            table.check(partition)?;
            if !ids.insert(partition.id) {
                return Err(TableError::DuplicateId { name: partition.name.clone(), id: partition.id });
            }
        }
        let mut by_place: Vec<&Partition> = table.partitions.iter().collect();
        by_place.sort_by_key(|p| p.first_lba);
        if let Some(pair) = by_place.windows(2).find(|pair| pair[1].first_lba <= pair[0].last_lba) {
            let (a, b) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(TableError::Overlap { a, b, lba: pair[1].first_lba });
        }
        Ok(table)
    }

    /// A table with `wanted` one after the other at multiples of 1 MiB, on the smallest disk of whole MiB that holds
    /// them and both copies of the table.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn pack(disk_id: Guid, wanted: Vec<Wanted>) -> Result<Self, TableError> {
        if wanted.len() > ENTRIES {
            return Err(TableError::TooMany { count: wanted.len() });
        }
        let mut next = ALIGNMENT;
        let mut partitions = Vec::with_capacity(wanted.len());
        for Wanted { kind, id, name, attributes, size } in wanted {
            let (first_lba, sectors) = (align_lba(next), size.div_ceil(SECTOR).max(1));
            next = first_lba + sectors;
            partitions.push(Partition { kind, id, name, attributes, first_lba, last_lba: next - 1 });
        }
        Self::new(disk_id, align_lba(next + BACKUP_SECTORS), partitions)
    }

    /// The disk's identity.
    pub fn disk_id(&self) -> Guid {
        self.disk_id
    }

    /// The disk's size in sectors.
    pub fn disk_sectors(&self) -> u64 {
        self.disk_sectors
    }

    /// The disk's size in bytes.
    pub fn disk_size(&self) -> u64 {
        self.disk_sectors.saturating_mul(SECTOR)
    }

    /// The partitions, in the order of their entries.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// First sector that a partition may use.
    pub fn first_usable(&self) -> u64 {
        PRIMARY_SECTORS
    }

    /// Last sector that a partition may use.
    pub fn last_usable(&self) -> u64 {
        self.disk_sectors - BACKUP_SECTORS - 1
    }

    /// The disk's first [`PRIMARY_SECTORS`] sectors: `mbr`, header, entries.
    pub fn primary(&self, mbr: &Mbr) -> Vec<u8> {
        let entries = self.entries();
        let mut bytes = mbr.encode().to_vec();
        bytes.extend_from_slice(&self.header(&entries, 1, self.disk_sectors - 1, 2));
        bytes.extend_from_slice(&entries);
        bytes
    }

    /// The disk's last [`BACKUP_SECTORS`] sectors: entries, header.
    pub fn backup(&self) -> Vec<u8> {
        let mut bytes = self.entries();
        let header = self.header(&bytes, self.disk_sectors - 1, 1, self.disk_sectors - BACKUP_SECTORS);
        bytes.extend_from_slice(&header);
        bytes
    }

    fn check(&self, partition: &Partition) -> Result<(), TableError> {
        let Partition { kind, name, first_lba: first, last_lba: last, .. } = partition;
        let (usable_first, usable_last) = (self.first_usable(), self.last_usable());
        if *kind == Guid::NIL {
            return Err(TableError::NoKind { name: name.clone() });
        }
        if *first < usable_first || *last > usable_last || first > last {
            let (name, first, last) = (name.clone(), *first, *last);
            return Err(TableError::OutOfBounds { name, first, last, usable_first, usable_last });
        }
        let units = name.encode_utf16().count();
        if units > NAME_UNITS {
            return Err(TableError::Name { name: name.clone(), units });
        }
        Ok(())
    }

    fn entries(&self) -> Vec<u8> {
        let mut bytes = vec![0; ENTRIES * ENTRY_LEN];
        for (entry, partition) in bytes.chunks_exact_mut(ENTRY_LEN).zip(&self.partitions) {
            entry[..16].copy_from_slice(&partition.kind.to_disk());
            entry[16..32].copy_from_slice(&partition.id.to_disk());
            entry[32..40].copy_from_slice(&partition.first_lba.to_le_bytes());
            entry[40..48].copy_from_slice(&partition.last_lba.to_le_bytes());
            entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
            for (unit, to) in partition.name.encode_utf16().zip(entry[56..].chunks_exact_mut(2)) {
                to.copy_from_slice(&unit.to_le_bytes());
            }
        }
        bytes
    }

    /// A header (section 5.3.2) in a sector of its own.
    fn header(&self, entries: &[u8], my_lba: u64, other_lba: u64, entries_lba: u64) -> [u8; SECTOR as usize] {
        let mut bytes = [0; SECTOR as usize];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&my_lba.to_le_bytes());
        bytes[32..40].copy_from_slice(&other_lba.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_usable().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.last_usable().to_le_bytes());
        bytes[56..72].copy_from_slice(&self.disk_id.to_disk());
        bytes[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        bytes[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        bytes[84..88].copy_from_slice(&(ENTRY_LEN as u32).to_le_bytes());
        bytes[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_LEN]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
