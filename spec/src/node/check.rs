//! From what was written to what is valid: every rule of the node file, all of its breaches at once.
//!
//! A check returns what it could make of a value, and nothing where that is impossible; it records why. Whether a node
//! comes out is decided at the end, by whether an error was recorded. So a check never stops another one, and what
//! depends on names that could not be read (a volume, a container) is not held against anyone.

mod container;
mod files;
mod limits;
mod mounts;
mod supervision;

use super::document::Document;
use super::finding::{Finding, Findings};
use super::image::{ImageRef, ImageRefError};
use super::raw::{List, RawContainer, RawKernel, RawNode, RawVolume};
use super::read::{Field, Place};
use super::settings::ContainerSettings;
use super::{Kernel, Node, Onboot, Section, Service, Shutdown, Volume, VolumeContent, suggest};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a container (containerd's limit, which old files keep to).
const MAX_NAME: usize = 76;

/// What a check knows of the whole node.
pub(super) struct Checker<'a> {
    docs: &'a [Document],
    findings: &'a Findings,
    /// Volumes by name: whether read-only, and where declared.
    volumes: BTreeMap<&'a str, (bool, Place)>,
    /// Names of containers.
    containers: BTreeSet<&'a str>,
    /// Whether all volumes and all containers are known, so that a name that is not among them is wrong.
    complete: bool,
    /// Whether what is checked is an image's label, which knows no volume and no other container.
    label: bool,
}

/// What to write instead.
pub(super) struct Hint(Option<String>);

impl From<&str> for Hint {
    fn from(hint: &str) -> Hint {
        Hint(Some(hint.to_owned()))
    }
}

impl From<String> for Hint {
    fn from(hint: String) -> Hint {
        Hint(Some(hint))
    }
}

impl From<Option<String>> for Hint {
    fn from(hint: Option<String>) -> Hint {
        Hint(hint)
    }
}

/// No hint.
const NONE: Option<String> = None;

impl<'a> Checker<'a> {
    /// A check of the node that `raws` are the files of.
    pub fn of_node(docs: &'a [Document], findings: &'a Findings, raws: &'a [RawNode]) -> Checker<'a> {
        let mut complete = docs.len() == raws.len();
        let mut volumes = BTreeMap::new();
        let mut containers = BTreeSet::new();
        for raw in raws {
            complete &= !matches!(raw.volumes, Field::Bad(_));
            for volume in raw.volumes.items() {
                match volume.get().and_then(|v| Some((v, v.name.given()?))) {
                    Some((volume, (place, name))) => {
                        let readonly = volume.readonly.get().copied().unwrap_or(false);
                        volumes.entry(name.as_str()).or_insert((readonly, place));
                    }
                    None => complete = false,
                }
            }
            for list in [&raw.onboot, &raw.onshutdown, &raw.services] {
                complete &= !matches!(list, Field::Bad(_));
                for container in list.items() {
                    match container.get().and_then(|c| c.name.get()) {
                        Some(name) => _ = containers.insert(name.as_str()),
                        None => complete = false,
                    }
                }
            }
        }
        Checker { docs, findings, volumes, containers, complete, label: false }
    }

    /// A check of an image's label.
    pub fn of_label(docs: &'a [Document], findings: &'a Findings) -> Checker<'a> {
        let (volumes, containers) = (BTreeMap::new(), BTreeSet::new());
        Checker { docs, findings, volumes, containers, complete: true, label: true }
    }

    /// The node that the files come to, lists in their order.
    pub fn node(&self, raws: &'a [RawNode]) -> Node {
        for raw in raws {
            if let Some(place) = raw.trust.place() {
                let hint = "pin images by digest (`image: NAME@sha256:..`), or build with a lock file";
                self.warning_at_key(place, "`trust` is not enforced: no signature is checked", hint);
            }
        }
        let init = raws.iter().flat_map(|raw| raw.init.items());
        let mut node = Node {
            kernel: self.kernel(raws),
            init: init.filter_map(|image| self.image(image)).collect(),
            volumes: self.volumes(raws),
            ..Node::default()
        };
        for raw in raws {
            node.onboot.extend(each(&raw.onboot).filter_map(|(at, raw)| self.onboot(at, raw)));
            node.onshutdown.extend(each(&raw.onshutdown).filter_map(|(at, raw)| self.shutdown(at, raw)));
            node.files.extend(each(&raw.files).filter_map(|(at, raw)| self.file(at, raw)));
        }
        node.services = self.services(raws);
        self.files_that_meet(raws);
        node
    }

