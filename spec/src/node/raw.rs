//! A node file as it was written: right in its keys and in the kind of each value, and nothing more.
//!
//! The documentation of these structures is what an editor shows: it becomes the descriptions of the JSON schema. Every
//! key of a container is in [`RawContainer`], those of one section only as well; that each stands where it may is
//! checked later, so that the message can say where it belongs.

use super::read::Field;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A list, each item with its place.
pub(super) type List<T> = Field<Vec<Field<T>>>;

/// A mapping of texts, each with its place.
pub(super) type Texts = Field<BTreeMap<String, Field<String>>>;

/// What a machine's image is made of and what runs in it.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Node"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNode {
    /// The kernel to boot. Left out for a root that is not booted as a machine.
    pub kernel: Field<RawKernel>,
    /// Images whose files are unpacked straight into the root, in this order.
    pub init: List<String>,
    /// Containers that run at boot, one after the other, each to its end.
    pub onboot: List<RawContainer>,
    /// Containers that run at a clean shutdown, one after the other.
    pub onshutdown: List<RawContainer>,
    /// Containers that are kept running. Names are unique.
    pub services: List<RawContainer>,
    /// Accepted for the sake of old files, and not enforced: pin images by digest, or use a lock file.
    pub trust: Field<RawTrust>,
    /// Files, directories and symbolic links that are added to the root last, in this order.
    pub files: List<RawFile>,
    /// Named directories that containers share, through `binds` or `mounts`.
    pub volumes: List<RawVolume>,
}

/// The image that holds the kernel, and the command line. Of several node files, the last one that says a key counts.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Kernel"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawKernel {
    /// The image whose root holds the kernel and the tar of its modules.
    pub image: Field<String>,
    /// The kernel's command line, passed as it is.
    pub cmdline: Field<String>,
    /// Name of the kernel in the image; `kernel` if left out.
    pub binary: Field<String>,
    /// Name of the tar in the image that is unpacked into the root; `kernel.tar` if left out, `none` for none.
    pub tar: Field<String>,
    /// Name of the cpio in the image that holds CPU microcode; it is put before the initrd.
    pub ucode: Field<String>,
}

/// Image signatures that were once to be checked. Accepted and not enforced.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Trust"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTrust {
    /// Images.
    pub image: List<String>,
    /// Organisations.
    pub org: List<String>,
}

/// A named directory, empty or filled from an image, that containers bind by its name.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Volume"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawVolume {
    /// Unique; lower-case letters, digits, `-` and `_`.
    pub name: Field<String>,
    /// The image that fills it; an empty directory if left out.
    pub image: Field<String>,
    /// Whether nothing may write to it; a bind must then have the option `ro`.
    pub readonly: Field<bool>,
    /// How the image fills it: its root file system (the default), or the image itself as an OCI layout.
    pub format: Field<String>,
    /// For `format: oci`, which of the image's platforms are put in, such as `linux/amd64`; all if left out.
    pub platforms: List<String>,
}

/// A file, directory or symbolic link: exactly one of `directory`, `symlink`, `contents`, `source` and `metadata`.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "File"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFile {
    /// Where in the root; a leading `/` does not count. Leading directories are made.
    pub path: Field<String>,
    /// Whether it is a directory.
    pub directory: Field<bool>,
    /// It is a symbolic link to this.
    pub symlink: Field<String>,
    /// It is a file that holds this text. Never quoted in a message.
    pub contents: Field<String>,
    /// It is a copy of this file of the machine that builds; `~/` at the front is the user's home.
    pub source: Field<String>,
    /// It is a file that holds this node file itself, all files merged, in this language.
    pub metadata: Field<String>,
    /// Whether `source` may be missing; the file is then left out.
    pub optional: Field<bool>,
    /// Permission bits in octal, in quotes: `"0644"`. `"0600"` if left out, `"0700"` for a directory.
    pub mode: Field<String>,
    /// Owner: a number, or the name of a container whose own id is meant; 0 if left out.
    pub uid: Field<TextOrNumber>,
    /// Group: a number, or the name of a container whose own id is meant; 0 if left out.
    pub gid: Field<TextOrNumber>,
}

