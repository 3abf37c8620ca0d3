//! The inode table and the directory table, which refer to each other.
//!
//! Directories are done last first: those below a directory have higher numbers, so their listings are there when the
//! inodes of its children are written, all together, and then its own listing. The root's inode comes last.

use super::data::{Data, Placed};
use super::directory::{self, Entry, Listing};
use super::metadata::{Metadata, Place};
use super::plan::{Contents, Numbering};
use super::xattr::{NO_XATTRS, Xattrs};
use super::{WriteError, path_of};
use crate::squashfs::Settings;
use kit_spec::tree::{Device, Inode, InodeId, Kind, Tree};
use std::collections::HashMap;

/// Basic inode types; the extended ones are [`EXTENDED`] higher.
const DIR: u16 = 1;
const FILE: u16 = 2;
const SYMLINK: u16 = 3;
const BLOCK_DEVICE: u16 = 4;
const CHAR_DEVICE: u16 = 5;
const FIFO: u16 = 6;
const SOCKET: u16 = 7;
const EXTENDED: u16 = 7;

/// The fragment of a file without one.
const NO_FRAGMENT: u32 = u32::MAX;
/// Linux does not take longer targets (PATH_MAX less the NUL).
const TARGET_MAX: usize = 4095;
/// The superblock counts user and group numbers in 16 bits.
const IDS_MAX: usize = u16::MAX as usize;

/// What was made.
pub(super) struct Tables {
    /// The inode table.
    pub(super) inodes: Vec<u8>,
    /// The directory table.
    pub(super) directories: Vec<u8>,
    /// Where each inode is, by number less one.
    pub(super) places: Vec<Place>,
    pub(super) root: Place,
    /// User and group numbers.
    pub(super) ids: Vec<u32>,
}

/// Makes both tables.
pub(super) fn tables<C>(
    tree: &Tree<C>,
    numbering: &Numbering,
    contents: &Contents<'_>,
    data: &Data,
    xattrs: &Xattrs,
    settings: Settings,
) -> Result<Tables, WriteError> {
    let count = numbering.order.len();
    let mut parents = vec![0; count];
    for (id, parent) in &numbering.dirs {
        parents[numbering.of(*id) as usize - 1] = *parent;
    }
    let mut writer = Writer {
        tree,
        numbering,
        contents,
        data,
        xattrs,
        parents,
        inodes: Metadata::new(settings)?,
        places: vec![None; count],
        listings: HashMap::new(),
        ids: Vec::new(),
        id_numbers: HashMap::new(),
        buf: Vec::new(),
    };
    let mut directories = Metadata::new(settings)?;
    for (dir, _) in numbering.dirs.iter().rev() {
        let mut entries = Vec::with_capacity(tree.inode(*dir).children().len());
        for (name, child) in tree.inode(*dir).children() {
            let place = writer.write_once(child)?;
            let kind = kind_of(tree.inode(child));
            entries.push(Entry { name, place, number: numbering.of(child), kind });
        }
        let listing = directory::write(&mut directories, &entries)?;
        let listing = listing.ok_or_else(|| WriteError::TooMany {
            path: path_of(tree, *dir),
            what: "bytes of names in one directory",
            limit: u64::from(u32::MAX),
        })?;
        writer.listings.insert(*dir, listing);
    }
    let root = writer.write_once(tree.root())?;
    let places = writer.places.into_iter().map(Option::unwrap_or_default).collect();
    Ok(Tables {
        inodes: writer.inodes.finish()?,
        directories: directories.finish()?,
        places,
        root,
        ids: writer.ids,
    })
}

struct Writer<'t, C> {
    tree: &'t Tree<C>,
    numbering: &'t Numbering,
    contents: &'t Contents<'t>,
    data: &'t Data,
    xattrs: &'t Xattrs,
    /// Of directories, by number less one.
    parents: Vec<u32>,
    inodes: Metadata,
    places: Vec<Option<Place>>,
    /// Of directories whose own inode is still to be written.
    listings: HashMap<InodeId, Listing>,
    ids: Vec<u32>,
    id_numbers: HashMap<u32, u16>,
    buf: Vec<u8>,
}

