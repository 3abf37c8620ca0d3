//! Reading who a volume is, so that a loader finds its root on whatever device it turns up on.

use super::{BLOCK, FIRST_DESCRIPTOR};
use std::io::{self, Read, Seek, SeekFrom};

/// The most descriptors that are looked at; volumes have three or four.
const MAX_DESCRIPTORS: u64 = 32;

/// Why no volume was found.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The device could not be read, or is too short.
    #[error("read ISO 9660 descriptor at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The device's error.
        source: io::Error,
    },
    /// A descriptor does not say `CD001`.
    #[error("no ISO 9660 volume: no descriptor at byte {offset}")]
    NotIso {
        /// Where.
        offset: u64,
    },
    /// The descriptors end without a primary one, or do not end.
    #[error("no ISO 9660 volume: no primary descriptor")]
    NoPrimary,
    /// The blocks are not of 2048 bytes.
    #[error("ISO 9660 volume with blocks of {block_size} bytes")]
    BlockSize {
        /// Their size in bytes.
        block_size: u16,
    },
}

/// What the primary volume descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The volume identifier, without the spaces that fill it up.
    pub id: String,
    /// Bytes of the volume.
    pub size: u64,
}

/// Reads the primary volume descriptor of `device`.
///
/// # Errors
/// See [`ReadError`].
pub fn read_volume<D: Read + Seek>(device: &mut D) -> Result<Volume, ReadError> {
    for n in 0..MAX_DESCRIPTORS {
        let offset = (u64::from(FIRST_DESCRIPTOR) + n) * BLOCK;
        let mut block = [0; BLOCK as usize];
        let read = device.seek(SeekFrom::Start(offset)).and_then(|_| device.read_exact(&mut block));
        read.map_err(|source| ReadError::Read { offset, source })?;
        if &block[1..6] != b"CD001" {
            return Err(ReadError::NotIso { offset });
        }
        match block[0] {
            1 => return primary(&block),
            255 => break,
            _ => {}
        }
    }
    Err(ReadError::NoPrimary)
}

fn primary(block: &[u8; BLOCK as usize]) -> Result<Volume, ReadError> {
    let block_size = u16::from_le_bytes([block[128], block[129]]);
    if u64::from(block_size) != BLOCK {
        return Err(ReadError::BlockSize { block_size });
    }
    let id = String::from_utf8_lossy(&block[40..72]).trim_end_matches([' ', '\0']).to_owned();
    let blocks = u32::from_le_bytes([block[80], block[81], block[82], block[83]]);
    Ok(Volume { id, size: u64::from(blocks) * BLOCK })
}
