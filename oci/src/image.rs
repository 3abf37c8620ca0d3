//! Images made here: a layer of whatever writes a tar, then configuration and manifest, into the store.
//!
//! ```text
//! a tar ──gzip──▶ Store::put_layer ──▶ NewLayer (blob, diff ID) ─┐
//!                         ImageConfiguration, without its rootfs ┴▶ Store::put_image ──▶ the manifest's descriptor
//! ```
//!
//! The same tar and configuration give the same digests: gzip's header holds neither a name nor a time, and the
//! documents are written in one form (image-spec, manifest.md and config.md).

use std::io::{self, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use oci_spec::OciSpecError;
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;
use thiserror::Error;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::store::{BlobWriter, Store, StoreError};

/// A layer in the store that no manifest names yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLayer {
    /// The blob, gzip compressed.
    pub blob: Descriptor,
    /// The digest of the tar archive inside.
    pub diff_id: Digest,
}

/// Why an image could not be made.
#[derive(Debug, Error)]
pub enum NewImageError {
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer's tar could not be written.
    #[error("write the layer")]
    Layer {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document could not be written.
    #[error("write the {document}")]
    Document {
        /// Which.
        document: &'static str,
        /// Why.
        #[source]
        source: OciSpecError,
    },
}

impl Store {
    /// Stores what `write` writes, a tar archive, as a layer.
    ///
    /// # Errors
    /// [`NewImageError::Layer`] with what `write` returns, and nothing is stored; [`NewImageError::Store`].
    pub fn put_layer(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<NewLayer, NewImageError> {
        let failed = |source| NewImageError::Layer { source };
        // 255 is "unknown" for the operating system (RFC 1952, 2.3.1).
        let gzip = GzBuilder::new().operating_system(255).write(self.writer()?, Compression::default());
        let mut tar = Hashed { inner: gzip, hasher: Hasher::new(Algorithm::Sha256) };
        write(&mut tar).map_err(failed)?;
        let Hashed { inner, hasher } = tar;
        let stored = inner.finish().map_err(failed)?.finish()?;
        let blob = Descriptor::new(MediaType::ImageLayerGzip, stored.size, stored.digest);
        Ok(NewLayer { blob, diff_id: hasher.finish() })
    }

    /// Stores an image of layers, lowest first, and of a configuration, whose `rootfs` is set here. It has no name yet.
    ///
    /// # Errors
    /// [`NewImageError`].
    pub fn put_image(
        &self,
        layers: &[NewLayer],
        mut config: ImageConfiguration,
    ) -> Result<Descriptor, NewImageError> {
        let document = |document| move |source| NewImageError::Document { document, source };
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build();
        config.set_rootfs(rootfs.map_err(document("configuration"))?);
        let stored = self.put_bytes(&canonical(&config).map_err(document("configuration"))?)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(Descriptor::new(MediaType::ImageConfig, stored.size, stored.digest))
            .layers(layers.iter().map(|layer| layer.blob.clone()).collect::<Vec<_>>())
            .build()
            .map_err(document("manifest"))?;
        let stored = self.put_bytes(&canonical(&manifest).map_err(document("manifest"))?)?;
        Ok(Descriptor::new(MediaType::ImageManifest, stored.size, stored.digest))
    }
}

/// JSON with the keys of every object sorted: labels are a hash map, in another order each time.
fn canonical(document: &impl Serialize) -> Result<Vec<u8>, OciSpecError> {
    let written = serde_json::to_value(document).and_then(|value| serde_json::to_vec(&value));
    written.map_err(OciSpecError::SerDe)
}

/// Hashes what goes through.
struct Hashed<'a> {
    inner: GzEncoder<BlobWriter<'a>>,
    hasher: Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::{Source, resolve};
    use std::collections::HashMap;

    use oci_spec::image::{Arch, ConfigBuilder, ImageConfigurationBuilder, Os};

    fn config() -> ImageConfiguration {
        let labels: HashMap<_, _> = (0..50).map(|n| (format!("label-{n}"), n.to_string())).collect();
        let process = ConfigBuilder::default().cmd(vec!["/x".to_owned()]).labels(labels).build().unwrap();
        let image = ImageConfigurationBuilder::default().architecture(Arch::Amd64).os(Os::Linux);
        image.config(process).build().unwrap()
    }

    fn image(store: &Store) -> Descriptor {
        let layer = store.put_layer(|tar| tar.write_all(&[7; 100_000])).unwrap();
        store.put_image(&[layer], config()).unwrap()
    }

    #[test]
    fn an_image_made_here_is_one_that_is_read_here() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let target = image(&store);
        let name = "example.org/made:1".parse().unwrap();
        store.tag(&name, &target).unwrap();
        let platform = crate::platform::Platform::linux_amd64();
        let pinned = resolve(&name, &platform, &store, &Source::offline()).unwrap();
        let read = store.image(&pinned).unwrap();
        assert_eq!(read.layers[0].diff_id, crate::digest::of(&[7; 100_000]));
        assert_eq!(read.config.config().as_ref().unwrap().cmd(), &Some(vec!["/x".to_owned()]));
    }

    #[test]
    fn the_same_input_gives_the_same_digest() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let digest = |dir: &tempfile::TempDir| image(&Store::open(dir.path()).unwrap()).digest().clone();
        assert_eq!(digest(&one), digest(&other));
    }

    #[test]
    fn a_layer_that_could_not_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let failed = store.put_layer(|tar| {
            tar.write_all(b"half")?;
            Err(io::Error::other("gone"))
        });
        assert!(matches!(failed, Err(NewImageError::Layer { .. })));
        let left = |name: &str| std::fs::read_dir(dir.path().join(name)).unwrap().count();
        assert_eq!((left("ingest"), left("blobs/sha256")), (0, 0));
    }
}
