//! Kernel modules: which one a device asks for, what it needs, and loading them, without a process for each.
//!
//! ```text
//! /sys/devices/**/modalias ──modules.alias──▶ names ──modules.dep──▶ files, the needed first ──▶ finit_module(2)
//! ```
//!
//! The indexes are `depmod`'s texts. Whoever loads reads them, loads, and lets them go: PID 1 does so in a child.

mod glob;
mod index;

pub use glob::matches;
pub use index::{Index, IndexError};

use crate::sys;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
#[error("load kernel module {path}")]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Loads one file; a module that is there already is no error.
///
/// # Errors
/// When the file cannot be read, or the kernel refuses it.
pub fn load(path: &Path) -> Result<(), LoadError> {
    let failed = |source| LoadError { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    match sys::finit_module(&file) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.map_err(failed),
    }
}

/// Loads modules of one kernel's directory, each once.
pub struct Loader {
    dir: PathBuf,
    index: Index,
    done: BTreeSet<String>,
}

impl Loader {
    /// Over `/lib/modules/RELEASE`.
    ///
    /// # Errors
    /// When its indexes cannot be read.
    pub fn new(dir: &Path) -> Result<Loader, IndexError> {
        Ok(Loader { dir: dir.into(), index: Index::read(dir)?, done: BTreeSet::new() })
    }

    /// Loads what serves a device, given its modalias; how many files were loaded.
    ///
    /// # Errors
    /// The first module that could not be loaded; the others were tried.
    pub fn alias(&mut self, modalias: &str) -> Result<usize, LoadError> {
        let names: Vec<String> = self.index.matching(modalias).map(str::to_owned).collect();
        let mut loaded = 0;
        let mut failed = None;
        for name in names {
            match self.name(&name) {
                Ok(count) => loaded += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(loaded), Err)
    }

    /// Loads a module by its name, with what it needs; how many files were loaded. An unknown name loads nothing.
    ///
    /// # Errors
    /// The first module that could not be loaded; what needs it is not tried.
    pub fn name(&mut self, name: &str) -> Result<usize, LoadError> {
        let mut loaded = 0;
        for path in self.index.files(name) {
            if self.done.insert(path.clone()) {
                load(&self.dir.join(&path))?;
                loaded += 1;
            }
        }
        Ok(loaded)
    }
}

/// Calls `found` with the modalias of every device that the kernel knows.
pub fn each_modalias(devices: &Path, found: &mut dyn FnMut(&str)) {
    let Ok(entries) = fs::read_dir(devices) else { return };
    for entry in entries.flatten() {
        // Links lead back up and to other devices.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            each_modalias(&entry.path(), found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            match fs::read_to_string(entry.path()).as_deref().map(str::trim) {
                Ok("") | Err(_) => {}
                Ok(modalias) => found(modalias),
            }
        }
    }
}

/// The directory of the running kernel's modules.
pub fn running() -> PathBuf {
    let release = rustix::system::uname();
    Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref())
}

/// The modaliases of devices that a socket of [`sys::uevent_socket`] has heard of; those of all devices when it was
/// told too much at once. A message is `ACTION@PATH`, then `KEY=VALUE` words, each ended by a NUL.
pub fn heard(socket: &OwnedFd) -> Vec<String> {
    let mut aliases = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        match rustix::io::read(socket, &mut buffer) {
            Ok(len) if buffer.starts_with(b"add@") => {
                let words = buffer[..len].split(|byte| *byte == 0);
                let found =
                    words.filter_map(|word| std::str::from_utf8(word.strip_prefix(b"MODALIAS=")?).ok());
                aliases.extend(found.map(str::to_owned));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::NOBUFS) => {
                each_modalias(Path::new("/sys/devices"), &mut |alias| aliases.push(alias.to_owned()));
            }
            Err(_) => return aliases,
        }
    }
}
