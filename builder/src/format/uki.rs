//! A unified kernel image: systemd's stub with the kernel, an initrd and the command line in one file that UEFI starts.

use super::initrd::{self, Place};
use super::{FormatError, write_error};
use crate::root::Root;
use kit_disk::content::GiveError;
use kit_disk::uki::{Layout, Section};
use kit_spec::artifact::Arch;
use std::io::{self, Cursor, Write};
use std::path::Path;

/// A unified kernel image, its size known.
pub(super) struct Uki<'a> {
    root: &'a Root,
    layout: Layout,
    text: [Vec<u8>; 2],
    initrd: Vec<u8>,
}

const LINUX: usize = 3;

impl<'a> Uki<'a> {
    /// Puts the parts together; `path` is only for errors.
    pub(super) fn new(root: &'a Root, path: &Path) -> Result<Uki<'a>, FormatError> {
        let kernel = root.kernel()?;
        let stub = root.boot_file(stub_path(root.arch), "systemd-boot-efi")?;
        let release = format!("ID=kit\nNAME=kit\nPRETTY_NAME=\"{}\"\nIMAGE_ID={}\n", root.name, root.name);
        let text = [release.into_bytes(), kernel.cmdline_for(root.id).into_bytes()];
        let mut initrd = Cursor::new(Vec::new());
        initrd::write(root, Place::Medium, path, &mut initrd)?;
        let initrd = initrd.into_inner();
        // The stub of systemd 252 wants the kernel last: it needs room behind it.
        let sections = [
            Section::new(".osrel", text[0].len() as u64),
            Section::new(".cmdline", text[1].len() as u64),
            Section::new(".initrd", initrd.len() as u64),
            Section::new(".linux", kernel.len),
        ];
        let layout = Layout::new(&stub, &sections).map_err(|source| write_error(path, source))?;
        Ok(Uki { root, layout, text, initrd })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.layout.size()
    }

    /// Where the kernel and the initrd are in it.
    pub(super) fn kernel_offset(&self) -> u64 {
        self.layout.offset(LINUX).unwrap_or(0)
    }

    /// Where the initrd is in it, and its size in bytes.
    pub(super) fn initrd(&self) -> (u64, u64) {
        (self.layout.offset(LINUX - 1).unwrap_or(0), self.initrd.len() as u64)
    }

    /// Writes the file.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(), GiveError> {
        self.layout.write(out, |section, out| {
            match section {
                0 | 1 => out.write_all(&self.text[section])?,
                2 => out.write_all(&self.initrd)?,
                _ => {
                    let blob = &self.root.kernel()?.blob;
                    io::copy(&mut self.root.contents.open(blob)?, out)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// The stub's path in its package.
fn stub_path(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        Arch::Arm64 => "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
    }
}

/// Where firmware looks for what it starts, on a disk that nobody told it about.
pub(super) fn boot_path(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "EFI/BOOT/BOOTX64.EFI",
        Arch::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
    }
}
