//! How blobs come in: whole streams, and downloads that may be cut and resumed.
//!
//! Both write into `ingest/`, hash what they write, sync, and rename into `blobs/` only when size and digest are right.
//! A rename replaces a blob of the same name, which can only put the right bytes in the place of perhaps damaged ones.
//!
//! A download is one file named after its digest, locked while somebody writes it. Who finds it locked waits, and then
//! finds the blob in place, or the part of a process that died, to go on with.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Hold, Store, StoreError, file};
use crate::digest::{self, Algorithm, Digest, Hasher, Mismatch, Verifying};

/// Blobs are there for all to read and for none to write.
const BLOB_MODE: u32 = 0o444;
const COPY_BYTES: usize = 256 << 10;

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The blob's digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What there is to do for a blob that is wanted.
#[derive(Debug)]
pub enum Begin {
    /// Nothing: the store has it.
    Present,
    /// This much is there already; the rest is to be appended.
    Part(Box<Part>),
}

/// A download under way, in this process alone. Dropping it keeps what came so far, for the next who wants it.
#[derive(Debug)]
pub struct Part {
    file: File,
    path: PathBuf,
    blob: PathBuf,
    digest: Digest,
    size: u64,
    length: u64,
    hasher: Hasher,
    committed: bool,
    _hold: Hold,
}

impl Store {
    /// Stores a stream that must be `digest`, and `size` bytes long where that is given.
    ///
    /// # Errors
    /// [`StoreError::Content`] if it is not, with nothing stored; [`StoreError::Source`] if it cannot be read.
    pub fn put_stream(
        &self,
        reader: impl Read,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Stored, StoreError> {
        let mut reader =
            Verifying::new(reader, digest.clone(), size).map_err(|source| StoreError::Digest { source })?;
        let mut incoming = self.incoming()?;
        let size = incoming.fill(&mut reader, u64::MAX, |_| {})?;
        incoming.publish(digest)?;
        Ok(Stored { digest: digest.clone(), size })
    }

    /// Stores a stream under the sha256 that it turns out to have.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond `limit` bytes, with nothing stored; [`StoreError::Source`].
    pub fn put_unnamed(&self, mut reader: impl Read, limit: u64) -> Result<Stored, StoreError> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut incoming = self.incoming()?;
        let size = incoming.fill(&mut reader, limit, |bytes| hasher.update(bytes))?;
        let digest = hasher.finish();
        incoming.publish(&digest)?;
        Ok(Stored { digest, size })
    }

    /// Stores bytes under their sha256.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Stored, StoreError> {
        self.put_stream(bytes, &digest::of(bytes), Some(bytes.len() as u64))
    }

    /// A blob that is written bit by bit, and gets the sha256 that it turns out to have.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn writer(&self) -> Result<BlobWriter<'_>, StoreError> {
        Ok(BlobWriter { incoming: self.incoming()?, hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    /// Begins, resumes or forgoes a download. Waits while another thread or process downloads the same blob.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the store has the blob in another size; [`StoreError::Io`].
    pub fn begin(&self, digest: &Digest, size: u64) -> Result<Begin, StoreError> {
        let hold = self.hold()?;
        let blob = self.blob_path(digest)?;
        let algorithm = digest::algorithm(digest).map_err(|source| StoreError::Digest { source })?;
        let path = self.root.join("ingest").join(format!("{}-{}.part", algorithm.name(), digest.digest()));
        let file = loop {
            match self.size(digest)? {
                Some(found) if found == size => return Ok(Begin::Present),
                Some(found) => return Err(self.wrong_size(digest, size, found)),
                None => {}
            }
            let file = file::open_writable(&path, false)?;
            file.lock().map_err(|source| file::error("lock", &path, source))?;
            if !file::is_at(&file, &path)? {
                continue;
            }
            if !self.has(digest)? {
                break file;
            }
            // Committed between the two looks, so that this name is a new one: ours to remove.
            fs::remove_file(&path).map_err(|source| file::error("remove", &path, source))?;
        };
        let (digest, hasher) = (digest.clone(), Hasher::new(algorithm));
        let (length, committed) = (0, false);
        let mut part = Part { file, path, blob, digest, size, length, hasher, committed, _hold: hold };
        part.take_up()?;
        Ok(Begin::Part(Box::new(part)))
    }

    fn incoming(&self) -> Result<Incoming<'_>, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let hold = self.hold()?;
        loop {
            let name = format!("put-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = self.root.join("ingest").join(name);
            match file::open_writable(&path, true) {
                Ok(file) => return Ok(Incoming { store: self, file, path, _hold: hold }),
                // Left by a process of our number that died.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A stream on its way in. Dropping it leaves nothing.
struct Incoming<'a> {
    store: &'a Store,
    file: File,
    path: PathBuf,
    _hold: Hold,
}

impl Incoming<'_> {
    fn fill(
        &mut self,
        reader: &mut impl Read,
        limit: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<u64, StoreError> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut size = 0u64;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(size),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(match Mismatch::inside(&error) {
                        Some(mismatch) => StoreError::Content { source: Box::new(mismatch.clone()) },
                        None => StoreError::Source { source: error },
                    });
                }
            };
            size = size.saturating_add(count as u64);
            if size > limit {
                return Err(StoreError::TooLarge { digest: "of unknown digest".to_owned(), size, limit });
            }
            self.file
                .write_all(&buffer[..count])
                .map_err(|source| file::error("write", &self.path, source))?;
            each(&buffer[..count]);
        }
    }

    fn publish(self, digest: &Digest) -> Result<(), StoreError> {
        let blob = self.store.blob_path(digest)?;
        file::publish(&self.file, &self.path, &blob, BLOB_MODE)
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // Gone already if it was published.
        let _ = fs::remove_file(&self.path);
    }
}

