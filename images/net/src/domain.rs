//! Host and domain names from untrusted places: only letters, digits, hyphens and dots get through, so that a
//! name can be written to `resolv.conf` or given to the kernel as it is.

/// Longest name in text form (RFC 1035 2.3.4 allows 255 bytes on the wire).
const MAX_NAME: usize = 253;

/// Longest host name the kernel keeps (`__NEW_UTS_LEN`).
pub const MAX_HOSTNAME: usize = 64;

/// The name in lower case without a last dot, if it is one: labels of 1 to 63 letters, digits, hyphens (and
/// underscores, which search domains have), no hyphen at either end.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let good = text.len() <= MAX_NAME && text.split('.').all(is_label);
    good.then(|| text.to_ascii_lowercase())
}

/// A name for this host: as [`name`], without underscores, and short enough for the kernel.
#[must_use]
pub fn hostname(text: &str) -> Option<String> {
    name(text).filter(|name| name.len() <= MAX_HOSTNAME && !name.contains('_'))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether this is what a host is called that nobody has named.
#[must_use]
pub fn is_placeholder(hostname: &str) -> bool {
    matches!(hostname, "" | "(none)" | "localhost" | "localhost.localdomain")
}

/// Whether this is a placeholder or what a node calls itself when its image does not name it: `kit`, or `kit-` and a
/// hardware address.
#[must_use]
pub fn is_default(hostname: &str) -> bool {
    let of_hardware = |rest: &str| rest.len() == 12 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    is_placeholder(hostname) || hostname == "kit" || hostname.strip_prefix("kit-").is_some_and(of_hardware)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_get_through() {
        for (text, want) in [
            ("Example.ORG.", Some("example.org")),
            ("node-1", Some("node-1")),
            ("_tcp.example", Some("_tcp.example")),
            ("a\nnameserver 6.6.6.6", None),
            ("a b", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a", None),
            ("a-", None),
            ("b\u{fc}cher", None),
        ] {
            assert_eq!(name(text).as_deref(), want, "{text:?}");
        }
        assert_eq!(name(&"a".repeat(64)), None);
        assert_eq!(name(&["a"; 128].join(".")), None);
    }

    #[test]
    fn a_name_that_nobody_gave_is_a_default() {
        for name in ["", "localhost", "kit", "kit-525400123456"] {
            assert!(is_default(name), "{name}");
        }
        for name in ["kit-node", "kit-52540012345", "node"] {
            assert!(!is_default(name), "{name}");
        }
        assert!(!is_placeholder("kit-525400123456"));
    }

    #[test]
    fn a_host_s_name_fits_the_kernel() {
        assert_eq!(hostname("a_b"), None);
        assert_eq!(hostname(&format!("{}.{}", "a".repeat(40), "b".repeat(40))), None);
        assert_eq!(hostname("node.example.org").as_deref(), Some("node.example.org"));
    }
}
