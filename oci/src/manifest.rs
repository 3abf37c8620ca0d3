//! Manifests and indexes: parsed once, at the edge, with bounds.
//!
//! What a registry or an archive says about its own documents is not believed: the body decides what a document is, the
//! declared media type must agree with it, and a document that could be read as either an image or an index is refused
//! (the ambiguity of CVE-2021-41190). Every digest in a parsed document is of a known algorithm.

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use thiserror::Error;

use crate::digest::{self, DigestError};

/// The largest manifest, index or image configuration that is read, in bytes. Registries refuse to store larger ones
/// (distribution-spec, "Pushing Manifests": at least 4 MiB should be supported).
pub const MAX_BYTES: u64 = 4 << 20;

/// How many indexes may lie inside one another.
pub const MAX_DEPTH: usize = 4;

/// Docker's names for what the image-spec describes.
pub mod docker {
    /// An image manifest, version 2, schema 2.
    pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A manifest list.
    pub const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An image configuration.
    pub const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A gzip compressed layer.
    pub const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// An uncompressed layer, as `docker save` writes it.
    pub const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// A parsed document.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// A choice of images.
    Index(Box<ImageIndex>),
}

/// A document that is not taken.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Longer than [`MAX_BYTES`].
    #[error("a manifest of {size} bytes (at most {MAX_BYTES} are read)")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Not the JSON of a manifest or an index.
    #[error("the manifest cannot be read")]
    Syntax {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Docker's first schema, which has no digests for its configuration.
    #[error(
        "docker manifest schema 1 is not supported; the image must be pushed again by a docker of 2017 or later"
    )]
    Schema1,
    /// Another schema version than 2.
    #[error("manifest schema version {version} (want 2)")]
    Version {
        /// What it says.
        version: u64,
    },
    /// Neither an image nor an index, or both.
    #[error("the manifest is {what} (want `config` and `layers`, or `manifests`)")]
    Ambiguous {
        /// What it is instead.
        what: &'static str,
    },
    /// The declared media type and the body do not agree.
    #[error("the manifest is declared {declared} and is {found}")]
    MediaType {
        /// What was declared.
        declared: String,
        /// What the body is.
        found: String,
    },
    /// A digest in it is not usable.
    #[error("the manifest names an unusable digest")]
    Digest {
        /// Which, and why.
        #[source]
        source: DigestError,
    },
}

/// The media types of manifests and indexes that are asked for, best first.
pub fn accepted() -> [&'static str; 4] {
    [
        "application/vnd.oci.image.index.v1+json",
        docker::LIST,
        "application/vnd.oci.image.manifest.v1+json",
        docker::MANIFEST,
    ]
}

/// Whether a media type is that of an index or of docker's manifest list.
pub fn is_index(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageIndex) || media_type.as_ref() == docker::LIST
}

/// Whether a media type is that of an image manifest, OCI's or docker's.
pub fn is_image(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageManifest) || media_type.as_ref() == docker::MANIFEST
}

/// Whether a media type is that of an image configuration, OCI's or docker's.
pub fn is_config(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageConfig) || media_type.as_ref() == docker::CONFIG
}

/// The fields that decide what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Parses a manifest or an index. `declared` is the media type of its descriptor or of the response that carried it.
/// Returns the document with its media type, which is the declared one, else the body's own, else OCI's.
///
/// # Errors
/// [`ManifestError`].
pub fn parse(bytes: &[u8], declared: Option<&MediaType>) -> Result<(Document, MediaType), ManifestError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ManifestError::TooLarge { size: bytes.len() as u64 });
    }
    let outline: Outline =
        serde_json::from_slice(bytes).map_err(|source| ManifestError::Syntax { source })?;
    let schema1 =
        declared.is_some_and(|declared| declared.as_ref().contains("docker.distribution.manifest.v1+"));
    if schema1 || outline.fs_layers.is_some() || outline.schema_version == Some(1) {
        return Err(ManifestError::Schema1);
    }
    match outline.schema_version {
        Some(2) => {}
        version => return Err(ManifestError::Version { version: version.unwrap_or(0) }),
    }
    let image = match (outline.config.is_some() || outline.layers.is_some(), outline.manifests.is_some()) {
        (true, false) => true,
        (false, true) => false,
        (true, true) => return Err(ManifestError::Ambiguous { what: "both an image and an index" }),
        (false, false) => return Err(ManifestError::Ambiguous { what: "neither an image nor an index" }),
    };
    let media_type = agree(image, declared, outline.media_type.as_deref())?;
    let document = if image {
        Document::Image(serde_json::from_slice(bytes).map_err(|source| ManifestError::Syntax { source })?)
    } else {
        Document::Index(serde_json::from_slice(bytes).map_err(|source| ManifestError::Syntax { source })?)
    };
    for descriptor in document.children() {
        digest::algorithm(descriptor.digest()).map_err(|source| ManifestError::Digest { source })?;
    }
    Ok((document, media_type))
}

