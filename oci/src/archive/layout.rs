//! The index of an OCI image layout, in an archive or a directory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::OFlags;

use super::{ArchiveError, Bring, Imported, complete, in_store, is_document};
use crate::digest;
use crate::manifest::{MAX_BYTES, MAX_DEPTH};
use crate::store::{Store, is_layout, reference_in};

/// The images of a layout, each complete in the store once `bring` was asked for its blobs.
pub(super) fn images(
    store: &Store,
    header: &[u8],
    index: Option<&[u8]>,
    what: &str,
    bring: Bring,
) -> Result<Vec<Imported>, ArchiveError> {
    if !is_layout(header) {
        return Err(ArchiveError::Version);
    }
    let index = index.ok_or_else(|| ArchiveError::Unknown { what: what.to_owned() })?;
    let index: ImageIndex = serde_json::from_slice(index)
        .map_err(|source| ArchiveError::Syntax { name: "index.json".to_owned(), source })?;
    // One entry may stand for several names, and is then there several times.
    let mut images: BTreeMap<String, Imported> = BTreeMap::new();
    for entry in index.manifests().iter().filter(|entry| is_document(entry)) {
        digest::algorithm(entry.digest())
            .map_err(|source| ArchiveError::Name { name: "index.json".to_owned(), source })?;
        complete(store, entry, bring, MAX_DEPTH)?;
        let annotations = entry.annotations().as_ref();
        let name = reference_in(|key| annotations.and_then(|all| all.get(key)).map(String::as_str));
        let target = Descriptor::new(entry.media_type().clone(), entry.size(), entry.digest().clone());
        let image = images
            .entry(entry.digest().to_string())
            .or_insert_with(|| Imported { names: Vec::new(), target });
        image.names.extend(name.filter(|name| !image.names.contains(name)));
    }
    Ok(images.into_values().collect())
}

/// The images of a layout directory, brought into the store.
pub(super) fn of_directory(store: &Store, directory: &Path) -> Result<Vec<Imported>, ArchiveError> {
    let unknown = || ArchiveError::Unknown { what: directory.display().to_string() };
    let header = document(&directory.join("oci-layout"))?.ok_or_else(unknown)?;
    let index = document(&directory.join("index.json"))?;
    let bring = |at: &Descriptor| {
        let name = at.digest().to_string();
        if store.has(at.digest()).map_err(in_store(&name))? {
            return Ok(true);
        }
        let algorithm = digest::algorithm(at.digest())
            .map_err(|source| ArchiveError::Name { name: name.clone(), source })?;
        let path = directory.join("blobs").join(algorithm.name()).join(at.digest().digest());
        let Some(file) = open(&path)? else { return Ok(false) };
        store.put_stream(file, at.digest(), Some(at.size())).map_err(in_store(&name))?;
        Ok(true)
    };
    images(store, &header, index.as_deref(), &directory.display().to_string(), &bring)
}

fn document(path: &Path) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ArchiveError::TooLarge { name: path.display().to_string(), size: bytes.len() as u64 });
    }
    Ok(Some(bytes))
}

/// Opens a regular file; a link is not followed, so that a layout cannot make us read something else.
fn open(path: &Path) -> Result<Option<File>, ArchiveError> {
    let read = |source| ArchiveError::Read { path: path.to_owned(), source };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read(source)),
    };
    if !file.metadata().map_err(read)?.is_file() {
        return Err(read(io::ErrorKind::InvalidInput.into()));
    }
    Ok(Some(file))
}
