//! What a container sees of file systems and devices.

use super::{Checker, NONE, each};
use crate::node::raw::{List, RawDevice, RawMount};
use crate::node::read::{Field, Place};
use crate::node::settings::{Bind, Device, DeviceNode, DeviceType, Mount, Tmpfs};
use crate::node::suggest;
use std::collections::BTreeSet;

/// Types that are their own source.
const SELF_NAMED: [&str; 5] = ["mqueue", "devpts", "proc", "sysfs", "cgroup"];

/// Where file systems of one purpose are mounted.
const USUAL_PLACES: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("devpts", "/dev/pts"),
    ("sysfs", "/sys"),
    ("cgroup", "/sys/fs/cgroup"),
    ("mqueue", "/dev/mqueue"),
];

/// File systems that are likely to be meant by a word that differs little.
const FILE_SYSTEMS: [&str; 34] = [
    "9p",
    "autofs",
    "bind",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "ceph",
    "cgroup",
    "cgroup2",
    "cifs",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fuse",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfs",
    "overlay",
    "proc",
    "pstore",
    "squashfs",
    "sysfs",
    "tmpfs",
    "vfat",
    "virtiofs",
    "xfs",
];

/// Options that mean something to a bind mount; a file system's own do not.
const BIND_OPTIONS: [&str; 46] = [
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
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
    "ro",
    "rprivate",
    "rro",
    "rrw",
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
    "unbindable",
    "idmap",
];

/// Numbers of devices: twelve bits of major, twenty of minor (linux/kdev_t.h).
const MAX_MAJOR: i64 = (1 << 12) - 1;
const MAX_MINOR: i64 = (1 << 20) - 1;

