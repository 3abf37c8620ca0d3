//! The node file: what a machine's image is made of and what runs in it, in the YAML that LinuxKit's users know.
//!
//! ```text
//! sources (name, text)
//!   |  document: YAML -> spanned tree           duplicate keys, aliases bounded       feature `yaml`
//!   |  raw:      tree -> RawNode (as written)   unknown keys, wrong types             every value knows its place
//!   |  check:    RawNode -> Node (valid)        names, references, ranges, cycles     all errors in one go
//! Node
//!   |  merged(image defaults, label, written)   what LinuxKit's precedence gives
//! Container                                      decided: nothing optional is left to guess
//! ```
//!
//! A [`Node`] exists only when all of its files were right, and everything that hangs on it is a plain value: a program
//! that runs on a node can use these types without carrying a YAML parser. The grammar is LinuxKit's (what it accepts
//! is accepted), with ours on top: `restart`, `after`, `ready`, `stop` of a service, `timeout` and `required` of an
//! onboot container, and image references that name a recipe, Debian packages or a local file.
//!
//! Where a file says a thing twice or to no effect, parsing yields a `Warning`; where it says a
//! thing that cannot be, `Diagnostics` with every place. The contents of `files` are never
//! quoted in either.

#[macro_use]
mod text_serde;

pub mod capability;
#[cfg(feature = "yaml")]
mod check;
pub mod container;
#[cfg(feature = "yaml")]
pub mod diagnostics;
#[cfg(feature = "yaml")]
mod document;
pub mod duration;
mod emit;
#[cfg(feature = "yaml")]
mod finding;
pub mod image;
#[cfg(feature = "yaml")]
mod parse;
#[cfg(feature = "yaml")]
mod raw;
#[cfg(feature = "yaml")]
mod raw_resources;
#[cfg(feature = "yaml")]
mod read;
pub mod resources;
pub mod runtime;
#[cfg(feature = "schema")]
mod schema;
pub mod settings;
#[cfg(feature = "yaml")]
mod suggest;
pub mod supervision;

pub use capability::{Capability, CapabilityList};
pub use container::{Container, ImageDefaults, SettleError};
#[cfg(feature = "yaml")]
pub use diagnostics::{Diagnostics, Problem, Warning};
pub use image::{ImageRef, ImageRefError};
#[cfg(feature = "yaml")]
pub use parse::Source;
pub use runtime::{Runtime, RuntimeSettings};
#[cfg(feature = "schema")]
pub use schema::schema;
pub use settings::ContainerSettings;
pub use supervision::{Kill, Policy, Probe, Ready, Restart, Signal, Stop};

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Where a volume's directory is mounted at boot: `/containers/volumes/NAME/merged`.
pub const VOLUMES_DIR: &str = "/containers/volumes";

/// The first id that is allotted to a container (LinuxKit's: ids go up from 100).
pub const FIRST_CONTAINER_ID: u32 = 100;

/// A valid node: all files merged, every name resolved, every value within its range.
///
/// Serialises to the shape of a node file, images by their full names: parsing that text gives the same value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The kernel to boot; none for a root that is not booted as a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// Images unpacked straight into the root, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init: Vec<ImageRef>,
    /// Named directories that containers share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Containers that run at boot, one after the other, each to its end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onboot: Vec<Onboot>,
    /// Containers that run at a clean shutdown, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onshutdown: Vec<Shutdown>,
    /// Long-running containers; names are unique.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Files added last, in this order; a later file replaces an earlier one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
}

/// `kernel`: the image that holds the kernel, and the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// The image whose root holds `binary` and `tar`.
    pub image: ImageRef,
    /// The kernel's command line, passed as it is; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Name of the kernel in the image; `kernel` unless written.
    pub binary: String,
    /// Name of the tar in the image that is unpacked into the root (modules); none if the file says `none` or nothing.
    #[serde(serialize_with = "none_as_the_word")]
    pub tar: Option<String>,
    /// Name of the cpio in the image that holds CPU microcode, to be prepended to the initrd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucode: Option<String>,
}

/// `volumes[]`: a named directory, empty or filled from an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Unique; lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub content: VolumeContent,
    /// Whether nothing may write to it; a bind that could is refused.
    #[serde(skip_serializing_if = "is_false")]
    pub readonly: bool,
}

