//! From a layer's entries to changes, and from changes to a tree.
//!
//! An archive may hold a whiteout after the very files that the layer puts in its place, and a whiteout only hides
//! what *earlier* layers brought. So [`apply`] does all whiteouts of a layer first, then the rest in the archive's
//! order. This needs the whole list, but never a content.

use std::collections::HashSet;
use std::io::{self, Read};

use kit_spec::tree::{Action, Change, Kind, Tree, TreeError, TreePath};

use super::{Layer, LayerError};

/// Collects a layer's changes in the archive's order. `store` takes each file's content (its path, its bytes, a reader
/// of just these) and gives what stands for it. The blob is read to its end and given back.
///
/// # Errors
/// See [`LayerError`]; what `store` says comes as [`LayerError::Store`].
pub fn changes<R: Read, C>(
    mut layer: Layer<R>,
    mut store: impl FnMut(&TreePath, u64, &mut dyn Read) -> io::Result<C>,
) -> Result<(Vec<Change<C>>, R), LayerError> {
    let mut changes = Vec::new();
    while let Some(entry) = layer.next()? {
        let Change { path, action } = entry.change;
        let mut content = entry.content;
        let action = match action {
            Action::Put(meta, kind) => {
                let store = |len, content: &mut dyn Read| {
                    store(&path, len, content)
                        .map_err(|source| LayerError::Store { path: path.clone(), source })
                };
                Action::Put(meta, stored(kind, &mut content, store)?)
            }
            Action::Link(target) => Action::Link(target),
            Action::Remove => Action::Remove,
            Action::Opaque => Action::Opaque,
        };
        changes.push(Change { path, action });
    }
    Ok((changes, layer.finish()?))
}

/// Does to a tree what a layer says: whiteouts first, then the rest in order.
///
/// # Errors
/// See [`TreeError`]; the tree is then of no use.
pub fn apply<C>(tree: &mut Tree<C>, changes: Vec<Change<C>>) -> Result<(), TreeError> {
    let (mut whiteouts, rest): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change.action, Action::Remove | Action::Opaque));
    // Parents first: what lay below a link that is hidden is not this layer's to hide.
    whiteouts.sort_by(|a, b| a.path.cmp(&b.path));
    // Nor is what lies below a link that the layer replaces by a directory.
    let replaced: HashSet<&TreePath> = rest
        .iter()
        .filter(|change| matches!(change.action, Action::Put(_, Kind::Dir)))
        .map(|change| &change.path)
        .filter(|path| tree.get(path).is_some_and(|lower| matches!(lower.kind(), Kind::Symlink(_))))
        .collect();
    whiteouts.retain(|change| replaced.is_empty() || !is_below(&change.path, &replaced));
    whiteouts.into_iter().chain(rest).try_for_each(|change| tree.apply(change))
}

/// Folds a layer into a tree: [`changes`], then [`apply`]. The tree is not touched before the blob was read to its end,
/// so a reader that checks the blob's digest at its end keeps a wrong one out.
///
/// # Errors
/// See [`LayerError`].
pub fn fold<R: Read, C>(
    layer: Layer<R>,
    tree: &mut Tree<C>,
    store: impl FnMut(&TreePath, u64, &mut dyn Read) -> io::Result<C>,
) -> Result<R, LayerError> {
    let (changes, reader) = changes(layer, store)?;
    apply(tree, changes).map_err(|source| LayerError::Tree { source })?;
    Ok(reader)
}

fn stored<C>(
    kind: Kind<()>,
    content: &mut dyn Read,
    store: impl FnOnce(u64, &mut dyn Read) -> Result<C, LayerError>,
) -> Result<Kind<C>, LayerError> {
    Ok(match kind {
        Kind::File { len, content: () } => Kind::File { len, content: store(len, content)? },
        Kind::Dir => Kind::Dir,
        Kind::Symlink(target) => Kind::Symlink(target),
        Kind::Char(device) => Kind::Char(device),
        Kind::Block(device) => Kind::Block(device),
        Kind::Fifo => Kind::Fifo,
        Kind::Socket => Kind::Socket,
    })
}

fn is_below(path: &TreePath, any: &HashSet<&TreePath>) -> bool {
    std::iter::successors(Some(path.parent()), |at| (!at.is_root()).then(|| at.parent()))
        .any(|at| any.contains(&at))
}
