//! Images made byte by byte: also such as no tool would make.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An OCI layout with one image (OCI image-spec, image-layout.md).
pub struct Layout {
    pub dir: PathBuf,
    /// Digests, as `sha256:HEX`.
    pub manifest: String,
    pub layers: Vec<String>,
}

impl Layout {
    pub fn write(dir: &Path, layers: &[Vec<u8>]) -> Layout {
        fs::create_dir_all(dir.join("blobs/sha256")).expect("a layout");
        let blob = |bytes: &[u8]| {
            let digest = digest(bytes);
            fs::write(dir.join("blobs").join(digest.replace(':', "/")), bytes).expect("a blob");
            digest
        };
        let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        // Compressed here: skopeo would do so, and change the digests.
        let layers: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
        let layers: Vec<(String, usize)> = layers.iter().map(|layer| (blob(layer), layer.len())).collect();
        let config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/hello"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let config = config.to_string();
        let described: Vec<_> = layers
            .iter()
            .map(|(digest, size)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": blob(config.as_bytes()), "size": config.len(),
            },
            "layers": described,
        });
        let manifest = manifest.to_string();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": blob(manifest.as_bytes()), "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": "image"},
            }],
        });
        fs::write(dir.join("index.json"), index.to_string()).expect("an index");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("a layout");
        let layers = layers.into_iter().map(|(digest, _)| digest).collect();
        Layout { dir: dir.into(), manifest: digest(manifest.as_bytes()), layers }
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

/// A tar of files, whatever their names.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1);
        // Not by the crate's own function, which refuses what leads upward.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).expect("an entry");
    }
    builder.into_inner().expect("a tar")
}

/// Changes a file that may be read-only, in place: those who hold it by another name see it too.
pub fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("a file");
    let mut file = fs::File::options().write(true).truncate(true).open(path).expect("a file");
    file.write_all(bytes).expect("a file");
}

/// All files below a directory, by path.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.file_type().expect("a kind").is_dir() {
                true => todo.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}
