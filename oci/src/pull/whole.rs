//! Images with all their platforms, or some: what a directory in the form of an OCI image layout holds.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;

use super::{Desk, Document, MAX_DEPTH, PullError, PullFault, Source, manifest};
use crate::archive::document_of_names;
use crate::platform::{self, Platform};
use crate::reference::Reference;
use crate::store::{LAYOUT, Store};

/// An image as a layout has it, its blobs all in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// What `index.json` names: the index of several images, or the one image that there is.
    pub root: Descriptor,
    /// Everything under `blobs/`, sorted by digest: the root, and what was chosen below it.
    pub blobs: Vec<Descriptor>,
}

impl Layout {
    /// The files `oci-layout` and `index.json`, the image under a name.
    pub fn documents(&self, name: &str) -> [(&'static str, Vec<u8>); 2] {
        let index = document_of_names([(name.to_owned(), &self.root)]);
        [("oci-layout", LAYOUT.to_vec()), ("index.json", index)]
    }
}

/// Finds out what a reference names, be it an index or an image of whatever platform. As with [`super::resolve`], a digest
/// is looked for in the store first, and a tag only if nobody may be asked.
///
/// # Errors
/// [`PullError`].
pub fn resolve_root(reference: &Reference, store: &Store, source: &Source) -> Result<Descriptor, PullError> {
    let desk = Desk { reference, store, source };
    let root = || {
        let _hold = store.hold()?;
        desk.root()
    };
    Ok(plain(&root().map_err(desk.failed())?))
}

impl Store {
    /// Makes sure that an index or an image is here with all it needs, and gives it its name. Of an index, only images
    /// for `platforms`, or all, attestations included, if none is given.
    ///
    /// An index is never changed: where images of it are left out it says more than there is, which the image-spec
    /// allows (image-index.md). One image that is left is taken by itself.
    ///
    /// # Errors
    /// [`PullFault::Platform`] if there is no image for one of the platforms; else as [`Store::pull`].
    pub fn pull_whole(
        &self,
        reference: &Reference,
        root: &Descriptor,
        platforms: &[Platform],
        source: &Source,
    ) -> Result<Layout, PullError> {
        let desk = Desk { reference, store: self, source };
        let pull = || {
            let _hold = self.hold()?;
            let layout = desk.whole(root, platforms)?;
            self.tag(reference, root)?;
            Ok(layout)
        };
        pull().map_err(desk.failed())
    }

    /// As [`Store::pull_whole`], with everything here already, and nothing named.
    ///
    /// # Errors
    /// As [`Store::pull_whole`].
    pub fn whole(
        &self,
        reference: &Reference,
        root: &Descriptor,
        platforms: &[Platform],
    ) -> Result<Layout, PullError> {
        let desk = Desk { reference, store: self, source: &Source::offline() };
        desk.whole(root, platforms).map_err(desk.failed())
    }
}

impl Desk<'_> {
    fn whole(&self, root: &Descriptor, platforms: &[Platform]) -> Result<Layout, PullFault> {
        let mut chosen = Vec::new();
        match self.document(root)? {
            (Document::Image(image), media_type) => {
                for platform in platforms {
                    self.check_platform(&image, platform)?;
                }
                chosen.push(Descriptor::new(media_type, root.size(), root.digest().clone()));
            }
            (Document::Index(index), _) if platforms.is_empty() => chosen.extend(index.manifests().clone()),
            (Document::Index(index), _) => {
                for wanted in platforms {
                    let found = platform::select(index.manifests(), wanted).map_err(PullFault::Platform)?;
                    if !chosen.contains(found) {
                        chosen.push(found.clone());
                    }
                }
            }
        }
        let mut blobs = BTreeMap::new();
        let one = !platforms.is_empty() && chosen.len() == 1;
        let root = if one { plain(&chosen[0]) } else { root.clone() };
        blobs.insert(root.digest().to_string(), plain(&root));
        for image in &chosen {
            self.below(image, &mut blobs, MAX_DEPTH)?;
        }
        let mut missing = Vec::new();
        for blob in blobs.values() {
            missing.extend(self.is_missing(blob)?);
        }
        missing.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
        self.fetch_all(&missing)?;
        Ok(Layout { root, blobs: blobs.into_values().collect() })
    }

    /// Adds a document, which is fetched, and everything that it needs, which is not.
    fn below(
        &self,
        at: &Descriptor,
        blobs: &mut BTreeMap<String, Descriptor>,
        depth: usize,
    ) -> Result<(), PullFault> {
        blobs.insert(at.digest().to_string(), plain(at));
        let is_document =
            |at: &Descriptor| manifest::is_image(at.media_type()) || manifest::is_index(at.media_type());
        if !is_document(at) {
            return Ok(());
        }
        let (document, _) = self.document(at)?;
        for child in document.children() {
            match &document {
                Document::Index(_) => {
                    self.below(child, blobs, depth.checked_sub(1).ok_or(PullFault::Depth)?)?
                }
                Document::Image(_) => {
                    blobs.insert(child.digest().to_string(), plain(child));
                }
            }
        }
        Ok(())
    }
}

fn plain(at: &Descriptor) -> Descriptor {
    Descriptor::new(at.media_type().clone(), at.size(), at.digest().clone())
}
