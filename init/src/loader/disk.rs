//! Which disk, partition or CD holds the root.
//!
//! | what | how it says which root it holds |
//! |---|---|
//! | a GPT partition | its own ID |
//! | an ISO 9660 image, on a CD or a disk | its volume ID: the UUID's 32 digits |
//! | a disk that is a squashfs | 16 bytes of mark and the UUID, at the 4 KiB boundary behind it |

use super::cmdline::Uuid;
use super::gpt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const TRAILER: &[u8; 16] = b"kit-root-trailer";
const BLOCK: &str = "/sys/class/block";

/// Where the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The root's squashfs is this device.
    Device(String),
    /// The root is a file on this ISO 9660.
    Iso(String),
}

/// Asks every disk; also what the others are, for an error.
pub(super) fn find(wanted: &Uuid) -> (Option<Place>, Vec<String>) {
    let mut names: Vec<String> = fs::read_dir(BLOCK)
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    let mut others = Vec::new();
    for name in names {
        let sys = Path::new(BLOCK).join(&name);
        let idle = ["loop", "ram", "zram", "fd"].iter().any(|kind| name.starts_with(kind));
        if idle || sys.join("partition").exists() {
            continue;
        }
        match ask(&name, &sys, wanted) {
            Ok(Some(place)) => return (Some(place), others),
            Ok(None) => others.push(format!("{name} (another's)")),
            Err(error) => others.push(format!("{name} ({error})")),
        }
    }
    (None, others)
}

fn ask(name: &str, sys: &Path, wanted: &Uuid) -> io::Result<Option<Place>> {
    let device = format!("/dev/{name}");
    let mut disk = File::open(&device)?;
    let sector = fs::read_to_string(sys.join("queue/logical_block_size"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(512);
    // An image for a stick has both, and its partition table is made for 512 bytes.
    if iso_volume_id(&mut disk)?.is_some_and(|id| id == wanted.volume_id().as_bytes()) {
        return Ok(Some(Place::Iso(device)));
    }
    if let Some(number) = gpt::partition(&mut disk, sector, *wanted).or_else(short_is_none)? {
        return Ok(partition_name(sys, number).map(|name| Place::Device(format!("/dev/{name}"))));
    }
    let found = squashfs_trailer(&mut disk)?.is_some_and(|id| id == *wanted);
    Ok(found.then_some(Place::Device(device)))
}

/// The volume ID of an ISO 9660 (ECMA-119, 8.4): in the primary descriptor at sector 16.
fn iso_volume_id(disk: &mut (impl Read + Seek)) -> io::Result<Option<[u8; 32]>> {
    let mut descriptor = [0; 72];
    disk.seek(SeekFrom::Start(16 * 2048))?;
    if let Err(error) = disk.read_exact(&mut descriptor) {
        return short_is_none(error);
    }
    if &descriptor[..6] != b"\x01CD001" {
        return Ok(None);
    }
    let mut id = [0; 32];
    id.copy_from_slice(&descriptor[40..72]);
    Ok(Some(id))
}

/// The ID behind a squashfs, whose superblock says how long it is (at byte 40).
fn squashfs_trailer(disk: &mut (impl Read + Seek)) -> io::Result<Option<Uuid>> {
    let mut superblock = [0; 48];
    disk.seek(SeekFrom::Start(0))?;
    if let Err(error) = disk.read_exact(&mut superblock) {
        return short_is_none(error);
    }
    if &superblock[..4] != b"hsqs" {
        return Ok(None);
    }
    let mut used = [0; 8];
    used.copy_from_slice(&superblock[40..48]);
    let Some(end) = u64::from_le_bytes(used).checked_next_multiple_of(4096) else { return Ok(None) };
    let mut trailer = [0; 32];
    if disk.seek(SeekFrom::Start(end)).is_err() {
        return Ok(None);
    }
    if let Err(error) = disk.read_exact(&mut trailer) {
        return short_is_none(error);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&trailer[16..]);
    Ok((&trailer[..16] == TRAILER).then_some(Uuid(id)))
}

/// A disk that is too short for something does not have it.
fn short_is_none<T>(error: io::Error) -> io::Result<Option<T>> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) }
}

fn partition_name(disk: &Path, number: u32) -> Option<String> {
    let entries = fs::read_dir(disk).ok()?;
    entries.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path().join("partition")).ok()?;
        (text.trim().parse() == Ok(number)).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_volume_id_is_read_where_there_is_one() {
        let mut disk = vec![0; 17 * 2048];
        assert_eq!(iso_volume_id(&mut Cursor::new(&disk)).unwrap(), None);
        disk[16 * 2048..16 * 2048 + 6].copy_from_slice(b"\x01CD001");
        disk[16 * 2048 + 40..16 * 2048 + 72].fill(b'A');
        assert_eq!(iso_volume_id(&mut Cursor::new(&disk)).unwrap(), Some([b'A'; 32]));
        assert_eq!(iso_volume_id(&mut Cursor::new(&disk[..100])).unwrap(), None);
    }

    #[test]
    fn an_id_behind_a_squashfs_is_read() {
        let mut disk = vec![0; 3 * 4096];
        disk[..4].copy_from_slice(b"hsqs");
        disk[40..48].copy_from_slice(&4097u64.to_le_bytes());
        assert_eq!(squashfs_trailer(&mut Cursor::new(&disk)).unwrap(), None);
        disk[8192..8208].copy_from_slice(TRAILER);
        disk[8208..8224].fill(7);
        assert_eq!(squashfs_trailer(&mut Cursor::new(&disk)).unwrap(), Some(Uuid([7; 16])));
        disk[40..48].fill(0xff);
        assert_eq!(squashfs_trailer(&mut Cursor::new(&disk)).unwrap(), None);
    }
}
