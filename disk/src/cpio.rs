//! cpio archives in the *newc* format, as the Linux kernel unpacks them into its initial root.
//!
//! ```text
//! header (110 bytes of ASCII hex) | name, NUL | pad to 4 | data | pad to 4     for each member
//! .. the member "TRAILER!!!" | pad to 512
//! ```
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux, and `cpio(5)`. Archives may be
//! concatenated (microcode before the root); each starts at a multiple of four bytes, which the padding to 512 sees
//! to.
//!
//! What is fixed, so that the same calls give the same bytes: inode numbers count from 1 in the order of the calls,
//! the device is 0:0, every time is the one given to [`Writer::new`].
//!
//! Hard links: the first name carries the data and the link count ([`Writer::linked_file`]), later names refer to
//! its inode with a length of zero ([`Writer::hard_link`]). The kernel and GNU cpio both accept that order.
//!
//! Alignment: [`Writer::align_next`] makes the next file's data start at a multiple of a power of two by padding its
//! *name* with NULs, which the format allows and readers ignore; a file system kept in an initrd can then be mapped
//! or reflinked.

use crate::content::{self, ContentError};
use crate::window::Window;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The largest file that newc's eight hex digits can describe, in bytes (4 GiB - 1).
pub const MAX_FILE_LEN: u64 = u32::MAX as u64;

/// The longest name with its NUL: the kernel skips members with a longer one (`PATH_MAX`).
const MAX_NAME_SIZE: usize = 4096;
/// The largest alignment that padding a name can give whatever the position is.
pub const MAX_ALIGNMENT: u32 = 2048;
const HEADER_LEN: u64 = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// Offset of `c_filesize` in the header: magic and six fields before it.
const FILESIZE_OFFSET: u64 = 6 + 6 * 8;

/// Owner and permission bits of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The low twelve mode bits (set-id, sticky and rwx); the file type is the call's.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

impl Meta {
    /// `mode`, owned by root.
    pub const fn root(mode: u16) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// A member that is neither file, directory nor symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// An inode with more than one name, as [`Writer::linked_file`] returned it.
#[derive(Debug, PartialEq, Eq)]
pub struct Inode {
    ino: u32,
    meta: Meta,
    links: u32,
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// No bytes.
    Empty,
    /// Starts with `/`; members are relative to the root.
    Absolute,
    /// Holds a NUL.
    Nul,
    /// Longer than 4095 bytes, or than the alignment leaves room for.
    TooLong,
    /// `TRAILER!!!`, which would end the archive.
    Trailer,
}

impl std::fmt::Display for NameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::Absolute => "the name is absolute",
            Self::Nul => "the name holds a NUL",
            Self::TooLong => "the name is too long",
            Self::Trailer => "the name is the archive's end mark",
        })
    }
}

/// Why an archive could not be written. Paths are shown with invalid UTF-8 replaced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be a member's.
    #[error("cpio member {path:?}: {fault}")]
    Name {
        /// The name.
        path: String,
        /// What is wrong.
        fault: NameFault,
    },
    /// The file does not fit the format.
    #[error("cpio member {path:?}: {len} bytes, but newc holds at most {MAX_FILE_LEN} bytes a file")]
    TooLarge {
        /// The member.
        path: String,
        /// Its length in bytes.
        len: u64,
    },
    /// The content was not as announced, could not be read, or could not be written.
    #[error("cpio member {path:?}")]
    Content {
        /// The member.
        path: String,
        /// What went wrong.
        source: ContentError,
    },
    /// The archive could not be written.
    #[error("cpio member {path:?}: write archive at byte {offset}")]
    Write {
        /// The member.
        path: String,
        /// Position in the archive where the write began.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
    /// An alignment that names cannot give.
    #[error("cpio data alignment {align} is not a power of two between 4 and {MAX_ALIGNMENT}")]
    Alignment {
        /// The alignment asked for, in bytes.
        align: u32,
    },
    /// More than 2^32 - 1 members.
    #[error("cpio archive has no inode number left for {path:?}")]
    Inodes {
        /// The member.
        path: String,
    },
    /// An earlier call did not complete, so the archive's state is unknown.
    #[error("cpio archive is torn: the member {path:?} was not completed")]
    Torn {
        /// The member that was not completed.
        path: String,
    },
}

