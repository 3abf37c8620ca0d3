//! Paths inside a tree: relative, clean, and unable to lead out.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A path below a tree's root: no leading slash, no empty component, no `.` or `..`. The root is the empty path.
/// Bytes, since archives hold bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(Box<[u8]>);

/// Why some bytes are not a path inside a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// A `..` component.
    #[error("path `{path}` leaves the root by `..`")]
    LeavesRoot {
        /// The bytes, made printable.
        path: String,
    },
    /// A NUL byte.
    #[error("path `{path}` holds a NUL byte")]
    Nul {
        /// The bytes, made printable.
        path: String,
    },
    /// A name over 255 bytes, or a path over 4,095 (Linux's NAME_MAX and PATH_MAX).
    #[error("path `{path}` is too long: {what} of {len} bytes, at most {limit} are possible")]
    TooLong {
        /// The first bytes, made printable.
        path: String,
        /// `a name` or `a path`.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

impl TreePath {
    /// The root itself.
    pub fn root() -> Self {
        TreePath(Box::default())
    }

    /// Checks and cleans a path as archives write it: leading `/` and `./`, doubled and trailing slashes go away.
    ///
    /// # Errors
    /// `..` in any place, a NUL byte, a name or a path longer than Linux takes.
    pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let raw = raw.as_ref();
        let shown = || String::from_utf8_lossy(&raw[..raw.len().min(200)]).escape_debug().to_string();
        if raw.contains(&0) {
            return Err(PathError::Nul { path: shown() });
        }
        let mut clean = Vec::with_capacity(raw.len());
        for name in raw.split(|b| *b == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(PathError::LeavesRoot { path: shown() }),
                _ if name.len() > NAME_MAX => {
                    return Err(PathError::TooLong {
                        path: shown(),
                        what: "a name",
                        len: name.len(),
                        limit: NAME_MAX,
                    });
                }
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(name);
        }
        if clean.len() > PATH_MAX {
            return Err(PathError::TooLong {
                path: shown(),
                what: "a path",
                len: clean.len(),
                limit: PATH_MAX,
            });
        }
        Ok(TreePath(clean.into()))
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names, from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The last name; none for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory it is in; the root's is the root.
    pub fn parent(&self) -> TreePath {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => TreePath(self.0[..slash].into()),
            None => TreePath::root(),
        }
    }

    /// `other` below this path.
    pub fn join(&self, other: &TreePath) -> TreePath {
        match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => TreePath([&self.0, b"/".as_slice(), &other.0].concat().into()),
        }
    }

    /// True if this is `other` or lies below it.
    pub fn starts_with(&self, other: &TreePath) -> bool {
        other.is_root()
            || self.0.strip_prefix(&*other.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    pub(super) fn child(&self, name: &[u8]) -> TreePath {
        self.join(&TreePath(name.into()))
    }

    pub(super) fn from_components<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> TreePath {
        TreePath(names.into_iter().collect::<Vec<_>>().join(&b'/').into())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for TreePath {
    type Err = PathError;

    fn from_str(raw: &str) -> Result<Self, PathError> {
        TreePath::parse(raw)
    }
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<[u8]>::deserialize(deserializer)?;
        TreePath::parse(&raw).map_err(de::Error::custom)
    }
}
