//! From names to pins: the only step that asks *what*.
//!
//! A tag becomes a digest, a package becomes a list of versions with their SHA-256, a recipe is read and its packages
//! pinned. What a lock says is taken as it is; what it does not say is asked for, unless that is forbidden.

use crate::source::deb::{Apt, DebError};
use crate::source::recipe::{Package, Recipe, RecipeError};
use kit_oci::platform::Platform;
use kit_oci::pull::{self, PullError, Source};
use kit_oci::reference::{Reference, ReferenceError};
use kit_oci::registry::Client;
use kit_oci::store::Store;
use kit_spec::artifact::{Arch, Format};
use kit_spec::lock::{ImagePin, Lock, PackagePin};
use kit_spec::node::image::{DebianPackages, ImageRef, LocalImage, PackagePath, RegistryRef};
use kit_spec::node::{Node, VolumeContent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A node with every input pinned.
#[derive(Debug)]
pub struct Locked {
    /// The node.
    pub node: Node,
    /// What it is built for.
    pub arch: Arch,
    /// What each of its image references stands for, by the reference as [`ImageRef`] prints it.
    pub images: BTreeMap<String, Pinned>,
    /// What volumes in OCI format hold if it is an image that there is already, by the volume's name.
    pub layouts: BTreeMap<String, Pinned>,
    /// Packages that hold boot loaders, for the formats asked for.
    pub boot: Vec<PackagePin>,
    /// The pins, to be written down.
    pub lock: Lock,
}

/// What an image reference stands for.
#[derive(Clone, Debug)]
pub enum Pinned {
    /// An image of a registry.
    Registry(Reference, ImagePin),
    /// An image in a file or directory of this machine.
    Local(LocalImage, PathBuf),
    /// Debian packages.
    Packages(Vec<PackagePin>),
    /// A recipe, and for each of its packages what it stands for.
    Recipe(Box<Recipe>, Vec<Vec<PackagePin>>),
}

/// What resolving may use.
pub struct Sources<'a> {
    /// What is built for.
    pub arch: Arch,
    /// Pins that are taken as they are.
    pub lock: Lock,
    /// Whether a name that the lock does not pin is an error.
    pub locked: bool,
    /// What is there already.
    pub store: &'a Store,
    /// Registries; none when the network is forbidden.
    pub client: Option<&'a Client>,
    /// Whether a registry is asked about an image that the store has.
    pub ask_anew: bool,
    /// Where apt works; its network is forbidden too when there is no client.
    pub apt: PathBuf,
    /// Where recipes are looked for, in order.
    pub recipes: Vec<PathBuf>,
    /// What paths of the node file are relative to.
    pub base: PathBuf,
}

/// Why a name cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// An image of the node file; the source says why.
    #[error("{at}: resolve {image}")]
    Image {
        /// Where it is named: `services[2].image`.
        at: String,
        /// The reference.
        image: String,
        /// Why.
        #[source]
        source: Box<ResolveError>,
    },
    /// The lock does not pin it, and may not be added to.
    #[error("the lock does not pin {what}")]
    NotLocked {
        /// What.
        what: String,
    },
    /// The network would be needed, and is forbidden.
    #[error("{what} is not pinned, and the network may not be asked")]
    Offline {
        /// What.
        what: String,
    },
    /// A registry's answer.
    #[error(transparent)]
    Registry(#[from] PullError),
    /// A reference that registries do not know.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Packages.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A source directory without a recipe.
    #[error(
        "{path} holds no image.yml: write one (programs, deb, files, config), or name a built image instead"
    )]
    NoRecipe {
        /// The directory.
        path: PathBuf,
    },
    /// A pattern for package names that is none.
    #[error("`{pattern}` is not a pattern for package names")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: glob::PatternError,
    },
}

/// What follows an image's name in a lock where the name's whole index is pinned, not one platform's image.
const ALL_PLATFORMS: &str = " (all platforms)";

/// Packages with what boots a disk or CD, by format.
pub fn boot_packages(format: Format) -> &'static [&'static str] {
    match format {
        Format::Iso => &["isolinux", "syslinux-common", "systemd-boot-efi"],
        Format::RawEfi => &["systemd-boot-efi"],
        Format::KernelInitrd | Format::KernelSquashfs | Format::Tar => &[],
    }
}

