//! Where a reference is asked for: the mirrors that serve its registry, in order, and then the registry itself. Pure.
//!
//! A mirror's address may have a path, which is put before the repository (`https://harbor.example/hub` serves
//! `library/nginx` as `hub/library/nginx`). Mirrors are told which registry is meant by the query parameter `ns`, as
//! containerd does, so that one mirror can serve several.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::hosts::{Action, Headers, Host, Hosts, TlsId};
use super::url::{Scheme, Url, UrlError};

/// The names of Docker Hub, any of which means all.
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// The one of them that speaks the protocol.
const HUB_HOST: &str = "registry-1.docker.io";

/// A mirror: which registry it serves, and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    registry: String,
    base: Url,
}

/// A text that is no mirror.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("mirror for `{registry}`: want REGISTRY=URL, with http:// or https:// or none (https)")]
pub struct MirrorError {
    /// The registry, or `*`.
    pub registry: String,
    /// What is wrong with the address.
    #[source]
    pub source: UrlError,
}

/// One place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    base: Url,
    /// The path of the protocol, `/v2/` of most.
    api: String,
    /// What is put before a repository's name.
    prefix: String,
    /// Which registry is meant, where that is not the one asked.
    namespace: Option<String>,
    is_mirror: bool,
    headers: Headers,
    tls: TlsId,
}

impl Mirror {
    /// A mirror for `registry`, `host[:port]`, or for every registry that has no mirror of its own: `*`. An address
    /// without `https://` or `http://` is https, or http on this machine's loopback.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn new(registry: &str, url: &str) -> Result<Mirror, MirrorError> {
        let refuse = |source| MirrorError { registry: registry.to_owned(), source };
        let base = if url.contains("://") {
            Url::parse(url)
        } else {
            Url::parse(&format!("http://{url}")).and_then(|plain| {
                if plain.is_loopback() { Ok(plain) } else { Url::parse(&format!("https://{url}")) }
            })
        };
        Ok(Mirror { registry: registry.to_ascii_lowercase(), base: base.map_err(refuse)? })
    }

    /// The mirror's address, if it may be spoken to without TLS because the user wrote `http://`.
    pub(crate) fn plain_host(&self) -> Option<String> {
        (!self.base.is_https()).then(|| self.base.host_and_port())
    }

    fn serves(&self, registry: &str) -> bool {
        let hub = |name: &str| HUB_NAMES.contains(&name);
        self.registry == registry || hub(&self.registry) && hub(registry)
    }
}

impl FromStr for Mirror {
    type Err = MirrorError;

    /// `REGISTRY=URL`, or a URL alone, which serves every registry.
    fn from_str(text: &str) -> Result<Mirror, MirrorError> {
        match text.split_once('=') {
            Some((registry, url)) if !registry.contains('/') => Mirror::new(registry, url),
            _ => Mirror::new("*", text),
        }
    }
}

impl Endpoint {
    /// Where to ask for a repository of `registry`: mirrors first, then what is configured for the registry, the registry
    /// itself last. `plain` are the hosts that are spoken to without TLS, besides this machine.
    pub(crate) fn of(
        registry: &str,
        mirrors: &[Mirror],
        hosts: &Hosts,
        plain: &[String],
        action: Action,
    ) -> Result<Vec<Endpoint>, UrlError> {
        let mut chosen: Vec<&Mirror> = mirrors.iter().filter(|mirror| mirror.serves(registry)).collect();
        if chosen.is_empty() {
            chosen = mirrors.iter().filter(|mirror| mirror.registry == "*").collect();
        }
        // A mirror holds what others made.
        if action == Action::Push {
            chosen.clear();
        }
        let mut endpoints: Vec<Endpoint> = chosen
            .into_iter()
            .map(|mirror| Endpoint {
                prefix: mirror.base.path().trim_matches('/').to_owned(),
                namespace: Some(registry.to_owned()),
                is_mirror: true,
                ..Endpoint::at(mirror.base.clone())
            })
            .collect();
        let own = Endpoint::origin(registry, hosts, plain)?;
        endpoints.extend(hosts.of(registry).iter().filter(|host| host.can(action)).map(|host| {
            let endpoint = Endpoint::configured(host);
            let is_other = endpoint.base.origin() != own.base.origin();
            Endpoint { namespace: is_other.then(|| registry.to_owned()), is_mirror: true, ..endpoint }
        }));
        endpoints.push(own);
        Ok(endpoints)
    }

    /// The registry itself: what is configured as such, or what its name says.
    pub(crate) fn origin(registry: &str, hosts: &Hosts, plain: &[String]) -> Result<Endpoint, UrlError> {
        if let Some(server) = hosts.server(registry) {
            return Ok(Endpoint::configured(server));
        }
        let host = if HUB_NAMES.contains(&registry) { HUB_HOST } else { registry };
        let tls = Url::of_host(Scheme::Https, host)?;
        let without = Url::of_host(Scheme::Http, host)?;
        let is_plain = without.is_loopback() || plain.iter().any(|name| without.is_host(name));
        Ok(Endpoint::at(if is_plain { without } else { tls }))
    }

