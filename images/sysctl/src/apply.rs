//! The shell: reads the files, asks [`crate::plan`], writes below the root.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::conf::{self, Fault, Key, Origin};
use crate::plan::{self, Setting};

/// A settings file is a page or two; a larger one is a mistake.
const MAX_FILE: u64 = 1 << 20;

/// What to apply, and to which tree.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories of `*.conf` files. Of two files with one name the earlier directory's counts.
    pub dirs: Vec<PathBuf>,
    /// A directory of `dirs` may be absent.
    pub dirs_optional: bool,
    /// The tree to write, `/proc/sys` on a node.
    pub proc: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Keys written.
    pub written: usize,
    /// Whatever was not, in the order met.
    pub warnings: Vec<Warning>,
}

/// A line that had no effect.
#[derive(Debug, Error)]
pub enum Warning {
    /// It could not be understood.
    #[error(transparent)]
    Line(Fault),
    /// It could not be written.
    #[error("{origin}: {key}: {reason}")]
    Key {
        /// Where the line stands.
        origin: Origin,
        /// The key in its dotted spelling.
        key: Key,
        /// Why.
        reason: Reason,
    },
}

/// Why a key was not written.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// There is no such file below the root.
    #[error("this kernel has no such key")]
    Unknown,
    /// It is a directory of keys.
    #[error("that is a group of keys, not a key")]
    Group,
    /// The kernel refused the value.
    #[error("the kernel refuses the value `{value}`")]
    Value {
        /// As written.
        value: String,
    },
    /// Not this process, or not here.
    #[error("not permitted: read-only, or it takes a privilege that this process lacks")]
    NotPermitted,
    /// Anything else the kernel said.
    #[error("write `{value}`: {errno}")]
    Errno {
        /// As written.
        value: String,
        /// The kernel's word for it.
        errno: String,
    },
}

/// Nothing was applied, since the settings could not be read.
#[derive(Debug, Error)]
pub enum Error {
    /// A directory of settings.
    #[error("list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of settings.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file too large to be one.
    #[error("read {path}: larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A file that is not text.
    #[error("read {path}: not UTF-8 at byte {at}")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte.
        at: usize,
    },
}

/// Reads every file, then writes every setting.
///
/// # Errors
/// When a directory or file of settings cannot be read; a setting that cannot be written is a [`Warning`].
pub fn apply(options: &Options) -> Result<Outcome, Error> {
    let mut entries = Vec::new();
    let mut outcome = Outcome::default();
    for path in files(options)? {
        let (more, faults) = conf::parse(&path.display().to_string(), &read(&path)?);
        entries.extend(more);
        outcome.warnings.extend(faults.into_iter().map(Warning::Line));
    }
    for setting in plan::plan(&entries, |components| names_in(&options.proc, components)) {
        match write(&options.proc, &setting) {
            Ok(()) => outcome.written += 1,
            Err(_) if setting.lenient => {}
            Err(reason) => {
                outcome.warnings.push(Warning::Key { origin: setting.origin, key: setting.key, reason });
            }
        }
    }
    Ok(outcome)
}

/// Every `*.conf`, by file name over all directories.
fn files(options: &Options) -> Result<Vec<PathBuf>, Error> {
    let mut by_name = BTreeMap::new();
    for dir in &options.dirs {
        let list = |source| Error::List { path: dir.clone(), source };
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && options.dirs_optional => continue,
            other => other.map_err(list)?,
        };
        for entry in entries {
            let path = entry.map_err(list)?.path();
            if path.extension().is_some_and(|x| x == "conf")
                && let Some(name) = path.file_name()
            {
                by_name.entry(name.to_owned()).or_insert_with(|| path.clone());
            }
        }
    }
    Ok(by_name.into_values().collect())
}

fn read(path: &Path) -> Result<String, Error> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(fault)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    String::from_utf8(bytes)
        .map_err(|e| Error::NotText { path: path.to_owned(), at: e.utf8_error().valid_up_to() })
}

