//! One exchange with one server, redirects included, over two `ureq` agents (the second goes past any proxy, for this
//! machine's own addresses).
//!
//! - Plain http is spoken to this machine and to listed hosts only, and a redirect never leads from https to http.
//! - The `Authorization` header goes to the origin it was made for and is dropped at the first redirect elsewhere.
//! - Nothing waits for ever: connecting, and each single read or write, has its time.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, HeaderValue, Request as HttpRequest, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, SendBody, Timeout};

use super::credentials::Secret;
use super::error::{CONNECTING, RequestError, Transport};
use super::hosts::{Headers, Tls, TlsId};
use super::url::Url;
use super::{Options, Timeouts};

const MAX_REDIRECTS: usize = 5;
/// Identifies us to registries, which like to know.
const USER_AGENT: &str = concat!("kit/", env!("CARGO_PKG_VERSION"));

/// Sends requests.
pub(super) struct Http {
    /// By [`TlsId`]: the first is for all that have no settings of their own.
    outside: Vec<Agent>,
    loopback: Vec<Agent>,
    plain: Vec<String>,
    timeouts: Timeouts,
}

/// A request without its body.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) authorization: Option<Secret>,
    /// What is for the server that is asked, and for no other that it leads to.
    pub(super) own: Headers,
    pub(super) tls: TlsId,
}

/// An answer whose body has not been read.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) method: &'static str,
    /// Who answered in the end.
    pub(super) url: Url,
    /// Whether that is who was asked.
    pub(super) is_direct: bool,
    body: Body,
    timeouts: Timeouts,
}

/// The body of an answer, read with patience for as long as it moves.
pub(super) struct ReplyBody {
    reader: ureq::BodyReader<'static>,
    method: &'static str,
    url: String,
    timeouts: Timeouts,
    since: Instant,
    moved: u64,
}

impl Request {
    pub(super) fn new(method: &'static str, url: Url) -> Request {
        Request {
            method,
            url,
            headers: Vec::new(),
            authorization: None,
            own: Headers::default(),
            tls: TlsId::default(),
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.headers.push((name, value.into()));
        self
    }
}

impl Http {
    pub(super) fn new(options: &Options) -> Http {
        let mut plain = options.plain_http.clone();
        plain.extend(options.mirrors.iter().filter_map(super::endpoint::Mirror::plain_host));
        plain.extend(options.hosts.plain_hosts());
        let all = [Tls { roots: options.roots.clone(), verify: true }];
        let agents = |by_proxy| {
            let settings = all.iter().chain(options.hosts.tls());
            settings.map(|tls| agent(tls, options.timeouts, by_proxy)).collect()
        };
        Http { outside: agents(true), loopback: agents(false), plain, timeouts: options.timeouts }
    }

    /// Sends a request without a body and follows redirects.
    pub(super) fn send(&self, request: &Request) -> Result<Reply, RequestError> {
        let mut request = request.clone();
        let mut is_direct = true;
        for _ in 0..=MAX_REDIRECTS {
            let mut reply = self.exchange(&request, SendBody::none())?;
            reply.is_direct = is_direct;
            let follows = matches!(request.method, "GET" | "HEAD");
            if !follows || !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let target = self.redirect(&reply)?;
            if target.origin() != request.url.origin() {
                request.authorization = None;
                request.own = Headers::default();
                request.tls = TlsId::default();
                is_direct = false;
            }
            request.url = target;
        }
        Err(RequestError::Redirect { url: request.url.to_string(), reason: "too many in a row" })
    }

    /// Sends a request with a body of `size` bytes; redirects are the caller's.
    pub(super) fn send_body(
        &self,
        request: &Request,
        size: u64,
        body: &mut dyn Read,
    ) -> Result<Reply, RequestError> {
        let request = request.clone().header("content-length", size.to_string());
        self.exchange(&request, SendBody::from_reader(body))
    }

    /// Where a reply sends us.
    pub(super) fn redirect(&self, reply: &Reply) -> Result<Url, RequestError> {
        let refuse = |reason| RequestError::Redirect { url: reply.url.to_string(), reason };
        let location = reply.header("location").ok_or_else(|| refuse("it does not say where to"))?;
        let target = reply
            .url
            .join(location)
            .map_err(|source| RequestError::Address { url: reply.url.to_string(), source })?;
        if reply.url.is_https() && !target.is_https() {
            return Err(refuse("from https to http"));
        }
        Ok(target)
    }

    fn exchange(&self, request: &Request, body: SendBody) -> Result<Reply, RequestError> {
        let url = &request.url;
        let loopback = url.is_loopback();
        if !url.is_https() && !loopback && !self.plain.iter().any(|name| url.is_host(name)) {
            return Err(RequestError::PlainHttp { url: url.to_string() });
        }
        let failed =
            |source| RequestError::Transport { method: request.method, url: url.to_string(), source };
        let http = |error: &dyn std::fmt::Display| failed(Transport::Http { reason: error.to_string() });
        let mut builder = HttpRequest::builder().method(request.method).uri(url.for_the_wire());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        for (name, value) in request.own.iter() {
            builder = builder.header(name.clone(), value.clone());
        }
        if let Some(secret) = &request.authorization {
            let mut value = HeaderValue::from_str(secret.expose())
                .map_err(|_| http(&"the credential has characters that no header takes"))?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let message = builder.body(body).map_err(|_| http(&"the request cannot be written"))?;
        let agents = if loopback { &self.loopback } else { &self.outside };
        let agent = &agents[request.tls.index()];
        let (parts, body) =
            agent.run(message).map_err(|error| failed(transport(error, self.timeouts)))?.into_parts();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            method: request.method,
            url: url.clone(),
            is_direct: true,
            body,
            timeouts: self.timeouts,
        })
    }
}