    fn at(base: Url) -> Endpoint {
        Endpoint {
            base,
            api: "/v2/".into(),
            prefix: String::new(),
            namespace: None,
            is_mirror: false,
            headers: Headers::default(),
            tls: TlsId::default(),
        }
    }

    fn configured(host: &Host) -> Endpoint {
        Endpoint {
            api: host.api.clone(),
            headers: host.headers.clone(),
            tls: host.tls,
            ..Endpoint::at(host.base.clone())
        }
    }

    /// The address of something in a repository, such as `manifests/latest`.
    pub(crate) fn url(&self, repository: &str, what: &str) -> Url {
        let path = format!("{}/{what}", self.repository(repository));
        let url = self.root().below(&path);
        match &self.namespace {
            Some(namespace) => url.with("ns", namespace),
            None => url,
        }
    }

    /// The address that says whether the protocol is spoken, and to whom.
    pub(crate) fn root(&self) -> Url {
        self.base.with_path(&self.api)
    }

    /// The repository's name at this endpoint.
    pub(crate) fn repository(&self, repository: &str) -> String {
        if self.prefix.is_empty() { repository.to_owned() } else { format!("{}/{repository}", self.prefix) }
    }

    /// The name under which credentials for it are kept.
    pub(crate) fn host(&self) -> String {
        self.base.host_and_port()
    }

    /// Whether others are asked if it fails.
    pub(crate) fn is_mirror(&self) -> bool {
        self.is_mirror
    }

    /// What it wants to be told with each request.
    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whose certificates are believed of it.
    pub(crate) fn tls(&self) -> TlsId {
        self.tls
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.to_string().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(registry: &str, mirrors: &[&str]) -> Vec<String> {
        let mirrors: Vec<Mirror> = mirrors.iter().map(|text| text.parse().unwrap()).collect();
        let plain = ["listed.example:5000".to_owned()];
        let endpoints = Endpoint::of(registry, &mirrors, &Hosts::default(), &plain, Action::Pull).unwrap();
        endpoints.iter().map(|endpoint| endpoint.url("a/b", "manifests/t").for_the_wire()).collect()
    }

    #[test]
    fn a_registry_is_asked_at_its_own_host() {
        assert_eq!(asked("ghcr.io", &[]), ["https://ghcr.io/v2/a/b/manifests/t"]);
        assert_eq!(asked("docker.io", &[]), ["https://registry-1.docker.io/v2/a/b/manifests/t"]);
        assert_eq!(asked("[::1]:5000", &[]), ["http://[::1]:5000/v2/a/b/manifests/t"]);
    }

    #[test]
    fn plain_http_is_for_this_machine_and_listed_hosts_only() {
        assert_eq!(asked("localhost:5000", &[]), ["http://localhost:5000/v2/a/b/manifests/t"]);
        assert_eq!(asked("listed.example:5000", &[]), ["http://listed.example:5000/v2/a/b/manifests/t"]);
        assert_eq!(asked("listed.example:5001", &[]), ["https://listed.example:5001/v2/a/b/manifests/t"]);
        assert_eq!(asked("10.0.0.1:5000", &[]), ["https://10.0.0.1:5000/v2/a/b/manifests/t"]);
    }

    #[test]
    fn mirrors_come_first_in_their_order() {
        let mirrors =
            ["docker.io=https://m1.example", "*=127.0.0.1:5000/all", "index.docker.io=m2.example/hub"];
        assert_eq!(
            asked("docker.io", &mirrors),
            [
                "https://m1.example/v2/a/b/manifests/t?ns=docker.io",
                "https://m2.example/v2/hub/a/b/manifests/t?ns=docker.io",
                "https://registry-1.docker.io/v2/a/b/manifests/t",
            ]
        );
        assert_eq!(
            asked("quay.io", &mirrors),
            ["http://127.0.0.1:5000/v2/all/a/b/manifests/t?ns=quay.io", "https://quay.io/v2/a/b/manifests/t"]
        );
        assert_eq!(
            asked("quay.io", &["https://m.example/x"])[0],
            "https://m.example/v2/x/a/b/manifests/t?ns=quay.io"
        );
    }

    #[test]
    fn a_password_in_a_mirror_s_address_is_refused_unshown() {
        let error = "docker.io=https://u:hunter2@m.example".parse::<Mirror>().unwrap_err();
        assert_eq!(error.source, UrlError::Credentials);
        assert!(!format!("{error} {error:?} {}", error.source).contains("hunter2"));
    }
}
