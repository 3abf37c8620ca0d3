//! How far the unpacking of layers is.

use super::Layers;
use crate::report::{Report, Transfer, count};
use kit_oci::digest::Digest;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Tells how much was read.
pub(super) struct Metered<'a, R> {
    pub(super) inner: R,
    pub(super) tell: Option<&'a Transfer<'a>>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let (Some(tell), true) = (self.tell, count > 0) {
            tell.add(count as u64);
        }
        Ok(count)
    }
}

impl<'a> Layers<'a> {
    /// Some blobs are about to be used: tells how the unpacking of those goes that were never unpacked before. A blob
    /// counts once.
    pub fn begin_packing(&mut self, blobs: impl Iterator<Item = (Digest, u64)>, report: &'a Report) {
        let missing: BTreeMap<String, u64> = blobs
            .filter(|(digest, _)| !self.paths(digest).1.exists())
            .map(|(digest, size)| (digest.to_string(), size))
            .collect();
        let what = || format!("pack {}", count(missing.len(), "layer"));
        self.packing = (!missing.is_empty()).then(|| report.transfer(what(), 0, missing.values().sum()));
    }

    /// They were used.
    pub fn end_packing(&mut self) {
        self.packing.take().iter().for_each(Transfer::done);
    }
}
