//! Names: what may be one, its 8.3 alias, and the long-name entries before it.
//!
//! A name that is itself upper-case 8.3 is stored as it is. Any other gets long-name entries and an alias: its upper
//! case where that is 8.3, else the usual six characters and `~N`. Aliases are unique in their directory; names of the
//! first two kinds take theirs before any `~N` is given out.

use std::collections::BTreeSet;

/// Bytes of a directory entry.
pub(super) const ENTRY_LEN: usize = 32;
/// UTF-16 units in one long-name entry.
const UNITS: usize = 13;
/// The longest name in UTF-16 units.
const MAX_UNITS: usize = 255;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const LAST_LONG_ENTRY: u8 = 0x40;

/// An 8.3 name as stored: base and extension padded with spaces, without the dot.
pub(super) type Short = [u8; 11];

/// What is wrong with one component of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// No characters, `.` or `..`.
    NotAName,
    /// More than 255 UTF-16 units.
    TooLong,
    /// A character that names cannot have.
    Character(char),
    /// Ends in a dot or a space, which other systems drop.
    Tail,
}

impl std::fmt::Display for NameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAName => f.write_str("a component is empty, \".\" or \"..\""),
            Self::TooLong => write!(f, "a component has more than {MAX_UNITS} UTF-16 units"),
            Self::Character(c) => write!(f, "{c:?} cannot be part of a name"),
            Self::Tail => f.write_str("a component ends in a dot or a space"),
        }
    }
}

/// Checks one component of a path.
pub(super) fn check(name: &str) -> Result<(), NameFault> {
    if matches!(name, "" | "." | "..") {
        return Err(NameFault::NotAName);
    }
    if name.encode_utf16().count() > MAX_UNITS {
        return Err(NameFault::TooLong);
    }
    if let Some(c) = name.chars().find(|c| c.is_control() || "\"*/:<>?\\|".contains(*c)) {
        return Err(NameFault::Character(c));
    }
    if name.ends_with(['.', ' ']) {
        return Err(NameFault::Tail);
    }
    Ok(())
}

/// What makes two names the same name in one directory.
pub(super) fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

/// The stored form of a name whose upper case is 8.3.
pub(super) fn plain_short(name: &str) -> Option<Short> {
    let upper = name.to_ascii_uppercase();
    let (base, extension) = match upper.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (upper.as_str(), ""),
    };
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    (fits && base.bytes().chain(extension.bytes()).all(is_short_char)).then(|| short(base, extension))
}

/// An alias for any other name that is not among `taken`; it is added there. `None` when all 999,999 are taken.
pub(super) fn alias(name: &str, taken: &mut BTreeSet<Short>) -> Option<Short> {
    let clean = |part: &str| -> String {
        part.chars()
            .filter(|c| !matches!(c, ' ' | '.'))
            .map(|c| c.to_ascii_uppercase())
            .map(|c| if c.is_ascii() && is_short_char(c as u8) { c } else { '_' })
            .collect()
    };
    let trimmed = name.trim_start_matches(['.', ' ']);
    let (base, extension) = trimmed.rsplit_once('.').unwrap_or((trimmed, ""));
    let (mut base, extension) = (clean(base), clean(extension));
    if base.is_empty() {
        base.push('_');
    }
    // ASCII only by now, so bytes are characters.
    let extension = &extension[..extension.len().min(3)];
    (1..=999_999u32).find_map(|n| {
        let tail = format!("~{n}");
        let candidate = short(&format!("{}{tail}", &base[..base.len().min(8 - tail.len())]), extension);
        taken.insert(candidate).then_some(candidate)
    })
}

/// How many directory entries a name takes, the 8.3 one included.
pub(super) fn entries(name: &str, short: &Short) -> usize {
    if is_stored_whole(name, short) { 1 } else { 1 + name.encode_utf16().count().div_ceil(UNITS) }
}

