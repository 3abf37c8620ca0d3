//! Drivers, in a child of PID 1: those for the devices that are there at boot, and for those that appear later.
//!
//! ```text
//! names: overlay, modules-load.d ─▶ nodes ─▶ devices, and those they bring forth ─"done"▶  ◀"go on"─ the processor
//! ```
//!
//! Boot waits until the devices have their drivers. What the processor asks for (ciphers, KVM, frequencies) takes longer
//! than all the rest and waits for the services to be ready; what must be there before, `modules-load.d` names.
//!
//! The child reads the very socket on which PID 1 hears of devices, and PID 1 leaves it alone in the meantime: nothing
//! is heard twice or missed, and when it is told too much the socket says so.

use super::{Heard, LoadError, Loader, each_modalias};
use crate::{sys, trace};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const WANTED: &str = "/etc/modules-load.d";
/// Nodes that everybody may open: the driver asks who it is.
const FOR_ALL: [&str; 2] = ["fuse", "net/tun"];

/// A child that loads drivers.
pub struct Child {
    /// Its pid.
    pub pid: i32,
    /// At its end when the devices have their drivers.
    pub done: Option<OwnedFd>,
    /// While this is open, it does not go on with the processor's.
    pub go_on: Option<OwnedFd>,
}

/// Makes the child that loads what is there at boot.
///
/// # Errors
/// When no child can be made.
pub fn at_boot(socket: &OwnedFd) -> io::Result<Child> {
    let (done, doing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (waiting, go_on) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (mut doing, mut go_on) = (Some(doing), Some(go_on));
    let pid = sys::fork(|| {
        // PID 1's is the only one that counts.
        go_on = None;
        trace::mark(format_args!("drivers"));
        let Ok(mut loader) = Loader::new() else { return 1 };
        let later = devices(&mut loader, socket);
        trace::mark(format_args!("drivers are there"));
        doing = None;
        let _ = rustix::io::read(&waiting, &mut [0]);
        // Enough to let boot go first, and not so much that a busy node never gets there.
        let _ = rustix::process::setpriority_process(None, 10);
        later.iter().for_each(|alias| serve(&mut loader, alias));
        serve_heard(&mut loader, socket);
        0
    })?;
    Ok(Child { pid, done: Some(done), go_on })
}

/// Makes a child that loads what was asked for just now.
///
/// # Errors
/// When no child can be made.
pub fn later(aliases: &[String], socket: &OwnedFd) -> io::Result<Child> {
    let pid = sys::fork(|| {
        let Ok(mut loader) = Loader::new() else { return 1 };
        aliases.iter().for_each(|alias| serve(&mut loader, alias));
        serve_heard(&mut loader, socket);
        0
    })?;
    Ok(Child { pid, done: None, go_on: None })
}

/// Serves every device; what the processor asks for is left for later.
fn devices(loader: &mut Loader, socket: &OwnedFd) -> Vec<String> {
    for name in wanted(Path::new(WANTED)) {
        if let Err(error) = loader.name(&name) {
            complain(&error);
        }
    }
    nodes(loader);
    let mut later = Vec::new();
    each_modalias(&mut |alias| match is_of_a_processor(alias) {
        true => later.push(alias.to_owned()),
        false => serve(loader, alias),
    });
    serve_heard(loader, socket);
    later
}

/// In the processor's own words, or as a device of ACPI (ACPI specification, 8.4).
fn is_of_a_processor(alias: &str) -> bool {
    ["cpu:", "acpi:LNXCPU:", "acpi:ACPI0007:"].iter().any(|start| alias.starts_with(start))
}

fn serve_heard(loader: &mut Loader, socket: &OwnedFd) {
    loop {
        let heard = Heard::from(socket);
        if heard.aliases.is_empty() {
            return;
        }
        heard.aliases.iter().for_each(|alias| serve(loader, alias));
    }
}

fn serve(loader: &mut Loader, alias: &str) {
    match loader.alias(alias) {
        // A driver that does not find its device after all: aliases promise more than there is.
        Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => {}
        Err(error) => complain(&error),
        Ok(_) => {}
    }
}

fn complain(error: &LoadError) {
    eprintln!("kit: {error}: {}", error.source);
}

/// Names in `modules-load.d`: a line each, comments begin with `#` or `;` (modules-load.d(5)). Containers need overlay,
/// which no device asks for.
fn wanted(dir: &Path) -> Vec<String> {
    let mut names = vec!["overlay".to_owned()];
    let Ok(entries) = fs::read_dir(dir) else { return names };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "conf")) {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        names.extend(lines.map(str::to_owned));
    }
    names
}

/// Makes nodes whose opening loads their module (`/dev/fuse`, `/dev/net/tun`).
fn nodes(loader: &Loader) {
    for node in loader.index().nodes() {
        let path = Path::new("/dev").join(&node.path);
        if let Some(dir) = path.parent() {
            let _ = fs::create_dir_all(dir);
        }
        let mode = if FOR_ALL.contains(&node.path.as_str()) { 0o666 } else { 0o600 };
        let number = makedev(node.major, node.minor);
        let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(mode), number);
        if made.is_ok() {
            // Whatever the umask takes away.
            let _ = fs::set_permissions(&path, Permissions::from_mode(mode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_modules_are_read_in_the_order_of_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.conf"), "# no\nip_vs\n").unwrap();
        fs::write(dir.path().join("a.conf"), "br_netfilter\n;x\n\n").unwrap();
        fs::write(dir.path().join("c.txt"), "never\n").unwrap();
        assert_eq!(wanted(dir.path()), ["overlay", "br_netfilter", "ip_vs"]);
    }
}
