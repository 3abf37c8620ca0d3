//! What goes wrong between a registry and us. No text here shows a password, a token or a signed address.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::credentials::CredentialError;
use super::url::UrlError;
use crate::digest::{Digest, Mismatch};
use crate::manifest::ManifestError;
use crate::store::StoreError;

/// Why a registry, with all its mirrors, did not serve.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// Nobody served. The source is what the last one asked said, which is the registry itself.
    #[error("{action} from {endpoint}{}", mirrors(before))]
    Request {
        /// What was being done, to which reference or digest.
        action: String,
        /// Who was asked last.
        endpoint: String,
        /// The mirrors that were asked before, each with what it said.
        before: Vec<(String, RequestError)>,
        /// What the last one said.
        #[source]
        source: Box<RequestError>,
    },
    /// The registry's name is not one of a host.
    #[error("ask the registry `{registry}`")]
    Name {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: UrlError,
    },
    /// The store here could not keep or give the blob.
    #[error("use the store for blob {digest}")]
    Store {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// Who waits for it does not want it any more.
    #[error("fetching blob {digest} was called off")]
    CalledOff {
        /// The blob.
        digest: Digest,
    },
}

fn mirrors(before: &[(String, RequestError)]) -> String {
    let said: Vec<String> =
        before.iter().map(|(mirror, error)| format!("{mirror}: {}", chain(error))).collect();
    if said.is_empty() { String::new() } else { format!(" (mirrors before: {})", said.join("; ")) }
}

/// An error with its causes on one line, for where several are listed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl RegistryError {
    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        let RegistryError::Request { source, .. } = self else { return false };
        matches!(**source, RequestError::Status { status: 404, .. })
    }

    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            RegistryError::Request { source, .. } => source,
            RegistryError::Store { source, .. } => return source.hint(),
            _ => return None,
        };
        match &**source {
            RequestError::Unauthorized { known: false, .. } => {
                Some("log in to the registry, as with docker login")
            }
            RequestError::Unauthorized { known: true, .. } => Some(
                "the registry does not take the credential of docker's config.json for this; log in again",
            ),
            RequestError::Status { status: 404, .. } => {
                Some("check the name and the tag; private images need a login")
            }
            RequestError::Busy { .. } => Some("wait, log in for a higher limit, or use a mirror"),
            RequestError::PlainHttp { .. } => Some("list the host as one for plain http if that is meant"),
            RequestError::Transport { source: Transport::Lookup { .. }, .. } => {
                Some("check the registry's name and the network; with everything in the store, build offline")
            }
            _ => None,
        }
    }
}

/// Why one request was not served.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The answer did not come, or not whole.
    #[error("{method} {url}")]
    Transport {
        /// The method.
        method: &'static str,
        /// The address, without its query.
        url: String,
        /// Why.
        #[source]
        source: Transport,
    },
    /// The answer is an error.
    #[error("{method} {url}: status {status}{}", said(message))]
    Status {
        /// The method.
        method: &'static str,
        /// The address, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says, in short, if it says something.
        message: String,
    },
    /// The registry is, or says that it is, too busy, for longer than we wait.
    #[error("{method} {url}: status {status}, to be tried again in {} s", wait.as_secs())]
    Busy {
        /// The method.
        method: &'static str,
        /// The address, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How long it wants us to wait.
        wait: Duration,
    },
    /// The registry does not let us.
    #[error("{method} {url}: not allowed {}{}", if *known { "with the credential that is known" } else { "without a login" }, said(message))]
    Unauthorized {
        /// The method.
        method: &'static str,
        /// The address, without its query.
        url: String,
        /// Whether a credential was known.
        known: bool,
        /// What the registry says, in short, if it says something.
        message: String,
    },
    /// A redirect that is not followed.
    #[error("{url}: a redirect that is not followed: {reason}")]
    Redirect {
        /// Who redirected.
        url: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// An address in an answer is not usable.
    #[error("{url}: an address in the answer is not usable")]
    Address {
        /// Who answered.
        url: String,
        /// Why.
        #[source]
        source: UrlError,
    },
    /// A host to which TLS must be spoken.
    #[error("{url}: plain http is for this machine and listed hosts only")]
    PlainHttp {
        /// The address.
        url: String,
    },
    /// The registry wants a login in a way that is not known here.
    #[error("{url}: wants a login in an unknown way")]
    Challenge {
        /// The address.
        url: String,
    },
    /// The credential could not be had.
    #[error("find the credential for {registry}")]
    Credential {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
    /// The token server's answer has no usable token.
    #[error("{url}: no usable token in the answer")]
    Token {
        /// The address.
        url: String,
    },
    /// The answer lacks what the protocol demands, or has it wrong.
    #[error("{url}: {what}")]
    Protocol {
        /// The address.
        url: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The answer is of another size than the descriptor says.
    #[error("{url}: {found} bytes are announced (want {expected})")]
    Size {
        /// The address.
        url: String,
        /// What the descriptor says.
        expected: u64,
        /// What the registry says.
        found: u64,
    },
    /// The answer is larger than what is taken.
    #[error("{url}: more than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// What is taken, in bytes.
        limit: u64,
    },
    /// The bytes are not what the digest says.
    #[error("{url}: wrong content")]
    Content {
        /// The address.
        url: String,
        /// In what way.
        #[source]
        source: Box<Mismatch>,
    },
    /// The manifest is not taken.
    #[error("{url}: an unusable manifest")]
    Manifest {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// Why an answer did not come.
#[derive(Debug, Error)]
pub enum Transport {
    /// Nothing happened for too long.
    #[error("nothing for {} ms while {phase}", after.as_millis())]
    Stalled {
        /// What was being done.
        phase: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The body ended early.
    #[error("cut off after {found} of {expected} bytes")]
    Cut {
        /// Bytes expected.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The host's name has no address, or nobody can be asked for it.
    #[error("look up the host's address: {reason}")]
    Lookup {
        /// Why.
        reason: String,
    },
    /// The certificate or the TLS protocol.
    #[error("TLS: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// HTTP that is not understood.
    #[error("HTTP: {reason}")]
    Http {
        /// Why.
        reason: String,
    },
    /// The network.
    #[error(transparent)]
    Io(io::Error),
}

impl Transport {
    /// Whether another attempt may fare better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Transport::Stalled { .. } | Transport::Cut { .. } | Transport::Http { .. } => true,
            Transport::Lookup { .. } | Transport::Tls { .. } => false,
            Transport::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        }
    }

    /// Whether nobody answers there at all.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Transport::Lookup { .. } => true,
            Transport::Stalled { phase, .. } => *phase == CONNECTING,
            Transport::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            _ => false,
        }
    }
}

/// The phase before there is a connection.
pub(super) const CONNECTING: &str = "connecting";

impl RequestError {
    pub(super) fn is_transient(&self) -> bool {
        match self {
            RequestError::Transport { source, .. } => source.is_transient(),
            RequestError::Status { status, .. } => is_transient(*status),
            RequestError::Busy { .. } => true,
            _ => false,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, RequestError::Transport { source, .. } if source.is_absent())
    }

    /// Whether a body ended before its announced length.
    pub(super) fn is_early_end(&self) -> bool {
        let RequestError::Transport { source: Transport::Io(error), .. } = self else { return false };
        error.kind() == io::ErrorKind::UnexpectedEof
    }
}

/// Whether a status says that another attempt may fare better.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}
