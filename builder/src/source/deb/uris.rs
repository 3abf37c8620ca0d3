//! `apt-get --print-uris`: a line a package, `'ADDRESS' NAME_VERSION_ARCH.deb SIZE SHA256:HEX`.

use super::DebError;
use kit_spec::lock::PackagePin;

/// Reads the list; addresses are not kept.
///
/// # Errors
/// A line of another form, or without SHA-256.
pub(super) fn parse(list: &str) -> Result<Vec<PackagePin>, DebError> {
    list.lines().filter(|line| line.starts_with('\'')).map(line).collect()
}

fn line(line: &str) -> Result<PackagePin, DebError> {
    let wrong = |problem| DebError::List { line: line.to_owned(), problem };
    let (_, rest) = line[1..].split_once("' ").ok_or_else(|| wrong("no address"))?;
    let mut words = rest.split_whitespace();
    let file = words.next().ok_or_else(|| wrong("no file name"))?;
    let size = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| wrong("no size"))?;
    let sha256 =
        words.next().and_then(|word| word.strip_prefix("SHA256:")).ok_or_else(|| wrong("no SHA256"))?;
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong("a malformed SHA256"));
    }
    let mut parts = file.strip_suffix(".deb").ok_or_else(|| wrong("no .deb"))?.split('_');
    let (Some(name), Some(version), Some(architecture), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("a file name that is not NAME_VERSION_ARCH.deb"));
    };
    Ok(PackagePin {
        name: name.to_owned(),
        version: version.replace("%3a", ":").replace("%3A", ":"),
        architecture: architecture.to_owned(),
        sha256: sha256.to_ascii_lowercase(),
        size,
    })
}

/// The name under which `apt-get download` keeps a package.
pub(super) fn file_name(pin: &PackagePin) -> String {
    format!("{}_{}_{}.deb", pin.name, pin.version.replace(':', "%3a"), pin.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SUM: &str = "d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4";

    #[test]
    fn a_line_gives_name_version_architecture_and_sum() {
        let pins =
            parse(&format!("'x://y' zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 SHA256:{SUM}\n")).unwrap();
        let pin = &pins[0];
        assert_eq!((pin.name.as_str(), pin.version.as_str()), ("zlib1g", "1:1.2.13.dfsg-1"));
        assert_eq!((pin.architecture.as_str(), pin.size, pin.sha256.as_str()), ("amd64", 86684, SUM));
        assert_eq!(file_name(pin), "zlib1g_1%3a1.2.13.dfsg-1_amd64.deb");
    }

    #[test]
    fn a_line_without_sha256_is_refused_and_shown() {
        let error = parse("'x://y' a_1_all.deb 5 MD5Sum:00").unwrap_err();
        assert_eq!(
            error.to_string(),
            "read apt's list of packages: no SHA256 in `'x://y' a_1_all.deb 5 MD5Sum:00`"
        );
    }

    #[test]
    fn other_words_of_apt_are_passed_over() {
        assert!(parse("Reading package lists...\n").unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_words_of_apt_are_read_or_shown(text in "('[a-z:/]{0,8}' )?([a-z%3_./-]{0,12}(\\.deb)? ?)?[0-9]{0,22} ?(SHA256:[0-9a-f]{0,70})?|\\PC{0,60}") {
            match parse(&format!("'x' {text}\n{text}\n")) {
                Ok(pins) => pins.iter().for_each(|pin| assert_eq!(pin.sha256.len(), 64)),
                Err(error) => assert!(error.to_string().starts_with("read apt's list of packages: ")),
            }
        }

        #[test]
        fn a_damaged_line_is_read_or_shown(at in any::<prop::sample::Index>(), with in "\\PC|[' _.:%\n]", until in any::<prop::sample::Index>()) {
            let line = format!("'x://y' zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 SHA256:{SUM}");
            let (at, until) = (at.index(line.len()), until.index(line.len()));
            let (from, to) = (at.min(until), at.max(until).min(at.min(until) + 3));
            if let Ok(pins) = parse(&format!("{}{with}{}", &line[..from], &line[to..])) {
                prop_assert!(pins.iter().all(|pin| pin.sha256.len() == 64));
            }
        }
    }
}