/// A container. A key that is left out keeps what the image's label `org.mobyproject.config` says; a key that is there
/// and empty clears it.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Container"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawContainer {
    /// The container's name: letters, digits, `.`, `_` and `-`.
    pub name: Field<String>,
    /// The image of its root file system: a name in a registry, `kit/NAME` for a recipe, `deb:PACKAGE,..` for Debian
    /// packages, `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE` for a local one.
    pub image: Field<String>,
    /// What the process may do: names such as `CAP_SYS_ADMIN`, or a single `all` or `none`.
    pub capabilities: List<String>,
    /// Capabilities in addition to those of the image's label. Of no effect beside `capabilities`.
    #[serde(rename = "capabilities.add")]
    pub capabilities_add: List<String>,
    /// Capabilities that a process keeps though it is not root.
    pub ambient: List<String>,
    /// Mounts in full. One with the destination of a default mount takes its place.
    pub mounts: List<RawMount>,
    /// Bind mounts, `SOURCE:DESTINATION[:OPTIONS]`; the source is a path of the machine or a volume's name. Without
    /// options it is `rw,rbind,rshared`. They take the place of those of the image's label.
    pub binds: List<String>,
    /// Bind mounts in addition to those of the image's label. Of no effect beside `binds`.
    #[serde(rename = "binds.add")]
    pub binds_add: List<String>,
    /// Devices of the container.
    pub devices: List<RawDevice>,
    /// Directories of memory, `DESTINATION[:OPTIONS]`.
    pub tmpfs: List<String>,
    /// The command with its arguments, in place of the image's entry point and command.
    pub command: List<String>,
    /// The whole environment, `NAME=value` each, in place of the image's.
    pub env: List<String>,
    /// The working directory; the image's if left out, else `/`.
    pub cwd: Field<String>,
    /// The network namespace: `host` (the default), `new` or `none` for one of its own, or the path of one.
    pub net: Field<String>,
    /// The pid namespace: `new` (the default), `host`, or the path of one.
    pub pid: Field<String>,
    /// The IPC namespace: `host` (the default), `new`, or the path of one.
    pub ipc: Field<String>,
    /// The UTS namespace, that of the host name: `host` (the default), `new`, or the path of one.
    pub uts: Field<String>,
    /// The user namespace: `host` (the default), `new`, or the path of one.
    pub userns: Field<String>,
    /// Whether the root file system cannot be written; the default mounts `/dev` and `/sys` neither.
    pub readonly: Field<bool>,
    /// Paths of the container that are hidden.
    pub masked_paths: List<String>,
    /// Paths of the container that cannot be written.
    pub readonly_paths: List<String>,
    /// User of the process: a number, or the name of a container whose own id is meant; 0 if left out.
    pub uid: Field<TextOrNumber>,
    /// Group of the process: a number, or the name of a container whose own id is meant; 0 if left out.
    pub gid: Field<TextOrNumber>,
    /// Further groups of the process: numbers, or names of containers.
    pub additional_gids: List<TextOrNumber>,
    /// Whether the process can gain no privilege by executing a file.
    pub no_new_privileges: Field<bool>,
    /// The host name in the container; needs `uts: new`.
    pub hostname: Field<String>,
    /// How likely the process is ended when memory runs out, -1000 (never) to 1000.
    pub oom_score_adj: Field<i64>,
    /// How mounts made inside and outside reach each other; `shared` to make mounts that the machine sees.
    pub rootfs_propagation: Field<String>,
    /// The path of the container's cgroup.
    pub cgroups_path: Field<String>,
    /// Limits of the container's cgroup.
    pub resources: Field<super::raw_resources::RawResources>,
    /// Kernel settings of the container's own namespaces.
    pub sysctl: Texts,
    /// Limits of the process, `NAME,SOFT,HARD` each, a value being a number or `unlimited`.
    pub rlimits: List<String>,
    /// Which users of the container are which of the machine, in a user namespace.
    pub uid_mappings: List<RawIdMapping>,
    /// Which groups of the container are which of the machine, in a user namespace.
    pub gid_mappings: List<RawIdMapping>,
    /// Words for other programs.
    pub annotations: Texts,
    /// What is done around the container's start.
    pub runtime: Field<RawRuntime>,
    /// In `onboot`: how long it may run before it is killed and counts as failed, such as `30s`.
    pub timeout: Field<String>,
    /// In `onboot`: whether its failure stops the boot; otherwise it is logged and boot goes on.
    pub required: Field<bool>,
    /// In `services`: what happens when it ends: `no` (the default), `on-failure` or `always`, or a mapping.
    pub restart: Field<WordOr<RawRestart>>,
    /// In `services`: names of services that must be ready before this one is started.
    pub after: List<String>,
    /// In `services`: how to tell that it does its work; if left out it is ready once it is started.
    pub ready: Field<RawReady>,
    /// In `services`: how it is ended.
    pub stop: Field<RawStop>,
}

/// A text or a number.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(untagged, inline))]
#[serde(rename_all = "lowercase")]
pub(super) enum TextOrNumber {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A word, or a mapping that says more.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(untagged, inline))]
#[serde(rename_all = "lowercase")]
pub(super) enum WordOr<T> {
    /// A word.
    Text(String),
    /// The mapping.
    Map(T),
}