/// `Result` with this module's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Writes one archive to `out`, member after member; nothing is kept in memory.
///
/// ```
/// use kit_disk::cpio::{Meta, Writer};
///
/// let mut cpio = Writer::new(Vec::new(), 1_700_000_000);
/// cpio.directory("dev", Meta::root(0o755))?;
/// cpio.file("init", Meta::root(0o755), 9, &mut &b"#!/bin/sh"[..])?;
/// let archive = cpio.finish()?;
/// assert_eq!(archive.len() % 512, 0);
/// # Ok::<(), kit_disk::cpio::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    offset: u64,
    last_ino: u32,
    mtime: u32,
    align: u32,
    /// The member under way; left behind by an error.
    under_way: Option<String>,
}

impl<W: Write> Writer<W> {
    /// An archive whose members all have the time `mtime` (seconds since 1970).
    pub fn new(out: W, mtime: u32) -> Self {
        Self { out, offset: 0, last_ino: 0, mtime, align: 4, under_way: None }
    }

    /// Bytes written so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Lets the data of the next file begin at a multiple of `align` bytes from the archive's start.
    ///
    /// # Errors
    /// [`Error::Alignment`] unless it is a power of two from 4 to [`MAX_ALIGNMENT`].
    pub fn align_next(&mut self, align: u32) -> Result<()> {
        if !align.is_power_of_two() || !(4..=MAX_ALIGNMENT).contains(&align) {
            return Err(Error::Alignment { align });
        }
        self.align = align;
        Ok(())
    }

    /// A directory. The kernel makes no parents: write them first.
    ///
    /// # Errors
    /// See [`Error`]; this holds for every call below.
    pub fn directory(&mut self, path: impl AsRef<[u8]>, meta: Meta) -> Result<()> {
        self.empty_member(path.as_ref(), Fields { links: 2, ..Fields::new(0o040_000, meta) })
    }

    /// A regular file of `len` bytes read from `content`, which must end there.
    pub fn file(
        &mut self,
        path: impl AsRef<[u8]>,
        meta: Meta,
        len: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        self.linked_file(path, meta, 1, len, content).map(drop)
    }

    /// A regular file that will have `links` names: this one and `links - 1` of [`Writer::hard_link`].
    pub fn linked_file(
        &mut self,
        path: impl AsRef<[u8]>,
        meta: Meta,
        links: u32,
        len: u64,
        content: &mut dyn Read,
    ) -> Result<Inode> {
        let path = path.as_ref();
        let size = file_size(path, len)?;
        let ino = self.header(path, Fields { links, size, ..Fields::new(0o100_000, meta) })?;
        content::copy(content, len, &mut self.out)
            .map_err(|source| Error::Content { path: lossy(path), source })?;
        self.offset += len;
        self.end_member(path)?;
        Ok(Inode { ino, meta, links })
    }

    /// One more name for `inode`.
    pub fn hard_link(&mut self, path: impl AsRef<[u8]>, inode: &Inode) -> Result<()> {
        let fields =
            Fields { links: inode.links, ino: Some(inode.ino), ..Fields::new(0o100_000, inode.meta) };
        self.empty_member(path.as_ref(), fields)
    }

    /// A symbolic link to `target`.
    pub fn symlink(
        &mut self,
        path: impl AsRef<[u8]>,
        uid: u32,
        gid: u32,
        target: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (path, target) = (path.as_ref(), target.as_ref());
        let size = file_size(path, target.len() as u64)?;
        self.header(path, Fields { size, ..Fields::new(0o120_000, Meta { mode: 0o777, uid, gid }) })?;
        self.put(path, target)?;
        self.end_member(path)
    }

