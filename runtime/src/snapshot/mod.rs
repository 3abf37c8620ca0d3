//! Snapshots: root file systems of containers, as overlays over unpacked layers.
//!
//! ```text
//! ROOT/
//!   lock                        shared by who makes a snapshot, exclusive while layers are chosen for removal
//!   layers/sha256-HEX/          a layer, unpacked by kit_oci::layer::unpack; named by its diff ID; never changed
//!   snapshots/ID/record.json    which layers, and whether it can be written to
//!   snapshots/ID/upper, work/   what its container wrote, and what overlayfs wants beside
//!   empty/0, empty/1            the lowest layers of who has too few
//!   trash/                      what is being removed
//!   */.part-PID-N               not finished, or no longer wanted
//! ```
//!
//! A layer is there once for all images that have it. Who needs it is found out by reading all records: there is no
//! count that could be wrong after a crash. [`Store::sweep`] removes the rest, but for what its caller still wants, which
//! is asked for while nobody can make a snapshot.
//!
//! Guarantees:
//! - what has its name is whole: layers are synced before they are renamed into place, records too,
//! - a crash at any instant leaves whole snapshots and layers, and `.part-` directories that the next sweep removes,
//! - a snapshot that was made keeps its layers until it is removed, whoever sweeps meanwhile,
//! - what a container wrote is removed and measured however deep it nests ([`kit_oci::layer::unpack::discard`]).
//!
//! All of it blocks; any number of threads and processes may use one store.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kit_oci::digest::{self, Digest, Verifying};
use kit_oci::layer::unpack::{self, Unpacked};
use kit_oci::pull::ImageLayer;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

mod error;
mod overlay;
mod record;
#[cfg(test)]
mod tests;
mod usage;

pub use error::Error;
pub use overlay::{Overlay, Upper};
pub use record::{Kind, Record};
pub use usage::Usage;

/// Layers that one overlay can have (Linux fs/overlayfs, `OVL_MAX_STACK`), without the empty one.
pub const MAX_LAYERS: usize = 499;

/// Bytes that a snapshot's name can have.
const MAX_ID: usize = 200;

/// A directory of layers and snapshots. Cheap to open.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Layers that nobody needs.
    pub layers: Vec<Digest>,
    /// Layers and snapshots that were never finished, and what was in the trash.
    pub unfinished: u64,
}

