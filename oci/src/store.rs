//! The content store: one OCI image layout directory (image-spec, image-layout.md) that several processes share.
//!
//! ```text
//! oci-layout  index.json       the names, as annotations; index.json is replaced whole, under index.lock
//! blobs/sha256/HEX             complete, hashed, synced; never changed, only replaced by the same bytes
//! ingest/SHA256-HEX.part       a download that may be resumed, locked by who is at it
//! ingest/put-PID-N             anything else on its way in
//! lock                         held shared by who adds or relies on blobs, exclusively by who removes some
//! ```
//!
//! Guarantees:
//! - what is under `blobs/` was hashed on its way in; what comes out is hashed again, so a byte that flipped since is an
//!   error that names the digest ([`StoreError::Corrupt`]) and never content;
//! - a crash at any point leaves whole blobs, a whole index, and perhaps something in `ingest/`;
//! - a blob is removed only while nobody holds the store ([`Store::hold`]): a pull in any process and a sweep cannot
//!   overlap.
//!
//! Blobs need not belong to an image (a Debian package may be kept by its sha256); who keeps such blobs gives them as
//! roots to [`Store::gc`].

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::{self, Algorithm, Digest, DigestError, Mismatch, Proof, Verifying};

mod file;
mod ingest;
mod names;
mod summary;
mod sweep;

pub use ingest::{Begin, BlobWriter, Part, Stored};
pub use names::Name;
pub(crate) use names::{IMAGE_NAME, LAYOUT, REF_NAME, is_layout, reference_in};
pub use summary::Summary;
pub use sweep::{Corrupt, Swept, Verified};

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// The directory is no image layout that is understood here.
    #[error("{} is no OCI image layout of version 1.0.0", path.display())]
    Layout {
        /// The file that should say so.
        path: PathBuf,
    },
    /// `index.json` cannot be read as one.
    #[error("read {}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The digest cannot be computed here.
    #[error("use a digest as the name of a blob")]
    Digest {
        /// Which, and why.
        #[source]
        source: DigestError,
    },
    /// The blob is not in the store.
    #[error("blob {digest} is not in the store {}", store.display())]
    Missing {
        /// Which blob.
        digest: Digest,
        /// The store's directory.
        store: PathBuf,
    },
    /// The blob in the store is not, or no longer, what its name says.
    #[error("blob {digest} in the store {} is damaged", store.display())]
    Corrupt {
        /// Which blob.
        digest: Digest,
        /// The store's directory.
        store: PathBuf,
        /// In what way.
        #[source]
        source: Box<Mismatch>,
    },
    /// The blob is larger than the caller takes.
    #[error("blob {digest} has {size} bytes (at most {limit} are taken)")]
    TooLarge {
        /// Which blob.
        digest: String,
        /// Its size in bytes, or what was seen of it.
        size: u64,
        /// What is taken, in bytes.
        limit: u64,
    },
    /// What was to be stored is not what it was declared to be.
    #[error("store a blob")]
    Content {
        /// In what way.
        #[source]
        source: Box<Mismatch>,
    },
    /// What was to be stored could not be read.
    #[error("read what is to be stored")]
    Source {
        /// The reader's error.
        #[source]
        source: io::Error,
    },
    /// Blobs cannot be removed while somebody adds some or relies on them.
    #[error("the store {} is in use", store.display())]
    InUse {
        /// The store's directory.
        store: PathBuf,
    },
    /// A document that says which blobs are needed cannot be read, so that nothing can be removed safely.
    #[error("find what blob {digest} needs")]
    Graph {
        /// The manifest or index.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

impl From<Mismatch> for StoreError {
    /// What was to be stored is wrong.
    fn from(source: Mismatch) -> StoreError {
        StoreError::Content { source: Box::new(source) }
    }
}

impl StoreError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::Corrupt { .. } => {
                Some("verify the store and remove what is damaged; it is then fetched again")
            }
            StoreError::InUse { .. } => {
                Some("wait for the pulls and builds that use the store, then try again")
            }
            StoreError::Graph { .. } => Some("remove the name or the blob, then sweep again"),
            _ => None,
        }
    }
}

/// A content store in a directory. Cheap to open; any number of values and processes may use one directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// While it lives, no process removes a blob. Dropping it, or dying, lets go.
#[derive(Debug)]
#[must_use = "blobs may be swept as soon as this is dropped"]
pub struct Hold {
    _lock: file::Lock,
}

/// A blob that was hashed whole before its first byte is handed out. Reads and seeks like the file it is.
#[derive(Debug)]
pub struct VerifiedBlob {
    file: File,
    proof: Proof,
}

impl Store {
    /// Opens the store in `root`, making it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Layout`] if the directory is a layout of another version, [`StoreError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let store = Store { root: root.into() };
        for algorithm in Algorithm::ALL {
            file::create_dirs(&store.root.join("blobs").join(algorithm.name()))?;
        }
        file::create_dirs(&store.root.join("ingest"))?;
        store.init_layout()?;
        Ok(store)
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Keeps every process from removing blobs until the value is dropped. Waits while somebody is removing.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn hold(&self) -> Result<Hold, StoreError> {
        Ok(Hold { _lock: file::Lock::shared(&self.root.join("lock"))? })
    }

