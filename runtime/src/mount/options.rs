//! What a mount's `type` and `options` mean: text into a [`Plan`], without touching anything.
//!
//! The option words are those of mount(8) as far as the specification lists them. A word that is none
//! of them is a setting of the file system and goes there as it is.

use oci_spec::runtime::Mount;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::path::Path;

/// Read-only, in `mount_setattr`.
pub const ATTR_RDONLY: u64 = 0x1;
const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
const ATTR_NOEXEC: u64 = 0x8;
/// Access times: 0 relative, 0x10 none, 0x20 strict; to be cleared before one is set.
const ATTR_ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
/// Ids of the mount are mapped by a user namespace, in `mount_setattr`.
pub const ATTR_IDMAP: u64 = 0x0010_0000;
const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// Why a mount of the configuration means nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Neither a file system type nor a bind mount.
    #[error("mounts[{index}].type is missing")]
    NoType {
        /// The mount's place in the list.
        index: usize,
    },
    /// A bind mount of nothing.
    #[error("mounts[{index}].source is missing")]
    NoSource {
        /// The mount's place in the list.
        index: usize,
    },
    /// Mapped ids need both mappings.
    #[error("mounts[{index}]: uidMappings and gidMappings come together or not at all")]
    HalfMapped {
        /// The mount's place in the list.
        index: usize,
    },
    /// Mapped ids exist for bind mounts only.
    #[error("mounts[{index}]: mapped ids need a bind mount")]
    MappedNotBind {
        /// The mount's place in the list.
        index: usize,
    },
    /// A string cannot be handed to the kernel.
    #[error("mounts[{index}].options has a string with a zero byte")]
    ZeroByte {
        /// The mount's place in the list.
        index: usize,
    },
}

/// What a mount does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Shows a file or directory of the host, with what is mounted below it where `recursive`.
    Bind {
        /// `rbind` rather than `bind`.
        recursive: bool,
        /// What to show.
        source: &'a Path,
    },
    /// Mounts a file system of this type.
    FileSystem {
        /// The type, as in `/proc/filesystems`.
        fstype: &'a str,
    },
    /// Shows the container's control groups.
    Cgroup,
    /// Changes flags of what is mounted there.
    Remount {
        /// Of this mount only, not of the file system, which others may show as well.
        bind: bool,
    },
}

/// Attributes to set and to clear (`MOUNT_ATTR_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// To set.
    pub set: u64,
    /// To clear first.
    pub clear: u64,
}

impl Attributes {
    /// Nothing to change.
    pub fn is_empty(self) -> bool {
        self == Attributes::default()
    }

    fn apply(&mut self, (set, clear): (u64, u64)) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }
}

/// How the ids of a mount are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// Also for what is mounted below (`ridmap`).
    pub recursive: bool,
    /// By the mount's own mappings, rather than by those of the container's user namespace.
    pub own: bool,
}

/// A mount, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The mount as it was written.
    pub mount: &'a Mount,
    /// What it does.
    pub kind: Kind<'a>,
    /// Flags for mount(2), without those of binding and propagation.
    pub flags: MountFlags,
    /// The same flags as attributes of the mount.
    pub attributes: Attributes,
    /// Attributes for the mount and all below it (`rro` and the like).
    pub recursive_attributes: Attributes,
    /// Propagation types, to be set in this order.
    pub propagation: Vec<MountPropagationFlags>,
    /// Settings for the file system, comma-separated.
    pub data: String,
    /// Copy what the image has at the target into the new file system.
    pub copy_up: bool,
    /// Mapped ids.
    pub idmap: Option<IdMap>,
}

/// Understands all mounts of a list.
pub fn parse_all(mounts: &[Mount]) -> Result<Vec<Plan<'_>>, Error> {
    mounts.iter().enumerate().map(|(index, mount)| parse(index, mount)).collect()
}

/// Understands the mount at `index` of the list.
pub fn parse(index: usize, mount: &Mount) -> Result<Plan<'_>, Error> {
    let fstype = mount.typ().as_deref().unwrap_or("");
    let mut words = Words::new((fstype == "bind").then_some(false));
    for option in mount.options().iter().flatten() {
        if option.contains('\0') {
            return Err(Error::ZeroByte { index });
        }
        words.take(option);
    }
    let mapped = |m: &Option<Vec<_>>| m.as_ref().is_some_and(|m| !m.is_empty());
    let own = match (mapped(mount.uid_mappings()), mapped(mount.gid_mappings())) {
        (a, b) if a != b => return Err(Error::HalfMapped { index }),
        (own, _) => own,
    };
    let idmap = (own || words.idmap.is_some())
        .then(|| IdMap { recursive: words.idmap.unwrap_or(words.bind == Some(true)), own });
    let kind = match (words.bind, fstype) {
        _ if words.remount => Kind::Remount { bind: words.bind.is_some() },
        (Some(recursive), _) => {
            let source = mount.source().as_deref().ok_or(Error::NoSource { index })?;
            Kind::Bind { recursive, source }
        }
        (None, "") => return Err(Error::NoType { index }),
        (None, "cgroup" | "cgroup2") => Kind::Cgroup,
        (None, fstype) => Kind::FileSystem { fstype },
    };
    if idmap.is_some() && !matches!(kind, Kind::Bind { .. }) {
        return Err(Error::MappedNotBind { index });
    }
    Ok(Plan {
        mount,
        kind,
        flags: words.flags,
        attributes: words.attributes,
        recursive_attributes: words.recursive_attributes,
        propagation: words.propagation,
        data: words.data.join(","),
        copy_up: words.copy_up,
        idmap,
    })
}

