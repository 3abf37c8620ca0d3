//! Image references, as people write them and as everything else uses them.
//!
//! The grammar and docker's normalising (`nginx` is `docker.io/library/nginx:latest`) are `oci_spec`'s. This type is
//! its thin proof: it exists only for text that passed the grammar and the rules which that grammar leaves open (lower
//! case repository and digest, a digest of a known algorithm, no bare image ID), so that a registry URL or an error can
//! be built from its parts as they are.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::ParseError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{self, Digest, DigestError};

/// A normalised image reference: registry, repository, and a tag, a digest or both. Where both are given, the digest
/// says what is meant and the tag is only kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// A text that is no image reference.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// The grammar does not match.
    #[error("`{text}` is no image reference")]
    Malformed {
        /// What was read.
        text: String,
        /// Why, where the grammar can say so.
        #[source]
        source: ParseError,
    },
    /// The repository has an upper case letter.
    #[error("`{text}` is no image reference: the repository `{repository}` must be in lower case")]
    UpperCase {
        /// What was read.
        text: String,
        /// The part that is wrong.
        repository: String,
    },
    /// 64 hexadecimal digits, which is how image IDs look.
    #[error("`{text}` is an image ID and not a reference")]
    ImageId {
        /// What was read.
        text: String,
    },
    /// The digest is not usable.
    #[error("`{text}` has no usable digest")]
    Digest {
        /// What was read.
        text: String,
        /// Why.
        #[source]
        source: DigestError,
    },
    /// The text is longer than any reference.
    #[error("an image reference of {length} bytes (at most {MAX_LENGTH} are read)")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Registry (255) and repository (255), tag (128), sha512 digest (135), separators: more is no reference.
const MAX_LENGTH: usize = 1024;

impl Reference {
    /// The registry's name as written, with its port; `docker.io` if none was.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.as_deref().and_then(|text| digest::parse(text).ok())
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn identifier(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same repository at another digest, without a tag.
    pub fn at(&self, digest: &Digest) -> Reference {
        Reference {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest.to_string()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_LENGTH {
            return Err(ReferenceError::TooLong { length: text.len() });
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::ImageId { text: text.to_owned() });
        }
        // Before it is looked at: `Docker.io/nginx` is as short for `library/nginx` as `docker.io/nginx` is.
        let lower = text.split_once('/').map(|(host, rest)| format!("{}/{rest}", host.to_ascii_lowercase()));
        let is_host = |parsed: &oci_spec::distribution::Reference| {
            text.split_once('/').is_some_and(|(host, _)| parsed.registry() == host)
        };
        let parse = |text: &str| oci_spec::distribution::Reference::try_from(text);
        let parsed = match (parse(text), lower) {
            (Ok(parsed), Some(lower)) if is_host(&parsed) => parse(&lower),
            (parsed, _) => parsed,
        };
        let parsed = parsed.map_err(|source| ReferenceError::Malformed { text: text.to_owned(), source })?;
        if parsed.repository().bytes().any(|byte| byte.is_ascii_uppercase()) {
            let repository = parsed.repository().to_owned();
            return Err(ReferenceError::UpperCase { text: text.to_owned(), repository });
        }
        if let Some(digest) = parsed.digest() {
            digest::parse(digest)
                .map_err(|source| ReferenceError::Digest { text: text.to_owned(), source })?;
        }
        Ok(Reference {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest: parsed.digest().map(str::to_owned),
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    /// The whole reference: `registry/repository[:tag][@digest]`. Parsing it gives the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_become_whole_ones() {
        for (written, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("linuxkit/init:v1", "docker.io/linuxkit/init:v1"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("LOCALHOST:5000/a/b:T", "localhost:5000/a/b:T"),
            ("Docker.io/nginx", "docker.io/library/nginx:latest"),
            ("Index.Docker.io/nginx", "docker.io/library/nginx:latest"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("ghcr.io/o/p/q:1", "ghcr.io/o/p/q:1"),
        ] {
            assert_eq!(written.parse::<Reference>().unwrap().to_string(), whole, "{written}");
        }
        let by_digest: Reference = format!("busybox@sha256:{HEX}").parse().unwrap();
        assert_eq!(by_digest.to_string(), format!("docker.io/library/busybox@sha256:{HEX}"));
        assert_eq!((by_digest.tag(), by_digest.identifier()), (None, format!("sha256:{HEX}").as_str()));
        let both: Reference = format!("busybox:1@sha256:{HEX}").parse().unwrap();
        assert_eq!((both.tag(), both.identifier()), (Some("1"), format!("sha256:{HEX}").as_str()));
    }

    #[test]
    fn what_is_no_reference_is_refused_by_name() {
        for text in [
            "",
            "a b",
            "UPPER/name",
            "localhost:5000/Name",
            "-x",
            "x:",
            "x@",
            "x/../y",
            "x//y",
            "x:tag:tag",
            "https://docker.io/x",
            "x?y",
            "x#y",
            "x%2fy",
            "x\ny",
            "x@sha256:abc",
            "x@md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("x@sha256:{}", HEX.to_uppercase()),
            HEX,
            &"a".repeat(2000),
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_shows_the_text_and_its_reason() {
        let error = "Localhost:5000/Name".parse::<Reference>().unwrap_err();
        assert!(error.to_string().contains("`Localhost:5000/Name`"), "{error}");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(text in "\\PC{0,80}|[a-zA-Z0-9./:@_-]{0,90}|([Dd]ocker[.]io|INDEX[.]docker[.]io|LocalHost|a[.]B:1)/[a-z]{1,3}(/[a-z])?(:[A-z])?") {
            if let Ok(reference) = text.parse::<Reference>() {
                let whole = reference.to_string();
                prop_assert_eq!(whole.parse::<Reference>().unwrap(), reference.clone());
                prop_assert!(whole.is_ascii() && !whole.contains(['?', '#', '%', ' ', '\\']));
                prop_assert!(!reference.repository().split('/').any(|part| part.is_empty() || part == ".."));
                let json = serde_json::to_string(&reference).unwrap();
                prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
            }
        }
    }
}
