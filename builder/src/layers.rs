//! Layers, unpacked once: what a blob changes in a tree, and its files' contents compressed as squashfs blocks.
//!
//! ```text
//! blob (gzip, zstd, xz ..) ──verified, read once──▶ changes + pack ──kept in the cache──▶ every later build
//! ```
//!
//! What is kept is derived, so it is only as good as the blob it came from: beside it stands which file on disk that
//! was (its inode, size and time of change). A blob that was touched since is hashed again before its layer is used;
//! a pack checks each of its own blocks when it is read.

use crate::contents::{Blob, Contents};
use crate::report::Transfer;
use crate::source::ar::{ArError, Members};
use crate::temporary::Draft;
use kit_disk::squashfs::Settings;
use kit_disk::squashfs::pack::{Donors, FileRef, Pack, PackError, PackIndex, PackWriter};
use kit_oci::digest::Digest;
use kit_oci::layer::{Layer, LayerError, Options};
use kit_oci::store::{Store, StoreError};
use kit_spec::tree::{Action, Change, Kind, TreePath};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod meter;
mod whole;

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A layer of an OCI image: a tar, plain or compressed.
    Oci,
    /// A Debian package.
    Deb,
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The blob is missing or not what its digest says.
    #[error("read layer {digest}")]
    Store {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The archive is damaged or leads out of its root.
    #[error("unpack layer {digest}")]
    Layer {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The package is damaged.
    #[error("unpack package {digest}")]
    Package {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: ArError,
    },
    /// Its contents cannot be kept.
    #[error("keep the contents of layer {digest}")]
    Pack {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<PackError>,
    },
    /// The cache cannot be written.
    #[error("{doing} {path}")]
    Cache {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A package has no `data.tar`.
    #[error("package {digest} holds no data.tar")]
    NoData {
        /// The blob.
        digest: Digest,
    },
}

/// The cache of unpacked layers, and the contents of those that this build has used.
pub struct Layers<'a> {
    store: &'a Store,
    dir: PathBuf,
    settings: Settings,
    threads: usize,
    /// The contents of every layer used so far.
    pub contents: Contents,
    packing: Option<Transfer<'a>>,
    used: HashMap<Digest, Arc<Unpacked>>,
}

/// A layer.
#[derive(Debug)]
pub struct Unpacked {
    /// The number of its pack.
    pub pack: u32,
    changes: Vec<Change<FileRef>>,
    /// A package's control file.
    pub control: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    stamp: Stamp,
    changes: Vec<Change<FileRef>>,
    control: Option<String>,
    index: Vec<u8>,
}

/// Which file a blob was when it was last hashed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

const MAX_CONTROL: u64 = 1 << 20;

impl<'a> Layers<'a> {
    /// Over a store, with what is derived kept below `dir`.
    pub fn new(store: &'a Store, dir: &Path, settings: Settings, threads: usize) -> Self {
        let dir = dir.join(settings.key());
        let (contents, used) = (Contents::default(), HashMap::new());
        Layers { store, dir, settings, threads, contents, packing: None, used }
    }

    /// What a blob changes.
    ///
    /// # Errors
    /// See [`LayersError`].
    pub fn changes(
        &mut self,
        digest: &Digest,
        size: u64,
        form: Form,
    ) -> Result<Vec<Change<Blob>>, LayersError> {
        let unpacked = self.unpacked(digest, size, form)?;
        let blob = |file| Blob::Packed(unpacked.pack, file);
        let changes = unpacked.changes.iter().map(|change| Change {
            path: change.path.clone(),
            action: match &change.action {
                Action::Put(meta, kind) => Action::Put(meta.clone(), with(kind, blob)),
                Action::Link(target) => Action::Link(target.clone()),
                Action::Remove => Action::Remove,
                Action::Opaque => Action::Opaque,
            },
        });
        Ok(changes.collect())
    }

    /// A blob's layer, from the cache if it is there.
    ///
    /// # Errors
    /// See [`LayersError`].
    pub fn unpacked(&mut self, digest: &Digest, size: u64, form: Form) -> Result<Arc<Unpacked>, LayersError> {
        if let Some(unpacked) = self.used.get(digest) {
            return Ok(unpacked.clone());
        }
        let (kept, pack) = match self.load(digest, size)? {
            Some(found) => found,
            None => {
                // Taken before reading: a change while it is read shows next time.
                let stamp = self.stamp(digest)?;
                self.make(digest, stamp, |pack| self.read(digest, size, form, pack))?
            }
        };
        Ok(self.insert(digest, kept, pack))
    }

    fn insert(&mut self, digest: &Digest, kept: Kept, pack: Pack) -> Arc<Unpacked> {
        let pack = self.contents.add(pack);
        let unpacked = Arc::new(Unpacked { pack, changes: kept.changes, control: kept.control });
        self.used.insert(digest.clone(), unpacked.clone());
        unpacked
    }

    /// What a tar changes that is itself a file of an image; kept by what its bytes are.
    ///
    /// # Errors
    /// See [`LayersError`].
    pub fn nested(&mut self, blob: &Blob) -> Result<Vec<Change<Blob>>, LayersError> {
        let identity = self.contents.identity(blob);
        let digest = kit_oci::digest::of(&identity);
        if !self.used.contains_key(&digest) {
            let (kept, pack) = match self.open(&digest) {
                Some(found) => found,
                None => {
                    let opened = self.contents.open(blob);
                    let mut tar = opened.map_err(|source| LayersError::Cache {
                        doing: "read a tar inside",
                        path: self.dir.clone(),
                        source,
                    })?;
                    let unstamped = Stamp { inode: 0, size: 0, changed: (0, 0) };
                    self.make(&digest, unstamped, |pack| {
                        read_layer(&mut tar, &digest, plain(), pack).map(|changes| (changes, None))
                    })?
                }
            };
            self.insert(&digest, kept, pack);
        }
        self.changes(&digest, 0, Form::Oci)
    }

    /// A layer in the cache, its blob unchanged or hashed again.
    fn load(&self, digest: &Digest, size: u64) -> Result<Option<(Kept, Pack)>, LayersError> {
        let stamp = self.stamp(digest)?;
        let Some((mut kept, pack)) = self.open(digest) else { return Ok(None) };
        if stamp != kept.stamp {
            let verified = self.store.open_verified(digest, Some(size));
            verified
                .map_err(|source| LayersError::Store { digest: digest.clone(), source: Box::new(source) })?;
            kept.stamp = stamp;
            self.keep(&self.paths(digest).1, &kept)?;
        }
        Ok(Some((kept, pack)))
    }

    /// A layer in the cache; one that is torn or of other rules is made anew.
    fn open(&self, digest: &Digest) -> Option<(Kept, Pack)> {
        let (pack, kept) = self.paths(digest);
        let kept = decode(&fs::read(&kept).ok()?)?;
        let index = PackIndex::from_bytes(&kept.index).ok()?;
        Some((kept, Pack::open(&pack, index).ok()?))
    }

    fn make(
        &self,
        digest: &Digest,
        stamp: Stamp,
        read: impl FnOnce(&mut PackWriter) -> Result<(Vec<Change<FileRef>>, Option<String>), LayersError>,
    ) -> Result<(Kept, Pack), LayersError> {
        let (pack_at, kept_at) = self.paths(digest);
        let cache = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| LayersError::Cache { doing, path, source }
        };
        fs::create_dir_all(&self.dir).map_err(cache("create directory", &self.dir))?;
        let mut draft = Draft::new(&self.dir, "pack").map_err(cache("create", &pack_at))?;
        let file = draft.file().try_clone().map_err(cache("create", &pack_at))?;
        let failed = |source| LayersError::Pack { digest: digest.clone(), source: Box::new(source) };
        let donors = Arc::<Donors>::default();
        let mut pack =
            PackWriter::over(file, &pack_at, self.settings, self.threads, donors).map_err(failed)?;
        let (changes, control) = read(&mut pack)?;
        let index = pack.finish().map_err(failed)?.index().clone();
        draft.publish(&pack_at).map_err(cache("put in place", &pack_at))?;
        let kept = Kept { stamp, changes, control, index: index.to_bytes() };
        self.keep(&kept_at, &kept)?;
        Ok((kept, Pack::open(&pack_at, index).map_err(failed)?))
    }

    /// Reads the blob once, to its end, and gives up everything if its digest is wrong.
    fn read(
        &self,
        digest: &Digest,
        size: u64,
        form: Form,
        pack: &mut PackWriter,
    ) -> Result<(Vec<Change<FileRef>>, Option<String>), LayersError> {
        let store_error = |source| LayersError::Store { digest: digest.clone(), source: Box::new(source) };
        let blob = self.store.stream_verified(digest, Some(size)).map_err(store_error)?;
        let mut blob = meter::Metered { inner: blob, tell: self.packing.as_ref() };
        let result = match form {
            Form::Oci => {
                read_layer(&mut blob, digest, Options::default(), pack).map(|changes| (changes, None))
            }
            Form::Deb => read_package(&mut blob, digest, pack),
        };
        // If the bytes are not what the digest says, that is the reason for whatever else went wrong.
        match blob.inner.finish() {
            Ok(_) => result,
            Err(error) => Err(store_error(self.store.read_error(digest, error))),
        }
    }

    fn keep(&self, path: &Path, kept: &Kept) -> Result<(), LayersError> {
        let write = || {
            let mut draft = Draft::new(&self.dir, "layer")?;
            draft.file().write_all(&encode(kept))?;
            draft.publish(path)
        };
        write().map_err(|source| LayersError::Cache { doing: "write", path: path.into(), source })
    }

    fn paths(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        let name = digest.to_string().replace(':', "-");
        (self.dir.join(format!("{name}.pack")), self.dir.join(format!("{name}.layer")))
    }

    fn stamp(&self, digest: &Digest) -> Result<Stamp, LayersError> {
        let path = self.store.path().join("blobs").join(digest.to_string().replace(':', "/"));
        match fs::metadata(&path) {
            Ok(meta) => {
                Ok(Stamp { inode: meta.ino(), size: meta.size(), changed: (meta.ctime(), meta.ctime_nsec()) })
            }
            Err(source) => Err(LayersError::Cache { doing: "look at", path, source }),
        }
    }
}

