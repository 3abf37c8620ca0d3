//! ISO 9660 volumes (ECMA-119) with Rock Ridge names, that boot as a CD and as a disk, by BIOS and by UEFI.
//!
//! ```text
//! block 0..15   system area: MBR with isohybrid's code, primary GPT        (hybrid images)
//! 16, 17, 18    primary descriptor, El Torito boot record, terminator
//! 19            boot catalog
//! ..            path tables, directories, Rock Ridge continuation          \ the head: encoded in memory
//! ..            files in the order given, then the one written in place    / the data: streamed
//! ..            zeros to a whole MiB, backup GPT                           (hybrid images)
//! ```
//!
//! **Nothing is stored twice.** A [`Content::Part`] is a file whose bytes lie inside another entry's. With a UKI in a
//! FAT volume in the image, `/boot/vmlinuz` for isolinux is a part of the FAT volume:
//! `fat.offset(uki) + uki.offset(linux)`, which both layouts make a multiple of the block.
//!
//! **A size that is not known.** One entry may be [`Content::InPlace`]: it comes last, is written by a closure on the
//! output itself (a squashfs), and what depends on its length (records, descriptors, GPT) is encoded again afterwards;
//! see [`Layout::write_in_place`].
//!
//! A CD has no partitions: a system finds its root on either medium by the volume identifier, which [`read_volume`]
//! reads.
//!
//! Left out: Joliet, files over 4 GiB (refused), directories deeper than eight (refused).

use crate::content::{ContentError, GiveError};
use crate::gpt::{Guid, TableError};
use crate::window::Window;
use std::io::{self, Seek, Write};

mod boot;
mod identifier;
mod read;
mod susp;
mod tree;
mod write;

pub use boot::HYBRID_CODE_LEN;
pub use read::{ReadError, Volume, read_volume};

/// Bytes of a block.
pub const BLOCK: u64 = 2048;
/// The largest file in bytes (4 GiB - 1).
pub const MAX_FILE_LEN: u64 = u32::MAX as u64;
/// The longest target of a symbolic link in bytes.
pub const MAX_TARGET_LEN: usize = susp::MAX_TARGET;

/// Where descriptors begin: after the 32 KiB of the system area.
const FIRST_DESCRIPTOR: u32 = 16;
/// A directory record's date (ECMA-119 section 9.1.5).
type Date = [u8; 7];

/// A node of the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Components joined by `/`, without a leading one. Directories above it are made as needed.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// What it is.
    pub content: Content,
}

impl Entry {
    /// An entry of root's that all may read (directories: enter), and nobody write: no more than the medium allows.
    pub fn new(path: impl Into<String>, content: Content) -> Self {
        let mode = match content {
            Content::Directory => 0o555,
            Content::Symlink(_) => 0o777,
            _ => 0o444,
        };
        Self { path: path.into(), mode, uid: 0, gid: 0, content }
    }
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(String),
    /// A small file with these bytes. A BIOS boot image has to be one.
    Bytes(Vec<u8>),
    /// A file of so many bytes, which the closure given to [`Layout::write`] writes.
    File(u64),
    /// A file whose bytes are some of another entry's.
    Part {
        /// Index of the other entry, a [`Content::Bytes`] or [`Content::File`].
        of: usize,
        /// Where they begin there, a multiple of [`BLOCK`].
        offset: u64,
        /// How many they are.
        len: u64,
    },
    /// The file that is written in place by [`Layout::write_in_place`]. At most one.
    InPlace,
}

/// What a volume is besides its entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The volume identifier: 1 to 32 of `A-Z 0-9 _`.
    pub volume_id: String,
    /// All dates, in seconds since 1970.
    pub epoch: u32,
    /// Index of the BIOS boot image (isolinux.bin), a [`Content::Bytes`]; its boot-info table is filled in.
    pub bios: Option<usize>,
    /// Index of the FAT image that UEFI boots from, a [`Content::File`] or [`Content::Bytes`].
    pub uefi: Option<usize>,
    /// Whether the image boots from a disk, too.
    pub hybrid: Option<Hybrid>,
}

