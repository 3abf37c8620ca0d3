//! Kernel modules: which one a device asks for, what it needs, and loading them, without a process for each.
//!
//! ```text
//! modalias of /sys ──modules.alias──▶ names ──modules.dep──▶ files, the needed first ──▶ finit_module(2)
//! ```
//!
//! The indexes are `depmod`'s texts. Whoever loads reads them, loads, and lets them go: PID 1 does so in a child (see
//! [`drivers`]). The kernel, too, asks for modules, by executing a program: that is PID 1's own, as [`requested`].

pub mod drivers;
mod glob;
mod index;

pub use glob::matches;
pub use index::{Index, IndexError, Node};

use crate::{sys, trace};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where the kernel shows devices, each with its modalias if it has one.
const SYS: &str = "/sys";

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
#[error("load kernel module {path}")]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Loads one file; a module that is there already is no error.
///
/// # Errors
/// When the file cannot be read, or the kernel refuses it.
pub fn load(path: &Path, parameters: &str) -> Result<(), LoadError> {
    let failed = |source| LoadError { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    trace::mark(format_args!("load {}", path.display()));
    let compressed = path.extension().is_some_and(|end| end != "ko");
    match sys::finit_module(&file, parameters, compressed) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.map_err(failed),
    }
}

/// Loads modules of one kernel's directory, each once.
pub struct Loader {
    dir: PathBuf,
    index: Index,
    cmdline: String,
    done: BTreeSet<String>,
}

impl Loader {
    /// Over `/lib/modules/RELEASE` of the running kernel.
    ///
    /// # Errors
    /// When its indexes cannot be read.
    pub fn new() -> Result<Loader, IndexError> {
        let release = rustix::system::uname();
        let dir = Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref());
        let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Ok(Loader { index: Index::read(&dir)?, dir, cmdline, done: BTreeSet::new() })
    }

    /// The indexes.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Loads what serves a device, given its modalias; how many files were loaded.
    ///
    /// # Errors
    /// The first module that could not be loaded; the others were tried.
    pub fn alias(&mut self, modalias: &str) -> Result<usize, LoadError> {
        let names: Vec<String> = self.index.matching(modalias).map(str::to_owned).collect();
        let mut loaded = 0;
        let mut failed = None;
        for name in names {
            match self.name(&name) {
                Ok(count) => loaded += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(loaded), Err)
    }

    /// Loads a module by its name, with what it needs; how many files were loaded. An unknown name loads nothing.
    ///
    /// # Errors
    /// The first module that could not be loaded; what needs it is not tried.
    pub fn name(&mut self, name: &str) -> Result<usize, LoadError> {
        let mut loaded = 0;
        for path in self.index.files(name) {
            // One that failed is not tried again: a device that it does not serve will ask for it many times.
            if !self.done.contains(&path) {
                let result = self.file(&path);
                self.done.insert(path);
                loaded += result?;
            }
        }
        Ok(loaded)
    }

    fn file(&self, path: &str) -> Result<usize, LoadError> {
        let name = name_of(path);
        // Reading a file only to be told that it is loaded takes milliseconds.
        if Path::new("/sys/module").join(&name).join("initstate").exists() {
            return Ok(0);
        }
        load(&self.dir.join(path), &parameters(&self.cmdline, &name)).map(|()| 1)
    }
}

/// The module in a file, as the kernel calls it: `kernel/net/ip6-tunnel.ko.xz` is `ip6_tunnel`.
pub fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// What the kernel's command line says to a module, as `NAME.PARAMETER=VALUE`.
pub fn parameters(cmdline: &str, name: &str) -> String {
    let words = cmdline.split_whitespace().take_while(|word| *word != "--");
    let ours = words.filter_map(|word| {
        let (module, parameter) = word.split_once('.')?;
        (module.replace('-', "_") == name).then_some(parameter)
    });
    ours.collect::<Vec<_>>().join(" ")
}