    /// An image's label. `name` and `image` are not for it to say.
    pub fn label(&self, raw: &RawContainer) -> ContainerSettings {
        for (key, field) in [("name", &raw.name), ("image", &raw.image)] {
            if let Some(place) = field.place() {
                self.error_at_key(place, format!("`{key}` cannot be set in a label"), "remove it");
            }
        }
        self.no_keys_of_services(raw);
        self.no_keys_of_onboot(raw);
        self.settings(raw)
    }

    /// `kernel` of all files: of each key the last one that says something.
    fn kernel(&self, raws: &[RawNode]) -> Option<Kernel> {
        let all: Vec<(Place, &RawKernel)> = raws.iter().filter_map(|raw| raw.kernel.given()).collect();
        let last = |field: fn(&RawKernel) -> &Field<String>| {
            all.iter().rev().find_map(|(_, kernel)| field(kernel).get().filter(|text| !text.is_empty()))
        };
        let last_even_empty = |field: fn(&RawKernel) -> &Field<String>| {
            all.iter().rev().find_map(|(_, kernel)| field(kernel).get())
        };
        let named = all.iter().filter(|(_, kernel)| kernel.image.get().is_none_or(|image| !image.is_empty()));
        let images: Vec<Option<ImageRef>> = named
            .filter(|(_, kernel)| !kernel.image.is_absent())
            .map(|(_, kernel)| self.image(&kernel.image))
            .collect();
        if let (true, Some((place, _))) = (images.is_empty(), all.last()) {
            let hint = "write the image that holds the kernel, or remove `kernel`";
            self.warning_at_key(*place, "`kernel` has no image, so nothing of it has an effect", hint);
        }
        let in_image = |name: &String| name.trim_start_matches('/').to_owned();
        let tar =
            last_even_empty(|kernel| &kernel.tar).map(in_image).unwrap_or_else(|| "kernel.tar".to_owned());
        Some(Kernel {
            image: images.into_iter().next_back()??,
            cmdline: last(|kernel| &kernel.cmdline).cloned().unwrap_or_default(),
            binary: last(|kernel| &kernel.binary).map(in_image).unwrap_or_else(|| "kernel".to_owned()),
            tar: Some(tar).filter(|tar| !tar.is_empty() && tar != "none"),
            ucode: last_even_empty(|kernel| &kernel.ucode).map(in_image).filter(|ucode| !ucode.is_empty()),
        })
    }

    fn volumes(&self, raws: &[RawNode]) -> Vec<Volume> {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        let mut volumes = Vec::new();
        for (at, raw) in raws.iter().flat_map(|raw| each(&raw.volumes)) {
            let name = self.required(at, "name", &raw.name);
            if let Some((place, name)) = name {
                let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
                if !name.bytes().all(known) {
                    let message = format!("`{name}` is not the name of a volume");
                    self.error(place, message, "lower-case letters, digits, `-` and `_`");
                }
                if let Some(first) = seen.insert(name, place) {
                    self.twice(place, first, format!("the volume `{name}` is declared twice"));
                }
            }
            let content = self.volume_content(raw);
            let readonly = raw.readonly.get().copied().unwrap_or(false);
            volumes.extend(name.map(|(_, name)| Volume { name: name.to_owned(), content, readonly }));
        }
        volumes
    }

    fn volume_content(&self, raw: &RawVolume) -> VolumeContent {
        let image = raw.image.get().filter(|text| !text.is_empty()).and_then(|_| self.image(&raw.image));
        let format = self.one_of(&raw.format, &[("filesystem", false), ("oci", true)], "a volume's format");
        let platforms =
            self.texts(&raw.platforms, |place, text| self.platform(place, text)).unwrap_or_default();
        if let (None | Some(false), Some(place)) = (format, raw.platforms.place()) {
            self.warning_at_key(place, "`platforms` counts only with `format: oci`", "remove it");
        }
        match (image, format) {
            (Some(image), Some(true)) => VolumeContent::Oci { image, platforms },
            (Some(image), _) => VolumeContent::Filesystem(image),
            (None, Some(true)) if raw.image.get().is_none_or(|text| text.is_empty()) => {
                if let Some(place) = raw.format.place() {
                    self.error(place, "`format: oci` needs an image", "write `image`, or remove `format`");
                }
                VolumeContent::Empty
            }
            (None, _) => VolumeContent::Empty,
        }
    }

