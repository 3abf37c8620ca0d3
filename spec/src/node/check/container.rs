//! The settings of a container: of a node file and of a label alike.

use super::{Checker, NONE, each};
use crate::node::capability::{Capability, CapabilityList};
use crate::node::raw::{List, RawBindNs, RawContainer, RawIdMapping, RawRuntime, TextOrNumber, Texts};
use crate::node::read::{Field, Place};
use crate::node::runtime::{BindNsSettings, Interface, RuntimeSettings};
use crate::node::settings::{ContainerSettings, Id, IdMapping, Namespace, Propagation, Rlimit, RlimitError};
use crate::node::suggest;
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a network interface (IFNAMSIZ less its end).
const MAX_INTERFACE: usize = 15;
/// The longest host name (HOST_NAME_MAX).
const MAX_HOSTNAME: usize = 64;
/// The greatest id: the one above it stands for none.
const MAX_ID: i64 = u32::MAX as i64 - 1;

impl Checker<'_> {
    pub(super) fn settings(&self, raw: &RawContainer) -> ContainerSettings {
        self.additions_of_no_effect(raw);
        let uts = self.namespace(&raw.uts, &[]);
        ContainerSettings {
            capabilities: self.capabilities(&raw.capabilities),
            capabilities_add: self.capabilities(&raw.capabilities_add),
            ambient: self.capabilities(&raw.ambient),
            mounts: self.mounts(&raw.mounts),
            binds: self.binds(&raw.binds),
            binds_add: self.binds(&raw.binds_add),
            devices: self.devices(&raw.devices),
            tmpfs: self.tmpfs(&raw.tmpfs),
            command: self.command(&raw.command),
            env: self.env(&raw.env),
            cwd: self.path(&raw.cwd, "the working directory"),
            net: self.namespace(&raw.net, &["none"]),
            pid: self.namespace(&raw.pid, &[]),
            ipc: self.namespace(&raw.ipc, &[]),
            hostname: self.hostname(&raw.hostname, uts.as_ref()),
            uts,
            userns: self.namespace(&raw.userns, &[]),
            readonly: raw.readonly.get().copied(),
            masked_paths: self
                .texts(&raw.masked_paths, |at, path| self.absolute(at, path, "the masked path")),
            readonly_paths: self
                .texts(&raw.readonly_paths, |at, path| self.absolute(at, path, "the read-only path")),
            uid: self.id(&raw.uid),
            gid: self.id(&raw.gid),
            additional_gids: raw
                .additional_gids
                .get()
                .map(|_| each(&raw.additional_gids).filter_map(|(at, id)| self.id_of(at, id)).collect()),
            no_new_privileges: raw.no_new_privileges.get().copied(),
            oom_score_adj: self.number(&raw.oom_score_adj, "`oomScoreAdj`", -1000, 1000),
            rootfs_propagation: self.propagation(&raw.rootfs_propagation),
            cgroups_path: self.cgroups_path(&raw.cgroups_path),
            resources: raw.resources.get().map(|resources| self.resources(resources)),
            sysctl: self.map(&raw.sysctl, "a kernel setting", |key| {
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
            }),
            rlimits: self.rlimits(&raw.rlimits),
            uid_mappings: self.id_mappings(&raw.uid_mappings),
            gid_mappings: self.id_mappings(&raw.gid_mappings),
            annotations: self.map(&raw.annotations, "an annotation", |key| !key.is_empty()),
            runtime: raw.runtime.get().map(|runtime| self.runtime(runtime)),
        }
    }

    fn additions_of_no_effect(&self, raw: &RawContainer) {
        for (list, add, key) in [
            (&raw.capabilities, &raw.capabilities_add, "capabilities"),
            (&raw.binds, &raw.binds_add, "binds"),
        ] {
            if let (true, Some(place)) = (!list.is_absent(), add.place()) {
                let message = format!("`{key}.add` has no effect beside `{key}`");
                self.warning_at_key(place, message, "move its items there, or remove one of the two");
            }
        }
        if self.label {
            for place in [raw.capabilities_add.place(), raw.binds_add.place()].into_iter().flatten() {
                self.warning_at_key(place, "an addition has no effect in a label", NONE);
            }
        }
    }

    fn capabilities(&self, list: &List<String>) -> Option<CapabilityList> {
        let items = list.get()?;
        if let [Field::Given(_, only)] = items.as_slice() {
            match only.to_ascii_lowercase().as_str() {
                "all" => return Some(CapabilityList::All),
                "none" => return Some(CapabilityList::These(BTreeSet::new())),
                _ => {}
            }
        }
        let set = each(list).filter_map(|(place, name)| self.capability(place, name));
        Some(CapabilityList::These(set.collect()))
    }

    fn capability(&self, place: Place, name: &str) -> Option<Capability> {
        if let Ok(capability) = name.parse() {
            return Some(capability);
        }
        if ["all", "none"].contains(&name.to_ascii_lowercase().as_str()) {
            self.error(
                place,
                format!("`{name}` stands alone or not at all"),
                "remove the others, or this one",
            );
            return None;
        }
        let upper = name.trim().to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let hint = match full.parse::<Capability>() {
            Ok(meant) => Some(format!("write `{meant}`")),
            Err(_) => suggest::word(&full, Capability::all().map(Capability::name)),
        };
        self.error(place, format!("unknown capability `{name}`"), hint);
        None
    }

    fn command(&self, list: &List<String>) -> Option<Vec<String>> {
        let (place, items) = list.given()?;
        match items.first() {
            None => {
                self.error(place, "the command is empty", "leave the key out to run the image's own command")
            }
            Some(Field::Given(place, first)) if first.is_empty() => {
                self.error(*place, "the command's first word is empty", "write the program's name");
            }
            Some(_) => {}
        }
        self.texts(list, |_, word| Some(word.to_owned()))
    }

    fn env(&self, list: &List<String>) -> Option<Vec<String>> {
        self.texts(list, |place, variable| {
            if variable.find('=').is_none_or(|equals| equals == 0) {
                let message = format!("`{variable}` does not set a variable");
                self.warning(place, message, "write `NAME=value`, or `NAME=` for an empty value");
            }
            Some(variable.to_owned())
        })
    }

    fn path(&self, field: &Field<String>, what: &str) -> Option<String> {
        let (place, path) = field.given().filter(|(_, path)| !path.is_empty())?;
        self.absolute(place, path, what)
    }

    fn namespace(&self, field: &Field<String>, also_new: &[&str]) -> Option<Namespace> {
        let (place, text) = field.given().filter(|(_, text)| !text.is_empty())?;
        match text.as_str() {
            "host" | "root" => Some(Namespace::Host),
            "new" => Some(Namespace::New),
            path if path.starts_with('/') => self.absolute(place, path, "the namespace").map(Namespace::Path),
            word if also_new.contains(&word) => Some(Namespace::New),
            word => {
                let words = ["host", "new"].iter().chain(also_new).map(|word| format!("`{word}`"));
                let words = words.collect::<Vec<_>>().join(", ");
                let message = format!("`{word}` is not a namespace");
                self.error(place, message, format!("write {words}, or the absolute path of one"));
                None
            }
        }
    }

    fn hostname(&self, field: &Field<String>, uts: Option<&Namespace>) -> Option<String> {
        let (place, name) = field.given().filter(|(_, name)| !name.is_empty())?;
        let label = |label: &str| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        if name.len() > MAX_HOSTNAME || !name.split('.').all(label) {
            let hint = "letters, digits and `-`, in parts with `.` between, at most 64";
            self.error(place, format!("`{name}` is not a host name"), hint);
            return None;
        }
        if uts == Some(&Namespace::Host) {
            let message = "a host name of its own needs a UTS namespace of its own";
            self.error(place, message, "write `uts: new`");
        }
        Some(name.clone())
    }

    fn propagation(&self, field: &Field<String>) -> Option<Propagation> {
        let (place, word) = field.given()?;
        self.word(place, word, &Propagation::ALL, "a kind of propagation")
    }

    fn cgroups_path(&self, field: &Field<String>) -> Option<String> {
        let (place, path) = field.given()?;
        if path.split('/').any(|part| part == "..") {
            self.error(place, format!("the cgroup `{path}` has `..` in it"), "write the path without it");
        }
        Some(path.clone())
    }

    /// A mapping of texts whose keys pass a check.
    fn map(
        &self,
        field: &Texts,
        what: &str,
        is_key: impl Fn(&str) -> bool,
    ) -> Option<BTreeMap<String, String>> {
        let map = field.get()?;
        for (key, value) in map {
            if let (false, Some(place)) = (is_key(key), value.place()) {
                self.error_at_key(place, format!("`{key}` cannot be the name of {what}"), NONE);
            }
        }
        Some(map.iter().filter_map(|(key, value)| Some((key.clone(), value.get()?.clone()))).collect())
    }

    fn rlimits(&self, list: &List<String>) -> Option<Vec<Rlimit>> {
        let mut seen = BTreeMap::new();
        for (place, text) in each(list) {
            match text.parse::<Rlimit>() {
                Ok(limit) => {
                    if seen.insert(limit.name(), place).is_some() {
                        let message = format!("the limit `{}` is set twice", limit.name());
                        self.error(place, message, "remove one of the two");
                    }
                }
                Err(error) => {
                    let hint = match &error {
                        RlimitError::Form { .. } => Some("write such as `nofile,1024,4096`".to_owned()),
                        RlimitError::Name { name } => {
                            let names = Rlimit::names().map(|name| &name["RLIMIT_".len()..]);
                            suggest::word(name, names).map(|hint| hint.to_lowercase())
                        }
                        RlimitError::Value { .. } => Some("write a number, or `unlimited`".to_owned()),
                        RlimitError::Order { .. } => Some("the soft limit comes first".to_owned()),
                    };
                    self.error(place, error.to_string(), hint);
                }
            }
        }
        self.texts(list, |_, text| text.parse().ok())
    }

    pub(super) fn id_mappings(&self, list: &List<RawIdMapping>) -> Option<Vec<IdMapping>> {
        list.get()?;
        let mapping = |(at, raw): (Place, &RawIdMapping)| {
            let keys = [("hostID", &raw.host_id), ("containerID", &raw.container_id), ("size", &raw.size)];
            for (key, _) in keys.iter().filter(|(_, field)| field.is_absent()) {
                self.error(at, format!("the key `{key}` is missing"), format!("add `{key}: ..`"));
            }
            Some(IdMapping {
                host_id: self.number(&raw.host_id, "`hostID`", 0, MAX_ID)?,
                container_id: self.number(&raw.container_id, "`containerID`", 0, MAX_ID)?,
                size: self.number(&raw.size, "`size`", 1, MAX_ID)?,
            })
        };
        Some(each(list).filter_map(mapping).collect())
    }

    pub(super) fn id(&self, field: &Field<TextOrNumber>) -> Option<Id> {
        let (place, id) = field.given()?;
        self.id_of(place, id)
    }

    fn id_of(&self, place: Place, id: &TextOrNumber) -> Option<Id> {
        let name = match id {
            TextOrNumber::Number(number) => {
                let fits = u32::try_from(*number).ok().filter(|_| *number <= MAX_ID);
                if fits.is_none() {
                    self.error(place, format!("{number} is not an id: 0 to {MAX_ID}"), NONE);
                }
                return fits.map(Id::Number);
            }
            TextOrNumber::Text(name) if name.is_empty() || name == "root" => return Some(Id::ROOT),
            TextOrNumber::Text(name) => name,
        };
        if !self.label && self.complete && !self.containers.contains(name.as_str()) {
            let hint = match name.parse::<u32>() {
                Ok(number) => Some(format!("write the number without quotes: {number}")),
                Err(_) => suggest::word(name, self.containers.iter().copied())
                    .or(Some("write a number, `root`, or the name of a container".to_owned())),
            };
            self.error(place, format!("`{name}` is not the name of a container of this node"), hint);
            return None;
        }
        Some(Id::Container(name.clone()))
    }

    fn runtime(&self, raw: &RawRuntime) -> RuntimeSettings {
        RuntimeSettings {
            cgroups: self.texts(&raw.cgroups, |place, path| {
                let good = !path.is_empty() && !path.split('/').any(|part| part == "..");
                if !good {
                    self.error(place, format!("`{path}` is not the path of a cgroup"), NONE);
                }
                good.then(|| path.to_owned())
            }),
            mounts: self.runtime_mounts(&raw.mounts),
            mkdir: self.texts(&raw.mkdir, |place, path| self.in_machine_or_rootfs(place, path)),
            interfaces: raw.interfaces.get().map(|_| {
                let check = |(place, raw)| self.interface(place, raw);
                each(&raw.interfaces).map(check).collect()
            }),
            bind_ns: raw.bind_ns.get().map(|raw| self.bind_ns(raw)),
            namespace: raw.namespace.get().cloned(),
        }
    }

    fn interface(&self, at: Place, raw: &crate::node::raw::RawInterface) -> Interface {
        let name = |field: &Field<String>| {
            let (place, name) = field.given()?;
            let good = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
            if name.len() > MAX_INTERFACE || !name.bytes().all(good) || name == "." || name == ".." {
                let message = format!("`{name}` is not the name of a network interface");
                self.error(place, message, "at most 15 letters, without blanks, `/` and `:`");
            }
            Some(name.clone())
        };
        let word = |field: &Field<String>| field.get().cloned().unwrap_or_default();
        let interface = Interface {
            name: name(&raw.name).unwrap_or_default(),
            add: word(&raw.add),
            peer: name(&raw.peer).unwrap_or_default(),
            create_in_root: raw.create_in_root.get().copied().unwrap_or(false),
        };
        let bad = matches!(raw.name, Field::Bad(_));
        if interface.name.is_empty() && !bad {
            self.error(at, "the interface has no name", "add `name: ..`");
        }
        if !interface.peer.is_empty() && !["", "veth"].contains(&interface.add.as_str()) {
            let message = format!("`peer` makes a veth, and `add` says `{}`", interface.add);
            self.error(at, message, "remove `add`, or `peer`");
        }
        interface
    }

    fn bind_ns(&self, raw: &RawBindNs) -> BindNsSettings {
        let path = |field: &Field<String>| {
            let (place, path) = field.given()?;
            if path.is_empty() {
                Some(String::new())
            } else {
                self.absolute(place, path, "the namespace's path")
            }
        };
        BindNsSettings {
            cgroup: path(&raw.cgroup),
            ipc: path(&raw.ipc),
            mnt: path(&raw.mnt),
            net: path(&raw.net),
            pid: path(&raw.pid),
            user: path(&raw.user),
            uts: path(&raw.uts),
        }
    }
}
