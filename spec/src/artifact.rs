//! What a build produced: `NAME.FORMAT.artifact.json`, written beside the files it lists.
//!
//! Whoever boots, uploads or compares an image reads this and guesses nothing from a file's name.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The version of this description that this code reads and writes.
pub const VERSION: u32 = 1;

/// A processor architecture, by the name image indexes use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

/// An output format of `kitbuild build --format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Format {
    /// A kernel, an initrd that carries the root, and the command line.
    #[serde(rename = "kernel+initrd")]
    KernelInitrd,
    /// The root and the kernel as one archive.
    #[serde(rename = "tar")]
    Tar,
    /// A kernel, a small initrd, and the root as a squashfs to be attached as a disk.
    #[serde(rename = "kernel+squashfs")]
    KernelSquashfs,
    /// One image that boots by BIOS and UEFI, from CD and from USB stick.
    #[serde(rename = "iso")]
    Iso,
    /// A GPT disk with an EFI system partition that holds a unified kernel image, and the root.
    #[serde(rename = "raw-efi")]
    RawEfi,
}

impl Format {
    /// All of them, in the order in which help shows them.
    pub const ALL: [Format; 5] =
        [Format::KernelInitrd, Format::KernelSquashfs, Format::Iso, Format::RawEfi, Format::Tar];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::KernelInitrd => "kernel+initrd",
            Format::Tar => "tar",
            Format::KernelSquashfs => "kernel+squashfs",
            Format::Iso => "iso",
            Format::RawEfi => "raw-efi",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no format.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown format `{name}`: there are kernel+initrd, kernel+squashfs, iso, raw-efi, tar")]
pub struct UnknownFormat {
    /// The word.
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Format::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| UnknownFormat { name: name.into() })
    }
}

/// What turns a machine on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The PC's old one.
    Bios,
    /// UEFI.
    Uefi,
}

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactFile {
    /// Its name, relative to the description; no directories.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// How a machine boots it; the strings name entries of [`Artifact::files`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Boot {
    /// The monitor loads the kernel.
    Kernel {
        /// The kernel's file.
        kernel: String,
        /// The initrd's file.
        initrd: String,
        /// The kernel's command line itself.
        cmdline: String,
        /// A disk to attach read-only that holds the root, where the initrd does not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// The firmware boots a disk.
    Disk {
        /// The disk's file.
        image: String,
        /// What can boot it.
        firmware: Vec<Firmware>,
    },
    /// The firmware boots a CD, or the same bytes as a disk.
    Iso {
        /// The image's file.
        image: String,
        /// What can boot it.
        firmware: Vec<Firmware>,
    },
    /// Nothing boots it as it is.
    None,
}

/// What a build produced, in one format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// [`VERSION`].
    pub version: u32,
    /// The image's name, as its files begin.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// What it runs on.
    pub arch: Arch,
    /// How it is booted.
    pub boot: Boot,
    /// All its files, by name.
    pub files: Vec<ArtifactFile>,
}

