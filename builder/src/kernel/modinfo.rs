//! What a kernel module says of itself: the `.modinfo` section of its ELF file, NUL-terminated `key=value` words.

use object::{Object, ObjectSection};

/// What matters of a module's `.modinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Names of the modules it needs, `-` written as `_`.
    pub depends: Vec<String>,
    /// Patterns of the devices and other things it serves.
    pub aliases: Vec<String>,
    /// `softdep` lines, as written.
    pub softdeps: Vec<String>,
}

/// Why a file tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ModInfoError {
    /// Not an ELF file.
    #[error("not an ELF file")]
    Elf(#[source] object::Error),
    /// No `.modinfo`.
    #[error("no .modinfo section: not a kernel module")]
    Missing,
}

/// Reads the bytes of a `.ko`.
///
/// # Errors
/// When it is no ELF file, or has no `.modinfo`.
pub fn parse(elf: &[u8]) -> Result<ModInfo, ModInfoError> {
    let file = object::File::parse(elf).map_err(ModInfoError::Elf)?;
    let section = file.section_by_name(".modinfo").ok_or(ModInfoError::Missing)?;
    let words = section.data().map_err(ModInfoError::Elf)?;
    let mut info = ModInfo::default();
    for word in words.split(|b| *b == 0) {
        let Ok(word) = std::str::from_utf8(word) else { continue };
        match word.split_once('=') {
            Some(("depends", list)) => {
                info.depends = list.split(',').filter(|name| !name.is_empty()).map(normal).collect();
            }
            Some(("alias", pattern)) => info.aliases.push(pattern.to_owned()),
            Some(("softdep", line)) => info.softdeps.push(line.to_owned()),
            _ => {}
        }
    }
    Ok(info)
}

/// A module's name as the kernel writes it.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module in a file: `xt_LOG` for `kernel/net/netfilter/xt_LOG.ko.xz`.
pub fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|end| file.strip_suffix(end))?;
    Some(normal(stem))
}

/// The modules that a `softdep` line wants loaded first.
pub fn softdep_pre(line: &str) -> Vec<String> {
    let mut before = false;
    let mut names = Vec::new();
    for word in line.split_whitespace() {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => names.push(normal(name)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_file_names() {
        assert_eq!(name_of("kernel/fs/nls/nls_iso8859-1.ko"), Some("nls_iso8859_1".into()));
        assert_eq!(name_of("a/virtio_net.ko.xz"), Some("virtio_net".into()));
        assert_eq!(name_of("modules.order"), None);
    }

    #[test]
    fn only_what_comes_before_is_a_dependency() {
        assert_eq!(softdep_pre("pre: crc32c a-b post: c"), ["crc32c", "a_b"]);
        assert!(softdep_pre("post: x").is_empty());
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(matches!(parse(b"#!/bin/sh"), Err(ModInfoError::Elf(_))));
    }
}
