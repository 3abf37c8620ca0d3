//! What is written down of a snapshot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use kit_oci::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{Error, io_error};

/// The version that is written.
pub(super) const VERSION: u32 = 1;

const NAME: &str = "record.json";

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container writes to it.
    Writable,
    /// Only layers.
    View,
}

/// A snapshot's `record.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Of this format.
    pub version: u32,
    /// What it is.
    pub kind: Kind,
    /// Its layers' diff IDs, from the lowest to the topmost.
    pub layers: Vec<Digest>,
}

impl Record {
    /// Reads the record of a snapshot's directory; none if there is no such snapshot.
    ///
    /// # Errors
    /// [`Error::Record`], [`Error::Version`], [`Error::Io`].
    pub(super) fn read(dir: &Path) -> Result<Option<Record>, Error> {
        let path = dir.join(NAME);
        let missing =
            |read: &io::Result<_>| matches!(read, Err(error) if error.kind() == io::ErrorKind::NotFound);
        let mut read = fs::read(&path);
        if missing(&read) {
            if !dir.is_dir() {
                return Ok(None);
            }
            // Made meanwhile.
            read = fs::read(&path);
        }
        let bytes = read.map_err(io_error("read", &path))?;
        let record: Record = match serde_json::from_slice(&bytes) {
            Ok(record) => record,
            Err(source) => return Err(Error::Record { path, source }),
        };
        if record.version != VERSION {
            return Err(Error::Version { path, version: record.version });
        }
        Ok(Some(record))
    }

    /// Writes the record to a directory that is not in its place yet, and syncs it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        let write = || {
            let mut file = File::options().write(true).create_new(true).open(&path)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }
}