/// An archive that is no layer: a name with `.wh.` before it is a name.
fn plain() -> Options {
    Options { whiteouts: false, ..Options::default() }
}

fn read_layer(
    blob: &mut dyn Read,
    digest: &Digest,
    options: Options,
    pack: &mut PackWriter,
) -> Result<Vec<Change<FileRef>>, LayersError> {
    let failed = |source| LayersError::Layer { digest: digest.clone(), source };
    let layer = Layer::with_options(blob, None, options).map_err(failed)?;
    let mut pack_error = None;
    let store = |_: &TreePath, len: u64, content: &mut dyn Read| {
        pack.add(len, content).map_err(|error| {
            let text = error.to_string();
            pack_error = Some(error);
            io::Error::other(text)
        })
    };
    match kit_oci::layer::changes(layer, store) {
        Ok((changes, _)) => Ok(changes),
        Err(source) => Err(match pack_error {
            // The writer's own trouble (a full disk), not the archive's.
            Some(error) if !matches!(error, PackError::Content { .. }) => {
                LayersError::Pack { digest: digest.clone(), source: Box::new(error) }
            }
            _ => failed(source),
        }),
    }
}

fn read_package(
    blob: &mut dyn Read,
    digest: &Digest,
    pack: &mut PackWriter,
) -> Result<(Vec<Change<FileRef>>, Option<String>), LayersError> {
    let failed = |source| LayersError::Package { digest: digest.clone(), source };
    let mut members = Members::new(blob);
    let mut changes = None;
    let mut control = None;
    while let Some((name, mut bytes)) = members.next_member().map_err(failed)? {
        if name.starts_with("control.tar") {
            control = read_control(&mut bytes);
        } else if name.starts_with("data.tar") {
            changes = Some(read_layer(&mut bytes, digest, plain(), pack)?);
        }
        io::copy(&mut bytes, &mut io::sink()).map_err(|source| failed(ArError::Read(source)))?;
    }
    let changes = changes.ok_or_else(|| LayersError::NoData { digest: digest.clone() })?;
    Ok((changes, control))
}

