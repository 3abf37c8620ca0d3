//! Shell patterns over one path component: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]` (glob(7), without escapes).
//!
//! An unclosed `[` stands for itself. Matching takes at most (pattern length x name length) steps: a star is
//! retried from its last place only.

/// Whether `text` holds a character that makes it a pattern.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether `name` as a whole matches `pattern`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // After a star: where the pattern goes on, and the first character of the name the star does not yet cover.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            retry = Some((p, n));
            continue;
        }
        match name.get(n) {
            None if p == pattern.len() => return true,
            Some(&c) => {
                if let Some(used) = one(&pattern[p..], c) {
                    p += used;
                    n += 1;
                    continue;
                }
            }
            None => {}
        }
        match retry {
            Some((after, covered)) if covered < name.len() => {
                p = after;
                n = covered + 1;
                retry = Some((after, n));
            }
            _ => return false,
        }
    }
}

/// Matches one character; gives how much of the pattern that took.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern, c) {
            Some((used, true)) => Some(used),
            Some((_, false)) => None,
            None => (c == '[').then_some(1),
        },
        &literal => (literal == c).then_some(1),
    }
}

/// Reads the class at the start of `pattern`: its length and whether `c` is in it; `None` if it is not closed.
fn class(pattern: &[char], c: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let mut i = start;
    let mut found = false;
    loop {
        let &low = pattern.get(i)?;
        if low == ']' && i > start {
            return Some((i + 1, found != negated));
        }
        match (pattern.get(i + 1), pattern.get(i + 2)) {
            (Some('-'), Some(&high)) if high != ']' => {
                found |= (low..=high).contains(&c);
                i += 3;
            }
            _ => {
                found |= low == c;
                i += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("*", "eth0", true),
            ("eth*", "eth0", true),
            ("eth*", "veth0", false),
            ("*0", "eth10", true),
            ("e*h*0", "ethh00", true),
            ("e?h0", "eth0", true),
            ("e?h0", "eh0", false),
            ("eth[0-3]", "eth2", true),
            ("eth[0-3]", "eth4", false),
            ("eth[!0-3]", "eth4", true),
            ("eth[]]", "eth]", true),
            ("eth[-a]", "eth-", true),
            ("eth[", "eth[", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} against {name}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_name_matches_itself_only(a in "[a-z0-9._-]{0,8}", b in "[a-z0-9._-]{0,8}") {
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn any_pattern_comes_to_an_end(pattern in "[ab*?\\[\\]!-]{0,24}", name in "[ab]{0,24}") {
            prop_assert!(!matches(&pattern, &name) || !name.is_empty() || is_pattern(&pattern) || pattern.is_empty());
        }

        #[test]
        fn a_star_covers_any_middle(a in "[a-z]{0,4}", mid in "[a-z]{0,6}", b in "[a-z]{0,4}") {
            let (pattern, name) = (format!("{a}*{b}"), format!("{a}{mid}{b}"));
            prop_assert!(matches(&pattern, &name));
        }
    }
}
