//! PAX extended headers (POSIX.1-2001, "pax Extended Header"): records `LEN KEY=VALUE\n` that override the header.
//!
//! Read are the keys `path linkpath size uid gid mtime`, extended attributes as star, GNU tar and Go write them
//! (`SCHILY.xattr.NAME`, raw) and as libarchive does (`LIBARCHIVE.xattr.NAME`, base64; the former wins if both are
//! there), and GNU tar's sparse maps. Other keys are of no use to an image and ignored.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kit_spec::tree::Xattrs;

use super::error::{Flaw, shown};
use super::sparse::{Segment, bounded, comma_map, decimal};

/// Linux's XATTR_NAME_MAX and XATTR_SIZE_MAX, in bytes.
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 65536;
/// Attributes of one entry; Linux lists at most 64 KiB of names.
const XATTRS_MAX: usize = 1024;

/// Libarchive leaves the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What extended headers say of one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Box<[u8]>>,
    pub(super) linkpath: Option<Box<[u8]>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<i64>,
    pub(super) sparse: Sparse,
    xattrs: Xattrs,
    libarchive: Xattrs,
}

/// What PAX records say of holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    /// Major and minor version; 0.0 and 0.1 do not say theirs.
    pub(super) version: (u64, u64),
    /// The name to use instead of `path`.
    pub(super) name: Option<Box<[u8]>>,
    /// The file's length, holes included.
    pub(super) len: Option<u64>,
    /// The map of the forms 0.0 and 0.1.
    pub(super) map: Option<Vec<Segment>>,
    /// An offset of form 0.0 that waits for its length.
    offset: Option<u64>,
}

impl Pax {
    /// Reads a local header, on top of the global ones.
    pub(super) fn local(mut self, raw: &[u8]) -> Result<Self, Flaw> {
        self.read(raw, |_| false)?;
        if self.sparse.offset.is_some() {
            return Err(Flaw::Sparse("ends within a pair"));
        }
        Ok(self)
    }

    /// Reads a global header; what can only be true of one entry is refused.
    pub(super) fn global(&mut self, raw: &[u8]) -> Result<(), Flaw> {
        self.read(raw, |key| {
            matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.")
        })
    }

    /// The extended attributes of all forms.
    pub(super) fn into_xattrs(self) -> Xattrs {
        let mut xattrs = self.libarchive;
        xattrs.extend(self.xattrs);
        xattrs
    }

