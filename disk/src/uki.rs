//! Unified kernel images: a UEFI stub with kernel, initrd and command line as sections of one PE file.
//!
//! ```text
//! stub (systemd-stub): headers | .text .. .sdmagic | .osrel | .cmdline | .uname | .initrd | .linux
//!                                                    \______ appended, each at a multiple of 4096 _____/
//! ```
//!
//! [`Layout::new`] is pure: from the stub's bytes (some 80 KiB) and the sections' lengths it decides every offset;
//! [`Layout::write`] streams. Sections begin at multiples of [`SECTION_ALIGNMENT`] in the file as in memory, so that
//! an ISO 9660 image can refer to the kernel *inside* a UKI and does not hold it twice.
//!
//! What stubs need (systemd 252, Debian 12): `.linux` has to be the last section, since the kernel's in-memory size
//! overruns what follows; `.ucode` is not known, so microcode is put before the initrd in `.initrd`.
//!
//! The PE checksum is written as zero, which means "none": UEFI does not look at it, signing computes its own, and a
//! stream has passed the field by when the sum is known. A stub that carries a signature is refused, since none
//! survives this. Symbols after the stub's last section are dropped.

use crate::content::{self, ContentError, GiveError};
use std::io::{self, Cursor, Read, Write};

pub mod pe;

use pe::{Image, PeError, SECTION_HEADER_LEN};

/// Sections begin at multiples of so many bytes, in the file and in memory.
pub const SECTION_ALIGNMENT: u64 = 4096;

/// Initialized data, readable.
const CHARACTERISTICS: u32 = 0x4000_0040;

/// A section to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name with the dot, as `.initrd`: up to eight ASCII characters.
    pub name: String,
    /// Its content's length in bytes.
    pub len: u64,
}

impl Section {
    /// A section of `len` bytes.
    pub fn new(name: impl Into<String>, len: u64) -> Self {
        Self { name: name.into(), len }
    }
}

/// Why a UKI cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The stub is not an image that can be extended.
    #[error("read the UEFI stub")]
    Stub(#[source] PeError),
    /// The stub's headers point beyond the stub.
    #[error("UEFI stub of {len} bytes: {what} ends at byte {end}")]
    StubCut {
        /// What ends there.
        what: &'static str,
        /// Its end.
        end: u64,
        /// The stub's length in bytes.
        len: usize,
    },
    /// The stub has a signature, which would not hold any longer.
    #[error("the UEFI stub is signed; a UKI is made from an unsigned one and signed afterwards")]
    Signed,
    /// The name cannot be a section's.
    #[error("UKI section {name:?}: a name is a dot and up to seven letters or digits")]
    Name {
        /// The name.
        name: String,
    },
    /// The name is another section's.
    #[error("UKI section {name:?} is there twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A section without content.
    #[error("UKI section {name:?} is empty")]
    Empty {
        /// The name.
        name: String,
    },
    /// `.linux` is followed by another section.
    #[error("UKI section {name:?} follows .linux, which has to be the last")]
    AfterLinux {
        /// The section that follows.
        name: String,
    },
    /// The stub's headers have no room for more sections.
    #[error("the UEFI stub's headers have room for {room} more sections, {wanted} are wanted")]
    NoRoom {
        /// Section headers that fit.
        room: usize,
        /// Sections given.
        wanted: usize,
    },
    /// The image would be over 4 GiB.
    #[error("UKI section {name:?} of {len} bytes takes the image over 4 GiB")]
    TooLarge {
        /// The section that does.
        name: String,
        /// Its length in bytes.
        len: u64,
    },
}

/// Why a laid out UKI could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stub or padding could not be written.
    #[error("write UKI at byte {offset}")]
    Image {
        /// Where.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
    /// A section's content was not as announced, or could not be moved.
    #[error("write UKI section {name:?}")]
    Section {
        /// Its name.
        name: String,
        /// What went wrong.
        source: ContentError,
    },
}

/// A UKI whose every byte's place is decided.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The stub up to the end of its last section, with its headers amended.
    stub: Vec<u8>,
    sections: Vec<Placed>,
    size: u64,
}

