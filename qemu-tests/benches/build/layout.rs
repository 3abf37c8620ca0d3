//! An OCI layout, written image by image (OCI image-spec, image-layout.md).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The time of everything that is generated, in seconds since 1970.
const TIME: u64 = 1_492_533_000;

/// A layout that is being written.
pub struct Layout {
    dir: PathBuf,
    images: RefCell<Vec<Value>>,
}

/// A layer that is in the layout.
#[derive(Clone)]
pub struct Layer {
    descriptor: Value,
    diff_id: String,
}

impl Layout {
    /// Begins one in a directory.
    pub fn create(dir: &Path) -> io::Result<Layout> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        Ok(Layout { dir: dir.to_owned(), images: RefCell::default() })
    }

    /// Begins a layer.
    pub fn layer(&self) -> io::Result<LayerWriter<'_>> {
        let path = self.dir.join("layer.partial");
        let blob = Hashed::new(BufWriter::new(File::create(&path)?));
        let gzip = flate2::write::GzEncoder::new(blob, flate2::Compression::default());
        Ok(LayerWriter { layout: self, path, tar: tar::Builder::new(Hashed::new(gzip)) })
    }

    /// Puts an image together: an index with one manifest.
    pub fn image(&self, name: &str, layers: &[Layer]) -> io::Result<()> {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", &config)?;
        let layers: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut manifest = self.blob(MANIFEST, &manifest)?;
        manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        let mut index = self.blob(INDEX, &index)?;
        let name = format!("docker.io/bench/{name}:1");
        index["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
        self.images.borrow_mut().push(index);
        Ok(())
    }

    /// Writes the index of all images.
    pub fn finish(&self) -> io::Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": *self.images.borrow()});
        fs::write(self.dir.join("index.json"), index.to_string())?;
        fs::write(self.dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn blob(&self, media_type: &str, value: &Value) -> io::Result<Value> {
        let text = value.to_string();
        let hex = hex(Sha256::digest(&text).as_slice());
        fs::write(self.dir.join("blobs/sha256").join(&hex), &text)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": text.len()}))
    }
}

/// A layer that is being written.
pub struct LayerWriter<'a> {
    layout: &'a Layout,
    path: PathBuf,
    tar: tar::Builder<Tar>,
}

type Tar = Hashed<flate2::write::GzEncoder<Hashed<BufWriter<File>>>>;

impl LayerWriter<'_> {
    /// Its tar.
    pub fn tar(&mut self) -> &mut tar::Builder<impl Write + use<>> {
        &mut self.tar
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), Box<dyn Error>> {
        let mut header = header(tar::EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        Ok(append(&mut self.tar, &header, Path::new(path), None, content)?)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), Box<dyn Error>> {
        let header = header(tar::EntryType::Symlink, 0o777);
        Ok(append(&mut self.tar, &header, Path::new(path), Some(Path::new(target)), &[])?)
    }

    /// Puts it into the layout.
    pub fn finish(self) -> Result<Layer, Box<dyn Error>> {
        let tar = self.tar.into_inner()?;
        let diff_id = format!("sha256:{}", hex(tar.hash.finalize().as_slice()));
        let blob = tar.inner.finish()?;
        let (digest, size) = (hex(blob.hash.finalize().as_slice()), blob.len);
        blob.inner.into_inner()?.sync_all()?;
        fs::rename(self.path, self.layout.dir.join("blobs/sha256").join(&digest))?;
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digest}"), "size": size,
        });
        Ok(Layer { descriptor, diff_id })
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Adds an entry under another path.
pub fn append(
    tar: &mut tar::Builder<impl Write>,
    header: &tar::Header,
    path: &Path,
    link: Option<&Path>,
    content: &[u8],
) -> io::Result<()> {
    // In GNU's form, which has room for long names.
    let mut own = tar::Header::new_gnu();
    own.set_entry_type(header.entry_type());
    own.set_mode(header.mode()?);
    own.set_uid(header.uid()?);
    own.set_gid(header.gid()?);
    own.set_mtime(header.mtime()?);
    own.set_size(content.len() as u64);
    match link {
        Some(link) => tar.append_link(&mut own, path, link),
        None => tar.append_data(&mut own, path, content),
    }
}

/// Counts and hashes what passes through.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    len: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Hashed { inner, hash: Sha256::new(), len: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