    /// A device node, pipe or socket.
    pub fn special(&mut self, path: impl AsRef<[u8]>, meta: Meta, special: Special) -> Result<()> {
        let (kind, rdev) = match special {
            Special::Char { major, minor } => (0o020_000, (major, minor)),
            Special::Block { major, minor } => (0o060_000, (major, minor)),
            Special::Fifo => (0o010_000, (0, 0)),
            Special::Socket => (0o140_000, (0, 0)),
        };
        self.empty_member(path.as_ref(), Fields { rdev, ..Fields::new(kind, meta) })
    }

    /// Writes the end mark, pads to 512 bytes and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.check_whole()?;
        self.raw_header(TRAILER, 0, 0, &Fields { links: 1, ..Fields::new(0, Meta::root(0)) })?;
        self.pad(TRAILER, 512)?;
        self.out.flush().map_err(|source| self.write_error(TRAILER, source))?;
        Ok(self.out)
    }

    fn check_whole(&self) -> Result<()> {
        match &self.under_way {
            Some(path) => Err(Error::Torn { path: path.clone() }),
            None => Ok(()),
        }
    }

    fn empty_member(&mut self, path: &[u8], fields: Fields) -> Result<()> {
        self.header(path, fields)?;
        self.end_member(path)
    }

    /// Writes a checked header and name; the data comes next.
    fn header(&mut self, path: &[u8], fields: Fields) -> Result<u32> {
        self.check_whole()?;
        let is_file = fields.mode & 0o170_000 == 0o100_000;
        let align = if is_file { std::mem::replace(&mut self.align, 4) } else { 4 };
        let padding = check_name(path, align, self.offset)?;
        let ino = match fields.ino {
            Some(ino) => ino,
            None => {
                let next = self.last_ino.checked_add(1).ok_or_else(|| Error::Inodes { path: lossy(path) })?;
                self.last_ino = next;
                next
            }
        };
        self.under_way = Some(lossy(path));
        self.raw_header(path, padding, ino, &fields)?;
        Ok(ino)
    }

    fn raw_header(&mut self, path: &[u8], padding: usize, ino: u32, fields: &Fields) -> Result<()> {
        let name_size = path.len() + 1 + padding;
        let mut head = Vec::with_capacity(HEADER_LEN as usize + name_size + 3);
        head.extend_from_slice(b"070701");
        let mtime = if path == TRAILER { 0 } else { self.mtime };
        let (major, minor) = fields.rdev;
        let meta = (fields.mode, fields.uid, fields.gid);
        let values = [ino, meta.0, meta.1, meta.2, fields.links, mtime, fields.size, 0, 0, major, minor];
        // `name_size` is at most 4096; the last field, a checksum, is zero in newc.
        for value in values.into_iter().chain([name_size as u32, 0]) {
            head.extend_from_slice(format!("{value:08x}").as_bytes());
        }
        head.extend_from_slice(path);
        head.resize(HEADER_LEN as usize + name_size, 0);
        self.put(path, &head)?;
        self.pad(path, 4)
    }

    fn end_member(&mut self, path: &[u8]) -> Result<()> {
        self.pad(path, 4)?;
        self.under_way = None;
        Ok(())
    }

    fn put(&mut self, path: &[u8], bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| self.write_error(path, source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, path: &[u8], to: u64) -> Result<()> {
        let gap = self.offset.next_multiple_of(to) - self.offset;
        self.put(path, &[0; 512][..gap as usize])
    }

    fn write_error(&self, path: &[u8], source: io::Error) -> Error {
        Error::Write { path: lossy(path), offset: self.offset, source }
    }
}

