//! What a node file or an image's label says of a container, beside its name and image.
//!
//! Every key may be missing, and that differs from being empty: a key that is missing leaves the value that comes
//! before it in the order image, label, node file; an empty list clears that value. So `None` is "not written" and
//! `Some` of an empty list is "written, and empty". For the single words (`cwd`, `net`, `hostname` ..) LinuxKit reads
//! an empty text as not written, and so do we.

use super::capability::CapabilityList;
use super::octal;
use super::resources::Resources;
use super::runtime::RuntimeSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The settings of a container: LinuxKit's keys, which are also those of the label `org.mobyproject.config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSettings {
    /// Capabilities, instead of the label's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<CapabilityList>,
    /// Capabilities in addition to the label's; of no effect beside `capabilities`.
    #[serde(rename = "capabilities.add", skip_serializing_if = "Option::is_none")]
    pub capabilities_add: Option<CapabilityList>,
    /// Capabilities that a process keeps when it is not root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambient: Option<CapabilityList>,
    /// Mounts, each in place of a default one with the same destination.
    #[serde(serialize_with = "as_written", skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Bind mounts, instead of the label's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binds: Option<Vec<Bind>>,
    /// Bind mounts in addition to the label's; of no effect beside `binds`.
    #[serde(rename = "binds.add", skip_serializing_if = "Option::is_none")]
    pub binds_add: Option<Vec<Bind>>,
    /// Devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Device>>,
    /// Directories of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Vec<Tmpfs>>,
    /// The command with its arguments, instead of the image's entry point and command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The whole environment, `NAME=value` each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The network namespace; the machine's if nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<Namespace>,
    /// The pid namespace; a new one if nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<Namespace>,
    /// The IPC namespace; the machine's if nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Namespace>,
    /// The UTS namespace; the machine's if nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<Namespace>,
    /// The user namespace; the machine's if nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<Namespace>,
    /// Whether the root file system cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Paths that are hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// The user that the process runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Id>,
    /// The group that the process runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Id>,
    /// Further groups of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_gids: Option<Vec<Id>>,
    /// Whether the process can gain no privilege by executing a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// The host name in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What the kernel adds to the process's badness when memory runs out, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// How mounts made in the container and outside it reach each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<Propagation>,
    /// The cgroup's path; empty clears the label's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// Limits, instead of all of the label's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Kernel settings of the container's namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctl: Option<BTreeMap<String, String>>,
    /// Limits of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimits: Option<Vec<Rlimit>>,
    /// Which users of the container are which of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// Which groups of the container are which of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid_mappings: Option<Vec<IdMapping>>,
    /// Words for other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What is done around the container's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeSettings>,
}

/// `mounts[]`: a mount whose type, source and destination are all known, inferred where they were not written.
///
/// By itself it serialises as the runtime specification has it, which is also how `runtime.json` has it; among
/// settings, as a node file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where, an absolute path.
    pub destination: String,
    /// The file system's type, or `bind`; empty where only `options` count (a remount).
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What; see [`Mount::volume`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The file system's and mount(8)'s options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Users of an idmapped mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of an idmapped mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// `binds[]`: `SOURCE:DESTINATION[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A path of the machine; or, without a leading `/`, the name of a volume (see [`Bind::volume`]).
    pub source: String,
    /// Where, an absolute path in the container.
    pub destination: String,
    /// The options as written; if none were, the mount gets [`Bind::DEFAULT_OPTIONS`].
    pub options: Option<Vec<String>>,
}

/// `tmpfs[]`: `DESTINATION[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where, an absolute path in the container.
    pub destination: String,
    /// Options of tmpfs(5) and mount(8); may be empty.
    pub options: Vec<String>,
}

/// `devices[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// `path: all`: every device of this type may be used; no node is made.
    All(DeviceType),
    /// A node that is made in the container and may be used.
    Node(DeviceNode),
}

/// A device node of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNode {
    /// Where, an absolute path in the container.
    pub path: String,
    /// Character, block or pipe.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
}

/// The type of a device (mknod(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeviceType {
    /// Any (in rules only).
    #[serde(rename = "a")]
    Any,
    /// Block.
    #[serde(rename = "b")]
    Block,
    /// Character.
    #[serde(rename = "c")]
    Char,
    /// Character, unbuffered: the same to Linux.
    #[serde(rename = "u")]
    Unbuffered,
    /// Named pipe.
    #[serde(rename = "p")]
    Pipe,
}

/// `net`, `pid`, `ipc`, `uts`, `userns`: which namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `host` or `root`: the machine's.
    Host,
    /// `new` (for `net` also `none`): one of its own.
    New,
    /// The one bound at this absolute path.
    Path(String),
}

