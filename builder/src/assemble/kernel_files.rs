//! The kernel's image: the kernel itself, its modules, microcode.

use crate::contents::Blob;
use crate::image::Image;
use crate::layers::{Layers, LayersError};
use crate::root;
use kit_spec::node::Kernel;
use kit_spec::tree::{Kind, Meta, PathError, Tree, TreeError, TreePath};

/// Why a kernel's image is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KernelFilesError {
    /// A file is not in the image.
    #[error("the image holds no file /{name} (`kernel.{key}`)")]
    Missing {
        /// The key of the node file.
        key: &'static str,
        /// The file's name.
        name: String,
    },
    /// The image has neither a tar of modules nor modules.
    #[error(
        "the image holds neither /{name} nor modules in /lib/modules: write `tar: none` for a kernel without"
    )]
    NoModules {
        /// The tar's name.
        name: String,
    },
    /// The tar of modules cannot be read.
    #[error("unpack /{name}")]
    Tar {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: LayersError,
    },
    /// The tree does not take a file.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A name is no path.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The default name of the tar of modules; images of ours hold the modules themselves.
const KERNEL_TAR: &str = "kernel.tar";

/// The kernel of an image, and the tree of its modules.
///
/// # Errors
/// See [`KernelFilesError`].
pub fn kernel_files(
    layers: &mut Layers,
    kernel: &Kernel,
    image: &Image,
    epoch: i64,
) -> Result<(root::Kernel, Tree<Blob>), KernelFilesError> {
    let (len, blob) = file(image, &kernel.binary, "binary")?;
    let ucode = kernel.ucode.as_ref().map(|name| file(image, name, "ucode")).transpose()?;
    let modules = match &kernel.tar {
        None => empty(epoch),
        Some(name) => match file(image, name, "tar") {
            Ok((_, blob)) => unpack(layers, name, &blob, epoch)?,
            Err(_) if name == KERNEL_TAR => modules(image, epoch)?,
            Err(error) => return Err(error),
        },
    };
    Ok((root::Kernel { len, blob, cmdline: kernel.cmdline.clone(), ucode }, modules))
}

fn file(image: &Image, name: &str, key: &'static str) -> Result<(u64, Blob), KernelFilesError> {
    match image.tree.follow(&TreePath::parse(name)?).map(|inode| inode.kind()) {
        Some(Kind::File { len, content }) => Ok((*len, content.clone())),
        _ => Err(KernelFilesError::Missing { key, name: name.trim_start_matches('/').into() }),
    }
}

fn empty(epoch: i64) -> Tree<Blob> {
    Tree::new(Meta::root_owned(0o755, epoch))
}

/// The modules of an image that holds them as they are.
fn modules(image: &Image, epoch: i64) -> Result<Tree<Blob>, KernelFilesError> {
    let mut modules = empty(epoch);
    let missing = || KernelFilesError::NoModules { name: KERNEL_TAR.into() };
    let at = TreePath::parse("lib/modules")?;
    let from = image.tree.real_path(&at).ok_or_else(missing)?;
    for (path, _, inode) in image.tree.walk() {
        if !path.starts_with(&from) {
            continue;
        }
        let below = TreePath::parse(&path.as_bytes()[from.as_bytes().len()..])?;
        modules.put(&at.join(&below), inode.meta.clone(), inode.kind().clone())?;
    }
    Ok(modules)
}

/// The tree in a tar that is a file of an image; unpacked once, as layers are.
fn unpack(layers: &mut Layers, name: &str, blob: &Blob, epoch: i64) -> Result<Tree<Blob>, KernelFilesError> {
    let failed = |source| KernelFilesError::Tar { name: name.into(), source };
    let mut tree = empty(epoch);
    for change in layers.nested(blob).map_err(failed)? {
        tree.apply(change)?;
    }
    Ok(tree)
}
