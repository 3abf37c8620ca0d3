//! Reading ahead what containers will execute, while the machine waits for its drivers.
//!
//! ```text
//! kitc, then for each container of the plan: its program ─PT_INTERP, DT_NEEDED─▶ its interpreter and libraries
//! ```
//!
//! The root is compressed. A program that is executed is unpacked where it happens to be touched, here and there and
//! some of it twice; read from one end to the other it takes a third of the time, and nobody waits for it. A child of
//! PID 1 does that. What it cannot read or does not understand it leaves to the kernel, which reads it when it must.

mod elf;

use crate::container::KITC;
use crate::{sys, trace};
use kit_spec::plan::Plan;
use serde::Deserialize;
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Larger files are read as they are used: hardly all of it is. In bytes.
const LARGEST: u64 = 8 << 20;
/// What is read altogether; a small machine would throw it out again. In bytes.
const ALTOGETHER: u64 = 48 << 20;
/// Where a program is that is named without a directory, and where libraries are.
const BIN: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const LIB: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib", "/lib"];

/// Makes the child.
pub fn begin(plan: &Plan) {
    let _ = sys::fork(|| {
        let mut reader = Reader { left: ALTOGETHER, seen: BTreeSet::new() };
        drop(reader.read(Path::new(KITC)));
        let tasks = plan.onboot.iter().map(|task| &task.bundle);
        for bundle in tasks.chain(plan.services.iter().map(|service| &service.bundle)) {
            let _ = reader.bundle(Path::new(bundle));
        }
        trace::mark(format_args!("read ahead"));
        0
    });
}

/// As much of a bundle's `config.json` as says what is executed, and where.
#[derive(Deserialize)]
struct Config {
    process: Process,
    root: Root,
}

#[derive(Deserialize)]
struct Process {
    args: Vec<String>,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

struct Reader {
    /// How many more bytes may be read.
    left: u64,
    /// Files that were read, by device and inode: images share them.
    seen: BTreeSet<(u64, u64)>,
}

impl Reader {
    fn bundle(&mut self, bundle: &Path) -> io::Result<()> {
        let config: Config = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
        let Some(program) = config.process.args.into_iter().next() else { return Ok(()) };
        // What will lie below the overlay of a root that can be written.
        let lower = bundle.join("lower");
        let root = if lower.exists() { lower } else { bundle.join(config.root.path) };
        // Links lead where the container will see them lead.
        let ours = File::open("/")?;
        rustix::process::chroot(&root)?;
        rustix::process::chdir("/")?;
        self.program(&program);
        rustix::process::fchdir(ours.as_fd())?;
        Ok(rustix::process::chroot(".")?)
    }

    /// Reads a program and all that it is linked with.
    fn program(&mut self, name: &str) {
        let mut wanted = VecDeque::from([(name.to_owned(), BIN.as_slice())]);
        let mut known = BTreeSet::new();
        while let Some((name, dirs)) = wanted.pop_front() {
            if !known.insert(name.clone()) {
                continue;
            }
            let dirs = if name.contains('/') { &["/"][..] } else { dirs };
            // The first that is there.
            let Some(file) = dirs.iter().find_map(|dir| self.read(&Path::new(dir).join(&name))) else {
                continue;
            };
            let linked = elf::linked(&file);
            wanted.extend(linked.interpreter.map(|path| (path, BIN.as_slice())));
            wanted.extend(linked.libraries.into_iter().map(|name| (name, LIB.as_slice())));
        }
    }

    /// A file's bytes; none if it is not there. One that is too large, or was read before, counts as empty.
    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        use std::os::unix::fs::MetadataExt;
        let mut file = File::open(path).ok()?;
        let meta = file.metadata().ok()?;
        let mut bytes = Vec::new();
        if meta.is_file()
            && meta.len() <= LARGEST.min(self.left)
            && self.seen.insert((meta.dev(), meta.ino()))
        {
            self.left -= meta.len();
            file.by_ref().take(LARGEST).read_to_end(&mut bytes).ok()?;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_and_only_as_long_as_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, link) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("link"));
        fs::write(&a, "12345").unwrap();
        fs::write(&b, "123456").unwrap();
        fs::hard_link(&a, &link).unwrap();
        let mut reader = Reader { left: 10, seen: BTreeSet::new() };
        assert_eq!(reader.read(&a).unwrap(), b"12345");
        assert_eq!(reader.read(&link).unwrap(), b"");
        assert_eq!(reader.read(&b).unwrap(), b"");
        assert_eq!(reader.read(&dir.path().join("c")), None);
        assert_eq!(reader.left, 5);
    }

    #[test]
    fn of_a_bundle_only_what_is_executed_matters() {
        let json = r#"{"ociVersion": "1.0.2", "process": {"args": ["nginx", "-g"], "cwd": "/"}, "root": {"path": "rootfs"}}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(
            (config.process.args[0].as_str(), config.root.path.as_path()),
            ("nginx", Path::new("rootfs"))
        );
    }
}
