//! Digests: which are known, how they are computed, and a reader that does not let a wrong byte pass as right.
//!
//! The digest type itself is `oci_spec`'s. It accepts algorithms that we cannot compute, so everything here begins with
//! [`algorithm`], which knows sha256 and sha512 and refuses the rest.
//!
//! [`Verifying`] is the streaming form of the crate's invariant. It counts and hashes what passes, and
//! - more bytes than the declared size are an error at once,
//! - where the size is declared, the last bytes are held back until the digest is known to be right,
//! - the end is reported (`Ok(0)`) only after size and digest were found right.
//!
//! A consumer that may stop early (tar stops at two zero blocks, gzip at its trailer) must call [`Verifying::finish`]
//! and commit nothing before it returns a [`Proof`].

use std::fmt;
use std::io::{self, Read};

pub use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// Digest algorithms that this crate computes (OCI image-spec, descriptor.md "Registered algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hexadecimal digits.
    Sha256,
    /// SHA-512, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// All known algorithms, in the order in which a store lists them.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name before the colon, which is also the directory name in an image layout.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// A digest that this crate cannot work with.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The text is no digest.
    #[error("`{text}` is no digest (want sha256: and 64, or sha512: and 128 lower case hexadecimal digits)")]
    Malformed {
        /// What was read.
        text: String,
    },
    /// The algorithm is not computed here.
    #[error("digest {digest} is of an unknown algorithm (known: sha256, sha512)")]
    Unsupported {
        /// The digest.
        digest: String,
    },
}

/// The algorithm of a digest.
///
/// # Errors
/// [`DigestError::Unsupported`] for every algorithm but sha256 and sha512.
pub fn algorithm(digest: &Digest) -> Result<Algorithm, DigestError> {
    Algorithm::ALL
        .into_iter()
        .find(|known| known.name() == digest.algorithm().as_ref())
        .ok_or_else(|| DigestError::Unsupported { digest: digest.to_string() })
}

/// Reads a digest of a known algorithm.
///
/// # Errors
/// [`DigestError`], naming the text.
pub fn parse(text: &str) -> Result<Digest, DigestError> {
    let digest = Digest::try_from(text).map_err(|_| DigestError::Malformed { text: text.to_owned() })?;
    algorithm(&digest)?;
    Ok(digest)
}

/// The sha256 digest of some bytes.
pub fn of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let text = match self.0 {
            State::Sha256(state) => hex("sha256:", &state.finalize()),
            State::Sha512(state) => hex("sha512:", &state.finalize()),
        };
        Digest::try_from(text).unwrap_or_else(|_| unreachable!("a computed digest is well formed"))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Sha256(_) => "Hasher(sha256)",
            State::Sha512(_) => "Hasher(sha512)",
        })
    }
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(prefix.len() + bytes.len() * 2);
    text.push_str(prefix);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Content that is not what its digest and size say.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    /// The bytes hash to something else.
    #[error("blob {expected} is corrupt: its {size} bytes hash to {found}")]
    Content {
        /// What the bytes should hash to.
        expected: Digest,
        /// What they hash to.
        found: Digest,
        /// How many bytes were hashed.
        size: u64,
    },
    /// The content ended early.
    #[error("blob {digest} is cut off: {found} of {expected} bytes")]
    TooShort {
        /// The blob.
        digest: Digest,
        /// Bytes declared.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The content goes on after its declared size.
    #[error("blob {digest} has more than its {expected} bytes")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// Bytes declared.
        expected: u64,
    },
}

impl Mismatch {
    /// The digest that was asked for.
    pub fn digest(&self) -> &Digest {
        match self {
            Mismatch::Content { expected, .. } => expected,
            Mismatch::TooShort { digest, .. } | Mismatch::TooLong { digest, .. } => digest,
        }
    }

    /// Finds the mismatch inside an error of a reader stacked on a [`Verifying`].
    pub fn inside(error: &io::Error) -> Option<&Mismatch> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, mismatch)
    }
}

/// That a blob was read to its end and is what its digest says. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "who streams a blob commits only with its proof"]
pub struct Proof {
    digest: Digest,
    size: u64,
}

impl Proof {
    /// The digest that was proven.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The number of bytes that were hashed.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Checks content while it passes: see the module's text. After an error every further read is the same error.
#[derive(Debug)]
pub struct Verifying<R> {
    inner: R,
    digest: Digest,
    size: Option<u64>,
    seen: u64,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Hashing(Hasher),
    Proven,
    Failed(Mismatch),
}

impl<R: Read> Verifying<R> {
    /// A reader that passes `inner` on and proves it to be `digest`, and `size` bytes long where that is known.
    ///
    /// # Errors
    /// [`DigestError::Unsupported`].
    pub fn new(inner: R, digest: Digest, size: Option<u64>) -> Result<Self, DigestError> {
        let hasher = Hasher::new(algorithm(&digest)?);
        Ok(Verifying { inner, digest, size, seen: 0, progress: Progress::Hashing(hasher) })
    }

    /// The digest that the content must have.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads what is left and proves the whole. Nothing made from this reader may be committed before.
    ///
    /// # Errors
    /// The reader's own, or an [`io::ErrorKind::InvalidData`] with a [`Mismatch`] inside.
    pub fn finish(self) -> io::Result<Proof> {
        self.finish_into().map(|(proof, _)| proof)
    }

    /// As [`Verifying::finish`], and gives the reader below back, which may have something to prove itself.
    ///
    /// # Errors
    /// As [`Verifying::finish`].
    pub fn finish_into(mut self) -> io::Result<(Proof, R)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Proof { digest: self.digest, size: self.seen }, self.inner))
    }

    fn fail(&mut self, mismatch: Mismatch) -> io::Error {
        self.progress = Progress::Failed(mismatch.clone());
        mismatch.into()
    }

    /// All bytes were seen: settles the digest.
    fn settle(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.progress, Progress::Proven) {
            Progress::Hashing(hasher) => {
                let found = hasher.finish();
                if found == self.digest {
                    return Ok(());
                }
                let expected = self.digest.clone();
                Err(self.fail(Mismatch::Content { expected, found, size: self.seen }))
            }
            Progress::Proven => Ok(()),
            Progress::Failed(mismatch) => Err(self.fail(mismatch)),
        }
    }
}

impl<R: Read> Read for Verifying<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Progress::Failed(mismatch) = &self.progress {
            return Err(mismatch.clone().into());
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            if let Some(expected) = self.size.filter(|size| *size != self.seen) {
                let (digest, found) = (self.digest.clone(), self.seen);
                return Err(self.fail(Mismatch::TooShort { digest, expected, found }));
            }
            self.settle()?;
            return Ok(0);
        }
        let seen = self.seen.saturating_add(count as u64);
        if let Some(expected) = self.size.filter(|size| *size < seen) {
            let digest = self.digest.clone();
            return Err(self.fail(Mismatch::TooLong { digest, expected }));
        }
        self.seen = seen;
        if let Progress::Hashing(hasher) = &mut self.progress {
            hasher.update(&buffer[..count]);
        }
        if self.size == Some(seen) {
            self.settle()?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
