//! Trees of mounts that only `kitc` itself can clone, before the container's process is made: mapped ids
//! need rights over the file system, and a user namespace's root user cannot reach every source.

use super::{clone_tree, options};
use crate::channel::Channel;
use crate::namespace::{self, Plan};
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::mount::{MountAttr, mount_setattr};
use oci_spec::runtime::{Linux, LinuxIdMapping};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What can go wrong with a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be cloned, or its ids cannot be mapped.
    #[error(transparent)]
    Mount(#[from] super::Error),
    /// The maps of the user namespace cannot be written.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// The user namespace that stands for the maps cannot be made.
    #[error("{doing}")]
    Call {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn call(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Call { doing, source }
}

/// Clones the trees that only `kitc` can: those with mapped ids, and, for a container whose root user
/// is not the host's, those behind directories that others may not search.
pub fn prepare(
    linux: &Linux,
    mounts: &[options::Plan<'_>],
    plan: &Plan,
) -> Result<Vec<(usize, OwnedFd)>, Error> {
    let mut trees = Vec::new();
    for (index, understood) in mounts.iter().enumerate() {
        let options::Kind::Bind { recursive, source } = understood.kind else { continue };
        let reachable = !plan.has_user() || searchable_by_others(source);
        if understood.idmap.is_none() && reachable {
            continue;
        }
        let tree = clone_tree(index, source, recursive)?;
        if let Some(idmap) = understood.idmap {
            let (uids, gids) = if idmap.own {
                (understood.mount.uid_mappings(), understood.mount.gid_mappings())
            } else {
                (linux.uid_mappings(), linux.gid_mappings())
            };
            let userns = user_namespace_with(
                uids.as_deref().unwrap_or_default(),
                gids.as_deref().unwrap_or_default(),
            )?;
            map_ids(&tree, &userns, idmap.recursive).map_err(|source| super::Error::Mount {
                index,
                doing: "map the ids of its source".to_owned(),
                path: understood.mount.destination().clone(),
                source,
            })?;
        }
        trees.push((index, tree));
    }
    Ok(trees)
}

fn map_ids(tree: &OwnedFd, userns: &OwnedFd, recursive: bool) -> io::Result<()> {
    let attr =
        MountAttr { set: options::ATTR_IDMAP, userns_fd: userns.as_raw_fd() as u64, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), c"", recursive, &attr)
}

fn searchable_by_others(path: &Path) -> bool {
    path.ancestors().skip(1).all(|dir| {
        rustix::fs::stat(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
            .is_ok_and(|stat| stat.st_mode & 0o001 != 0)
    })
}

/// A user namespace that nobody is in, for its id maps: that of a process which only lives until it
/// is open.
fn user_namespace_with(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd, Error> {
    let (ours, theirs) = Channel::pair().map_err(call("make a socket pair"))?;
    let flags = libc::CLONE_NEWUSER as u64;
    let (pid, pidfd) = match clone3(flags, None).map_err(call("make a user namespace for mapped ids"))? {
        Cloned::Child => {
            drop(ours);
            // Until the other side is closed.
            let _ = theirs.receive();
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let opened = namespace::write_id_maps(pid, uids, gids).map_err(Error::from).and_then(|()| {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| call("open a user namespace for mapped ids")(e.into()))
    });
    drop(ours);
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    opened
}
