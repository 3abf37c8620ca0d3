//! What is configured for registries, a file each, as containerd has it (docs/hosts.md there):
//!
//! ```text
//! DIR/docker.io/hosts.toml         the registry's name as references have it; DIR/_default/ for those without a file
//!   server = "https://registry-1.docker.io"       the registry itself, asked last; without it, what its name says
//!   [host."http://mirror.example:5000"]           asked before it, in the order of the file
//!     capabilities = ["pull", "resolve", "push"]  what it is asked for; everything, if this is not said
//!     ca = "mirror.pem"                           a file, or several, believed besides the machine's own
//!     skip_verify = true                          anybody is believed
//!     override_path = true                        the address has the whole path; else `/v2` is put after it
//!     [host."http://mirror.example:5000".header]  sent to it, and to nobody that it leads to
//!       x-key = ["value"]
//! ```
//!
//! `ca`, `skip_verify`, `override_path`, `capabilities` and `header` at the top are the server's. Plain http is spoken
//! where `http://` is written. Other keys are refused: a setting that does nothing is worse than none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use ureq::http::{HeaderName, HeaderValue};

use super::roots::{Roots, RootsError};
use super::url::{Url, UrlError};

/// The directory that serves registries which have none of their own.
const DEFAULT: &str = "_default";
/// In bytes; what is larger is something else.
const MAX_FILE: u64 = 1 << 20;

/// What is configured for registries. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    registries: BTreeMap<String, Registry>,
    tls: Vec<Tls>,
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
#[error("registry configuration {}", path.display())]
pub struct HostsError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: HostsFault,
}

/// What is wrong with it.
#[derive(Debug, Error)]
pub enum HostsFault {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is longer than a configuration is.
    #[error("it is longer than {MAX_FILE} bytes")]
    TooLong,
    /// It is not TOML, or says something that is not known.
    #[error("{}", text.trim_end())]
    Toml {
        /// With line and column.
        text: String,
    },
    /// Settings of a server that is not named.
    #[error("settings at the top are the server's: write `server = \"https://..\"` before them")]
    NoServer,
    /// An address that is none.
    #[error("`{address}`")]
    Address {
        /// As written.
        address: String,
        /// Why.
        #[source]
        source: UrlError,
    },
    /// A name or value that no header takes.
    #[error("`{address}`: header `{name}`")]
    Header {
        /// Whose.
        address: String,
        /// The header's name.
        name: String,
    },
    /// Certificates that cannot be had.
    #[error("`{address}`")]
    Certificates {
        /// Whose.
        address: String,
        /// Why.
        #[source]
        source: RootsError,
    },
}

/// What a registry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Content by its digest.
    Pull,
    /// What a tag stands for.
    Resolve,
    /// To take content.
    Push,
}

/// Headers of one host. What their values are does not show.
#[derive(Clone, Default)]
pub(crate) struct Headers(Arc<[(HeaderName, HeaderValue)]>);

/// Whose certificates are believed of a host: a place in [`Hosts::tls`], after the settings of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsId(usize);

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) roots: Roots,
    pub(super) verify: bool,
}

/// One place to ask, as configured.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) base: Url,
    /// The path of the protocol, with a slash at its end.
    pub(super) api: String,
    pub(super) headers: Headers,
    pub(super) tls: TlsId,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Default)]
struct Registry {
    server: Option<Host>,
    hosts: Vec<Host>,
}

/// `hosts.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    capabilities: Option<Vec<Action>>,
    ca: Option<OneOrMore>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
}

/// `[host."ADDRESS"]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    capabilities: Option<Vec<Action>>,
    ca: Option<OneOrMore>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(all) => all,
        }
    }
}

