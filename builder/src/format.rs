//! Formats: each a function from a [`Root`] to the files of one artifact.

mod initrd;
mod iso;
mod raw_efi;
mod root_image;
mod tar;
mod uki;

use crate::contents::Blob;
use crate::output::{OutputError, Staging};
use crate::root::{Kernel, Root};
use kit_disk::squashfs;
use kit_spec::artifact::{Artifact, Boot, Format, VERSION};
use kit_spec::tree::TreePath;
use std::io;
use std::path::{Path, PathBuf};

/// Why a format cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A file cannot be put in place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A node without a kernel boots in no format.
    #[error("the node file names no kernel: only `tar` can be written without")]
    NoKernel,
    /// The file cannot be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A part of a boot loader is not in its package.
    #[error("{path} is not in package {package}")]
    BootFile {
        /// Its path in the package.
        path: String,
        /// The package.
        package: &'static str,
    },
}

/// Writes a root in one format into a directory: all files, or none.
///
/// # Errors
/// See [`FormatError`].
pub fn write(format: Format, root: &Root, dir: &Path) -> Result<(Artifact, PathBuf), FormatError> {
    let mut staging = Staging::new(dir)?;
    let boot = match format {
        Format::KernelInitrd => initrd::kernel_initrd(root, dir, &mut staging)?,
        Format::KernelSquashfs => initrd::kernel_squashfs(root, dir, &mut staging)?,
        Format::Tar => tar::write(root, dir, &mut staging)?,
        Format::Iso => iso::write(root, dir, &mut staging)?,
        Format::RawEfi => raw_efi::write(root, dir, &mut staging)?,
    };
    let files = staging.describe()?;
    let artifact =
        Artifact { version: VERSION, name: root.name.clone(), format, arch: root.arch, boot, files };
    let mut json = serde_json::to_string_pretty(&artifact).unwrap_or_default();
    json.push('\n');
    staging.add(&artifact.file_name(), json.as_bytes())?;
    staging.commit()?;
    Ok((artifact.clone(), dir.join(artifact.file_name())))
}

impl Root {
    fn kernel(&self) -> Result<&Kernel, FormatError> {
        self.kernel.as_ref().ok_or(FormatError::NoKernel)
    }

    /// A file of a boot loader's package.
    fn boot_file(&self, path: &str, package: &'static str) -> Result<Vec<u8>, FormatError> {
        let missing = || FormatError::BootFile { path: path.into(), package };
        let bytes = self.contents.read_path(&self.boot, path, 16 << 20);
        bytes.map_err(|source| write_error(Path::new(path), source))?.ok_or_else(missing)
    }

    fn source<'a>(&'a self, blob: &'a Blob) -> io::Result<squashfs::Source<'a>> {
        Ok(match blob {
            Blob::Packed(number, file) => {
                squashfs::Source::Packed { pack: self.contents.pack(*number), file: *file }
            }
            other => squashfs::Source::Reader(self.contents.open(other)?),
        })
    }
}

fn write_error(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> FormatError {
    FormatError::Write { path: path.into(), source: Box::new(source) }
}

/// Paths that are written in this module's files.
fn path(text: &str) -> TreePath {
    text.parse().unwrap_or_else(|_| TreePath::root())
}

/// What a format's kernel, initrd and command line files are called, and how they boot.
fn kernel_boot(root: &Root, initrd: String, root_disk: Option<String>) -> Result<Boot, FormatError> {
    let kernel = format!("{}-kernel", root.name);
    Ok(Boot::Kernel { kernel, initrd, cmdline: root.kernel()?.cmdline_for(root.id), root: root_disk })
}
