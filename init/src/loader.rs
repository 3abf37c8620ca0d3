//! `/init` of the initrd: finds the root, mounts it, becomes its init.
//!
//! ```text
//! proc sys dev ─▶ /kit/load ─▶ /root.squashfs beside it? ──────────────▶ loop, squashfs ─▶ /sysroot
//!                                 │ no: drivers by modalias, wait for      │
//!                                 └▶ a disk, partition or CD with kit.root=┘
//! /sysroot ─▶ the initrd's files are removed, /sysroot becomes / ─▶ exec /init, /sbin/init, ..
//! ```
//!
//! A root in the initrd is mounted where it lies: its file loses its name and lives on behind the loop device. A
//! failure is said on the console, and then this process ends, upon which the kernel panics and does what `panic=` of
//! its command line says: reboot after so many seconds, or stand still to be read.

mod ahead;
mod cmdline;
mod disk;
mod gpt;
mod uevent;

use crate::{module, sys, trace};
use cmdline::Cmdline;
use rustix::fs::CWD;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Where the root is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";
/// The root that an initrd carries.
const INSIDE: &str = "/root.squashfs";

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
enum LoaderError {
    #[error("mount {what} on {at}")]
    Mount { what: String, at: &'static str, source: io::Error },
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Module(#[from] module::LoadError),
    #[error(transparent)]
    Index(#[from] module::IndexError),
    #[error("put {path} behind a loop device")]
    Loop { path: PathBuf, source: io::Error },
    #[error("hear of devices")]
    Uevent(#[source] io::Error),
    #[error("no kit.root= on the kernel's command line, and the initrd holds no root")]
    NoRoot,
    #[error("no disk holds the root {wanted} after {seconds} s; seen: {seen}")]
    NotFound { wanted: String, seconds: u64, seen: String },
    #[error("make the root /")]
    Switch(#[source] io::Error),
    #[error("the root holds none of {tried}")]
    NoInit { tried: String },
    #[error("execute {path}")]
    Exec { path: String, source: io::Error },
}

/// Does it all; comes back only with a failure.
pub fn main() -> ExitCode {
    let Err(error) = boot();
    let mut text = format!("kit: loader: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

fn boot() -> Result<std::convert::Infallible, LoaderError> {
    for (what, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let flags = if what == "devtmpfs" {
            MountFlags::NOSUID
        } else {
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
        };
        mount(what, at, what, flags, None).map_err(|source| mount_error(what, at, source))?;
    }
    let text = fs::read_to_string("/proc/cmdline")
        .map_err(|source| LoaderError::Read { path: "/proc/cmdline".into(), source })?;
    let cmdline = Cmdline::parse(&text);
    trace::begin();
    trace::mark(format_args!("loader"));
    for path in fs::read_to_string("/kit/load").unwrap_or_default().lines() {
        module::load(Path::new(path), &parameters(&text, &module::name_of(path)))?;
    }
    fs::create_dir_all(SYSROOT).map_err(LoaderError::Switch)?;
    if Path::new(INSIDE).exists() {
        mount_file(Path::new(INSIDE))?;
    } else {
        mount_medium(&cmdline)?;
    }
    let ahead = ahead::begin(candidates(&cmdline).iter().map(|path| format!("{SYSROOT}{path}")));
    trace::mark(format_args!("switch root"));
    switch_root()?;
    ahead.into_iter().for_each(ahead::Ahead::finish);
    trace::mark(format_args!("execute init"));
    exec_init(&cmdline)
}

/// Loop devices are made as they are asked for, where the command line does not say how many: by default the driver makes
/// eight at once, which takes as long as unpacking the root's first files.
fn parameters(cmdline: &str, name: &str) -> String {
    let given = module::parameters(cmdline, name);
    if name == "loop" && given.is_empty() { "max_loop=0".into() } else { given }
}

/// What may be the root's init, the first that is there.
fn candidates(cmdline: &Cmdline) -> Vec<&str> {
    let asked: Vec<&str> = cmdline.init.iter().map(String::as_str).collect();
    if asked.is_empty() { vec!["/init", "/sbin/init", "/bin/init", "/bin/sh"] } else { asked }
}

fn mount_error(what: &str, at: &'static str, source: rustix::io::Errno) -> LoaderError {
    LoaderError::Mount { what: what.into(), at, source: source.into() }
}

/// Mounts a squashfs that is a file.
fn mount_file(path: &Path) -> Result<(), LoaderError> {
    let failed = |source| LoaderError::Loop { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let (number, _device) = sys::loop_attach(&file).map_err(failed)?;
    mount_squashfs(&format!("/dev/loop{number}"))
}

fn mount_squashfs(device: &str) -> Result<(), LoaderError> {
    mount(device, SYSROOT, "squashfs", MountFlags::RDONLY, None)
        .map_err(|source| mount_error(device, SYSROOT, source))
}

/// Finds the root on a disk or CD and mounts it.
fn mount_medium(cmdline: &Cmdline) -> Result<(), LoaderError> {
    if let Some(device) = &cmdline.root_device {
        let found = uevent::until(cmdline, || Path::new(device).exists().then_some(()))?;
        return match found {
            Some(()) => mount_squashfs(device),
            None => Err(not_found(device, cmdline, &[])),
        };
    }
    let Some(wanted) = &cmdline.root else { return Err(LoaderError::NoRoot) };
    let mut seen = Vec::new();
    let found = uevent::until(cmdline, || {
        let (found, others) = disk::find(wanted);
        seen = others;
        found
    })?;
    match found {
        Some(disk::Place::Device(device)) => mount_squashfs(&device),
        Some(disk::Place::Iso(device)) => mount_iso(&device),
        None => Err(not_found(&wanted.to_string(), cmdline, &seen)),
    }
}

fn not_found(wanted: &str, cmdline: &Cmdline, seen: &[String]) -> LoaderError {
    let seen = if seen.is_empty() { "no disk at all".to_owned() } else { seen.join(", ") };
    LoaderError::NotFound { wanted: wanted.into(), seconds: cmdline.root_wait_secs, seen }
}

/// Mounts the root in a CD's file system. The CD itself needs no place in the root: its file is held by the loop
/// device, and a mount that is detached lives as long as a file of it is in use.
fn mount_iso(device: &str) -> Result<(), LoaderError> {
    const MEDIUM: &str = "/medium";
    fs::create_dir_all(MEDIUM).map_err(LoaderError::Switch)?;
    // No device asks for a file system; the kernel would run modprobe, which is not here.
    module::Loader::new()?.name("isofs")?;
    mount(device, MEDIUM, "iso9660", MountFlags::RDONLY, None)
        .map_err(|source| mount_error(device, MEDIUM, source))?;
    mount_file(Path::new("/medium/kit/root.squashfs"))?;
    unmount(MEDIUM, UnmountFlags::DETACH).map_err(|source| mount_error(device, MEDIUM, source))
}

/// Makes the mounted root `/`, and gives the initrd's memory back.
fn switch_root() -> Result<(), LoaderError> {
    // As a kernel leaves it that mounts a root by itself: /dev and nothing else. LinuxKit's init takes a /proc for the
    // sign that it runs in a container.
    for dir in ["/proc", "/sys"] {
        let _ = unmount(dir, UnmountFlags::DETACH);
    }
    // A root that lacks the directory mounts its own.
    if mount_move("/dev", format!("{SYSROOT}/dev")).is_err() {
        let _ = unmount("/dev", UnmountFlags::DETACH);
    }
    remove_initrd(Path::new("/"));
    let switch = || -> io::Result<()> {
        rustix::process::chdir(SYSROOT)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")?;
        Ok(())
    };
    switch().map_err(LoaderError::Switch)
}

/// Removes what the initrd was unpacked to; never crosses into another mount.
fn remove_initrd(root: &Path) {
    let Ok(device) = rustix::fs::stat(root).map(|stat| stat.st_dev) else { return };
    let mut dirs = vec![root.to_owned()];
    let mut emptied = Vec::new();
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            match rustix::fs::lstat(&path) {
                Ok(stat) if stat.st_dev != device => {}
                Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => dirs.push(path),
                _ => drop(rustix::fs::unlinkat(CWD, &path, rustix::fs::AtFlags::empty())),
            }
        }
        emptied.push(dir);
    }
    for dir in emptied.iter().rev().filter(|dir| *dir != root) {
        let _ = fs::remove_dir(dir);
    }
}

fn exec_init(cmdline: &Cmdline) -> Result<std::convert::Infallible, LoaderError> {
    let tried = candidates(cmdline);
    if let Ok(console) = File::options().read(true).write(true).open("/dev/console") {
        use std::os::fd::AsFd;
        let _ = sys::become_stdio(console.as_fd());
    }
    for path in &tried {
        // A link is followed as the new root sees it, which is now ours.
        if fs::metadata(path).is_err() {
            continue;
        }
        let source = Command::new(path).args(&cmdline.init_args).exec();
        return Err(LoaderError::Exec { path: (*path).into(), source });
    }
    Err(LoaderError::NoInit { tried: tried.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_are_made_when_they_are_asked_for_unless_somebody_says_how_many() {
        assert_eq!(parameters("quiet", "loop"), "max_loop=0");
        assert_eq!(parameters("quiet loop.max_loop=4", "loop"), "max_loop=4");
        assert_eq!(parameters("quiet", "squashfs"), "");
    }

    #[test]
    fn an_init_that_is_asked_for_is_the_only_one() {
        assert_eq!(candidates(&Cmdline::parse("quiet"))[0], "/init");
        assert_eq!(candidates(&Cmdline::parse("init=/bin/own")), ["/bin/own"]);
    }
}