impl Volume {
    /// The directory to bind: where boot mounts this volume.
    pub fn merged_dir(&self) -> String {
        merged_dir(&self.name)
    }
}

/// What a volume holds at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeContent {
    /// Nothing: an empty directory.
    Empty,
    /// The root file system of an image.
    Filesystem(ImageRef),
    /// An image as an OCI layout, for the platforms given (`linux/amd64`); for all of the image's if none is.
    Oci {
        /// The image.
        image: ImageRef,
        /// `os/arch` or `os/arch/variant`; empty for all.
        platforms: Vec<String>,
    },
}

/// `onboot[]`: a container that runs to its end before the next one starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Onboot {
    /// Name; not unique, since the directory is numbered.
    pub name: String,
    /// The root file system and defaults.
    pub image: ImageRef,
    /// What the node file says of the container.
    #[serde(flatten)]
    pub settings: ContainerSettings,
    /// How long it may run before it is killed and counts as failed; no bound if none.
    #[serde(with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether its failure stops the boot; otherwise it is logged and boot goes on (as LinuxKit does).
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// `onshutdown[]`: a container that runs when the machine is shut down cleanly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// Name; not unique, since the directory is numbered.
    pub name: String,
    /// The root file system and defaults.
    pub image: ImageRef,
    /// What the node file says of the container.
    #[serde(flatten)]
    pub settings: ContainerSettings,
}

/// `services[]`: a container that is kept running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// The root file system and defaults.
    pub image: ImageRef,
    /// What the node file says of the container.
    #[serde(flatten)]
    pub settings: ContainerSettings,
    /// What happens when it ends.
    #[serde(skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Services that must be ready (or, without `ready`, started) before this one starts: names of other services, in
    /// the order written, with no cycle. Names of onboot containers are checked and dropped: each of those has ended
    /// before any service starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// How to tell that it is ready; none: it is ready once started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How it is stopped.
    #[serde(skip_serializing_if = "Stop::is_default")]
    pub stop: Stop,
}

/// `files[]`: a file, directory or symbolic link that is added to the root.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Path in the root, without a leading `/`; no `.` or `..` in it.
    pub path: String,
    /// What it is and where its bytes come from.
    #[serde(flatten)]
    pub kind: FileKind,
    /// Permission bits: 0600 unless written, 0700 for a directory.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// Owner.
    #[serde(skip_serializing_if = "settings::Id::is_root")]
    pub uid: settings::Id,
    /// Group.
    #[serde(skip_serializing_if = "settings::Id::is_root")]
    pub gid: settings::Id,
}

/// What a file of the `files` section is.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FileKind {
    /// A directory.
    Directory {
        /// Always `true`.
        directory: True,
    },
    /// A symbolic link.
    Symlink {
        /// What it points at; not checked.
        symlink: String,
    },
    /// A regular file with these bytes.
    Contents {
        /// The bytes; never shown in a diagnostic or by `Debug`.
        contents: String,
    },
    /// A regular file copied from the machine that builds.
    Source {
        /// Path on the building machine; `~/` at the front is its user's home.
        source: String,
        /// Whether the file may be missing, and then is left out.
        #[serde(skip_serializing_if = "is_false")]
        optional: bool,
    },
    /// A regular file that holds the node file itself, merged.
    Metadata {
        /// In which language.
        metadata: MetadataFormat,
    },
}

impl FileKind {
    /// The kind of a directory.
    pub const DIRECTORY: FileKind = FileKind::Directory { directory: True };
}

/// The one value of a key that says nothing but yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct True;

/// How `files[].metadata` writes the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetadataFormat {
    /// As YAML.
    Yaml,
    /// As JSON.
    Json,
}

/// The lists of a node that hold containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// `onboot`.
    Onboot,
    /// `onshutdown`.
    Onshutdown,
    /// `services`.
    Services,
}

/// The ids that names of containers stand for where a `uid` or `gid` is wanted.
///
/// Allotted from [`FIRST_CONTAINER_ID`] upwards in the order onboot, onshutdown, services; when a name occurs twice
/// the last one counts, as in LinuxKit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(BTreeMap<String, u32>);