/// A blob on its way in, by [`Store::writer`]. Dropping it leaves nothing.
pub struct BlobWriter<'a> {
    incoming: Incoming<'a>,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter<'_> {
    /// Puts the blob in place.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<Stored, StoreError> {
        let digest = self.hasher.finish();
        self.incoming.publish(&digest)?;
        Ok(Stored { digest, size: self.size })
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.incoming.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.incoming.file.flush()
    }
}

impl Part {
    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes are there already: where to go on.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what came so far.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| file::error("empty", &self.path, source))?;
        let algorithm = digest::algorithm(&self.digest).map_err(|source| StoreError::Digest { source })?;
        (self.length, self.hasher) = (0, Hasher::new(algorithm));
        Ok(())
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`StoreError::Content`] as soon as there are more than the blob's size, and nothing is kept then.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > self.size {
            let (digest, expected) = (self.digest.clone(), self.size);
            self.restart()?;
            return Err(StoreError::from(Mismatch::TooLong { digest, expected }));
        }
        self.file.write_all(bytes).map_err(|source| file::error("write", &self.path, source))?;
        self.hasher.update(bytes);
        self.length = length;
        Ok(())
    }

    /// Puts the blob in place if it is complete and right. What is right but incomplete is kept; what is wrong is not.
    ///
    /// # Errors
    /// [`StoreError::Content`].
    pub fn commit(mut self: Box<Self>) -> Result<(), (Box<Part>, StoreError)> {
        if self.length < self.size {
            let (digest, expected, found) = (self.digest.clone(), self.size, self.length);
            return Err((self, StoreError::from(Mismatch::TooShort { digest, expected, found })));
        }
        let found = self.hasher.clone().finish();
        if found != self.digest {
            let source = Mismatch::Content { expected: self.digest.clone(), found, size: self.length };
            let error = self.restart().err().unwrap_or_else(|| source.into());
            return Err((self, error));
        }
        match file::publish(&self.file, &self.path, &self.blob, BLOB_MODE) {
            Ok(()) => {
                self.committed = true;
                Ok(())
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Hashes what an earlier download left, so that new bytes can be added to it.
    fn take_up(&mut self) -> Result<(), StoreError> {
        let error = |part: &Part, source| file::error("read", &part.path, source);
        let left = self.file.metadata().map_err(|source| error(self, source))?.len();
        if left > self.size {
            return self.restart();
        }
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = self.file.read(&mut buffer).map_err(|source| error(self, source))?;
            if count == 0 {
                break;
            }
            self.hasher.update(&buffer[..count]);
            self.length += count as u64;
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // An empty part is of no use to anybody. Until the lock goes with the file, the name is ours.
        if self.length == 0 && !self.committed {
            let _ = fs::remove_file(&self.path);
        }
        // As with every lock here: closing alone might be late.
        let _ = self.file.unlock();
    }
}
