//! Mounts: the table of what PID 1 mounts, and mounts as a plan's `runtime` block writes them.

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

/// A file system that PID 1 mounts.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Its type, and its source too.
    pub kind: &'static str,
    /// Where.
    pub at: &'static str,
    /// How.
    pub flags: MountFlags,
    /// Its own options.
    pub data: &'static str,
    /// Whether a node can do without.
    pub need: Need,
}

/// Whether a node can do without a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot.
    Always,
    /// It is mounted if the kernel has it already.
    Known,
    /// It is mounted if its directory is there, for which the kernel may load a module.
    Place,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const PTS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

const fn system(
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    data: &'static str,
    need: Need,
) -> System {
    System { kind, at, flags, data, need }
}

/// The first of [`SYSTEM`]: what anything else needs.
pub const FIRST: usize = 4;

/// In this order; what is mounted already stays as it is.
pub const SYSTEM: &[System] = &[
    system("proc", "/proc", QUIET, "", Need::Always),
    system("sysfs", "/sys", QUIET, "", Need::Always),
    system("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755", Need::Always),
    system("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate", Need::Always),
    system("tmpfs", "/run", DATA, "size=10%,mode=0755", Need::Always),
    system("tmpfs", "/tmp", DATA, "size=10%,mode=1777", Need::Always),
    system("tmpfs", "/var", DATA, "size=50%,mode=0755", Need::Always),
    system("devpts", "/dev/pts", PTS, "newinstance,ptmxmode=0666,mode=0620,gid=5", Need::Always),
    system("tmpfs", "/dev/shm", DATA, "mode=1777", Need::Always),
    system("mqueue", "/dev/mqueue", QUIET, "", Need::Known),
    system("securityfs", "/sys/kernel/security", QUIET, "", Need::Known),
    system("debugfs", "/sys/kernel/debug", QUIET, "mode=0700", Need::Known),
    system("tracefs", "/sys/kernel/tracing", QUIET, "mode=0700", Need::Known),
    system("configfs", "/sys/kernel/config", QUIET, "", Need::Known),
    system("fusectl", "/sys/fs/fuse/connections", QUIET, "", Need::Known),
    system("pstore", "/sys/fs/pstore", QUIET, "", Need::Known),
    system("bpf", "/sys/fs/bpf", QUIET, "mode=0700", Need::Known),
    system("efivarfs", "/sys/firmware/efi/efivars", QUIET, "", Need::Place),
    system("binfmt_misc", "/proc/sys/fs/binfmt_misc", QUIET, "", Need::Known),
];

/// Directories that programs expect in the fresh `/var`, `/run` and `/dev`, with their modes.
pub const DIRECTORIES: &[(&str, u32)] = &[
    ("/var/cache", 0o755),
    ("/var/empty", 0o555),
    ("/var/lib", 0o755),
    ("/var/local", 0o755),
    ("/var/log", 0o755),
    ("/var/opt", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
    ("/run/lock", 0o1777),
    ("/run/resolvconf", 0o755),
    ("/run/kit", 0o700),
    ("/run/kit/log", 0o700),
    ("/run/kit/pids", 0o700),
    ("/run/kit/why", 0o700),
];

/// Links in `/dev` and `/var`.
pub const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
];

impl System {
    /// Mounts it, unless it is mounted, or can be done without. `known` is the text of `/proc/filesystems`.
    ///
    /// # Errors
    /// The kernel's, of one that is needed.
    pub fn mount(&self, mounted: &[String], known: &str) -> io::Result<()> {
        let wanted = match self.need {
            Need::Always => true,
            Need::Known => known.lines().any(|line| line.split_whitespace().next_back() == Some(self.kind)),
            Need::Place => Path::new(self.at).exists(),
        };
        if !wanted || mounted.iter().any(|at| at == self.at) {
            return Ok(());
        }
        let data = CString::new(self.data)?;
        let mount = || mount(self.kind, self.at, self.kind, self.flags, Some(data.as_c_str()));
        // Most places are there, and the others can be made only where they can be.
        let result = match mount() {
            Err(rustix::io::Errno::NOENT) => fs::create_dir_all(self.at).and_then(|()| Ok(mount()?)),
            result => result.map_err(io::Error::from),
        };
        if self.need == Need::Always { result } else { Ok(()) }
    }
}

/// True if something is mounted at a path, by the text of `/proc/self/mounts`.
pub fn is_mounted(mounts: &str, at: &str) -> bool {
    points(mounts).any(|point| point == at)
}

/// Where something is mounted, in the order of mounting, by the text of `/proc/self/mounts`.
pub fn points(mounts: &str) -> impl DoubleEndedIterator<Item = String> {
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescaped)
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits (proc_pid_mounts(5)).
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

/// mount(8)'s options, sorted out.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    flags: MountFlags,
    bind: Option<Bind>,
    remount: bool,
    /// Whether a flag was named, be it to take it away: a remount then sets them.
    named: bool,
    propagation: Option<MountPropagationFlags>,
    data: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bind {
    One,
    Tree,
}

/// Words that set flags, and words that take them away.
const FLAGS: &[(&str, bool, MountFlags)] = &[
    ("ro", true, MountFlags::RDONLY),
    ("rw", false, MountFlags::RDONLY),
    ("nosuid", true, MountFlags::NOSUID),
    ("suid", false, MountFlags::NOSUID),
    ("nodev", true, MountFlags::NODEV),
    ("dev", false, MountFlags::NODEV),
    ("noexec", true, MountFlags::NOEXEC),
    ("exec", false, MountFlags::NOEXEC),
    ("sync", true, MountFlags::SYNCHRONOUS),
    ("async", false, MountFlags::SYNCHRONOUS),
    ("dirsync", true, MountFlags::DIRSYNC),
    ("noatime", true, MountFlags::NOATIME),
    ("atime", false, MountFlags::NOATIME),
    ("nodiratime", true, MountFlags::NODIRATIME),
    ("diratime", false, MountFlags::NODIRATIME),
    ("relatime", true, MountFlags::RELATIME),
    ("norelatime", false, MountFlags::RELATIME),
    ("strictatime", true, MountFlags::STRICTATIME),
    ("nostrictatime", false, MountFlags::STRICTATIME),
    ("silent", true, MountFlags::SILENT),
    ("loud", false, MountFlags::SILENT),
];

