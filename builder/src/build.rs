//! The whole path, from node files to artifacts, as one function.

use crate::assemble::{AssembleError, Inputs, KernelFilesError, assemble, kernel_files};
use crate::contents::Blob;
use crate::fetch::{FetchError, Fetched, FetchedImage, fetch};
use crate::format::{self, FormatError};
use crate::image::{self, Image, ImageError};
use crate::layers::Layers;
use crate::oci_volume::{self, OciVolumeError};
use crate::report::{Report, size};
use crate::resolve::{Locked, Pinned};
use crate::root::{Root, RootId};
use crate::source::deb;
use kit_disk::squashfs::Settings;
use kit_oci::digest::Digest;
use kit_oci::registry::Client;
use kit_oci::store::Store;
use kit_spec::artifact::{Arch, Artifact, Format};
use kit_spec::tree::{Meta, Tree, TreePath};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where things are on the machine that builds.
#[derive(Clone, Debug)]
pub struct Places {
    /// Below it: the store, what is derived from it, apt's directory.
    pub cache: PathBuf,
    /// Node programs.
    pub programs: PathBuf,
    /// Recipes, in the order in which they are looked through.
    pub recipes: Vec<PathBuf>,
    /// What paths of the node file are relative to.
    pub base: PathBuf,
}

impl Places {
    /// The store of blobs.
    pub fn store(&self) -> PathBuf {
        self.cache.join("store")
    }

    /// Layers unpacked.
    pub fn layers(&self) -> PathBuf {
        self.cache.join("layers")
    }

    /// apt's own directory.
    pub fn apt(&self) -> PathBuf {
        self.cache.join("apt")
    }
}

/// What is to be built of a locked node.
pub struct Build<'a> {
    /// Where things are.
    pub places: &'a Places,
    /// Where blobs are.
    pub store: &'a Store,
    /// Registries; none when the network is forbidden.
    pub client: Option<&'a Client>,
    /// The name that output files begin with.
    pub name: String,
    /// In which formats.
    pub formats: &'a [Format],
    /// Into which directory.
    pub out: &'a Path,
    /// The time of everything that has none of its own.
    pub epoch: u32,
    /// Threads to compress with.
    pub threads: usize,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An input cannot be had.
    #[error("fetch inputs")]
    Fetch(#[from] FetchError),
    /// An image cannot be put together.
    #[error("image {image}")]
    Image {
        /// The reference.
        image: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// The kernel's image is of no use.
    #[error("kernel.image: {image}")]
    Kernel {
        /// The reference.
        image: String,
        /// Why.
        #[source]
        source: KernelFilesError,
    },
    /// A volume in OCI format cannot be filled.
    #[error("volume {name}")]
    Volume {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: OciVolumeError,
    },
    /// The root cannot be assembled.
    #[error("assemble the root")]
    Assemble(#[from] AssembleError),
    /// A boot loader or the loader of the initrd is not to be had.
    #[error("boot programs")]
    Boot(#[source] ImageError),
    /// A format cannot be written.
    #[error("write format {format}")]
    Format {
        /// Which.
        format: Format,
        /// Why.
        #[source]
        source: FormatError,
    },
}

/// Builds; what was written, a description for each format.
///
/// # Errors
/// See [`BuildError`]. Formats that were complete before stay.
pub fn build(
    locked: &Locked,
    build: &Build,
    report: &Report,
) -> Result<Vec<(Artifact, PathBuf)>, BuildError> {
    let fetched = fetch(locked, build.store, build.client, &build.places.apt(), report)?;
    let root = root(locked, &fetched, build, report)?;
    let mut artifacts = Vec::new();
    for format in build.formats {
        let step = report.step(format!("write {format}"));
        let (artifact, path) = format::write(*format, &root, build.out)
            .map_err(|source| BuildError::Format { format: *format, source })?;
        step.done(&size(artifact.files.iter().map(|file| file.size).sum()));
        artifacts.push((artifact, path));
    }
    Ok(artifacts)
}

/// The root of a locked node whose inputs are in the store.
fn root(locked: &Locked, fetched: &Fetched, build: &Build, report: &Report) -> Result<Root, BuildError> {
    let step = report.step("assemble");
    let epoch = i64::from(build.epoch);
    let mut layers = Layers::new(build.store, &build.places.layers(), Settings::default(), build.threads);
    layers.begin_packing(blobs(locked, fetched), report);
    let mut images = BTreeMap::new();
    for (name, pinned) in &locked.images {
        let loaded = load((name, pinned), locked.arch, fetched, &mut layers, build);
        images.insert(
            name.clone(),
            loaded.map_err(|source| BuildError::Image { image: name.clone(), source })?,
        );
    }
    let kernel = match &locked.node.kernel {
        None => None,
        Some(kernel) => {
            let image = kernel.image.to_string();
            let found = kernel_files(&mut layers, kernel, &images[&image], epoch);
            Some(found.map_err(|source| BuildError::Kernel { image, source })?)
        }
    };
    let mut boot = Tree::new(Meta::root_owned(0o755, epoch));
    for pin in &locked.boot {
        let package = image::package(&mut layers, pin, epoch).map_err(BuildError::Boot)?;
        boot.merge(&TreePath::root(), package)
            .map_err(|source| BuildError::Boot(ImageError::Apply { digest: pin.sha256.clone(), source }))?;
    }
    let loader = match kernel {
        None => Blob::Bytes([].as_slice().into()),
        Some(_) => image::program(&build.places.programs, "kit-loader").map_err(BuildError::Boot)?.1,
    };
    let needed =
        oci_volume::Inputs { locked, fetched, images: &images, store: build.store, epoch: build.epoch };
    let volumes = oci_volume::fill(&needed, &mut layers)
        .map_err(|(name, source)| BuildError::Volume { name, source })?;
    layers.end_packing();
    let inputs = Inputs {
        locked,
        volumes: &volumes,
        images: &images,
        contents: &layers.contents,
        base: &build.places.base,
        epoch: build.epoch,
    };
    let assembled = assemble(kernel, &inputs)?;
    let id = RootId::of(&assembled.tree, &layers.contents);
    step.done(&format!("{} files", assembled.tree.walk().count()));
    Ok(Root {
        name: build.name.clone(),
        arch: locked.arch,
        epoch: build.epoch,
        tree: assembled.tree,
        contents: layers.contents,
        kernel: assembled.kernel,
        loader,
        boot,
        id,
        threads: build.threads,
    })
}

/// The blobs that a build unpacks.
fn blobs(locked: &Locked, fetched: &Fetched) -> impl Iterator<Item = (Digest, u64)> {
    let packages = locked.packages().filter_map(|pin| Some((deb::digest(pin).ok()?, pin.size)));
    packages.chain(fetched.images.values().flat_map(|image| image.layers.iter().cloned()))
}

fn load(
    (name, pinned): (&str, &Pinned),
    arch: Arch,
    fetched: &Fetched,
    layers: &mut Layers,
    build: &Build,
) -> Result<Image, ImageError> {
    let epoch = i64::from(build.epoch);
    match pinned {
        Pinned::Packages(pins) => image::from_packages(layers, pins, epoch),
        Pinned::Recipe(recipe, packages) => {
            image::check_programs(recipe, &build.places.programs, arch)?;
            image::from_recipe(layers, recipe, packages, &build.places.programs, epoch)
        }
        Pinned::Registry(..) | Pinned::Local(..) => {
            let FetchedImage { layers: list, config, .. } = &fetched.images[name];
            image::from_layers(layers, list, config.clone(), epoch)
        }
    }
}