/// The long-name entries for `name`, in the order of the directory: last part first.
pub(super) fn long_entries(name: &str, short: &Short) -> Vec<[u8; ENTRY_LEN]> {
    if is_stored_whole(name, short) {
        return Vec::new();
    }
    let units: Vec<u16> = name.encode_utf16().collect();
    let parts = units.chunks(UNITS).count();
    let sum = checksum(short);
    let entry = |(n, part): (usize, &[u16])| {
        let mut entry = [0xff; ENTRY_LEN];
        // At most 20 parts.
        entry[0] = n as u8 + 1;
        if n + 1 == parts {
            entry[0] |= LAST_LONG_ENTRY;
        }
        entry[11] = ATTRIBUTE_LONG_NAME;
        entry[12] = 0;
        entry[13] = sum;
        entry[26..28].fill(0);
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        // A name that does not fill its last entry is closed by a zero; the rest stays 0xffff.
        for (at, unit) in places.zip(part.iter().copied().chain([0])) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    };
    units.chunks(UNITS).enumerate().map(entry).rev().collect()
}

/// A volume label as stored, if it can be one: up to eleven characters of 8.3 names, spaces too.
pub(super) fn label(text: &str) -> Option<Short> {
    let fits = (1..=11).contains(&text.len()) && text.bytes().all(|b| b == b' ' || is_short_char(b));
    let mut bytes = [b' '; 11];
    if !fits || text.starts_with(' ') {
        return None;
    }
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Some(bytes)
}

fn is_stored_whole(name: &str, short: &Short) -> bool {
    !name.bytes().any(|b| b.is_ascii_lowercase()) && plain_short(name).as_ref() == Some(short)
}

fn is_short_char(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&b)
}

fn short(base: &str, extension: &str) -> Short {
    let mut bytes = [b' '; 11];
    bytes[..base.len()].copy_from_slice(base.as_bytes());
    bytes[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    bytes
}

/// The checksum that ties long-name entries to their 8.3 entry.
fn checksum(short: &Short) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_the_usual_ones() {
        let mut taken = BTreeSet::new();
        for (name, expected) in [
            ("long file name.text", "LONGFI~1TEX"),
            ("longfilename.textual", "LONGFI~2TEX"),
            (".hidden", "HIDDEN~1   "),
            ("a.b.c", "AB~1    C  "),
            ("über+.x", "_BER_~1 X  "),
            ("\u{65e5}\u{672c}", "__~1       "),
        ] {
            assert_eq!(plain_short(name), None, "{name}");
            let alias = alias(name, &mut taken).unwrap();
            assert_eq!(std::str::from_utf8(&alias).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn the_alias_number_grows_into_the_base() {
        let mut taken = BTreeSet::new();
        let last = (0..1001).map(|_| alias("linux-kernel-image", &mut taken).unwrap()).last().unwrap();
        assert_eq!(&last, b"LIN~1001   ");
    }

    #[test]
    fn names_that_other_systems_would_change_are_refused() {
        for (name, fault) in [
            ("", NameFault::NotAName),
            ("..", NameFault::NotAName),
            ("a:b", NameFault::Character(':')),
            ("a\u{7}", NameFault::Character('\u{7}')),
            ("a.", NameFault::Tail),
            ("a ", NameFault::Tail),
        ] {
            assert_eq!(check(name), Err(fault), "{name:?}");
        }
        assert_eq!(check(&"x".repeat(256)), Err(NameFault::TooLong));
        assert_eq!(check(&"x".repeat(255)), Ok(()));
    }

    #[test]
    fn only_upper_case_8_3_names_need_no_long_entries() {
        let entries_of = |name: &str| entries(name, &plain_short(name).unwrap());
        assert_eq!(entries_of("BOOTX64.EFI"), 1);
        assert_eq!(entries_of("bootx64.efi"), 2);
        assert_eq!(entries(&"x".repeat(26), b"XXXXXX~1   "), 3);
        assert_eq!(entries(&"x".repeat(27), b"XXXXXX~1   "), 4);
    }
}
