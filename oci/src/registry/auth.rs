//! Logging in: what each registry was found to want, and the tokens that were got for it.
//!
//! ```text
//! 401 with a challenge -> Basic:  user and password with every request
//!                      -> Bearer: ask the realm for a token for this scope (with the password, an identity token, or
//!                                 nobody's name), keep it until it expires or is refused
//! ```
//! One lock is held while a token is fetched, so that many threads fetch one token.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::{Credential, Credentials, Secret};
use super::error::RequestError;
use super::hosts::TlsId;
use super::http::{Http, Reply, Request};
use super::url::{Origin, Url, encode};

/// A registry that does not say is taken to mean a minute (distribution, "Token Authentication Specification").
const DEFAULT_LIFE_SECS: u64 = 60;
const LONGEST_LIFE_SECS: u64 = 24 * 3600;
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Knows what to send to whom.
pub(super) struct Auth {
    credentials: Credentials,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wants: HashMap<Origin, Wants>,
    tokens: HashMap<(Origin, String), Token>,
    found: HashMap<String, Option<Credential>>,
}

#[derive(Clone)]
enum Wants {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

struct Token {
    secret: Secret,
    until: Instant,
}

/// Who is asked, for what.
#[derive(Clone, Debug)]
pub(super) struct Purpose {
    pub(super) origin: Origin,
    /// The name under which its credential is kept.
    pub(super) host: String,
    /// Such as `repository:library/nginx:pull`; empty for no repository.
    pub(super) scope: String,
    /// Whose certificates are believed of it.
    pub(super) tls: TlsId,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Auth {
        Auth { credentials, state: Mutex::default() }
    }

    /// The header to send, from what is known so far.
    pub(super) fn header(&self, http: &Http, purpose: &Purpose) -> Result<Option<Secret>, RequestError> {
        let mut state = self.lock();
        let Some(wants) = state.wants.get(&purpose.origin).cloned() else { return Ok(None) };
        self.meet(http, &mut state, &wants, purpose, &purpose.scope)
    }

    /// Learns from a refusal. Returns another header than the `used` one, or none if there is none.
    pub(super) fn refused(
        &self,
        http: &Http,
        purpose: &Purpose,
        reply: &Reply,
        used: Option<&Secret>,
    ) -> Result<Option<Secret>, RequestError> {
        let url = || reply.url.to_string();
        let headers =
            reply.headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let challenge = challenge::parse(headers).ok_or_else(|| RequestError::Challenge { url: url() })?;
        let (wants, scope) = match challenge {
            Challenge::Basic => (Wants::Basic, None),
            Challenge::Bearer { realm, service, scope } => {
                let realm =
                    Url::parse(&realm).map_err(|source| RequestError::Address { url: url(), source })?;
                if purpose.origin.is_https() && !realm.is_https() {
                    return Err(RequestError::PlainHttp { url: realm.to_string() });
                }
                (Wants::Bearer { realm, service }, scope)
            }
        };
        let mut state = self.lock();
        state.wants.insert(purpose.origin.clone(), wants.clone());
        let key = (purpose.origin.clone(), purpose.scope.clone());
        if state.tokens.get(&key).is_some_and(|token| Some(&token.secret) == used) {
            state.tokens.remove(&key);
        }
        let scope = scope.unwrap_or_else(|| purpose.scope.clone());
        let header = self.meet(http, &mut state, &wants, purpose, &scope)?;
        Ok(header.filter(|header| Some(header) != used))
    }

    /// Whether there is a credential for a registry, once it was looked up.
    pub(super) fn knows(&self, host: &str) -> bool {
        self.lock().found.get(host).is_some_and(Option::is_some)
    }

    /// The text without any secret that a server may have sent back to us.
    pub(super) fn scrub(&self, text: String) -> String {
        let state = self.lock();
        let tokens = state.tokens.values().map(|token| &token.secret);
        let credentials = state.found.values().flatten().map(|credential| match credential {
            Credential::Password { password, .. } => password,
            Credential::Identity(secret) | Credential::Bearer(secret) => secret,
        });
        let bare = |secret: &Secret| secret.expose().rsplit(' ').next().unwrap_or_default().to_owned();
        let secrets: Vec<String> =
            tokens.chain(credentials).map(bare).filter(|bare| !bare.is_empty()).collect();
        let leaks = secrets.iter().any(|secret| text.contains(secret.as_str()));
        if leaks { "a message that quotes a secret".to_owned() } else { text }
    }

