//! Patterns of `modules.alias`: `*`, `?`, `[a-z]`, as fnmatch(3) without flags reads them, but for `-` and `_`, which are
//! one in what modules are called.

/// True if a pattern matches a whole text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how far it has reached.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(pattern, p, text[t]),
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(p + 2),
            Some(byte) => (same(*byte) == same(text[t])).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((at, reached))) => {
                star = Some((at, reached + 1));
                (p, t) = (at + 1, reached + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn same(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Behind the class that begins at `at`, if `byte` is in it. A class that does not end is a plain `[`.
fn class(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    let mut i = at + 1;
    let negated = matches!(pattern.get(i), Some(b'!' | b'^'));
    i += usize::from(negated);
    let first = i;
    let mut found = false;
    loop {
        let Some(&low) = pattern.get(i) else { return (byte == b'[').then_some(at + 1) };
        if low == b']' && i > first {
            break;
        }
        match (pattern.get(i + 1), pattern.get(i + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                i += 3;
            }
            _ => {
                found |= low == byte;
                i += 1;
            }
        }
    }
    (found != negated).then_some(i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::CString;

    #[test]
    fn aliases_of_devices_match() {
        let virtio = "pci:v00001AF4d*sv*sd*bc*sc*i*";
        assert!(matches(virtio, "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"));
        assert!(!matches(virtio, "pci:v00008086d00001041sv00001AF4sd00001100bc02sc00i00"));
        assert!(matches(
            "cpu:type:x86,ven*fam*mod*:feature:*0099*",
            "cpu:type:x86,ven0002fam0019mod0001:feature:,0000,0099,"
        ));
        assert!(!matches("usb:v*p*d*dc*dsc*dp*ic08isc[0-6]ip50in*", "usb:v1p1d0dc0dsc0dp0ic08isc06ip50in00"));
        assert!(matches("serio:ty0[16]pr*", "serio:ty06pr00"));
        assert!(matches("fs-iso*", "fs_iso9660"));
        assert!(matches("", "") && !matches("", "a") && matches("*", ""));
    }

    proptest! {
        #[test]
        fn it_agrees_with_fnmatch(pattern in "[ab*?]{0,8}(\\[[!]?[a-c][a-c]?\\])?[ab*]{0,4}", text in "[abc]{0,10}") {
            let c = |text: &str| CString::new(text).unwrap();
            let (c_pattern, c_text) = (c(&pattern), c(&text));
            let expected = crate::sys::fnmatch(&c_pattern, &c_text);
            prop_assert_eq!(matches(&pattern, &text), expected, "{} {}", pattern, text);
        }
    }
}
