//! What `kitc` keeps about a container: one directory under `--root`.
//!
//! ```text
//! ROOT/ID/            made exclusively: the name is taken from then on
//!   state.json        the Record, replaced by rename
//!   config.json       the bundle's configuration as it was read at create
//!   start.sock        where the created container waits for `kitc start`
//! ```
//!
//! The record's status says how far the container was brought; whether its process still lives is
//! asked of the kernel each time (process id and start time must both match). The root is on a
//! memory file system, so nothing is synced: after a crash of the machine there are no containers.

use crate::cgroup;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How far a container has come (OCI runtime-spec, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its environment is being made.
    Creating,
    /// It waits for start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Status {
    /// The word of the specification.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What is written to `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the specification that the bundle names.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// How far it was brought; see [`Record::status_now`].
    pub status: Status,
    /// The process id of its first process, in the pid namespace of `kitc`.
    pub pid: i32,
    /// When that process started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// When the container was made.
    pub created: SystemTime,
    /// The user id that made it.
    pub owner: u32,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its control groups.
    pub cgroup: cgroup::Place,
    /// The kinds of namespaces that are not those of `kitc`.
    pub namespaces: Vec<LinuxNamespaceType>,
    /// Its first process is that of a pid namespace, so that its end is the end of all.
    #[serde(default)]
    pub ends_all: bool,
    /// The configuration has poststart hooks.
    #[serde(default)]
    pub poststart: bool,
    /// The configuration has poststop hooks.
    #[serde(default)]
    pub poststop: bool,
}

/// The state as the specification prints it (`kitc state`, and on the standard input of hooks).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Record {
    /// The status with the kernel asked whether the process still lives, and whether it is frozen.
    pub fn status_now(&self) -> Status {
        match life(self.pid) {
            Ok(Some(life)) if life.start_time == self.start_time && !life.ended => {}
            _ => return Status::Stopped,
        }
        if self.status == Status::Running && self.cgroup.is_frozen() { Status::Paused } else { self.status }
    }

    /// The state of the specification at `status`.
    pub fn oci(&self, status: Status) -> OciState<'_> {
        OciState {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid: (status != Status::Stopped).then_some(self.pid),
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }
}

/// What the kernel says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it started, in clock ticks since boot: with the process id this names it for ever.
    pub start_time: u64,
    /// It has ended, and nobody has waited for it yet.
    pub ended: bool,
}

/// Asks the kernel about process `pid`; `None` when there is none.
pub fn life(pid: i32) -> io::Result<Option<Life>> {
    let stat = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    parse_stat(&stat).map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reads state (field 3) and start time (field 22) after the last `)`: the name may contain anything.
fn parse_stat(stat: &[u8]) -> Option<Life> {
    let after = stat.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Life { start_time, ended })
}

/// What can go wrong with a container's directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be a directory's name.
    #[error(
        "container id {id:?}: only letters, digits and _ + - . are allowed, at least one of them not a dot, at most 255"
    )]
    BadId {
        /// The name.
        id: String,
    },
    /// The name is taken.
    #[error("container {id} exists already in {}", root.display())]
    Exists {
        /// The name.
        id: String,
        /// The directory of all containers.
        root: PathBuf,
    },
    /// There is no such container.
    #[error("container {id} does not exist in {}", root.display())]
    Missing {
        /// The name.
        id: String,
        /// The directory of all containers.
        root: PathBuf,
    },
    /// A call on a file or directory failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A state file is not what this program writes.
    #[error("read {}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// A container's directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes the directory of a new container; the name must be free.
    pub fn create(root: &Path, id: &str) -> Result<StateDir, Error> {
        check_id(id)?;
        let path = root.join(id);
        let private = Mode::RWXU;
        let mut made = rustix::fs::mkdir(&path, private);
        if made == Err(Errno::NOENT) {
            make_root(root)?;
            made = rustix::fs::mkdir(&path, private);
        }
        match made {
            Ok(()) => Ok(StateDir { path }),
            Err(Errno::EXIST) => Err(Error::Exists { id: id.to_owned(), root: root.to_owned() }),
            Err(source) => Err(Error::Io { doing: "make directory", path, source: source.into() }),
        }
    }

    /// The directory of a container that exists.
    pub fn open(root: &Path, id: &str) -> Result<StateDir, Error> {
        check_id(id)?;
        let path = root.join(id);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(StateDir { path }),
            Ok(_) => Err(Error::Missing { id: id.to_owned(), root: root.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::Missing { id: id.to_owned(), root: root.to_owned() })
            }
            Err(source) => Err(Error::Io { doing: "look at", path, source }),
        }
    }

    /// The names of all containers under `root`, sorted.
    pub fn list(root: &Path) -> Result<Vec<String>, Error> {
        let io = |source| Error::Io { doing: "list", path: root.to_owned(), source };
        let entries = match fs::read_dir(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            names.extend(name.to_str().filter(|n| check_id(n).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a created container waits for start.
    pub fn start_socket(&self) -> PathBuf {
        self.path.join("start.sock")
    }

    /// The configuration as it was read at create.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// Keeps the text of the configuration.
    pub fn write_config(&self, text: &[u8]) -> Result<(), Error> {
        let path = self.config();
        fs::write(&path, text).map_err(|source| Error::Io { doing: "write", path, source })
    }

    /// Writes the record beside the old one and puts it in its place.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path.join("state.json");
        let beside = self.path.join("state.json.new");
        let text = serde_json::to_vec(record).map_err(|source| Error::Io {
            doing: "write",
            path: path.clone(),
            source: source.into(),
        })?;
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(|source| Error::Io {
            doing: "write",
            path,
            source,
        })
    }

    /// Reads the record; `None` when the container's making was cut off before there was one.
    pub fn read(&self) -> Result<Option<Record>, Error> {
        let path = self.path.join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: "read", path, source }),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::Parse { path, source })
    }

    /// Removes the directory and all that this program puts there.
    pub fn remove(&self) -> Result<(), Error> {
        fs::remove_dir_all(&self.path).map_err(|source| Error::Io {
            doing: "remove",
            path: self.path.clone(),
            source,
        })
    }
}

fn make_root(root: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|source| Error::Io {
        doing: "make directory",
        path: root.to_owned(),
        source,
    })
}

/// Checks that a name can be that of a container.
pub fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
    let fine = (1..=255).contains(&id.len()) && id.bytes().all(allowed) && !id.bytes().all(|b| b == b'.');
    if fine { Ok(()) } else { Err(Error::BadId { id: id.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_directory_name() {
        for id in ["a", "web-1", "A_b+c.d", &"x".repeat(255)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_start_time_is_found_behind_any_process_name() {
        let tail = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 0 0";
        let lives = Life { start_time: 4711, ended: false };
        assert_eq!(parse_stat(format!("7 (a b) c) {}", &tail[1..]).as_bytes()), Some(lives));
        let ended = Life { ended: true, ..lives };
        assert_eq!(parse_stat(format!("7 (x){}", tail.replace(" S", " Z")).as_bytes()), Some(ended));
        assert_eq!(parse_stat(b"7 (x"), None);
        assert_eq!(parse_stat(b"7 (x) S 1"), None);
    }

    #[test]
    fn this_process_lives_and_a_free_id_does_not() {
        assert!(life(std::process::id() as i32).unwrap().is_some_and(|life| !life.ended));
        assert_eq!(life(i32::MAX).unwrap(), None);
    }
}
