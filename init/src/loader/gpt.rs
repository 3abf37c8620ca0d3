//! As much of a GPT (UEFI specification, chapter 5) as finds a partition by its ID. The disk may hold anything.

use super::cmdline::Uuid;
use std::io::{self, Read, Seek, SeekFrom};

const MAX_ENTRIES: u32 = 1024;
const ENTRY_SIZES: std::ops::RangeInclusive<u32> = 128..=4096;

/// The number, from 1, of the partition that has an ID. The table's backup is not asked: who lost the first copy has
/// a disk to repair, and the kernel that reads partitions needs it too.
///
/// # Errors
/// When the disk cannot be read.
pub(super) fn partition(disk: &mut (impl Read + Seek), sector: u64, wanted: Uuid) -> io::Result<Option<u32>> {
    let mut header = [0; 92];
    disk.seek(SeekFrom::Start(sector))?;
    disk.read_exact(&mut header)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if &header[..8] != b"EFI PART" || word(12) != 92 {
        return Ok(None);
    }
    let mut unsummed = header;
    unsummed[16..20].fill(0);
    if crc32(&unsummed, 0) != word(16) {
        return Ok(None);
    }
    let first = u64::from(word(72)) | u64::from(word(76)) << 32;
    let (count, size, sum) = (word(80), word(84), word(88));
    let Some(start) = first.checked_mul(sector) else { return Ok(None) };
    if count > MAX_ENTRIES || !ENTRY_SIZES.contains(&size) {
        return Ok(None);
    }
    disk.seek(SeekFrom::Start(start))?;
    let mut entry = vec![0; size as usize];
    let (mut found, mut running) = (None, 0);
    for number in 1..=count {
        disk.read_exact(&mut entry)?;
        running = crc32(&entry, running);
        let mut id = [0; 16];
        id.copy_from_slice(&entry[16..32]);
        let used = entry[..16].iter().any(|byte| *byte != 0);
        if used && Uuid::from_gpt(id) == wanted {
            found = found.or(Some(number));
        }
    }
    Ok(found.filter(|_| running == sum))
}

/// CRC-32 of IEEE 802.3, continued from `before`.
fn crc32(bytes: &[u8], before: u32) -> u32 {
    let mut crc = !before;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const ID: &str = "00112233-4455-8677-8899-aabbccddeeff";

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 512 * 40];
        let entries = 1024..1024 + 128 * 128;
        let id =
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x86, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        disk[1024 + 128] = 1;
        disk[1024 + 128 + 16..1024 + 128 + 32].copy_from_slice(&id);
        let sum = crc32(&disk[entries], 0);
        let header = &mut disk[512..512 + 92];
        header[..8].copy_from_slice(b"EFI PART");
        for (at, value) in [(12, 92), (72, 2), (80, 128), (84, 128), (88, sum)] {
            header[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        let sum = crc32(header, 0);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        disk
    }

    #[test]
    fn a_partition_is_found_by_its_id() {
        let find = |disk: Vec<u8>, id: &str| {
            partition(&mut Cursor::new(disk), 512, Uuid::parse(id).unwrap()).unwrap()
        };
        assert_eq!(find(disk(), ID), Some(2));
        assert_eq!(find(disk(), "00112233-4455-8677-8899-aabbccddee00"), None);
        let mut torn = disk();
        torn[1024 + 5 * 128] = 7;
        assert_eq!(find(torn, ID), None);
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789", 0), 0xCBF4_3926);
        assert_eq!(crc32(b"6789", crc32(b"12345", 0)), 0xCBF4_3926);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            let _ = partition(&mut Cursor::new(bytes), 512, Uuid([0; 16]));
        }
    }
}
