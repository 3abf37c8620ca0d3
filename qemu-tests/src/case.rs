//! Cases: a node file, and what its console must show.
//!
//! `cases/NNN_group/NNN_name/` holds `expect` and `node.yml`; where there is no `node.yml` the group's is used. What
//! else lies beside the node file (recipes under `images/`, files) is there when it is built. Group and name are the
//! order and the inventory.

mod expect;

pub use expect::{Expect, ExpectError, Step};

use crate::guest::{Guest, GuestError};
use crate::kitbuild::{BuildError, Kitbuild};
use kit_machine::Exit;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A case that was found.
#[derive(Clone, Debug)]
pub struct Case {
    /// `GROUP/NAME`.
    pub name: String,
    dir: PathBuf,
}

/// Why a case fails.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Its files cannot be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its `expect` is malformed.
    #[error("{path}", path = path.display())]
    Expect {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ExpectError,
    },
    /// It does not build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It does not do what it should.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

impl Case {
    /// All cases under a directory, in order.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn all(root: &Path) -> Result<Vec<Case>, CaseError> {
        let mut cases = Vec::new();
        for group in dirs(root)? {
            for dir in dirs(&group)? {
                if dir.join("expect").is_file() {
                    let name = dir.strip_prefix(root).unwrap_or(&dir).display().to_string();
                    cases.push(Case { name, dir });
                }
            }
        }
        Ok(cases)
    }

    /// What the case expects.
    ///
    /// # Errors
    /// When that is malformed.
    pub fn expect(&self) -> Result<Expect, CaseError> {
        let path = self.dir.join("expect");
        let text =
            fs::read_to_string(&path).map_err(|source| CaseError::Read { path: path.clone(), source })?;
        Expect::parse(&text).map_err(|source| CaseError::Expect { path, source })
    }

    /// The case's node file, or else its group's.
    pub fn node(&self) -> PathBuf {
        let own = self.dir.join("node.yml");
        if own.exists() { own } else { self.dir.with_file_name("node.yml") }
    }

    /// Builds, boots, looks.
    ///
    /// # Errors
    /// What went wrong first, with what the console showed.
    pub fn run(&self, kitbuild: &Kitbuild) -> Result<(), CaseError> {
        let expect = self.expect()?;
        let built = kitbuild.build(&self.node(), expect.format)?;
        let mut guest = Guest::boot(&built, &expect.boot)?;
        expect.never.iter().for_each(|unwanted| guest.forbid(unwanted));
        for step in &expect.steps {
            match step {
                Step::Line { text, after, within } => {
                    guest.line_after(text, *after, *within)?;
                }
                Step::Type(text) => guest.type_line(text)?,
                Step::PressPower => guest.press_power()?,
                Step::PressCtrlAltDel => guest.press_ctrl_alt_del()?,
                Step::PowersOff(within) => guest.ends(Exit::PowerOff, *within)?,
                Step::Reboots(within) => guest.ends(Exit::Reboot, *within)?,
            }
        }
        Ok(guest.nothing_forbidden()?)
    }
}

fn dirs(dir: &Path) -> Result<Vec<PathBuf>, CaseError> {
    let read = |source| CaseError::Read { path: dir.into(), source };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