/// What the words said so far.
struct Words<'a> {
    bind: Option<bool>,
    remount: bool,
    flags: MountFlags,
    attributes: Attributes,
    recursive_attributes: Attributes,
    propagation: Vec<MountPropagationFlags>,
    data: Vec<&'a str>,
    copy_up: bool,
    idmap: Option<bool>,
}

impl<'a> Words<'a> {
    fn new(bind: Option<bool>) -> Words<'a> {
        Words {
            bind,
            remount: false,
            flags: MountFlags::empty(),
            attributes: Attributes::default(),
            recursive_attributes: Attributes::default(),
            propagation: Vec::new(),
            data: Vec::new(),
            copy_up: false,
            idmap: None,
        }
    }

    fn take(&mut self, word: &'a str) {
        if let Some((on, flag)) = flag(word) {
            self.flags.set(flag, on);
        }
        if let Some(change) = attribute(word) {
            self.attributes.apply(change);
            return;
        }
        if let Some(change) = word.strip_prefix('r').and_then(attribute) {
            self.recursive_attributes.apply(change);
            return;
        }
        if flag(word).is_some() {
            return;
        }
        match word {
            "defaults" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            _ => match propagation(word) {
                Some(flags) => self.propagation.push(flags),
                None => self.data.push(word),
            },
        }
    }
}

/// A word that is a flag of mount(2), and whether it sets or clears it.
fn flag(word: &str) -> Option<(bool, MountFlags)> {
    Some(match word {
        "ro" => (true, MountFlags::RDONLY),
        "rw" => (false, MountFlags::RDONLY),
        "nosuid" => (true, MountFlags::NOSUID),
        "suid" => (false, MountFlags::NOSUID),
        "nodev" => (true, MountFlags::NODEV),
        "dev" => (false, MountFlags::NODEV),
        "noexec" => (true, MountFlags::NOEXEC),
        "exec" => (false, MountFlags::NOEXEC),
        "noatime" => (true, MountFlags::NOATIME),
        "atime" => (false, MountFlags::NOATIME),
        "nodiratime" => (true, MountFlags::NODIRATIME),
        "diratime" => (false, MountFlags::NODIRATIME),
        "relatime" => (true, MountFlags::RELATIME),
        "norelatime" => (false, MountFlags::RELATIME),
        "strictatime" => (true, MountFlags::STRICTATIME),
        "nostrictatime" => (false, MountFlags::STRICTATIME),
        "nosymfollow" => (true, MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as _)),
        "symfollow" => (false, MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as _)),
        "sync" => (true, MountFlags::SYNCHRONOUS),
        "async" => (false, MountFlags::SYNCHRONOUS),
        "dirsync" => (true, MountFlags::DIRSYNC),
        "mand" => (true, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
        "nomand" => (false, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
        "lazytime" => (true, MountFlags::LAZYTIME),
        "nolazytime" => (false, MountFlags::LAZYTIME),
        "silent" => (true, MountFlags::SILENT),
        "loud" => (false, MountFlags::SILENT),
        "acl" => (true, MountFlags::from_bits_retain(libc::MS_POSIXACL as _)),
        "noacl" => (false, MountFlags::from_bits_retain(libc::MS_POSIXACL as _)),
        "iversion" => (true, MountFlags::from_bits_retain(libc::MS_I_VERSION as _)),
        "noiversion" => (false, MountFlags::from_bits_retain(libc::MS_I_VERSION as _)),
        _ => return None,
    })
}

/// A word that is an attribute of the mount itself: what it sets, what it clears.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (ATTR_RDONLY, 0),
        "rw" => (0, ATTR_RDONLY),
        "nosuid" => (ATTR_NOSUID, 0),
        "suid" => (0, ATTR_NOSUID),
        "nodev" => (ATTR_NODEV, 0),
        "dev" => (0, ATTR_NODEV),
        "noexec" => (ATTR_NOEXEC, 0),
        "exec" => (0, ATTR_NOEXEC),
        "nodiratime" => (ATTR_NODIRATIME, 0),
        "diratime" => (0, ATTR_NODIRATIME),
        "nosymfollow" => (ATTR_NOSYMFOLLOW, 0),
        "symfollow" => (0, ATTR_NOSYMFOLLOW),
        // The access times are one field with three values, cleared as a whole.
        "noatime" => (ATTR_NOATIME, ATTR_ATIME),
        "strictatime" => (ATTR_STRICTATIME, ATTR_ATIME),
        "relatime" | "atime" | "nostrictatime" => (0, ATTR_ATIME),
        "norelatime" => (ATTR_STRICTATIME, ATTR_ATIME),
        _ => return None,
    })
}

/// A word that is a propagation type. Also for `linux.rootfsPropagation`.
pub fn propagation(word: &str) -> Option<MountPropagationFlags> {
    use MountPropagationFlags as P;
    Some(match word {
        "private" => P::PRIVATE,
        "rprivate" => P::PRIVATE | P::REC,
        "shared" => P::SHARED,
        "rshared" => P::SHARED | P::REC,
        "slave" => P::DOWNSTREAM,
        "rslave" => P::DOWNSTREAM | P::REC,
        "unbindable" => P::UNBINDABLE,
        "runbindable" => P::UNBINDABLE | P::REC,
        _ => return None,
    })
}

/// All words that this module knows, sorted, for `kitc features`.
pub fn known_words() -> Vec<String> {
    const PLAIN: [&str; 47] = [
        "acl",
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "idmap",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noacl",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "rbind",
        "relatime",
        "remount",
        "ridmap",
        "ro",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
        "nosymfollow",
    ];
    let mut words: Vec<String> = PLAIN.iter().map(|&w| w.to_owned()).collect();
    words.extend(PLAIN.iter().filter(|w| attribute(w).is_some()).map(|w| format!("r{w}")));
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests;
