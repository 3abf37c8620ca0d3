//! QEMU: what it is given for a machine, and where it and its firmware are found.

mod args;
mod firmware;

pub(crate) use args::forward;
pub use args::{Wiring, args};
pub use firmware::{FirmwareError, Ovmf};

use crate::accelerator::Accelerator;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How QEMU is to run a machine. The default finds everything by itself.
#[derive(Clone, Debug, Default)]
pub struct QemuOptions {
    /// The program; else the one in `KIT_QEMU`, else `qemu-system-x86_64` in `PATH`.
    pub program: Option<PathBuf>,
    /// What runs the guest's instructions; else [decided](crate::accelerator::decide) by the host's processor.
    pub accelerator: Option<Accelerator>,
    /// QEMU's `-cpu`, such as `EPYC,+svm,+npt`; else `host` under KVM, `max` under TCG.
    pub cpu: Option<String>,
    /// What a guest's reboot does.
    pub on_reboot: OnReboot,
    /// The UEFI firmware; else the one in `KIT_OVMF_CODE` and `KIT_OVMF_VARS`, else where distributions put it.
    pub ovmf: Option<Ovmf>,
}

/// What a guest's reboot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnReboot {
    /// The machine starts anew, as machines do.
    #[default]
    Restart,
    /// The machine ends: for a test, where a kernel that panics and reboots would do so until the deadline.
    End,
}

/// The program of QEMU for x86-64.
const PROGRAM: &str = "qemu-system-x86_64";

/// The program to run: `given`, else by that environment, else the first of that name in the directories of `path`.
pub(crate) fn program(
    given: Option<&Path>,
    kit_qemu: Option<&OsStr>,
    path: Option<&OsStr>,
) -> Option<PathBuf> {
    if let Some(program) = given {
        return Some(program.to_owned());
    }
    if let Some(program) = kit_qemu.filter(|program| !program.is_empty()) {
        return Some(program.into());
    }
    std::env::split_paths(path?).map(|dir| dir.join(PROGRAM)).find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_given_goes_before_the_environments_and_that_before_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let in_path = dir.path().join(PROGRAM);
        std::fs::write(&in_path, "").unwrap();
        let path = Some(dir.path().as_os_str());
        assert_eq!(program(None, None, path), None, "a file that is not executable is no program");
        std::fs::set_permissions(&in_path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program(None, None, path), Some(in_path.clone()));
        assert_eq!(program(None, Some(OsStr::new("")), path), Some(in_path));
        assert_eq!(program(None, Some(OsStr::new("/q")), path), Some("/q".into()));
        assert_eq!(program(Some(Path::new("/g")), Some(OsStr::new("/q")), path), Some("/g".into()));
        assert_eq!(program(None, None, None), None);
    }
}
