//! What a volume of `format: oci` holds: an image as an OCI image layout, at the root of the volume.
//!
//! ```text
//! oci-layout  index.json       the image, under the name that the node file has for it
//! blobs/sha256/HEX             the store's bytes, hashed on the way
//! ```
//!
//! An image of a registry or of a file of this machine is copied as it is. A recipe or packages become an image first.

use crate::contents::Blob;
use crate::fetch::Fetched;
use crate::image::{Image, bytes};
use crate::layers::{Layers, LayersError};
use crate::oci_image::{self, OciImageError};
use crate::resolve::{Locked, platform};
use kit_oci::platform::{Platform, PlatformError};
use kit_oci::pull::{Layout, PullError};
use kit_oci::reference::{Reference, ReferenceError};
use kit_oci::store::Store;
use kit_spec::node::VolumeContent;
use kit_spec::node::image::ImageRef;
use kit_spec::tree::{Kind, Meta, PathError, Tree, TreeError, TreePath};
use std::collections::BTreeMap;

/// Why a volume cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum OciVolumeError {
    /// A blob cannot be used.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// An image that is put together here cannot be stored.
    #[error(transparent)]
    Image(#[from] OciImageError),
    /// An image that is put together here is not to be had for a platform.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A platform that is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A reference that cannot be.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The tree does not take a file.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A digest is no path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The platforms that a volume's image is wanted for; none for all that it has.
///
/// # Errors
/// When a text is no platform.
pub fn platforms(texts: &[String]) -> Result<Vec<Platform>, PlatformError> {
    texts.iter().map(|text| text.parse()).collect()
}

/// What is needed to fill the volumes of a node.
pub struct Inputs<'a> {
    /// The node and its pins.
    pub locked: &'a Locked,
    /// What was fetched.
    pub fetched: &'a Fetched,
    /// Images that were put together, by reference.
    pub images: &'a BTreeMap<String, Image>,
    /// Where blobs are.
    pub store: &'a Store,
    /// The time of all files.
    pub epoch: u32,
}

/// The contents of the node's volumes in OCI format, by the volume's name.
///
/// # Errors
/// The volume's name, and see [`OciVolumeError`].
pub fn fill(
    inputs: &Inputs,
    layers: &mut Layers,
) -> Result<BTreeMap<String, Tree<Blob>>, (String, OciVolumeError)> {
    let mut filled = BTreeMap::new();
    for volume in &inputs.locked.node.volumes {
        let VolumeContent::Oci { image, platforms } = &volume.content else { continue };
        let tree = layout(inputs, layers, &volume.name, image, platforms)
            .and_then(|layout| tree(&layout, &name(&volume.name, image), layers, inputs.epoch));
        filled.insert(volume.name.clone(), tree.map_err(|error| (volume.name.clone(), error))?);
    }
    Ok(filled)
}

/// What the image is called in the layout (image-spec, annotations.md, has rules for it that a list of packages breaks).
fn name(volume: &str, image: &ImageRef) -> String {
    match image {
        ImageRef::Registry(_) | ImageRef::Recipe(_) => image.to_string(),
        ImageRef::Local(local) => local.tag().unwrap_or(volume).to_owned(),
        ImageRef::Debian(_) | ImageRef::Template(_) => volume.to_owned(),
    }
}

fn layout(
    inputs: &Inputs,
    layers: &Layers,
    volume: &str,
    image: &ImageRef,
    wanted: &[String],
) -> Result<Layout, OciVolumeError> {
    if let Some(layout) = inputs.fetched.layouts.get(volume) {
        return Ok(layout.clone());
    }
    let Inputs { locked, images, store, epoch, .. } = inputs;
    let image = &images[&image.to_string()];
    let target = oci_image::put(store, image, &layers.contents, locked.arch, *epoch)?;
    let name: Reference = format!("local.invalid/{}@{}", platform(locked.arch), target.digest()).parse()?;
    Ok(store.whole(&name, &target, &platforms(wanted)?)?)
}

fn tree(layout: &Layout, name: &str, layers: &mut Layers, epoch: u32) -> Result<Tree<Blob>, OciVolumeError> {
    let epoch = i64::from(epoch);
    let mut tree = Tree::new(Meta::root_owned(0o755, epoch));
    for (path, document) in layout.documents(name) {
        tree.put(&TreePath::parse(path)?, Meta::root_owned(0o644, epoch), bytes(document))?;
    }
    for blob in &layout.blobs {
        let digest = blob.digest();
        let path = TreePath::parse(format!("blobs/{}", digest.to_string().replace(':', "/")))?;
        for dir in [path.parent().parent(), path.parent()] {
            tree.put(&dir, Meta::root_owned(0o755, epoch), Kind::Dir)?;
        }
        for change in layers.whole(digest, blob.size(), &path, epoch)? {
            tree.apply(change)?;
        }
    }
    Ok(tree)
}
