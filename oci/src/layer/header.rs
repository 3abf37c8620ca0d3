//! One header block: POSIX.1-1988 `ustar`, its forerunner of Unix V7, and the GNU and star variants.
//!
//! ```text
//!   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type
//! 157 linkname 100 | 257 magic and version 8 | 265 uname 32 | 297 gname 32 | 329 major 8 | 337 minor 8
//! 345 prefix 155 (ustar), 131 (star), or GNU: atime 12, ctime 12, .. | 386 sparse 4 x 24 | 482 more | 483 size 12
//! ```

use std::ops::Range;

use super::LayerError;
use super::blocks::BLOCK;
use super::error::{Flaw, shown};
use super::sparse::Segment;

const CHECKSUM: Range<usize> = 148..156;

/// A block whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    /// Checks the sum, of unsigned bytes or, as some old programs made it, of signed ones.
    pub(super) fn new(block: [u8; BLOCK], offset: u64) -> Result<Self, LayerError> {
        let sum = |of: fn(u8) -> i64| -> i64 {
            let bytes = block.iter().enumerate();
            bytes.map(|(at, byte)| of(if CHECKSUM.contains(&at) { b' ' } else { *byte })).sum()
        };
        let unsigned = sum(i64::from);
        let stored = number(&block[CHECKSUM]);
        if stored != Some(unsigned) && stored != Some(sum(|byte| i64::from(byte as i8))) {
            return Err(LayerError::Checksum {
                offset,
                stored: shown(&block[CHECKSUM]),
                computed: format!("{unsigned:o}"),
            });
        }
        Ok(Header(block))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The name as the block has it, with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.dialect() {
            Dialect::V7 => b"",
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            // Go before 1.8 wrote GNU headers with a ustar prefix, where GNU has the time of last access.
            Dialect::Gnu if self.0[345] != 0 && number(&self.0[345..357]).is_none() => {
                let prefix = text(&self.0[345..500]);
                if prefix.is_ascii() { prefix } else { b"" }
            }
            Dialect::Gnu => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub(super) fn link_name(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    /// Permission bits; some programs put the file's type above them.
    pub(super) fn mode(&self) -> Result<u16, Flaw> {
        Ok((self.field("mode", 100..108)? & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Result<u32, Flaw> {
        self.at_most("uid", 108..116, u64::from(u32::MAX)).map(|uid| uid as u32)
    }

    pub(super) fn gid(&self) -> Result<u32, Flaw> {
        self.at_most("gid", 116..124, u64::from(u32::MAX)).map(|gid| gid as u32)
    }

    /// Bytes of data that follow, before padding.
    pub(super) fn size(&self) -> Result<u64, Flaw> {
        self.at_most("size", 124..136, i64::MAX as u64)
    }

    pub(super) fn mtime(&self) -> Result<i64, Flaw> {
        self.field("mtime", 136..148)
    }

    /// Major and minor number, of 12 and 20 bits as in Linux.
    pub(super) fn device(&self) -> Result<(u32, u32), Flaw> {
        let major = self.at_most("device major", 329..337, 0xfff)?;
        let minor = self.at_most("device minor", 337..345, 0xf_ffff)?;
        Ok((major as u32, minor as u32))
    }

    /// The part of an old GNU sparse map that is in the header; true if an extension block follows.
    pub(super) fn sparse(&self, segments: &mut Vec<Segment>) -> Result<bool, Flaw> {
        segments_of(&self.0[386..482], segments)?;
        Ok(self.0[482] != 0)
    }

    /// Length of an old GNU sparse file, holes included.
    pub(super) fn real_size(&self) -> Result<u64, Flaw> {
        self.at_most("real size", 483..495, i64::MAX as u64)
    }

    fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if &self.0[508..] == b"tar\0" => Dialect::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    fn field(&self, field: &'static str, at: Range<usize>) -> Result<i64, Flaw> {
        let raw = &self.0[at];
        number(raw).ok_or_else(|| Flaw::Number { field, raw: shown(raw) })
    }

    fn at_most(&self, field: &'static str, at: Range<usize>, limit: u64) -> Result<u64, Flaw> {
        let value = self.field(field, at)?;
        u64::try_from(value).ok().filter(|value| *value <= limit).ok_or(Flaw::Range { field, value, limit })
    }
}

/// Reads one extension block of an old GNU sparse map; true if another follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK], segments: &mut Vec<Segment>) -> Result<bool, Flaw> {
    segments_of(&block[..504], segments)?;
    Ok(block[504] != 0)
}

fn segments_of(raw: &[u8], segments: &mut Vec<Segment>) -> Result<(), Flaw> {
    for pair in raw.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        let read = |raw: &[u8]| number(raw).and_then(|n| u64::try_from(n).ok());
        let (Some(offset), Some(len)) = (read(&pair[..12]), read(&pair[12..])) else {
            return Err(Flaw::Sparse("holds something that is not a number"));
        };
        segments.push(Segment { offset, len });
    }
    Ok(())
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits with spaces or NULs around it, or, if the highest bit is set, in base 256 (two's
/// complement of all other bits). An empty field is zero.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        return base_256(field);
    }
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    // The highest bit is the mark, the next one the sign: with the sign copied over the mark it is two's complement.
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value = i64::from(first as i8);
    for byte in &field[1..] {
        value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    Some(value)
}
