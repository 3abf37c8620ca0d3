//! The initrd: a loader, the modules it needs, and for `kernel+initrd` the root itself.
//!
//! ```text
//! [ucode cpio] | /init  /kit/load  /lib/modules/RELEASE/..  [/root.squashfs]
//! ```
//!
//! The archive is not compressed: most of it is the root, which is, and which is mounted where it lies. Memory then
//! holds the compressed root and what is in use of it, not all of it unpacked.

use super::{FormatError, kernel_boot, root_image, write_error};
use crate::contents::Blob;
use crate::kernel::{ROOT_MODULES, Release, STORAGE_MODULES};
use crate::output::Staging;
use crate::root::Root;
use kit_disk::cpio::{self, Meta, Special, Writer};
use kit_spec::artifact::Boot;
use std::collections::BTreeSet;
use std::io::{self, Seek, Write};
use std::path::Path;

/// Where the loader finds the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the initrd, beside it.
    Inside,
    /// On a disk or CD, whose drivers it loads.
    Medium,
}

/// `kernel+initrd`: NAME-kernel, NAME-initrd.img, NAME-cmdline.
pub(super) fn kernel_initrd(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    kernel_files(root, dir, staging)?;
    let name = format!("{}-initrd.img", root.name);
    write(root, Place::Inside, &dir.join(&name), staging.begin(&name)?)?;
    kernel_boot(root, name, None)
}

/// `kernel+squashfs`: NAME-kernel, NAME-squashfs-initrd.img, NAME-squashfs.img, NAME-cmdline.
pub(super) fn kernel_squashfs(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    kernel_files(root, dir, staging)?;
    let name = format!("{}-squashfs-initrd.img", root.name);
    write(root, Place::Medium, &dir.join(&name), staging.begin(&name)?)?;
    let disk = format!("{}-squashfs.img", root.name);
    root_image::write_disk(root, &dir.join(&disk), staging.begin(&disk)?)?;
    kernel_boot(root, name, Some(disk))
}

fn kernel_files(root: &Root, dir: &Path, staging: &mut Staging) -> Result<(), FormatError> {
    let kernel = root.kernel()?;
    let name = format!("{}-kernel", root.name);
    let path = dir.join(&name);
    let out = staging.begin(&name)?;
    let mut copy = || io::copy(&mut root.contents.open(&kernel.blob)?, out);
    copy().map_err(|source| write_error(&path, source))?;
    staging.add(&format!("{}-cmdline", root.name), kernel.cmdline_for(root.id).as_bytes())?;
    Ok(())
}

/// Writes an initrd from the current position on.
pub(super) fn write<W: Write + Seek>(
    root: &Root,
    place: Place,
    path: &Path,
    out: &mut W,
) -> Result<(), FormatError> {
    if let Some((len, ucode)) = &root.kernel()?.ucode {
        let mut copy = || {
            io::copy(&mut root.contents.open(ucode)?, out)?;
            out.write_all(&[0; 3][..(len.next_multiple_of(4) - len) as usize])
        };
        copy().map_err(|source| write_error(path, source))?;
    }
    let mut archive = Initrd { path, root, archive: Writer::new(out, root.epoch), dirs: BTreeSet::new() };
    archive.skeleton().map_err(|source| write_error(path, source))?;
    archive.modules(place)?;
    if place == Place::Inside {
        let inside = archive
            .archive
            .align_next(2048)
            .and_then(|()| archive.archive.begin_file_seekable("root.squashfs", Meta::root(0o600)));
        let mut file = inside.map_err(|source| write_error(path, source))?;
        root_image::write(root, path, &mut file)?;
        file.finish().map_err(|source| write_error(path, source))?;
    }
    archive.archive.finish().map_err(|source| write_error(path, source))?;
    Ok(())
}

struct Initrd<'a, W> {
    path: &'a Path,
    root: &'a Root,
    archive: Writer<&'a mut W>,
    dirs: BTreeSet<String>,
}

impl<W: Write + Seek> Initrd<'_, W> {
    fn skeleton(&mut self) -> cpio::Result<()> {
        for dir in ["dev", "kit", "proc", "sys"] {
            self.archive.directory(dir, Meta::root(0o755))?;
        }
        // Before devtmpfs is mounted, what the loader has to say goes here.
        self.archive.special("dev/console", Meta::root(0o600), Special::Char { major: 5, minor: 1 })?;
        let loader = &self.root.loader;
        self.copy("init", 0o755, loader)
    }

    fn copy(&mut self, path: &str, mode: u16, blob: &Blob) -> cpio::Result<()> {
        let failed = |source| cpio::Error::Content {
            path: path.into(),
            source: kit_disk::content::ContentError::Read { offset: 0, source },
        };
        let len = self.root.contents.len(blob).map_err(failed)?;
        let mut content = self.root.contents.open(blob).map_err(failed)?;
        self.archive.file(path, Meta::root(mode), len, &mut content)
    }

    fn modules(&mut self, place: Place) -> Result<(), FormatError> {
        let path = self.path;
        let failed = |source: crate::kernel::KernelError| write_error(path, source);
        let releases = Release::all(&self.root.tree, &self.root.contents).map_err(failed)?;
        let mut load = String::new();
        for release in &releases {
            let mut wanted = ROOT_MODULES.to_vec();
            let (first, _) = release.early(&wanted).map_err(failed)?;
            for module in &first {
                load.push_str(&format!("/{}\n", module.path));
            }
            if place == Place::Medium {
                wanted.extend(STORAGE_MODULES);
            }
            let (modules, index) = release.early(&wanted).map_err(failed)?;
            for module in &modules {
                self.put(&module.path, &module.blob)?;
            }
            if place == Place::Medium {
                for (name, text) in release.index_files(&index).map_err(failed)? {
                    let blob = Blob::Bytes(text.into_bytes().into());
                    self.put(&format!("lib/modules/{}/{name}", release.name), &blob)?;
                }
            }
        }
        self.put("kit/load", &Blob::Bytes(load.into_bytes().into()))
    }

    /// A file, its directories before it.
    fn put(&mut self, path: &str, blob: &Blob) -> Result<(), FormatError> {
        let out = self.path;
        let failed = |source| write_error(out, source);
        for (at, _) in path.match_indices('/') {
            let dir = &path[..at];
            if dir != "kit" && self.dirs.insert(dir.to_owned()) {
                self.archive.directory(dir, Meta::root(0o755)).map_err(failed)?;
            }
        }
        self.copy(path, 0o644, blob).map_err(failed)
    }
}
