//! What an entry's name means in a layer (OCI image specification, layer.md "Whiteouts").

use kit_spec::tree::TreePath;

use super::error::Flaw;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS kept for itself beside the files.
const AUFS: &[u8] = b".wh..wh.";

/// What an entry is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// What the entry puts there.
    Plain(TreePath),
    /// What earlier layers put there is taken away.
    Whiteout(TreePath),
    /// What earlier layers put below is taken away.
    Opaque(TreePath),
    /// Nothing that an image is made of.
    Metadata,
}

/// Tells whiteouts from names.
pub(super) fn classify(path: TreePath) -> Result<Name, Flaw> {
    let Some(last) = path.file_name() else { return Ok(Name::Plain(path)) };
    if last != OPAQUE && path.components().any(|name| name.starts_with(AUFS)) {
        return Ok(Name::Metadata);
    }
    let parent = path.parent();
    if parent.components().any(|name| name.starts_with(WHITEOUT)) {
        return Err(Flaw::Whiteout("it lies below a whiteout"));
    }
    match last.strip_prefix(WHITEOUT) {
        _ if last == OPAQUE => Ok(Name::Opaque(parent)),
        None => Ok(Name::Plain(path)),
        Some(b"" | b"." | b"..") => Err(Flaw::Whiteout("its name is a whiteout of nothing")),
        Some(hidden) => {
            let hidden = TreePath::parse([parent.as_bytes(), hidden].join(&b'/')).map_err(Flaw::Name)?;
            Ok(Name::Whiteout(hidden))
        }
    }
}
