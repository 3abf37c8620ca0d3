//! The few things that are done with an address here. Pure.
//!
//! Addresses come from references, options, redirects, challenges and `Location` headers; the last three are hostile.
//! Shown and debugged without their query, since a signed address is a key.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// An absolute address, without user, password or fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: Scheme,
    /// In lower case; an IPv6 address in its brackets.
    host: String,
    port: u16,
    /// Begins with a slash.
    path: String,
    query: Option<String>,
}

/// What credentials and connections belong to: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(Scheme, String, u16);

/// A text that is no usable address. Does not show the text, which may hold a key.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// Neither http nor https.
    #[error("the address is neither http:// nor https://")]
    Scheme,
    /// No usable host or port.
    #[error("the address has no usable host and port")]
    Authority,
    /// A user or a password in it.
    #[error("the address has a user or a password in it; they belong into docker's config.json")]
    Credentials,
    /// A character that no address has.
    #[error("the address has a character that is not allowed in one")]
    Character,
    /// Longer than any server takes.
    #[error("the address is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

const MAX_LENGTH: usize = 16 << 10;

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Url {
    /// Reads an absolute address.
    pub(crate) fn parse(text: &str) -> Result<Url, UrlError> {
        check(text)?;
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, port) = authority(&rest[..end], scheme)?;
        let mut url = Url { scheme, host, port, path: "/".to_owned(), query: None };
        url.set_target(&rest[end..]);
        Ok(url)
    }

    /// The address of a registry's name, `host[:port]`.
    pub(crate) fn of_host(scheme: Scheme, name: &str) -> Result<Url, UrlError> {
        check(name)?;
        let (host, port) = authority(name, scheme)?;
        Ok(Url { scheme, host, port, path: "/".to_owned(), query: None })
    }

    /// The address that a `Location` of an answer from this one means (RFC 3986, section 5.2, without dot segments).
    pub(crate) fn join(&self, location: &str) -> Result<Url, UrlError> {
        check(location)?;
        let scheme_end = location.find(':').filter(|colon| {
            let name = &location[..*colon];
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        if scheme_end.is_some() {
            return Url::parse(location);
        }
        if location.starts_with("//") {
            return Url::parse(&format!("{}:{location}", self.scheme.name()));
        }
        let mut url = self.clone();
        if location.starts_with('/') {
            url.set_target(location);
        } else if location.starts_with('?') {
            url.set_target(&format!("{}{location}", self.path));
        } else {
            let directory = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
            url.set_target(&format!("{directory}{location}"));
        }
        Ok(url)
    }

    /// The same host with another path.
    pub(crate) fn with_path(&self, path: &str) -> Url {
        Url { path: path.to_owned(), query: None, ..self.clone() }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The same address with this path below its own.
    pub(crate) fn below(&self, path: &str) -> Url {
        let path = format!("{}/{path}", self.path.trim_end_matches('/'));
        Url { path, query: None, ..self.clone() }
    }

    /// The same address with one more query parameter, encoded.
    pub(crate) fn with(&self, key: &str, value: &str) -> Url {
        let mut query = self.query.clone().map_or(String::new(), |query| query + "&");
        query.push_str(&encode(key));
        query.push('=');
        query.push_str(&encode(value));
        Url { query: Some(query), ..self.clone() }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin(self.scheme, self.host.clone(), self.port)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// `host[:port]`, the port if it is not the scheme's.
    pub(crate) fn host_and_port(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the host is this machine by its very name: `localhost`, 127.0.0.0/8 or ::1.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare.ends_with(".localhost")
            || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether `name` is this host, with its port or for every port.
    pub(crate) fn is_host(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name == self.host || name == format!("{}:{}", self.host, self.port)
    }

    /// The whole address, with what may be a key: for the wire only.
    pub(crate) fn for_the_wire(&self) -> String {
        match &self.query {
            Some(query) => format!("{self}?{query}"),
            None => self.to_string(),
        }
    }

    fn set_target(&mut self, target: &str) {
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        self.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        self.query = query;
    }
}

impl Origin {
    pub(crate) fn is_https(&self) -> bool {
        self.0 == Scheme::Https
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.host_and_port(), self.path)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin(scheme, host, port) = self;
        write!(f, "{}://{host}", scheme.name())?;
        if *port == scheme.port() { Ok(()) } else { write!(f, ":{port}") }
    }
}

fn check(text: &str) -> Result<(), UrlError> {
    if text.len() > MAX_LENGTH {
        return Err(UrlError::TooLong);
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        Ok(())
    } else {
        Err(UrlError::Character)
    }
}

fn authority(text: &str, scheme: Scheme) -> Result<(String, u16), UrlError> {
    if text.contains('@') {
        return Err(UrlError::Credentials);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
            (host, port.ok_or(UrlError::Authority)?)
        }
        _ => (text, scheme.port()),
    };
    let name = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name(host),
    };
    if valid { Ok((host.to_ascii_lowercase(), port)) } else { Err(UrlError::Authority) }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn addresses_are_read_and_written() {
        for (text, wire) in [
            ("https://Example.COM", "https://example.com/"),
            ("https://example.com:443/a", "https://example.com/a"),
            ("http://example.com:443/a", "http://example.com:443/a"),
            ("HTTP://[::1]:5000/a?b=c#d", "http://[::1]:5000/a?b=c"),
            ("http://h?x=y", "http://h/?x=y"),
        ] {
            assert_eq!(url(text).for_the_wire(), wire);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, error) in [
            ("ftp://x/", UrlError::Scheme),
            ("example.com", UrlError::Scheme),
            ("https://", UrlError::Authority),
            ("https://:80", UrlError::Authority),
            ("https://h:0", UrlError::Authority),
            ("https://h:99999", UrlError::Authority),
            ("https://h:+80", UrlError::Authority),
            ("https://[::g]", UrlError::Authority),
            ("https://u:p@h/", UrlError::Credentials),
            ("https://h/a b", UrlError::Character),
            ("https://h/a\r\nX: y", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_location_is_joined_to_the_address_that_gave_it() {
        let base = url("https://r.example:5000/v2/a/blobs/uploads/?x=1");
        for (location, wire) in [
            ("/v2/u?s=1", "https://r.example:5000/v2/u?s=1"),
            ("//cdn.example/b", "https://cdn.example/b"),
            ("http://cdn.example/b", "http://cdn.example/b"),
            ("id", "https://r.example:5000/v2/a/blobs/uploads/id"),
            ("?y=2", "https://r.example:5000/v2/a/blobs/uploads/?y=2"),
        ] {
            assert_eq!(base.join(location).unwrap().for_the_wire(), wire, "{location}");
        }
        assert_eq!(base.join("file:///etc/passwd"), Err(UrlError::Scheme));
        assert_eq!(base.join("//u@h/"), Err(UrlError::Credentials));
    }

    #[test]
    fn parameters_are_encoded() {
        let token = url("https://a/t").with("service", "r.io").with("scope", "repository:a/b:pull,push");
        assert_eq!(token.for_the_wire(), "https://a/t?service=r.io&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(Url::of_host(Scheme::Http, host).unwrap().is_loopback(), "{host}");
        }
        for host in ["localhost.example.com", "127.0.0.1.example.com", "128.0.0.1", "[::2]", "notlocalhost"] {
            assert!(!Url::of_host(Scheme::Http, host).unwrap().is_loopback(), "{host}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_not_shown() {
        let signed = url("https://s3.example/b?X-Amz-Signature=hunter2");
        assert_eq!(format!("{signed} {signed:?}"), "https://s3.example/b https://s3.example/b");
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics_and_what_is_read_is_stable(text in "(https?://)?[ -~]{0,60}|\\PC{0,20}") {
            if let Ok(read) = Url::parse(&text) {
                prop_assert_eq!(Url::parse(&read.for_the_wire()).unwrap(), read);
            }
            if let Ok(joined) = url("https://h/a/b?c").join(&text) {
                prop_assert_eq!(Url::parse(&joined.for_the_wire()).unwrap(), joined);
            }
        }
    }
}