/// `uid`, `gid`: a number, or the name of a container whose allotted id is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// The number.
    Number(u32),
    /// The name of a container of the node.
    Container(String),
}

/// `rootfsPropagation` (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Written, and empty: what the runtime does by itself, whatever the label says.
    #[serde(rename = "")]
    Unset,
    /// Mounts pass in both directions.
    Shared,
    /// Mounts made outside pass in.
    Slave,
    /// No mount passes.
    Private,
    /// No mount passes, and it cannot be bound.
    Unbindable,
    /// `shared`, for all mounts below.
    Rshared,
    /// `slave`, for all mounts below.
    Rslave,
    /// `private`, for all mounts below.
    Rprivate,
    /// `unbindable`, for all mounts below.
    Runbindable,
}

/// `rlimits[]`: `NAME,SOFT,HARD`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rlimit {
    name: &'static str,
    soft: u64,
    hard: u64,
}

/// `uidMappings[]`, `gidMappings[]`: a range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id on the machine.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// Why a text is not a limit of a process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RlimitError {
    /// There are not three parts.
    #[error("the limit `{text}` is not of the form `NAME,SOFT,HARD`")]
    Form {
        /// The whole text.
        text: String,
    },
    /// The first part is not a limit's name.
    #[error("unknown limit `{name}`")]
    Name {
        /// The part.
        name: String,
    },
    /// A part is neither a number nor `unlimited`.
    #[error("`{value}` is neither a number nor `unlimited`")]
    Value {
        /// The part.
        value: String,
    },
    /// The soft limit is above the hard one.
    #[error("the soft limit {soft} is above the hard limit {hard}")]
    Order {
        /// Soft.
        soft: u64,
        /// Hard.
        hard: u64,
    },
}

const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

impl Mount {
    /// The volume that is bound, if the source names one.
    pub fn volume(&self) -> Option<&str> {
        (self.kind == "bind" && !self.source.starts_with('/')).then_some(&self.source)
    }

    /// Whether the options, the first that says so, keep the container from writing.
    pub fn is_readonly(&self) -> bool {
        first_of_ro_rw(&self.options)
    }
}

impl Bind {
    /// What a bind without options gets.
    pub const DEFAULT_OPTIONS: [&'static str; 3] = ["rw", "rbind", "rshared"];

    /// The volume that is bound, if the source names one.
    pub fn volume(&self) -> Option<&str> {
        (!self.source.starts_with('/')).then_some(&self.source)
    }

    /// Whether the options, the first that says so, keep the container from writing.
    pub fn is_readonly(&self) -> bool {
        self.options.as_deref().is_some_and(first_of_ro_rw)
    }

    /// The mount's options: those written and `rbind`, or the default ones.
    pub fn mount_options(&self) -> Vec<String> {
        match &self.options {
            None => Self::DEFAULT_OPTIONS.map(str::to_owned).to_vec(),
            Some(options) if options.iter().any(|option| option == "rbind") => options.clone(),
            Some(options) => options.iter().cloned().chain(["rbind".to_owned()]).collect(),
        }
    }
}

impl Id {
    /// The superuser, or its group.
    pub const ROOT: Id = Id::Number(0);

