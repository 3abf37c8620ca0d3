//! From pins to bytes: the only step that asks for them. Afterwards everything that a build reads is in the store.

use crate::image::{Config, ImageError};
use crate::report::Report;
use crate::resolve::{Locked, Pinned};
use crate::source::deb::{self, Apt, DebError};
use kit_oci::archive::{ArchiveError, Limits};
use kit_oci::digest::{Digest, DigestError};
use kit_oci::platform::PlatformError;
use kit_oci::pull::{self, Layout, PullError, Source};
use kit_oci::reference::{Reference, ReferenceError};
use kit_oci::registry::Client;
use kit_oci::store::Store;
use kit_spec::artifact::Arch;
use kit_spec::lock::{ImagePin, PackagePin};
use kit_spec::node::VolumeContent;
use kit_spec::node::image::LocalImage;
use oci_spec::image::Descriptor;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Why an input cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// An image.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A local image.
    #[error("import {path}")]
    Import {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A local image that is not there.
    #[error("open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A reference that cannot be.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A local image that holds several, or none of the name.
    #[error("{path} holds {found} images{}", .tag.as_ref().map(|tag| format!(" called `{tag}`")).unwrap_or_default())]
    Which {
        /// The file or directory.
        path: PathBuf,
        /// What was asked for.
        tag: Option<String>,
        /// How many there are.
        found: usize,
    },
    /// A volume's platform that is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A package that is not in the store, while the network is forbidden.
    #[error(
        "package {name} {version} (sha256:{sha256}) is not in the store, and the network may not be asked"
    )]
    Offline {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Its digest.
        sha256: String,
    },
    /// A pin that is none.
    #[error("the pin of {image}")]
    Pin {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: DigestError,
    },
    /// An image that cannot be put together.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What is in the store.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The images of registries and files, by reference.
    pub images: BTreeMap<String, FetchedImage>,
    /// What volumes in OCI format hold if it was an image already, by the volume's name.
    pub layouts: BTreeMap<String, Layout>,
}

/// An image whose blobs are in the store.
#[derive(Clone, Debug)]
pub struct FetchedImage {
    /// Its layers, lowest first: digest and size in bytes.
    pub layers: Vec<(Digest, u64)>,
    /// How its process is started.
    pub config: Config,
    /// The manifest's digest.
    pub digest: Digest,
}

/// Brings every input of a locked node into the store.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    locked: &Locked,
    store: &Store,
    client: Option<&Client>,
    apt: &Path,
    report: &Report,
) -> Result<Fetched, FetchError> {
    packages(locked.packages(), locked.arch, store, client.is_some(), apt, report)?;
    let blobs = report.blobs("fetch");
    let source = match client {
        Some(client) => Source::registry(client).progress(&blobs),
        None => Source::offline(),
    };
    let mut images = BTreeMap::new();
    for (name, pinned) in &locked.images {
        let fetched = match pinned {
            Pinned::Registry(reference, pin) => {
                let pinned = pull_pin(reference.clone(), pin)
                    .map_err(|source| FetchError::Pin { image: name.clone(), source })?;
                fetched(store.pull(&pinned, &source)?)
            }
            Pinned::Local(local, path) => {
                let target = import(local, path, store)?;
                let platform = crate::resolve::platform(locked.arch);
                let pinned = pull::resolve(&by_digest(&target)?, &platform, store, &Source::offline())?;
                fetched(store.image(&pinned)?)
            }
            Pinned::Packages(_) | Pinned::Recipe(..) => continue,
        };
        images.insert(name.clone(), fetched);
    }
    let layouts = layouts(locked, store, &source)?;
    Ok(Fetched { images, layouts })
}

/// Images with all the platforms that volumes are to hold.
fn layouts(locked: &Locked, store: &Store, source: &Source) -> Result<BTreeMap<String, Layout>, FetchError> {
    let mut layouts = BTreeMap::new();
    for volume in &locked.node.volumes {
        let VolumeContent::Oci { image, platforms } = &volume.content else { continue };
        let platforms = crate::oci_volume::platforms(platforms)?;
        let layout = match locked.layouts.get(&volume.name) {
            Some(Pinned::Registry(reference, pin)) => {
                let root = pull_pin(reference.clone(), pin)
                    .map_err(|source| FetchError::Pin { image: image.to_string(), source })?;
                let root = Descriptor::new(root.media_type, root.size, root.digest);
                store.pull_whole(reference, &root, &platforms, source)?
            }
            Some(Pinned::Local(local, path)) => {
                let target = import(local, path, store)?;
                store.whole(&by_digest(&target)?, &target, &platforms)?
            }
            _ => continue,
        };
        layouts.insert(volume.name.clone(), layout);
    }
    Ok(layouts)
}

