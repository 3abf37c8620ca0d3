//! Looking over the whole store: verify every blob; remove what nothing needs.
//!
//! The sweep marks from the names and the caller's roots. A root that may be a manifest or an index (it is small and
//! parses as one) keeps what it points at. What an index points at need not be there, since one platform is usually
//! pulled. A document that should say what is needed but is damaged stops the sweep: nothing is removed on a guess.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, StoreError, file};
use crate::digest::{self, Algorithm, Digest, Mismatch};
use crate::manifest::{self, Document, MAX_BYTES};

/// What a look at every blob found.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many blobs were read.
    pub blobs: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// The damaged ones, by digest.
    pub corrupt: Vec<Corrupt>,
    /// Files under `blobs/` whose names are no digests, sorted.
    pub strange: Vec<PathBuf>,
}

/// A damaged blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Its name.
    pub digest: Digest,
    /// What is wrong.
    pub mismatch: Mismatch,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many blobs are still needed.
    pub kept: u64,
    /// The blobs that were removed, sorted.
    pub removed: Vec<Digest>,
    /// How many bytes were freed, partial downloads included.
    pub freed_bytes: u64,
}

impl Store {
    /// Hashes every blob. Damaged blobs are reported, not removed.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be read at all.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let _hold = self.hold()?;
        let mut report = Verified::default();
        let (blobs, strange) = self.list()?;
        report.strange = strange;
        for (_, digest) in blobs {
            let reader = match self.stream_verified(&digest, None) {
                Ok(reader) => reader,
                Err(StoreError::Missing { .. }) => continue,
                Err(error) => return Err(error),
            };
            report.blobs += 1;
            match reader.finish().map_err(|error| self.read_error(&digest, error)) {
                Ok(proof) => report.bytes += proof.size(),
                Err(StoreError::Corrupt { source, .. }) => {
                    report.corrupt.push(Corrupt { digest, mismatch: *source });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Removes every blob that neither a name nor one of `roots` needs, and all partial downloads. A root may be a
    /// manifest, an index or any other blob; one that is not there is ignored.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while anybody holds the store; [`StoreError::Graph`] if a manifest is damaged. Nothing is
    /// removed then.
    pub fn gc(&self, roots: &[Digest]) -> Result<Swept, StoreError> {
        let _alone = self.alone()?;
        let mut needed = BTreeSet::new();
        let named = self.index()?.manifests.into_iter().map(|entry| entry.digest);
        for root in named.chain(roots.iter().cloned()) {
            self.mark(root, &mut needed)?;
        }
        let mut swept = Swept::default();
        for (path, digest) in self.list()?.0 {
            if needed.contains(digest.as_ref()) {
                swept.kept += 1;
            } else {
                swept.freed_bytes += remove(&path)?;
                swept.removed.push(digest);
            }
        }
        for path in sorted_dir(&self.root.join("ingest"))? {
            swept.freed_bytes += remove(&path)?;
        }
        Ok(swept)
    }

    /// Adds a blob and all that it points at to the needed ones.
    fn mark(&self, root: Digest, needed: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let mut open = vec![root];
        while let Some(digest) = open.pop() {
            let Some(size) = self.size(&digest)? else { continue };
            if !needed.insert(digest.to_string()) || size > MAX_BYTES {
                continue;
            }
            let graph = |error| StoreError::Graph { digest: digest.clone(), source: Box::new(error) };
            let bytes = self.read(&digest, MAX_BYTES).map_err(graph)?;
            let Ok((document, _)) = manifest::parse(&bytes, None) else { continue };
            let children = document.children().into_iter().map(|child| child.digest());
            match document {
                Document::Image(_) => needed.extend(children.map(Digest::to_string)),
                Document::Index(_) => open.extend(children.cloned()),
            }
        }
        Ok(())
    }

    /// All blobs in the order of their names, and what lies among them and is none.
    fn list(&self) -> Result<(BTreeMap<PathBuf, Digest>, Vec<PathBuf>), StoreError> {
        let (mut blobs, mut strange) = (BTreeMap::new(), Vec::new());
        for algorithm in Algorithm::ALL {
            for path in sorted_dir(&self.root.join("blobs").join(algorithm.name()))? {
                let name = path.file_name().map(OsString::from).and_then(|name| name.into_string().ok());
                match name.and_then(|name| digest::parse(&format!("{}:{name}", algorithm.name())).ok()) {
                    Some(digest) => drop(blobs.insert(path, digest)),
                    None => strange.push(path),
                }
            }
        }
        Ok((blobs, strange))
    }
}

fn sorted_dir(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read =
        || fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>();
    let mut paths = read().map_err(|source| file::error("list", path, source))?;
    paths.sort();
    Ok(paths)
}

/// Removes a file and says how many bytes it had.
fn remove(path: &Path) -> Result<u64, StoreError> {
    let size = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    fs::remove_file(path).map_err(|source| file::error("remove", path, source))?;
    Ok(size)
}