/// Pins everything that a node and the formats need.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve(node: Node, formats: &[Format], sources: Sources) -> Result<Locked, ResolveError> {
    let mut resolver = Resolver { apt: None, pinned: Lock::default(), sources };
    let (layouts, whole) = resolver.layouts(&node)?;
    let mut images = BTreeMap::new();
    for (at, image) in node.images().into_iter().filter(|(at, _)| !whole.contains(at)) {
        let name = image.to_string();
        if images.contains_key(&name) {
            continue;
        }
        let pinned = resolver.image(image).map_err(|source| ResolveError::Image {
            at,
            image: name.clone(),
            source: Box::new(source),
        })?;
        images.insert(name, pinned);
    }
    let mut boot = Vec::new();
    if node.kernel.is_some() {
        let mut wanted: Vec<&str> =
            formats.iter().flat_map(|format| boot_packages(*format)).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        for name in wanted {
            boot.extend(resolver.package(&[name.to_owned()], &[name.to_owned()])?);
        }
    }
    let Resolver { pinned: mut lock, sources, .. } = resolver;
    // Pins for other architectures and formats are kept.
    for (arch, images) in &sources.lock.images {
        if *arch != sources.arch {
            lock.images.insert(*arch, images.clone());
        }
    }
    for (arch, packages) in &sources.lock.packages {
        let kept = lock.packages.entry(*arch).or_default();
        for (request, pins) in packages {
            kept.entry(request.clone()).or_insert_with(|| pins.clone());
        }
    }
    Ok(Locked { node, arch: sources.arch, images, layouts, boot, lock })
}

/// Pins what one image needs that is not of a node file: a recipe's, in `dir` if it is not among the recipes, or
/// packages'. The lock has these pins alone.
///
/// # Errors
/// See [`ResolveError`].
pub fn resolve_image(
    image: &ImageRef,
    dir: Option<&Path>,
    sources: Sources,
) -> Result<(Pinned, Lock), ResolveError> {
    let mut resolver = Resolver { apt: None, pinned: Lock::default(), sources };
    let pinned = match dir {
        Some(dir) => resolver.recipe(Recipe::read(dir)?)?,
        None => resolver.image(image)?,
    };
    Ok((pinned, resolver.pinned))
}

struct Resolver<'a> {
    sources: Sources<'a>,
    apt: Option<Apt>,
    pinned: Lock,
}

