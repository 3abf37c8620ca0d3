//! Reading a table off a disk that anyone may have written.
//!
//! The primary copy is taken if its checksums hold, else the backup in the last sector. Memory is bounded by
//! [`MAX_ENTRIES`] whatever the header says; no address that the disk gives is followed beyond the disk.

use super::{ENTRY_LEN, Guid, HEADER_LEN, NAME_UNITS, Partition, REVISION, SECTOR, SIGNATURE};
use std::io::{self, Read, Seek, SeekFrom};

/// The most entries that are read. Tables in use have 128.
pub const MAX_ENTRIES: u32 = 1024;
/// The largest entry that is read; it is 128 in practice.
const MAX_ENTRY_LEN: u32 = 1024;

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// In sector 1.
    Primary,
    /// In the last sector.
    Backup,
}

/// Why one copy was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The sector does not begin with `EFI PART`.
    #[error("no GPT header at sector {lba}")]
    Signature {
        /// Where it was looked for.
        lba: u64,
    },
    /// A field is not what the format or this reader allows.
    #[error("GPT header at sector {lba}: {field} is {value}")]
    Field {
        /// The header's sector.
        lba: u64,
        /// The field's name in the specification.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The header's checksum is wrong.
    #[error("GPT header at sector {lba}: checksum {computed:08x}, header says {stored:08x}")]
    HeaderChecksum {
        /// The header's sector.
        lba: u64,
        /// What the bytes give.
        computed: u32,
        /// What the header says.
        stored: u32,
    },
    /// The entries' checksum is wrong.
    #[error("GPT entries at sector {lba}: checksum {computed:08x}, header says {stored:08x}")]
    EntriesChecksum {
        /// The entries' first sector.
        lba: u64,
        /// What the bytes give.
        computed: u32,
        /// What the header says.
        stored: u32,
    },
    /// The disk could not be read.
    #[error("read disk at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The disk's error.
        source: io::Error,
    },
}

/// Why a disk gave no table.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk's size could not be had.
    #[error("find the end of the disk")]
    Size(#[source] io::Error),
    /// Neither copy is whole. The message has the backup's fault, the source the primary's.
    #[error("no whole GPT: backup: {backup}")]
    Neither {
        /// Why the primary was not taken.
        #[source]
        primary: CopyError,
        /// Why the backup was not taken.
        backup: CopyError,
    },
}

/// What was read. Unlike a [`super::Table`] it is only as sound as its checksums: partitions may overlap or leave the
/// disk.
#[derive(Debug)]
pub struct Found {
    /// The disk's identity.
    pub disk_id: Guid,
    /// The entries in use, in order.
    pub partitions: Vec<Partition>,
    /// The copy they came from.
    pub copy: Copy,
    /// Why it is not the primary, if it is not.
    pub primary_error: Option<CopyError>,
    /// The disk's whole sectors, as seeking to its end tells.
    pub disk_sectors: u64,
}

impl Found {
    /// The partition with the identity `id`, if it lies within the disk.
    pub fn find(&self, id: Guid) -> Option<&Partition> {
        self.partitions
            .iter()
            .find(|p| p.id == id && p.first_lba <= p.last_lba && p.last_lba < self.disk_sectors)
    }
}

/// Reads the table of `disk`: the primary copy, or else the backup.
///
/// # Errors
/// [`ReadError`] if neither copy is whole.
pub fn read<D: Read + Seek>(disk: &mut D) -> Result<Found, ReadError> {
    let disk_sectors = disk.seek(SeekFrom::End(0)).map_err(ReadError::Size)? / SECTOR;
    let primary = match read_copy(disk, 1) {
        Ok((disk_id, partitions)) => {
            let copy = Copy::Primary;
            return Ok(Found { disk_id, partitions, copy, primary_error: None, disk_sectors });
        }
        Err(primary) => primary,
    };
    match read_copy(disk, disk_sectors.saturating_sub(1)) {
        Ok((disk_id, partitions)) => {
            let copy = Copy::Backup;
            Ok(Found { disk_id, partitions, copy, primary_error: Some(primary), disk_sectors })
        }
        Err(backup) => Err(ReadError::Neither { primary, backup }),
    }
}

