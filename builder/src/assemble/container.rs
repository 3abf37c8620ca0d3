//! Containers: each a bundle below `/containers`, laid out as LinuxKit lays it out.

use super::{AssembleError, Inputs};
use crate::contents::Blob;
use crate::image::{Config, Image, LABEL, bytes};
use kit_oci::bundle::account::{self, AccountError};
use kit_oci::bundle::layout::Roots;
use kit_oci::bundle::root::{FurnishError, ResolvConf, furnish};
use kit_oci::bundle::{self, BundleError};
use kit_spec::node::container::{ImageDefaults, SettleError, User};
use kit_spec::node::settings::Mount;
use kit_spec::node::{ContainerSettings, IdMap, ImageRef, Runtime, Section};
use kit_spec::plan::{Service, Task};
use kit_spec::tree::{Meta, PathError, Tree, TreeError, TreePath};
use std::io;
use std::time::Duration;

/// Why a container cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Its image's label is malformed.
    #[error("the image's label {LABEL}: {text}")]
    Label {
        /// What is wrong with it.
        text: String,
    },
    /// Its settings do not go together.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// It has no config.json.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its image's user is nobody.
    #[error("the image's user `{user}`")]
    Account {
        /// As the image says it.
        user: String,
        /// Why.
        #[source]
        source: AccountError,
    },
    /// Its image's accounts cannot be read.
    #[error("read /{path} of the image")]
    Accounts {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its root is read-only and lacks a directory or file to mount on: nobody can make that on the node.
    #[error(
        "its root is read-only and has no {destination} to mount {what} on: put that into the image, or let the root \
         be written to"
    )]
    NoMountPoint {
        /// Where in the container.
        destination: String,
        /// What.
        what: String,
    },
    /// Its runtime.json cannot be written.
    #[error("write runtime.json")]
    Runtime(#[source] serde_json::Error),
    /// Its image's files cannot be made a root.
    #[error(transparent)]
    Furnish(#[from] FurnishError),
    /// The tree does not take it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Its name is no path.
    #[error(transparent)]
    Path(#[from] PathError),
}

const MAX_ACCOUNTS: u64 = account::MAX_FILE as u64;
/// Where Alpine keeps what is installed. Init images of packages each bring one; together they are the list.
const APK_INSTALLED: &str = "lib/apk/db/installed";

/// An init image's files, fit to be laid over the root.
pub(super) fn init_tree(
    root: &Tree<Blob>,
    image: &Image,
    inputs: &Inputs,
) -> Result<Tree<Blob>, ContainerError> {
    let mut tree = image.tree.clone();
    furnish(&mut tree, ResolvConf::Link, i64::from(inputs.epoch), text)?;
    let installed = |tree: &Tree<Blob>| {
        let read = inputs.contents.read_path(tree, APK_INSTALLED, 64 << 20);
        read.map_err(|source| ContainerError::Accounts { path: APK_INSTALLED, source })
    };
    if let (Some(mut before), Some(own)) = (installed(root)?, installed(&tree)?) {
        before.extend_from_slice(&own);
        tree.put(
            &TreePath::parse(APK_INSTALLED)?,
            Meta::root_owned(0o644, i64::from(inputs.epoch)),
            bytes(before),
        )?;
    }
    Ok(tree)
}

fn text(text: &'static [u8]) -> Blob {
    Blob::Bytes(text.into())
}

/// Lays out bundles; the files of an image that several have are there once.
pub(super) struct Bundles<'a> {
    inputs: &'a Inputs<'a>,
    ids: IdMap,
    roots: Roots,
}

/// A container of the node file, whatever its list.
struct Wanted<'a> {
    section: Section,
    index: usize,
    name: &'a str,
    image: &'a ImageRef,
    settings: &'a ContainerSettings,
}

