//! The root as a squashfs.

use super::FormatError;
use crate::root::{Root, RootId};
use kit_disk::squashfs::{self, Settings};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// What stands behind a squashfs that is a disk by itself, so that it can be found by its ID: these 16 bytes, the
/// UUID's 16, zeros to 512.
const TRAILER: &[u8; 16] = b"kit-root-trailer";

/// Writes the root from the current position on, which is then behind it; the length in bytes, padded to 4 KiB.
pub(super) fn write<W: Write + Seek>(root: &Root, path: &Path, out: &mut W) -> Result<u64, FormatError> {
    let failed = |source: squashfs::WriteError| super::write_error(path, source);
    let options =
        squashfs::Options { settings: Settings::default(), epoch: root.epoch, threads: root.threads };
    let summary = squashfs::write(&root.tree, |blob| root.source(blob), out, &options).map_err(failed)?;
    Ok(summary.bytes_written)
}

/// The same as a disk by itself, with the ID behind it.
pub(super) fn write_disk<W: Write + Seek>(root: &Root, path: &Path, out: &mut W) -> Result<(), FormatError> {
    let len = write(root, path, out)?;
    let mut append = || {
        out.seek(SeekFrom::Start(len))?;
        out.write_all(&trailer(root.id))
    };
    append().map_err(|source| super::write_error(path, source))
}

fn trailer(id: RootId) -> [u8; 4096] {
    let mut block = [0; 4096];
    block[..16].copy_from_slice(TRAILER);
    block[16..32].copy_from_slice(&id.bytes());
    block
}