    fn meet(
        &self,
        http: &Http,
        state: &mut State,
        wants: &Wants,
        purpose: &Purpose,
        scope: &str,
    ) -> Result<Option<Secret>, RequestError> {
        match wants {
            Wants::Basic => Ok(match self.credential(state, &purpose.host)? {
                Some(Credential::Password { user, password }) => Some(basic(&user, &password)),
                Some(Credential::Bearer(token)) => Some(bearer(&token)),
                Some(Credential::Identity(_)) | None => None,
            }),
            Wants::Bearer { realm, service } => {
                let key = (purpose.origin.clone(), purpose.scope.clone());
                if let Some(token) = state.tokens.get(&key).filter(|token| Instant::now() < token.until) {
                    return Ok(Some(token.secret.clone()));
                }
                let credential = self.credential(state, &purpose.host)?;
                if let Some(Credential::Bearer(token)) = credential {
                    return Ok(Some(bearer(&token)));
                }
                // The registry's own settings are not for another host that gives out its tokens.
                let tls = if realm.origin() == purpose.origin { purpose.tls } else { TlsId::default() };
                let asked = Realm { url: realm, service: service.as_deref(), tls };
                let token = fetch(http, &asked, scope, credential.as_ref())?;
                let secret = token.secret.clone();
                state.tokens.insert(key, token);
                Ok(Some(secret))
            }
        }
    }

    fn credential(&self, state: &mut State, host: &str) -> Result<Option<Credential>, RequestError> {
        if let Some(found) = state.found.get(host) {
            return Ok(found.clone());
        }
        let found = self
            .credentials
            .lookup(host)
            .map_err(|source| RequestError::Credential { registry: host.to_owned(), source })?;
        state.found.insert(host.to_owned(), found.clone());
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}

fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.expose()))
}

/// Who gives out tokens.
struct Realm<'a> {
    url: &'a Url,
    service: Option<&'a str>,
    tls: TlsId,
}

/// Asks a realm for a token.
fn fetch(
    http: &Http,
    realm: &Realm,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<Token, RequestError> {
    let asked = Instant::now();
    let reply = if let Some(Credential::Identity(identity)) = credential {
        exchange_identity(http, realm, scope, identity)?
    } else {
        let mut url = realm.url.clone();
        for (key, value) in [("service", realm.service), ("scope", Some(scope))] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                url = url.with(key, value);
            }
        }
        let mut request = Request::new("GET", url);
        request.tls = realm.tls;
        if let Some(Credential::Password { user, password }) = credential {
            request.authorization = Some(basic(user, password));
        }
        http.send(&request)?
    };
    let (method, url, status) = (reply.method, reply.url.to_string(), reply.status);
    match status {
        200 => {}
        401 | 403 => {
            let (known, message) = (credential.is_some(), String::new());
            return Err(RequestError::Unauthorized { method, url, known, message });
        }
        _ => return Err(RequestError::Status { method, url, status, message: String::new() }),
    }
    let bytes = reply.into_bytes(MAX_TOKEN_BYTES)?;
    let answer: Option<TokenAnswer> = serde_json::from_slice(&bytes).ok();
    let expires_in = answer.as_ref().and_then(|answer| answer.expires_in).unwrap_or(DEFAULT_LIFE_SECS);
    let token = answer
        .and_then(|answer| answer.token.filter(|token| !token.is_empty()).or(answer.access_token))
        .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(RequestError::Token { url })?;
    let life = expires_in.min(LONGEST_LIFE_SECS);
    // A token that is about to expire may do so on its way.
    let until = asked + Duration::from_secs(life - (life / 4).min(10));
    Ok(Token { secret: bearer(&Secret::new(token)), until })
}

/// Exchanges an identity token for a bearer token (distribution, "OAuth2 Token Authentication").
fn exchange_identity(
    http: &Http,
    realm: &Realm,
    scope: &str,
    identity: &Secret,
) -> Result<Reply, RequestError> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "kit"),
        ("service", realm.service.unwrap_or_default()),
        ("scope", scope),
        ("refresh_token", identity.expose()),
    ]
    .map(|(key, value)| format!("{key}={}", encode(value)))
    .join("&");
    let mut request =
        Request::new("POST", realm.url.clone()).header("content-type", "application/x-www-form-urlencoded");
    request.tls = realm.tls;
    http.send_body(&request, form.len() as u64, &mut form.as_bytes())
}
