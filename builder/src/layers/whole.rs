//! Blobs as they are: what a volume in OCI format holds. Compressed already, so that a pack keeps their bytes.

use super::{Kept, Layers, LayersError, Stamp};
use crate::contents::Blob;
use kit_disk::squashfs::pack::{Pack, PackError};
use kit_oci::digest::Digest;
use kit_spec::tree::{Action, Change, Kind, Meta, TreePath};

impl Layers<'_> {
    /// A blob of the store as a file at `path`, of root's. As with layers, it is hashed when it is read first, and again
    /// whenever the store's file was touched.
    ///
    /// # Errors
    /// See [`LayersError`].
    pub fn whole(
        &mut self,
        digest: &Digest,
        size: u64,
        path: &TreePath,
        epoch: i64,
    ) -> Result<Vec<Change<Blob>>, LayersError> {
        // The same blob may be a layer that is unpacked.
        let key = kit_oci::digest::of(format!("whole {digest}").as_bytes());
        if !self.used.contains_key(&key) {
            let stamp = self.stamp(digest)?;
            let (kept, pack) = match self.open(&key) {
                Some((kept, pack)) if kept.stamp == stamp => (kept, pack),
                // Touched since, or never seen.
                _ => self.pack_whole(&key, digest, size, stamp)?,
            };
            self.insert(&key, kept, pack);
        }
        let unpacked = &self.used[&key];
        let changes = unpacked.changes.iter().filter_map(|change| match &change.action {
            Action::Put(_, Kind::File { len, content }) => {
                let content = Blob::Packed(unpacked.pack, *content);
                let put = Action::Put(Meta::root_owned(0o644, epoch), Kind::File { len: *len, content });
                Some(Change { path: path.clone(), action: put })
            }
            _ => None,
        });
        Ok(changes.collect())
    }

    fn pack_whole(
        &self,
        key: &Digest,
        digest: &Digest,
        size: u64,
        stamp: Stamp,
    ) -> Result<(Kept, Pack), LayersError> {
        let store_error = |source| LayersError::Store { digest: digest.clone(), source: Box::new(source) };
        self.make(key, stamp, |pack| {
            let mut blob = self.store.stream_verified(digest, Some(size)).map_err(store_error)?;
            let added = pack.add(size, &mut blob);
            // If the bytes are not what the digest says, that is the reason for whatever else went wrong.
            if let Err(error) = blob.finish() {
                return Err(store_error(self.store.read_error(digest, error)));
            }
            let failed =
                |source: PackError| LayersError::Pack { digest: digest.clone(), source: Box::new(source) };
            let put = Action::Put(
                Meta::root_owned(0o644, 0),
                Kind::File { len: size, content: added.map_err(failed)? },
            );
            Ok((vec![Change { path: TreePath::root(), action: put }], None))
        })
    }
}
