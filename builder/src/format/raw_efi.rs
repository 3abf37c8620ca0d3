//! `raw-efi`: NAME-efi.img, a disk that UEFI boots.
//!
//! ```text
//! GPT | EFI system partition: EFI/BOOT/BOOTX64.EFI, a unified kernel image | root: squashfs | GPT
//! ```
//!
//! The root's partition has the root's own ID, by which the kernel in the same disk finds it.

use super::uki::{Uki, boot_path};
use super::{FormatError, root_image, write_error};
use crate::output::Staging;
use crate::root::Root;
use kit_disk::fat::{Entry, Kind, Layout, Options, Size};
use kit_disk::gpt::{self, Guid, Mbr, Table, Wanted, attribute};
use kit_spec::artifact::{Arch, Boot, Firmware};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

const MIB: u64 = 1 << 20;
/// Room for a second kernel of the same size beside the first, so that a node can be updated in place.
const ESP_ROOM: u64 = 8 * MIB;

pub(super) fn write(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    let name = format!("{}-efi.img", root.name);
    let path = dir.join(&name);
    let uki = Uki::new(root, &path)?;
    let entries =
        [Entry::directory("EFI"), Entry::directory("EFI/BOOT"), Entry::file(boot_path(root.arch), uki.len())];
    let size = (2 * uki.len() + ESP_ROOM).next_multiple_of(MIB).max(64 * MIB);
    let id = root.id.derived("esp").bytes();
    let options = Options {
        kind: Some(Kind::Fat32),
        size: Size::Exactly(size),
        label: Some("ESP".into()),
        volume_id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
        epoch: root.epoch,
        ..Options::default()
    };
    let esp = Layout::new(&entries, &options).map_err(|source| write_error(&path, source))?;
    let out = staging.begin(&name)?;
    let io_failed = |source: io::Error| write_error(&path, source);
    // The root first, since only then its size is known, and with it where everything else ends.
    let esp_at = gpt::ALIGNMENT * gpt::SECTOR;
    let root_at = (esp_at + esp.size()).next_multiple_of(MIB);
    out.seek(SeekFrom::Start(root_at)).map_err(io_failed)?;
    let root_len = root_image::write(root, &path, out)?;
    let table = table(root, esp.size(), root_len).map_err(|source| write_error(&path, source))?;
    out.seek(SeekFrom::Start(esp_at)).map_err(io_failed)?;
    esp.write_used(&mut BufWriter::with_capacity(256 << 10, &mut *out), |_, sink| uki.write(sink))
        .map_err(|source| write_error(&path, source))?;
    let mut tables = || {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&table.primary(&Mbr::protective(table.disk_sectors())))?;
        out.set_len(table.disk_size())?;
        out.seek(SeekFrom::Start(table.disk_size() - gpt::BACKUP_SECTORS * gpt::SECTOR))?;
        out.write_all(&table.backup())
    };
    tables().map_err(io_failed)?;
    Ok(Boot::Disk { image: name, firmware: vec![Firmware::Uefi] })
}

fn table(root: &Root, esp: u64, root_len: u64) -> Result<Table, gpt::TableError> {
    let guid = |id: crate::root::RootId| Guid::from_hash(id.bytes());
    let kind = match root.arch {
        Arch::Amd64 => gpt::kind::LINUX_ROOT_X86_64,
        Arch::Arm64 => gpt::kind::LINUX_ROOT_ARM64,
    };
    let esp = Wanted {
        kind: gpt::kind::ESP,
        id: guid(root.id.derived("esp")),
        name: "esp".into(),
        attributes: 0,
        size: esp,
    };
    let system = Wanted {
        kind,
        id: guid(root.id),
        name: "root".into(),
        attributes: attribute::READ_ONLY,
        size: root_len,
    };
    Table::pack(guid(root.id.derived("disk")), vec![esp, system])
}
