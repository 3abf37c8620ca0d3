//! Why a layer was not unpacked.

use std::io;
use std::path::PathBuf;

use kit_spec::tree::TreePath;
use thiserror::Error;

use crate::digest::{Digest, DigestError};
use crate::layer::LayerError;

/// A layer that was not unpacked. Nothing is left of it.
#[derive(Debug, Error)]
#[error("unpack the layer {diff_id}")]
pub struct UnpackError {
    /// The digest of the layer's archive.
    pub diff_id: Digest,
    /// Why.
    #[source]
    pub source: Box<UnpackFault>,
}

/// Why a layer was not unpacked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnpackFault {
    /// The archive cannot be read, or is not what its digest says.
    #[error(transparent)]
    Layer(LayerError),
    /// The stream's end: its digests, or the decompressor's.
    #[error("read the layer to its end")]
    Stream {
        /// What the stream said; perhaps a [`Mismatch`](crate::digest::Mismatch).
        #[source]
        source: io::Error,
    },
    /// The diff ID cannot be computed here.
    #[error("use a diff ID")]
    Digest {
        /// Which, and why.
        #[source]
        source: DigestError,
    },
    /// The file system does not take an entry.
    #[error("{action} `{path}`")]
    Entry {
        /// What was being done.
        action: &'static str,
        /// To which entry.
        path: TreePath,
        /// Why it was refused.
        #[source]
        source: io::Error,
    },
    /// An entry lies below something that is no directory; links are not followed.
    #[error("put `{path}`: `{parent}` is {what} in this layer")]
    Parent {
        /// The entry.
        path: TreePath,
        /// What it lies below.
        parent: TreePath,
        /// What that is.
        what: &'static str,
    },
    /// A hard link to something that this layer does not hold, or that can have one name only.
    #[error("hard link `{path}`: its target `{target}` is {what}")]
    LinkTarget {
        /// The entry.
        path: TreePath,
        /// What it was to be another name of.
        target: TreePath,
        /// What is wrong with that.
        what: &'static str,
    },
    /// The directory itself cannot be made, synced or put into place.
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
}

impl From<LayerError> for UnpackFault {
    fn from(error: LayerError) -> Self {
        UnpackFault::Layer(error)
    }
}
