//! Images from files into the store, and out again.
//!
//! ```text
//! OCI image layout, a directory     |  names: annotations of index.json
//! OCI image layout, an archive      |-> Store
//! docker-archive (`docker save`)    |  names: RepoTags of manifest.json
//!                                Store -> OCI image layout, an archive
//! ```
//!
//! Archives are read once, front to back, from any stream, compressed or not: blobs go into the store as they come, and
//! what they belong to is settled at the end. Hence the trust in names: a blob under `blobs/` must hash to its name; any
//! other file is stored under the digest that it turns out to have, and must be what a configuration says of it.
//!
//! Refused are names that lead out of the archive, two files of one name, devices, content that is not its digest,
//! documents above 4 MiB, and more than [`Limits`] allow. A refused archive leaves blobs that no name needs, for the
//! next sweep.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use thiserror::Error;

use crate::digest::{Digest, DigestError};
use crate::layer::{self, LayerError};
use crate::manifest::{Document, MAX_BYTES, MAX_DEPTH, ManifestError};
use crate::reference::{Reference, ReferenceError};
use crate::store::{Store, StoreError};

mod docker;
mod export;
mod intake;
mod layout;

pub use export::ExportError;
pub(crate) use export::document_of_names;

/// How much of an archive is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub max_entries: u64,
    /// Bytes of one file.
    pub max_blob: u64,
    /// Bytes of all files, decompressed if the archive is compressed.
    pub max_total: u64,
}

impl Default for Limits {
    /// 65536 entries, 64 GiB in one file, 256 GiB in all.
    fn default() -> Limits {
        Limits { max_entries: 1 << 16, max_blob: 64 << 30, max_total: 256 << 30 }
    }
}

/// An image that was taken into the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What it is called, in the store now too. There may be no name: then the caller keeps it by its digest.
    pub names: Vec<Reference>,
    /// Its manifest or index.
    pub target: Descriptor,
}