    fn platform(&self, place: Place, text: &str) -> Option<String> {
        let part =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|p| part(p)) {
            let message = format!("`{text}` is not a platform");
            self.error(place, message, "write `OS/ARCHITECTURE`, such as `linux/amd64`");
            return None;
        }
        Some(text.to_owned())
    }

    fn onboot(&self, at: Place, raw: &RawContainer) -> Option<Onboot> {
        self.no_keys_of_services(raw);
        self.no_namespace(raw);
        let (name, image) = self.name_and_image(at, raw);
        let settings = self.settings(raw);
        let timeout = self.duration(&raw.timeout, true);
        let required = raw.required.get().copied().unwrap_or(false);
        Some(Onboot { name: name?, image: image?, settings, timeout, required })
    }

    fn shutdown(&self, at: Place, raw: &RawContainer) -> Option<Shutdown> {
        self.no_keys_of_services(raw);
        self.no_keys_of_onboot(raw);
        self.no_namespace(raw);
        let (name, image) = self.name_and_image(at, raw);
        let settings = self.settings(raw);
        Some(Shutdown { name: name?, image: image?, settings })
    }

    fn services(&self, raws: &[RawNode]) -> Vec<Service> {
        let all: Vec<(Place, &RawContainer)> = raws.iter().flat_map(|raw| each(&raw.services)).collect();
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        for (place, name) in all.iter().filter_map(|(_, raw)| raw.name.given()) {
            if let Some(first) = seen.insert(name, place) {
                self.twice(place, first, format!("the service `{name}` is declared twice"));
            }
        }
        let waits = self.waits(raws, &all);
        let mut services = Vec::new();
        for ((at, raw), after) in all.into_iter().zip(waits) {
            self.no_keys_of_onboot(raw);
            let (name, image) = self.name_and_image(at, raw);
            let settings = self.settings(raw);
            let (restart, ready, stop) = (self.restart(raw), self.ready(raw), self.stop(raw));
            services.extend(name.zip(image).map(|(name, image)| Service {
                name,
                image,
                settings,
                restart,
                after,
                ready,
                stop,
            }));
        }
        services
    }

    fn no_keys_of_services(&self, raw: &RawContainer) {
        let keys = [raw.restart.place(), raw.after.place(), raw.ready.place(), raw.stop.place()]
            .into_iter()
            .flatten();
        for place in keys {
            let message = format!("`{}` is a key of {} only", self.key(place), Section::Services);
            self.error_at_key(place, message, "remove it, or move the container to `services`");
        }
    }

    fn no_keys_of_onboot(&self, raw: &RawContainer) {
        for place in [raw.timeout.place(), raw.required.place()].into_iter().flatten() {
            let message = format!("`{}` is a key of {} only", self.key(place), Section::Onboot);
            self.error_at_key(place, message, "remove it, or move the container to `onboot`");
        }
    }

    fn no_namespace(&self, raw: &RawContainer) {
        if let Some(place) = raw.runtime.get().and_then(|runtime| runtime.namespace.place()) {
            self.warning_at_key(place, "`namespace` counts in services only", "remove it");
        }
    }

    fn name_and_image(&self, at: Place, raw: &RawContainer) -> (Option<String>, Option<ImageRef>) {
        let name = self.required(at, "name", &raw.name);
        if let Some((place, name)) = name {
            let word = |b: u8| b.is_ascii_alphanumeric();
            let inner = name.bytes().all(|b| word(b) || b"._-".contains(&b));
            if !name.bytes().next().is_some_and(word) || !inner || name.len() > MAX_NAME {
                let message =
                    format!("`{}` is not the name of a container", super::document::shortened(name));
                let hint = "letters, digits, `.`, `_` and `-`, a letter or digit first, at most 76";
                self.error(place, message, hint);
            }
        }
        let image = self.required(at, "image", &raw.image).and_then(|_| self.image(&raw.image));
        (name.map(|(_, name)| name.to_owned()), image)
    }

    /// An image's name, if one could be read.
    fn image(&self, field: &Field<String>) -> Option<ImageRef> {
        let (place, text) = field.given()?;
        match text.parse() {
            Ok(image) => Some(image),
            Err(error) => {
                let hint = match &error {
                    ImageRefError::Empty => {
                        Some("write the name of an image, such as `nginx:1.27`".to_owned())
                    }
                    ImageRefError::Repository { part } if part.bytes().any(|b| b.is_ascii_uppercase()) => {
                        Some(format!("write `{}`", part.to_lowercase()))
                    }
                    ImageRefError::PackageArch { package } => {
                        let name = package.split(':').next().unwrap_or(package);
                        Some(format!("write `{name}`: the architecture is the one that is built for"))
                    }
                    ImageRefError::PackageTwice { .. } => Some("remove one of the two".to_owned()),
                    _ => None,
                };
                self.error(place, error.to_string(), hint);
                None
            }
        }
    }
}