#[derive(Debug, Clone)]
struct Placed {
    name: String,
    len: u64,
    offset: u64,
}

impl Layout {
    /// Lays out `sections` in their order after those of `stub`.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn new(stub: &[u8], sections: &[Section]) -> Result<Self, LayoutError> {
        let image = Image::read(&mut Cursor::new(stub)).map_err(LayoutError::Stub)?;
        let file_end = check_stub(stub, &image)?;
        check_sections(&image, sections)?;
        let mut stub = stub[..file_end].to_vec();
        let ends =
            image.sections.iter().map(|s| u64::from(s.address) + u64::from(s.memory_len.max(s.file_len)));
        let mut free = Free {
            address: ends.max().unwrap_or(0).max(u64::from(image.headers_len)),
            offset: file_end as u64,
            address_alignment: SECTION_ALIGNMENT.max(u64::from(image.section_alignment)),
            file_alignment: u64::from(image.file_alignment),
        };
        let mut placed = Vec::with_capacity(sections.len());
        for (n, section) in sections.iter().enumerate() {
            let header = free.place(section)?;
            let table_at = image.table_at + (image.sections.len() + n) * SECTION_HEADER_LEN;
            stub[table_at..table_at + SECTION_HEADER_LEN].copy_from_slice(&header.encode(&section.name));
            let (name, len) = (section.name.clone(), section.len);
            placed.push(Placed { name, len, offset: u64::from(header.offset) });
        }
        amend(&mut stub, &image, sections, free.address);
        Ok(Self { stub, sections: placed, size: free.offset })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Byte offset in the file of the content of the `n`th section.
    pub fn offset(&self, n: usize) -> Option<u64> {
        self.sections.get(n).map(|s| s.offset)
    }

    /// Writes the file, [`Layout::size`] bytes. `give` writes the content of the `n`th section; it is called once for
    /// each, in order.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write<W: Write + ?Sized>(
        &self,
        out: &mut W,
        mut give: impl FnMut(usize, &mut dyn Write) -> Result<(), GiveError>,
    ) -> Result<(), WriteError> {
        out.write_all(&self.stub).map_err(|source| WriteError::Image { offset: 0, source })?;
        let mut at = self.stub.len() as u64;
        for (n, section) in self.sections.iter().enumerate() {
            zeros(out, at, section.offset)?;
            let wrap = |source| WriteError::Section { name: section.name.clone(), source };
            content::give(|sink| give(n, sink), section.len, out).map_err(wrap)?;
            at = section.offset + section.len;
        }
        zeros(out, at, self.size)
    }
}

fn zeros<W: Write + ?Sized>(out: &mut W, from: u64, to: u64) -> Result<(), WriteError> {
    let padding = io::copy(&mut io::repeat(0).take(to - from), out);
    padding.map(drop).map_err(|source| WriteError::Image { offset: from, source })
}

/// Where the next section may go, in memory and in the file, and the multiples at which it may.
struct Free {
    address: u64,
    offset: u64,
    address_alignment: u64,
    file_alignment: u64,
}

/// The fields of a section header that differ between sections.
struct Header {
    memory_len: u32,
    address: u32,
    file_len: u32,
    offset: u32,
}

impl Free {
    fn place(&mut self, section: &Section) -> Result<Header, LayoutError> {
        let too_large = || LayoutError::TooLarge { name: section.name.clone(), len: section.len };
        let narrow = |value: u64| u32::try_from(value).map_err(|_| too_large());
        // Checked first, so that the sums below cannot wrap.
        let memory_len = narrow(section.len)?;
        let address = self.address.next_multiple_of(self.address_alignment);
        let offset = self.offset.next_multiple_of(SECTION_ALIGNMENT.max(self.file_alignment));
        let file_len = section.len.next_multiple_of(self.file_alignment);
        self.address = (address + section.len).next_multiple_of(self.address_alignment);
        self.offset = offset + file_len;
        narrow(self.address)?;
        narrow(self.offset)?;
        let (address, offset) = (narrow(address)?, narrow(offset)?);
        Ok(Header { memory_len, address, file_len: narrow(file_len)?, offset })
    }
}