/// Why a description cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not JSON of this shape.
    #[error("not a description of an artifact")]
    Syntax(#[source] serde_json::Error),
    /// Another version's.
    #[error("a description of version {found}, and this program reads version {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// A name that no artifact has.
    #[error("`{name}` is not the name of an artifact: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file that the description speaks of is not listed, or its name leads elsewhere.
    #[error("file `{path}` {problem}")]
    File {
        /// The name.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The longest name of an artifact, in bytes: what is appended to it must fit into a file's name.
const LONGEST_NAME: usize = 200;

/// Checks that files can begin with a name: it leads to no other directory, and hides none of them.
///
/// # Errors
/// [`ArtifactError::Name`].
pub fn check_name(name: &str) -> Result<(), ArtifactError> {
    let problem = match name {
        "" => "it is empty",
        name if name.contains('/') => "it has a `/` in it",
        name if name.starts_with('.') => "it begins with a dot",
        name if name.starts_with('-') => "it begins as an option does",
        name if name.chars().any(char::is_control) => "it has a control character in it",
        name if name.len() > LONGEST_NAME => "it is longer than 200 bytes",
        _ => return Ok(()),
    };
    Err(ArtifactError::Name { name: name.into(), problem })
}

impl Artifact {
    /// Reads a description and checks that its file names are plain and listed.
    ///
    /// # Errors
    /// See [`ArtifactError`].
    pub fn parse(json: &str) -> Result<Artifact, ArtifactError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_str(json).map_err(ArtifactError::Syntax)?;
        if head.version != VERSION {
            return Err(ArtifactError::Version { found: head.version });
        }
        let artifact: Artifact = serde_json::from_str(json).map_err(ArtifactError::Syntax)?;
        check_name(&artifact.name)?;
        for file in &artifact.files {
            if file.path.is_empty()
                || file.path.contains(['/', '\0'])
                || file.path == ".."
                || file.path == "."
            {
                return Err(ArtifactError::File {
                    path: file.path.clone(),
                    problem: "is not a plain file name",
                });
            }
        }
        for path in artifact.boot.files() {
            if !artifact.files.iter().any(|file| file.path == path) {
                return Err(ArtifactError::File {
                    path: path.into(),
                    problem: "is needed to boot but not listed",
                });
            }
        }
        Ok(artifact)
    }

    /// The description's own file name.
    pub fn file_name(&self) -> String {
        format!("{}.{}.artifact.json", self.name, self.format)
    }
}

impl Boot {
    /// The files a boot needs.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let (a, b, c) = match self {
            Boot::Kernel { kernel, initrd, root, .. } => (Some(kernel), Some(initrd), root.as_ref()),
            Boot::Disk { image, .. } | Boot::Iso { image, .. } => (Some(image), None, None),
            Boot::None => (None, None, None),
        };
        [a, b, c].into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact() -> Artifact {
        Artifact {
            version: VERSION,
            name: "node".into(),
            format: Format::Iso,
            arch: Arch::Amd64,
            boot: Boot::Iso { image: "node.iso".into(), firmware: vec![Firmware::Bios, Firmware::Uefi] },
            files: vec![ArtifactFile { path: "node.iso".into(), size: 1, sha256: "00".into() }],
        }
    }

    #[test]
    fn a_description_reads_back_as_it_was_written() {
        let json = serde_json::to_string(&artifact()).unwrap();
        assert_eq!(Artifact::parse(&json).unwrap(), artifact());
        assert_eq!(artifact().file_name(), "node.iso.artifact.json");
    }

    #[test]
    fn a_file_outside_the_directory_is_refused() {
        let mut bad = artifact();
        bad.files[0].path = "../node.iso".into();
        assert!(matches!(
            Artifact::parse(&serde_json::to_string(&bad).unwrap()),
            Err(ArtifactError::File { .. })
        ));
    }

    #[test]
    fn a_boot_file_that_is_not_listed_is_refused() {
        let mut bad = artifact();
        bad.files.clear();
        assert!(matches!(
            Artifact::parse(&serde_json::to_string(&bad).unwrap()),
            Err(ArtifactError::File { .. })
        ));
    }

    #[test]
    fn a_name_leads_nowhere_else_and_hides_nothing() {
        for name in ["", "../x", "a/b", "/etc/x", ".hidden", "..", "-f", "a\nb", &"x".repeat(201)] {
            assert!(matches!(check_name(name), Err(ArtifactError::Name { .. })), "{name}");
            let json = serde_json::to_string(&Artifact { name: name.into(), ..artifact() }).unwrap();
            assert!(matches!(Artifact::parse(&json), Err(ArtifactError::Name { .. })), "{name}");
        }
        for name in ["node", "a b", "node-1.2", "größe"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn another_version_is_refused_before_its_fields_are_read() {
        let error = Artifact::parse(r#"{"version": 2, "shape": "unknown"}"#).unwrap_err();
        assert_eq!(error.to_string(), "a description of version 2, and this program reads version 1");
    }

    #[test]
    fn every_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
    }
}
