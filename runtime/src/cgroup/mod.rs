//! Control groups: where a container's processes are accounted, limited, found and killed.
//!
//! ```text
//! Layout::Unified         /sys/fs/cgroup is cgroup2: one directory for everything
//! Layout::Split{hybrid}   /sys/fs/cgroup/NAME are version 1 hierarchies; in hybrid mode
//!                         /sys/fs/cgroup/unified is cgroup2 besides
//! Layout::None            nothing is mounted: a container without limits can still run
//! ```
//!
//! Wherever there is a cgroup2 hierarchy the container gets a directory in it and its first process
//! is made inside ([`Cgroup::clone_into`]), which spares the move and its wait for all CPUs. Version 1
//! hierarchies are joined only for the limits that are asked for. A limit that no hierarchy of the
//! machine can set is an error. Devices are filtered by a program on the cgroup2 directory where there
//! is one, else by the version 1 controller.

pub mod devices;
mod place;
pub mod stats;
pub mod v1;
pub mod v2;

pub use place::Place;

use oci_spec::runtime::LinuxResources;
use rustix::fs::{FsWord, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Where cgroup file systems are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Where containers are put that say nothing about it.
const DEFAULT_PARENT: &str = "/kitc";
/// How long a killed cgroup may take to get empty.
const EMPTY_DEADLINE: Duration = Duration::from_secs(10);

const CGROUP2_MAGIC: FsWord = 0x6367_7270;
const CGROUP1_MAGIC: FsWord = 0x0027_e0eb;

/// What can go wrong with control groups.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path leaves its hierarchy.
    #[error("linux.cgroupsPath: {} has a .. in it", path.display())]
    Path {
        /// As written.
        path: PathBuf,
    },
    /// There are processes in the container's cgroup before the container is.
    #[error("linux.cgroupsPath: {} has processes in it already", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A setting has no file on this machine.
    #[error("{key}: this machine has no {file}")]
    NoController {
        /// The key.
        key: String,
        /// The file.
        file: String,
    },
    /// A new limit is below what is in use, and the configuration wants that to be looked at first.
    #[error("linux.resources.memory.limit: {limit} bytes are less than the {used} in use")]
    BelowUse {
        /// The new limit.
        limit: i64,
        /// What is in use.
        used: i64,
    },
    /// A setting that this version of cgroups has no counterpart for.
    #[error("{key}: {why}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A setting was refused.
    #[error("{key}: write {value:?} to {}", path.display())]
    Write {
        /// The key.
        key: String,
        /// What was written.
        value: String,
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A call on a cgroup failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The rules for devices cannot be enforced.
    #[error("linux.resources.devices: {doing}")]
    Devices {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A killed cgroup did not get empty.
    #[error("{} still has processes after {} s", path.display(), EMPTY_DEADLINE.as_secs())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
}

impl Error {
    /// The caller has no rights over cgroups here.
    fn is_denied(&self) -> bool {
        let Error::Io { source, .. } = self else { return false };
        matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
    }
}

/// What is mounted at [`ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// cgroup2 itself.
    Unified,
    /// Version 1 hierarchies, with cgroup2 at `unified` where `hybrid`.
    Split {
        /// cgroup2 is there, too.
        hybrid: bool,
    },
    /// No cgroups.
    None,
}

/// Asks the kernel what is mounted.
pub fn layout() -> Layout {
    let magic = |path: &str| rustix::fs::statfs(path).map(|s| s.f_type).unwrap_or(0);
    match magic(ROOT) {
        CGROUP2_MAGIC => Layout::Unified,
        _ if magic("/sys/fs/cgroup/unified") == CGROUP2_MAGIC => Layout::Split { hybrid: true },
        _ if v1::CONTROLLERS.iter().any(|c| is_v1(c)) => Layout::Split { hybrid: false },
        _ => Layout::None,
    }
}

/// Where cgroup2 is mounted, if it is.
pub fn v2_root() -> Option<PathBuf> {
    v2_root_of(layout())
}

fn v2_root_of(layout: Layout) -> Option<PathBuf> {
    match layout {
        Layout::Unified => Some(PathBuf::from(ROOT)),
        Layout::Split { hybrid: true } => Some(Path::new(ROOT).join("unified")),
        _ => None,
    }
}

fn is_v1(controller: &str) -> bool {
    let path = Path::new(ROOT).join(controller);
    rustix::fs::statfs(&path).is_ok_and(|s| s.f_type == CGROUP1_MAGIC)
}

/// A container's cgroups while it is being made: remembers what was made, to undo it.
#[derive(Debug)]
pub struct Cgroup {
    place: Place,
    dir: Option<OwnedFd>,
    made: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the cgroups of container `id` and sets its limits. On failure nothing stays.
    pub fn create(
        id: &str,
        path: Option<&Path>,
        resources: Option<&LinuxResources>,
    ) -> Result<Cgroup, Error> {
        let path = relative(id, path)?;
        let mut cgroup = Cgroup { place: Place::default(), dir: None, made: Vec::new() };
        match cgroup.fill(&path, resources) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.undo();
                // Who may not make cgroups can still run what has no limits.
                let ordinary = error.is_denied() && !rustix::process::geteuid().is_root();
                if ordinary && !asks_for_limits(resources)? {
                    return Ok(Cgroup { place: Place::default(), dir: None, made: Vec::new() });
                }
                Err(error)
            }
        }
    }

    fn fill(&mut self, path: &Path, resources: Option<&LinuxResources>) -> Result<(), Error> {
        let layout = layout();
        if let Some(root) = &v2_root_of(layout) {
            self.make_v2(root, path)?;
        }
        if layout == Layout::Unified {
            // Without limits, too: what is used is counted from the beginning.
            let settings = resources.map(v2::settings).transpose()?.unwrap_or_default();
            let dir = self.place.v2.clone().unwrap_or_default();
            v2::apply(Path::new(ROOT), path, &dir, &settings)?;
        } else if let Some(resources) = resources {
            self.apply_v1(path, &v1::settings(resources)?)?;
        }
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        // Who may not filter devices may not make any either; without rules that is as good.
        let able = self.dir.is_some() || is_v1("devices");
        if !rules.is_empty() || able && rustix::process::geteuid().is_root() {
            self.apply_devices(path, rules)?;
        }
        self.track_v1(layout, path)
    }

    /// Without cgroup2 some hierarchy has to say which processes are the container's: the freezer's, which
    /// can also pause them, or any.
    fn track_v1(&mut self, layout: Layout, path: &Path) -> Result<(), Error> {
        if layout != (Layout::Split { hybrid: false }) {
            return Ok(());
        }
        if is_v1("freezer") {
            return self.make_v1("freezer", path).map(drop);
        }
        match ["pids", "systemd", "memory"].iter().find(|c| self.place.v1.is_empty() && is_v1(c)) {
            Some(controller) => self.make_v1(controller, path).map(drop),
            None => Ok(()),
        }
    }

    fn make_v2(&mut self, root: &Path, path: &Path) -> Result<(), Error> {
        let dir = root.join(path);
        self.make_directories(root, path)?;
        self.place.v2 = Some(dir.clone());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&dir, flags, Mode::empty()).map_err(|e| Error::Io {
            doing: "open",
            path: dir.clone(),
            source: e.into(),
        })?;
        if !self.made.contains(&dir) {
            refuse_processes(&dir)?;
            // Rules that a former container left would narrow those of this one.
            for program in crate::sys::bpf::device_filters(fd.as_fd()).unwrap_or_default() {
                let _ = crate::sys::bpf::detach_device_filter(fd.as_fd(), program.as_fd());
            }
        }
        self.dir = Some(fd);
        Ok(())
    }

    fn make_v1(&mut self, controller: &str, path: &Path) -> Result<PathBuf, Error> {
        let root = Path::new(ROOT).join(controller);
        let dir = root.join(path);
        if self.place.v1.contains(&dir) {
            return Ok(dir);
        }
        self.make_directories(&root, path)?;
        if controller == "cpuset" {
            v1::inherit_cpuset(&root, path)?;
        }
        if !self.made.contains(&dir) {
            refuse_processes(&dir)?;
        }
        self.place.v1.push(dir.clone());
        Ok(dir)
    }

    /// Makes the directory of one more version 1 hierarchy for a container that runs.
    fn make_beside(place: &mut Place, controller: &str, path: &Path) -> Result<PathBuf, Error> {
        let mut cgroup = Cgroup { place: std::mem::take(place), dir: None, made: Vec::new() };
        let result = cgroup.make_v1(controller, path);
        *place = cgroup.place;
        if result.is_err() {
            for dir in cgroup.made.iter().rev() {
                let _ = place::remove_directory(dir);
            }
        }
        result
    }

    fn apply_v1(&mut self, path: &Path, settings: &[v1::Setting]) -> Result<(), Error> {
        for setting in settings {
            if !is_v1(setting.controller) {
                let file = setting.file.clone();
                return Err(Error::NoController { key: setting.key.clone(), file });
            }
            let dir = self.make_v1(setting.controller, path)?;
            write_setting(&setting.key, &dir.join(&setting.file), &setting.value)?;
        }
        Ok(())
    }

    fn apply_devices(
        &mut self,
        path: &Path,
        rules: &[oci_spec::runtime::LinuxDeviceCgroup],
    ) -> Result<(), Error> {
        let rules = devices::with_defaults(rules);
        if let Some(dir) = &self.dir {
            return devices::attach(dir.as_fd(), &rules);
        }
        self.apply_v1(path, &v1::device_settings(&rules))
    }

    fn make_directories(&mut self, root: &Path, path: &Path) -> Result<(), Error> {
        let leaf = root.join(path);
        match self.make_directory(&leaf) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut dir = root.to_owned();
        for part in path.components() {
            dir.push(part);
            self.make_directory(&dir)?;
        }
        Ok(())
    }

    fn make_directory(&mut self, dir: &Path) -> Result<(), Error> {
        match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.made.push(dir.to_owned()),
            Err(Errno::EXIST) => {}
            Err(e) => {
                return Err(Error::Io { doing: "make directory", path: dir.to_owned(), source: e.into() });
            }
        }
        Ok(())
    }

    /// The directory to make the container's process in.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// Whether the process has to be moved by [`Place::join`] after it was made.
    pub fn has_v1(&self) -> bool {
        !self.place.v1.is_empty()
    }

    /// Where the cgroups are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Kills what is inside and removes what was made, the last first. Nothing can be done about what
    /// cannot be removed.
    pub fn undo(&mut self) {
        self.dir = None;
        let made = std::mem::take(&mut self.made);
        if made.iter().any(|dir| self.place.v2.as_ref() == Some(dir) || self.place.v1.contains(dir)) {
            let _ = self.place.kill();
            let _ = self.place.remove();
        }
        for dir in made.iter().rev() {
            let _ = place::remove_directory(dir);
        }
    }
}

