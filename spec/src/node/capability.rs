//! The capabilities of Linux (capabilities(7)), by the names that node files use.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One capability that the kernel knows. Ordered by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(&'static str);

/// A text is not the name of a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability `{name}`")]
pub struct CapabilityError {
    /// The text.
    pub name: String,
}

/// `capabilities`, `capabilities.add` and `ambient`: a set, or the words `all` and `none` for the whole and the empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapabilityList {
    /// Every capability that kit knows.
    All,
    /// These; may be empty.
    These(BTreeSet<Capability>),
}

/// In the order of their numbers (linux/capability.h), the first being 0.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Capability {
    /// Every capability, by number.
    pub fn all() -> impl Iterator<Item = Capability> {
        NAMES.iter().map(|name| Capability(name))
    }

    /// The name: `CAP_SYS_ADMIN`.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The kernel's number.
    pub fn number(self) -> u32 {
        // At most 40: the table has 41 names, and a value is made from the table only.
        NAMES.iter().position(|name| *name == self.0).unwrap_or(0) as u32
    }
}

impl CapabilityList {
    /// The capabilities that the list stands for.
    pub fn to_set(&self) -> BTreeSet<Capability> {
        match self {
            CapabilityList::All => Capability::all().collect(),
            CapabilityList::These(set) => set.clone(),
        }
    }

    /// What is in either.
    pub fn union(&self, other: &CapabilityList) -> CapabilityList {
        match (self, other) {
            (CapabilityList::These(a), CapabilityList::These(b)) => CapabilityList::These(a | b),
            _ => CapabilityList::All,
        }
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(name: &str) -> Result<Capability, CapabilityError> {
        let known = NAMES.iter().find(|known| **known == name);
        known.map(|known| Capability(known)).ok_or_else(|| CapabilityError { name: name.to_owned() })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

text_serde!(Capability, "the name of a capability");

impl Serialize for CapabilityList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CapabilityList::All => ["all"].serialize(serializer),
            CapabilityList::These(set) => set.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CapabilityList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CapabilityList, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        if names == ["all"] {
            return Ok(CapabilityList::All);
        }
        let set: Result<_, CapabilityError> = names.iter().map(|name| name.parse()).collect();
        set.map(CapabilityList::These).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Capability, CapabilityList};

    #[test]
    fn the_table_is_that_of_the_kernel() {
        let number = |name: &str| name.parse::<Capability>().unwrap().number();
        assert_eq!(number("CAP_CHOWN"), 0);
        assert_eq!(number("CAP_NET_ADMIN"), 12);
        assert_eq!(number("CAP_SYS_ADMIN"), 21);
        assert_eq!(number("CAP_SYSLOG"), 34);
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), 40);
        assert_eq!(Capability::all().count(), 41);
        assert!("CAP_NONSENSE".parse::<Capability>().is_err());
    }

    #[test]
    fn all_swallows_the_others_and_reads_back() {
        let some: CapabilityList = serde_json::from_str(r#"["CAP_KILL"]"#).unwrap();
        assert_eq!(some.union(&CapabilityList::All), CapabilityList::All);
        assert_eq!(serde_json::to_string(&CapabilityList::All).unwrap(), r#"["all"]"#);
        let all: CapabilityList = serde_json::from_str(r#"["all"]"#).unwrap();
        assert_eq!(all.to_set().len(), 41);
    }
}
