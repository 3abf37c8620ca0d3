//! Images out of the store, as an OCI image layout archive: the same bytes for the same images, whenever and wherever.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use oci_spec::image::{Descriptor, MediaType};
use serde::Serialize;
use thiserror::Error;

use crate::digest::{self, Algorithm, Digest};
use crate::manifest::{self, Document, MAX_BYTES, MAX_DEPTH, ManifestError};
use crate::store::{IMAGE_NAME, LAYOUT, Name, REF_NAME, Store, StoreError};

/// Why images could not be exported. What was written so far is of no use.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The store does not have a blob, or not whole.
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
    /// The archive cannot be written.
    #[error("write `{name}` into the archive")]
    Write {
        /// The entry.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> ExportError {
        ExportError::Store(error)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: MediaType,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<&'static str, String>,
}

impl Store {
    /// Writes images as one archive of an OCI image layout. An index is exported with those of its images that are
    /// here. Everything is verified while it is written: an archive is good only if this succeeds.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn export(&self, images: &[Name], to: impl Write) -> Result<(), ExportError> {
        let _hold = self.hold()?;
        let mut blobs = BTreeMap::new();
        for image in images {
            self.collect(&image.target, &mut blobs, MAX_DEPTH)?;
        }
        let mut archive = Archive(tar::Builder::new(to));
        archive.file("oci-layout", LAYOUT.len() as u64, LAYOUT)?;
        let index =
            document_of_names(images.iter().map(|image| (image.reference.to_string(), &image.target)));
        archive.file("index.json", index.len() as u64, &index[..])?;
        archive.directory("blobs/")?;
        for algorithm in Algorithm::ALL {
            let here = || blobs.values().filter(|blob| digest::algorithm(blob.digest()) == Ok(algorithm));
            if here().next().is_some() {
                archive.directory(&format!("blobs/{}/", algorithm.name()))?;
            }
            for blob in here() {
                self.write_blob(&mut archive, algorithm, blob)?;
            }
        }
        archive.finish()
    }

    fn write_blob(
        &self,
        archive: &mut Archive<impl Write>,
        algorithm: Algorithm,
        blob: &Descriptor,
    ) -> Result<(), ExportError> {
        let mut reader = self.stream_verified(blob.digest(), Some(blob.size()))?;
        let name = format!("blobs/{}/{}", algorithm.name(), blob.digest().digest());
        match archive.file(&name, blob.size(), &mut reader) {
            Err(ExportError::Write { source, .. }) if digest::Mismatch::inside(&source).is_some() => {
                Err(self.read_error(blob.digest(), source).into())
            }
            Err(error) => Err(error),
            Ok(()) => {
                let _proof = reader.finish().map_err(|error| self.read_error(blob.digest(), error))?;
                Ok(())
            }
        }
    }

    /// Adds all that a document needs, itself included. What an index points at may be missing.
    fn collect(
        &self,
        at: &Descriptor,
        blobs: &mut BTreeMap<String, Descriptor>,
        depth: usize,
    ) -> Result<(), ExportError> {
        let digest = at.digest();
        blobs.insert(digest.to_string(), at.clone());
        let bytes = self.read(digest, MAX_BYTES)?;
        let (document, _) = manifest::parse(&bytes, Some(at.media_type()))
            .map_err(|source| ExportError::Manifest { digest: digest.clone(), source })?;
        let is_index = matches!(document, Document::Index(_));
        for child in document.children() {
            if !is_index {
                blobs.insert(child.digest().to_string(), child.clone());
            } else if super::is_document(child) && self.has(child.digest())? {
                self.collect(child, blobs, depth.checked_sub(1).ok_or(ExportError::Depth)?)?;
            }
        }
        Ok(())
    }
}

/// An `index.json` with images under their names, sorted by these.
pub(crate) fn document_of_names<'a>(images: impl IntoIterator<Item = (String, &'a Descriptor)>) -> Vec<u8> {
    let entry = |(name, target): (String, &Descriptor)| Entry {
        media_type: target.media_type().clone(),
        digest: target.digest().clone(),
        size: target.size(),
        annotations: [REF_NAME, IMAGE_NAME].map(|key| (key, name.clone())).into(),
    };
    let mut manifests: Vec<Entry> = images.into_iter().map(entry).collect();
    manifests.sort_by_key(|entry| entry.annotations.get(REF_NAME).cloned());
    let index = Index { schema_version: 2, media_type: MediaType::ImageIndex, manifests };
    // Texts and numbers alone: there is nothing in it that JSON has no form for.
    serde_json::to_vec(&index).unwrap_or_default()
}

/// Writes tar entries of root's, of 1970.
struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    fn file(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), ExportError> {
        self.entry(name, tar::EntryType::Regular, 0o644, size, content)
    }

    fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        self.entry(name, tar::EntryType::Directory, 0o755, 0, io::empty())
    }

    fn entry(
        &mut self,
        name: &str,
        kind: tar::EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError::Write { name: name.to_owned(), source };
        // The only format whose size field takes more than 8 GiB.
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(failed)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.0.append(&header, content).map_err(failed)
    }

    fn finish(self) -> Result<(), ExportError> {
        let failed = |source| ExportError::Write { name: "the end".to_owned(), source };
        self.0.into_inner().and_then(|mut writer| writer.flush()).map_err(failed)
    }
}