    fn read(&mut self, raw: &[u8], refused: impl Fn(&[u8]) -> bool) -> Result<(), Flaw> {
        let mut rest = raw;
        while !rest.is_empty() {
            let at = raw.len() - rest.len();
            let (record, after) = split(rest).map_err(|why| Flaw::Record { at, why })?;
            let equals = record.iter().position(|byte| *byte == b'=').unwrap_or(0);
            let (key, value) = (&record[..equals], &record[record.len().min(equals + 1)..]);
            if key.is_empty() {
                return Err(Flaw::Record { at, why: "has no key" });
            }
            if refused(key) {
                return Err(Flaw::Record { at, why: "can only hold for one entry, and is given for all" });
            }
            self.set(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        match key {
            b"path" => self.path = some(value),
            b"linkpath" => self.linkpath = some(value),
            b"size" => self.size = integer("size", value, i64::MAX as u64)?,
            b"uid" => self.uid = integer("uid", value, u64::from(u32::MAX))?.map(|uid| uid as u32),
            b"gid" => self.gid = integer("gid", value, u64::from(u32::MAX))?.map(|gid| gid as u32),
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(seconds(value)?) },
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    set_xattr(
                        &mut self.xattrs,
                        &percent_decoded(name, |byte| matches!(byte, b'%' | b'=')),
                        value,
                    )?;
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| {
                        Flaw::Contradiction("a LIBARCHIVE.xattr record in its PAX header is not in base64")
                    })?;
                    set_xattr(&mut self.libarchive, &percent_decoded(name, |_| true), &value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    /// True if any record spoke of holes.
    pub(super) fn is_used(&self) -> bool {
        self.version != (0, 0) || self.len.is_some() || self.map.is_some()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let number = || decimal(value).ok_or_else(|| Flaw::Number { field: "GNU.sparse", raw: shown(value) });
        match key {
            b"major" => self.version.0 = number()?,
            b"minor" => self.version.1 = number()?,
            b"name" => self.name = some(value),
            b"size" | b"realsize" => self.len = Some(number()?),
            b"map" => self.map = Some(comma_map(value)?),
            b"offset" => {
                let before = self.offset.replace(number()?);
                before.map_or(Ok(()), |_| Err(Flaw::Sparse("has two offsets in a row")))?;
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Flaw::Sparse("has a length without an offset"))?;
                self.map.get_or_insert_default().push(Segment { offset, len: number()? });
            }
            _ => {}
        }
        bounded(self.map.as_ref().map_or(0, Vec::len))
    }
}

/// The first record without its length and newline, and what comes after it.
fn split(raw: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let space = raw.iter().take(20).position(|byte| *byte == b' ').ok_or("has no length")?;
    let len = decimal(&raw[..space]).ok_or("has no length")?;
    let len = usize::try_from(len).map_err(|_| "is longer than its header")?;
    if len > raw.len() {
        return Err("is longer than its header");
    }
    match raw[..len].get(space + 1..).and_then(|record| record.split_last()) {
        Some((b'\n', record)) => Ok((record, &raw[len..])),
        _ => Err("does not end where it says"),
    }
}

/// An empty value takes a record of the global header back.
fn some(value: &[u8]) -> Option<Box<[u8]>> {
    (!value.is_empty()).then(|| value.into())
}

fn integer(field: &'static str, value: &[u8], limit: u64) -> Result<Option<u64>, Flaw> {
    if value.is_empty() {
        return Ok(None);
    }
    let number = decimal(value).ok_or_else(|| Flaw::Number { field, raw: shown(value) })?;
    if number > limit {
        return Err(Flaw::Range { field, value: number as i64, limit });
    }
    Ok(Some(number))
}

/// Whole seconds of a time that may have a fraction and be before 1970, rounded down.
fn seconds(raw: &[u8]) -> Result<i64, Flaw> {
    let wrong = || Flaw::Number { field: "mtime", raw: shown(raw) };
    let (negative, digits) = match raw.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, raw),
    };
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = decimal(parts.next().unwrap_or_default()).ok_or_else(wrong)? as i64;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let below = negative && fraction.iter().any(|digit| *digit != b'0');
    Ok(if negative { -whole - i64::from(below) } else { whole })
}

fn set_xattr(xattrs: &mut Xattrs, name: &[u8], value: &[u8]) -> Result<(), Flaw> {
    let too_large = |what, len, limit| Flaw::TooLarge { what, len: len as u64, limit: limit as u64 };
    if name.is_empty() || name.contains(&0) {
        return Err(Flaw::Contradiction("an extended attribute in its PAX header has no usable name"));
    }
    if name.len() > XATTR_NAME_MAX {
        return Err(too_large("an extended attribute's name in bytes", name.len(), XATTR_NAME_MAX));
    }
    if value.len() > XATTR_SIZE_MAX {
        return Err(too_large("an extended attribute in bytes", value.len(), XATTR_SIZE_MAX));
    }
    xattrs.insert(name.into(), value.into());
    if xattrs.len() > XATTRS_MAX {
        return Err(too_large("a number of extended attributes", xattrs.len(), XATTRS_MAX));
    }
    Ok(())
}

/// A key ends at the first `=`. So GNU tar writes `=` and `%` in names as `%XX`, and libarchive all bytes that are not
/// printable ASCII as well. Other bytes than the `meant` ones are left as they are.
fn percent_decoded(raw: &[u8], meant: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut name = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if meant(byte) => {
                name.push(byte);
                rest = &after[2..];
            }
            _ => {
                name.push(*first);
                rest = after;
            }
        }
    }
    name
}
