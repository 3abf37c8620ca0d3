//! From a reference to an image in the store.
//!
//! ```text
//! resolve     Reference, Platform -> Pinned        asks what: tag -> digest, index -> the platform's manifest
//! Store::pull       Pinned -> Image                asks for bytes: manifest, configuration and layers, what is missing
//! Store::image      Pinned -> Image                asks nobody: everything is in the store
//! ```
//!
//! A [`Source`] says who may be asked. Without a client nothing leaves the machine: what is not in the store is an error
//! that names the reference and the digest. Blobs that are there are not hashed again here; that is done whenever one is
//! read. What is there in a wrong size is an error, not a reason to fetch: a store that rots should be known to.
//!
//! A pulled image keeps its name in the store: the reference names the index that it was chosen from (of which the other
//! platforms may be missing), or the manifest itself.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{self, Digest, DigestError};
use crate::manifest::{self, Document, MAX_BYTES, MAX_DEPTH, ManifestError};
use crate::platform::{self, NoPlatform, Platform};
use crate::reference::Reference;
use crate::registry::{Client, RegistryError};
use crate::store::{Begin, Store, StoreError};

mod whole;

pub use whole::{Layout, resolve_root};

/// One image of one platform, by digest: what a lock holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// What was asked for.
    pub reference: Reference,
    /// The image manifest.
    pub digest: Digest,
    /// The manifest's media type, OCI's or docker's.
    pub media_type: MediaType,
    /// The manifest's size in bytes.
    pub size: u64,
    /// The index that the reference names and the image was chosen from, if there is one and it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
}

/// An image whose blobs are in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The manifest's digest.
    pub digest: Digest,
    /// The configuration's digest, which many call the image's ID.
    pub config_digest: Digest,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The layers, lowest first.
    pub layers: Vec<ImageLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageLayer {
    /// The blob: its media type says how it is compressed.
    pub blob: Descriptor,
    /// The digest of the tar archive inside.
    pub diff_id: Digest,
}

/// Hears how a pull goes, from several threads.
pub trait Progress: Sync {
    /// `so_far` of a blob's `total` bytes are there. The first call for a blob may be far in, if it is resumed.
    fn blob(&self, digest: &Digest, so_far: u64, total: u64);

    /// Whether the pull should end as soon as it can. What came is kept for the next.
    fn is_called_off(&self) -> bool {
        false
    }
}

/// Hears nothing.
impl Progress for () {
    fn blob(&self, _: &Digest, _: u64, _: u64) {}
}

/// Who may be asked for what is not in the store.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    client: Option<&'a Client>,
    threads: NonZeroUsize,
    progress: &'a dyn Progress,
}

impl<'a> Source<'a> {
    /// Nobody.
    pub fn offline() -> Source<'a> {
        Source { client: None, threads: NonZeroUsize::MIN, progress: &() }
    }

    /// Registries, with four blobs at a time.
    pub fn registry(client: &'a Client) -> Source<'a> {
        Source { client: Some(client), threads: NonZeroUsize::MIN.saturating_add(3), progress: &() }
    }

    /// The same with another number of blobs at a time.
    #[must_use]
    pub fn threads(self, threads: NonZeroUsize) -> Source<'a> {
        Source { threads, ..self }
    }

    /// The same with somebody who hears how it goes.
    #[must_use]
    pub fn progress(self, progress: &'a dyn Progress) -> Source<'a> {
        Source { progress, ..self }
    }
}

/// An image that is not to be had.
#[derive(Debug, Error)]
#[error("get the image {reference}")]
pub struct PullError {
    /// What was asked for.
    pub reference: Reference,
    /// Why.
    #[source]
    pub source: Box<PullFault>,
}

