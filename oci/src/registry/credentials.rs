//! Who we are to a registry: docker's `config.json` and its credential helpers.
//!
//! Looked up by the registry's host, in docker's order: a helper for that host (`credHelpers`), the helper for all
//! (`credsStore`), what the file itself says (`auths`). A helper is the program `docker-credential-NAME get`, which reads
//! a server's name and writes JSON (docker-credential-helpers, "Development"). It may ask the user, so it is not hurried.
//!
//! No error and no debug text here or above shows a user's password or token: JSON errors are reduced to line and
//! column, since serde quotes what it did not like.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

/// A text that is never shown: a password, a token, a header with one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An identity token, to be exchanged for bearer tokens (OAuth 2.0 refresh token).
    Identity(Secret),
    /// A bearer token, used as it is.
    Bearer(Secret),
}

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    fixed: BTreeMap<String, Credential>,
    file: Option<PathBuf>,
    config: DockerConfig,
}

/// Why credentials could not be had.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what docker writes.
    #[error("{}:{line}:{column}: not docker's config.json", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An `auth` that is not base64 of `user:password`.
    #[error("{}: the `auth` of {registry} is not base64 of user:password", path.display())]
    Auth {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// The helper's name is not one of a program.
    #[error("`{helper}` cannot be the name of a credential helper")]
    HelperName {
        /// The name.
        helper: String,
    },
    /// The helper could not be run.
    #[error("run docker-credential-{helper}")]
    Run {
        /// The helper.
        helper: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper ended with an error, which is another than that it has nothing.
    #[error("docker-credential-{helper} for {registry}: {status}")]
    Refused {
        /// The helper.
        helper: String,
        /// The registry.
        registry: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The helper wrote something else than a credential.
    #[error("docker-credential-{helper} wrote no credential for {registry}")]
    Answer {
        /// The helper.
        helper: String,
        /// The registry.
        registry: String,
    },
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, AuthEntry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// What all helpers write, and fail, if they have nothing.
const NOTHING: &str = "credentials not found in native keychain";
/// A user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Docker Hub's key in `auths` and for helpers; the others are names that it goes by.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registries: Vec<&String> = self.auths.keys().chain(self.cred_helpers.keys()).collect();
        f.debug_struct("DockerConfig").field("registries", &registries).finish_non_exhaustive()
    }
}

impl Credentials {
    /// None: every registry is asked anonymously.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// Those of docker's configuration where the environment says it is: `$DOCKER_CONFIG`, else `~/.docker`. A file that
    /// is not there gives none.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn from_env() -> Result<Credentials, CredentialError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker"))) {
            Some(directory) => Credentials::from_file(&directory.join("config.json")),
            None => Ok(Credentials::none()),
        }
    }

    /// Those of a `config.json`. A file that is not there gives none.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn from_file(path: &Path) -> Result<Credentials, CredentialError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            fs::File::open(path)?.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Credentials::parse(path, &bytes),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Credentials::none())
            }
            Err(source) => Err(CredentialError::Read { path: path.to_owned(), source }),
        }
    }

    /// Adds a credential for one registry, `host[:port]`, before all others.
    #[must_use]
    pub fn with(mut self, registry: &str, credential: Credential) -> Credentials {
        self.fixed.insert(key(registry).to_owned(), credential);
        self
    }

    /// The credential for a registry, `host[:port]`, if there is one.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn lookup(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        if let Some(credential) = self.fixed.get(key(registry)) {
            return Ok(Some(credential.clone()));
        }
        if let Some((name, helper)) = self.config.cred_helpers.iter().find(|(name, _)| same(name, registry)) {
            return ask(helper, name);
        }
        let entry = self.config.auths.iter().find(|(name, _)| same(name, registry));
        if !self.config.creds_store.is_empty() {
            let name = match entry {
                Some((name, _)) => name,
                None if key(registry) == "docker.io" => HUB_KEY,
                None => registry,
            };
            if let Some(credential) = ask(&self.config.creds_store, name)? {
                return Ok(Some(credential));
            }
        }
        entry.map_or(Ok(None), |(name, entry)| self.decode(name, entry))
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Credentials, CredentialError> {
        let config = serde_json::from_slice(bytes).map_err(|error| CredentialError::Syntax {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Credentials { fixed: BTreeMap::new(), file: Some(path.to_owned()), config })
    }

    fn decode(&self, registry: &str, entry: &AuthEntry) -> Result<Option<Credential>, CredentialError> {
        if !entry.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer(Secret::new(&entry.registrytoken))));
        }
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity(Secret::new(&entry.identitytoken))));
        }
        if entry.auth.is_empty() {
            return Ok((!entry.username.is_empty()).then(|| password(&entry.username, &entry.password)));
        }
        let refuse = || CredentialError::Auth {
            path: self.file.clone().unwrap_or_default(),
            registry: registry.to_owned(),
        };
        let decoded = STANDARD.decode(entry.auth.trim()).map_err(|_| refuse())?;
        let text = String::from_utf8(decoded).map_err(|_| refuse())?;
        let (user, secret) = text.split_once(':').ok_or_else(refuse)?;
        Ok(Some(password(user, secret.trim_end_matches('\0'))))
    }
}

