//! `tar`: the root and the kernel as one archive, NAME.tar. The kernel is in `boot/`.

use super::{FormatError, write_error};
use crate::archive;
use crate::contents::Blob;
use crate::output::Staging;
use crate::root::Root;
use kit_spec::artifact::Boot;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tar::{Builder, EntryType};

pub(super) fn write(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    let name = format!("{}.tar", root.name);
    let path = dir.join(&name);
    let file = staging.begin(&name)?;
    write_all(root, file).map_err(|source| write_error(&path, source))?;
    Ok(Boot::None)
}

fn write_all(root: &Root, file: &mut File) -> io::Result<()> {
    let mut out = Builder::new(BufWriter::with_capacity(256 << 10, file));
    archive::write(&mut out, &root.tree, &root.contents)?;
    if let Some(kernel) = &root.kernel {
        let cmdline = Blob::Bytes(kernel.cmdline.as_bytes().into());
        let mut files = vec![
            ("boot/kernel", kernel.len, &kernel.blob),
            ("boot/cmdline", kernel.cmdline.len() as u64, &cmdline),
        ];
        if let Some((len, ucode)) = &kernel.ucode {
            files.push(("boot/ucode.cpio", *len, ucode));
        }
        if root.tree.get(&super::path("boot")).is_none() {
            let mut header = archive::plain(EntryType::Directory, 0o755, 0, root.epoch);
            archive::append(&mut out, &mut header, b"boot", None, &mut io::empty())?;
        }
        for (path, len, blob) in files {
            let mut header = archive::plain(EntryType::Regular, 0o644, len, root.epoch);
            archive::append(&mut out, &mut header, path.as_bytes(), None, &mut root.contents.open(blob)?)?;
        }
    }
    out.into_inner()?.flush()
}