/// Names that are not UTF-8 cannot be written in a settings file either.
fn names_in(root: &Path, components: &[String]) -> Vec<String> {
    let mut dir = root.to_owned();
    dir.extend(components);
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn write(root: &Path, setting: &Setting) -> Result<(), Reason> {
    let mut path = root.to_owned();
    path.extend(setting.key.components());
    let mut line = setting.value.clone().into_bytes();
    line.push(b'\n');
    // One write(2): the kernel takes each call as a whole value. Never creates: an unknown key stays unknown.
    let done = OpenOptions::new().write(true).open(path).and_then(|mut file| {
        let taken = file.write(&line)?;
        if taken == line.len() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    });
    done.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::Unknown,
        io::ErrorKind::IsADirectory => Reason::Group,
        io::ErrorKind::InvalidInput => Reason::Value { value: setting.value.clone() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Reason::NotPermitted,
        _ => Reason::Errno { value: setting.value.clone(), errno: e.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of keys and a directory of settings.
    struct Node {
        dir: tempfile::TempDir,
    }

    impl Node {
        fn new(keys: &[&str], files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for key in keys {
                let path = dir.path().join("proc").join(key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            for (name, text) in files {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { dir }
        }

        fn options(&self, dirs: &[&str]) -> Options {
            Options {
                dirs: dirs.iter().map(|d| self.dir.path().join(d)).collect(),
                dirs_optional: false,
                proc: self.dir.path().join("proc"),
            }
        }

        fn value(&self, key: &str) -> String {
            fs::read_to_string(self.dir.path().join("proc").join(key)).unwrap()
        }

        /// The warnings, with the directory's own name left out.
        fn warnings(&self, outcome: &Outcome) -> Vec<String> {
            let dir = format!("{}/", self.dir.path().display());
            outcome.warnings.iter().map(|w| w.to_string().replace(&dir, "")).collect()
        }
    }

    #[test]
    fn files_are_applied_by_name_and_the_last_value_stays() {
        let node = Node::new(
            &["kernel/panic"],
            &[
                ("d/90-b.conf", "kernel.panic = 2"),
                ("d/10-a.conf", "kernel.panic = 1"),
                ("d/99-c.txt", "kernel.panic = 3"),
            ],
        );
        let outcome = apply(&node.options(&["d"])).unwrap();
        assert_eq!((outcome.written, node.value("kernel/panic").as_str()), (1, "2\n"));
    }

    #[test]
    fn an_earlier_directory_hides_a_file_of_the_same_name() {
        let node = Node::new(
            &["kernel/panic"],
            &[("etc/a.conf", "kernel.panic = 1"), ("usr/a.conf", "kernel.panic = 2\nkernel.gone = 1")],
        );
        let outcome = apply(&node.options(&["etc", "usr"])).unwrap();
        assert_eq!(outcome.warnings.len(), 0);
        assert_eq!(node.value("kernel/panic"), "1\n");
    }

    #[test]
    fn one_bad_key_is_a_warning_with_its_place_and_the_rest_is_written() {
        let text = "kernel.nothing = 1\n-kernel.maybe = 1\nkernel = 1\noops\nkernel.panic = 9\n";
        let node = Node::new(&["kernel/panic"], &[("d/a.conf", text)]);
        let outcome = apply(&node.options(&["d"])).unwrap();
        assert_eq!(
            node.warnings(&outcome),
            [
                "d/a.conf:4: oops: neither `key = value` nor `-key`",
                "d/a.conf:1: kernel.nothing: this kernel has no such key",
                "d/a.conf:3: kernel: that is a group of keys, not a key",
            ]
        );
        assert_eq!(node.value("kernel/panic"), "9\n");
    }

    #[test]
    fn globs_reach_every_interface() {
        let node = Node::new(
            &["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0.5/rp_filter"],
            &[("d/a.conf", "net.ipv4.conf.*.rp_filter = 2\n")],
        );
        assert_eq!(apply(&node.options(&["d"])).unwrap().written, 2);
        assert_eq!(node.value("net/ipv4/conf/eth0.5/rp_filter"), "2\n");
    }

    #[test]
    fn a_missing_directory_is_an_error_only_when_it_was_asked_for() {
        let node = Node::new(&[], &[]);
        let mut options = node.options(&["d"]);
        assert!(matches!(apply(&options), Err(Error::List { .. })));
        options.dirs_optional = true;
        assert_eq!(apply(&options).unwrap().written, 0);
    }

    #[test]
    fn a_file_that_is_not_text_is_an_error_with_the_offset() {
        let node = Node::new(&[], &[("d/b.conf", "")]);
        fs::write(node.dir.path().join("d/a.conf"), b"kernel.a = \xff").unwrap();
        assert!(matches!(apply(&node.options(&["d"])), Err(Error::NotText { at: 11, .. })));
    }
}