fn password(user: &str, secret: &str) -> Credential {
    if user == TOKEN_USER {
        return Credential::Identity(Secret::new(secret));
    }
    Credential::Password { user: user.to_owned(), password: Secret::new(secret) }
}

/// Whether a key of the file means the registry: `host`, `https://host`, `https://host/v1/`.
fn same(written: &str, registry: &str) -> bool {
    key(written).eq_ignore_ascii_case(key(registry))
}

/// The one name of a registry, without scheme and path.
fn key(written: &str) -> &str {
    let bare =
        written.strip_prefix("https://").or_else(|| written.strip_prefix("http://")).unwrap_or(written);
    let host = bare.split('/').next().unwrap_or_default();
    if HUB_NAMES.contains(&host) { "docker.io" } else { host }
}

/// Asks a helper for what it has under a server's name.
fn ask(helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(plain) {
        return Err(CredentialError::HelperName { helper: helper.to_owned() });
    }
    let run = |source| CredentialError::Run { helper: helper.to_owned(), source };
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says so by what it answers.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut answer = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |out| out.take(MAX_CONFIG_BYTES).read_to_end(&mut answer));
    let status = child.wait().map_err(run)?;
    read.map_err(run)?;
    let (helper, registry) = (helper.to_owned(), server.to_owned());
    if !status.success() {
        if String::from_utf8_lossy(&answer).contains(NOTHING) {
            return Ok(None);
        }
        return Err(CredentialError::Refused { helper, registry, status });
    }
    match serde_json::from_slice::<HelperAnswer>(&answer) {
        Ok(answer) => Ok(Some(password(&answer.username, &answer.secret))),
        Err(_) => Err(CredentialError::Answer { helper, registry }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Credentials {
        Credentials::parse(Path::new("config.json"), json.as_bytes()).unwrap()
    }

    fn user(name: &str, secret: &str) -> Option<Credential> {
        Some(Credential::Password { user: name.to_owned(), password: Secret::new(secret) })
    }

    #[test]
    fn docker_s_file_is_read_in_all_its_spellings() {
        // `dTpwOnc=` is `u:p:w`.
        let credentials = parsed(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "dTpwOnc="},
                "localhost:5000": {"username": "a", "password": "b"},
                "https://quay.io/v2/": {"auth": "dTpwOnc=", "identitytoken": "t"},
                "gcr.io": {"registrytoken": "bearer"},
                "ghcr.io": {}
            }, "HttpHeaders": {"x": "y"}}"#,
        );
        let found = |registry| credentials.lookup(registry).unwrap();
        for hub in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            assert_eq!(found(hub), user("u", "p:w"), "{hub}");
        }
        assert_eq!(found("localhost:5000"), user("a", "b"));
        assert_eq!(found("localhost"), None);
        assert_eq!(found("quay.io"), Some(Credential::Identity(Secret::new("t"))));
        assert_eq!(found("gcr.io"), Some(Credential::Bearer(Secret::new("bearer"))));
        assert_eq!(found("ghcr.io"), None);
    }

    #[test]
    fn given_credentials_come_first_and_a_missing_file_gives_none() {
        let credentials = Credentials::from_file(Path::new("/nonexistent/config.json")).unwrap();
        assert_eq!(credentials.lookup("x.io").unwrap(), None);
        let credentials = credentials.with("x.io", user("a", "b").unwrap());
        assert_eq!(credentials.lookup("x.io").unwrap(), user("a", "b"));
    }

    #[test]
    fn no_error_and_no_debug_text_shows_a_secret() {
        let broken = r#"{"auths": {"x.io": "hunter2"}}"#;
        let error = Credentials::parse(Path::new("c.json"), broken.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "c.json:1:28: not docker's config.json");
        let broken = parsed(r#"{"auths": {"x.io": {"auth": "hunter2"}}}"#);
        let error = broken.lookup("x.io").unwrap_err();
        assert_eq!(error.to_string(), "config.json: the `auth` of x.io is not base64 of user:password");
        let fixed = Credentials::none().with("y.io", user("u", "hunter2").unwrap());
        for text in [format!("{error:?}"), format!("{broken:?}"), format!("{fixed:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_helper_that_is_a_path_is_not_run() {
        let credentials = parsed(r#"{"credHelpers": {"x.io": "../../tmp/evil"}}"#);
        assert!(matches!(credentials.lookup("x.io"), Err(CredentialError::HelperName { .. })));
        assert_eq!(credentials.lookup("y.io").unwrap(), None);
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let credentials = parsed(r#"{"credsStore": "kit-test-nonexistent"}"#);
        let error = credentials.lookup("x.io").unwrap_err();
        assert_eq!(error.to_string(), "run docker-credential-kit-test-nonexistent");
    }
}