impl<C> Writer<'_, C> {
    /// Writes an inode, if no earlier name of it did; where it is.
    fn write_once(&mut self, id: InodeId) -> Result<Place, WriteError> {
        let number = self.numbering.of(id) as usize - 1;
        if let Some(place) = self.places[number] {
            return Ok(place);
        }
        let place = self.inodes.place()?;
        self.places[number] = Some(place);
        self.buf.clear();
        let inode = self.tree.inode(id);
        let xattr = self.xattrs.of(self.numbering.of(id));
        match inode.kind() {
            Kind::Dir => self.dir(id, inode, xattr)?,
            Kind::File { len, .. } => self.file(id, inode, *len, xattr)?,
            Kind::Symlink(target) => self.symlink(id, inode, target, xattr)?,
            Kind::Char(device) | Kind::Block(device) => self.device(id, inode, *device, xattr)?,
            Kind::Fifo | Kind::Socket => {
                self.head(id, inode, xattr != NO_XATTRS)?;
                self.words([inode.links()]);
                self.tail_xattr(xattr);
            }
        }
        self.inodes.put(&self.buf)?;
        Ok(place)
    }

    /// The fields that all inodes begin with.
    fn head(&mut self, id: InodeId, inode: &Inode<C>, extended: bool) -> Result<(), WriteError> {
        let meta = &inode.meta;
        let kind = kind_of(inode) + if extended { EXTENDED } else { 0 };
        let (uid, gid) = (self.id(id, meta.uid)?, self.id(id, meta.gid)?);
        self.halves([kind, meta.mode & 0o7777, uid, gid]);
        self.words([meta.mtime.clamp(0, i64::from(u32::MAX)) as u32, self.numbering.of(id)]);
        Ok(())
    }

    fn dir(&mut self, id: InodeId, inode: &Inode<C>, xattr: u32) -> Result<(), WriteError> {
        let listing = self.listings.remove(&id).unwrap_or_default();
        let parent = self.parents[self.numbering.of(id) as usize - 1];
        let subdirs = inode.children().filter(|(_, child)| self.tree.inode(*child).is_dir()).count() as u32;
        let nlink = subdirs + 2;
        match u16::try_from(listing.size) {
            Ok(size) if listing.index_len == 0 && xattr == NO_XATTRS => {
                self.head(id, inode, false)?;
                self.words([listing.place.block, nlink]);
                self.halves([size, listing.place.offset]);
                self.words([parent]);
            }
            _ => {
                self.head(id, inode, true)?;
                self.words([nlink, listing.size, listing.place.block, parent]);
                self.halves([listing.index_len, listing.place.offset]);
                self.words([xattr]);
                self.buf.extend_from_slice(&listing.index);
            }
        }
        Ok(())
    }

    fn file(&mut self, id: InodeId, inode: &Inode<C>, len: u64, xattr: u32) -> Result<(), WriteError> {
        let (contents, data) = (self.contents, self.data);
        let (start, fragment, offset, run) = match &data.placed[contents.of(self.numbering.of(id))] {
            Placed::Empty => (0, NO_FRAGMENT, 0, None),
            Placed::Run { start, words } => (*start, NO_FRAGMENT, 0, Some(words)),
            Placed::Fragment { number, offset } => (0, *number, *offset, None),
        };
        let sparse = run.map_or(0, |words| data.sparse_len(contents, words, len));
        let short = (u32::try_from(start), u32::try_from(len));
        match short {
            (Ok(start), Ok(len)) if inode.links() == 1 && xattr == NO_XATTRS && sparse == 0 => {
                self.head(id, inode, false)?;
                self.words([start, fragment, offset, len]);
            }
            _ => {
                self.head(id, inode, true)?;
                // Linux computes st_blocks from the difference, and expects one.
                self.longs([start, len, sparse.min(len.saturating_sub(1))]);
                self.words([inode.links(), fragment, offset, xattr]);
            }
        }
        if let Some(words) = run {
            data.words(contents, words, |word| self.buf.extend_from_slice(&word.to_le_bytes()));
        }
        Ok(())
    }

    fn symlink(
        &mut self,
        id: InodeId,
        inode: &Inode<C>,
        target: &[u8],
        xattr: u32,
    ) -> Result<(), WriteError> {
        if !(1..=TARGET_MAX).contains(&target.len()) {
            return Err(WriteError::Symlink { path: path_of(self.tree, id), len: target.len() });
        }
        self.head(id, inode, xattr != NO_XATTRS)?;
        self.words([inode.links(), target.len() as u32]);
        self.buf.extend_from_slice(target);
        self.tail_xattr(xattr);
        Ok(())
    }

    fn device(
        &mut self,
        id: InodeId,
        inode: &Inode<C>,
        device: Device,
        xattr: u32,
    ) -> Result<(), WriteError> {
        let Device { major, minor } = device;
        if major > 0xfff || minor > 0xf_ffff {
            return Err(WriteError::Device { path: path_of(self.tree, id), major, minor });
        }
        self.head(id, inode, xattr != NO_XATTRS)?;
        // Linux's new_encode_dev.
        self.words([inode.links(), minor & 0xff | major << 8 | (minor & !0xff) << 12]);
        self.tail_xattr(xattr);
        Ok(())
    }

    /// The last field of most extended inodes.
    fn tail_xattr(&mut self, xattr: u32) {
        if xattr != NO_XATTRS {
            self.words([xattr]);
        }
    }

    /// The number of a user or group number.
    fn id(&mut self, inode: InodeId, id: u32) -> Result<u16, WriteError> {
        if let Some(number) = self.id_numbers.get(&id) {
            return Ok(*number);
        }
        if self.ids.len() == IDS_MAX {
            let path = path_of(self.tree, inode);
            return Err(WriteError::TooMany { path, what: "user and group numbers", limit: IDS_MAX as u64 });
        }
        let number = self.ids.len() as u16;
        self.ids.push(id);
        self.id_numbers.insert(id, number);
        Ok(number)
    }

    fn halves<const N: usize>(&mut self, values: [u16; N]) {
        values.iter().for_each(|value| self.buf.extend_from_slice(&value.to_le_bytes()));
    }

    fn words<const N: usize>(&mut self, values: [u32; N]) {
        values.iter().for_each(|value| self.buf.extend_from_slice(&value.to_le_bytes()));
    }

    fn longs<const N: usize>(&mut self, values: [u64; N]) {
        values.iter().for_each(|value| self.buf.extend_from_slice(&value.to_le_bytes()));
    }
}

fn kind_of<C>(inode: &Inode<C>) -> u16 {
    match inode.kind() {
        Kind::Dir => DIR,
        Kind::File { .. } => FILE,
        Kind::Symlink(_) => SYMLINK,
        Kind::Block(_) => BLOCK_DEVICE,
        Kind::Char(_) => CHAR_DEVICE,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
    }
}
