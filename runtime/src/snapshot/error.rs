//! Why a store of snapshots did not do what it was asked.

use std::io;
use std::path::PathBuf;

use kit_oci::digest::Digest;
use kit_oci::layer::unpack::UnpackError;
use kit_oci::store::StoreError;

/// Why a store of snapshots did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is none.
    #[error("`{id}` cannot be a snapshot's name (at most 200 letters, digits, `_`, `.` and `-`)")]
    Id {
        /// The name.
        id: String,
    },
    /// There is another snapshot of that name.
    #[error("make the snapshot {id}: there is one of other layers or of another kind")]
    Taken {
        /// The name.
        id: String,
    },
    /// A layer was not unpacked, or nobody said that it is needed.
    #[error("make the snapshot {id}: the layer {diff_id} is not unpacked")]
    Missing {
        /// The snapshot.
        id: String,
        /// The layer.
        diff_id: Digest,
    },
    /// More layers than overlayfs takes.
    #[error("make the snapshot {id}: {count} layers are too many (at most {})", super::MAX_LAYERS)]
    TooMany {
        /// The snapshot.
        id: String,
        /// How many.
        count: usize,
    },
    /// A record that cannot be read.
    #[error("read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A record of a version that is not understood here.
    #[error("read {}: version {version} is not known here", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// The layer's blob is not to be had.
    #[error(transparent)]
    Content(StoreError),
    /// The layer cannot be unpacked.
    #[error(transparent)]
    Unpack(UnpackError),
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
    /// The kernel does not mount the overlay.
    #[error("mount an overlay of {layers} layers on {}{}", target.display(), said(says))]
    Mount {
        /// How many lower directories.
        layers: usize,
        /// Where.
        target: PathBuf,
        /// What the kernel said besides, if anything.
        says: String,
        /// Why not.
        source: io::Error,
    },
    /// Overlays cannot be mounted over this store.
    #[error("overlays over {} are not possible: {what}", root.display())]
    Unsupported {
        /// The store's directory.
        root: PathBuf,
        /// What is missing.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn said(says: &str) -> String {
    if says.is_empty() { String::new() } else { format!(" (the kernel: {says})") }
}