impl Hosts {
    /// Reads every `DIR/REGISTRY/hosts.toml`. `roots` are believed of every host, besides what its file adds.
    ///
    /// # Errors
    /// [`HostsError`], with the file. A directory that is not there configures nothing.
    pub fn load(dir: &Path, roots: &Roots) -> Result<Hosts, HostsError> {
        let failed = |path: &Path, source: HostsFault| HostsError { path: path.to_owned(), source };
        let mut names = match fs::read_dir(dir) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| failed(dir, error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Hosts::default()),
            Err(error) => return Err(failed(dir, error.into())),
        };
        names.sort();
        let mut hosts = Hosts::default();
        for name in names {
            let path = dir.join(&name).join("hosts.toml");
            let text = match read(&path) {
                Err(HostsFault::Read(error))
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                read => read.map_err(|fault| failed(&path, fault))?,
            };
            let registry = hosts.parse(&text, path.parent().unwrap_or(dir), roots);
            let name = name.to_string_lossy().to_ascii_lowercase();
            hosts.registries.insert(name, registry.map_err(|fault| failed(&path, fault))?);
        }
        Ok(hosts)
    }

    /// What one file says. Relative paths in it are below `dir`.
    fn parse(&mut self, text: &str, dir: &Path, roots: &Roots) -> Result<Registry, HostsFault> {
        let refuse = |error: toml::de::Error| HostsFault::Toml { text: error.to_string() };
        let file: File = toml::from_str(text).map_err(refuse)?;
        let mut registry = Registry::default();
        for (address, settings) in &file.host {
            let settings: Settings = settings
                .clone()
                .try_into()
                .map_err(|error| HostsFault::Toml { text: format!("host.\"{address}\": {error}") })?;
            registry.hosts.push(self.host(address, &settings, dir, roots)?);
        }
        let File { server, capabilities, ca, skip_verify, override_path, header, .. } = file;
        let is_plain =
            capabilities.is_none() && ca.is_none() && !skip_verify && !override_path && header.is_empty();
        let settings = Settings { capabilities, ca, skip_verify, override_path, header };
        match server {
            Some(address) => registry.server = Some(self.host(&address, &settings, dir, roots)?),
            None if is_plain => {}
            None => return Err(HostsFault::NoServer),
        }
        Ok(registry)
    }

    fn host(
        &mut self,
        address: &str,
        settings: &Settings,
        dir: &Path,
        roots: &Roots,
    ) -> Result<Host, HostsFault> {
        let whole = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let base = Url::parse(&whole)
            .map_err(|source| HostsFault::Address { address: address.to_owned(), source })?;
        let path = base.path().trim_end_matches('/');
        let api = if settings.override_path || path.ends_with("/v2") {
            format!("{path}/")
        } else {
            format!("{path}/v2/")
        };
        let mut own = roots.clone();
        for file in settings.ca.iter().flat_map(OneOrMore::all) {
            own = own
                .with_file(&dir.join(file))
                .map_err(|source| HostsFault::Certificates { address: address.to_owned(), source })?;
        }
        let tls = if settings.ca.is_some() || settings.skip_verify {
            self.tls.push(Tls { roots: own, verify: !settings.skip_verify });
            TlsId(self.tls.len())
        } else {
            TlsId::default()
        };
        let mut headers = Vec::new();
        for (name, values) in &settings.header {
            let refuse = || HostsFault::Header { address: address.to_owned(), name: name.clone() };
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
            for value in values.all() {
                let mut value = HeaderValue::from_str(value).map_err(|_| refuse())?;
                value.set_sensitive(true);
                headers.push((header.clone(), value));
            }
        }
        let all = vec![Action::Pull, Action::Resolve, Action::Push];
        let actions = settings.capabilities.clone().unwrap_or(all);
        Ok(Host { base, api, headers: Headers(headers.into()), tls, actions })
    }

    fn registry(&self, name: &str) -> Option<&Registry> {
        self.registries.get(name).or_else(|| self.registries.get(DEFAULT))
    }

    /// Whom to ask before a registry itself.
    pub(super) fn of(&self, registry: &str) -> &[Host] {
        self.registry(registry).map(|registry| registry.hosts.as_slice()).unwrap_or_default()
    }

    /// The registry itself, if it is elsewhere than its name says.
    pub(super) fn server(&self, registry: &str) -> Option<&Host> {
        self.registry(registry)?.server.as_ref()
    }

    /// The settings that a [`TlsId`] speaks of, from 1.
    pub(super) fn tls(&self) -> &[Tls] {
        &self.tls
    }

    /// Those that are spoken to without TLS, because that is written.
    pub(super) fn plain_hosts(&self) -> impl Iterator<Item = String> {
        let all = self.registries.values().flat_map(|registry| registry.hosts.iter().chain(&registry.server));
        all.filter(|host| !host.base.is_https()).map(|host| host.base.host_and_port())
    }
}

impl Host {
    pub(super) fn can(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }
}

impl Headers {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl TlsId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

fn read(path: &Path) -> Result<String, HostsFault> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(HostsFault::TooLong) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::endpoint::Endpoint;

