//! GUIDs: as text, as the mixed-endian bytes that UEFI puts on disks, and made from a hash.

use std::fmt;
use std::str::FromStr;

/// A GUID. Equality, order and [`Guid::to_bytes`] follow the text's order of digits, not the disk's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid([u8; 16]);

/// The text is not `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a GUID: it takes 32 hex digits in groups of 8-4-4-4-12")]
pub struct ParseGuidError {
    /// What was given, cut after 64 characters.
    pub text: String,
}

impl Guid {
    /// All zeros: in a partition entry's type, an entry not in use.
    pub const NIL: Self = Self([0; 16]);

    /// From a number whose hex digits are the text's.
    pub const fn from_u128(value: u128) -> Self {
        Self(value.to_be_bytes())
    }

    /// From 16 bytes of a hash: version 8 (RFC 9562 section 5.8, "custom") and the RFC's variant are set in six of the
    /// 128 bits, the rest is the hash's. The same input gives the same identity, build after build.
    pub const fn from_hash(mut hash: [u8; 16]) -> Self {
        hash[6] = hash[6] & 0x0f | 0x80;
        hash[8] = hash[8] & 0x3f | 0x80;
        Self(hash)
    }

    /// The 16 bytes in the text's order (RFC 9562 section 4).
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The 16 bytes as UEFI stores them: the first three groups little-endian (UEFI specification 2.10, appendix A).
    pub const fn to_disk(self) -> [u8; 16] {
        swap(self.0)
    }

    /// From 16 bytes read off a disk.
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        Self(swap(bytes))
    }
}

const fn swap(b: [u8; 16]) -> [u8; 16] {
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

impl fmt::Display for Guid {
    /// Lower case, with hyphens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            if matches!(n, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Guid {
    type Err = ParseGuidError;

    /// Reads either case of hex digits.
    fn from_str(text: &str) -> Result<Self, ParseGuidError> {
        let error = || ParseGuidError { text: text.chars().take(64).collect() };
        let mut value = 0u128;
        if text.len() != 36 {
            return Err(error());
        }
        for (n, c) in text.chars().enumerate() {
            if matches!(n, 8 | 13 | 18 | 23) {
                if c != '-' {
                    return Err(error());
                }
                continue;
            }
            value = value << 4 | u128::from(c.to_digit(16).ok_or_else(error)?);
        }
        Ok(Self::from_u128(value))
    }
}
