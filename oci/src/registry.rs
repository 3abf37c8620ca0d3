//! The pull side of the OCI distribution protocol (distribution-spec 1.1) over blocking HTTP, and what pushing needs.
//!
//! ```text
//! Reference -> mirrors in order, then the registry        endpoint.rs
//!   each: Authorization from what is known                auth.rs, credentials.rs, challenge.rs
//!         one exchange, redirects, timeouts               http.rs, url.rs, roots.rs
//!         401 -> log in, once; 429, 5xx, a cut or stalled connection -> again, with growing pauses, a few times
//!   manifests: HEAD or GET, whole, verified               here
//!   blobs: GET with Range into a store::Part              download.rs
//!   uploads: POST and PUT, to the registry only           upload.rs
//! ```
//!
//! Guarantees: nothing that came is believed before its digest and size were checked; more bytes than announced by the
//! descriptor are an error at once; credentials go to the host that they are for, and appear in no error.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::image::{Descriptor, MediaType};

use crate::digest::{self, Mismatch};
use crate::manifest::{self, MAX_BYTES};
use crate::reference::Reference;

mod auth;
mod challenge;
mod credentials;
mod download;
mod endpoint;
mod error;
mod hosts;
mod http;
mod roots;
mod upload;
mod url;

pub use credentials::{Credential, CredentialError, Credentials, Secret};
pub use endpoint::{Mirror, MirrorError};
pub use error::{RegistryError, RequestError, Transport};
pub use hosts::{Hosts, HostsError, HostsFault};
pub use roots::{Roots, RootsError};
pub use url::UrlError;

use auth::{Auth, Purpose};
use endpoint::Endpoint;
use hosts::Action;
use http::{Http, Reply, Request};

/// How registries are spoken to. The default knows no mirrors, no credentials and the built-in authorities.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whom to ask before a registry, in order.
    pub mirrors: Vec<Mirror>,
    /// What is configured for registries, a file each; asked after the mirrors.
    pub hosts: Hosts,
    /// Hosts, `host` or `host:port`, to which plain http is spoken. This machine need not be listed.
    pub plain_http: Vec<String>,
    /// Who we are.
    pub credentials: Credentials,
    /// Whose certificates are believed.
    pub roots: Roots,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, and before that for its address.
    pub connect: Duration,
    /// For something to happen on a connection. A body that comes slower than a kibibyte a second over this time has
    /// stalled too.
    pub idle: Duration,
}

/// How often to try what may go better next time, and how long to pause between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in a row without progress, at least one.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// The longest pause. A registry that asks for a longer one is given up.
    pub longest: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(10), idle: Duration::from_secs(30) }
    }
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 5, first: Duration::from_millis(250), longest: Duration::from_secs(20) }
    }
}

impl Retry {
    /// The pause after an attempt, counted from 1, or none if there is to be no other.
    fn pause(&self, attempt: u32, error: &RequestError) -> Option<Duration> {
        if attempt >= self.attempts || !error.is_transient() {
            return None;
        }
        if let RequestError::Busy { wait, .. } = error {
            return Some(*wait).filter(|wait| *wait <= self.longest);
        }
        Some(self.first.saturating_mul(1 << (attempt - 1).min(16)).min(self.longest))
    }
}

/// A manifest or an index as it came, verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, which hash to the digest.
    pub bytes: Vec<u8>,
}

/// Speaks to registries. One client serves any number of threads; it keeps connections and tokens.
pub struct Client {
    http: Http,
    auth: Auth,
    mirrors: Vec<Mirror>,
    hosts: Hosts,
    plain: Vec<String>,
    retry: Retry,
    /// Mirrors that did not answer at all, and when.
    absent: Mutex<HashMap<String, Instant>>,
}

/// For how long a mirror that did not answer is not asked again.
const ABSENCE: Duration = Duration::from_secs(60);

/// Why one endpoint did not serve: a fault of theirs, or a reason of ours to stop asking.
enum Fault {
    Request(RequestError),
    Stop(RegistryError),
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Fault {
        Fault::Request(error)
    }
}

/// A request to one endpoint about one repository.
struct Call<'a> {
    endpoint: &'a Endpoint,
    repository: &'a str,
    /// `pull`, or `pull,push`.
    actions: &'static str,
    request: Request,
}

impl Client {
    /// A client. Connects to nobody yet.
    pub fn new(options: Options) -> Client {
        Client {
            http: Http::new(&options),
            auth: Auth::new(options.credentials),
            mirrors: options.mirrors,
            hosts: options.hosts,
            plain: options.plain_http,
            retry: options.retry,
            absent: Mutex::default(),
        }
    }