/// Whether there is something to be set. Rules for devices do not count: only a caller with rights could
/// make a device that they would be about.
fn asks_for_limits(resources: Option<&LinuxResources>) -> Result<bool, Error> {
    let Some(resources) = resources else { return Ok(false) };
    Ok(match layout() {
        Layout::Unified => !v2::settings(resources)?.is_empty(),
        _ => !v1::settings(resources)?.is_empty(),
    })
}

/// Removes the cgroups of a container whose making was cut off before its state was written. What is in
/// them is killed where they are known to be the container's (`kill`).
pub fn remove_leftovers(id: &str, path: Option<&Path>, kill: bool) -> Result<(), Error> {
    let path = relative(id, path)?;
    let split = v1::CONTROLLERS.iter().filter(|c| is_v1(c)).map(|c| Path::new(ROOT).join(c));
    let v1 = split.map(|root| root.join(&path)).collect();
    let place = Place { v2: v2_root().map(|root| root.join(&path)), v1 };
    if kill {
        place.kill()?;
    }
    place.remove()
}

/// The path below a hierarchy's root: that of the configuration, or one made of the name.
fn relative(id: &str, path: Option<&Path>) -> Result<PathBuf, Error> {
    let path = match path.filter(|p| !p.as_os_str().is_empty()) {
        Some(path) => path.to_owned(),
        None => Path::new(DEFAULT_PARENT).join(id),
    };
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(Error::Path { path }),
        }
    }
    if clean.as_os_str().is_empty() { Err(Error::Path { path }) } else { Ok(clean) }
}

fn refuse_processes(dir: &Path) -> Result<(), Error> {
    let path = dir.join("cgroup.procs");
    match fs::read(&path) {
        Ok(text) if text.is_empty() => Ok(()),
        Ok(_) => Err(Error::InUse { path: dir.to_owned() }),
        Err(source) => Err(Error::Io { doing: "read", path, source }),
    }
}

/// Writes to a file that must be there: cgroup file systems have their own errors for making one.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn write_setting(key: &str, path: &Path, value: &str) -> Result<(), Error> {
    write_existing(path, value).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoController {
            key: key.to_owned(),
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        },
        _ => Error::Write { key: key.to_owned(), value: value.to_owned(), path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_path_stays_below_its_root() {
        let of = |path: Option<&str>| relative("web", path.map(Path::new)).ok();
        assert_eq!(of(None), Some("kitc/web".into()));
        assert_eq!(of(Some("")), Some("kitc/web".into()));
        assert_eq!(of(Some("/a//b/./c")), Some("a/b/c".into()));
        assert_eq!(of(Some("a/b")), Some("a/b".into()));
        assert_eq!(of(Some("/a/../../b")), None);
        assert_eq!(of(Some("/")), None);
    }
}
