//! Mounts: the table of what PID 1 mounts, and mounts as a plan's `runtime` block writes them.

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
};
use std::ffi::CString;
use std::fs;
use std::io;

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
    /// Whether a node can do without: not every kernel has it.
    pub optional: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

const fn system(
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    data: &'static str,
    optional: bool,
) -> System {
    System { kind, at, flags, data, optional }
}

/// In this order; what is mounted already stays as it is.
pub const SYSTEM: &[System] = &[
    system("proc", "/proc", QUIET, "", false),
    system("sysfs", "/sys", QUIET, "", false),
    system("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755", false),
    system("tmpfs", "/run", MountFlags::NOSUID.union(MountFlags::NODEV), "size=10%,mode=0755", false),
    system("tmpfs", "/tmp", MountFlags::NOSUID.union(MountFlags::NODEV), "size=10%,mode=1777", false),
    system("tmpfs", "/var", MountFlags::NOSUID.union(MountFlags::NODEV), "size=50%,mode=0755", false),
    system(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
        false,
    ),
    system("tmpfs", "/dev/shm", MountFlags::NOSUID.union(MountFlags::NODEV), "mode=1777", false),
    system("mqueue", "/dev/mqueue", QUIET, "", true),
    system("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate", false),
    system("securityfs", "/sys/kernel/security", QUIET, "", true),
    system("debugfs", "/sys/kernel/debug", QUIET, "", true),
    system("tracefs", "/sys/kernel/tracing", QUIET, "", true),
    system("configfs", "/sys/kernel/config", QUIET, "", true),
    system("fusectl", "/sys/fs/fuse/connections", QUIET, "", true),
    system("pstore", "/sys/fs/pstore", QUIET, "", true),
    system("bpf", "/sys/fs/bpf", QUIET, "mode=0700", true),
    system("efivarfs", "/sys/firmware/efi/efivars", QUIET, "", true),
    system("binfmt_misc", "/proc/sys/fs/binfmt_misc", QUIET, "", true),
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
    /// Mounts it, if it is not mounted and the kernel has it.
    ///
    /// # Errors
    /// The kernel's; none for an optional one.
    pub fn mount(&self, mounted: &str) -> io::Result<()> {
        if is_mounted(mounted, self.at) {
            return Ok(());
        }
        let result = fs::create_dir_all(self.at).and_then(|()| {
            let data = CString::new(self.data)?;
            Ok(mount(self.kind, self.at, self.kind, self.flags, Some(data.as_c_str()))?)
        });
        if self.optional { Ok(()) } else { result }
    }
}

/// True if something is mounted at a path, by the text of `/proc/self/mounts`.
pub fn is_mounted(mounts: &str, at: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(at))
}

/// mount(8)'s options, sorted out.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    flags: MountFlags,
    bind: bool,
    remount: bool,
    propagation: Option<MountPropagationFlags>,
    data: String,
}

impl Options {
    /// What is not known here is the file system's.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Options {
        let mut options = Options {
            flags: MountFlags::empty(),
            bind: false,
            remount: false,
            propagation: None,
            data: String::new(),
        };
        for word in words.iter().map(AsRef::as_ref) {
            let flag = match word {
                "ro" => MountFlags::RDONLY,
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "sync" => MountFlags::SYNCHRONOUS,
                "dirsync" => MountFlags::DIRSYNC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                "strictatime" => MountFlags::STRICTATIME,
                "rw" | "defaults" | "suid" | "dev" | "exec" | "async" | "" => continue,
                "bind" | "rbind" => {
                    options.bind = true;
                    continue;
                }
                "remount" => {
                    options.remount = true;
                    continue;
                }
                _ => {
                    match propagation(word) {
                        Some(kind) => options.propagation = Some(kind),
                        None if options.data.is_empty() => options.data.push_str(word),
                        None => options.data.extend([",", word]),
                    }
                    continue;
                }
            };
            options.flags |= flag;
        }
        options
    }

    /// Mounts, binds, remounts or changes propagation, as the options say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn apply(&self, kind: &str, source: &str, at: &str) -> io::Result<()> {
        if !self.remount {
            if self.bind || kind == "bind" {
                mount_bind_recursive(source, at)?;
                if !self.flags.is_empty() {
                    // A bind takes no flags; they are given in a second call.
                    mount_remount(at, self.flags | MountFlags::BIND, "")?;
                }
            } else if !kind.is_empty() {
                let data = CString::new(self.data.as_str())?;
                mount(source, at, kind, self.flags, Some(data.as_c_str()))?;
            }
        } else if !self.flags.is_empty() || !self.data.is_empty() {
            mount_remount(at, self.flags, self.data.as_str())?;
        }
        if let Some(kind) = self.propagation {
            mount_change(at, kind)?;
        }
        Ok(())
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
        assert!(Options::parse(&["bind", "ro"]).bind);
        assert!(Options::parse(&["remount", "private"]).remount);
    }

    #[test]
    fn what_is_mounted_is_known_by_its_whole_path() {
        let mounts = "proc /proc proc rw 0 0\ntmpfs /run/x tmpfs rw 0 0\n";
        assert!(is_mounted(mounts, "/proc"));
        assert!(!is_mounted(mounts, "/run"));
    }
}
