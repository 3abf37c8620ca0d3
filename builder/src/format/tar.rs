//! `tar`: the root and the kernel as one archive, NAME.tar. The kernel is in `boot/`.

use super::{FormatError, write_error};
use crate::contents::Blob;
use crate::output::Staging;
use crate::root::Root;
use kit_spec::artifact::Boot;
use kit_spec::tree::{Inode, InodeId, Kind, TreePath};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use tar::{Builder, EntryType, Header};

pub(super) fn write(root: &Root, dir: &Path, staging: &mut Staging) -> Result<Boot, FormatError> {
    let name = format!("{}.tar", root.name);
    let path = dir.join(&name);
    let file = staging.begin(&name)?;
    archive(root, file).map_err(|source| write_error(&path, source))?;
    Ok(Boot::None)
}

fn archive(root: &Root, file: &mut File) -> io::Result<()> {
    let mut out = Builder::new(BufWriter::with_capacity(256 << 10, file));
    let mut names: HashMap<InodeId, TreePath> = HashMap::new();
    for (path, id, inode) in root.tree.walk() {
        if path.is_root() {
            continue;
        }
        if inode.links() > 1 {
            if let Some(first) = names.get(&id) {
                let mut header = header(inode, EntryType::Link, 0);
                append(&mut out, &mut header, path.as_bytes(), Some(first.as_bytes()), &mut io::empty())?;
                continue;
            }
            names.insert(id, path.clone());
        }
        entry(root, &mut out, &path, inode)?;
    }
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
            let mut header = plain(root, EntryType::Directory, 0o755, 0);
            append(&mut out, &mut header, b"boot", None, &mut io::empty())?;
        }
        for (path, len, blob) in files {
            let mut header = plain(root, EntryType::Regular, 0o644, len);
            append(&mut out, &mut header, path.as_bytes(), None, &mut root.contents.open(blob)?)?;
        }
    }
    out.into_inner()?.flush()
}

fn entry<W: Write>(
    root: &Root,
    out: &mut Builder<W>,
    path: &TreePath,
    inode: &Inode<Blob>,
) -> io::Result<()> {
    let (kind, device) = match inode.kind() {
        Kind::Dir => (EntryType::Directory, None),
        Kind::File { len, content } => {
            xattrs(out, inode)?;
            let mut header = header(inode, EntryType::Regular, *len);
            return append(out, &mut header, path.as_bytes(), None, &mut root.contents.open(content)?);
        }
        Kind::Symlink(target) => {
            xattrs(out, inode)?;
            let mut header = header(inode, EntryType::Symlink, 0);
            return append(out, &mut header, path.as_bytes(), Some(target), &mut io::empty());
        }
        Kind::Char(device) => (EntryType::Char, Some(*device)),
        Kind::Block(device) => (EntryType::Block, Some(*device)),
        Kind::Fifo => (EntryType::Fifo, None),
        // No archive can hold one, and whoever binds a socket makes its name.
        Kind::Socket => return Ok(()),
    };
    xattrs(out, inode)?;
    let mut header = header(inode, kind, 0);
    if let Some(device) = device {
        header.set_device_major(device.major)?;
        header.set_device_minor(device.minor)?;
    }
    append(out, &mut header, path.as_bytes(), None, &mut io::empty())
}

fn xattrs<W: Write>(out: &mut Builder<W>, inode: &Inode<Blob>) -> io::Result<()> {
    let mut records = Vec::new();
    for (name, value) in &inode.meta.xattrs {
        let name =
            std::str::from_utf8(name).map_err(|_| io::Error::other("an attribute's name is not UTF-8"))?;
        records.push((format!("SCHILY.xattr.{name}"), value));
    }
    out.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), value.as_ref())))
}

fn header(inode: &Inode<Blob>, kind: EntryType, len: u64) -> Header {
    let meta = &inode.meta;
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(len);
    header.set_mode(u32::from(meta.mode));
    header.set_uid(meta.uid.into());
    header.set_gid(meta.gid.into());
    header.set_mtime(u64::try_from(meta.mtime).unwrap_or(0));
    header
}

fn plain(root: &Root, kind: EntryType, mode: u32, len: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(len);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(root.epoch.into());
    header
}

/// Writes an entry; names that do not fit into the header go before it, as GNU tar has them.
fn append<W: Write>(
    out: &mut Builder<W>,
    header: &mut Header,
    path: &[u8],
    link: Option<&[u8]>,
    content: &mut dyn Read,
) -> io::Result<()> {
    let mut path = path.to_vec();
    if header.entry_type() == EntryType::Directory {
        path.push(b'/');
    }
    let fields = header.as_gnu_mut().ok_or_else(|| io::Error::other("not a GNU header"))?;
    let fits = put_name(&mut fields.name, &path);
    let link_fits = link.is_none_or(|link| put_name(&mut fields.linkname, link));
    if let (false, Some(link)) = (link_fits, link) {
        long(out, EntryType::GNULongLink, link)?;
    }
    if !fits {
        long(out, EntryType::GNULongName, &path)?;
    }
    header.set_cksum();
    out.append(header, content)
}

fn put_name(field: &mut [u8; 100], name: &[u8]) -> bool {
    let len = name.len().min(field.len());
    field[..len].copy_from_slice(&name[..len]);
    name.len() <= field.len()
}

fn long<W: Write>(out: &mut Builder<W>, kind: EntryType, name: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    if let Some(fields) = header.as_gnu_mut() {
        put_name(&mut fields.name, b"././@LongLink");
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(name.len() as u64 + 1);
    header.set_cksum();
    out.append(&header, name.chain([0].as_slice()))
}
