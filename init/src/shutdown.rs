//! The machine's end: processes, file systems, power.

use crate::supervise::Finish;
use crate::sys;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};
use std::fs;
use std::time::{Duration, Instant};

/// How long processes that no service owns may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Ends everything and the machine. Comes back only if the kernel refuses, or to stand still.
pub fn finish(how: Finish) {
    sys::kill(-1, libc::SIGTERM);
    if !all_gone(GRACE) {
        sys::kill(-1, libc::SIGKILL);
        all_gone(GRACE);
    }
    rustix::fs::sync();
    unmount_everything();
    rustix::fs::sync();
    let command = match how {
        Finish::PowerOff => RebootCommand::PowerOff,
        Finish::Reboot => RebootCommand::Restart,
        Finish::Halt => RebootCommand::Halt,
    };
    let _ = reboot(command);
}

/// Reaps until no child is left, or the time is over.
fn all_gone(within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        while sys::reap(None).is_some() {}
        if !sys::has_children() {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sys::wait_for_child(left);
    }
}

/// What is mounted last is unmounted first; what is busy is made read-only, so that nothing is lost.
fn unmount_everything() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let vital = |at: &str| ["/", "/proc", "/sys", "/dev"].contains(&at);
    for at in points.iter().rev().filter(|at| !vital(at)) {
        // Names are written with octal escapes for spaces; those are not ours.
        if unmount(*at, UnmountFlags::empty()).is_err() {
            let _ = mount_remount(*at, MountFlags::RDONLY, "");
            let _ = unmount(*at, UnmountFlags::DETACH);
        }
    }
    let _ = mount_remount("/", MountFlags::RDONLY, "");
}
