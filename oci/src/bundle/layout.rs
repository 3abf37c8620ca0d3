//! Where the parts of containers and volumes lie in a root: LinuxKit's paths, as data.
//!
//! ```text
//! containers/SECTION/NAME/config.json  runtime.json
//!                         rootfs/      a read-only root: the image. A writable one: where the overlay is mounted
//!                         lower/       a writable root: the image
//!                         tmp/         a writable root: where a tmpfs for what is written is mounted
//! containers/volumes/NAME/lower/  merged/  tmp/ (if it is writable)
//! ```
//!
//! An image that several containers use is unpacked once, where the first of them has it; the others' mounts begin
//! there.

use std::collections::BTreeMap;

use kit_spec::node::settings::Mount;
use kit_spec::node::{Runtime, Section};
use kit_spec::tree::{PathError, TreePath};

/// Where images were unpacked so far.
#[derive(Clone, Debug, Default)]
pub struct Roots(BTreeMap<String, TreePath>);

/// A container's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its directory, below which everything else of it lies.
    pub bundle: TreePath,
    config: TreePath,
    runtime: TreePath,
    /// Where its image is to be unpacked; none if it already is, for another container.
    pub unpack: Option<TreePath>,
    /// Directories to make, 0755 and root's, that are to be empty.
    pub dirs: Vec<TreePath>,
    /// What is mounted before the container is created, in this order.
    pub mounts: Vec<Mount>,
}

/// A volume's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlace {
    /// Where its image is to be unpacked; a directory even if it has none.
    pub lower: TreePath,
    /// Directories to make, 0755 and root's, that are to be empty. `tmp` is among them even if the volume is read-only:
    /// LinuxKit's init mounts a tmpfs there whatever the volume is, and gives up all volumes if it cannot.
    pub dirs: Vec<TreePath>,
}

impl Roots {
    /// No image is unpacked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds a place for the container `name`, the `index`th of its section, from 0. `image` is whatever is equal for
    /// equal images (a digest, a reference).
    ///
    /// # Errors
    /// When the name is not that of a directory.
    pub fn place(
        &mut self,
        section: Section,
        index: usize,
        name: &str,
        image: &str,
        readonly: bool,
    ) -> Result<Place, PathError> {
        let dir = section.bundle_dir(index, name);
        let at = |sub: &str| TreePath::parse(format!("{dir}/{sub}"));
        let own = at(if readonly { super::ROOTFS } else { "lower" })?;
        let elsewhere = self.0.get(image).cloned();
        let image = self.0.entry(image.to_owned()).or_insert_with(|| own.clone()).clone();
        let mut dirs = Vec::new();
        let mounts = if readonly {
            if elsewhere.is_some() {
                dirs.push(own.clone());
            }
            // Bound on itself it becomes a mount, which a runtime needs to make it read-only and to pivot into it.
            vec![mount(&own, "", absolute(&image), &["bind"])]
        } else {
            let (tmp, rootfs) = (at("tmp")?, at(super::ROOTFS)?);
            dirs.extend([rootfs.clone(), tmp.clone()]);
            overlay(&image, &tmp, &rootfs)
        };
        let unpack = elsewhere.is_none().then_some(own);
        let (config, runtime) = (at("config.json")?, at("runtime.json")?);
        Ok(Place { bundle: TreePath::parse(&dir)?, config, runtime, unpack, dirs, mounts })
    }
}

impl Place {
    /// Where `config.json` lies.
    pub fn config(&self) -> TreePath {
        self.config.clone()
    }

    /// Where `runtime.json` lies, which LinuxKit's init reads; the boot plan says the same.
    pub fn runtime(&self) -> TreePath {
        self.runtime.clone()
    }

    /// What is done around the container's start: what its settings say, after the mounts of its root.
    pub fn with_mounts(&self, mut runtime: Runtime) -> Runtime {
        runtime.mounts.splice(0..0, self.mounts.iter().cloned());
        runtime
    }
}

/// The place of the volume `name`.
///
/// # Errors
/// When the name is not that of a directory.
pub fn volume(name: &str) -> Result<VolumePlace, PathError> {
    let at = |sub: &str| TreePath::parse(format!("{}/{name}/{sub}", kit_spec::node::VOLUMES_DIR));
    Ok(VolumePlace { lower: at("lower")?, dirs: vec![at("merged")?, at("tmp")?] })
}

/// A tmpfs on `tmp` that nobody else sees, and `lower` with what is written there, on `merged`.
fn overlay(lower: &TreePath, tmp: &TreePath, merged: &TreePath) -> Vec<Mount> {
    let options = [
        format!("lowerdir={}", absolute(lower)),
        format!("upperdir={}/upper", absolute(tmp)),
        format!("workdir={}/work", absolute(tmp)),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    vec![
        mount(tmp, "tmpfs", "tmpfs".to_owned(), &[]),
        mount(tmp, "", String::new(), &["remount", "private"]),
        mount(merged, "overlay", "overlay".to_owned(), &options),
    ]
}

fn mount(destination: &TreePath, kind: &str, source: String, options: &[&str]) -> Mount {
    Mount {
        destination: absolute(destination),
        kind: kind.to_owned(),
        source,
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    }
}

fn absolute(path: &TreePath) -> String {
    format!("/{}", String::from_utf8_lossy(path.as_bytes()))
}
