//! FAT12, FAT16 and FAT32 volumes with long names (Microsoft's FAT specification 1.03), written as a stream.
//!
//! ```text
//! [Entry { path, len }] + Options --Layout::new--> Layout --write(out, give)--> bytes
//!                                                    | offset(n): where the nth file's bytes will be
//! ```
//!
//! [`Layout::new`] is pure: from paths and lengths alone it decides the kind of FAT, the clusters of every file and
//! the volume's size, so that an ISO 9660 image can refer to a file *inside* the volume before either is written. A
//! file is always one run of clusters; with [`Options::alignment`] it begins at a multiple of, say, 2048 bytes.
//!
//! What is fixed, so that the same calls give the same bytes: directories come first, then files in the order given,
//! all dates are the one of [`Options::epoch`], unused bytes are zero.
//!
//! UEFI reads all three kinds; firmware expects FAT32 on a disk's system partition, and a small El Torito image is
//! FAT12 or FAT16.

use crate::content::{ContentError, GiveError};
use std::io::{self, Write};

mod geometry;
mod name;
mod tree;
mod write;

pub use name::NameFault;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// The largest file in bytes (4 GiB - 1).
pub const MAX_FILE_LEN: u64 = u32::MAX as u64;

/// The width of a FAT's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// 12 bits: up to 4,084 clusters.
    Fat12,
    /// 16 bits: up to 65,524 clusters.
    Fat16,
    /// 32 bits, of which 28 count: at least 65,525 clusters, so no volume under 33 MiB.
    Fat32,
}

/// How large a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many bytes, a multiple of [`SECTOR`].
    Exactly(u64),
    /// As many bytes as the content (and the kind) needs, and at least so many.
    AtLeast(u64),
}

/// What a volume is besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The kind, or `None` for the one that is customary for the size.
    pub kind: Option<Kind>,
    /// The volume's size.
    pub size: Size,
    /// Label, up to eleven upper-case characters.
    pub label: Option<String>,
    /// The serial number.
    pub volume_id: u32,
    /// All dates, in seconds since 1970. FAT begins in 1980; what is earlier becomes that.
    pub epoch: u32,
    /// Files begin at multiples of so many bytes from the volume's start: a power of two up to 1 MiB.
    pub alignment: u64,
    /// Sectors before the volume on its disk (the partition's first LBA).
    pub hidden_sectors: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kind: None,
            size: Size::AtLeast(0),
            label: None,
            volume_id: 0,
            epoch: 0,
            alignment: SECTOR,
            hidden_sectors: 0,
        }
    }
}

/// A file or an empty directory. The directories above it are made as needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Components joined by `/`, without a leading one.
    pub path: String,
    /// What it is.
    pub content: Content,
}

impl Entry {
    /// A file of `len` bytes.
    pub fn file(path: impl Into<String>, len: u64) -> Self {
        Self { path: path.into(), content: Content::File(len) }
    }

    /// A directory.
    pub fn directory(path: impl Into<String>) -> Self {
        Self { path: path.into(), content: Content::Directory }
    }
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
}

/// Why a volume cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A path has a component that cannot be a name.
    #[error("FAT path {path:?}: {fault}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Two entries have one path (names differ in more than case), or one is a file above the other.
    #[error("FAT path {path:?} is there twice, perhaps in another case")]
    Duplicate {
        /// The later path.
        path: String,
    },
    /// The file does not fit the format.
    #[error("FAT path {path:?}: {len} bytes, but a file has at most {MAX_FILE_LEN}")]
    TooLarge {
        /// The path.
        path: String,
        /// The file's length in bytes.
        len: u64,
    },
    /// A directory has too many names.
    #[error("FAT directory of {path:?} is full")]
    DirectoryFull {
        /// A path in it.
        path: String,
    },
    /// The label cannot be one.
    #[error("FAT label {label:?} is not 1 to 11 upper-case characters, digits or spaces")]
    Label {
        /// The label.
        label: String,
    },
    /// The size is no whole number of sectors, or over 2 TiB.
    #[error("FAT volume of {size} bytes: not a multiple of {SECTOR}, or not under 2 TiB")]
    Size {
        /// The size in bytes.
        size: u64,
    },
    /// The alignment is none.
    #[error("FAT file alignment of {alignment} bytes: not a power of two up to 1 MiB")]
    Alignment {
        /// The alignment in bytes.
        alignment: u64,
    },
    /// No geometry holds the content.
    #[error("no FAT volume of {size} bytes (kind {kind:?}) holds content of {needed} bytes")]
    NoFit {
        /// The size asked for.
        size: u64,
        /// The kind asked for.
        kind: Option<Kind>,
        /// Bytes that files and directories take in the smallest clusters.
        needed: u64,
    },
}

/// Why a laid out volume could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The volume's own structures could not be written.
    #[error("write FAT volume at byte {offset}")]
    Volume {
        /// Position in the volume.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
    /// A file's content was not as announced, or could not be moved.
    #[error("write FAT file {path:?}")]
    File {
        /// Its path.
        path: String,
        /// What went wrong.
        source: ContentError,
    },
}