/// What a disk has and a CD has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hybrid {
    /// isohybrid's MBR code (`isohdpfx.bin`), if BIOS is to boot from the disk.
    pub code: Option<Box<[u8; HYBRID_CODE_LEN]>>,
    /// The MBR's disk signature.
    pub signature: u32,
    /// The GPT's identity. There is a GPT if there is a UEFI image.
    pub disk_id: Guid,
    /// The identity of the EFI system partition.
    pub esp_id: Guid,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// A component is empty, `.` or `..`.
    NotAName,
    /// A component is over 255 bytes.
    TooLong,
    /// A component holds a NUL.
    Nul,
    /// More than eight levels of directories.
    TooDeep,
}

impl std::fmt::Display for PathFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAName => "a component is empty, \".\" or \"..\"",
            Self::TooLong => "a component has more than 255 bytes",
            Self::Nul => "a component holds a NUL",
            Self::TooDeep => "directories are more than eight deep",
        })
    }
}

/// Why a volume cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The path cannot be one.
    #[error("ISO 9660 path {path:?}: {fault}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// Two entries have one path, or one is a file above the other.
    #[error("ISO 9660 path {path:?} is there twice")]
    Duplicate {
        /// The later path.
        path: String,
    },
    /// More than 65,535 directories.
    #[error("an ISO 9660 volume has at most 65535 directories")]
    TooManyDirectories,
    /// A directory's names become the same identifier too often.
    #[error("no ISO 9660 identifier is left for {name:?}")]
    Identifiers {
        /// The name.
        name: String,
    },
    /// The file does not fit the format.
    #[error("ISO 9660 path {path:?}: {len} bytes, but a file has at most {MAX_FILE_LEN}")]
    TooLarge {
        /// The path.
        path: String,
        /// The file's length in bytes.
        len: u64,
    },
    /// The symbolic link's target is too long.
    #[error("ISO 9660 path {path:?}: a target of {len} bytes, but at most {MAX_TARGET_LEN} are written")]
    Target {
        /// The path.
        path: String,
        /// The target's length in bytes.
        len: usize,
    },
    /// The volume identifier cannot be one.
    #[error("ISO 9660 volume identifier {id:?} is not 1 to 32 of A-Z, 0-9 and _")]
    VolumeId {
        /// The identifier.
        id: String,
    },
    /// A part does not lie in the entry it is of, or not on a block.
    #[error("ISO 9660 path {path:?}: bytes {offset}+{len} are no part, on a block, of entry {of}")]
    Part {
        /// The part's path.
        path: String,
        /// Index of the entry it is of.
        of: usize,
        /// Where it begins there.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// More than one entry is written in place.
    #[error("ISO 9660 path {path:?}: another entry is written in place already")]
    SecondInPlace {
        /// The second one's path.
        path: String,
    },
    /// The index of a boot image is not one of an entry that can be it.
    #[error("entry {entry} cannot be the {firmware} boot image")]
    NotBootable {
        /// `BIOS` or `UEFI`.
        firmware: &'static str,
        /// The index.
        entry: usize,
    },
    /// The BIOS boot image has no room for a boot-info table.
    #[error("a BIOS boot image of {len} bytes has no room for a boot-info table")]
    BootImage {
        /// Its length in bytes.
        len: usize,
    },
    /// The BIOS boot image is not isolinux, or one too old for isohybrid.
    #[error("the BIOS boot image is no isolinux.bin that isohybrid's code can start")]
    NotHybrid,
    /// The GPT cannot be made.
    #[error("lay out the hybrid image's GPT")]
    Gpt(#[source] TableError),
    /// The volume has over 2^32 blocks.
    #[error("an ISO 9660 volume of {blocks} blocks: at most 4294967295 are possible")]
    VolumeTooLarge {
        /// Blocks needed.
        blocks: u64,
    },
}

/// Why a laid out volume could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The volume's own structures could not be written.
    #[error("write ISO 9660 volume at byte {offset}")]
    Volume {
        /// Position in the volume.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
    /// A file's content was not as announced, or could not be moved.
    #[error("write ISO 9660 file {path:?}")]
    File {
        /// Its path.
        path: String,
        /// What went wrong.
        source: ContentError,
    },
    /// There is an entry to be written in place, or there is none, and the other call is for that.
    #[error("entry to be written in place: {0:?}")]
    InPlace(Option<String>),
    /// With the length that came out, the volume cannot be.
    #[error("finish ISO 9660 volume")]
    Finish(#[source] LayoutError),
}

/// Where an entry's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Extent {
    block: u32,
    len: u64,
}

/// A volume whose every byte's place is decided, but for the length of an entry written in place.
///
/// ```
/// use kit_disk::iso9660::{Content, Entry, Layout, Options, read_volume};
/// use std::io::{Cursor, Write};
///
/// let entries = vec![Entry::new("etc/motd", Content::File(5))];
/// let options = Options { volume_id: "KIT".into(), ..Options::default() };
/// let layout = Layout::new(entries, options)?;
/// let mut image = Vec::new();
/// layout.write(&mut image, |_, out| Ok(out.write_all(b"hello")?))?;
/// assert_eq!(read_volume(&mut Cursor::new(&image))?.id, "KIT");
/// let at = layout.offset(0).unwrap() as usize;
/// assert_eq!(&image[at..at + 5], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Vec<Entry>,
    options: Options,
    tree: tree::Tree,
    extents: Vec<Extent>,
    in_place: Option<usize>,
    head: write::Head,
    /// The block after the last file's.
    data_end: u64,
    /// Blocks of the volume.
    blocks: u32,
}