/// Why an image is not to be had.
#[derive(Debug, Error)]
pub enum PullFault {
    /// The registry does not give it.
    #[error(transparent)]
    Registry(RegistryError),
    /// The store does not give or take it.
    #[error(transparent)]
    Store(StoreError),
    /// Offline, and the store does not know the name.
    #[error("{reference} is not in the store, and nobody may be asked")]
    UnknownName {
        /// The name.
        reference: Reference,
    },
    /// Offline, and the store lacks a blob.
    #[error("blob {digest} is not in the store, and nobody may be asked")]
    MissingBlob {
        /// The first blob that is missing.
        digest: Digest,
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
    /// The index has nothing for the platform.
    #[error(transparent)]
    Platform(NoPlatform),
    /// There is one image only, and it is for another platform.
    #[error("the only image is for {found} (want {wanted})")]
    OtherPlatform {
        /// The platform that was wanted.
        wanted: String,
        /// The image's.
        found: String,
    },
    /// Indexes inside indexes.
    #[error("more than {MAX_DEPTH} indexes inside one another")]
    Depth,
    /// An index where an image was pinned, or something that is no container image.
    #[error("{digest} is {found} (want a container image)")]
    NotAnImage {
        /// The document.
        digest: Digest,
        /// What it is.
        found: String,
    },
    /// A document has another size than its descriptor says.
    #[error("{digest} has {found} bytes (its descriptor says {expected})")]
    Size {
        /// The document.
        digest: Digest,
        /// What the descriptor says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The configuration cannot be read.
    #[error("read the configuration {digest}")]
    Config {
        /// The configuration.
        digest: Digest,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A diff ID that is not usable.
    #[error("read the diff IDs in the configuration {digest}")]
    DiffId {
        /// The configuration.
        digest: Digest,
        /// Why.
        #[source]
        source: DigestError,
    },
    /// Manifest and configuration do not belong together.
    #[error("{layers} layers in the manifest and {diff_ids} diff IDs in the configuration {digest}")]
    Layers {
        /// The configuration.
        digest: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the configuration.
        diff_ids: usize,
    },
}

impl PullError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match &*self.source {
            PullFault::Registry(source) => source.hint(),
            PullFault::Store(source) => source.hint(),
            PullFault::UnknownName { .. } | PullFault::MissingBlob { .. } => {
                Some("pull it once while online, import it from an archive, or allow the network")
            }
            _ => None,
        }
    }
}

impl From<StoreError> for PullFault {
    fn from(error: StoreError) -> PullFault {
        PullFault::Store(error)
    }
}

impl From<RegistryError> for PullFault {
    fn from(error: RegistryError) -> PullFault {
        PullFault::Registry(error)
    }
}

/// Finds out what a reference means on a platform, and pins it. A digest is looked for in the store before anybody is
/// asked; a tag is asked for if somebody may be asked, and is looked up in the store only if not.
///
/// # Errors
/// [`PullError`].
pub fn resolve(
    reference: &Reference,
    platform: &Platform,
    store: &Store,
    source: &Source,
) -> Result<Pinned, PullError> {
    let desk = Desk { reference, store, source };
    desk.resolve(platform).map_err(desk.failed())
}

impl Store {
    /// Makes sure that every blob of an image is here, and gives the image its name. Blobs that are missing are fetched,
    /// several at a time; two pulls of the same blob, in whatever process, fetch it once.
    ///
    /// # Errors
    /// [`PullError`]. What came before the error is kept, and used by the next pull.
    pub fn pull(&self, pinned: &Pinned, source: &Source) -> Result<Image, PullError> {
        let desk = Desk { reference: &pinned.reference, store: self, source };
        desk.pull(pinned).map_err(desk.failed())
    }

    /// An image whose blobs are all here. Manifest and configuration are verified; of the layers, that they are here in
    /// the right size.
    ///
    /// # Errors
    /// [`PullFault::MissingBlob`] and others.
    pub fn image(&self, pinned: &Pinned) -> Result<Image, PullError> {
        let desk = Desk { reference: &pinned.reference, store: self, source: &Source::offline() };
        let read = || {
            let manifest = desk.image_manifest(pinned)?;
            desk.fetch_all(&desk.missing(&manifest)?)?;
            desk.image(&manifest, pinned)
        };
        read().map_err(desk.failed())
    }
}

/// One reference on its way.
struct Desk<'a> {
    reference: &'a Reference,
    store: &'a Store,
    source: &'a Source<'a>,
}

