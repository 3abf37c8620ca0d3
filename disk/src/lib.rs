//! Bytes of file systems and disks: archives, file systems, partition tables and boot images, written as streams.
//!
//! **Invariant:** `disk` knows bytes only; it knows no node and no image.
//!
//! Every writer is generic over [`std::io::Write`] (and [`std::io::Seek`] where a size is known only after the
//! bytes), takes contents as readers or closures of a stated length, and is deterministic: times, volume
//! identifiers and GUIDs are the caller's, nothing here reads a clock or a directory. What has to be computed before
//! a byte can be written (cluster chains, sector addresses) is a separate, pure `layout` step, so that two formats
//! can share one extent. A disk with an EFI system partition, as a stream:
//!
//! ```
//! use kit_disk::{fat, gpt};
//! use std::io::{self, Read, Write};
//!
//! let files = [fat::Entry::file("EFI/BOOT/BOOTX64.EFI", 5)];
//! let esp = fat::Layout::new(&files, &fat::Options::default())?;
//! let id = gpt::Guid::from_hash(*b"a hash's 16 byte");
//! let wanted = vec![gpt::Wanted {
//!     kind: gpt::kind::ESP,
//!     id,
//!     name: "esp".into(),
//!     attributes: 0,
//!     size: esp.size(),
//! }];
//! let table = gpt::Table::pack(id, wanted)?;
//! let begin = table.partitions()[0].offset();
//! let end = table.disk_size() - gpt::BACKUP_SECTORS * gpt::SECTOR;
//!
//! let mut disk = table.primary(&gpt::Mbr::protective(table.disk_sectors()));
//! io::copy(&mut io::repeat(0).take(begin - disk.len() as u64), &mut disk)?;
//! esp.write(&mut disk, |_, out| Ok(out.write_all(b"hello")?))?;
//! io::copy(&mut io::repeat(0).take(end - disk.len() as u64), &mut disk)?;
//! disk.extend(table.backup());
//!
//! let found = gpt::read(&mut io::Cursor::new(disk))?;
//! assert_eq!(found.find(id).unwrap().offset(), begin);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod calendar;
pub mod content;
pub mod window;

pub mod cpio;
pub mod fat;
pub mod gpt;
pub mod iso9660;
pub mod squashfs;
pub mod uki;
