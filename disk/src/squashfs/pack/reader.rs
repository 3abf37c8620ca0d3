//! A file of a pack, uncompressed.

use super::{Pack, PackError, Place};
use crate::squashfs::block;
use std::io::{self, Read};
use std::sync::{Arc, PoisonError};
use zstd::bulk::Decompressor;

/// Fragment blocks kept uncompressed for each pack: neighbours are mostly read one after another.
const CACHED: usize = 2;

/// What reading a pack needs besides the pack.
#[derive(Default)]
pub(super) struct Unpacking {
    /// Made at the first use.
    zstd: Option<Decompressor<'static>>,
    stored: Vec<u8>,
    /// The fragment blocks that were read last, the latest at the end.
    fragments: Vec<(u32, Arc<Vec<u8>>)>,
}

/// See [`Pack::reader`].
#[derive(Debug)]
pub struct PackReader {
    pack: Pack,
    place: Place,
    /// Bytes not yet given out.
    left: u64,
    /// The block under way and the position in it.
    block: Arc<Vec<u8>>,
    at: usize,
    next: u32,
}

impl PackReader {
    pub(super) fn new(pack: Pack, content: u32) -> Self {
        let content = pack.index().contents()[content as usize];
        PackReader { pack, place: content.place, left: content.len, block: Arc::default(), at: 0, next: 0 }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    fn load(&mut self) -> Result<(), PackError> {
        match self.place {
            Place::Empty => {}
            Place::Fragment { fragment, offset } => {
                self.block = self.pack.fragment(fragment)?;
                self.at = offset as usize;
            }
            Place::Blocks(first) => {
                // The buffer is this reader's own, since blocks of runs are not kept.
                let mut raw = Arc::try_unwrap(std::mem::take(&mut self.block)).unwrap_or_default();
                self.at = 0;
                self.pack.unpack(first + self.next, &mut raw)?;
                self.block = Arc::new(raw);
                self.next += 1;
            }
        }
        Ok(())
    }
}

impl Read for PackReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buf.is_empty() {
            return Ok(0);
        }
        if self.at == self.block.len() {
            self.load().map_err(io::Error::other)?;
        }
        let ready = &self.block[self.at..];
        let n = usize::try_from(self.left).map_or(ready.len(), |left| left.min(ready.len())).min(buf.len());
        buf[..n].copy_from_slice(&ready[..n]);
        self.at += n;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Pack {
    /// The uncompressed bytes of a fragment block.
    pub(in crate::squashfs) fn fragment(&self, fragment: u32) -> Result<Arc<Vec<u8>>, PackError> {
        let mut unpacking = self.0.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = unpacking.fragments.iter().position(|(number, _)| *number == fragment);
        let entry = match kept {
            Some(at) => unpacking.fragments.remove(at),
            None => {
                let mut raw = Vec::new();
                unpacking.block(self, self.index().fragments()[fragment as usize], &mut raw)?;
                (fragment, Arc::new(raw))
            }
        };
        let raw = entry.1.clone();
        if unpacking.fragments.len() == CACHED {
            unpacking.fragments.remove(0);
        }
        unpacking.fragments.push(entry);
        Ok(raw)
    }

    fn unpack(&self, number: u32, raw: &mut Vec<u8>) -> Result<(), PackError> {
        self.0.unpacking.lock().unwrap_or_else(PoisonError::into_inner).block(self, number, raw)
    }
}

impl Unpacking {
    /// The uncompressed bytes of a block.
    fn block(&mut self, pack: &Pack, number: u32, raw: &mut Vec<u8>) -> Result<(), PackError> {
        let entry = &pack.index().blocks()[number as usize];
        pack.read_blocks(number, number + 1, &mut self.stored)?;
        if self.zstd.is_none() {
            let made = Decompressor::new();
            let made =
                made.map_err(|source| PackError::Decompress { path: pack.path().to_owned(), source })?;
            self.zstd = Some(made);
        }
        let whole = self.zstd.as_mut().is_some_and(|zstd| {
            block::decompress(zstd, &self.stored, entry.word, entry.raw_len as usize, raw)
        });
        whole.then_some(()).ok_or_else(|| pack.corrupt(number))
    }
}
