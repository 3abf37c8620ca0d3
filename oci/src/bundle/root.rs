//! What every root holds and what none does, whatever its image says.
//!
//! Builders of images leave behind what was mounted while they ran (`/etc/hosts`, `/etc/resolv.conf`, `/.dockerenv`),
//! and images lack the directories that a runtime mounts on. LinuxKit's builder puts both right in every image that it
//! unpacks, and so does [`furnish`].

use kit_spec::tree::{Kind, Meta, PathError, Tree, TreeError, TreePath};

/// Where `/etc/resolv.conf` points in roots that can have a name server: a directory that boot makes.
pub const RESOLV_CONF: &str = "/run/resolvconf/resolv.conf";

/// What becomes of `/etc/resolv.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvConf {
    /// A file without a name server, for containers: who wants one binds it over this.
    Empty,
    /// A symbolic link to [`RESOLV_CONF`], for the root itself and for volumes.
    Link,
}

/// Why a root cannot be put right.
#[derive(Debug, thiserror::Error)]
pub enum FurnishError {
    /// A directory of the image is something else.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Never: the paths are constants.
    #[error(transparent)]
    Path(#[from] PathError),
}

const GONE: [&str; 4] = [".dockerenv", "Dockerfile", "dev/console", "etc/hostname"];

const DIRS: [&str; 6] = ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];

const HOSTS: &[u8] = b"127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

const NO_NAME_SERVER: &[u8] = b"# No name server is configured.\n";

/// Puts an image's tree right: the files that builders leave behind are taken away, `/etc/hosts` and
/// `/etc/resolv.conf` are replaced, and the directories `dev`, `dev/pts`, `dev/shm`, `etc`, `proc`, `sys` and the link
/// `etc/mtab` are there. All that is touched gets `mtime`, in seconds since 1970. `content` makes a handle for bytes.
///
/// # Errors
/// When `dev` or `etc` of the image is neither a directory nor leads to one.
pub fn furnish<C>(
    tree: &mut Tree<C>,
    resolv_conf: ResolvConf,
    mtime: i64,
    mut content: impl FnMut(&'static [u8]) -> C,
) -> Result<(), FurnishError> {
    for path in GONE {
        tree.remove(&TreePath::parse(path)?);
    }
    for path in DIRS {
        let path = TreePath::parse(path)?;
        match tree.follow(&path) {
            Some(found) if found.is_dir() => {
                tree.set_meta(&path, |meta| meta.mtime = mtime);
            }
            _ => tree.put(&path, Meta::root_owned(0o755, mtime), Kind::Dir)?,
        }
    }
    let mut file = |bytes: &'static [u8]| Kind::File { len: bytes.len() as u64, content: content(bytes) };
    let link = |target: &str| Kind::Symlink(target.as_bytes().into());
    tree.put(&TreePath::parse("etc/hosts")?, Meta::root_owned(0o644, mtime), file(HOSTS))?;
    let (mode, resolv) = match resolv_conf {
        ResolvConf::Empty => (0o644, file(NO_NAME_SERVER)),
        ResolvConf::Link => (0o777, link(RESOLV_CONF)),
    };
    tree.put(&TreePath::parse("etc/resolv.conf")?, Meta::root_owned(mode, mtime), resolv)?;
    let mtab = TreePath::parse("etc/mtab")?;
    if !tree.set_meta(&mtab, |meta| meta.mtime = mtime) {
        tree.put(&mtab, Meta::root_owned(0o777, mtime), link("/proc/mounts"))?;
    }
    Ok(())
}
