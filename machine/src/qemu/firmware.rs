//! The UEFI firmware: a pair of files, code that is shared and variables of which each machine has its own copy.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The two halves of OVMF, which belong together: their sizes make one flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// The code, mapped read-only.
    pub code: PathBuf,
    /// The variables as they come; a machine gets a copy.
    pub vars: PathBuf,
}

/// Why there is no UEFI firmware.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FirmwareError {
    /// It is in none of the usual places.
    #[error(
        "no UEFI firmware found: install the package ovmf, or name its files in KIT_OVMF_CODE and KIT_OVMF_VARS"
    )]
    Missing,
    /// Half of a pair was named.
    #[error("{given} is set and {missing} is not: the two name files that belong together")]
    Half {
        /// The variable that is set.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
}

/// Where distributions put the pairs without Secure Boot: Debian and Ubuntu, Arch, Fedora, SUSE, QEMU's own build.
const PLACES: [(&str, &str); 7] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];

impl Ovmf {
    /// The firmware named by the two variables' values, else the first pair of which `exists` says both are there.
    pub(crate) fn find(
        code: Option<&OsStr>,
        vars: Option<&OsStr>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Ovmf, FirmwareError> {
        let named = |value: Option<&OsStr>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
        match (named(code), named(vars)) {
            (Some(code), Some(vars)) => Ok(Ovmf { code, vars }),
            (Some(_), None) => Err(FirmwareError::Half { given: "KIT_OVMF_CODE", missing: "KIT_OVMF_VARS" }),
            (None, Some(_)) => Err(FirmwareError::Half { given: "KIT_OVMF_VARS", missing: "KIT_OVMF_CODE" }),
            (None, None) => PLACES
                .iter()
                .find(|(code, vars)| exists(Path::new(code)) && exists(Path::new(vars)))
                .map(|(code, vars)| Ovmf { code: code.into(), vars: vars.into() })
                .ok_or(FirmwareError::Missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_with_both_halves_is_taken() {
        let has = |paths: &'static [&str]| move |path: &Path| paths.iter().any(|p| Path::new(p) == path);
        let half_of_one =
            has(&["/usr/share/OVMF/OVMF_CODE_4M.fd", PLACES[1].0, PLACES[1].1, PLACES[3].0, PLACES[3].1]);
        let found = Ovmf::find(None, None, half_of_one).unwrap();
        assert_eq!(found, Ovmf { code: PLACES[1].0.into(), vars: PLACES[1].1.into() });
        assert_eq!(Ovmf::find(None, None, |_| false), Err(FirmwareError::Missing));
    }

    #[test]
    fn the_environment_names_both_or_neither() {
        let (code, vars) = (Some(OsStr::new("/c")), Some(OsStr::new("/v")));
        let named = Ovmf { code: "/c".into(), vars: "/v".into() };
        assert_eq!(Ovmf::find(code, vars, |_| true), Ok(named));
        let error = Ovmf::find(code, None, |_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "KIT_OVMF_CODE is set and KIT_OVMF_VARS is not: the two name files that belong together"
        );
        assert!(matches!(Ovmf::find(None, vars, |_| true), Err(FirmwareError::Half { .. })));
    }
}