/// Loads what the kernel asks for by executing `PROGRAM -q -- NAME` (/proc/sys/kernel/modprobe): a module's name, or
/// an alias such as `fs-overlay`. True if something has that name.
pub fn requested(name: &str) -> bool {
    trace::begin();
    trace::mark(format_args!("requested {name}"));
    let Ok(mut loader) = Loader::new() else { return false };
    let known = !loader.index.files(name).is_empty() || loader.index.matching(name).next().is_some();
    known && loader.name(name).is_ok() && loader.alias(name).is_ok()
}

/// Calls `found` with the modalias of every device that the kernel knows: those on a bus, which drivers are for, and
/// those of a class (input devices, the board), which handlers are for. Going through the tree of all devices finds the
/// same and takes ten times as long.
pub fn each_modalias(found: &mut dyn FnMut(&str)) {
    each_in(Path::new(SYS), found);
}

fn each_in(sys: &Path, found: &mut dyn FnMut(&str)) {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let buses = entries(&sys.join("bus")).map(|bus| bus.join("devices"));
    for device in buses.chain(entries(&sys.join("class"))).flat_map(|dir| entries(&dir)) {
        match fs::read_to_string(device.join("modalias")).as_deref().map(str::trim) {
            Ok("") | Err(_) => {}
            Ok(modalias) => found(modalias),
        }
    }
}

/// What a socket of [`sys::uevent_socket`] has heard of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Modaliases of devices that appeared; of all devices when the socket was told too much at once.
    pub aliases: Vec<String>,
    /// Whether input devices may have appeared.
    pub input: bool,
}

impl Heard {
    /// Takes what was told up to now.
    pub fn from(socket: &OwnedFd) -> Heard {
        let mut heard = Heard::default();
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(socket, &mut buffer) {
                Ok(len) => heard.add(&buffer[..len]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => {
                    heard.input = true;
                    each_modalias(&mut |alias| heard.aliases.push(alias.to_owned()));
                }
                Err(_) => return heard,
            }
        }
    }

    /// A message is `ACTION@PATH`, then `KEY=VALUE` words, each ended by a NUL.
    fn add(&mut self, message: &[u8]) {
        if !message.starts_with(b"add@") {
            return;
        }
        for word in message.split(|byte| *byte == 0) {
            if let Some(alias) = word.strip_prefix(b"MODALIAS=") {
                self.aliases.extend(std::str::from_utf8(alias).ok().map(str::to_owned));
            }
            self.input |= word == b"SUBSYSTEM=input";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_module() {
        let cmdline = "quiet kvm-amd.nested=0 kvm.x=1 kvm_amd.avic=1 console=ttyS0,1.5 -- kvm_amd.never=1";
        assert_eq!(parameters(cmdline, "kvm_amd"), "nested=0 avic=1");
        assert_eq!(parameters(cmdline, "loop"), "");
    }

    #[test]
    fn only_devices_that_appear_are_heard_of() {
        let mut heard = Heard::default();
        heard.add(b"remove@/devices/a\0ACTION=remove\0MODALIAS=pci:x\0");
        assert_eq!(heard, Heard::default());
        heard.add(b"add@/devices/a\0ACTION=add\0MODALIAS=pci:x\0SEQNUM=1\0");
        heard.add(b"add@/devices/b\0SUBSYSTEM=input\0MODALIAS=\xff\0");
        assert_eq!(heard, Heard { aliases: vec!["pci:x".into()], input: true });
    }

    #[test]
    fn devices_of_buses_and_classes_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let devices = [
            ("bus/pci/devices/0", "pci:x\n"),
            ("bus/pci/devices/1", "\n"),
            ("class/input/input0", "input:y"),
        ];
        for (path, alias) in devices {
            fs::create_dir_all(dir.path().join(path)).unwrap();
            fs::write(dir.path().join(path).join("modalias"), alias).unwrap();
        }
        fs::create_dir_all(dir.path().join("bus/acpi/drivers")).unwrap();
        fs::create_dir_all(dir.path().join("class/tty/tty0")).unwrap();
        let mut found = vec![];
        each_in(dir.path(), &mut |alias| found.push(alias.to_owned()));
        assert_eq!(found, ["pci:x", "input:y"]);
    }
}
