//! Debian packages: the machine's own apt decides, downloads and checks signatures; nothing is installed.
//!
//! ```text
//!   [nginx, curl] ──apt-get install --print-uris──▶ pins (name, version, architecture, sha256) ──apt-get download──▶ store
//! ```
//!
//! apt runs without root in a directory of its own. Its `status` there is empty, so that what happens to be installed on
//! the machine does not change the closure; the machine's sources, keys and proxies are used as they are; its hooks are
//! not run. Only Depends and Pre-Depends are followed. What a lock pins is downloaded at exactly that version, and the
//! mirror is not believed: the store checks the pinned SHA-256.

use crate::temporary;
use kit_oci::digest::Digest;
use kit_oci::store::Store;
use kit_spec::artifact::Arch;
use kit_spec::lock::PackagePin;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod uris;

/// apt, in a directory of its own.
pub struct Apt {
    dir: PathBuf,
    arch: Arch,
    updated: std::cell::Cell<bool>,
    /// A file for each package in the store, so that it is not swept.
    kept: PathBuf,
}

/// Why packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// apt's directory cannot be prepared.
    #[error("prepare a directory for apt at {path}")]
    Prepare {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no apt.
    #[error("run apt-get, which `deb:` images need")]
    NoApt(#[source] io::Error),
    /// apt said no.
    #[error("{doing}: {said}")]
    Apt {
        /// What was asked of it.
        doing: String,
        /// Its own words.
        said: String,
    },
    /// apt's list of packages is not understood.
    #[error("read apt's list of packages: {problem} in `{line}`")]
    List {
        /// The line.
        line: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A pinned version is no longer on the mirror.
    #[error("package {name} {version} is pinned but neither in the store nor on the mirror: {said}")]
    Gone {
        /// Package name.
        name: String,
        /// Pinned version.
        version: String,
        /// apt's words.
        said: String,
    },
    /// What came is not what is pinned, or cannot be kept.
    #[error("keep package {name} {version}")]
    Keep {
        /// Package name.
        name: String,
        /// Its version.
        version: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Apt {
    /// Prepares apt's directory; one process at a time may work in it.
    ///
    /// # Errors
    /// When the directory or its files cannot be made.
    pub fn new(dir: &Path, arch: Arch) -> Result<Apt, DebError> {
        let kept = dir.join(KEPT);
        let dir = dir.join(debian_name(arch));
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| DebError::Prepare { path, source }
        };
        for sub in ["state/lists/partial", "cache/archives/partial", "download"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).map_err(fail(&path))?;
        }
        let conf = dir.join("apt.conf");
        for (path, text) in [(dir.join("state/status"), String::new()), (conf, configuration(&dir, arch))] {
            if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                fs::write(&path, text).map_err(fail(&path))?;
            }
        }
        Ok(Apt { dir, arch, updated: false.into(), kept })
    }

    /// What must be there for `packages` (`nginx`, or `nginx=1.22.1-9`), in the order apt would unpack them.
    ///
    /// # Errors
    /// When apt is missing, knows no such package or version, or has no way to satisfy them together.
    pub fn closure(&self, packages: &[String]) -> Result<Vec<PackagePin>, DebError> {
        let lock = self.lock()?;
        if !self.updated.replace(true) {
            let output = self.run(&lock, &["update", "-qq"], &self.dir)?;
            self.expect(&output, "refresh apt's package lists")?;
        }
        let mut args = vec!["install", "--print-uris", "-qq", "-y", "--no-install-recommends", "--"];
        args.extend(packages.iter().map(String::as_str));
        let output = self.run(&lock, &args, &self.dir)?;
        self.expect(&output, &format!("resolve package {}", packages.join(", ")))?;
        let pins = uris::parse(&String::from_utf8_lossy(&output.stdout))?;
        if pins.is_empty() {
            let said = "apt named nothing to download".to_owned();
            return Err(DebError::Apt { doing: format!("resolve package {}", packages.join(", ")), said });
        }
        Ok(pins)
    }

    /// Brings pinned packages into the store, those that are not there yet; `progress` hears which share of the bytes
    /// is here, from 0 to 1.
    ///
    /// # Errors
    /// When one is no longer to be had, or is not what was pinned.
    pub fn download(
        &self,
        pins: &[PackagePin],
        store: &Store,
        progress: &dyn Fn(f64),
    ) -> Result<(), DebError> {
        let mut missing = Vec::new();
        for pin in pins {
            if !has(store, pin)? {
                missing.push(pin);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let lock = self.lock()?;
        let into = self.dir.join("download");
        let names: Vec<String> =
            missing.iter().map(|pin| format!("{}:{}={}", pin.name, pin.architecture, pin.version)).collect();
        let mut output = self.download_into(&lock, &into, &names, progress)?;
        if !output.status.success() && !self.updated.replace(true) {
            let update = self.run(&lock, &["update", "-qq"], &self.dir)?;
            self.expect(&update, "refresh apt's package lists")?;
            output = self.download_into(&lock, &into, &names, progress)?;
        }
        for pin in missing {
            let path = into.join(uris::file_name(pin));
            let file = match fs::File::open(&path) {
                Ok(file) => file,
                Err(_) => {
                    let said = last_words(&output.stderr);
                    return Err(DebError::Gone {
                        name: pin.name.clone(),
                        version: pin.version.clone(),
                        said,
                    });
                }
            };
            let put = store.put_stream(file, &digest(pin)?, Some(pin.size));
            let _ = fs::remove_file(&path);
            put.map_err(|error| keep_error(pin, error))?;
            remember(&self.kept, pin)?;
        }
        Ok(())
    }

    fn download_into(
        &self,
        lock: &fs::File,
        into: &Path,
        names: &[String],
        progress: &dyn Fn(f64),
    ) -> Result<Output, DebError> {
        // Lines for programs, on standard output: `dlstatus:NUMBER:PERCENT:TEXT`.
        let mut args = vec!["-o", "APT::Status-Fd=1", "download", "-qq", "--"];
        args.extend(names.iter().map(String::as_str));
        let mut command = self.command(lock, &args, into)?;
        let heard = |line: &str| {
            if let Some(share) = share(line) {
                progress(share);
            }
        };
        temporary::output_by_line(&mut command, heard).map_err(DebError::NoApt)
    }

    fn run(&self, lock: &fs::File, args: &[&str], in_dir: &Path) -> Result<Output, DebError> {
        temporary::output(&mut self.command(lock, args, in_dir)?).map_err(DebError::NoApt)
    }

    /// apt, which has the lock as its standard input: if this process dies, whoever comes next waits for apt.
    fn command(&self, lock: &fs::File, args: &[&str], in_dir: &Path) -> Result<Command, DebError> {
        let mut command = Command::new("apt-get");
        command.arg("-c").arg(self.dir.join("apt.conf")).args(args).current_dir(in_dir);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(lock.try_clone().map_err(DebError::NoApt)?);
        Ok(command)
    }

    fn expect(&self, output: &Output, doing: &str) -> Result<(), DebError> {
        if output.status.success() {
            return Ok(());
        }
        let arch = debian_name(self.arch);
        Err(DebError::Apt { doing: format!("{doing} for {arch}"), said: last_words(&output.stderr) })
    }

    fn lock(&self) -> Result<fs::File, DebError> {
        let path = self.dir.join("lock");
        let lock = || {
            let file = fs::File::create(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| DebError::Prepare { path: path.clone(), source })
    }
}

/// The digest that the store knows a package by.
///
/// # Errors
/// When the pin's SHA-256 is none.
pub fn digest(pin: &PackagePin) -> Result<Digest, DebError> {
    kit_oci::digest::parse(&format!("sha256:{}", pin.sha256)).map_err(|source| keep_error(pin, source))
}

/// True if the store has a package.
///
/// # Errors
/// When the store cannot be looked into.
pub fn has(store: &Store, pin: &PackagePin) -> Result<bool, DebError> {
    store.has(&digest(pin)?).map_err(|source| keep_error(pin, source))
}

fn keep_error(pin: &PackagePin, source: impl std::error::Error + Send + Sync + 'static) -> DebError {
    DebError::Keep { name: pin.name.clone(), version: pin.version.clone(), source: Box::new(source) }
}

/// Below apt's directory: the packages in the store.
const KEPT: &str = "kept";

fn remember(kept: &Path, pin: &PackagePin) -> Result<(), DebError> {
    let path = kept.join(&pin.sha256);
    let made =
        fs::create_dir_all(kept).and_then(|()| fs::write(&path, format!("{} {}\n", pin.name, pin.version)));
    made.map_err(|source| DebError::Prepare { path, source })
}

/// The packages in the store, given apt's directory.
pub fn kept(dir: &Path) -> Vec<Digest> {
    let Ok(entries) = fs::read_dir(dir.join(KEPT)) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut digests: Vec<Digest> =
        names.filter_map(|name| kit_oci::digest::parse(&format!("sha256:{name}")).ok()).collect();
    digests.sort_by_key(ToString::to_string);
    digests
}

/// Lets all packages go: the next sweep removes them.
///
/// # Errors
/// When the list of them cannot be removed.
pub fn forget(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir.join(KEPT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Debian's name of an architecture.
pub fn debian_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "amd64",
        Arch::Arm64 => "arm64",
    }
}

/// Read after the machine's own configuration, which therefore still says where packages come from.
fn configuration(dir: &Path, arch: Arch) -> String {
    let mut text = String::new();
    for hook in [
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
        "DPkg::Pre-Invoke",
        "DPkg::Post-Invoke",
        "DPkg::Pre-Install-Pkgs",
        "APT::Architectures",
    ] {
        text.push_str(&format!("#clear {hook};\n"));
    }
    let dir = dir.display();
    let arch = debian_name(arch);
    for (key, value) in [
        ("Dir::State", format!("{dir}/state/")),
        ("Dir::State::status", format!("{dir}/state/status")),
        ("Dir::State::extended_states", format!("{dir}/state/extended_states")),
        ("Dir::Cache", format!("{dir}/cache/")),
        ("Dir::Log", format!("{dir}/state/")),
        ("APT::Architecture", arch.into()),
        ("APT::Architectures::", arch.into()),
        ("APT::Install-Recommends", "false".into()),
        ("APT::Install-Suggests", "false".into()),
        // Without this, apt as root fetches as another user, who cannot write here.
        ("APT::Sandbox::User", "root".into()),
        ("Acquire::Languages", "none".into()),
        ("Acquire::ForceHash", "SHA256".into()),
        ("Acquire::Retries", "3".into()),
        ("Dpkg::Use-Pty", "false".into()),
    ] {
        text.push_str(&format!("{key} \"{value}\";\n"));
    }
    text
}

/// Which share of a download is done, by a line that apt writes for programs.
fn share(line: &str) -> Option<f64> {
    let percent: f64 = line.strip_prefix("dlstatus:")?.split(':').nth(1)?.parse().ok()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

/// The lines of apt's errors that say something, without its prefixes.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    match said.as_slice() {
        [] => text.lines().last().unwrap_or("apt said nothing").trim().to_owned(),
        lines => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_download_is_read_from_apt_s_lines() {
        assert_eq!(share("dlstatus:2:12.5:Retrieving file 2 of 9 (3s remaining)"), Some(0.125));
        assert_eq!(share("dlstatus:2:250:x"), Some(1.0));
        assert_eq!(share("pmstatus:x:1:y"), None);
        assert_eq!(share("dlstatus:2"), None);
    }
}