impl<W: Write + Seek> Writer<W> {
    /// A regular file whose content is written in place and whose length is patched by [`InPlace::finish`].
    ///
    /// What is written to the returned value may seek within itself. The archive can only go on after
    /// [`InPlace::finish`]; dropping it instead tears the archive, which every later call reports.
    pub fn begin_file_seekable(&mut self, path: impl AsRef<[u8]>, meta: Meta) -> Result<InPlace<'_, W>> {
        let path = path.as_ref();
        let header_at = self.offset;
        self.header(path, Fields::new(0o100_000, meta))?;
        let Self { out, offset, under_way, .. } = self;
        let window = Window::new(out, MAX_FILE_LEN).map_err(|source| Error::Write {
            path: lossy(path),
            offset: *offset,
            source,
        })?;
        Ok(InPlace { window, offset, under_way, path: path.to_vec(), header_at })
    }
}

/// A member being written in place; see [`Writer::begin_file_seekable`]. It is `Write` and `Seek` (and `Read` where
/// the output is), and position 0 is the file's first byte.
#[derive(Debug)]
#[must_use = "dropping this without `finish` tears the archive"]
pub struct InPlace<'a, W> {
    window: Window<'a, W>,
    offset: &'a mut u64,
    under_way: &'a mut Option<String>,
    path: Vec<u8>,
    header_at: u64,
}

impl<W: Write + Seek> InPlace<'_, W> {
    /// Patches the length into the member's header, pads, and returns the length in bytes.
    ///
    /// # Errors
    /// [`Error::Write`]; a file over [`MAX_FILE_LEN`] was refused by the write itself.
    pub fn finish(mut self) -> Result<u64> {
        let len = self.window.len();
        let size = file_size(&self.path, len)?;
        let origin = self.window.origin();
        let data_at = *self.offset;
        let padded = len.next_multiple_of(4);
        let mut patch = || -> io::Result<()> {
            self.window.seek(SeekFrom::Start(len))?;
            let out = self.window.get_mut();
            out.write_all(&[0; 3][..(padded - len) as usize])?;
            let end = out.stream_position()?;
            out.seek(SeekFrom::Start(origin - (data_at - self.header_at) + FILESIZE_OFFSET))?;
            out.write_all(format!("{size:08x}").as_bytes())?;
            out.seek(SeekFrom::Start(end)).map(drop)
        };
        patch().map_err(|source| Error::Write { path: lossy(&self.path), offset: data_at, source })?;
        *self.offset += padded;
        *self.under_way = None;
        Ok(len)
    }
}

impl<W: Write> Write for InPlace<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.window.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.window.flush()
    }
}

impl<W: Seek> Seek for InPlace<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.window.seek(to)
    }
}

impl<W: Read> Read for InPlace<'_, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.window.read(buf)
    }
}

/// The header's fields that differ between kinds of member.
struct Fields {
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    size: u32,
    rdev: (u32, u32),
    /// An inode that was written before.
    ino: Option<u32>,
}

impl Fields {
    fn new(kind: u32, meta: Meta) -> Self {
        let mode = kind | u32::from(meta.mode & 0o7777);
        Self { mode, uid: meta.uid, gid: meta.gid, links: 1, size: 0, rdev: (0, 0), ino: None }
    }
}

fn file_size(path: &[u8], len: u64) -> Result<u32> {
    u32::try_from(len).map_err(|_| Error::TooLarge { path: lossy(path), len })
}

/// Checks a name and returns the NULs to add to it, so that the data after a header at `offset` is aligned.
fn check_name(path: &[u8], align: u32, offset: u64) -> Result<usize> {
    let align = align as usize;
    let fault = match path {
        [] => NameFault::Empty,
        [b'/', ..] => NameFault::Absolute,
        TRAILER => NameFault::Trailer,
        _ if path.contains(&0) => NameFault::Nul,
        // Room for the worst padding is required always, so that the position decides nothing.
        _ if path.len() + align > MAX_NAME_SIZE => NameFault::TooLong,
        _ => {
            let data_at = offset + HEADER_LEN + path.len() as u64 + 1;
            let gap = data_at.next_multiple_of(align as u64) - data_at;
            // Up to three bytes follow any name; only more than that is part of it.
            return Ok(if align > 4 { gap as usize } else { 0 });
        }
    };
    Err(Error::Name { path: lossy(path), fault })
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
