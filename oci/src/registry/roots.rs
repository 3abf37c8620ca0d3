//! Which certificate authorities are believed: those of the machine, and what the user adds.
//!
//! The machine's bundle is `$SSL_CERT_FILE`, else the first of the files where distributions keep it. Where there is
//! none at all, the set that was compiled in (Mozilla's) serves, so that one static program works everywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Where distributions keep their bundle.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// Certificate authorities.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    certificates: Vec<Certificate<'static>>,
}

/// Why certificates could not be had.
#[derive(Debug, Error)]
pub enum RootsError {
    /// The file cannot be read.
    #[error("read the certificates in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error("{} has no PEM certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Roots {
    /// Those that were compiled in.
    pub fn built_in() -> Roots {
        Roots::default()
    }

    /// Those of the machine: `$SSL_CERT_FILE`, which must be right if it is set, else the distribution's bundle, else
    /// those that were compiled in.
    ///
    /// # Errors
    /// [`RootsError`].
    pub fn of_the_machine() -> Result<Roots, RootsError> {
        if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
            return Roots::built_in().with_file(Path::new(&path));
        }
        for path in BUNDLES.map(Path::new) {
            match Roots::built_in().with_file(path) {
                Ok(roots) => return Ok(roots),
                Err(RootsError::Empty { .. }) => {}
                Err(RootsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Roots::built_in())
    }

    /// Adds the certificates of a PEM file. Added to [`Roots::built_in`], they replace those.
    ///
    /// # Errors
    /// [`RootsError`].
    pub fn with_file(mut self, path: &Path) -> Result<Roots, RootsError> {
        let pem = fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })?;
        let before = self.certificates.len();
        self.certificates.extend(parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
        if self.certificates.len() == before {
            return Err(RootsError::Empty { path: path.to_owned() });
        }
        Ok(self)
    }

    pub(super) fn for_tls(&self) -> RootCerts {
        if self.certificates.is_empty() {
            return RootCerts::WebPki;
        }
        RootCerts::new_with_certs(&self.certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        assert!(matches!(Roots::built_in().with_file(&path), Err(RootsError::Read { .. })));
        fs::write(&path, "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n").unwrap();
        assert!(matches!(Roots::built_in().with_file(&path), Err(RootsError::Empty { .. })));
    }

    #[test]
    fn the_machine_has_some() {
        assert!(Roots::of_the_machine().is_ok());
    }
}