    /// The size of a blob in bytes, or `None` if the store has none of this digest. Does not read the blob.
    ///
    /// # Errors
    /// [`StoreError::Digest`], [`StoreError::Io`].
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(digest)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(file::error("use as a blob", &path, io::ErrorKind::InvalidInput.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file::error("look at", &path, source)),
        }
    }

    /// Whether the store has a blob of this digest. Does not read the blob.
    ///
    /// # Errors
    /// As [`Store::size`].
    pub fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.size(digest)?.is_some())
    }

    /// A whole small blob, verified.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::TooLarge`] above `limit` bytes, [`StoreError::Corrupt`].
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open_raw(digest, None)?;
        if size > limit {
            return Err(StoreError::TooLarge { digest: digest.to_string(), size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut reader = self.verifying(file, digest, size)?;
        reader.read_to_end(&mut bytes).map_err(|error| self.read_error(digest, error))?;
        Ok(bytes)
    }

    /// Opens a blob after hashing it whole: for who cannot take back what was read (random access, a write that cannot
    /// be undone). Costs one more pass over the blob than [`Store::stream_verified`]. `size` is checked where given.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`].
    pub fn open_verified(&self, digest: &Digest, size: Option<u64>) -> Result<VerifiedBlob, StoreError> {
        let (mut file, size) = self.open_raw(digest, size)?;
        let proof =
            self.verifying(&file, digest, size)?.finish().map_err(|error| self.read_error(digest, error))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| self.read_error(digest, error))?;
        Ok(VerifiedBlob { file, proof })
    }

    /// Opens a blob to be verified while it is read: one pass. What was made from it may be committed only after
    /// [`Verifying::finish`]. `size` is checked where given.
    ///
    /// # Errors
    /// [`StoreError::Missing`], and [`StoreError::Corrupt`] if the size is wrong already.
    pub fn stream_verified(&self, digest: &Digest, size: Option<u64>) -> Result<Verifying<File>, StoreError> {
        let (file, size) = self.open_raw(digest, size)?;
        self.verifying(file, digest, size)
    }

    /// Removes a blob, whoever refers to it. Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while anybody holds the store.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _alone = self.alone()?;
        let path = self.blob_path(digest)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(file::error("remove", &path, source)),
        }
    }

    /// Turns an error of a reader over a blob of this store into the store's own.
    pub fn read_error(&self, digest: &Digest, error: io::Error) -> StoreError {
        match Mismatch::inside(&error) {
            Some(mismatch) => StoreError::Corrupt {
                digest: digest.clone(),
                store: self.root.clone(),
                source: Box::new(mismatch.clone()),
            },
            None => {
                let path = self.blob_path(digest).unwrap_or_else(|_| self.root.clone());
                file::error("read", &path, error)
            }
        }
    }

    /// Where a blob is or will be.
    fn blob_path(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        let algorithm = digest::algorithm(digest).map_err(|source| StoreError::Digest { source })?;
        Ok(self.root.join("blobs").join(algorithm.name()).join(digest.digest()))
    }

    /// Opens a blob without reading it; its size must be `wanted` where that is given.
    fn open_raw(&self, digest: &Digest, wanted: Option<u64>) -> Result<(File, u64), StoreError> {
        let path = self.blob_path(digest)?;
        let Some((file, size)) = file::open_regular(&path)? else {
            return Err(StoreError::Missing { digest: digest.clone(), store: self.root.clone() });
        };
        match wanted {
            Some(wanted) if wanted != size => Err(self.wrong_size(digest, wanted, size)),
            _ => Ok((file, size)),
        }
    }

    fn verifying<R: Read>(&self, file: R, digest: &Digest, size: u64) -> Result<Verifying<R>, StoreError> {
        Verifying::new(file, digest.clone(), Some(size)).map_err(|source| StoreError::Digest { source })
    }

    fn wrong_size(&self, digest: &Digest, expected: u64, found: u64) -> StoreError {
        let source = if found < expected {
            Mismatch::TooShort { digest: digest.clone(), expected, found }
        } else {
            Mismatch::TooLong { digest: digest.clone(), expected }
        };
        StoreError::Corrupt { digest: digest.clone(), store: self.root.clone(), source: Box::new(source) }
    }

    /// The opposite of [`Store::hold`]: nobody else is at the store. Does not wait, since a pull may take hours.
    fn alone(&self) -> Result<file::Lock, StoreError> {
        let lock = file::Lock::try_exclusive(&self.root.join("lock"))?;
        lock.ok_or_else(|| StoreError::InUse { store: self.root.clone() })
    }
}

impl VerifiedBlob {
    /// That the blob was hashed, and its size.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The file, at its start unless it was read.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for VerifiedBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for VerifiedBlob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests;
