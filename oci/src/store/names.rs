//! The names: `index.json` of the layout, whose entries carry a reference in two annotations, so that other tools find
//! them by theirs.
//!
//! The file is read whole, changed under `index.lock`, written beside itself, synced and renamed. Entries and fields
//! that are not ours are kept as they are.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Store, StoreError, file};
use crate::digest::{self, Digest};
use crate::reference::Reference;

/// The image-spec's annotation for a name (annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation for a whole reference, which LinuxKit reads too.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// The whole of an `oci-layout` file.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// An index of a hundred thousand names; a larger file is not one of ours.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The reference.
    pub reference: Reference,
    /// The manifest or index that it names.
    pub target: Descriptor,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexFile {
    schema_version: u32,
    #[serde(default)]
    pub(super) manifests: Vec<Entry>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    media_type: MediaType,
    pub(super) digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Entry {
    fn reference(&self) -> Option<Reference> {
        reference_in(|annotation| self.annotations.get(annotation).map(String::as_str))
    }

    fn target(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.size, self.digest.clone())
    }
}

/// The whole reference in an entry's annotations. A bare tag, which the image-spec allows as a name, is none.
pub(crate) fn reference_in<'a>(get: impl Fn(&'static str) -> Option<&'a str>) -> Option<Reference> {
    let whole = |text: &&str| text.contains('/');
    [IMAGE_NAME, REF_NAME].into_iter().find_map(|annotation| get(annotation).filter(whole)?.parse().ok())
}

impl Store {
    /// All names, sorted.
    ///
    /// # Errors
    /// [`StoreError::Index`], [`StoreError::Io`].
    pub fn names(&self) -> Result<Vec<Name>, StoreError> {
        let index = self.index()?;
        let mut names: Vec<Name> = index
            .manifests
            .iter()
            .filter_map(|entry| Some(Name { reference: entry.reference()?, target: entry.target() }))
            .collect();
        names.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(names)
    }

    /// What a name stands for: a manifest or an index.
    ///
    /// # Errors
    /// [`StoreError::Index`], [`StoreError::Io`].
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Descriptor>, StoreError> {
        let index = self.index()?;
        let found = index.manifests.iter().find(|entry| entry.reference().as_ref() == Some(reference));
        Ok(found.map(Entry::target))
    }

    /// Gives a manifest or index of the store a name, taking the name from what had it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the store does not have it, [`StoreError::Corrupt`] if in another size.
    pub fn tag(&self, reference: &Reference, target: &Descriptor) -> Result<(), StoreError> {
        let _hold = self.hold()?;
        let _file = self.open_raw(target.digest(), Some(target.size()))?;
        let name = reference.to_string();
        let entry = Entry {
            media_type: target.media_type().clone(),
            digest: target.digest().clone(),
            size: target.size(),
            annotations: [REF_NAME, IMAGE_NAME].map(|key| (key.to_owned(), name.clone())).into(),
            rest: BTreeMap::new(),
        };
        self.change_index(|index| {
            index.manifests.retain(|entry| entry.reference().as_ref() != Some(reference));
            index.manifests.push(entry);
        })
    }

    /// Takes a name away. The blobs stay until they are swept. Returns whether there was such a name.
    ///
    /// # Errors
    /// [`StoreError::Index`], [`StoreError::Io`].
    pub fn untag(&self, reference: &Reference) -> Result<bool, StoreError> {
        let mut found = false;
        self.change_index(|index| {
            index.manifests.retain(|entry| {
                let keep = entry.reference().as_ref() != Some(reference);
                found |= !keep;
                keep
            });
        })?;
        Ok(found)
    }

    /// Writes `oci-layout` and an empty `index.json` into a new store, and looks at those of an old one.
    pub(super) fn init_layout(&self) -> Result<(), StoreError> {
        let _lock = self.lock_index()?;
        let path = self.root.join("oci-layout");
        match read_bounded(&path, 4096)? {
            None => file::replace(&self.root.join("oci-layout.new"), &path, LAYOUT)?,
            Some(bytes) if is_layout(&bytes) => {}
            Some(_) => return Err(StoreError::Layout { path }),
        }
        if read_bounded(&self.root.join("index.json"), MAX_INDEX_BYTES)?.is_none() {
            self.write_index(&IndexFile { schema_version: 2, manifests: Vec::new(), rest: BTreeMap::new() })?;
        }
        Ok(())
    }

    pub(super) fn index(&self) -> Result<IndexFile, StoreError> {
        let path = self.root.join("index.json");
        let bytes = read_bounded(&path, MAX_INDEX_BYTES)?
            .ok_or_else(|| file::error("open", &path, std::io::ErrorKind::NotFound.into()))?;
        let index: IndexFile = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Index { path: path.clone(), source })?;
        if index.schema_version != 2 {
            return Err(StoreError::Layout { path });
        }
        for entry in &index.manifests {
            digest::algorithm(&entry.digest).map_err(|source| StoreError::Digest { source })?;
        }
        Ok(index)
    }

    fn change_index(&self, change: impl FnOnce(&mut IndexFile)) -> Result<(), StoreError> {
        let _lock = self.lock_index()?;
        let mut index = self.index()?;
        change(&mut index);
        let name = |entry: &Entry| entry.annotations.get(REF_NAME).cloned().unwrap_or_default();
        index.manifests.sort_by_cached_key(|entry| (name(entry), entry.digest.to_string()));
        self.write_index(&index)
    }

    fn write_index(&self, index: &IndexFile) -> Result<(), StoreError> {
        let path = self.root.join("index.json");
        let mut bytes = serde_json::to_vec_pretty(index)
            .map_err(|source| StoreError::Index { path: path.clone(), source })?;
        bytes.push(b'\n');
        file::replace(&self.root.join("index.json.new"), &path, &bytes)
    }

    fn lock_index(&self) -> Result<file::Lock, StoreError> {
        file::Lock::exclusive(&self.root.join("index.lock"))
    }
}

/// Whether the bytes are an `oci-layout` file of the one version there is.
pub(crate) fn is_layout(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    serde_json::from_slice::<Layout>(bytes).is_ok_and(|layout| layout.image_layout_version == "1.0.0")
}

fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    use std::io::Read;
    let Some((file, size)) = file::open_regular(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| file::error("read", path, source))?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::TooLarge { digest: path.display().to_string(), size, limit });
    }
    Ok(Some(bytes))
}
