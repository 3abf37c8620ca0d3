//! What a name stands for, in short.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageConfiguration};

use super::{Store, StoreError};
use crate::manifest::{self, Document, MAX_BYTES, MAX_DEPTH};
use crate::platform::{self, Platform};

/// What of an image or an index is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The platforms of the images that are here, sorted; an image that names none is left out.
    pub platforms: Vec<Platform>,
    /// Bytes of all its blobs that are here, documents included, each counted once.
    pub size: u64,
    /// Blobs that are not here; of an index, blobs of the images that are here.
    pub missing: usize,
}

impl Store {
    /// Looks at what a name stands for. Documents are verified, layers are not read. A document that is damaged or none
    /// has no parts.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Digest`].
    pub fn summary(&self, target: &Descriptor) -> Result<Summary, StoreError> {
        let mut summary = Summary::default();
        let mut blobs = BTreeMap::new();
        self.look(target, &mut summary, &mut blobs, MAX_DEPTH)?;
        summary.size = blobs.values().flatten().sum();
        summary.missing = blobs.values().filter(|size| size.is_none()).count();
        summary.platforms.sort();
        summary.platforms.dedup();
        Ok(summary)
    }

    fn look(
        &self,
        at: &Descriptor,
        summary: &mut Summary,
        blobs: &mut BTreeMap<String, Option<u64>>,
        depth: usize,
    ) -> Result<(), StoreError> {
        blobs.insert(at.digest().to_string(), self.size(at.digest())?);
        let Ok(bytes) = self.read(at.digest(), MAX_BYTES) else { return Ok(()) };
        match manifest::parse(&bytes, Some(at.media_type())) {
            Ok((Document::Index(index), _)) if depth > 0 => {
                for child in index.manifests() {
                    if self.has(child.digest())? {
                        self.look(child, summary, blobs, depth - 1)?;
                    }
                }
            }
            Ok((Document::Image(image), _)) => {
                for blob in std::iter::once(image.config()).chain(image.layers()) {
                    blobs.insert(blob.digest().to_string(), self.size(blob.digest())?);
                }
                let own = || -> Option<Platform> {
                    let config = self.read(image.config().digest(), MAX_BYTES).ok()?;
                    Platform::of_config(&serde_json::from_slice::<ImageConfiguration>(&config).ok()?)
                };
                if !platform::is_attestation(at) {
                    summary.platforms.extend(at.platform().as_ref().map(Platform::from).or_else(own));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
