//! ISO 9660 file identifiers: the upper-case names that readers without Rock Ridge see, boot loaders among them.
//!
//! Interchange level 2: up to 30 characters and a dot for files, 31 for directories, of `A-Z 0-9 _`. Any other
//! character becomes `_`. Identifiers that collide are numbered. A boot loader that is to find a file by name is best
//! served with a name that is 8.3 already.

use std::collections::BTreeSet;

const FILE_LEN: usize = 30;
const DIRECTORY_LEN: usize = 31;
const EXTENSION_LEN: usize = 8;

/// The identifier for `name` in a directory whose others are `taken`; it is added there. `None` when a million names
/// have become the same.
pub(super) fn identifier(name: &str, is_directory: bool, taken: &mut BTreeSet<Vec<u8>>) -> Option<Vec<u8>> {
    let (base, extension) = match name.rsplit_once('.') {
        Some((base, extension)) if !base.is_empty() && !is_directory => (base, extension),
        _ => (name, ""),
    };
    let (base, extension) = (clean(base), clean(extension));
    let extension = &extension[..extension.len().min(EXTENSION_LEN)];
    let room = if is_directory { DIRECTORY_LEN } else { FILE_LEN - extension.len() };
    (0..1_000_000u32).find_map(|n| {
        let tail = if n == 0 { String::new() } else { format!("_{n}") };
        let base = &base[..base.len().min(room - tail.len())];
        let whole = match is_directory {
            true => format!("{base}{tail}"),
            false => format!("{base}{tail}.{extension};1"),
        };
        let whole = whole.into_bytes();
        taken.insert(whole.clone()).then_some(whole)
    })
}

fn clean(part: &str) -> String {
    part.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Whether `text` can be a volume identifier: 1 to 32 d-characters (ECMA-119 section 7.4.1).
pub(super) fn is_volume_id(text: &str) -> bool {
    let is_d = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (1..=32).contains(&text.len()) && text.bytes().all(is_d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_level_2_identifiers() {
        let mut taken = BTreeSet::new();
        for (name, is_directory, expected) in [
            ("vmlinuz", false, "VMLINUZ.;1"),
            ("isolinux.cfg", false, "ISOLINUX.CFG;1"),
            ("ldlinux.c32", false, "LDLINUX.C32;1"),
            ("a-b.tar.gz", false, "A_B_TAR.GZ;1"),
            ("a_b+tar.gz", false, "A_B_TAR_1.GZ;1"),
            (".hidden", false, "_HIDDEN.;1"),
            ("boot.d", true, "BOOT_D"),
            ("über", true, "_BER"),
            ("a-file-name-that-goes-on-and-on-and-on.extension", false, "A_FILE_NAME_THAT_GOES_.EXTENSIO;1"),
            ("a-directory-name-that-goes-on-and-on", true, "A_DIRECTORY_NAME_THAT_GOES_ON_A"),
        ] {
            let identifier = identifier(name, is_directory, &mut taken).unwrap();
            assert_eq!(String::from_utf8(identifier).unwrap(), expected);
        }
    }

    #[test]
    fn volume_identifiers_are_d_characters() {
        for (text, good) in [("KIT_01", true), ("", false), ("kit", false), ("A-B", false)] {
            assert_eq!(is_volume_id(text), good, "{text:?}");
        }
        assert!(is_volume_id(&"X".repeat(32)));
        assert!(!is_volume_id(&"X".repeat(33)));
    }
}