/// What the checks are made of.
impl Checker<'_> {
    fn finding(&self, at: Place, message: impl Into<String>, hint: impl Into<Hint>) -> Finding {
        let doc = &self.docs[at.file];
        let finding = Finding::error(at.file, doc.at(at.value), message).path(doc.path(at.value));
        finding.hint_option(hint.into().0)
    }

    fn error(&self, at: Place, message: impl Into<String>, hint: impl Into<Hint>) {
        self.findings.push(self.finding(at, message, hint));
    }

    /// The same, at the key that leads to the value.
    fn error_at_key(&self, at: Place, message: impl Into<String>, hint: impl Into<Hint>) {
        let finding = self.finding(at, message, hint);
        self.findings.push(Finding { at: self.docs[at.file].key_at(at.value), ..finding });
    }

    fn warning(&self, at: Place, message: impl Into<String>, hint: impl Into<Hint>) {
        self.findings.push(self.finding(at, message, hint).into_warning());
    }

    fn warning_at_key(&self, at: Place, message: impl Into<String>, hint: impl Into<Hint>) {
        let finding = self.finding(at, message, hint).into_warning();
        self.findings.push(Finding { at: self.docs[at.file].key_at(at.value), ..finding });
    }

    /// Two names that must differ.
    fn twice(&self, at: Place, first: Place, message: String) {
        let start = self.docs[first.file].at(first.value).start;
        let finding = self.finding(at, message, "give one of the two another name");
        self.findings.push(finding.see(first.file, start, "the first one"));
    }

    /// The key that leads to a value.
    fn key(&self, at: Place) -> &str {
        self.docs[at.file].key(at.value).unwrap_or_default()
    }

    /// A key that must be there and not be empty.
    fn required<'f>(&self, map: Place, key: &str, field: &'f Field<String>) -> Option<(Place, &'f str)> {
        match field {
            Field::Absent => {
                self.error(map, format!("the key `{key}` is missing"), format!("add `{key}: ..`"));
                None
            }
            Field::Bad(_) => None,
            Field::Given(place, text) if text.is_empty() => {
                self.error(*place, format!("`{key}` is empty"), NONE);
                None
            }
            Field::Given(place, text) => Some((*place, text)),
        }
    }

    /// A word of a few; an empty one is as none.
    fn one_of<T: Copy>(&self, field: &Field<String>, words: &[(&str, T)], what: &str) -> Option<T> {
        let (place, text) = field.given().filter(|(_, text)| !text.is_empty())?;
        self.word(place, text, words, what)
    }

    fn word<T: Copy>(&self, place: Place, text: &str, words: &[(&str, T)], what: &str) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known = || words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty());
            let all = known().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let hint = suggest::word(text, known()).unwrap_or(format!("one of {all}"));
            self.error(place, format!("`{text}` is not {what}"), hint);
        }
        found
    }

    /// The items of a list that a check lets pass; none if the key is not there.
    fn texts<R>(&self, list: &List<String>, check: impl Fn(Place, &str) -> Option<R>) -> Option<Vec<R>> {
        list.get()?;
        Some(each(list).filter_map(|(place, text)| check(place, text)).collect())
    }

    /// An absolute path without `.` or `..` in it.
    fn absolute(&self, place: Place, path: &str, what: &str) -> Option<String> {
        if !path.starts_with('/') {
            let hint =
                Some(format!("write `/{path}`")).filter(|_| !path.is_empty() && !path.starts_with('.'));
            self.error(place, format!("{what} `{path}` is not an absolute path"), hint);
            return None;
        }
        if path.split('/').any(|part| part == "..") {
            self.error(place, format!("{what} `{path}` has `..` in it"), "write the path without it");
            return None;
        }
        Some(path.to_owned())
    }

    /// Where something is in a container. A relative path is taken from the root, as runtimes do.
    fn destination(&self, place: Place, path: &str) -> Option<String> {
        if path.is_empty() {
            self.error(place, "the destination is empty", "write an absolute path");
            return None;
        }
        if path.starts_with('/') {
            return self.absolute(place, path, "the destination");
        }
        let full = self.absolute(place, &format!("/{path}"), "the destination")?;
        self.warning(
            place,
            format!("the destination `{path}` is not an absolute path"),
            format!("write `{full}`"),
        );
        Some(full)
    }

    /// A number within a range.
    fn number<T: TryFrom<i64>>(&self, field: &Field<i64>, what: &str, least: i64, most: i64) -> Option<T> {
        let (place, number) = field.given()?;
        if !(least..=most).contains(number) {
            let range = match most {
                i64::MAX => format!("{least} or more"),
                _ => format!("from {least} to {most}"),
            };
            self.error(place, format!("{what} is {number}, and must be {range}"), NONE);
            return None;
        }
        T::try_from(*number).ok()
    }
}

/// The items of a list that could be read, with their places.
fn each<T>(list: &List<T>) -> impl Iterator<Item = (Place, &T)> {
    list.items().iter().filter_map(Field::given)
}
