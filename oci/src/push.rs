//! From the store to a registry: what a name or a digest stands for, with everything it needs.
//!
//! Blobs first, then manifests, then the index, so that a registry never has a document whose parts it lacks. What the
//! registry has already is not sent. Everything is verified while it is sent, and the registry is told the digest, so a
//! damaged store cannot spoil a registry.

use std::collections::BTreeSet;
use std::io::Read;

use oci_spec::image::{Descriptor, MediaType};
use thiserror::Error;

use crate::digest::Digest;
use crate::manifest::{self, Document, MAX_BYTES, MAX_DEPTH, ManifestError};
use crate::pull::Progress;
use crate::reference::Reference;
use crate::registry::{Client, RegistryError};
use crate::store::{Store, StoreError};

/// An image that could not be pushed.
#[derive(Debug, Error)]
#[error("push {reference}")]
pub struct PushError {
    /// Where to.
    pub reference: Reference,
    /// Why not.
    #[source]
    pub source: Box<PushFault>,
}

/// Why an image could not be pushed.
#[derive(Debug, Error)]
pub enum PushFault {
    /// The registry does not take it.
    #[error(transparent)]
    Registry(RegistryError),
    /// The store does not have it, or not whole.
    #[error(transparent)]
    Store(StoreError),
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
}

impl PushError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        let in_store = |error: &StoreError| match error {
            StoreError::Missing { .. } => {
                Some("pull every platform of the index first, or push one platform's image")
            }
            other => other.hint(),
        };
        match &*self.source {
            PushFault::Registry(RegistryError::Store { source, .. }) => in_store(source),
            PushFault::Registry(source) => source.hint(),
            PushFault::Store(source) => in_store(source),
            _ => None,
        }
    }
}

impl From<StoreError> for PushFault {
    fn from(error: StoreError) -> PushFault {
        PushFault::Store(error)
    }
}

impl From<RegistryError> for PushFault {
    fn from(error: RegistryError) -> PushFault {
        PushFault::Registry(error)
    }
}

impl Store {
    /// Pushes a manifest or an index of the store, with all that it points at, to the reference's repository and under
    /// its tag, if it has one.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn push(
        &self,
        target: &Descriptor,
        reference: &Reference,
        client: &Client,
        progress: &dyn Progress,
    ) -> Result<(), PushError> {
        let push = || {
            let _hold = self.hold()?;
            let mut way = Way { store: self, reference, client, progress, sent: BTreeSet::new() };
            way.send(target.digest(), Some(target.media_type()), MAX_DEPTH, reference.tag().is_some())
        };
        push().map_err(|source| PushError { reference: reference.clone(), source: Box::new(source) })
    }
}

/// One push under way.
struct Way<'a> {
    store: &'a Store,
    reference: &'a Reference,
    client: &'a Client,
    progress: &'a dyn Progress,
    sent: BTreeSet<String>,
}

impl Way<'_> {
    /// Sends a document after everything below it.
    fn send(
        &mut self,
        digest: &Digest,
        declared: Option<&MediaType>,
        depth: usize,
        by_tag: bool,
    ) -> Result<(), PushFault> {
        let bytes = self.store.read(digest, MAX_BYTES)?;
        let (document, media_type) = manifest::parse(&bytes, declared)
            .map_err(|source| PushFault::Manifest { digest: digest.clone(), source })?;
        for child in document.children() {
            if !self.sent.insert(child.digest().to_string()) {
                continue;
            }
            match &document {
                Document::Image(_) => self.send_blob(child)?,
                Document::Index(_) if is_document(child) => {
                    let depth = depth.checked_sub(1).ok_or(PushFault::Depth)?;
                    self.send(child.digest(), Some(child.media_type()), depth, false)?;
                }
                Document::Index(_) => self.send_blob(child)?,
            }
        }
        let by_digest = self.reference.at(digest);
        let name = if by_tag { self.reference } else { &by_digest };
        Ok(self.client.put_manifest(name, &media_type, &bytes)?)
    }

    fn send_blob(&self, blob: &Descriptor) -> Result<(), PushFault> {
        let (digest, size) = (blob.digest(), blob.size());
        if !self.client.has_blob(self.reference, blob)? {
            self.progress.blob(digest, 0, size);
            let open = || {
                let inner = self.store.stream_verified(digest, Some(size))?;
                let told = Told { inner, so_far: 0, size, digest, progress: self.progress };
                Ok(Box::new(told) as Box<dyn Read + '_>)
            };
            self.client.put_blob(self.reference, blob, &open)?;
        }
        self.progress.blob(digest, size, size);
        Ok(())
    }
}

/// Tells how far the reading is, but for its end, which only the registry's answer is.
struct Told<'a, R> {
    inner: R,
    so_far: u64,
    size: u64,
    digest: &'a Digest,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.so_far += count as u64;
        if count > 0 && self.so_far < self.size {
            self.progress.blob(self.digest, self.so_far, self.size);
        }
        Ok(count)
    }
}

fn is_document(entry: &Descriptor) -> bool {
    manifest::is_image(entry.media_type()) || manifest::is_index(entry.media_type())
}