    /// A directory with these files.
    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("hosts.toml"), text).unwrap();
        }
        dir
    }

    fn loaded(files: &[(&str, &str)]) -> Hosts {
        Hosts::load(dir(files).path(), &Roots::built_in()).unwrap()
    }

    fn asked(hosts: &Hosts, registry: &str, action: Action) -> Vec<String> {
        let endpoints = Endpoint::of(registry, &[], hosts, &[], action).unwrap();
        endpoints.iter().map(|endpoint| endpoint.url("a/b", "manifests/t").for_the_wire()).collect()
    }

    /// Why a file is refused, with all causes.
    fn refused(text: &str) -> String {
        let dir = dir(&[("x.example", text)]);
        let error = Hosts::load(dir.path(), &Roots::built_in()).unwrap_err();
        let mut told = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            told.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        told.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn hosts_are_asked_in_the_order_of_the_file_and_the_server_last() {
        let hosts = loaded(&[(
            "docker.io",
            r#"
            server = "https://hub.example"
            [host."https://z.example"]
            [host."http://a.example:5000/mirror"]
            [host."https://m.example/v2/hub"]
            override_path = true
            "#,
        )]);
        assert_eq!(
            asked(&hosts, "docker.io", Action::Pull),
            [
                "https://z.example/v2/a/b/manifests/t?ns=docker.io",
                "http://a.example:5000/mirror/v2/a/b/manifests/t?ns=docker.io",
                "https://m.example/v2/hub/a/b/manifests/t?ns=docker.io",
                "https://hub.example/v2/a/b/manifests/t",
            ]
        );
        assert_eq!(hosts.plain_hosts().collect::<Vec<_>>(), ["a.example:5000"]);
        assert_eq!(asked(&hosts, "quay.io", Action::Pull), ["https://quay.io/v2/a/b/manifests/t"]);
    }

    #[test]
    fn a_host_is_asked_only_for_what_it_can_do() {
        let hosts = loaded(&[(
            "x.example",
            r#"
            [host."https://pulls.example"]
            capabilities = ["pull"]
            [host."https://resolves.example"]
            capabilities = ["resolve", "pull"]
            [host."https://takes.example"]
            capabilities = ["push"]
            "#,
        )]);
        let first = |action| asked(&hosts, "x.example", action).remove(0);
        assert!(first(Action::Pull).starts_with("https://pulls.example/"));
        assert!(first(Action::Resolve).starts_with("https://resolves.example/"));
        assert!(first(Action::Push).starts_with("https://takes.example/"));
        assert_eq!(asked(&hosts, "x.example", Action::Pull).len(), 3);
    }

    #[test]
    fn the_default_serves_whoever_has_no_file() {
        let hosts = loaded(&[("_default", "[host.\"https://all.example\"]"), ("own.example:5000", "")]);
        assert_eq!(asked(&hosts, "x.example", Action::Pull).len(), 2);
        assert_eq!(asked(&hosts, "own.example:5000", Action::Pull).len(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_configures_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Hosts::load(&dir.path().join("none"), &Roots::built_in()).unwrap();
        assert_eq!(asked(&hosts, "x.example", Action::Pull).len(), 1);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        let unknown = refused("server = \"https://x.example\"\nsevrer = 1\n");
        assert!(
            unknown
                .starts_with("registry configuration DIR/x.example/hosts.toml: TOML parse error at line 2"),
            "{unknown}"
        );
        assert!(unknown.contains("unknown field `sevrer`"), "{unknown}");
        let inner = refused("[host.\"https://m.example\"]\nskip_verfy = true\n");
        assert!(inner.contains("host.\"https://m.example\": unknown field `skip_verfy`"), "{inner}");
        let action = refused("[host.\"https://m.example\"]\ncapabilities = [\"fetch\"]\n");
        assert!(action.contains("unknown variant `fetch`"), "{action}");
        assert!(refused("skip_verify = true\n").contains("settings at the top are the server's"));
        assert!(refused("[host.\"ftp://m.example\"]\n").contains("`ftp://m.example`"));
        let certificates = refused("[host.\"https://m.example\"]\nca = \"own.pem\"\n");
        assert!(certificates.contains("read the certificates in DIR/x.example/own.pem"), "{certificates}");
        let header = refused("[host.\"https://m.example\".header]\n\"x y\" = \"1\"\n");
        assert!(header.ends_with("`https://m.example`: header `x y`"), "{header}");
    }

    #[test]
    fn values_of_headers_do_not_show() {
        let hosts =
            loaded(&[("x", "[host.\"https://m.example\".header]\nx-key = [\"hunter2\", \"other\"]\n")]);
        assert_eq!(hosts.of("x")[0].headers.iter().count(), 2);
        let shown = format!("{hosts:?}");
        assert!(shown.contains("x-key") && !shown.contains("hunter2"), "{shown}");
    }
}