fn agent(tls: &Tls, timeouts: Timeouts, by_proxy: bool) -> Agent {
    let tls = TlsConfig::builder().root_certs(tls.roots.for_tls()).disable_verification(!tls.verify).build();
    let mut config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .user_agent(USER_AGENT)
        .max_idle_connections_per_host(8)
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_per_read(Some(timeouts.idle))
        .timeout_per_write(Some(timeouts.idle));
    if !by_proxy {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Our word for an error of `ureq`, without what it may quote.
fn transport(error: ureq::Error, timeouts: Timeouts) -> Transport {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Transport::Stalled { phase: CONNECTING, after: timeouts.connect }
        }
        ureq::Error::Timeout(Timeout::PerWrite) => {
            Transport::Stalled { phase: "sending", after: timeouts.idle }
        }
        ureq::Error::Timeout(_) => Transport::Stalled { phase: "reading", after: timeouts.idle },
        ureq::Error::HostNotFound => Transport::Lookup { reason: "no address".to_owned() },
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>())
        {
            None => named(error),
            Some(_) => transport(ureq::Error::from(error), timeouts),
        },
        ureq::Error::Tls(reason) => Transport::Tls { reason: reason.to_owned() },
        ureq::Error::Rustls(error) => Transport::Tls { reason: error.to_string() },
        ureq::Error::Protocol(error) => Transport::Http { reason: error.to_string() },
        ureq::Error::ConnectProxyFailed(_) => {
            Transport::Http { reason: "the proxy does not connect".to_owned() }
        }
        ureq::Error::LargeResponseHeader(..) => {
            Transport::Http { reason: "the answer's header is too large".to_owned() }
        }
        _ => Transport::Http { reason: "the exchange did not work".to_owned() },
    }
}

/// A certificate that is not believed comes as an error of the handshake's reads, a host that is not known as one
/// that only its text tells from others.
fn named(error: io::Error) -> Transport {
    if error.kind() == io::ErrorKind::InvalidData {
        return Transport::Tls { reason: error.to_string() };
    }
    match error.to_string().strip_prefix("failed to lookup address information: ") {
        Some(reason) => Transport::Lookup { reason: reason.to_owned() },
        None => Transport::Io(error),
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of the body, in bytes.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    pub(super) fn into_body(self) -> ReplyBody {
        ReplyBody {
            reader: self.body.into_with_config().limit(u64::MAX).reader(),
            method: self.method,
            url: self.url.to_string(),
            timeouts: self.timeouts,
            since: Instant::now(),
            moved: 0,
        }
    }

    /// A whole small body.
    pub(super) fn into_bytes(self, limit: u64) -> Result<Vec<u8>, RequestError> {
        let too_large = RequestError::TooLarge { url: self.url.to_string(), limit };
        if self.length().is_some_and(|length| length > limit) && self.method != "HEAD" {
            return Err(too_large);
        }
        let deadline = Instant::now() + self.timeouts.idle * 4;
        let mut body = self.into_body();
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let count = body.read(&mut buffer)?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() as u64 > limit {
                return Err(too_large);
            }
            if Instant::now() > deadline {
                return Err(
                    body.failed(Transport::Stalled { phase: "reading", after: body.timeouts.idle * 4 })
                );
            }
        }
    }

    /// What an error's body says, short and printable: the messages of the protocol's error list, else nothing.
    pub(super) fn into_message(self) -> String {
        let Ok(bytes) = self.into_bytes(64 << 10) else { return String::new() };
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return String::new() };
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let messages: Vec<String> = match json.get("errors").and_then(|errors| errors.as_array()) {
            Some(errors) => errors
                .iter()
                .take(3)
                .filter_map(|error| {
                    let message = error.get("message").and_then(text).filter(|message| !message.is_empty());
                    message.or_else(|| error.get("code").and_then(text))
                })
                .collect(),
            None => json.get("details").or_else(|| json.get("message")).and_then(text).into_iter().collect(),
        };
        messages.join("; ").chars().filter(|character| !character.is_control()).take(200).collect()
    }
}

impl ReplyBody {
    /// Reads some bytes; none at the end. A body that hardly moves is as good as stalled.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RequestError> {
        let count = loop {
            match self.reader.read(buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(transport(ureq::Error::from(error), self.timeouts))),
            }
        };
        self.moved += count as u64;
        if self.since.elapsed() >= self.timeouts.idle {
            if self.moved < slowest(self.timeouts.idle) && count > 0 {
                return Err(self.failed(Transport::Stalled { phase: "reading", after: self.timeouts.idle }));
            }
            (self.since, self.moved) = (Instant::now(), 0);
        }
        Ok(count)
    }

    pub(super) fn failed(&self, source: Transport) -> RequestError {
        RequestError::Transport { method: self.method, url: self.url.clone(), source }
    }
}

/// The least number of bytes that must come in a period of that length: a kibibyte a second.
fn slowest(period: Duration) -> u64 {
    period.as_secs() << 10
}
