//! What firmware looks at: the El Torito catalog on a CD, the system area on a disk.
//!
//! ```text
//! CD, BIOS    boot record -> catalog -> isolinux.bin, whose boot-info table says where it is itself
//! CD, UEFI    boot record -> catalog -> FAT image of an EFI system partition
//! disk, BIOS  MBR code (isohdpfx, 432 bytes) -> address at 0x1b0 -> isolinux.bin
//! disk, UEFI  GPT -> EFI system partition
//! ```
//!
//! El Torito 1.0; UEFI specification 2.10, section 13.3.2.1. What follows the MBR code is isohybrid's convention.

use super::{BLOCK, FIRST_DESCRIPTOR, LayoutError};
use crate::gpt::{Mbr, MbrEntry};

/// Bytes of isohybrid's MBR code; the boot image's address follows.
pub const HYBRID_CODE_LEN: usize = 432;

/// isolinux.bin has this number at byte 64 if isohybrid's code can start it.
const HYBRID_MARK: [u8; 4] = [0xfb, 0xc0, 0x78, 0x70];
/// The boot-info table is at bytes 8 to 64 of the boot image.
const BOOT_INFO: std::ops::Range<usize> = 8..64;
const PLATFORM_BIOS: u8 = 0;
const PLATFORM_UEFI: u8 = 0xef;
const BOOTABLE: u8 = 0x88;
const LAST_SECTION: u8 = 0x91;
/// 512-byte sectors that a BIOS loads of the boot image: isolinux loads the rest itself.
const BIOS_SECTORS: u16 = 4;
/// The type that isohybrid gives a partition over the whole image.
const KIND_HYBRID: u8 = 0x17;

/// An extent as the catalog needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    pub(super) block: u32,
    pub(super) len: u64,
}

/// Puts the boot-info table (PVD's and own address, length, checksum) into a BIOS boot image that will be at `block`.
pub(super) fn patch_boot_info(image: &mut [u8], block: u32) -> Result<(), LayoutError> {
    if image.len() <= BOOT_INFO.end {
        return Err(LayoutError::BootImage { len: image.len() });
    }
    let words = image[BOOT_INFO.end..].chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    });
    let checksum = words.fold(0u32, u32::wrapping_add);
    // Files are under 4 GiB.
    let table = [FIRST_DESCRIPTOR, block, image.len() as u32, checksum];
    image[BOOT_INFO].fill(0);
    for (n, value) in table.into_iter().enumerate() {
        image[BOOT_INFO.start + 4 * n..][..4].copy_from_slice(&value.to_le_bytes());
    }
    Ok(())
}

/// Whether isohybrid's MBR code can start this boot image.
pub(super) fn is_hybrid_image(image: &[u8]) -> bool {
    image.get(64..68) == Some(&HYBRID_MARK)
}

/// The boot catalog, for one or both platforms.
pub(super) fn catalog(bios: Option<Image>, uefi: Option<Image>) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK as usize];
    let platform = if bios.is_some() { PLATFORM_BIOS } else { PLATFORM_UEFI };
    let mut validation = [0; 32];
    validation[..2].copy_from_slice(&[1, platform]);
    validation[30..].copy_from_slice(&[0x55, 0xaa]);
    let words = validation.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    bytes[..32].copy_from_slice(&validation);
    let uefi = uefi.map(|image| entry(image, uefi_sectors(image.len)));
    match (bios, uefi) {
        (Some(bios), uefi) => {
            bytes[32..64].copy_from_slice(&entry(bios, BIOS_SECTORS));
            if let Some(uefi) = uefi {
                bytes[64..68].copy_from_slice(&[LAST_SECTION, PLATFORM_UEFI, 1, 0]);
                bytes[96..128].copy_from_slice(&uefi);
            }
        }
        (None, Some(uefi)) => bytes[32..64].copy_from_slice(&uefi),
        (None, None) => {}
    }
    bytes
}

/// The image's 512-byte sectors. The field has 16 bits; 0 makes firmware take all up to the medium's end, which the FAT
/// inside then bounds.
fn uefi_sectors(len: u64) -> u16 {
    u16::try_from(len.div_ceil(512)).unwrap_or(0)
}

fn entry(image: Image, sectors: u16) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[0] = BOOTABLE;
    entry[6..8].copy_from_slice(&sectors.to_le_bytes());
    entry[8..12].copy_from_slice(&image.block.to_le_bytes());
    entry
}

/// The MBR of a hybrid image of `sectors` 512-byte sectors.
pub(super) fn hybrid_mbr(
    code: Option<&[u8; HYBRID_CODE_LEN]>,
    signature: u32,
    bios: Option<Image>,
    with_gpt: bool,
    sectors: u64,
) -> Mbr {
    let mut mbr = Mbr { code: [0; 440], signature, entries: [MbrEntry::default(); 4] };
    if let (Some(code), Some(bios)) = (code, bios) {
        mbr.code[..HYBRID_CODE_LEN].copy_from_slice(code);
        let sector = u64::from(bios.block) * (BLOCK / 512);
        mbr.code[HYBRID_CODE_LEN..].copy_from_slice(&sector.to_le_bytes());
    }
    let active = |kind, sectors| MbrEntry { active: true, kind, first_lba: 0, sectors };
    if with_gpt {
        mbr.entries[0] = MbrEntry::protective(sectors);
        // Type 0 is not in use to UEFI and Linux, yet active to a BIOS that wants an active partition on a stick.
        mbr.entries[1] = active(0, 1);
    } else {
        mbr.entries[0] = active(KIND_HYBRID, u32::try_from(sectors).unwrap_or(u32::MAX));
    }
    mbr
}