impl Resolver<'_> {
    fn image(&mut self, image: &ImageRef) -> Result<Pinned, ResolveError> {
        match image {
            ImageRef::Registry(reference) => self.registry(reference),
            ImageRef::Local(local) => Ok(Pinned::Local(local.clone(), self.sources.base.join(local.path()))),
            ImageRef::Debian(packages) => self.debian(packages),
            ImageRef::Recipe(name) => {
                let recipe = Recipe::load(name.as_str(), &self.sources.recipes)?;
                self.recipe(recipe)
            }
            ImageRef::Template(path) => self.package_path(path),
        }
    }

    fn registry(&mut self, wanted: &RegistryRef) -> Result<Pinned, ResolveError> {
        let name = wanted.to_string();
        let reference: Reference = name.parse()?;
        let arch = self.sources.arch;
        let known = self.sources.lock.images.get(&arch).and_then(|images| images.get(&name));
        let pin = match known {
            Some(pin) => pin.clone(),
            None if self.sources.locked => return Err(ResolveError::NotLocked { what: name }),
            None => self.ask(&reference)?,
        };
        self.pinned.images.entry(arch).or_default().insert(name, pin.clone());
        Ok(Pinned::Registry(reference, pin))
    }

    /// What volumes in OCI format hold, by the volume's name, and where these images are named. Recipes and packages are
    /// left to be put together as other images are.
    fn layouts(&mut self, node: &Node) -> Result<(BTreeMap<String, Pinned>, BTreeSet<String>), ResolveError> {
        let (mut layouts, mut places) = (BTreeMap::new(), BTreeSet::new());
        for (i, volume) in node.volumes.iter().enumerate() {
            let VolumeContent::Oci { image, .. } = &volume.content else { continue };
            let at = format!("volumes[{i}].image");
            let pinned = match image {
                ImageRef::Registry(reference) => self.root(reference),
                ImageRef::Local(_) => self.image(image),
                ImageRef::Debian(_) | ImageRef::Recipe(_) | ImageRef::Template(_) => continue,
            };
            let failed = |source| ResolveError::Image {
                at: at.clone(),
                image: image.to_string(),
                source: Box::new(source),
            };
            layouts.insert(volume.name.clone(), pinned.map_err(failed)?);
            places.insert(at);
        }
        Ok((layouts, places))
    }

    /// What a reference itself names, an index if there is one.
    fn root(&mut self, wanted: &RegistryRef) -> Result<Pinned, ResolveError> {
        let name = wanted.to_string();
        let reference: Reference = name.parse()?;
        let arch = self.sources.arch;
        let key = format!("{name}{ALL_PLATFORMS}");
        let known = self.sources.lock.images.get(&arch).and_then(|images| images.get(&key));
        let pin = match known {
            Some(pin) => pin.clone(),
            None if self.sources.locked => return Err(ResolveError::NotLocked { what: key }),
            None => self.ask_root(&reference)?,
        };
        self.pinned.images.entry(arch).or_default().insert(key, pin.clone());
        Ok(Pinned::Registry(reference, pin))
    }

    /// An index in the store counts as it does for an image. One image in the store may be a part only of what the
    /// registry has under the name, or may have been made here, and be all there is.
    fn ask_root(&self, reference: &Reference) -> Result<ImagePin, ResolveError> {
        let root = |source: &Source| pull::resolve_root(reference, self.sources.store, source);
        let stored = root(&Source::offline());
        let whole = matches!(&stored, Ok(found) if kit_oci::manifest::is_index(found.media_type()));
        let found = match self.sources.client {
            None => stored?,
            Some(_) if whole && !self.sources.ask_anew => stored?,
            Some(client) => root(&Source::registry(client)).or_else(|error| stored.map_err(|_| error))?,
        };
        Ok(ImagePin {
            digest: found.digest().to_string(),
            media_type: found.media_type().to_string(),
            size: found.size(),
        })
    }

    /// What the store has under a name counts before what a registry says, as for images that were imported.
    fn ask(&self, reference: &Reference) -> Result<ImagePin, ResolveError> {
        let platform = platform(self.sources.arch);
        let resolve = |source: &Source| pull::resolve(reference, &platform, self.sources.store, source);
        let pinned = match (resolve(&Source::offline()), self.sources.client) {
            (Ok(pinned), None) => pinned,
            (Ok(pinned), Some(_)) if !self.sources.ask_anew => pinned,
            (Err(error), None) => return Err(error.into()),
            (_, Some(client)) => resolve(&Source::registry(client))?,
        };
        Ok(ImagePin {
            digest: pinned.digest.to_string(),
            media_type: pinned.media_type.to_string(),
            size: pinned.size,
        })
    }

    fn debian(&mut self, packages: &DebianPackages) -> Result<Pinned, ResolveError> {
        let names: Vec<String> = packages
            .packages()
            .iter()
            .map(|package| match package.version() {
                Some(version) => format!("{}={version}", package.name()),
                None => package.name().to_owned(),
            })
            .collect();
        Ok(Pinned::Packages(self.package(&names, &[])?))
    }

    fn recipe(&mut self, recipe: Recipe) -> Result<Pinned, ResolveError> {
        let mut packages = Vec::new();
        for Package { package, only, .. } in &recipe.deb {
            packages.push(self.package(std::slice::from_ref(package), only)?);
        }
        Ok(Pinned::Recipe(Box::new(recipe), packages))
    }

    fn package_path(&mut self, path: &PackagePath) -> Result<Pinned, ResolveError> {
        let dir = self.sources.base.join(path.path());
        if !dir.join("image.yml").is_file() {
            return Err(ResolveError::NoRecipe { path: dir });
        }
        let recipe = Recipe::read(&dir)?;
        self.recipe(recipe)
    }

    /// The closure of some packages, narrowed to names that match one of `only`.
    fn package(&mut self, names: &[String], only: &[String]) -> Result<Vec<PackagePin>, ResolveError> {
        let mut sorted = names.to_vec();
        sorted.sort();
        let mut request = sorted.join(",");
        if !only.is_empty() {
            request.push_str(&format!(" (only {})", only.join(",")));
        }
        let arch = self.sources.arch;
        let known = self.sources.lock.packages.get(&arch).and_then(|packages| packages.get(&request));
        let pins = match known {
            Some(pins) => pins.clone(),
            None if self.sources.locked => return Err(ResolveError::NotLocked { what: request }),
            None if self.sources.client.is_none() => return Err(ResolveError::Offline { what: request }),
            None => {
                let patterns = only
                    .iter()
                    .map(|pattern| {
                        glob::Pattern::new(pattern)
                            .map_err(|source| ResolveError::Pattern { pattern: pattern.clone(), source })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let mut pins = apt(&mut self.apt, &self.sources.apt, arch)?.closure(&sorted)?;
                pins.retain(|pin| {
                    only.is_empty() || patterns.iter().any(|pattern| pattern.matches(&pin.name))
                });
                pins
            }
        };
        self.pinned.packages.entry(arch).or_default().insert(request, pins.clone());
        Ok(pins)
    }
}

fn apt<'a>(apt: &'a mut Option<Apt>, dir: &Path, arch: Arch) -> Result<&'a Apt, DebError> {
    match apt {
        Some(apt) => Ok(apt),
        None => Ok(apt.insert(Apt::new(dir, arch)?)),
    }
}

/// The platform of images for an architecture.
pub fn platform(arch: Arch) -> Platform {
    match arch {
        Arch::Amd64 => Platform::linux_amd64(),
        Arch::Arm64 => "linux/arm64".parse().unwrap_or_else(|_| Platform::linux_amd64()),
    }
}