impl IdMap {
    /// Allots ids to `names` in order.
    pub fn allot<'a>(names: impl IntoIterator<Item = &'a str>) -> IdMap {
        let ids = FIRST_CONTAINER_ID..;
        IdMap(names.into_iter().map(str::to_owned).zip(ids).collect())
    }

    /// The id allotted to the container `name`.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// The number that `id` stands for; none if it names a container that does not exist.
    pub fn number(&self, id: &settings::Id) -> Option<u32> {
        match id {
            settings::Id::Number(number) => Some(*number),
            settings::Id::Container(name) => self.get(name),
        }
    }
}

impl Node {
    /// The ids that the names of this node's containers stand for.
    pub fn ids(&self) -> IdMap {
        let onboot = self.onboot.iter().map(|c| c.name.as_str());
        let onshutdown = self.onshutdown.iter().map(|c| c.name.as_str());
        let services = self.services.iter().map(|c| c.name.as_str());
        IdMap::allot(onboot.chain(onshutdown).chain(services))
    }

    /// The volume called `name`.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// Every image that the node names, with its path in the node (`services[2].image`), in build order. An image
    /// named twice is listed twice.
    pub fn images(&self) -> Vec<(String, &ImageRef)> {
        let mut images = Vec::new();
        images.extend(self.kernel.iter().map(|kernel| ("kernel.image".to_owned(), &kernel.image)));
        images.extend(self.init.iter().enumerate().map(|(i, image)| (format!("init[{i}]"), image)));
        for (i, volume) in self.volumes.iter().enumerate() {
            match &volume.content {
                VolumeContent::Empty => {}
                VolumeContent::Filesystem(image) | VolumeContent::Oci { image, .. } => {
                    images.push((format!("volumes[{i}].image"), image));
                }
            }
        }
        let onboot = self.onboot.iter().map(|c| &c.image).enumerate();
        images.extend(onboot.map(|(i, image)| (format!("onboot[{i}].image"), image)));
        let onshutdown = self.onshutdown.iter().map(|c| &c.image).enumerate();
        images.extend(onshutdown.map(|(i, image)| (format!("onshutdown[{i}].image"), image)));
        let services = self.services.iter().map(|c| &c.image).enumerate();
        images.extend(services.map(|(i, image)| (format!("services[{i}].image"), image)));
        images
    }
}

impl Section {
    /// The key of the node file, which is also the directory under `/containers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Onboot => "onboot",
            Section::Onshutdown => "onshutdown",
            Section::Services => "services",
        }
    }

    /// The bundle's directory in the root, without a leading `/`: `containers/onboot/000-NAME`,
    /// `containers/services/NAME`.
    pub fn bundle_dir(self, index: usize, name: &str) -> String {
        match self {
            Section::Onboot | Section::Onshutdown => format!("containers/{self}/{index:03}-{name}"),
            Section::Services => format!("containers/{self}/{name}"),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("kind", &self.kind)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish()
    }
}

/// Shows everything but the contents, which may be secret.
impl fmt::Debug for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileKind::Directory { .. } => f.write_str("Directory"),
            FileKind::Symlink { symlink } => write!(f, "Symlink({symlink:?})"),
            FileKind::Contents { contents } => write!(f, "Contents({} bytes)", contents.len()),
            FileKind::Source { source, optional } => write!(f, "Source({source:?}, optional: {optional})"),
            FileKind::Metadata { metadata } => write!(f, "Metadata({metadata:?})"),
        }
    }
}

impl Serialize for True {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl Serialize for VolumeContent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        match self {
            VolumeContent::Empty => {}
            VolumeContent::Filesystem(image) => map.serialize_entry("image", image)?,
            VolumeContent::Oci { image, platforms } => {
                map.serialize_entry("image", image)?;
                map.serialize_entry("format", "oci")?;
                if !platforms.is_empty() {
                    map.serialize_entry("platforms", platforms)?;
                }
            }
        }
        map.end()
    }
}

pub(crate) fn merged_dir(volume: &str) -> String {
    format!("{VOLUMES_DIR}/{volume}/merged")
}

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

pub(crate) fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

fn none_as_the_word<S: serde::Serializer>(tar: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(tar.as_deref().unwrap_or("none"))
}
