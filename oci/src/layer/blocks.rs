//! The archive's bytes, a block or a stretch at a time.

use std::io::{self, Read};

use super::LayerError;
use super::compression::retry;

/// The unit of a tar archive, in bytes.
pub(super) const BLOCK: usize = 512;

/// Large enough that a decompressor seldom stops at its end, small enough to stay in a core's cache.
const BUFFER: usize = 128 << 10;

/// A buffer over the archive that knows where in it it is.
pub(super) struct Blocks<D> {
    input: D,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    taken: u64,
}

impl<D: Read> Blocks<D> {
    pub(super) fn new(input: D) -> Self {
        Blocks { input, buf: vec![0; BUFFER].into(), start: 0, end: 0, taken: 0 }
    }

    /// Bytes of the archive handed out so far.
    pub(super) fn offset(&self) -> u64 {
        self.taken - (self.end - self.start) as u64
    }

    /// What is below; what the buffer still holds is lost.
    pub(super) fn into_input(self) -> D {
        self.input
    }

    /// The next block; none if the archive ends here.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.read(&mut block[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated("a header")),
                Ok(n) => have += n,
                Err(source) => return Err(LayerError::Read { offset: self.offset(), source }),
            }
        }
        Ok(Some(block))
    }

    /// Fills `bytes`, then drops the padding up to the next block.
    pub(super) fn padded(&mut self, bytes: &mut [u8], within: &str) -> Result<(), LayerError> {
        let mut have = 0;
        while have < bytes.len() {
            match self.read(&mut bytes[have..]) {
                Ok(0) => return Err(self.truncated(within)),
                Ok(n) => have += n,
                Err(source) => return Err(LayerError::Read { offset: self.offset(), source }),
            }
        }
        self.skip(padding(bytes.len() as u64), within)
    }

    /// Drops the next `len` bytes.
    pub(super) fn skip(&mut self, mut len: u64, within: &str) -> Result<(), LayerError> {
        while len > 0 {
            match self.fill() {
                Ok(0) => return Err(self.truncated(within)),
                Ok(have) => {
                    let n = (have as u64).min(len);
                    self.start += n as usize;
                    len -= n;
                }
                Err(source) => return Err(LayerError::Read { offset: self.offset(), source }),
            }
        }
        Ok(())
    }

    /// As [`Read::read`], but that an interruption is tried again; long reads go around the buffer.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && buf.len() >= BUFFER / 2 {
            let n = retry(|| self.input.read(buf))?;
            self.taken += n as u64;
            return Ok(n);
        }
        let have = self.fill()?;
        let n = have.min(buf.len());
        buf[..n].copy_from_slice(&self.buf[self.start..self.start + n]);
        self.start += n;
        Ok(n)
    }

    pub(super) fn truncated(&self, within: &str) -> LayerError {
        LayerError::Truncated { offset: self.offset(), within: within.to_owned() }
    }

    /// Bytes in the buffer, which is filled if it is empty; none at the end.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            self.end = retry(|| self.input.read(&mut self.buf))?;
            self.start = 0;
            self.taken += self.end as u64;
        }
        Ok(self.end - self.start)
    }
}

/// Bytes from `len` to the next multiple of a block.
pub(super) fn padding(len: u64) -> u64 {
    (BLOCK as u64 - len % BLOCK as u64) % BLOCK as u64
}