/// The one media type that the declaration, the body's own field and the body's shape allow.
fn agree(image: bool, declared: Option<&MediaType>, own: Option<&str>) -> Result<MediaType, ManifestError> {
    let own = own.map(MediaType::from);
    let found = match &own {
        Some(own) => own.clone(),
        None if image => MediaType::ImageManifest,
        None => MediaType::ImageIndex,
    };
    let fits = |media_type: &MediaType| if image { is_image(media_type) } else { is_index(media_type) };
    let disagree = |declared: &MediaType| ManifestError::MediaType {
        declared: declared.to_string(),
        found: match &own {
            Some(own) => own.to_string(),
            None => (if image { "an image manifest" } else { "an index" }).to_owned(),
        },
    };
    if !fits(&found) {
        return Err(ManifestError::MediaType {
            declared: found.to_string(),
            found: (if image { "an image manifest" } else { "an index" }).to_owned(),
        });
    }
    match declared {
        None => Ok(found),
        Some(declared) if fits(declared) && own.as_ref().is_none_or(|own| own == declared) => {
            Ok(declared.clone())
        }
        Some(declared) => Err(disagree(declared)),
    }
}

impl Document {
    /// Everything that the document points at: configuration and layers in order, or manifests.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Document::Image(image) => std::iter::once(image.config()).chain(image.layers()).collect(),
            Document::Index(index) => index.manifests().iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "size": 3, "digest": digest::of(b"abc").to_string()})
    }

    fn image() -> Value {
        json!({"schemaVersion": 2, "config": descriptor(docker::CONFIG), "layers": [descriptor(docker::LAYER_GZIP)]})
    }

    fn index() -> Value {
        json!({"schemaVersion": 2, "manifests": [descriptor(docker::MANIFEST)]})
    }

    fn parsed(value: &Value, declared: Option<&str>) -> Result<(Document, MediaType), ManifestError> {
        parse(value.to_string().as_bytes(), declared.map(MediaType::from).as_ref())
    }

    #[test]
    fn the_body_decides_what_a_document_is() {
        let (document, media_type) = parsed(&image(), None).unwrap();
        assert!(matches!(document, Document::Image(_)) && is_image(&media_type));
        assert_eq!(document.children().len(), 2);
        let (document, media_type) = parsed(&index(), Some(docker::LIST)).unwrap();
        assert!(matches!(document, Document::Index(_)) && media_type.as_ref() == docker::LIST);
    }

    #[test]
    fn a_declared_media_type_must_agree_with_the_body() {
        assert!(matches!(parsed(&image(), Some(docker::LIST)), Err(ManifestError::MediaType { .. })));
        assert!(matches!(parsed(&index(), Some(docker::MANIFEST)), Err(ManifestError::MediaType { .. })));
        assert!(matches!(parsed(&index(), Some("application/json")), Err(ManifestError::MediaType { .. })));
        let mut lying = image();
        lying["mediaType"] = docker::LIST.into();
        assert!(matches!(parsed(&lying, None), Err(ManifestError::MediaType { .. })));
        assert!(matches!(parsed(&lying, Some(docker::MANIFEST)), Err(ManifestError::MediaType { .. })));
    }

    #[test]
    fn documents_that_can_be_read_in_two_ways_are_refused() {
        let mut both = image();
        both["manifests"] = json!([]);
        assert!(matches!(parsed(&both, None), Err(ManifestError::Ambiguous { .. })));
        assert!(matches!(parsed(&json!({"schemaVersion": 2}), None), Err(ManifestError::Ambiguous { .. })));
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        for (body, declared) in [
            (json!({"schemaVersion": 1, "fsLayers": []}), None),
            (json!({"schemaVersion": 1}), Some("application/vnd.docker.distribution.manifest.v1+prettyjws")),
            (image(), Some("application/vnd.docker.distribution.manifest.v1+json")),
        ] {
            assert!(matches!(parsed(&body, declared), Err(ManifestError::Schema1)));
        }
        assert!(matches!(
            parsed(&json!({"manifests": []}), None),
            Err(ManifestError::Version { version: 0 })
        ));
    }

    #[test]
    fn unknown_digest_algorithms_are_refused() {
        let mut odd = image();
        odd["layers"][0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e".into();
        assert!(matches!(parsed(&odd, None), Err(ManifestError::Digest { .. })));
    }

    #[test]
    fn a_huge_document_is_refused_unread() {
        let huge = vec![b' '; MAX_BYTES as usize + 1];
        assert!(matches!(parse(&huge, None), Err(ManifestError::TooLarge { size }) if size == MAX_BYTES + 1));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            at in 0usize..300, byte in any::<u8>(), cut in 0usize..300, which in any::<bool>(),
        ) {
            let mut bytes = if which { image() } else { index() }.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = parse(&bytes, None);
        }
    }
}
