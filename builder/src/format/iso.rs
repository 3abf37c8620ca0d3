//! `iso`: NAME.iso, which boots by BIOS and by UEFI, from a CD and from a USB stick.
//!
//! ```text
//! isohybrid's code, GPT | descriptors | isolinux | FAT: EFI/BOOT/BOOTX64.EFI | kit/root.squashfs | GPT
//!                                                      \ .initrd, .linux: also /boot/initrd.img, /boot/vmlinuz
//! ```
//!
//! BIOS reads kernel and initrd through isolinux, UEFI as one unified kernel image; they are stored once. The root is
//! found by the volume ID, since a CD has no partitions.

use super::uki::{Uki, boot_path};
use super::{FormatError, root_image, write_error};
use crate::output::Staging;
use crate::root::{Root, RootId};
use kit_disk::content::GiveError;
use kit_disk::fat;
use kit_disk::gpt::Guid;
use kit_disk::iso9660::{BLOCK, Content, Entry, HYBRID_CODE_LEN, Hybrid, Layout, Options};
use kit_spec::artifact::{Boot, Firmware};
use std::path::Path;

/// The entry that holds the FAT volume.
const ESP: usize = 0;
/// The entry that is isolinux.
const ISOLINUX: usize = 1;

pub(super) fn write(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    let name = format!("{}.iso", root.name);
    let path = dir.join(&name);
    let kernel = root.kernel()?;
    let uki = Uki::new(root, &path)?;
    let esp = esp(root, &uki, &path)?;
    let within = esp.offset(0).unwrap_or(0);
    let (initrd_at, initrd_len) = uki.initrd();
    let part = |offset: u64, len| Content::Part { of: ESP, offset: within + offset, len };
    let entries = vec![
        Entry::new("boot/efi.img", Content::File(esp.size())),
        Entry::new(
            "isolinux/isolinux.bin",
            Content::Bytes(root.boot_file("usr/lib/ISOLINUX/isolinux.bin", "isolinux")?),
        ),
        Entry::new(
            "isolinux/ldlinux.c32",
            Content::Bytes(root.boot_file("usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common")?),
        ),
        Entry::new("isolinux/isolinux.cfg", Content::Bytes(configuration(&kernel.cmdline_for(root.id)))),
        Entry::new("boot/initrd.img", part(initrd_at, initrd_len)),
        Entry::new("boot/vmlinuz", part(uki.kernel_offset(), kernel.len)),
        Entry::new("kit/root.squashfs", Content::InPlace),
    ];
    let options = Options {
        volume_id: root.id.volume_id(),
        epoch: root.epoch,
        bios: Some(ISOLINUX),
        uefi: Some(ESP),
        hybrid: Some(hybrid(root)?),
    };
    let layout = Layout::new(entries, options).map_err(|source| write_error(&path, source))?;
    let out = staging.begin(&name)?;
    let give = |_: usize, sink: &mut dyn std::io::Write| -> Result<(), GiveError> {
        Ok(esp.write(sink, |_, sink| uki.write(sink))?)
    };
    layout
        .write_in_place(out, give, |window| Ok(root_image::write(root, &path, window).map(drop)?))
        .map_err(|source| write_error(&path, source))?;
    Ok(Boot::Iso { image: name, firmware: vec![Firmware::Bios, Firmware::Uefi] })
}

fn esp(root: &Root, uki: &Uki, path: &Path) -> Result<fat::Layout, FormatError> {
    let id = root.id.derived("esp").bytes();
    let options = fat::Options {
        size: fat::Size::AtLeast(0),
        label: Some("ESP".into()),
        volume_id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
        epoch: root.epoch,
        // What is a part of it has to begin at a block of the ISO.
        alignment: BLOCK,
        ..fat::Options::default()
    };
    let entries = [fat::Entry::file(boot_path(root.arch), uki.len())];
    fat::Layout::new(&entries, &options).map_err(|source| write_error(path, source))
}

fn hybrid(root: &Root) -> Result<Hybrid, FormatError> {
    let code = root.boot_file("usr/lib/ISOLINUX/isohdpfx.bin", "isolinux")?;
    let code = <[u8; HYBRID_CODE_LEN]>::try_from(code.as_slice()).map_err(|_| FormatError::BootFile {
        path: "usr/lib/ISOLINUX/isohdpfx.bin (432 bytes)".into(),
        package: "isolinux",
    })?;
    let guid = |id: RootId| Guid::from_hash(id.bytes());
    let signature = root.id.derived("mbr").bytes();
    Ok(Hybrid {
        code: Some(Box::new(code)),
        signature: u32::from_le_bytes([signature[0], signature[1], signature[2], signature[3]]),
        disk_id: guid(root.id.derived("disk")),
        esp_id: guid(root.id.derived("esp")),
    })
}

fn configuration(cmdline: &str) -> Vec<u8> {
    // The serial line as well: servers have no screen.
    format!(
        "SERIAL 0 115200\nDEFAULT kit\nPROMPT 0\nTIMEOUT 1\nLABEL kit\n  KERNEL /boot/vmlinuz\n  INITRD /boot/initrd.img\n  APPEND {cmdline}\n"
    )
    .into_bytes()
}