fn read_copy<D: Read + Seek>(disk: &mut D, lba: u64) -> Result<(Guid, Vec<Partition>), CopyError> {
    let mut sector = [0; SECTOR as usize];
    seek_to(disk, lba)?;
    read_at(disk, lba * SECTOR, &mut sector)?;
    let header = Header::parse(&sector, lba)?;
    let partitions = read_entries(disk, &header)?;
    Ok((header.disk_id, partitions))
}

struct Header {
    disk_id: Guid,
    entries_lba: u64,
    entries: u32,
    entry_len: u32,
    entries_crc: u32,
}

impl Header {
    fn parse(sector: &[u8; SECTOR as usize], lba: u64) -> Result<Self, CopyError> {
        if &sector[..8] != SIGNATURE {
            return Err(CopyError::Signature { lba });
        }
        let field = |field, value| CopyError::Field { lba, field, value };
        let len = le32(sector, 12);
        if !(HEADER_LEN as u32..=SECTOR as u32).contains(&len) {
            return Err(field("HeaderSize", u64::from(len)));
        }
        let stored = le32(sector, 16);
        let mut hash = crc32fast::Hasher::new();
        hash.update(&sector[..16]);
        hash.update(&[0; 4]);
        hash.update(&sector[20..len as usize]);
        let computed = hash.finalize();
        if computed != stored {
            return Err(CopyError::HeaderChecksum { lba, computed, stored });
        }
        let revision = le32(sector, 8);
        if revision != REVISION {
            return Err(field("Revision", u64::from(revision)));
        }
        if le64(sector, 24) != lba {
            return Err(field("MyLBA", le64(sector, 24)));
        }
        let (entries, entry_len) = (le32(sector, 80), le32(sector, 84));
        if entries > MAX_ENTRIES {
            return Err(field("NumberOfPartitionEntries", u64::from(entries)));
        }
        if !(ENTRY_LEN as u32..=MAX_ENTRY_LEN).contains(&entry_len) || !entry_len.is_power_of_two() {
            return Err(field("SizeOfPartitionEntry", u64::from(entry_len)));
        }
        let disk_id = Guid::from_disk(array(sector, 56));
        let entries_lba = le64(sector, 72);
        Ok(Self { disk_id, entries_lba, entries, entry_len, entries_crc: le32(sector, 88) })
    }
}

fn read_entries<D: Read + Seek>(disk: &mut D, header: &Header) -> Result<Vec<Partition>, CopyError> {
    let lba = header.entries_lba;
    seek_to(disk, lba)?;
    let mut entry = [0; MAX_ENTRY_LEN as usize];
    let entry = &mut entry[..header.entry_len as usize];
    let mut hash = crc32fast::Hasher::new();
    let mut partitions = Vec::new();
    for n in 0..header.entries {
        // `seek_to` has shown that the first byte's offset fits; a disk ends long before this wraps.
        let offset = (lba * SECTOR).saturating_add(u64::from(n) * u64::from(header.entry_len));
        read_at(disk, offset, entry)?;
        hash.update(entry);
        let kind = Guid::from_disk(array(entry, 0));
        if kind != Guid::NIL {
            let units: Vec<u16> = entry[56..56 + 2 * NAME_UNITS]
                .chunks_exact(2)
                .map(|b| u16::from_le_bytes([b[0], b[1]]))
                .take_while(|unit| *unit != 0)
                .collect();
            partitions.push(Partition {
                kind,
                id: Guid::from_disk(array(entry, 16)),
                name: String::from_utf16_lossy(&units),
                attributes: le64(entry, 48),
                first_lba: le64(entry, 32),
                last_lba: le64(entry, 40),
            });
        }
    }
    let (computed, stored) = (hash.finalize(), header.entries_crc);
    if computed != stored {
        return Err(CopyError::EntriesChecksum { lba, computed, stored });
    }
    Ok(partitions)
}

fn seek_to<D: Seek>(disk: &mut D, lba: u64) -> Result<(), CopyError> {
    let offset = lba.checked_mul(SECTOR).filter(|o| i64::try_from(*o).is_ok());
    let offset = offset.ok_or(CopyError::Field { lba, field: "PartitionEntryLBA", value: lba })?;
    disk.seek(SeekFrom::Start(offset)).map(drop).map_err(|source| CopyError::Read { offset, source })
}

fn read_at<D: Read>(disk: &mut D, offset: u64, buf: &mut [u8]) -> Result<(), CopyError> {
    disk.read_exact(buf).map_err(|source| CopyError::Read { offset, source })
}

/// `N` bytes at `at`; callers' offsets are constants within the buffer.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