/// A volume whose every byte's place is decided.
///
/// ```
/// use kit_disk::fat::{Entry, Layout, Options};
/// use std::io::Write;
///
/// let entries = [Entry::file("EFI/BOOT/BOOTX64.EFI", 5)];
/// let layout = Layout::new(&entries, &Options { alignment: 2048, ..Options::default() })?;
/// let mut volume = Vec::new();
/// layout.write(&mut volume, |_, out| Ok(out.write_all(b"hello")?))?;
/// let at = layout.offset(0).unwrap() as usize;
/// assert_eq!((&volume[at..at + 5], at % 2048), (&b"hello"[..], 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    options: Options,
    geometry: geometry::Geometry,
    label: Option<name::Short>,
    tree: tree::Tree,
    /// Where each directory is, in the tree's order; the root of FAT12/16 has no clusters.
    directories: Vec<Run>,
    /// Where each entry's content is; empty for directories and empty files.
    files: Vec<Run>,
    paths: Vec<String>,
}

/// A run of clusters, `len` bytes of which are used. `first` is 0 for an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Run {
    first: u32,
    count: u32,
    len: u64,
}

impl Layout {
    /// Lays out `entries`.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn new(entries: &[Entry], options: &Options) -> Result<Self, LayoutError> {
        let label = match &options.label {
            None => None,
            Some(text) => Some(name::label(text).ok_or_else(|| LayoutError::Label { label: text.clone() })?),
        };
        let tree = tree::Tree::new(entries, label.is_some())?;
        let demand = Demand { tree: &tree, entries, alignment: options.alignment };
        let geometry = geometry::choose(&demand, options)?;
        let (directories, files, _) = demand.allocate(geometry.cluster(), geometry.kind == Kind::Fat32);
        let run = |(first, count, len): (u64, u64, u64)| Run {
            // The geometry's cluster count bounds both.
            first: first as u32,
            count: count as u32,
            len,
        };
        Ok(Self {
            options: options.clone(),
            geometry,
            label,
            directories: directories.into_iter().map(run).collect(),
            files: files.into_iter().map(run).collect(),
            paths: entries.iter().map(|e| e.path.clone()).collect(),
            tree,
        })
    }

    /// The kind of FAT.
    pub fn kind(&self) -> Kind {
        self.geometry.kind
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        self.geometry.cluster()
    }

    /// Bytes of the volume.
    pub fn size(&self) -> u64 {
        u64::from(self.geometry.total) * SECTOR
    }

    /// Bytes up to the end of the last cluster in use; zeros follow.
    pub fn used(&self) -> u64 {
        let runs = self.directories.iter().chain(&self.files);
        let next = runs.map(|run| run.first + run.count).max().unwrap_or(0).max(2);
        self.geometry.offset(next)
    }

    /// Byte offset within the volume of the content of the `n`th entry; `None` for a directory, an empty file, or no
    /// such entry.
    pub fn offset(&self, n: usize) -> Option<u64> {
        let run = self.files.get(n).filter(|run| run.first != 0)?;
        Some(self.geometry.offset(run.first))
    }

    /// Writes the whole volume, [`Layout::size`] bytes. `give` writes the content of the `n`th entry; it is called
    /// once for each file that is not empty, in order.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write<W: Write + ?Sized>(
        &self,
        out: &mut W,
        give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    ) -> Result<(), WriteError> {
        write::volume(self, out, give, self.size())
    }

    /// Like [`Layout::write`], but ends after [`Layout::used`] bytes. For outputs where the zeros that follow need
    /// not be written.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_used<W: Write + ?Sized>(
        &self,
        out: &mut W,
        give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    ) -> Result<(), WriteError> {
        write::volume(self, out, give, self.used())
    }
}

/// What has to be stored, for the choice of a geometry and then for the allocation in it.
struct Demand<'a> {
    tree: &'a tree::Tree,
    entries: &'a [Entry],
    alignment: u64,
}

/// First cluster, number of clusters, bytes used.
type WideRun = (u64, u64, u64);

impl Demand<'_> {
    /// Allocates clusters of `cluster` bytes: directories, then files. Returns their runs and the next free cluster.
    fn allocate(&self, cluster: u64, root_in_data: bool) -> (Vec<WideRun>, Vec<WideRun>, u64) {
        let mut next = 2u64;
        let mut take = |len: u64, align: u64| {
            if len == 0 {
                return (0, 0, 0);
            }
            // The data region begins aligned, so cluster 2 counts as zero.
            let first = 2 + (next - 2).next_multiple_of((align / cluster).max(1));
            let count = len.div_ceil(cluster);
            next = first + count;
            (first, count, len)
        };
        let directories = self
            .tree
            .directories()
            .map(|(n, entries)| {
                let in_data = n > 0 || root_in_data;
                // Even an empty root has a cluster.
                take(if in_data { (entries * name::ENTRY_LEN as u64).max(1) } else { 0 }, cluster)
            })
            .collect();
        let files = self
            .entries
            .iter()
            .map(|entry| match entry.content {
                Content::File(len) => take(len, self.alignment),
                Content::Directory => (0, 0, 0),
            })
            .collect();
        (directories, files, next)
    }
}

impl geometry::Demand for Demand<'_> {
    fn clusters(&self, cluster: u64, root_in_data: bool) -> u64 {
        self.allocate(cluster, root_in_data).2 - 2
    }

    fn root_entries(&self) -> u64 {
        self.tree.directories().next().map_or(0, |(_, entries)| entries)
    }
}

#[cfg(test)]
mod tests;
