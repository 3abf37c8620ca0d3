//! Where a container's cgroups are, and what is done with the processes in them.

use super::{
    CGROUP1_MAGIC, CGROUP2_MAGIC, Cgroup, EMPTY_DEADLINE, Error, Layout, ROOT, devices, layout, v1, v2,
    write_existing, write_setting,
};
use crate::sys::signal;
use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

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

impl Place {
    /// Moves process `pid` into the version 1 cgroups; with `all`, into that of cgroup2 as well.
    pub fn join(&self, pid: i32, all: bool) -> Result<(), Error> {
        let v2 = self.v2.as_ref().filter(|_| all);
        for dir in self.v1.iter().chain(v2) {
            let path = dir.join("cgroup.procs");
            write_existing(&path, &pid.to_string()).map_err(|source| Error::Io {
                doing: "move a process with",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// The cgroups of `word`, `[CONTROLLER,..:]PATH`, below the container's. They are there already, as
    /// programs in the container make them. Controllers name version 1 hierarchies.
    pub fn below(&self, word: &str) -> Result<Place, Error> {
        let bad = |why| Error::Unsupported { key: "--cgroup", why };
        let (controllers, path) = word.split_once(':').unwrap_or(("", word));
        let mut clean = PathBuf::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(part) => clean.push(part),
                Component::RootDir | Component::CurDir => {}
                _ => return Err(bad("the path has a .. in it")),
            }
        }
        let mut place = self.clone();
        if controllers.is_empty() {
            for dir in place.v2.iter_mut().chain(&mut place.v1) {
                dir.extend(&clean);
            }
        }
        for controller in controllers.split(',').filter(|c| !c.is_empty()) {
            let root = Path::new(ROOT).join(controller);
            let dir = place.v1.iter_mut().find(|dir| dir.starts_with(&root));
            dir.ok_or_else(|| bad("the container is in no such hierarchy"))?.extend(&clean);
        }
        match place.v2.iter().chain(&place.v1).find(|dir| !dir.exists()) {
            Some(dir) => {
                let source = io::ErrorKind::NotFound.into();
                Err(Error::Io { doing: "--cgroup: enter", path: dir.clone(), source })
            }
            None => Ok(place),
        }
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
            match write_existing(&path, "1") {
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
                let _ = signal::kill(pid, number);
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
        write_existing(&path, value).map_err(|source| Error::Io { doing: "write to", path, source })
    }

    fn freezer(&self) -> Option<&PathBuf> {
        self.v1.iter().find(|dir| dir.starts_with("/sys/fs/cgroup/freezer"))
    }

    /// Changes the limits of a running container, and with rules for devices all that there were. Under
    /// version 1 it may get more directories.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<(), Error> {
        match (&self.v2, layout()) {
            (Some(dir), Layout::Unified) => {
                let path = dir.strip_prefix(ROOT).unwrap_or(dir);
                let resources = v2::completed(dir, resources)?;
                v2::apply(Path::new(ROOT), path, dir, &v2::settings(&resources)?)?;
            }
            _ => self.update_v1(v1::settings(resources)?)?,
        }
        let rules = resources.devices().as_deref().filter(|rules| !rules.is_empty());
        match (rules.map(devices::with_defaults), &self.v2) {
            (None, _) => Ok(()),
            (Some(rules), Some(dir)) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| Error::Io {
                    doing: "open",
                    path: dir.clone(),
                    source: e.into(),
                })?;
                devices::replace(fd.as_fd(), &rules)
            }
            (Some(rules), None) => self.update_v1(v1::device_settings(&rules)),
        }
    }

    fn update_v1(&mut self, mut settings: Vec<v1::Setting>) -> Result<(), Error> {
        for setting in &settings {
            self.enter_v1(setting)?;
        }
        let dir_of = |setting: &v1::Setting| {
            let under = Path::new(ROOT).join(setting.controller);
            self.v1.iter().find(|dir| dir.starts_with(&under)).cloned().unwrap_or(under)
        };
        v1::order_memory(&mut settings, dir_of);
        settings.iter().try_for_each(|setting| {
            write_setting(&setting.key, &dir_of(setting).join(&setting.file), &setting.value)
        })
    }

    /// Makes sure that the container is in the hierarchy of a setting, at the path that it has in others.
    fn enter_v1(&mut self, setting: &v1::Setting) -> Result<(), Error> {
        let root = Path::new(ROOT);
        if self.v1.iter().any(|dir| dir.starts_with(root.join(setting.controller))) {
            return Ok(());
        }
        let below = |dir: &PathBuf| {
            let mut parts = dir.strip_prefix(ROOT).ok()?.components();
            parts.next()?;
            Some(parts.as_path().to_owned())
        };
        let path = self.v2.iter().chain(&self.v1).find_map(below);
        let Some(path) = path.filter(|_| super::is_v1(setting.controller)) else {
            return Err(Error::NoController { key: setting.key.clone(), file: setting.file.clone() });
        };
        let before = self.processes()?;
        let dir = Cgroup::make_beside(self, setting.controller, &path)?;
        let procs = dir.join("cgroup.procs");
        let mut moved: Vec<i32> = Vec::new();
        let mut todo = before;
        // What is forked meanwhile by one that was not moved yet is found the next time.
        while !todo.is_empty() {
            for pid in &todo {
                match write_existing(&procs, &pid.to_string()) {
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                    result => result.map_err(|source| Error::Io {
                        doing: "move a process with",
                        path: procs.clone(),
                        source,
                    })?,
                }
            }
            moved.append(&mut todo);
            todo = self.processes()?.into_iter().filter(|pid| !moved.contains(pid)).collect();
        }
        Ok(())
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
pub(super) fn remove_directory(dir: &Path) -> io::Result<()> {
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
