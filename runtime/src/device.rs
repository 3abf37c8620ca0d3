//! Device nodes and the links of `/dev`.
//!
//! The specification's default devices and those of `linux.devices` are made with mknod; where that
//! is not allowed (a user namespace), the host's node is bind-mounted instead.

use crate::mount;
use crate::mount::options::{Kind, Plan};
use crate::target::{self, Missing};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What can go wrong with a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node cannot be made.
    #[error("linux.devices: make {}", path.display())]
    Make {
        /// The node.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is not this device has its name.
    #[error("linux.devices: {} exists and is another file", path.display())]
    Taken {
        /// The node.
        path: PathBuf,
    },
    /// A number does not fit.
    #[error("linux.devices: {} has the impossible number {major}:{minor}", path.display())]
    Number {
        /// The node.
        path: PathBuf,
        /// As written.
        major: i64,
        /// As written.
        minor: i64,
    },
    /// A link of `/dev` cannot be made.
    #[error("make the link {link}")]
    Link {
        /// The link.
        link: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    path: PathBuf,
    kind: FileType,
    number: (u32, u32),
    mode: u32,
    owner: (u32, u32),
}

/// The default devices (runtime-spec, config-linux, "Default Devices") with their numbers.
pub const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// The nodes of a container: the defaults, and those of the configuration, which come instead of a
/// default of the same path.
pub fn nodes(devices: &[LinuxDevice]) -> Result<Vec<Node>, Error> {
    let mut nodes: Vec<Node> = DEFAULTS
        .iter()
        .map(|&(path, major, minor)| Node {
            path: path.into(),
            kind: FileType::CharacterDevice,
            number: (major, minor),
            mode: 0o666,
            owner: (0, 0),
        })
        .collect();
    for device in devices {
        let node = node(device)?;
        nodes.retain(|n| n.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

fn node(device: &LinuxDevice) -> Result<Node, Error> {
    let (path, major, minor) = (device.path().clone(), device.major(), device.minor());
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => FileType::CharacterDevice,
    };
    let (Ok(number_major), Ok(number_minor)) = (u32::try_from(major), u32::try_from(minor)) else {
        return Err(Error::Number { path, major, minor });
    };
    Ok(Node {
        path,
        kind,
        number: (number_major, number_minor),
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}

/// Whether `/dev` is the host's, shown by a bind mount: then nothing is made in it.
pub fn dev_is_shown(mounts: &[Plan<'_>]) -> bool {
    mounts.iter().any(|plan| {
        matches!(plan.kind, Kind::Bind { .. })
            && plan.mount.destination().components().eq(Path::new("/dev").components())
    })
}

/// Makes the nodes inside `root`. The umask is 0.
pub fn make_all(root: BorrowedFd<'_>, nodes: &[Node]) -> Result<(), Error> {
    let Ok(dev) = target::open_or_make(root, Path::new("/dev"), Missing::Directory) else {
        return nodes.iter().try_for_each(|node| make(root, root, node));
    };
    nodes.iter().try_for_each(|node| make(root, dev.as_fd(), node))
}

fn make(root: BorrowedFd<'_>, dev: BorrowedFd<'_>, node: &Node) -> Result<(), Error> {
    let fail = |e: Errno| Error::Make { path: node.path.clone(), source: e.into() };
    let name = node.path.file_name().ok_or_else(|| fail(Errno::INVAL))?;
    let parent = node.path.parent().unwrap_or(Path::new("/"));
    let elsewhere;
    let dir = if parent == Path::new("/dev") {
        dev
    } else {
        elsewhere = target::open_or_make(root, parent, Missing::Directory).map_err(fail)?;
        elsewhere.as_fd()
    };
    let number = rustix::fs::makedev(node.number.0, node.number.1);
    match rustix::fs::mknodat(dir, name, node.kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
            let same = FileType::from_raw_mode(stat.st_mode) == node.kind
                && (node.kind == FileType::Fifo || stat.st_rdev == number);
            return if same { Ok(()) } else { Err(Error::Taken { path: node.path.clone() }) };
        }
        Err(Errno::PERM) => return bind_host_node(root, node).map_err(fail),
        Err(errno) => return Err(fail(errno)),
    }
    if node.owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    }
    Ok(())
}

fn bind_host_node(root: BorrowedFd<'_>, node: &Node) -> Result<(), Errno> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, &node.path, flags)?;
    let target = target::open_or_make(root, &node.path, Missing::File)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

/// Makes the links of `/dev` inside `root`, where there is nothing of their names.
pub fn link_all(root: BorrowedFd<'_>) -> Result<(), Error> {
    let dev = target::open_or_make(root, Path::new("/dev"), Missing::Directory)
        .map_err(|e| Error::Link { link: "/dev", source: e.into() })?;
    for (link, to) in LINKS {
        match rustix::fs::symlinkat(to, &dev, &link["/dev/".len()..]) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only image has what it has.
            Err(Errno::ROFS) => {}
            Err(errno) => return Err(Error::Link { link, source: errno.into() }),
        }
    }
    Ok(())
}
