//! The lock: what every fetched input of a node file is, once and for all. Written as `STEM.lock` beside the node file.
//!
//! It names content, never places: an image by its digest, a Debian package by name, version, architecture and SHA-256.
//! Local files and this project's own programs are not locked; they are hashed into the artifact.

use crate::artifact::Arch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the lock that this code reads and writes.
pub const VERSION: u32 = 1;

/// A lock, canonical: equal pins give equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// Images of registries, by architecture and by their full reference.
    #[serde(default)]
    pub images: BTreeMap<Arch, BTreeMap<String, ImagePin>>,
    /// Debian packages with all they depend on, by architecture and by the list that was asked for (`nginx,curl`).
    #[serde(default)]
    pub packages: BTreeMap<Arch, BTreeMap<String, Vec<PackagePin>>>,
}

/// What an image reference stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// The digest of its manifest, `sha256:...`.
    pub digest: String,
    /// The media type of that.
    pub media_type: String,
    /// The size of that in bytes.
    pub size: u64,
}

/// One Debian package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagePin {
    /// Its name.
    pub name: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// SHA-256 of the `.deb`, in hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a lock cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not JSON of this shape.
    #[error("not a lock")]
    Syntax(#[source] serde_json::Error),
    /// Another version's.
    #[error("a lock of version {found}, and this program reads version {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// A digest that is none.
    #[error("the pin of `{name}` has `{digest}` for a digest")]
    Digest {
        /// What is pinned.
        name: String,
        /// What stands there.
        digest: String,
    },
    /// What is not the name, version or architecture of a Debian package: they become arguments and file names.
    #[error("`{text}` is not the {what} of a Debian package")]
    Package {
        /// Name, version or architecture.
        what: &'static str,
        /// What stands there.
        text: String,
    },
}

impl Default for Lock {
    fn default() -> Self {
        Lock { version: VERSION, images: BTreeMap::new(), packages: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn parse(json: &str) -> Result<Lock, LockError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_str(json).map_err(LockError::Syntax)?;
        if head.version != VERSION {
            return Err(LockError::Version { found: head.version });
        }
        let lock: Lock = serde_json::from_str(json).map_err(LockError::Syntax)?;
        let hex = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        for (name, pin) in lock.images.values().flatten() {
            if !pin.digest.strip_prefix("sha256:").is_some_and(hex) {
                return Err(LockError::Digest { name: name.clone(), digest: pin.digest.clone() });
            }
        }
        for pin in lock.packages.values().flat_map(BTreeMap::values).flatten() {
            pin.check()?;
            if !hex(&pin.sha256) {
                return Err(LockError::Digest { name: pin.name.clone(), digest: pin.sha256.clone() });
            }
        }
        Ok(lock)
    }

    /// The bytes to write.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

impl PackagePin {
    /// Checks name, version and architecture (Debian Policy 5.6.1, 5.6.12; dpkg-architecture(1)).
    fn check(&self) -> Result<(), LockError> {
        let word = |text: &str, others: &[u8]| {
            text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
        };
        for (what, text, others) in [
            ("name", &self.name, b"+-.".as_slice()),
            ("version", &self.version, b".+-~:"),
            ("architecture", &self.architecture, b"-"),
        ] {
            if !word(text, others) {
                return Err(LockError::Package { what, text: text.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let mut lock = Lock::default();
        let pin = ImagePin { digest: format!("sha256:{}", "a".repeat(64)), media_type: "m".into(), size: 3 };
        lock.images.entry(Arch::Amd64).or_default().insert("docker.io/library/x:1".into(), pin);
        let package = PackagePin {
            name: "p".into(),
            version: "1:2-3".into(),
            architecture: "amd64".into(),
            sha256: "0".repeat(64),
            size: 9,
        };
        lock.packages.entry(Arch::Amd64).or_default().insert("p".into(), vec![package]);
        lock
    }

    #[test]
    fn a_lock_reads_back_as_it_was_written() {
        assert_eq!(Lock::parse(&lock().to_json()).unwrap(), lock());
    }

    #[test]
    fn a_digest_that_is_none_is_refused_by_name() {
        let json = lock().to_json().replace(&"0".repeat(64), "zz");
        assert_eq!(Lock::parse(&json).unwrap_err().to_string(), "the pin of `p` has `zz` for a digest");
    }

    #[test]
    fn a_package_that_would_be_an_option_or_another_file_is_refused() {
        let refused = |from: &str, to: &str| {
            let json = lock().to_json().replace(from, to);
            assert_ne!(json, lock().to_json());
            Lock::parse(&json).unwrap_err().to_string()
        };
        for name in ["-oDebug::NoLocking=1", "../../x", "/etc/passwd", "a b", "a_b", "a%3ab", ""] {
            let told = format!("`{name}` is not the name of a Debian package");
            assert_eq!(refused(r#""name": "p""#, &format!(r#""name": "{name}""#)), told);
        }
        assert_eq!(refused("1:2-3", "1/../2"), "`1/../2` is not the version of a Debian package");
        assert_eq!(
            refused(r#"e": "amd64""#, r#"e": "amd64/x""#),
            "`amd64/x` is not the architecture of a Debian package"
        );
    }

    #[test]
    fn another_version_and_unknown_keys_are_refused() {
        assert!(matches!(Lock::parse(r#"{"version":9,"x":1}"#), Err(LockError::Version { found: 9 })));
        assert!(matches!(Lock::parse(r#"{"version":1,"x":1}"#), Err(LockError::Syntax(_))));
    }
}