impl Desk<'_> {
    fn failed(&self) -> impl Fn(PullFault) -> PullError {
        |source| PullError { reference: self.reference.clone(), source: Box::new(source) }
    }

    fn resolve(&self, platform: &Platform) -> Result<Pinned, PullFault> {
        let _hold = self.store.hold()?;
        let root = self.root()?;
        let mut at = root.clone();
        for _ in 0..=MAX_DEPTH {
            // What an index says about an image's platform is as good as what the image says.
            if manifest::is_image(at.media_type()) && at.platform().is_some() {
                return Ok(self.pin(&at, &root));
            }
            match self.document(&at)? {
                (Document::Image(image), media_type) => {
                    self.check_platform(&image, platform)?;
                    at.set_media_type(media_type);
                    return Ok(self.pin(&at, &root));
                }
                (Document::Index(index), _) => {
                    at = platform::select(index.manifests(), platform).map_err(PullFault::Platform)?.clone();
                }
            }
        }
        Err(PullFault::Depth)
    }

    fn pull(&self, pinned: &Pinned) -> Result<Image, PullFault> {
        let _hold = self.store.hold()?;
        let manifest = self.image_manifest(pinned)?;
        let mut missing = self.missing(&manifest)?;
        // The largest first, so that no thread is left alone with it at the end.
        missing.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
        self.fetch_all(&missing)?;
        let image = self.image(&manifest, pinned)?;
        self.keep_name(pinned)?;
        Ok(image)
    }

    /// What the reference itself names.
    fn root(&self) -> Result<Descriptor, PullFault> {
        let Some(digest) = self.reference.digest() else {
            return match self.source.client {
                Some(client) => Ok(client.resolve(self.reference)?),
                None => self
                    .store
                    .resolve(self.reference)?
                    .ok_or_else(|| PullFault::UnknownName { reference: self.reference.clone() }),
            };
        };
        if let Some(size) = self.store.size(&digest)? {
            let (_, media_type) = self.stored(&digest, None)?;
            return Ok(Descriptor::new(media_type, size, digest));
        }
        let Some(client) = self.source.client else { return Err(PullFault::MissingBlob { digest }) };
        let fetched = client.manifest(self.reference)?;
        self.store.put_stream(&fetched.bytes[..], &digest, Some(fetched.descriptor.size()))?;
        Ok(fetched.descriptor)
    }

    fn pin(&self, image: &Descriptor, root: &Descriptor) -> Pinned {
        Pinned {
            reference: self.reference.clone(),
            digest: image.digest().clone(),
            media_type: image.media_type().clone(),
            size: image.size(),
            index: (root.digest() != image.digest()).then(|| root.digest().clone()),
        }
    }

    /// A manifest or index, from the store or else from the registry into the store.
    fn document(&self, at: &Descriptor) -> Result<(Document, MediaType), PullFault> {
        let (digest, expected) = (at.digest(), at.size());
        let found = match (self.store.size(digest)?, self.source.client) {
            (Some(found), _) => found,
            (None, None) => return Err(PullFault::MissingBlob { digest: digest.clone() }),
            (None, Some(client)) => {
                let fetched = client.manifest(&self.reference.at(digest))?;
                let found = fetched.descriptor.size();
                if found == expected {
                    self.store.put_stream(&fetched.bytes[..], digest, Some(found))?;
                }
                found
            }
        };
        if found != expected {
            return Err(PullFault::Size { digest: digest.clone(), expected, found });
        }
        self.stored(digest, Some(at.media_type()))
    }

    /// A manifest or index that is in the store.
    fn stored(
        &self,
        digest: &Digest,
        declared: Option<&MediaType>,
    ) -> Result<(Document, MediaType), PullFault> {
        let bytes = self.store.read(digest, MAX_BYTES)?;
        manifest::parse(&bytes, declared)
            .map_err(|source| PullFault::Manifest { digest: digest.clone(), source })
    }

    /// The manifest that was pinned, which must be an image's.
    fn image_manifest(&self, pinned: &Pinned) -> Result<ImageManifest, PullFault> {
        let at = Descriptor::new(pinned.media_type.clone(), pinned.size, pinned.digest.clone());
        let found = match self.document(&at)? {
            (Document::Image(image), _) if manifest::is_config(image.config().media_type()) => {
                return Ok(*image);
            }
            (Document::Image(image), _) => {
                format!("an artifact with a configuration of type {}", image.config().media_type())
            }
            (Document::Index(_), _) => "an index".to_owned(),
        };
        Err(PullFault::NotAnImage { digest: pinned.digest.clone(), found })
    }

    /// The platform of an image that no index speaks for, from its configuration.
    fn check_platform(&self, image: &ImageManifest, wanted: &Platform) -> Result<(), PullFault> {
        if !manifest::is_config(image.config().media_type()) {
            return Ok(());
        }
        if let Some(blob) = self.is_missing(image.config())? {
            self.fetch_all(&[blob])?;
        }
        match Platform::of_config(&self.config(image.config())?) {
            Some(found) if wanted.rank(&found).is_none() => {
                Err(PullFault::OtherPlatform { wanted: wanted.to_string(), found: found.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn config(&self, at: &Descriptor) -> Result<ImageConfiguration, PullFault> {
        let bytes = self.store.read(at.digest(), MAX_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| PullFault::Config { digest: at.digest().clone(), source })
    }

    /// The blobs of an image that are not in the store, each once.
    fn missing(&self, image: &ImageManifest) -> Result<Vec<Descriptor>, PullFault> {
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        for blob in std::iter::once(image.config()).chain(image.layers()) {
            let found = self.is_missing(blob)?;
            if seen.insert(blob.digest().to_string()) {
                missing.extend(found);
            }
        }
        Ok(missing)
    }

    fn is_missing(&self, blob: &Descriptor) -> Result<Option<Descriptor>, PullFault> {
        if self.store.has(blob.digest())? {
            // An error if the size is wrong.
            self.store.stream_verified(blob.digest(), Some(blob.size()))?;
            return Ok(None);
        }
        if manifest::is_config(blob.media_type()) && blob.size() > MAX_BYTES {
            let (digest, size) = (blob.digest().to_string(), blob.size());
            return Err(StoreError::TooLarge { digest, size, limit: MAX_BYTES }.into());
        }
        Ok(Some(blob.clone()))
    }

    /// Fetches blobs, several at a time. The first error ends it all.
    fn fetch_all(&self, blobs: &[Descriptor]) -> Result<(), PullFault> {
        let Some(first) = blobs.first() else { return Ok(()) };
        let Some(client) = self.source.client else {
            return Err(PullFault::MissingBlob { digest: first.digest().clone() });
        };
        let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed = Mutex::new(None);
        let work = || {
            while !ended.load(Ordering::Relaxed) {
                let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                if let Err(error) = self.fetch(client, blob, &ended) {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    ended.store(true, Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.source.threads.get().min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn fetch(&self, client: &Client, blob: &Descriptor, ended: &AtomicBool) -> Result<(), PullFault> {
        let (digest, total, progress) = (blob.digest(), blob.size(), self.source.progress);
        let Begin::Part(part) = self.store.begin(digest, total)? else {
            progress.blob(digest, total, total);
            return Ok(());
        };
        progress.blob(digest, part.length(), total);
        let mut watch = |so_far| {
            progress.blob(digest, so_far, total);
            if ended.load(Ordering::Relaxed) || progress.is_called_off() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        Ok(client.download(self.reference, part, &mut watch)?)
    }

    fn image(&self, manifest: &ImageManifest, pinned: &Pinned) -> Result<Image, PullFault> {
        let config_digest = manifest.config().digest().clone();
        let config = self.config(manifest.config())?;
        let (layers, diff_ids) = (manifest.layers(), config.rootfs().diff_ids());
        if layers.len() != diff_ids.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            return Err(PullFault::Layers { digest: config_digest, layers, diff_ids });
        }
        let layer = |(blob, diff_id): (&Descriptor, &String)| match digest::parse(diff_id) {
            Ok(diff_id) => Ok(ImageLayer { blob: blob.clone(), diff_id }),
            Err(source) => Err(PullFault::DiffId { digest: config_digest.clone(), source }),
        };
        let layers = layers.iter().zip(diff_ids).map(layer).collect::<Result<_, _>>()?;
        Ok(Image { digest: pinned.digest.clone(), config_digest, config, layers })
    }

    /// Lets the reference name the index that the image is from if that is here, else the image.
    fn keep_name(&self, pinned: &Pinned) -> Result<(), PullFault> {
        let named = self.store.resolve(self.reference)?;
        let named = named.as_ref().map(Descriptor::digest);
        let image = Descriptor::new(pinned.media_type.clone(), pinned.size, pinned.digest.clone());
        let target = match pinned.index.as_ref().or(named) {
            Some(index) => self.as_index(index, pinned.index.is_some(), &pinned.digest)?.unwrap_or(image),
            None => image,
        };
        if named != Some(target.digest()) {
            self.store.tag(self.reference, &target)?;
        }
        Ok(())
    }

    /// The descriptor of an index in the store, if it is there and (unless that is known) holds the image.
    fn as_index(&self, index: &Digest, known: bool, image: &Digest) -> Result<Option<Descriptor>, PullFault> {
        let Some(size) = self.store.size(index)? else { return Ok(None) };
        let (document, media_type) = match self.stored(index, None) {
            // What the name stood for is none of this pull's business.
            Err(_) if !known => return Ok(None),
            stored => stored?,
        };
        let holds = known || document.children().iter().any(|child| child.digest() == image);
        Ok(holds.then(|| Descriptor::new(media_type, size, index.clone())))
    }
}
