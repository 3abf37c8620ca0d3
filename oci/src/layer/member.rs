//! What one entry is, from its header and the extended headers before it.

use kit_spec::tree::{Action, Device, Kind, Meta, TreePath};

use super::error::Flaw;
use super::header::Header;
use super::pax::Pax;

/// Linux's PATH_MAX without the NUL, in bytes.
const TARGET_MAX: usize = 4095;

/// Headers that say something of the entry after them.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) pax: Option<Pax>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }

    /// The entry's name as written.
    pub(super) fn name(&self, header: &Header) -> Vec<u8> {
        let pax = self.pax.as_ref();
        let sparse = pax.and_then(|pax| pax.sparse.name.as_deref());
        let pax = sparse.or_else(|| pax.and_then(|pax| pax.path.as_deref()));
        pax.or(self.long_name.as_deref()).map_or_else(|| header.name(), <[u8]>::to_vec)
    }

    /// The link's target as written.
    pub(super) fn link_name<'a>(&'a self, header: &'a Header) -> &'a [u8] {
        let pax = self.pax.as_ref().and_then(|pax| pax.linkpath.as_deref());
        pax.or(self.long_link.as_deref()).unwrap_or_else(|| header.link_name())
    }

    /// Refuses what one reader would take from the PAX header and another from the GNU long name.
    pub(super) fn agree(&self) -> Result<(), Flaw> {
        let Some(pax) = &self.pax else { return Ok(()) };
        let differ = |pax: &Option<Box<[u8]>>, long: &Option<Vec<u8>>| match (pax, long) {
            (Some(pax), Some(long)) => **pax != **long,
            _ => false,
        };
        if differ(&pax.path, &self.long_name) || differ(&pax.linkpath, &self.long_link) {
            return Err(Flaw::Contradiction("its PAX header and its GNU long name are not the same"));
        }
        Ok(())
    }
}

/// A kind of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    OldSparse,
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
}

impl Type {
    pub(super) fn of(header: &Header) -> Result<Self, Flaw> {
        Ok(match header.kind() {
            0 | b'0' | b'7' => Type::File,
            b'1' => Type::HardLink,
            b'2' => Type::Symlink,
            b'3' => Type::Char,
            b'4' => Type::Block,
            b'5' => Type::Dir,
            b'6' => Type::Fifo,
            b'S' => Type::OldSparse,
            other => return Err(Flaw::Type(char::from(other).escape_debug().to_string())),
        })
    }

    /// Data follows the header; the size of other entries says nothing.
    pub(super) fn has_data(self) -> bool {
        matches!(self, Type::File | Type::OldSparse)
    }
}

/// What an entry does that is no whiteout; `len` is its content's, holes included.
pub(super) fn action(
    kind: Type,
    header: &Header,
    pax: Pax,
    link: &[u8],
    len: u64,
) -> Result<Action<()>, Flaw> {
    let kind = match kind {
        Type::HardLink => {
            let target = TreePath::parse(link).map_err(Flaw::LinkTarget)?;
            return if target.is_root() { Err(Flaw::LinkRoot) } else { Ok(Action::Link(target)) };
        }
        Type::File | Type::OldSparse => Kind::File { len, content: () },
        Type::Symlink => Kind::Symlink(target(link)?),
        Type::Char => Kind::Char(device(header)?),
        Type::Block => Kind::Block(device(header)?),
        Type::Dir => Kind::Dir,
        Type::Fifo => Kind::Fifo,
    };
    Ok(Action::Put(meta(header, pax)?, kind))
}

fn meta(header: &Header, pax: Pax) -> Result<Meta, Flaw> {
    Ok(Meta {
        mode: header.mode()?,
        uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
        gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
        mtime: pax.mtime.map_or_else(|| header.mtime(), Ok)?,
        xattrs: pax.into_xattrs(),
    })
}

fn device(header: &Header) -> Result<Device, Flaw> {
    let (major, minor) = header.device()?;
    Ok(Device { major, minor })
}

fn target(link: &[u8]) -> Result<Box<[u8]>, Flaw> {
    match link {
        b"" => Err(Flaw::Symlink("is empty")),
        _ if link.contains(&0) => Err(Flaw::Symlink("holds a NUL byte")),
        _ if link.len() > TARGET_MAX => Err(Flaw::Symlink("is longer than 4095 bytes")),
        _ => Ok(link.into()),
    }
}
