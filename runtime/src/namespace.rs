//! Which namespaces a container gets, and in which order they are entered.
//!
//! ```text
//! kitc      opens the paths of namespaces to join; for a pid or time namespace it changes what its
//!           children get
//! clone3    makes the new ones, all in one call; a new user namespace comes first in it and owns
//!           the others
//! child     joins the ones with paths (a user namespace last but before new ones), and makes its
//!           cgroup namespace (whose root is the cgroup that the process is in by then)
//! ```
//!
//! Where the user namespace is joined, the new ones must be made inside it. Then the process that
//! `kitc` clones joins and clones once more, as a sibling, and ends.

use crate::sys::clone::unshare;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What can go wrong with namespaces.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kind is named twice.
    #[error("linux.namespaces: {kind} is there twice")]
    Twice {
        /// The kind.
        kind: &'static str,
    },
    /// Mounts are made in any case, and must not reach the host.
    #[error("linux.namespaces has no mount namespace")]
    NoMount,
    /// A key is only of use with a namespace that is not there, or the other way round.
    #[error("{key} needs {needs}")]
    Needs {
        /// The key.
        key: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A namespace to join cannot be opened.
    #[error("linux.namespaces[{index}].path: open {}", path.display())]
    Open {
        /// Its place in the list.
        index: usize,
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A namespace cannot be joined.
    #[error("linux.namespaces[{index}]: join the {kind} namespace {}", path.display())]
    Join {
        /// Its place in the list.
        index: usize,
        /// Its kind.
        kind: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// New namespaces cannot be made.
    #[error("linux.namespaces: make {what}")]
    Make {
        /// Which.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The mapping of user or group ids cannot be written.
    #[error("{key}: write {}", path.display())]
    Map {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The offsets of a time namespace cannot be written.
    #[error("linux.timeOffsets: write {text:?}")]
    Offsets {
        /// What was written.
        text: String,
        /// Why not.
        source: io::Error,
    },
}

/// A namespace to join.
#[derive(Debug)]
pub struct Join {
    index: usize,
    kind: LinuxNamespaceType,
    path: PathBuf,
    fd: OwnedFd,
}

/// The namespaces of one container, those to join already open.
#[derive(Debug)]
pub struct Plan {
    new: u64,
    joins: Vec<Join>,
}

/// The `CLONE_NEW*` bit of a kind.
fn bit(kind: LinuxNamespaceType) -> u64 {
    kind as u64
}

fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// Whether the container has a namespace of this kind that is listed, new or joined.
pub fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|n| n.typ() == kind)
}

/// The listed kinds, in the order of the list.
pub fn kinds(linux: &Linux) -> Vec<LinuxNamespaceType> {
    linux.namespaces().iter().flatten().map(|n| n.typ()).collect()
}

/// Whether there is a new pid namespace, rather than one that is joined or that of `kitc`.
pub fn has_own_pids(linux: &Linux) -> bool {
    let mut all = linux.namespaces().iter().flatten();
    all.any(|n| n.typ() == LinuxNamespaceType::Pid && n.path().is_none())
}

/// Checks that the list and the keys that depend on it agree.
pub fn check(linux: &Linux) -> Result<(), Error> {
    let mut seen = 0;
    for namespace in linux.namespaces().iter().flatten() {
        let bit = bit(namespace.typ());
        if seen & bit != 0 {
            return Err(Error::Twice { kind: name(namespace.typ()) });
        }
        seen |= bit;
    }
    if !has(linux, LinuxNamespaceType::Mount) {
        return Err(Error::NoMount);
    }
    let new_user = linux
        .namespaces()
        .iter()
        .flatten()
        .any(|n| n.typ() == LinuxNamespaceType::User && n.path().is_none());
    let mapped = |m: &Option<Vec<LinuxIdMapping>>| m.as_ref().is_some_and(|m| !m.is_empty());
    match (new_user, mapped(linux.uid_mappings()), mapped(linux.gid_mappings())) {
        (true, false, _) => {
            return Err(Error::Needs { key: "a new user namespace", needs: "linux.uidMappings" });
        }
        (true, _, false) => {
            return Err(Error::Needs { key: "a new user namespace", needs: "linux.gidMappings" });
        }
        (false, true, _) if !has(linux, LinuxNamespaceType::User) => {
            return Err(Error::Needs { key: "linux.uidMappings", needs: "a user namespace" });
        }
        _ => {}
    }
    let offsets = linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty());
    if offsets && !has(linux, LinuxNamespaceType::Time) {
        return Err(Error::Needs { key: "linux.timeOffsets", needs: "a time namespace" });
    }
    Ok(())
}

impl Plan {
    /// Opens the namespaces to join; the rest are new.
    pub fn open(linux: &Linux) -> Result<Plan, Error> {
        let mut plan = Plan { new: 0, joins: Vec::new() };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let kind = namespace.typ();
            match namespace.path() {
                None => plan.new |= bit(kind),
                Some(path) => {
                    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                        .map_err(|e| Error::Open { index, path: path.clone(), source: e.into() })?;
                    plan.joins.push(Join { index, kind, path: path.clone(), fd });
                }
            }
        }
        // Inside a user namespace that is joined by path, that one goes before what it shall own,
        // but after those that need the caller's own rights.
        plan.joins.sort_by_key(|j| (j.kind == LinuxNamespaceType::Mount, j.index));
        Ok(plan)
    }

    /// Whether a namespace of this kind is to be made.
    pub fn makes(&self, kind: LinuxNamespaceType) -> bool {
        self.new & bit(kind) != 0
    }

    /// Whether a namespace of this kind is to be joined.
    pub fn joins(&self, kind: LinuxNamespaceType) -> bool {
        self.joins.iter().any(|j| j.kind == kind)
    }

    /// Whether the container's root user is not the host's.
    pub fn has_user(&self) -> bool {
        self.makes(LinuxNamespaceType::User) || self.joins(LinuxNamespaceType::User)
    }

    /// What the first `clone3` makes: all but the time namespace (made by [`Plan::enter_before`]) and
    /// the cgroup namespace; nothing where a user namespace has to be joined first.
    pub fn clone_flags(&self) -> u64 {
        if self.joins(LinuxNamespaceType::User) { 0 } else { self.new & !LATER }
    }

    /// What the second `clone3` makes, where there is one.
    pub fn second_clone_flags(&self) -> Option<u64> {
        self.joins(LinuxNamespaceType::User).then_some(self.new & !LATER)
    }

    /// Changes what the children of this process get: the pid namespace joined, the time namespace
    /// made or joined. To be undone with [`Plan::leave_after`].
    pub fn enter_before(
        &self,
        offsets: Option<&HashMap<String, oci_spec::runtime::LinuxTimeOffset>>,
    ) -> Result<(), Error> {
        if self.makes(LinuxNamespaceType::Time) {
            unshare(bit(LinuxNamespaceType::Time))
                .map_err(|source| Error::Make { what: "a time namespace", source })?;
            if let Some(offsets) = offsets.filter(|o| !o.is_empty()) {
                let text = offsets_text(offsets);
                fs::write("/proc/self/timens_offsets", &text)
                    .map_err(|source| Error::Offsets { text, source })?;
            }
        }
        for join in &self.joins {
            if matches!(join.kind, LinuxNamespaceType::Pid) {
                join.enter()?;
            }
        }
        Ok(())
    }

    /// Gives later children of this process the namespaces that it has itself.
    pub fn leave_after(&self) -> Result<(), Error> {
        for (kind, own) in
            [(LinuxNamespaceType::Pid, "/proc/self/ns/pid"), (LinuxNamespaceType::Time, "/proc/self/ns/time")]
        {
            let changed = match kind {
                LinuxNamespaceType::Pid => self.joins(kind),
                _ => self.makes(kind),
            };
            if changed {
                let fail = |source: rustix::io::Errno| Error::Make {
                    what: "later children part of this namespace",
                    source: source.into(),
                };
                let fd =
                    rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
                rustix::thread::move_into_link_name_space(fd.as_fd(), None).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Joins, in the container's process, all namespaces with paths but the pid namespace, and the
    /// user and mount namespaces, which have their own times.
    pub fn join_early(&self) -> Result<(), Error> {
        self.joins
            .iter()
            .filter(|j| {
                !matches!(
                    j.kind,
                    LinuxNamespaceType::Pid | LinuxNamespaceType::User | LinuxNamespaceType::Mount
                )
            })
            .try_for_each(Join::enter)
    }

    /// Joins the namespace of this kind, where it has a path.
    pub fn join(&self, kind: LinuxNamespaceType) -> Result<(), Error> {
        self.joins.iter().filter(|j| j.kind == kind).try_for_each(Join::enter)
    }

    /// Makes the cgroup namespace, once the process is in its cgroup.
    pub fn make_late(&self) -> Result<(), Error> {
        if !self.makes(LinuxNamespaceType::Cgroup) {
            return Ok(());
        }
        unshare(bit(LinuxNamespaceType::Cgroup))
            .map_err(|source| Error::Make { what: "a cgroup namespace", source })
    }
}

/// Made at other times than by `clone3`.
const LATER: u64 = libc::CLONE_NEWCGROUP as u64 | 0x80;

impl Join {
    fn enter(&self) -> Result<(), Error> {
        let kind = match self.kind {
            LinuxNamespaceType::Mount => LinkNameSpaceType::Mount,
            LinuxNamespaceType::Cgroup => LinkNameSpaceType::ControlGroup,
            LinuxNamespaceType::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            LinuxNamespaceType::Ipc => LinkNameSpaceType::InterProcessCommunication,
            LinuxNamespaceType::User => LinkNameSpaceType::User,
            LinuxNamespaceType::Pid => LinkNameSpaceType::ProcessID,
            LinuxNamespaceType::Network => LinkNameSpaceType::Network,
            LinuxNamespaceType::Time => LinkNameSpaceType::Time,
        };
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(kind)).map_err(|e| Error::Join {
            index: self.index,
            kind: name(self.kind),
            path: self.path.clone(),
            source: e.into(),
        })
    }
}

/// Joins all namespaces of the listed kinds that the process behind `pidfd` is in. A pid namespace is then
/// that of later children of the caller.
pub fn join_all(pidfd: &OwnedFd, kinds: impl Iterator<Item = LinuxNamespaceType>) -> io::Result<()> {
    let flags = kinds.fold(0, |bits, kind| bits | bit(kind) as u32);
    if flags == 0 {
        return Ok(());
    }
    let flags = ThreadNameSpaceType::from_bits_retain(flags);
    Ok(rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), flags)?)
}

