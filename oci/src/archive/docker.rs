//! docker-archive: `manifest.json` names a configuration and layers by their files; digests come from the content.
//!
//! The image gets an OCI manifest of its own, made the same way each time, so that an archive always gives the same
//! digest. Docker writes layers uncompressed; others compress them, which the diff ID tells.

use std::io;

use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use serde::{Deserialize, Serialize};

use super::intake::Intake;
use super::{ArchiveError, Imported, in_store};
use crate::digest::{self, Digest, Hasher};
use crate::layer::{Compression, Decoder};
use crate::manifest::MAX_BYTES;
use crate::store::{Store, Stored};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// An image manifest whose fields come in one order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: MediaType,
    config: Part,
    layers: Vec<Part>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

/// The images that `manifest.json` lists.
pub(super) fn images(store: &Store, intake: &Intake) -> Result<Vec<Imported>, ArchiveError> {
    let document = intake
        .document("manifest.json")
        .ok_or_else(|| ArchiveError::Unknown { what: "the archive".to_owned() })?;
    let syntax = |source| ArchiveError::Syntax { name: "manifest.json".to_owned(), source };
    let entries: Vec<Entry> = serde_json::from_slice(document).map_err(syntax)?;
    entries.iter().map(|entry| image(store, intake, entry)).collect()
}

fn image(store: &Store, intake: &Intake, entry: &Entry) -> Result<Imported, ArchiveError> {
    let find = |name: &String| intake.file(name).ok_or_else(|| ArchiveError::NoFile { name: name.clone() });
    let config = find(&entry.config)?;
    let bytes = store.read(&config.digest, MAX_BYTES).map_err(in_store(&entry.config))?;
    let parsed: ImageConfiguration = serde_json::from_slice(&bytes)
        .map_err(|source| ArchiveError::Syntax { name: entry.config.clone(), source })?;
    let files = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = parsed.rootfs().diff_ids();
    if files.len() != diff_ids.len() {
        let (layers, diff_ids) = (files.len(), diff_ids.len());
        return Err(ArchiveError::Layers { config: entry.config.clone(), layers, diff_ids });
    }
    let layer = |(name, diff_id): (&String, &String)| layer(store, name, find(name)?, diff_id);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::ImageManifest,
        config: part(MediaType::ImageConfig, config),
        layers: files.iter().zip(diff_ids).map(layer).collect::<Result<_, _>>()?,
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|source| ArchiveError::Syntax { name: "the new manifest".to_owned(), source })?;
    let stored = store.put_bytes(&bytes).map_err(in_store("the new manifest"))?;
    let tags = entry.repo_tags.iter().flatten().map(|tag| tag.parse());
    Ok(Imported {
        names: tags.collect::<Result<_, _>>().map_err(|source| ArchiveError::Tag { source })?,
        target: Descriptor::new(MediaType::ImageManifest, stored.size, stored.digest),
    })
}

/// A layer's descriptor, after its file was found to be what the configuration says.
fn layer(store: &Store, name: &str, file: &Stored, diff_id: &str) -> Result<Part, ArchiveError> {
    if file.digest.as_ref() == diff_id {
        return Ok(part(MediaType::ImageLayer, file));
    }
    let wrong = |source| ArchiveError::Name { name: name.to_owned(), source };
    let expected = digest::parse(diff_id).map_err(wrong)?;
    let decompress = |source| ArchiveError::Decompress { name: name.to_owned(), source };
    let mut blob = store.open_verified(&file.digest, Some(file.size)).map_err(in_store(name))?;
    let compression = {
        use io::{Read, Seek};
        let mut start = Vec::new();
        blob.by_ref().take(6).read_to_end(&mut start).map_err(decompress)?;
        blob.rewind().map_err(decompress)?;
        Compression::sniff(&start)
    };
    let media_type = match compression {
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
        Compression::None | Compression::Xz => {
            let (name, expected, found) = (name.to_owned(), diff_id.to_owned(), file.digest.clone());
            return Err(ArchiveError::Layer { name, expected, found });
        }
    };
    let decoder = Decoder::new(blob, Some(compression)).map_err(decompress)?;
    let mut sum = Sum(Hasher::new(digest::algorithm(&expected).map_err(wrong)?));
    let mut decoder = decoder;
    io::copy(&mut decoder, &mut sum).map_err(decompress)?;
    let found = sum.0.finish();
    if found != expected {
        let (name, expected) = (name.to_owned(), diff_id.to_owned());
        return Err(ArchiveError::Layer { name, expected, found });
    }
    Ok(part(media_type, file))
}

fn part(media_type: MediaType, stored: &Stored) -> Part {
    Part { media_type, digest: stored.digest.clone(), size: stored.size }
}

/// Hashes what is written to it.
struct Sum(Hasher);

impl io::Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