fn read_control(archive: &mut dyn Read) -> Option<String> {
    let layer = Layer::open(archive, None).ok()?;
    let store = |path: &TreePath, _: u64, content: &mut dyn Read| {
        let mut text = String::new();
        if path.as_bytes() == b"control" {
            content.take(MAX_CONTROL).read_to_string(&mut text)?;
        } else {
            io::copy(content, &mut io::sink())?;
        }
        Ok(text)
    };
    let (changes, _) = kit_oci::layer::changes(layer, store).ok()?;
    changes.into_iter().find_map(|change| match change.action {
        Action::Put(_, Kind::File { content, .. }) if change.path.as_bytes() == b"control" => Some(content),
        _ => None,
    })
}

fn with<C: Copy, D>(kind: &Kind<C>, f: impl FnOnce(C) -> D) -> Kind<D> {
    match kind {
        Kind::File { len, content } => Kind::File { len: *len, content: f(*content) },
        Kind::Dir => Kind::Dir,
        Kind::Symlink(target) => Kind::Symlink(target.clone()),
        Kind::Char(device) => Kind::Char(*device),
        Kind::Block(device) => Kind::Block(*device),
        Kind::Fifo => Kind::Fifo,
        Kind::Socket => Kind::Socket,
    }
}

/// The kept part of a layer, with a checksum in front.
fn encode(kept: &Kept) -> Vec<u8> {
    let body = postcard::to_stdvec(kept).unwrap_or_default();
    [blake3::hash(&body).as_bytes().as_slice(), &body].concat()
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let (sum, body) = bytes.split_at_checked(32)?;
    (blake3::hash(body).as_bytes() == sum).then_some(())?;
    postcard::from_bytes(body).ok()
}