impl Header {
    fn encode(&self, name: &str) -> [u8; SECTION_HEADER_LEN] {
        let mut b = [0; SECTION_HEADER_LEN];
        b[..name.len()].copy_from_slice(name.as_bytes());
        b[8..12].copy_from_slice(&self.memory_len.to_le_bytes());
        b[12..16].copy_from_slice(&self.address.to_le_bytes());
        b[16..20].copy_from_slice(&self.file_len.to_le_bytes());
        b[20..24].copy_from_slice(&self.offset.to_le_bytes());
        b[36..].copy_from_slice(&CHARACTERISTICS.to_le_bytes());
        b
    }
}

/// Checks that the stub is whole and unsigned; returns the end of its last section in the file.
fn check_stub(stub: &[u8], image: &Image) -> Result<usize, LayoutError> {
    if image.has_certificates {
        return Err(LayoutError::Signed);
    }
    let table_end = image.table_at + image.sections.len() * SECTION_HEADER_LEN;
    let headers_len = u64::from(image.headers_len);
    let cut = |what, end| Err(LayoutError::StubCut { what, end, len: stub.len() });
    if headers_len > stub.len() as u64 {
        return cut("SizeOfHeaders", headers_len);
    }
    if table_end as u64 > headers_len {
        return cut("the section table", table_end as u64);
    }
    let ends = image.sections.iter().map(|s| u64::from(s.offset) + u64::from(s.file_len));
    let end = ends.max().unwrap_or(0).max(headers_len);
    if end > stub.len() as u64 {
        return cut("the last section", end);
    }
    // Not over the stub's length, so it fits.
    Ok(end as usize)
}

fn check_sections(image: &Image, sections: &[Section]) -> Result<(), LayoutError> {
    let table_end = image.table_at + image.sections.len() * SECTION_HEADER_LEN;
    let first_data = image.sections.iter().filter(|s| s.file_len > 0).map(|s| s.offset).min();
    let headers_end = first_data.unwrap_or(u32::MAX).min(image.headers_len) as usize;
    let by_count = usize::from(pe::MAX_SECTIONS) - image.sections.len();
    let room = (headers_end.saturating_sub(table_end) / SECTION_HEADER_LEN).min(by_count);
    if sections.len() > room {
        return Err(LayoutError::NoRoom { room, wanted: sections.len() });
    }
    for (n, Section { name, len }) in sections.iter().enumerate() {
        let (first, rest) = name.split_at_checked(1).unwrap_or(("", ""));
        let is_name =
            first == "." && (1..8).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_name {
            return Err(LayoutError::Name { name: name.clone() });
        }
        if image.section(name).is_some() || sections[..n].iter().any(|s| s.name == *name) {
            return Err(LayoutError::Duplicate { name: name.clone() });
        }
        if *len == 0 {
            return Err(LayoutError::Empty { name: name.clone() });
        }
        if sections[..n].iter().any(|s| s.name == ".linux") {
            return Err(LayoutError::AfterLinux { name: name.clone() });
        }
    }
    Ok(())
}

/// Puts the counts and sizes right in the stub's COFF and optional headers. `place` has seen that they fit.
fn amend(stub: &mut [u8], image: &Image, sections: &[Section], address_end: u64) {
    let coff = image.coff_at;
    let optional = coff + 24;
    let le32 = |b: &[u8], at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let mut put = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
    // Both counts are bounded by MAX_SECTIONS.
    put(coff + 6, &((image.sections.len() + sections.len()) as u16).to_le_bytes());
    // PointerToSymbolTable, NumberOfSymbols: dropped with the stub's tail.
    put(coff + 12, &[0; 8]);
    // SizeOfImage, aligned already.
    put(optional + 56, &(address_end as u32).to_le_bytes());
    // CheckSum: none.
    put(optional + 64, &[0; 4]);
    let alignment = u64::from(image.file_alignment);
    let added: u64 = sections.iter().map(|s| s.len.next_multiple_of(alignment)).sum();
    // SizeOfInitializedData, which only a lying stub takes over the top.
    let initialized = le32(stub, optional + 8).saturating_add(added as u32);
    stub[optional + 8..optional + 12].copy_from_slice(&initialized.to_le_bytes());
}

#[cfg(test)]
mod tests;