impl Layout {
    /// Lays out `entries`.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn new(entries: Vec<Entry>, options: Options) -> Result<Self, LayoutError> {
        if !identifier::is_volume_id(&options.volume_id) {
            return Err(LayoutError::VolumeId { id: options.volume_id });
        }
        let in_place = check_contents(&entries)?;
        check_boot(&entries, &options)?;
        let tree = tree::Tree::new(&entries, write::date(options.epoch))?;
        let head = write::Head::new(&tree, options.bios.is_some() || options.uefi.is_some())?;
        let extents = vec![Extent::default(); entries.len()];
        let mut layout = Self { entries, options, tree, extents, in_place, head, data_end: 0, blocks: 0 };
        layout.place()?;
        layout.finish(0)?;
        if let Some(n) = layout.options.bios
            && let Content::Bytes(image) = &mut layout.entries[n].content
        {
            boot::patch_boot_info(image, layout.extents[n].block)?;
        }
        Ok(layout)
    }

    /// Bytes of the volume. Where an entry is written in place, what they are if it stays empty.
    pub fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Byte offset of the content of the `n`th entry; `None` for directories and links.
    pub fn offset(&self, n: usize) -> Option<u64> {
        let is_file = !matches!(self.entries.get(n)?.content, Content::Directory | Content::Symlink(_));
        is_file.then(|| u64::from(self.extents[n].block) * BLOCK)
    }

    /// Writes the whole volume. `give` writes the content of the `n`th entry; it is called once for each
    /// [`Content::File`] that is not empty, in order.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::InPlace`] if there is an entry to be written in place.
    pub fn write<W: Write + ?Sized>(
        &self,
        out: &mut W,
        give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    ) -> Result<(), WriteError> {
        if let Some(n) = self.in_place {
            return Err(WriteError::InPlace(Some(self.entries[n].path.clone())));
        }
        write::volume(self, out, give)
    }

    /// Writes a volume whose [`Content::InPlace`] entry is written by `last`, on a window of the output whose position
    /// 0 is the file's first byte. Returns the layout as it came out: with the file's length and the volume's size.
    ///
    /// The volume begins where `out` stands, and `out` stands at its end afterwards.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::InPlace`] if there is no such entry.
    pub fn write_in_place<W: Write + Seek>(
        &self,
        out: &mut W,
        give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
        last: impl FnOnce(&mut Window<'_, W>) -> Result<(), GiveError>,
    ) -> Result<Self, WriteError> {
        let n = self.in_place.ok_or(WriteError::InPlace(None))?;
        write::volume_in_place(self, n, out, give, last)
    }

    /// Gives every file its extent. Parts come after what they are of, wherever they stand in the list.
    fn place(&mut self) -> Result<(), LayoutError> {
        let mut next = u64::from(self.head.end());
        for (entry, extent) in self.entries.iter().zip(&mut self.extents) {
            let len = match &entry.content {
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::File(len) => *len,
                _ => continue,
            };
            *extent = Extent { block: narrow(next)?, len };
            next += len.div_ceil(BLOCK);
        }
        self.data_end = next;
        for n in 0..self.entries.len() {
            match self.entries[n].content {
                Content::Part { of, offset, len } => {
                    let block = u64::from(self.extents[of].block) + offset / BLOCK;
                    self.extents[n] = Extent { block: narrow(block)?, len };
                }
                Content::InPlace => self.extents[n] = Extent { block: narrow(next)?, len: 0 },
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets the length of the entry written in place, and with it the volume's size.
    fn finish(&mut self, in_place_len: u64) -> Result<(), LayoutError> {
        let mut end = self.data_end;
        if let Some(n) = self.in_place {
            self.extents[n].len = in_place_len;
            end += in_place_len.div_ceil(BLOCK);
        }
        if self.options.hybrid.is_some() {
            // Whole MiB: BIOSes that guess a disk's geometry guess cylinders of that size.
            let per_mib = (1 << 20) / BLOCK;
            end = (end + crate::gpt::BACKUP_SECTORS.div_ceil(BLOCK / 512)).next_multiple_of(per_mib);
        }
        self.blocks = narrow(end)?;
        write::table(self).map(drop)
    }
}

fn narrow(blocks: u64) -> Result<u32, LayoutError> {
    u32::try_from(blocks).map_err(|_| LayoutError::VolumeTooLarge { blocks })
}

/// Checks what entries say about themselves and each other; returns the one written in place.
fn check_contents(entries: &[Entry]) -> Result<Option<usize>, LayoutError> {
    let mut in_place = None;
    for (n, entry) in entries.iter().enumerate() {
        let path = || entry.path.clone();
        match &entry.content {
            Content::Directory => {}
            Content::Symlink(target) => {
                let len = target.len();
                if !(1..=MAX_TARGET_LEN).contains(&len) {
                    return Err(LayoutError::Target { path: path(), len });
                }
            }
            Content::Bytes(bytes) => check_len(entry, bytes.len() as u64)?,
            Content::File(len) => check_len(entry, *len)?,
            Content::Part { of, offset, len } => {
                check_len(entry, *len)?;
                let whole = match entries.get(*of).map(|e| &e.content) {
                    Some(Content::Bytes(bytes)) => Some(bytes.len() as u64),
                    Some(Content::File(len)) => Some(*len),
                    _ => None,
                };
                let end = offset.checked_add(*len);
                let is_within = end.zip(whole).is_some_and(|(end, whole)| end <= whole);
                if !is_within || !offset.is_multiple_of(BLOCK) {
                    let (of, offset, len) = (*of, *offset, *len);
                    return Err(LayoutError::Part { path: path(), of, offset, len });
                }
            }
            Content::InPlace if in_place.is_some() => {
                return Err(LayoutError::SecondInPlace { path: path() });
            }
            Content::InPlace => in_place = Some(n),
        }
    }
    Ok(in_place)
}

fn check_len(entry: &Entry, len: u64) -> Result<(), LayoutError> {
    if len > MAX_FILE_LEN {
        return Err(LayoutError::TooLarge { path: entry.path.clone(), len });
    }
    Ok(())
}

fn check_boot(entries: &[Entry], options: &Options) -> Result<(), LayoutError> {
    let content = |n: usize| entries.get(n).map(|e| &e.content);
    let has_code = options.hybrid.as_ref().is_some_and(|h| h.code.is_some());
    match options.bios.map(|n| (n, content(n))) {
        None if has_code => return Err(LayoutError::NotHybrid),
        Some((_, Some(Content::Bytes(image)))) if has_code && !boot::is_hybrid_image(image) => {
            return Err(LayoutError::NotHybrid);
        }
        None | Some((_, Some(Content::Bytes(_)))) => {}
        Some((entry, _)) => return Err(LayoutError::NotBootable { firmware: "BIOS", entry }),
    }
    match options.uefi.map(|n| (n, content(n))) {
        None => Ok(()),
        Some((_, Some(Content::Bytes(image)))) if !image.is_empty() => Ok(()),
        Some((_, Some(Content::File(len)))) if *len > 0 => Ok(()),
        Some((entry, _)) => Err(LayoutError::NotBootable { firmware: "UEFI", entry }),
    }
}

#[cfg(test)]
mod tests;