/// Why an archive or a layout is not taken.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The archive cannot be read as one.
    #[error("read the archive")]
    Archive {
        /// Where and why.
        #[source]
        source: LayerError,
    },
    /// A file in the archive cannot be read.
    #[error("read `{name}` in the archive")]
    Content {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry is of a kind, or has a name, that no image archive has.
    #[error("`{name}` in the archive is {what}")]
    Entry {
        /// The entry.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file's name is not a digest that is known here.
    #[error("use `{name}` in the archive as a blob")]
    Name {
        /// The file.
        name: String,
        /// Why not.
        #[source]
        source: DigestError,
    },
    /// The store does not take or give a blob.
    #[error("take `{name}` from the archive")]
    Store {
        /// The file, or the blob's digest.
        name: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Neither kind of archive.
    #[error("{what} has neither oci-layout and index.json, nor manifest.json")]
    Unknown {
        /// The directory, or that it is an archive.
        what: String,
    },
    /// Not a layout that is understood here.
    #[error("oci-layout is not of version 1.0.0")]
    Version,
    /// A document is not JSON of its kind.
    #[error("read {name}")]
    Syntax {
        /// The document.
        name: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A document is too large.
    #[error("{name} has {size} bytes (at most {MAX_BYTES} are read)")]
    TooLarge {
        /// The document.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A file of a layout directory cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A manifest or index is not usable.
    #[error("read the manifest {digest}")]
    Manifest {
        /// The document.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Indexes inside indexes.
    #[error("more than {MAX_DEPTH} indexes inside one another")]
    Depth,
    /// A blob that an image needs is neither in the archive nor in the store.
    #[error("blob {digest} is neither in the archive nor in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A file that manifest.json names is not in the archive.
    #[error("manifest.json names `{name}`, which is not in the archive")]
    NoFile {
        /// The file.
        name: String,
    },
    /// A name in manifest.json is none.
    #[error("read RepoTags in manifest.json")]
    Tag {
        /// Which, and why.
        #[source]
        source: ReferenceError,
    },
    /// A layer is not what the configuration says.
    #[error("layer `{name}` is {found} (the configuration says {expected})")]
    Layer {
        /// The file.
        name: String,
        /// The digest that the configuration has.
        expected: String,
        /// The digest of the file.
        found: Digest,
    },
    /// A layer cannot be decompressed.
    #[error("decompress layer `{name}`")]
    Decompress {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Manifest and configuration do not belong together.
    #[error("{layers} layers in manifest.json and {diff_ids} diff IDs in `{config}`")]
    Layers {
        /// The configuration's file.
        config: String,
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the configuration.
        diff_ids: usize,
    },
    /// One name was given, and there are several images, or none.
    #[error("give one name to {images} images")]
    OneName {
        /// How many there are.
        images: usize,
    },
    /// Two images have one name.
    #[error("two images are called {name}")]
    SameName {
        /// The name.
        name: Reference,
    },
}

impl Store {
    /// Takes the images of an archive, whichever kind it is, and names them. A `name` is given to the only image in it,
    /// in the place of the names that it has.
    ///
    /// # Errors
    /// [`ArchiveError`]; no name is given then.
    pub fn import_archive(
        &self,
        archive: impl Read,
        name: Option<&Reference>,
        limits: &Limits,
    ) -> Result<Vec<Imported>, ArchiveError> {
        let _hold = self.hold().map_err(in_store("the archive"))?;
        let intake = intake::Intake::read(self, archive, limits)?;
        let images = match intake.document("oci-layout") {
            Some(header) => {
                layout::images(self, header, intake.document("index.json"), "the archive", &|at| {
                    // What came with the archive is in the store already.
                    self.has(at.digest()).map_err(in_store(at.digest().as_ref()))
                })?
            }
            None => docker::images(self, &intake)?,
        };
        self.name_all(images, name)
    }

    /// Takes the images of a layout directory and names them, as [`Store::import_archive`] does. What the directory's
    /// index does not need is not taken.
    ///
    /// # Errors
    /// [`ArchiveError`]; no name is given then.
    pub fn import_layout(
        &self,
        directory: &Path,
        name: Option<&Reference>,
    ) -> Result<Vec<Imported>, ArchiveError> {
        let _hold = self.hold().map_err(in_store("the layout"))?;
        let images = layout::of_directory(self, directory)?;
        self.name_all(images, name)
    }

    fn name_all(
        &self,
        mut images: Vec<Imported>,
        name: Option<&Reference>,
    ) -> Result<Vec<Imported>, ArchiveError> {
        if let Some(name) = name {
            match &mut images[..] {
                [only] => only.names = vec![name.clone()],
                several => return Err(ArchiveError::OneName { images: several.len() }),
            }
        }
        let mut names: Vec<&Reference> = images.iter().flat_map(|image| &image.names).collect();
        names.sort();
        if let Some(same) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ArchiveError::SameName { name: same[0].clone() });
        }
        for image in &images {
            for name in &image.names {
                self.tag(name, &image.target).map_err(in_store(image.target.digest().as_ref()))?;
            }
        }
        Ok(images)
    }
}

fn in_store(name: &str) -> impl Fn(StoreError) -> ArchiveError + '_ {
    |source| ArchiveError::Store { name: name.to_owned(), source }
}

/// Checks that everything that a descriptor needs is in the store, of the right size, after `bring` was asked for it.
/// What an index points at may be missing, since an archive may hold one platform of several.
fn complete(store: &Store, at: &Descriptor, bring: Bring, depth: usize) -> Result<(), ArchiveError> {
    if !bring(at)? {
        return Err(ArchiveError::Missing { digest: at.digest().clone() });
    }
    let digest = at.digest();
    let stored = || in_store(digest.as_ref());
    drop(store.stream_verified(digest, Some(at.size())).map_err(stored())?);
    let bytes = store.read(digest, MAX_BYTES).map_err(stored())?;
    let (document, _) = crate::manifest::parse(&bytes, Some(at.media_type()))
        .map_err(|source| ArchiveError::Manifest { digest: digest.clone(), source })?;
    match document {
        Document::Index(index) => {
            let depth = depth.checked_sub(1).ok_or(ArchiveError::Depth)?;
            for child in index.manifests() {
                if is_document(child) && bring(child)? {
                    complete(store, child, bring, depth)?;
                }
            }
        }
        Document::Image(_) => {
            for child in document.children() {
                if !bring(child)? {
                    return Err(ArchiveError::Missing { digest: child.digest().clone() });
                }
                store
                    .stream_verified(child.digest(), Some(child.size()))
                    .map_err(in_store(child.digest().as_ref()))?;
            }
        }
    }
    Ok(())
}

/// Sees to it that a blob is in the store; says whether it is.
type Bring<'a> = &'a dyn Fn(&Descriptor) -> Result<bool, ArchiveError>;

fn is_document(entry: &Descriptor) -> bool {
    crate::manifest::is_image(entry.media_type()) || crate::manifest::is_index(entry.media_type())
}

/// Why the store did not take a file of the archive.
fn taking(name: &str, error: StoreError) -> ArchiveError {
    match error {
        StoreError::Source { source } => ArchiveError::Content { name: name.to_owned(), source },
        source => ArchiveError::Store { name: name.to_owned(), source },
    }
}

/// How the tar reader is to treat an image archive.
fn options(limits: &Limits) -> layer::Options {
    layer::Options {
        whiteouts: false,
        max_entries: limits.max_entries,
        max_file: limits.max_blob,
        max_total: limits.max_total,
        ..layer::Options::default()
    }
}
