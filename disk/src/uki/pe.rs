//! Reading a PE32+ image's headers: what a UKI is built on, and what finds its parts again.
//!
//! Of the format (Microsoft's "PE Format") only what locates sections is read. Memory is bounded by [`MAX_SECTIONS`];
//! lengths and offsets are checked against the file before they are used.

use std::io::{self, Read, Seek, SeekFrom, Take};

/// The most sections that Windows' loader takes, and that are read here.
pub const MAX_SECTIONS: u16 = 96;
/// Bytes of a section header.
pub(super) const SECTION_HEADER_LEN: usize = 40;
/// Bytes from the signature `PE\0\0` to the optional header.
const COFF_LEN: usize = 24;
const MAGIC_PE32_PLUS: u16 = 0x20b;
/// Fields of the optional header up to the number of data directories.
const OPTIONAL_LEN: u16 = 112;
/// The furthest that the signature may be into the file.
const MAX_SIGNATURE_OFFSET: u32 = 1 << 16;

/// Why an image's headers could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum PeError {
    /// The file could not be read, or ended.
    #[error("read PE image at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// The reader's error.
        source: io::Error,
    },
    /// A mark of the format is missing.
    #[error("not a PE32+ image: no {what} at byte {offset}")]
    Mark {
        /// Which mark.
        what: &'static str,
        /// Where it should be.
        offset: u64,
    },
    /// A field is out of bounds.
    #[error("PE image: {field} is {value}")]
    Field {
        /// The field's name in the format.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A section's bytes are not in the file.
    #[error("PE section {name:?}: bytes {offset}..{end} of a file of {len}")]
    OutOfFile {
        /// The section.
        name: String,
        /// Its offset.
        offset: u64,
        /// Its end.
        end: u64,
        /// The file's length.
        len: u64,
    },
    /// There is no section of this name.
    #[error("PE image has no section {name:?}")]
    NoSection {
        /// The name asked for.
        name: String,
    },
}

/// A section as its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, up to eight characters.
    pub name: String,
    /// Its address relative to the image.
    pub address: u32,
    /// Bytes in memory: the content's length in a UKI.
    pub memory_len: u32,
    /// Byte offset in the file.
    pub offset: u32,
    /// Bytes in the file, padding included.
    pub file_len: u32,
}

impl Section {
    /// Bytes of content: what is in the file and in memory.
    pub fn len(&self) -> u64 {
        u64::from(self.memory_len.min(self.file_len))
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The headers of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The machine's number (0x8664 x86-64, 0xaa64 64-bit Arm).
    pub machine: u16,
    /// The sections, in order.
    pub sections: Vec<Section>,
    pub(super) coff_at: usize,
    pub(super) table_at: usize,
    pub(super) headers_len: u32,
    pub(super) section_alignment: u32,
    pub(super) file_alignment: u32,
    pub(super) has_certificates: bool,
}

impl Image {
    /// Reads the headers of the image that `file` is from its first byte on.
    ///
    /// # Errors
    /// See [`PeError`].
    pub fn read<R: Read + Seek>(file: &mut R) -> Result<Self, PeError> {
        let mut dos = [0; 64];
        read_at(file, 0, &mut dos)?;
        mark(&dos, b"MZ", "MZ", 0)?;
        let coff_at = le32(&dos, 60);
        if coff_at > MAX_SIGNATURE_OFFSET {
            return Err(PeError::Field { field: "e_lfanew", value: coff_at.into() });
        }
        let at = u64::from(coff_at);
        let mut coff = [0; COFF_LEN];
        read_at(file, at, &mut coff)?;
        mark(&coff, b"PE\0\0", "PE signature", at)?;
        let (count, optional_len) = (le16(&coff, 6), le16(&coff, 20));
        let field = |field, value: u32| PeError::Field { field, value: value.into() };
        if count > MAX_SECTIONS {
            return Err(field("NumberOfSections", count.into()));
        }
        if !(OPTIONAL_LEN..=1024).contains(&optional_len) {
            return Err(field("SizeOfOptionalHeader", optional_len.into()));
        }
        let mut optional = [0; 1024];
        let optional = &mut optional[..usize::from(optional_len)];
        read_at(file, at + COFF_LEN as u64, optional)?;
        mark(optional, &MAGIC_PE32_PLUS.to_le_bytes(), "PE32+ magic", at + COFF_LEN as u64)?;
        let (section_alignment, file_alignment) = (le32(optional, 32), le32(optional, 36));
        for (name, value) in [("SectionAlignment", section_alignment), ("FileAlignment", file_alignment)] {
            if !value.is_power_of_two() || !(16..=1 << 20).contains(&value) {
                return Err(field(name, value));
            }
        }
        let table_at = coff_at as usize + COFF_LEN + usize::from(optional_len);
        let mut sections = Vec::with_capacity(count.into());
        for n in 0..usize::from(count) {
            let mut header = [0; SECTION_HEADER_LEN];
            read_at(file, (table_at + n * SECTION_HEADER_LEN) as u64, &mut header)?;
            sections.push(section(&header));
        }
        // The fifth data directory, if there are so many.
        let certificates = le32(optional, 108) > 4 && optional.len() >= 152 && le32(optional, 148) != 0;
        Ok(Self {
            machine: le16(&coff, 4),
            sections,
            coff_at: coff_at as usize,
            table_at,
            headers_len: le32(optional, 60),
            section_alignment,
            file_alignment,
            has_certificates: certificates,
        })
    }

    /// The section `name`.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// A reader of the content of the section `name` of `file`.
    ///
    /// # Errors
    /// [`PeError::NoSection`], and [`PeError::OutOfFile`] if the header points beyond the file.
    pub fn open<'a, R: Read + Seek>(&self, file: &'a mut R, name: &str) -> Result<Take<&'a mut R>, PeError> {
        let section = self.section(name).ok_or_else(|| PeError::NoSection { name: name.to_owned() })?;
        let offset = u64::from(section.offset);
        let fail = |source| PeError::Read { offset, source };
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let end = offset + section.len();
        if end > len {
            return Err(PeError::OutOfFile { name: name.to_owned(), offset, end, len });
        }
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        Ok(file.take(section.len()))
    }
}

fn section(header: &[u8; SECTION_HEADER_LEN]) -> Section {
    let name = &header[..8];
    let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(8)];
    Section {
        name: String::from_utf8_lossy(name).into_owned(),
        memory_len: le32(header, 8),
        address: le32(header, 12),
        file_len: le32(header, 16),
        offset: le32(header, 20),
    }
}

fn mark(bytes: &[u8], expected: &[u8], what: &'static str, offset: u64) -> Result<(), PeError> {
    if bytes.starts_with(expected) { Ok(()) } else { Err(PeError::Mark { what, offset }) }
}

fn read_at<R: Read + Seek>(file: &mut R, offset: u64, buf: &mut [u8]) -> Result<(), PeError> {
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buf));
    read.map_err(|source| PeError::Read { offset, source })
}

/// Callers' offsets are constants within what was read.
fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
