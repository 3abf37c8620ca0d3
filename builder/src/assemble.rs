//! Everything in its place: kernel, init images, volumes, containers, files, the boot plan.
//!
//! In LinuxKit's order and under LinuxKit's paths, so that its init finds what it looks for: what comes later wins,
//! containers are bundles below `/containers`, and our own plan is one file more.

mod container;
mod files;
mod kernel_files;

use crate::contents::{Blob, Contents};
use crate::image::{Image, bytes};
use crate::kernel::{self, KernelError};
use crate::resolve::Locked;
use crate::root::Kernel;
use container::{Bundles, ContainerError};
use files::FilesError;
pub use kernel_files::{KernelFilesError, kernel_files};
use kit_oci::bundle::layout;
use kit_spec::node::{Node, Section, VolumeContent};
use kit_spec::plan::{self, Plan, PlanError};
use kit_spec::tree::{Kind, Meta, PathError, Tree, TreeError, TreePath};
use std::collections::BTreeMap;
use std::path::Path;

/// What assembling may use, all of it decided before.
pub struct Inputs<'a> {
    /// The node and its pins.
    pub locked: &'a Locked,
    /// Its images, by reference.
    pub images: &'a BTreeMap<String, Image>,
    /// What volumes in OCI format hold, by name.
    pub volumes: &'a BTreeMap<String, Tree<Blob>>,
    /// The contents of their files.
    pub contents: &'a Contents,
    /// What paths of the node file are relative to.
    pub base: &'a Path,
    /// The time of everything that has none of its own.
    pub epoch: u32,
}

/// A root's files and its kernel.
pub struct Assembled {
    /// The files.
    pub tree: Tree<Blob>,
    /// The kernel; none if the node names none.
    pub kernel: Option<Kernel>,
}

/// Why a root cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// An init image does not fit over those before.
    #[error("init[{index}]: {image}")]
    Init {
        /// Its place in the list.
        index: usize,
        /// The reference.
        image: String,
        /// Why.
        #[source]
        source: ContainerError,
    },
    /// A container.
    #[error("{section}[{index}]: {name}")]
    Container {
        /// The list.
        section: Section,
        /// Its place in the list.
        index: usize,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ContainerError,
    },
    /// A volume.
    #[error("volume {name}")]
    Volume {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A file.
    #[error("files[{index}]: {path}")]
    File {
        /// Its place in the list.
        index: usize,
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: FilesError,
    },
    /// The kernel's modules.
    #[error(transparent)]
    Modules(#[from] KernelError),
    /// The boot plan.
    #[error("the boot plan")]
    Plan(#[from] PlanError),
    /// The tree does not take a file of ours.
    #[error("lay out the root")]
    Tree(#[from] TreeError),
    /// A path is none.
    #[error("lay out the root")]
    Path(#[from] PathError),
}

/// Puts a root together.
///
/// # Errors
/// See [`AssembleError`].
pub fn assemble(kernel: Option<(Kernel, Tree<Blob>)>, inputs: &Inputs) -> Result<Assembled, AssembleError> {
    let node = &inputs.locked.node;
    let mut tree = Tree::new(Meta::root_owned(0o755, i64::from(inputs.epoch)));
    let kernel = match kernel {
        None => None,
        Some((kernel, modules)) => {
            tree.merge(&TreePath::root(), modules)?;
            Some(kernel)
        }
    };
    for (index, reference) in node.init.iter().enumerate() {
        let image = reference.to_string();
        let flat = container::init_tree(&tree, &inputs.images[&image], inputs);
        flat.and_then(|flat| Ok(tree.merge(&TreePath::root(), flat)?))
            .map_err(|source| AssembleError::Init { index, image, source })?;
    }
    let volumes = volumes(node, inputs, &mut tree)?;
    let mut bundles = Bundles::new(inputs);
    let plan = Plan {
        version: plan::VERSION,
        volumes,
        onboot: bundles.onboot(&mut tree)?,
        onshutdown: bundles.onshutdown(&mut tree)?,
        services: bundles.services(&mut tree)?,
    };
    plan.check()?;
    let json = serde_json::to_vec_pretty(&plan).unwrap_or_default();
    for (index, file) in node.files.iter().enumerate() {
        let failed = |source| AssembleError::File { index, path: file.path.clone(), source };
        files::put(&mut tree, file, inputs).map_err(failed)?;
    }
    tree.put(&TreePath::parse(plan::PATH)?, Meta::root_owned(0o644, i64::from(inputs.epoch)), bytes(json))?;
    mount_points(&mut tree, inputs)?;
    kernel::index(&mut tree, inputs.contents, i64::from(inputs.epoch))?;
    Ok(Assembled { tree, kernel })
}

fn volumes(node: &Node, inputs: &Inputs, tree: &mut Tree<Blob>) -> Result<Vec<plan::Volume>, AssembleError> {
    let mut planned = Vec::new();
    for volume in &node.volumes {
        let failed = |source| AssembleError::Volume { name: volume.name.clone(), source };
        let place = layout::volume(&volume.name)?;
        let meta = || Meta::root_owned(0o755, i64::from(inputs.epoch));
        for dir in place.dirs.iter().chain([&place.lower]) {
            tree.put(dir, meta(), Kind::Dir).map_err(failed)?;
        }
        match &volume.content {
            VolumeContent::Empty => {}
            VolumeContent::Filesystem(image) => {
                let image = inputs.images[&image.to_string()].tree.clone();
                tree.merge(&place.lower, image).map_err(failed)?;
            }
            VolumeContent::Oci { .. } => {
                tree.merge(&place.lower, inputs.volumes[&volume.name].clone()).map_err(failed)?;
            }
        }
        planned.push(plan::Volume { name: volume.name.clone(), readonly: volume.readonly });
    }
    Ok(planned)
}

/// Directories that whoever boots this root mounts something on; a read-only root cannot be given them later.
fn mount_points(tree: &mut Tree<Blob>, inputs: &Inputs) -> Result<(), AssembleError> {
    for (dir, mode) in
        [("dev", 0o755), ("proc", 0o555), ("run", 0o755), ("sys", 0o555), ("tmp", 0o1777), ("var", 0o755)]
    {
        let path = TreePath::parse(dir)?;
        if tree.get(&path).is_none() {
            tree.put(&path, Meta::root_owned(mode, i64::from(inputs.epoch)), Kind::Dir)?;
        }
    }
    Ok(())
}
