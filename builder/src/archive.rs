//! A tree as a tar archive: sorted, with GNU's long names and pax records for attributes; the same bytes each time.

use crate::contents::{Blob, Contents};
use kit_spec::tree::{Inode, InodeId, Kind, Tree, TreePath};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};

/// Writes everything below the root of a tree. A file with several names is written once, and linked to.
///
/// # Errors
/// When contents cannot be read, or the archive cannot be written.
pub fn write<W: Write>(out: &mut Builder<W>, tree: &Tree<Blob>, contents: &Contents) -> io::Result<()> {
    let mut names: HashMap<InodeId, TreePath> = HashMap::new();
    for (path, id, inode) in tree.walk() {
        if path.is_root() {
            continue;
        }
        if inode.links() > 1 {
            if let Some(first) = names.get(&id) {
                let mut header = header(inode, EntryType::Link, 0);
                append(out, &mut header, path.as_bytes(), Some(first.as_bytes()), &mut io::empty())?;
                continue;
            }
            names.insert(id, path.clone());
        }
        entry(contents, out, &path, inode)?;
    }
    Ok(())
}

fn entry<W: Write>(
    contents: &Contents,
    out: &mut Builder<W>,
    path: &TreePath,
    inode: &Inode<Blob>,
) -> io::Result<()> {
    let (kind, device) = match inode.kind() {
        Kind::Dir => (EntryType::Directory, None),
        Kind::File { len, content } => {
            xattrs(out, inode)?;
            let mut header = header(inode, EntryType::Regular, *len);
            return append(out, &mut header, path.as_bytes(), None, &mut contents.open(content)?);
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

/// A header of root's.
pub fn plain(kind: EntryType, mode: u32, len: u64, epoch: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(len);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch.into());
    header
}

/// Writes an entry; names that do not fit into the header go before it, as GNU tar has them.
///
/// # Errors
/// When the content cannot be read, or the archive cannot be written.
pub fn append<W: Write>(
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