impl Checker<'_> {
    /// `SOURCE:DESTINATION[:OPTIONS]`
    pub(super) fn binds(&self, list: &List<String>) -> Option<Vec<Bind>> {
        let mut destinations = BTreeSet::new();
        for (place, text) in each(list) {
            let destination = text.split(':').nth(1).unwrap_or("");
            if !destination.is_empty() && !destinations.insert(destination) {
                let message = format!("an earlier bind to `{destination}` is replaced by this one");
                self.warning(place, message, "remove one of the two");
            }
        }
        self.texts(list, |place, text| self.bind(place, text))
    }

    fn bind(&self, place: Place, text: &str) -> Option<Bind> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination] => (source, destination, None),
            [source, destination, options] => (source, destination, Some(options)),
            [only] => {
                let hint = format!("write `{only}:{only}` for the same path on both sides");
                let hint = Some(hint).filter(|_| only.starts_with('/'));
                self.error(
                    place,
                    format!("the bind `{only}` has no destination"),
                    hint.or(form("SOURCE:DESTINATION")),
                );
                return None;
            }
            _ => {
                self.error(place, "a bind has at most two `:`", form("SOURCE:DESTINATION[:OPTIONS]"));
                return None;
            }
        };
        let options = options.map(split_options);
        for option in options.iter().flatten().filter(|option| !BIND_OPTIONS.contains(&option.as_str())) {
            let hint = suggest::word(option, BIND_OPTIONS);
            self.warning(place, format!("`{option}` means nothing to a bind mount"), hint);
        }
        let good = self.source(place, source);
        let destination = self.destination(place, destination)?;
        let bind = Bind { source: source.to_owned(), destination, options };
        self.not_written(place, bind.volume(), bind.is_readonly());
        good.then_some(bind)
    }

    /// Whether the source of a bind is an absolute path or a volume.
    fn source(&self, place: Place, source: &str) -> bool {
        if source.starts_with('/') {
            return self.absolute(place, source, "the source").is_some();
        }
        if self.label {
            let message =
                format!("the source `{source}` is not an absolute path, and a label knows no volumes");
            self.error(place, message, NONE);
            return false;
        }
        if self.volumes.contains_key(source) || !self.complete {
            return true;
        }
        let hint = match source {
            "" => None,
            path if path.starts_with(['.', '~']) || path.contains('/') => {
                Some("a path of the machine begins with `/`".to_owned())
            }
            name => suggest::word(name, self.volumes.keys().copied()).or(Some(format!(
                "declare it under `volumes` (`- name: {name}`), or write an absolute path"
            ))),
        };
        self.error(place, format!("the source `{source}` is neither an absolute path nor a volume"), hint);
        false
    }

    /// A volume that is read-only is not bound so that it could be written.
    fn not_written(&self, place: Place, volume: Option<&str>, readonly: bool) {
        let Some(name) = volume else { return };
        if let (Some((true, declared)), false) = (self.volumes.get(name), readonly) {
            let message = format!("the volume `{name}` is read-only, and this could write to it");
            let finding = self.finding(place, message, "add the option `ro`");
            let start = self.docs[declared.file].at(declared.value).start;
            self.findings.push(finding.see(declared.file, start, "the volume"));
        }
    }

    /// `DESTINATION[:OPTIONS]`
    pub(super) fn tmpfs(&self, list: &List<String>) -> Option<Vec<Tmpfs>> {
        self.texts(list, |place, text| {
            let (destination, options) = text.split_once(':').unwrap_or((text, ""));
            if options.contains(':') {
                self.error(place, "a tmpfs has at most one `:`", form("DESTINATION[:OPTIONS]"));
                return None;
            }
            let destination = self.destination(place, destination)?;
            Some(Tmpfs { destination, options: split_options(options) })
        })
    }

    pub(super) fn mounts(&self, list: &List<RawMount>) -> Option<Vec<Mount>> {
        list.get()?;
        Some(each(list).filter_map(|(place, raw)| self.mount(place, raw)).collect())
    }

    fn mount(&self, at: Place, raw: &RawMount) -> Option<Mount> {
        let unread = [&raw.kind, &raw.source, &raw.destination].iter().any(|f| matches!(f, Field::Bad(_)));
        let word = |field: &Field<String>| field.get().cloned().unwrap_or_default();
        let (mut kind, mut source, mut destination) =
            (word(&raw.kind), word(&raw.source), word(&raw.destination));
        if kind.is_empty() && SELF_NAMED.contains(&source.as_str()) {
            kind.clone_from(&source);
        } else if kind.is_empty() && destination == "/dev" {
            "tmpfs".clone_into(&mut kind);
        }
        let mount = self.mount_options(raw);
        if unread {
            return None;
        }
        if kind.is_empty() {
            let hint = if source.starts_with('/') { "add `type: bind`" } else { "add `type: ..`" };
            self.error(at, "the mount's type is missing and cannot be inferred", hint);
            return None;
        }
        if source.is_empty() {
            source.clone_from(&kind);
        }
        if destination.is_empty() {
            let usual = USUAL_PLACES.iter().find(|(usual, _)| *usual == kind).map(|(_, place)| *place);
            let Some(usual) = usual else {
                self.error(at, "the mount's destination is missing", "add `destination: /..`");
                return None;
            };
            usual.clone_into(&mut destination);
        }
        if let (false, Some(meant), Some(place)) =
            (FILE_SYSTEMS.contains(&kind.as_str()), suggest::word(&kind, FILE_SYSTEMS), raw.kind.place())
        {
            self.warning(place, format!("`{kind}` is not a file system of Linux"), meant);
        }
        let destination = self.destination(raw.destination.place().unwrap_or(at), &destination)?;
        let mount = Mount { destination, kind, source, ..mount };
        if mount.kind == "bind" {
            let good = self.source(raw.source.place().unwrap_or(at), &mount.source);
            self.not_written(raw.source.place().unwrap_or(at), mount.volume(), mount.is_readonly());
            return good.then_some(mount);
        }
        Some(mount)
    }

    /// An absolute path of the machine, or a relative one in the container's root file system.
    pub(super) fn in_machine_or_rootfs(&self, place: Place, path: &str) -> Option<String> {
        if path.is_empty() || path.split('/').any(|part| part == "..") {
            let hint = "an absolute path of the machine, or a relative one in the container's root";
            self.error(place, format!("`{path}` is not a path that can be made"), hint);
            return None;
        }
        Some(path.to_owned())
    }

    /// Mounts of the machine's root are taken as they are: nothing is inferred, no volume is looked up.
    pub(super) fn runtime_mounts(&self, list: &List<RawMount>) -> Option<Vec<Mount>> {
        list.get()?;
        let mount = |(at, raw): (Place, &RawMount)| {
            let mount = self.mount_options(raw);
            let (place, destination) = self.required(at, "destination", &raw.destination)?;
            let destination = self.in_machine_or_rootfs(place, destination)?;
            let kind = raw.kind.get().cloned().unwrap_or_default();
            let source = raw.source.get().cloned().unwrap_or_default();
            Some(Mount { destination, kind, source, ..mount })
        };
        Some(each(list).filter_map(mount).collect())
    }

    /// The parts of a mount that need no inference.
    fn mount_options(&self, raw: &RawMount) -> Mount {
        let option = |place, option: &str| {
            if option.is_empty() || option.contains(',') {
                self.error(
                    place,
                    format!("`{option}` is not one option"),
                    "write each option as an item of its own",
                );
            }
            Some(option.to_owned())
        };
        Mount {
            destination: String::new(),
            kind: String::new(),
            source: String::new(),
            options: self.texts(&raw.options, option).unwrap_or_default(),
            uid_mappings: self.id_mappings(&raw.uidmappings).unwrap_or_default(),
            gid_mappings: self.id_mappings(&raw.gidmappings).unwrap_or_default(),
        }
    }

    pub(super) fn devices(&self, list: &List<RawDevice>) -> Option<Vec<Device>> {
        list.get()?;
        Some(each(list).filter_map(|(at, raw)| self.device(at, raw)).collect())
    }

    fn device(&self, at: Place, raw: &RawDevice) -> Option<Device> {
        let path = self.required(at, "path", &raw.path);
        let kind = self.required(at, "type", &raw.kind);
        let kind =
            kind.and_then(|(place, kind)| self.word(place, kind, &DeviceType::ALL, "a type of device"));
        let (path_place, path) = path?;
        if path == "all" {
            for place in [raw.major.place(), raw.minor.place(), raw.mode.place()].into_iter().flatten() {
                let message = format!("`{}` does not count with `path: all`", self.key(place));
                self.warning_at_key(place, message, "remove it; `resources.devices` has rules by number");
            }
            return kind.map(Device::All);
        }
        let path = self.absolute(path_place, path, "the device");
        let major = self.number(&raw.major, "`major`", 0, MAX_MAJOR).unwrap_or(0);
        let minor = self.number(&raw.minor, "`minor`", 0, MAX_MINOR).unwrap_or(0);
        let mode = raw.mode.given().map_or(Some(0o666), |(place, mode)| self.mode(place, mode));
        if let (Some(DeviceType::Any), Some(place)) = (kind, raw.kind.place()) {
            self.error(place, "a node has one type", "write `b`, `c`, `u` or `p`; `a` is for `path: all`");
        }
        Some(Device::Node(DeviceNode { path: path?, kind: kind?, major, minor, mode: mode? }))
    }

    /// Permission bits in octal.
    pub(super) fn mode(&self, place: Place, text: &str) -> Option<u32> {
        let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b)) && !text.is_empty();
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
        if mode.is_none() {
            let message = format!("the mode `{text}` is not an octal number up to 7777");
            self.error(place, message, "write such as \"0644\"");
        }
        mode
    }
}

fn split_options(options: &str) -> Vec<String> {
    options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect()
}

fn form(form: &str) -> Option<String> {
    Some(format!("write `{form}`"))
}