impl<'a> Bundles<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        Bundles { inputs, ids: inputs.locked.node.ids(), roots: Roots::new() }
    }

    pub(super) fn onboot(&mut self, tree: &mut Tree<Blob>) -> Result<Vec<Task>, AssembleError> {
        let list = &self.inputs.locked.node.onboot;
        let wanted = list.iter().enumerate().map(|(index, c)| {
            let wanted = Wanted {
                section: Section::Onboot,
                index,
                name: &c.name,
                image: &c.image,
                settings: &c.settings,
            };
            (wanted, c.timeout, c.required)
        });
        self.tasks(wanted.collect(), tree)
    }

    pub(super) fn onshutdown(&mut self, tree: &mut Tree<Blob>) -> Result<Vec<Task>, AssembleError> {
        let list = &self.inputs.locked.node.onshutdown;
        let wanted = list.iter().enumerate().map(|(index, c)| {
            let section = Section::Onshutdown;
            let wanted = Wanted { section, index, name: &c.name, image: &c.image, settings: &c.settings };
            (wanted, None, false)
        });
        self.tasks(wanted.collect(), tree)
    }

    pub(super) fn services(&mut self, tree: &mut Tree<Blob>) -> Result<Vec<Service>, AssembleError> {
        let mut planned = Vec::new();
        for (index, service) in self.inputs.locked.node.services.iter().enumerate() {
            let wanted = Wanted {
                section: Section::Services,
                index,
                name: &service.name,
                image: &service.image,
                settings: &service.settings,
            };
            let (bundle, runtime) = self.place_or_say(&wanted, tree)?;
            planned.push(Service {
                name: service.name.clone(),
                bundle,
                runtime,
                restart: service.restart,
                after: service.after.clone(),
                ready: service.ready.clone(),
                stop: service.stop,
            });
        }
        Ok(planned)
    }

    fn tasks(
        &mut self,
        list: Vec<(Wanted, Option<Duration>, bool)>,
        tree: &mut Tree<Blob>,
    ) -> Result<Vec<Task>, AssembleError> {
        let mut planned = Vec::new();
        for (wanted, timeout, required) in list {
            let (bundle, runtime) = self.place_or_say(&wanted, tree)?;
            planned.push(Task { name: wanted.name.into(), bundle, runtime, timeout, required });
        }
        Ok(planned)
    }

    fn place_or_say(
        &mut self,
        wanted: &Wanted,
        tree: &mut Tree<Blob>,
    ) -> Result<(String, Runtime), AssembleError> {
        self.place(wanted, tree).map_err(|source| AssembleError::Container {
            section: wanted.section,
            index: wanted.index,
            name: wanted.name.into(),
            source,
        })
    }

    /// Puts a bundle into the root; where it is, and what is made around its start.
    fn place(&mut self, wanted: &Wanted, tree: &mut Tree<Blob>) -> Result<(String, Runtime), ContainerError> {
        let epoch = i64::from(self.inputs.epoch);
        let reference = wanted.image.to_string();
        let image = &self.inputs.images[&reference];
        let container = ContainerSettings::merged(
            &defaults(image, self.inputs)?,
            &label(&image.config)?,
            wanted.settings,
            &self.ids,
        )?;
        let place =
            self.roots.place(wanted.section, wanted.index, wanted.name, &reference, container.readonly)?;
        for path in &place.dirs {
            tree.put(path, Meta::root_owned(0o755, epoch), kit_spec::tree::Kind::Dir)?;
        }
        if place.unpack.is_some() || container.readonly {
            let mut own = image.tree.clone();
            furnish(&mut own, ResolvConf::Empty, epoch, text)?;
            if container.readonly {
                mount_points(&container.mounts, &own)?;
            }
            if let Some(unpack) = &place.unpack {
                tree.merge(unpack, own)?;
            }
        }
        let config = bundle::config_json(&container)?;
        let runtime = place.with_mounts(container.runtime);
        let json = serde_json::to_vec_pretty(&runtime).map_err(ContainerError::Runtime)?;
        for (path, text) in [(place.config(), config), (place.runtime(), json)] {
            tree.put(&path, Meta::root_owned(0o644, epoch), bytes(text))?;
        }
        Ok((place.bundle.to_string(), runtime))
    }
}