/// Writes the id maps of the process `pid`, which is in a new user namespace.
pub fn write_id_maps(pid: Pid, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<(), Error> {
    let write = |key, file: &str, text: String| {
        let path = PathBuf::from(format!("/proc/{}/{file}", pid.as_raw_nonzero()));
        fs::write(&path, text).map_err(|source| Error::Map { key, path, source })
    };
    if !rustix::process::geteuid().is_root() {
        // Without privileges the kernel allows a group map only where groups cannot be changed.
        write("linux.gidMappings", "setgroups", "deny".to_owned())?;
    }
    write("linux.gidMappings", "gid_map", map_text(gids))?;
    write("linux.uidMappings", "uid_map", map_text(uids))
}

fn map_text(maps: &[LinuxIdMapping]) -> String {
    let mut text = String::new();
    for map in maps {
        let _ = writeln!(text, "{} {} {}", map.container_id(), map.host_id(), map.size());
    }
    text
}

fn offsets_text(offsets: &HashMap<String, oci_spec::runtime::LinuxTimeOffset>) -> String {
    let mut clocks: Vec<_> = offsets.iter().collect();
    clocks.sort_by_key(|(clock, _)| clock.as_str());
    let mut text = String::new();
    for (clock, offset) in clocks {
        let (secs, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let _ = writeln!(text, "{clock} {secs} {nanos}");
    }
    text
}
