//! Images as a registry keeps them: documents by tag and digest, blobs by digest.

use std::collections::BTreeMap;

use kit_oci::digest;
use serde_json::{Value, json};

use super::{Answer, Seen};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The layers of an image, lowest first. They need not be archives: nobody unpacks them here.
pub type Layers<'a> = &'a [&'a [u8]];

#[derive(Clone, Default)]
pub struct Content {
    /// By tag and by digest: media type and bytes.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub blobs: BTreeMap<String, Vec<u8>>,
}

pub fn hex(bytes: &[u8]) -> String {
    digest::of(bytes).digest().to_owned()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest::of(bytes), "size": bytes.len()})
}

impl Content {
    /// One image under a tag.
    pub fn image(tag: &str, layers: Layers) -> Content {
        let mut content = Content::default();
        content.add_image(tag, "linux/amd64", layers);
        content
    }

    /// Adds an image under a tag; returns its descriptor with its platform, for an index.
    pub fn add_image(&mut self, tag: &str, platform: &str, layers: Layers) -> Value {
        let mut parts = platform.split('/');
        let mut platform = json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            platform["variant"] = variant.into();
        }
        let mut config = platform.clone();
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest::of(layer)).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        config["config"] = json!({"Env": ["A=b"], "Cmd": ["/bin/x"]});
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(LAYER, layer)).collect::<Vec<_>>(),
        });
        for blob in std::iter::once(&config[..]).chain(layers.iter().copied()) {
            self.blobs.insert(digest::of(blob).to_string(), blob.to_vec());
        }
        let mut entry = self.add_manifest(tag, MANIFEST, &manifest);
        entry["platform"] = platform;
        entry
    }

    /// Adds an index under a tag; returns its descriptor.
    pub fn add_index(&mut self, tag: &str, media_type: &str, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        self.add_manifest(tag, media_type, &index)
    }

    /// Adds any document under a tag and its digest; returns its descriptor.
    pub fn add_manifest(&mut self, tag: &str, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        for name in [tag.to_owned(), digest::of(&bytes).to_string()] {
            self.manifests.insert(name, (media_type.to_owned(), bytes.clone()));
        }
        descriptor(media_type, &bytes)
    }

    /// What a well behaved registry answers.
    pub fn answer(&self, seen: &Seen) -> Answer {
        if seen.path == "/v2/" {
            return Answer::status(200);
        }
        if let Some((_, name)) = seen.path.split_once("/manifests/") {
            let Some((media_type, bytes)) = self.manifests.get(name) else { return Answer::not_found() };
            return Answer::bytes(bytes.clone())
                .header("content-type", media_type)
                .header("docker-content-digest", digest::of(bytes).as_ref());
        }
        let Some((_, name)) = seen.path.split_once("/blobs/") else { return Answer::not_found() };
        let Some(blob) = self.blobs.get(name) else { return Answer::not_found() };
        match seen.range() {
            None => Answer::bytes(blob.clone()),
            Some(from) if from < blob.len() => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Answer::bytes(blob[from..].to_vec()).with_status(206).header("content-range", &range)
            }
            Some(_) => Answer::status(416),
        }
    }
}