/// Each mount has its place in the root, or in what is mounted above it.
fn mount_points(mounts: &[Mount], root: &Tree<Blob>) -> Result<(), ContainerError> {
    let mut mounted: Vec<TreePath> = Vec::new();
    for mount in mounts {
        let destination = TreePath::parse(&mount.destination)?;
        let leads_to = leads_to(root, &destination)?;
        if !mounted.iter().any(|above| leads_to.starts_with(above)) && root.follow(&destination).is_none() {
            return Err(ContainerError::NoMountPoint {
                destination: mount.destination.clone(),
                what: if mount.source.is_empty() { &mount.kind } else { &mount.source }.clone(),
            });
        }
        mounted.push(leads_to);
    }
    Ok(())
}

/// A path as far as it is there without symbolic links, and the rest as it is.
fn leads_to(root: &Tree<Blob>, path: &TreePath) -> Result<TreePath, PathError> {
    match (root.real_path(path), path.file_name()) {
        (Some(real), _) => Ok(real),
        (None, Some(name)) => Ok(leads_to(root, &path.parent())?.join(&TreePath::parse(name)?)),
        (None, None) => Ok(TreePath::root()),
    }
}

fn label(config: &Config) -> Result<ContainerSettings, ContainerError> {
    match config.labels.get(LABEL) {
        None => Ok(ContainerSettings::default()),
        Some(text) => ContainerSettings::from_label(text)
            .map_err(|diagnostics| ContainerError::Label { text: diagnostics.render(false) }),
    }
}

fn defaults(image: &Image, inputs: &Inputs) -> Result<ImageDefaults, ContainerError> {
    let config = &image.config;
    Ok(ImageDefaults {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: user(image, inputs)?,
    })
}

fn user(image: &Image, inputs: &Inputs) -> Result<Option<User>, ContainerError> {
    let text = |path: &'static str| {
        let read = inputs.contents.read_path(&image.tree, path, MAX_ACCOUNTS);
        let bytes = read.map_err(|source| ContainerError::Accounts { path, source })?;
        Ok::<_, ContainerError>(bytes.unwrap_or_default())
    };
    let user = image.config.user.as_str();
    if user.is_empty() {
        return Ok(None);
    }
    account::resolve(user, &text("etc/passwd")?, &text("etc/group")?)
        .map(Some)
        .map_err(|source| ContainerError::Account { user: user.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_spec::tree::Kind;

    fn mount(destination: &str) -> Mount {
        Mount {
            destination: destination.into(),
            kind: "bind".into(),
            source: "/src".into(),
            options: Vec::new(),
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
        }
    }

    #[test]
    fn a_mount_needs_a_place_in_a_root_that_cannot_be_written() {
        let mut root: Tree<Blob> = Tree::new(Meta::root_owned(0o755, 0));
        let mut put = |path: &str, kind| {
            root.put(&path.parse().unwrap(), Meta::root_owned(0o755, 0), kind).unwrap();
        };
        put("run", Kind::Dir);
        put("var", Kind::Dir);
        put("var/run", Kind::Symlink(b"/run".as_slice().into()));
        let missing = |destinations: &[&str]| {
            let mounts: Vec<Mount> = destinations.iter().map(|at| mount(at)).collect();
            mount_points(&mounts, &root).err().map(|error| error.to_string())
        };
        assert_eq!(missing(&["/run", "/var/run", "/run/made/in/the/mount", "/var/run/made/too"]), None);
        assert_eq!(
            missing(&["/run", "/data"]).unwrap(),
            "its root is read-only and has no /data to mount /src on: put that into the image, or let the root be written to"
        );
        // What is mounted later makes no place for what is mounted before.
        assert!(missing(&["/run/x", "/run"]).is_some());
        assert!(missing(&["/runner"]).is_some());
    }
}
