//! `resolv.conf`: the name servers and search domains of all interfaces in one file.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What one interface, or its rule, contributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Name servers, best first.
    pub dns: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

/// The file's text: name servers of the first source first, each once; search domains likewise.
///
/// A list that does not change gives a file that does not change. glibc reads the first three name servers; the
/// others are written all the same, for resolvers that read more.
#[must_use]
pub fn render(sources: &[Source]) -> String {
    let mut text = String::from("# written by kit-net\n");
    let mut search: Vec<&str> = Vec::new();
    for domain in sources.iter().flat_map(|source| &source.search) {
        if !search.contains(&domain.as_str()) {
            search.push(domain);
        }
    }
    if !search.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let mut seen = Vec::new();
    for server in sources.iter().flat_map(|source| &source.dns) {
        if !seen.contains(&server) {
            seen.push(server);
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    text
}

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("write {path}")]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Replaces a file by one with this text, all at once; makes its directory first.
///
/// Readers see the old or the new text, never a part.
///
/// # Errors
/// When the directory or the file cannot be written.
pub fn replace_file(path: &Path, text: &[u8]) -> Result<(), WriteError> {
    let write = || {
        let (dir, name) = match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => (dir, name),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        fs::create_dir_all(dir)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".new");
        let new = dir.join(hidden);
        fs::write(&new, text)?;
        fs::rename(&new, path)
    };
    write().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Brings `resolv.conf` up to date. A file that already says the same is left alone, and one is not begun for
/// nothing: containers that have it bind-mounted keep seeing the file they started with.
///
/// # Errors
/// As [`replace_file`].
pub fn update(path: &Path, sources: &[Source]) -> Result<(), WriteError> {
    let text = render(sources);
    let nothing = sources.iter().all(|source| *source == Source::default());
    match fs::read(path) {
        Ok(old) if old == text.as_bytes() => Ok(()),
        Err(_) if nothing => Ok(()),
        _ => replace_file(path, text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn source(dns: &[&str], search: &[&str]) -> Source {
        Source {
            dns: dns.iter().map(|text| text.parse().unwrap()).collect(),
            search: search.iter().map(|&text| text.into()).collect(),
        }
    }

    #[test]
    fn each_server_and_domain_is_written_once_in_the_order_given() {
        let sources = [
            source(&["9.9.9.9", "2620:fe::fe"], &["b.org"]),
            source(&["1.1.1.1", "9.9.9.9"], &["a.org", "b.org"]),
        ];
        assert_eq!(
            render(&sources),
            "# written by kit-net\nsearch b.org a.org\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\nnameserver 1.1.1.1\n"
        );
    }

    #[test]
    fn a_file_that_says_the_same_stays_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolvconf/resolv.conf");
        let sources = [source(&["9.9.9.9"], &[])];
        update(&path, &sources).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        update(&path, &sources).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        update(&path, &[source(&["1.1.1.1"], &[])]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# written by kit-net\nnameserver 1.1.1.1\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_not_begun_for_nothing_but_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        update(&path, &[Source::default()]).unwrap();
        assert!(!path.exists());
        update(&path, &[source(&["9.9.9.9"], &[])]).unwrap();
        update(&path, &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# written by kit-net\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = replace_file(Path::new("/proc/nothing/resolv.conf"), b"").unwrap_err();
        assert_eq!(error.to_string(), "write /proc/nothing/resolv.conf");
    }
}