/// Brings packages into the store.
///
/// # Errors
/// See [`FetchError`].
pub fn packages<'a>(
    wanted: impl Iterator<Item = &'a PackagePin>,
    arch: Arch,
    store: &Store,
    online: bool,
    apt: &Path,
    report: &Report,
) -> Result<(), FetchError> {
    let mut seen = BTreeSet::new();
    let mut missing: Vec<PackagePin> = Vec::new();
    for pin in wanted {
        if seen.insert(&pin.sha256) && !deb::has(store, pin)? {
            missing.push(pin.clone());
        }
    }
    let Some(first) = missing.first() else { return Ok(()) };
    if !online {
        let PackagePin { name, version, sha256, .. } = first.clone();
        return Err(FetchError::Offline { name, version, sha256 });
    }
    let total = missing.iter().map(|pin| pin.size).sum();
    let what = crate::report::count(missing.len(), "Debian package");
    let transfer = report.transfer(format!("fetch {what}"), 0, total);
    Apt::new(apt, arch)?.download(&missing, store, &|share| transfer.at((share * total as f64) as u64))?;
    transfer.done();
    Ok(())
}

fn pull_pin(reference: Reference, pin: &ImagePin) -> Result<pull::Pinned, DigestError> {
    Ok(pull::Pinned {
        reference,
        digest: kit_oci::digest::parse(&pin.digest)?,
        media_type: pin.media_type.as_str().into(),
        size: pin.size,
        index: None,
    })
}

/// The image that is meant of those in a file or directory, in the store.
fn import(local: &LocalImage, path: &Path, store: &Store) -> Result<Descriptor, FetchError> {
    let failed = |source| FetchError::Import { path: path.into(), source };
    let found = if path.is_dir() {
        store.import_layout(path, None).map_err(failed)?
    } else {
        let file = File::open(path).map_err(|source| FetchError::Open { path: path.into(), source })?;
        store.import_archive(file, None, &Limits::default()).map_err(failed)?
    };
    // A tag is a whole reference, or the tag of one.
    let called = |name: &Reference, tag: &str| name.to_string() == tag || name.tag() == Some(tag);
    let wanted: Vec<_> = found
        .iter()
        .filter(|image| local.tag().is_none_or(|tag| image.names.iter().any(|name| called(name, tag))))
        .collect();
    let [image] = wanted.as_slice() else {
        return Err(FetchError::Which {
            path: path.into(),
            tag: local.tag().map(Into::into),
            found: wanted.len(),
        });
    };
    Ok(image.target.clone())
}

/// By its digest, whatever it is called: the store may know another by the same name.
fn by_digest(target: &Descriptor) -> Result<Reference, ReferenceError> {
    format!("local.invalid/image@{}", target.digest()).parse()
}

fn fetched(image: pull::Image) -> FetchedImage {
    let layers = image.layers.iter().map(|layer| (layer.blob.digest().clone(), layer.blob.size())).collect();
    let config = match image.config.config() {
        None => Config::default(),
        Some(config) => Config {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            working_dir: config.working_dir().clone().unwrap_or_default(),
            user: config.user().clone().unwrap_or_default(),
            labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
        },
    };
    FetchedImage { layers, config, digest: image.digest }
}

impl Locked {
    /// Every Debian package that is needed; one that several images need comes several times.
    pub fn packages(&self) -> impl Iterator<Item = &PackagePin> {
        self.images.values().flat_map(Pinned::packages).chain(&self.boot)
    }
}

impl Pinned {
    /// The Debian packages that an image needs; one may come several times.
    pub fn packages(&self) -> impl Iterator<Item = &PackagePin> {
        let lists = match self {
            Pinned::Packages(pins) => std::slice::from_ref(pins),
            Pinned::Recipe(_, packages) => packages.as_slice(),
            Pinned::Registry(..) | Pinned::Local(..) => &[],
        };
        lists.iter().flatten()
    }
}