/// A mount. What is left out is inferred: the type from the source or from the destination `/dev`, the source from the
/// type, the destination from a type with a usual place.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Mount"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawMount {
    /// Where, an absolute path.
    pub destination: Field<String>,
    /// The file system's type, or `bind`.
    #[serde(rename = "type")]
    pub kind: Field<String>,
    /// What; for `bind` a path of the machine or a volume's name.
    pub source: Field<String>,
    /// Options of the file system and of mount(8).
    pub options: List<String>,
    /// Users of an idmapped mount.
    pub uidmappings: List<RawIdMapping>,
    /// Groups of an idmapped mount.
    pub gidmappings: List<RawIdMapping>,
}

/// A device.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Device"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDevice {
    /// Where in the container; `all` to allow every device of the type without making a node.
    pub path: Field<String>,
    /// `b` block, `c` or `u` character, `p` pipe; with `path: all` also `a` for any.
    #[serde(rename = "type")]
    pub kind: Field<String>,
    /// Major number; 0 if left out.
    pub major: Field<i64>,
    /// Minor number; 0 if left out.
    pub minor: Field<i64>,
    /// Permission bits in octal, in quotes; `"0666"` if left out.
    pub mode: Field<String>,
}

/// A range of ids.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "IdMapping"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIdMapping {
    /// First id on the machine.
    #[serde(rename = "hostID")]
    pub host_id: Field<i64>,
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container_id: Field<i64>,
    /// How many.
    pub size: Field<i64>,
}

/// What is done around a container's start. Each key by itself takes the place of the label's.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Runtime"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRuntime {
    /// Cgroups that are made before the container starts.
    pub cgroups: List<String>,
    /// Mounts that are made before the container starts, outside of it: at an absolute path of the machine, or at a
    /// relative one in the container's root file system.
    pub mounts: List<RawMount>,
    /// Directories that are made before the container starts, after `mounts`: absolute paths of the machine, or relative
    /// ones in the container's root file system.
    pub mkdir: List<String>,
    /// Network interfaces that are made, or moved into the container.
    pub interfaces: List<RawInterface>,
    /// Paths to bind the container's namespaces to, for other containers to use.
    #[serde(rename = "bindNS")]
    pub bind_ns: Field<RawBindNs>,
    /// The containerd namespace of a service. Accepted; nothing here reads it.
    pub namespace: Field<String>,
}

/// A network interface of the container.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Interface"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawInterface {
    /// Its name. Without `add` and `peer`, an interface of the machine that is moved into the container.
    pub name: Field<String>,
    /// The type of interface to make, such as `veth` or `wireguard`.
    pub add: Field<String>,
    /// The name of the end of a veth that stays on the machine; `add: veth` need not be said.
    pub peer: Field<String>,
    /// Whether it is made on the machine first and then moved; wireguard needs it.
    pub create_in_root: Field<bool>,
}

/// Absolute paths to bind the container's namespaces to.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "BindNs"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBindNs {
    /// The cgroup namespace.
    pub cgroup: Field<String>,
    /// The IPC namespace.
    pub ipc: Field<String>,
    /// The mount namespace.
    pub mnt: Field<String>,
    /// The network namespace.
    pub net: Field<String>,
    /// The pid namespace.
    pub pid: Field<String>,
    /// The user namespace.
    pub user: Field<String>,
    /// The UTS namespace.
    pub uts: Field<String>,
}

/// When a service is started again, and how long is waited before.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Restart"))]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRestart {
    /// `no`, `on-failure` or `always`.
    pub policy: Field<String>,
    /// The wait before the first restart, doubled with each restart in a row; `1s` if left out.
    pub backoff: Field<String>,
    /// The longest wait; `1m` if left out.
    pub max_backoff: Field<String>,
    /// After how many restarts in a row it is given up; never if left out.
    pub max_retries: Field<i64>,
}

/// How to tell that a service does its work: exactly one of `command`, `tcp` and `file`.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Ready"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawReady {
    /// This command, run in the container, exits with 0.
    pub command: List<String>,
    /// A connection to this port, or `HOST:PORT`, is accepted, in the container's network.
    pub tcp: Field<TextOrNumber>,
    /// This path exists in the container.
    pub file: Field<String>,
    /// How long after its start it may take before it counts as failed; `1m` if left out.
    pub deadline: Field<String>,
    /// The time between two tries; `1s` if left out.
    pub interval: Field<String>,
}

/// How a service is ended.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Stop"))]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStop {
    /// The signal that is sent first, by name or number; `SIGTERM` if left out.
    pub signal: Field<TextOrNumber>,
    /// How long is waited for its end before it is killed; `10s` if left out.
    pub grace: Field<String>,
    /// Who is killed then: the first `process` only, or all of its `cgroup` (the default).
    pub kill: Field<String>,
}