impl Options {
    /// What is not known here is the file system's. Of words that contradict each other the last counts.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Options {
        let mut options = Options {
            flags: MountFlags::empty(),
            bind: None,
            remount: false,
            named: false,
            propagation: None,
            data: String::new(),
        };
        for word in words.iter().map(AsRef::as_ref) {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some((_, set, flag)) = FLAGS.iter().find(|(known, ..)| *known == word) {
            self.flags.set(*flag, *set);
            self.named = true;
        } else if let Some(kind) = propagation(word) {
            self.propagation = Some(kind);
        } else {
            match word {
                "" | "defaults" => {}
                "bind" => self.bind = Some(Bind::One),
                "rbind" => self.bind = Some(Bind::Tree),
                "remount" => self.remount = true,
                word if self.data.is_empty() => self.data.push_str(word),
                word => self.data.extend([",", word]),
            }
        }
    }

    /// True if it changes a mount that is there.
    pub fn is_remount(&self) -> bool {
        self.remount
    }

    /// Mounts, binds, remounts or changes propagation, as the options say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&self, kind: &str, source: &str, at: &Path) -> io::Result<()> {
        let bind = self.bind.or((kind == "bind").then_some(Bind::One));
        if self.remount {
            self.change(bind.is_some(), at)?;
        } else {
            match bind {
                Some(Bind::One) => mount_bind(source, at)?,
                Some(Bind::Tree) => mount_bind_recursive(source, at)?,
                None if !kind.is_empty() => {
                    let data = CString::new(self.data.as_str())?;
                    mount(source, at, kind, self.flags, Some(data.as_c_str()))?;
                }
                None => {}
            }
            // A bind takes no flags; they are given in a second call.
            if bind.is_some() && !self.flags.is_empty() {
                mount_remount(at, self.flags | MountFlags::BIND, "")?;
            }
        }
        if let Some(kind) = self.propagation {
            mount_change(at, kind)?;
        }
        Ok(())
    }

    /// Only `remount,private` and the like say nothing about flags.
    fn change(&self, bind: bool, at: &Path) -> io::Result<()> {
        if !self.named && self.data.is_empty() {
            return Ok(());
        }
        let bind = if bind { MountFlags::BIND } else { MountFlags::empty() };
        Ok(mount_remount(at, self.flags | bind, self.data.as_str())?)
    }
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (word, recursive) = match word.strip_prefix('r') {
        Some(rest) if matches!(rest, "shared" | "private" | "slave" | "unbindable") => (rest, true),
        _ => (word, false),
    };
    let kind = match word {
        "shared" => MountPropagationFlags::SHARED,
        "private" => MountPropagationFlags::PRIVATE,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(if recursive { kind | MountPropagationFlags::REC } else { kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_out() {
        let options = Options::parse(&["rw", "nosuid", "lowerdir=/a", "upperdir=/b", "rshared"]);
        assert_eq!(options.flags, MountFlags::NOSUID);
        assert_eq!(options.data, "lowerdir=/a,upperdir=/b");
        assert_eq!(options.propagation, Some(MountPropagationFlags::SHARED | MountPropagationFlags::REC));
        assert_eq!(Options::parse(&["bind", "ro"]).bind, Some(Bind::One));
        assert_eq!(Options::parse(&["rbind"]).bind, Some(Bind::Tree));
        assert!(Options::parse(&["remount", "private"]).is_remount());
    }

    #[test]
    fn the_last_of_two_words_that_contradict_each_other_counts() {
        assert_eq!(Options::parse(&["ro", "noexec", "rw"]).flags, MountFlags::NOEXEC);
        assert_eq!(Options::parse(&["suid", "nosuid"]).flags, MountFlags::NOSUID);
        // It says that nothing is to be set, which a remount must do.
        let options = Options::parse(&["remount", "rw"]);
        assert!(options.named && options.flags.is_empty());
        assert!(!Options::parse(&["remount", "private"]).named);
    }

    #[test]
    fn what_is_mounted_is_known_by_its_whole_path() {
        let mounts =
            "proc /proc proc rw 0 0\ntmpfs /run/x tmpfs rw 0 0\ntmpfs /run/a\\040b\\134c tmpfs rw 0 0\n";
        assert!(is_mounted(mounts, "/proc"));
        assert!(!is_mounted(mounts, "/run"));
        assert!(is_mounted(mounts, "/run/a b\\c"));
        assert!(!is_mounted(mounts, "/run/a b"));
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescaped("/a\\040b\\011\\134040"), "/a b\t\\040");
        assert_eq!(unescaped("/a\\04"), "/a\\04");
    }

    #[test]
    fn containers_find_the_usual_file_systems() {
        let points: Vec<&str> = SYSTEM.iter().map(|system| system.at).collect();
        let mut sorted = points.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), points.len(), "something is mounted twice");
        for (at, system) in SYSTEM.iter().enumerate() {
            let parent = SYSTEM.iter().rposition(|other| system.at.starts_with(&format!("{}/", other.at)));
            assert!(parent.is_none_or(|parent| parent < at), "{} is hidden by a later mount", system.at);
        }
    }
}