impl Store {
    /// Opens the store in `root`, making it, for root alone, if there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, Error> {
        let store = Store { root: root.into() };
        for name in ["layers", "snapshots", "empty", "trash"] {
            let path = store.root.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(io_error("create", &path))?;
        }
        for empty in store.empty() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&empty);
            made.map_err(io_error("create", &empty))?;
        }
        Ok(store)
    }

    /// Whether overlays can be mounted over this store.
    ///
    /// # Errors
    /// [`Error::Unsupported`] says what is missing; [`Error::Io`].
    pub fn check(&self) -> Result<(), Error> {
        let probe = self.root.join("trash").join(unpack::temporary_name());
        let checked = overlay::probe(&self.root, &probe);
        let removed = unpack::discard(rustix::fs::CWD, probe.as_path());
        checked.and(removed.map_err(io_error("remove", &probe)))
    }

    /// Whether a layer is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has(&self, diff_id: &Digest) -> Result<bool, Error> {
        let path = self.layer(diff_id);
        path.try_exists().map_err(io_error("look at", &path))
    }

    /// Unpacks a layer; one that is there already is fine, and then nothing is read (none).
    ///
    /// # Errors
    /// [`Error::Unpack`], [`Error::Io`]. Nothing is left then.
    pub fn unpack<R: Read + Send + 'static>(
        &self,
        blob: Verifying<R>,
        diff_id: &Digest,
        options: &unpack::Options,
    ) -> Result<Option<Unpacked>, Error> {
        if self.has(diff_id)? {
            return Ok(None);
        }
        unpack::unpack(blob, diff_id, &self.layer(diff_id), options).map(Some).map_err(Error::Unpack)
    }

    /// Unpacks those layers of an image that are not there, `threads` at a time. Says how many those were. Blobs are not
    /// swept from `content` meanwhile.
    ///
    /// # Errors
    /// The first that occurs: [`Error::Content`], [`Error::Unpack`], [`Error::Io`]. Layers that were whole by then stay.
    pub fn unpack_image(
        &self,
        content: &kit_oci::store::Store,
        layers: &[ImageLayer],
        threads: NonZeroUsize,
        options: &unpack::Options,
    ) -> Result<usize, Error> {
        let _hold = content.hold().map_err(Error::Content)?;
        let mut seen = BTreeSet::new();
        let layers: Vec<&ImageLayer> =
            layers.iter().filter(|layer| seen.insert(layer.diff_id.to_string())).collect();
        let (next, unpacked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed = Mutex::new(None);
        let work = || {
            while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let done = content
                    .stream_verified(layer.blob.digest(), Some(layer.blob.size()))
                    .map_err(Error::Content)
                    .and_then(|blob| self.unpack(blob, &layer.diff_id, options));
                match done {
                    Ok(done) => drop(unpacked.fetch_add(usize::from(done.is_some()), Ordering::Relaxed)),
                    Err(error) => {
                        // The others finish what they are at, and begin nothing more.
                        next.store(layers.len(), Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        failed.get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.get().min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(error) => Err(error),
            None => Ok(unpacked.into_inner()),
        }
    }

    /// Makes a root file system that a container can write to, over layers from the lowest to the topmost. One of that
    /// name with the same layers is given as it is.
    ///
    /// # Errors
    /// [`Error::Missing`] if a layer is not there, [`Error::Taken`] if the name means something else, [`Error::Id`],
    /// [`Error::TooMany`], [`Error::Record`], [`Error::Io`]. Nothing is made then.
    pub fn prepare(&self, id: &str, layers: &[Digest]) -> Result<Overlay, Error> {
        self.make(id, Kind::Writable, layers)
    }

    /// Makes a read-only file system of layers, as [`Store::prepare`] does: the image of a volume.
    ///
    /// # Errors
    /// As [`Store::prepare`].
    pub fn view(&self, id: &str, layers: &[Digest]) -> Result<Overlay, Error> {
        self.make(id, Kind::View, layers)
    }

    /// What was made under a name; none if nothing was.
    ///
    /// # Errors
    /// [`Error::Id`], [`Error::Record`], [`Error::Io`].
    pub fn get(&self, id: &str) -> Result<Option<Overlay>, Error> {
        let record = Record::read(&self.snapshot(id)?)?;
        Ok(record.map(|record| self.overlay(id, &record)))
    }

    /// The names of all snapshots, in order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let mut names = names(&self.root.join("snapshots"))?;
        names.retain(|name| is_id(name));
        Ok(names)
    }

    /// What a snapshot's container wrote; nothing for a view; none if there is no such snapshot.
    ///
    /// # Errors
    /// [`Error::Io`], also when the container moves directories while they are measured.
    pub fn usage(&self, id: &str) -> Result<Option<Usage>, Error> {
        match self.get(id)? {
            None => Ok(None),
            Some(Overlay { upper: None, .. }) => Ok(Some(Usage::default())),
            Some(Overlay { upper: Some(upper), .. }) => usage(&upper.dir),
        }
    }

    /// What a layer takes; none if it is not there. It never changes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn layer_usage(&self, diff_id: &Digest) -> Result<Option<Usage>, Error> {
        usage(&self.layer(diff_id))
    }

    /// Removes a snapshot, which is no longer mounted; true if there was one. Its layers stay.
    ///
    /// # Errors
    /// [`Error::Id`], [`Error::Io`]. If the error is of the trash, the snapshot is gone and the next sweep removes it.
    pub fn remove(&self, id: &str) -> Result<bool, Error> {
        let path = self.snapshot(id)?;
        let there = self.throw_away(&path)?;
        if there {
            self.empty_trash()?;
        }
        Ok(there)
    }

    /// Removes layers that neither a snapshot nor the caller needs, and what was never finished. `live` is asked while no
    /// snapshot can be made: it names the layers of images that are there or being unpacked.
    ///
    /// # Errors
    /// [`Error::Record`] if it is not known what a snapshot needs: no layer is removed then. [`Error::Io`].
    pub fn sweep(&self, live: impl FnOnce() -> Vec<Digest>) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let (layers, snapshots) = (self.root.join("layers"), self.root.join("snapshots"));
        let alone = Lock::exclusive(&self.root)?;
        let mut needed: BTreeSet<String> = live().iter().map(dir_name).collect();
        for id in self.list()? {
            let record = Record::read(&snapshots.join(&id))?;
            needed.extend(record.iter().flat_map(|record| &record.layers).map(dir_name));
        }
        for name in names(&layers)? {
            let Some(diff_id) = parse_dir_name(&name).filter(|_| !needed.contains(&name)) else { continue };
            if self.throw_away(&layers.join(&name))? {
                swept.layers.push(diff_id);
            }
        }
        swept.unfinished += unpack::sweep(&snapshots).map_err(io_error("sweep", &snapshots))?;
        drop(alone);
        swept.unfinished += unpack::sweep(&layers).map_err(io_error("sweep", &layers))?;
        swept.unfinished += self.empty_trash()?.saturating_sub(swept.layers.len() as u64);
        Ok(swept)
    }

    fn make(&self, id: &str, kind: Kind, layers: &[Digest]) -> Result<Overlay, Error> {
        let path = self.snapshot(id)?;
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooMany { id: id.to_owned(), count: layers.len() });
        }
        let record = Record { version: record::VERSION, kind, layers: layers.to_vec() };
        let _shared = Lock::shared(&self.root)?;
        for diff_id in layers {
            if !self.has(diff_id)? {
                return Err(Error::Missing { id: id.to_owned(), diff_id: diff_id.clone() });
            }
        }
        let beside = self.root.join("snapshots").join(unpack::temporary_name());
        let made = match Record::read(&path)? {
            Some(_) => Ok(false),
            None => self.fill(&beside, &record).and_then(|()| put_in_place(&beside, &path)),
        };
        if !matches!(made, Ok(true)) {
            // What cannot be removed now is swept later.
            let _ = unpack::discard(rustix::fs::CWD, beside.as_path());
        }
        match made? {
            false if Record::read(&path)?.as_ref() != Some(&record) => {
                Err(Error::Taken { id: id.to_owned() })
            }
            _ => Ok(self.overlay(id, &record)),
        }
    }

    /// Makes a snapshot's directory, whole and synced.
    fn fill(&self, dir: &Path, record: &Record) -> Result<(), Error> {
        let private =
            |path: &Path| fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("create", path));
        private(dir)?;
        if record.kind == Kind::Writable {
            let (upper, work) = (dir.join("upper"), dir.join("work"));
            private(&upper)?;
            private(&work)?;
            // An overlay's root is its upper directory's, whatever is below.
            let below = record.layers.last().map_or_else(|| self.empty()[0].clone(), |top| self.layer(top));
            let root = fs::metadata(&below).map_err(io_error("look at", &below))?;
            chown(&upper, Some(root.uid()), Some(root.gid()))
                .map_err(io_error("set the owner of", &upper))?;
            fs::set_permissions(&upper, Permissions::from_mode(root.mode() & 0o7777))
                .map_err(io_error("set the mode of", &upper))?;
        }
        record.write(dir)
    }

    fn overlay(&self, id: &str, record: &Record) -> Overlay {
        // A layer that comes twice hides itself where it comes first; overlayfs takes no directory twice.
        let mut seen = BTreeSet::new();
        let layers = record.layers.iter().rev().map(dir_name).filter(|name| seen.insert(name.clone()));
        let mut lower: Vec<PathBuf> = layers.map(|name| self.root.join("layers").join(name)).collect();
        let dir = self.root.join("snapshots").join(id);
        let upper =
            (record.kind == Kind::Writable).then(|| Upper { dir: dir.join("upper"), work: dir.join("work") });
        let least = if upper.is_some() { 1 } else { 2 };
        let missing = usize::saturating_sub(least, lower.len());
        lower.extend(self.empty().into_iter().take(missing));
        Overlay { lower, upper }
    }

    /// Moves something to the trash; false if it is not there.
    fn throw_away(&self, path: &Path) -> Result<bool, Error> {
        match fs::rename(path, self.root.join("trash").join(unpack::temporary_name())) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("remove", path)(error)),
        }
    }

    fn empty_trash(&self) -> Result<u64, Error> {
        let trash = self.root.join("trash");
        unpack::sweep(&trash).map_err(io_error("empty", &trash))
    }

    fn empty(&self) -> [PathBuf; 2] {
        ["0", "1"].map(|name| self.root.join("empty").join(name))
    }

    fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(dir_name(diff_id))
    }

    fn snapshot(&self, id: &str) -> Result<PathBuf, Error> {
        if !is_id(id) {
            return Err(Error::Id { id: id.chars().take(MAX_ID).collect() });
        }
        Ok(self.root.join("snapshots").join(id))
    }
}

