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
pub mod v1;
pub mod v2;

use oci_spec::runtime::LinuxResources;
use rustix::fs::{FsWord, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

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

/// The directories of a container's cgroups, as kept in its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// In the cgroup2 hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<PathBuf>,
    /// In version 1 hierarchies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<PathBuf>,
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
                Err(error)
            }
        }
    }

    fn fill(&mut self, path: &Path, resources: Option<&LinuxResources>) -> Result<(), Error> {
        let layout = layout();
        if let Some(root) = &v2_root_of(layout) {
            self.make_v2(root, path)?;
        }
        let Some(resources) = resources else {
            return self.track_v1(layout, path);
        };
        if layout == Layout::Unified {
            let dir = self.place.v2.clone().unwrap_or_default();
            v2::apply(Path::new(ROOT), path, &dir, &v2::settings(resources)?)?;
        } else {
            self.apply_v1(path, &v1::settings(resources)?)?;
        }
        let rules = resources.devices().as_deref().unwrap_or_default();
        if !rules.is_empty() {
            self.apply_devices(path, rules)?;
        }
        self.track_v1(layout, path)
    }

    /// Without cgroup2 some hierarchy has to say which processes are the container's.
    fn track_v1(&mut self, layout: Layout, path: &Path) -> Result<(), Error> {
        if layout != (Layout::Split { hybrid: false }) || !self.place.v1.is_empty() {
            return Ok(());
        }
        match ["pids", "freezer", "systemd", "memory"].iter().find(|c| is_v1(c)) {
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

    /// Removes what was made, the last first. Nothing can be done about what cannot be removed.
    pub fn undo(&mut self) {
        self.dir = None;
        for dir in std::mem::take(&mut self.made).iter().rev() {
            let _ = remove_directory(dir);
        }
    }
}

impl Place {
    /// Moves process `pid` into the version 1 cgroups; with `all`, into that of cgroup2 as well.
    pub fn join(&self, pid: i32, all: bool) -> Result<(), Error> {
        let v2 = self.v2.as_ref().filter(|_| all);
        for dir in self.v1.iter().chain(v2) {
            let path = dir.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(|source| Error::Io {
                doing: "move a process with",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// The processes in the container's cgroup and below it, ascending.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let Some(dir) = self.v2.as_ref().or(self.v1.first()) else {
            return Ok(Vec::new());
        };
        let mut pids = Vec::new();
        collect_processes(dir, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills all processes, atomically where the kernel can. Returns whether there was a cgroup to
    /// find them in.
    pub fn kill(&self) -> Result<bool, Error> {
        if let Some(dir) = &self.v2 {
            let path = dir.join("cgroup.kill");
            match fs::write(&path, "1") {
                Ok(()) => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.exists() => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { doing: "write to", path, source }),
            }
        }
        self.signal_all(libc::SIGKILL)
    }

    /// Sends a signal to all processes, frozen meanwhile so that none forks away. Returns whether
    /// there was a cgroup to find them in.
    pub fn signal_all(&self, number: i32) -> Result<bool, Error> {
        let Some(dir) = self.v2.as_ref().or(self.v1.first()) else { return Ok(false) };
        if !dir.exists() {
            return Ok(true);
        }
        let was_frozen = self.is_frozen();
        let frozen = self.set_frozen(true).is_ok();
        // Without a freezer a process may fork while it is looked for: look again until there are no
        // new ones.
        let mut seen = Vec::new();
        for _ in 0..16 {
            let new: Vec<i32> = self.processes()?.into_iter().filter(|p| !seen.contains(p)).collect();
            for &pid in &new {
                let _ = crate::sys::signal::kill(pid, number);
            }
            if new.is_empty() {
                break;
            }
            seen.extend(new);
        }
        if frozen && !was_frozen {
            self.set_frozen(false)?;
        }
        Ok(true)
    }

    /// Whether the processes are frozen.
    pub fn is_frozen(&self) -> bool {
        if let Some(dir) = &self.v2 {
            return fs::read(dir.join("cgroup.freeze")).is_ok_and(|text| text.starts_with(b"1"));
        }
        self.freezer().is_some_and(|dir| {
            fs::read(dir.join("freezer.state")).is_ok_and(|text| !text.starts_with(b"THAWED"))
        })
    }

    /// Freezes or thaws all processes.
    pub fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (path, value) = match (&self.v2, self.freezer()) {
            (Some(dir), _) => (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            (None, Some(dir)) => (dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
            (None, None) => {
                return Err(Error::NoController { key: "pause".to_owned(), file: "freezer".to_owned() });
            }
        };
        fs::write(&path, value).map_err(|source| Error::Io { doing: "write to", path, source })
    }

    fn freezer(&self) -> Option<&PathBuf> {
        self.v1.iter().find(|dir| dir.starts_with("/sys/fs/cgroup/freezer"))
    }

    /// Changes the limits of a running container.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        match (&self.v2, layout()) {
            (Some(dir), Layout::Unified) => {
                let path = dir.strip_prefix(ROOT).unwrap_or(dir);
                v2::apply(Path::new(ROOT), path, dir, &v2::settings(resources)?)
            }
            _ => v1::settings(resources)?.iter().try_for_each(|setting| {
                let under = Path::new(ROOT).join(setting.controller);
                match self.v1.iter().find(|dir| dir.starts_with(&under)) {
                    Some(dir) => write_setting(&setting.key, &dir.join(&setting.file), &setting.value),
                    None => Err(Error::NoController { key: setting.key.clone(), file: setting.file.clone() }),
                }
            }),
        }
    }

    /// Removes the cgroups, with those that the container made below, once they are empty.
    pub fn remove(&self) -> Result<(), Error> {
        for dir in self.v2.iter().chain(&self.v1) {
            let deadline = Instant::now() + EMPTY_DEADLINE;
            loop {
                match remove_directory(dir) {
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => wait_until_empty(dir, deadline)?,
                    Err(source) => return Err(Error::Io { doing: "remove", path: dir.clone(), source }),
                    Ok(()) => break,
                }
            }
        }
        Ok(())
    }

    /// The version 1 directories of the container, and where it has none, the ones that this process
    /// is in, by hierarchy; for a cgroup mount in the container.
    pub fn shown(&self) -> Vec<(String, PathBuf)> {
        let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
            .into_iter()
            .filter_map(|name| {
                let root = Path::new(ROOT).join(&name);
                let magic = rustix::fs::statfs(&root).ok()?.f_type;
                let own = self.v1.iter().chain(&self.v2).find(|dir| dir.starts_with(&root));
                matches!(magic, CGROUP1_MAGIC | CGROUP2_MAGIC).then(|| (name, own.cloned().unwrap_or(root)))
            })
            .collect()
    }
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

fn write_setting(key: &str, path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::NoController {
            key: key.to_owned(),
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        },
        _ => Error::Write { key: key.to_owned(), value: value.to_owned(), path: path.to_owned(), source },
    })
}

fn collect_processes(dir: &Path, pids: &mut Vec<i32>) -> Result<(), Error> {
    let path = dir.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A cgroup of threads lists its processes at the top of its domain.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(source) => return Err(Error::Io { doing: "read", path, source }),
    }
    for child in children(dir) {
        collect_processes(&child, pids)?;
    }
    Ok(())
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Removes an empty cgroup; its children, if it has any, first. One that is gone is fine.
fn remove_directory(dir: &Path) -> io::Result<()> {
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) => {}
        Err(errno) => return Err(errno.into()),
    }
    for child in children(dir) {
        remove_directory(&child)?;
    }
    match rustix::fs::rmdir(dir) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until a cgroup has no living process: for the event of cgroup2, else by asking again.
fn wait_until_empty(dir: &Path, deadline: Instant) -> Result<(), Error> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::NotEmpty { path: dir.to_owned() });
    }
    let step = |limit: Duration| {
        let wait = left.min(limit);
        Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() }
    };
    if let Ok(events) = fs::File::open(dir.join("cgroup.events")) {
        let populated = fs::read_to_string(dir.join("cgroup.events"))
            .is_ok_and(|text| text.lines().any(|line| line == "populated 1"));
        if populated {
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&step(Duration::from_millis(50))));
            return Ok(());
        }
    }
    let _ = poll(&mut [], Some(&step(Duration::from_millis(1))));
    Ok(())
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