    /// Asks a registry, `host[:port]`, whether it speaks the protocol and knows us.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn ping(&self, registry: &str) -> Result<(), RegistryError> {
        let endpoint = self.origin(registry)?;
        let result = self.retrying(|| {
            let request = Request::new("GET", endpoint.root());
            let call = Call { endpoint: &endpoint, repository: "", actions: "", request };
            expect(self, self.once(&call)?, &[200]).map(drop)
        });
        result.map_err(|source| RegistryError::Request {
            action: format!("ping {registry}"),
            endpoint: endpoint.to_string(),
            before: Vec::new(),
            source: Box::new(source),
        })
    }

    /// What a reference stands for now: the descriptor of a manifest or an index, by HEAD where the registry can. For a
    /// tag, the digest is the registry's word, which is what a tag is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, RegistryError> {
        self.ask(
            reference,
            Action::Resolve,
            || format!("resolve {reference}"),
            |endpoint| {
                self.retrying(|| match self.head(endpoint, reference)? {
                    Some(descriptor) => Ok(descriptor),
                    None => self.get(endpoint, reference).map(|fetched| fetched.descriptor),
                })
                .map_err(Fault::from)
            },
        )
    }

    /// The manifest or index that a reference stands for, whole and verified: against the reference's digest if it has
    /// one, else against the one that the registry gives.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        // By a tag it resolves at the same time.
        let action = if reference.digest().is_some() { Action::Pull } else { Action::Resolve };
        self.ask(
            reference,
            action,
            || format!("get the manifest of {reference}"),
            |endpoint| self.retrying(|| self.get(endpoint, reference)).map_err(Fault::from),
        )
    }

    fn head(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Option<Descriptor>, RequestError> {
        let reply = self.once(&self.manifest_call("HEAD", endpoint, reference))?;
        match reply.status {
            200 => {}
            404 => return Err(self.status(reply)),
            _ => return Ok(None),
        }
        let digest = reply.header("docker-content-digest").and_then(|text| digest::parse(text).ok());
        let known = |media_type: &MediaType| manifest::is_image(media_type) || manifest::is_index(media_type);
        let (Some(digest), Some(media_type), Some(size)) =
            (digest, media_type(&reply).filter(known), reply.length().filter(|size| *size > 0))
        else {
            return Ok(None);
        };
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Ok(None);
        }
        if size > MAX_BYTES {
            return Err(RequestError::TooLarge { url: reply.url.to_string(), limit: MAX_BYTES });
        }
        Ok(Some(Descriptor::new(media_type, size, digest)))
    }

    fn get(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Fetched, RequestError> {
        let reply = expect(self, self.once(&self.manifest_call("GET", endpoint, reference))?, &[200])?;
        let url = reply.url.to_string();
        let declared = media_type(&reply);
        let given = reply.header("docker-content-digest").and_then(|text| digest::parse(text).ok());
        let bytes = reply.into_bytes(MAX_BYTES)?;
        let size = bytes.len() as u64;
        let digest = match reference.digest().or(given) {
            None => digest::of(&bytes),
            Some(expected) => {
                let found = hash(&bytes, &expected);
                if found != expected {
                    let source = Box::new(Mismatch::Content { expected, found, size });
                    return Err(RequestError::Content { url, source });
                }
                expected
            }
        };
        let (_, media_type) = manifest::parse(&bytes, declared.as_ref())
            .map_err(|source| RequestError::Manifest { url, source })?;
        Ok(Fetched { descriptor: Descriptor::new(media_type, size, digest), bytes })
    }

    fn manifest_call<'a>(
        &self,
        method: &'static str,
        endpoint: &'a Endpoint,
        reference: &'a Reference,
    ) -> Call<'a> {
        let url = endpoint.url(reference.repository(), &format!("manifests/{}", reference.identifier()));
        let request = Request::new(method, url).header("accept", manifest::accepted().join(", "));
        Call { endpoint, repository: reference.repository(), actions: "pull", request }
    }

    /// Asks every endpoint of a reference in turn.
    fn ask<T>(
        &self,
        reference: &Reference,
        to: Action,
        action: impl Fn() -> String,
        mut from: impl FnMut(&Endpoint) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let registry = reference.registry();
        let endpoints = Endpoint::of(registry, &self.mirrors, &self.hosts, &self.plain, to)
            .map_err(|source| RegistryError::Name { registry: registry.to_owned(), source })?;
        let mut before = Vec::new();
        for endpoint in endpoints {
            if self.is_absent(&endpoint) {
                continue;
            }
            match from(&endpoint) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Stop(error)) => return Err(error),
                Err(Fault::Request(error)) if endpoint.is_mirror() => {
                    self.note(&endpoint, &error);
                    before.push((endpoint.to_string(), error));
                }
                Err(Fault::Request(source)) => {
                    let (action, endpoint, source) = (action(), endpoint.to_string(), Box::new(source));
                    return Err(RegistryError::Request { action, endpoint, before, source });
                }
            }
        }
        unreachable!("the last endpoint is the registry itself, which answers or fails")
    }

    fn origin(&self, registry: &str) -> Result<Endpoint, RegistryError> {
        Endpoint::origin(registry, &self.hosts, &self.plain)
            .map_err(|source| RegistryError::Name { registry: registry.to_owned(), source })
    }

    fn is_absent(&self, endpoint: &Endpoint) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        endpoint.is_mirror()
            && absent.get(&endpoint.to_string()).is_some_and(|since| since.elapsed() < ABSENCE)
    }

    fn note(&self, endpoint: &Endpoint, error: &RequestError) {
        if error.is_absent() {
            let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
            absent.insert(endpoint.to_string(), Instant::now());
        }
    }

    /// Repeats what fails for reasons that may pass.
    fn retrying<T>(&self, mut act: impl FnMut() -> Result<T, RequestError>) -> Result<T, RequestError> {
        let mut attempt = 1;
        loop {
            let error = match act() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(pause) = self.retry.pause(attempt, &error) else { return Err(error) };
            thread::sleep(pause);
            attempt += 1;
        }
    }

    /// One request, with one login if it is refused. Statuses that may pass are errors already.
    fn once(&self, call: &Call) -> Result<Reply, RequestError> {
        let purpose = call.purpose();
        let mut request = call.request();
        request.authorization = self.auth.header(&self.http, &purpose)?;
        let mut reply = self.http.send(&request)?;
        if reply.status == 401 && reply.is_direct {
            let used = request.authorization.take();
            if let Some(header) = self.auth.refused(&self.http, &purpose, &reply, used.as_ref())? {
                request.authorization = Some(header);
                reply = self.http.send(&request)?;
            }
        }
        self.sort_out(reply, &purpose.host)
    }

    /// Turns the statuses that mean the same for every request into errors.
    fn sort_out(&self, reply: Reply, host: &str) -> Result<Reply, RequestError> {
        let (method, url, status) = (reply.method, reply.url.to_string(), reply.status);
        if matches!(status, 401 | 403) {
            let message = self.auth.scrub(reply.into_message());
            return Err(RequestError::Unauthorized { method, url, known: self.auth.knows(host), message });
        }
        if !error::is_transient(status) {
            return Ok(reply);
        }
        let wait = reply.header("retry-after").and_then(|text| text.trim().parse().ok());
        match wait.map(Duration::from_secs) {
            Some(wait) => Err(RequestError::Busy { method, url, status, wait }),
            None => Err(self.status(reply)),
        }
    }

    fn status(&self, reply: Reply) -> RequestError {
        let (method, url, status) = (reply.method, reply.url.to_string(), reply.status);
        RequestError::Status { method, url, status, message: self.auth.scrub(reply.into_message()) }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("mirrors", &self.mirrors).finish_non_exhaustive()
    }
}