    /// Whether this is the superuser.
    pub fn is_root(&self) -> bool {
        *self == Id::ROOT
    }
}

impl Propagation {
    /// Every kind by its word; the empty word is [`Propagation::Unset`].
    pub const ALL: [(&'static str, Propagation); 9] = [
        ("", Propagation::Unset),
        ("shared", Propagation::Shared),
        ("slave", Propagation::Slave),
        ("private", Propagation::Private),
        ("unbindable", Propagation::Unbindable),
        ("rshared", Propagation::Rshared),
        ("rslave", Propagation::Rslave),
        ("rprivate", Propagation::Rprivate),
        ("runbindable", Propagation::Runbindable),
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

impl DeviceType {
    /// Every type by its letter.
    pub const ALL: [(&'static str, DeviceType); 5] = [
        ("a", DeviceType::Any),
        ("b", DeviceType::Block),
        ("c", DeviceType::Char),
        ("u", DeviceType::Unbuffered),
        ("p", DeviceType::Pipe),
    ];

    /// The letter.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(letter, _)| letter)
    }
}

impl Rlimit {
    /// What `unlimited` stands for.
    pub const UNLIMITED: u64 = u64::MAX;

    /// The name, as the runtime specification has it: `RLIMIT_NOFILE`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The soft limit.
    pub fn soft(&self) -> u64 {
        self.soft
    }

    /// The hard limit, never below the soft one.
    pub fn hard(&self) -> u64 {
        self.hard
    }

    /// Every name, with `RLIMIT_`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RLIMITS.iter().copied()
    }
}

impl FromStr for Rlimit {
    type Err = RlimitError;

    /// Takes `nofile,100,200`; the name in any case, with or without `RLIMIT_`; blanks around a part do not count.
    fn from_str(text: &str) -> Result<Rlimit, RlimitError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [name, soft, hard] = parts[..] else {
            return Err(RlimitError::Form { text: text.to_owned() });
        };
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let known = RLIMITS.iter().find(|known| known["RLIMIT_".len()..] == *short);
        let known = known.ok_or_else(|| RlimitError::Name { name: name.to_owned() })?;
        let number = |value: &str| {
            if value.eq_ignore_ascii_case("unlimited") {
                return Ok(Self::UNLIMITED);
            }
            let digits = value.bytes().all(|b| b.is_ascii_digit());
            let number = value.parse().ok().filter(|_| digits);
            number.ok_or_else(|| RlimitError::Value { value: value.to_owned() })
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(RlimitError::Order { soft, hard });
        }
        Ok(Rlimit { name: known, soft, hard })
    }
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for value in [self.soft, self.hard] {
            match value {
                Self::UNLIMITED => f.write_str(",unlimited")?,
                value => write!(f, ",{value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.destination)?;
        match &self.options {
            Some(options) => write!(f, ":{}", options.join(",")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination)?;
        if self.options.is_empty() {
            return Ok(());
        }
        write!(f, ":{}", self.options.join(","))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Namespace::Host => "host",
            Namespace::New => "new",
            Namespace::Path(path) => path,
        })
    }
}

impl Serialize for Bind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Tmpfs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Namespace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Device {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Device::Node(node) => node.serialize(serializer),
            Device::All(kind) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("path", "all")?;
                map.serialize_entry("type", kind)?;
                map.end()
            }
        }
    }
}

text_serde!(Rlimit, "a limit such as `nofile,100,200`");

/// Writes mounts as a node file has them, which spells two keys unlike the runtime specification.
pub(super) fn as_written<S: serde::Serializer>(
    mounts: &Option<Vec<Mount>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Written<'a> {
        destination: &'a str,
        #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
        kind: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        source: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        options: &'a [String],
        #[serde(skip_serializing_if = "<[IdMapping]>::is_empty")]
        uidmappings: &'a [IdMapping],
        #[serde(skip_serializing_if = "<[IdMapping]>::is_empty")]
        gidmappings: &'a [IdMapping],
    }
    serializer.collect_seq(mounts.iter().flatten().map(|mount| Written {
        destination: &mount.destination,
        kind: &mount.kind,
        source: &mount.source,
        options: &mount.options,
        uidmappings: &mount.uid_mappings,
        gidmappings: &mount.gid_mappings,
    }))
}

fn first_of_ro_rw(options: &[String]) -> bool {
    options.iter().find(|option| *option == "ro" || *option == "rw").is_some_and(|option| option == "ro")
}

#[cfg(test)]
mod tests {
    use super::{Bind, Rlimit};

    #[test]
    fn a_limit_is_a_name_and_two_numbers() {
        let limit: Rlimit = " NoFile , 100,unlimited".parse().unwrap();
        assert_eq!((limit.name(), limit.soft(), limit.hard()), ("RLIMIT_NOFILE", 100, Rlimit::UNLIMITED));
        assert_eq!(limit.to_string(), "RLIMIT_NOFILE,100,unlimited");
        assert_eq!("rlimit_core,0,0".parse::<Rlimit>().unwrap().to_string(), "RLIMIT_CORE,0,0");
        for text in
            ["", "nofile", "nofile,1", "nofile,1,2,3", "files,1,2", "nofile,2,1", "nofile,+1,2", "nofile,,"]
        {
            assert!(text.parse::<Rlimit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bind_is_recursive_and_shared_unless_it_says_otherwise() {
        let options = |options: Option<&[&str]>| {
            let options = options.map(|options| options.iter().map(|o| (*o).to_owned()).collect());
            Bind { source: "/a".to_owned(), destination: "/b".to_owned(), options }
        };
        assert_eq!(options(None).mount_options(), ["rw", "rbind", "rshared"]);
        assert_eq!(options(Some(&["ro"])).mount_options(), ["ro", "rbind"]);
        assert_eq!(options(Some(&["rshared", "rbind"])).mount_options(), ["rshared", "rbind"]);
        assert!(options(Some(&["ro", "rw"])).is_readonly());
        assert!(!options(Some(&["rw", "ro"])).is_readonly());
        assert!(!options(Some(&[])).is_readonly() && !options(None).is_readonly());
    }
}
