//! Leases kept under /run, one JSON file for each interface: the service takes over what the program run at boot
//! has got, and a restarted service what its predecessor had.
//!
//! A file counts for this boot only, since its times are counted from the boot, and for the interface's own hardware
//! address. One that does not count, or cannot be read, is as good as none.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Time;
use crate::config::mac_text;
use crate::dhcp::lease::Lease;
use crate::resolv::{self, WriteError};

const VERSION: u32 = 1;
/// A lease with every list full stays far below this.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    boot: String,
    mac: String,
    lease: Lease,
}

/// A lease file that says nothing.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no lease.
    #[error("read {path}: no lease")]
    Form {
        /// The file.
        path: PathBuf,
        /// In which line and column, and why.
        #[source]
        source: serde_json::Error,
    },
}

/// The directory of leases.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    boot: String,
}

impl Store {
    /// A directory, which need not exist yet; `boot` names this boot.
    #[must_use]
    pub fn new(dir: &Path, boot: String) -> Self {
        Self { dir: dir.to_owned(), boot }
    }

    /// The kernel's name for this boot; all boots have one name where it has none.
    #[must_use]
    pub fn boot_id() -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    }

    fn path(&self, interface: &str) -> PathBuf {
        self.dir.join(format!("{interface}.lease"))
    }

    /// The lease of an interface with this hardware address, if it is of this boot and still runs.
    ///
    /// # Errors
    /// When there is a file but no lease in it.
    pub fn load(&self, interface: &str, mac: [u8; 6], now: Time) -> Result<Option<Lease>, LoadError> {
        let path = self.path(interface);
        let mut bytes = Vec::new();
        let read = fs::File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Read { path, source }),
            Ok(_) => {}
        }
        let file: File = serde_json::from_slice(&bytes).map_err(|source| LoadError::Form { path, source })?;
        let term_in_order =
            file.lease.term.is_none_or(|term| term.renew <= term.rebind && term.rebind <= term.end);
        let counts = file.version == VERSION
            && file.boot == self.boot
            && file.mac == mac_text(mac)
            && file.lease.address.is_host_address()
            && term_in_order
            && !file.lease.is_over(now);
        Ok(counts.then_some(file.lease))
    }

    /// Keeps a lease.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, interface: &str, mac: [u8; 6], lease: &Lease) -> Result<(), WriteError> {
        let file =
            File { version: VERSION, boot: self.boot.clone(), mac: mac_text(mac), lease: lease.clone() };
        let path = self.path(interface);
        let mut text = serde_json::to_vec_pretty(&file)
            .map_err(|e| WriteError { path: path.clone(), source: e.into() })?;
        text.push(b'\n');
        resolv::replace_file(&path, &text)
    }

    /// Forgets a lease.
    ///
    /// # Errors
    /// When there is a file that cannot be removed.
    pub fn remove(&self, interface: &str) -> Result<(), WriteError> {
        let path = self.path(interface);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(WriteError { path, source: e }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::lease::Term;
    use crate::dhcp::option::ClasslessRoute;
    use crate::ipv4::Cidr;
    use std::net::Ipv4Addr;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn lease() -> Lease {
        let at = Time::from_millis;
        Lease {
            address: "10.0.0.5/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            acquired: at(1000),
            term: Some(Term { renew: at(2000), rebind: at(3000), end: at(4000) }),
            routes: vec![ClasslessRoute { to: Cidr::DEFAULT, via: Some(Ipv4Addr::new(10, 0, 0, 1)) }],
            dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
            search: vec!["example.org".into()],
            mtu: Some(1400),
            hostname: None,
        }
    }

    fn store(dir: &tempfile::TempDir, boot: &str) -> Store {
        Store::new(&dir.path().join("kit-net"), boot.into())
    }

    #[test]
    fn a_lease_is_kept_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir, "b");
        let now = Time::from_millis(3999);
        assert_eq!(store.load("eth0", MAC, now).unwrap(), None);
        store.save("eth0", MAC, &lease()).unwrap();
        assert_eq!(store.load("eth0", MAC, now).unwrap(), Some(lease()));
        store.remove("eth0").unwrap();
        store.remove("eth0").unwrap();
        assert_eq!(store.load("eth0", MAC, now).unwrap(), None);
    }

    #[test]
    fn a_lease_of_another_boot_or_card_or_one_that_is_over_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_millis(1500);
        store(&dir, "b").save("eth0", MAC, &lease()).unwrap();
        assert_eq!(store(&dir, "c").load("eth0", MAC, now).unwrap(), None);
        assert_eq!(store(&dir, "b").load("eth0", [9; 6], now).unwrap(), None);
        assert_eq!(store(&dir, "b").load("eth0", MAC, Time::from_millis(4000)).unwrap(), None);
        assert_eq!(store(&dir, "b").load("eth1", MAC, now).unwrap(), None);
    }

    #[test]
    fn a_torn_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir, "b");
        fs::create_dir_all(dir.path().join("kit-net")).unwrap();
        fs::write(dir.path().join("kit-net/eth0.lease"), "{\"version\": 1").unwrap();
        let error = store.load("eth0", MAC, Time::from_millis(0)).unwrap_err();
        assert!(error.to_string().ends_with("kit-net/eth0.lease: no lease"), "{error}");
    }
}