impl Call<'_> {
    /// The request, with what its endpoint wants besides.
    fn request(&self) -> Request {
        let mut request = self.request.clone();
        if request.url.origin() == self.endpoint.root().origin() {
            request.own = self.endpoint.headers().clone();
            request.tls = self.endpoint.tls();
        }
        request
    }

    fn purpose(&self) -> Purpose {
        let scope = match self.repository {
            "" => String::new(),
            repository => format!("repository:{}:{}", self.endpoint.repository(repository), self.actions),
        };
        let (host, tls) = (self.endpoint.host(), self.endpoint.tls());
        Purpose { origin: self.request.url.origin(), host, scope, tls }
    }
}

/// The answer if its status is one of these.
fn expect(client: &Client, reply: Reply, wanted: &[u16]) -> Result<Reply, RequestError> {
    if wanted.contains(&reply.status) { Ok(reply) } else { Err(client.status(reply)) }
}

/// The media type of an answer, if it says more than that it is some JSON.
fn media_type(reply: &Reply) -> Option<MediaType> {
    let text = reply.header("content-type")?.split(';').next()?.trim();
    let vague = ["", "application/json", "text/plain", "application/octet-stream"].contains(&text);
    (!vague).then(|| MediaType::from(text))
}

/// The digest of bytes by the algorithm of another, which is known.
fn hash(bytes: &[u8], like: &digest::Digest) -> digest::Digest {
    let algorithm = digest::algorithm(like).unwrap_or(digest::Algorithm::Sha256);
    let mut hasher = digest::Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}