/// The store's lock. It is given back for all when dropped, not only closed: a process that is being started at the
/// moment has a copy of the descriptor.
struct Lock(File);

impl Lock {
    fn shared(root: &Path) -> Result<Lock, Error> {
        Self::take(root, File::lock_shared)
    }

    fn exclusive(root: &Path) -> Result<Lock, Error> {
        Self::take(root, File::lock)
    }

    fn take(root: &Path, lock: fn(&File) -> io::Result<()>) -> Result<Lock, Error> {
        let path = root.join("lock");
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(io_error("open", &path))?;
        lock(&file).map_err(io_error("lock", &path))?;
        Ok(Lock(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does the same, if later.
        let _ = self.0.unlock();
    }
}

/// Gives a whole directory its name, for good; false if somebody was faster.
fn put_in_place(from: &Path, to: &Path) -> Result<bool, Error> {
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(false),
        Err(error) => return Err(io_error("rename into place", to)(error.into())),
    }
    let dir = to.parent().unwrap_or(to);
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))?;
    Ok(true)
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]*`, as container names are.
fn is_id(id: &str) -> bool {
    let first = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    first && rest && id.len() <= MAX_ID
}

fn dir_name(diff_id: &Digest) -> String {
    diff_id.as_ref().replacen(':', "-", 1)
}

fn parse_dir_name(name: &str) -> Option<Digest> {
    digest::parse(&name.replacen('-', ":", 1)).ok()
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = read().map_err(io_error("list", dir))?;
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn usage(dir: &Path) -> Result<Option<Usage>, Error> {
    match Usage::of(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        usage => usage.map(Some).map_err(io_error("measure", dir)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}
