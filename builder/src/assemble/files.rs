//! The `files` section.

use super::Inputs;
use crate::contents::Blob;
use crate::image::bytes;
use kit_spec::node::{File, FileKind, MetadataFormat, Node};
use kit_spec::tree::{Kind, Meta, PathError, Tree, TreeError, TreePath};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Its source cannot be read.
    #[error("read {path}")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no home directory for `~`.
    #[error("`~` stands for a home directory, and $HOME is not set")]
    NoHome,
    /// An owner that no container has.
    #[error("the owner is not a container of this node")]
    Owner,
    /// The tree does not take it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Its path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The node cannot be written as text.
    #[error("write the node as {format}")]
    Metadata {
        /// In which language.
        format: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Puts one file into a root, with the directories above it.
pub(super) fn put(tree: &mut Tree<Blob>, file: &File, inputs: &Inputs) -> Result<(), FilesError> {
    let epoch = i64::from(inputs.epoch);
    let ids = inputs.locked.node.ids();
    let (Some(uid), Some(gid)) = (ids.number(&file.uid), ids.number(&file.gid)) else {
        return Err(FilesError::Owner);
    };
    let mode = (file.mode & 0o7777) as u16;
    let kind = match &file.kind {
        FileKind::Directory { .. } => Kind::Dir,
        FileKind::Symlink { symlink } => Kind::Symlink(symlink.as_bytes().into()),
        FileKind::Contents { contents } => bytes(contents.as_bytes()),
        FileKind::Source { source, optional } => {
            let path = local(source, inputs.base)?;
            match fs::read(&path) {
                Ok(content) => bytes(content),
                Err(error) if *optional && error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(FilesError::Source { path, source }),
            }
        }
        FileKind::Metadata { metadata } => bytes(node_text(&inputs.locked.node, *metadata)?),
    };
    let path = TreePath::parse(&file.path)?;
    parents(tree, &path, mode, (uid, gid), epoch)?;
    tree.put(&path, Meta { uid, gid, ..Meta::root_owned(mode, epoch) }, kind)?;
    Ok(())
}

/// Missing directories get the file's mode, and may be entered by whoever may read it.
fn parents(
    tree: &mut Tree<Blob>,
    path: &TreePath,
    mode: u16,
    owner: (u32, u32),
    epoch: i64,
) -> Result<(), FilesError> {
    let mode = mode & 0o777;
    let mode = mode | 0o700 | (mode & 0o444) >> 2;
    let mut missing = Vec::new();
    let mut dir = path.parent();
    while !dir.is_root() && tree.follow(&dir).is_none() {
        missing.push(dir.clone());
        dir = dir.parent();
    }
    for dir in missing.into_iter().rev() {
        tree.put(&dir, Meta { uid: owner.0, gid: owner.1, ..Meta::root_owned(mode, epoch) }, Kind::Dir)?;
    }
    Ok(())
}

fn local(source: &str, base: &Path) -> Result<PathBuf, FilesError> {
    match source.strip_prefix("~/") {
        // The one thing of the environment that a node file itself asks for.
        Some(below) => match std::env::home_dir() {
            Some(home) => Ok(home.join(below)),
            None => Err(FilesError::NoHome),
        },
        None => Ok(base.join(source)),
    }
}

fn node_text(node: &Node, format: MetadataFormat) -> Result<Vec<u8>, FilesError> {
    match format {
        MetadataFormat::Json => serde_json::to_vec_pretty(node)
            .map_err(|source| FilesError::Metadata { format: "JSON", source: Box::new(source) }),
        MetadataFormat::Yaml => Ok(node.to_yaml().into_bytes()),
    }
}
