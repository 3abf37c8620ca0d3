//! Putting blobs and manifests into a registry, monolithically (distribution-spec, "Pushing"). Mirrors take no part.

use std::io::Read;

use oci_spec::image::{Descriptor, MediaType};

use super::error::{RegistryError, RequestError};
use super::hosts::Action;
use super::http::{Reply, Request};
use super::url::Url;
use super::{Call, Client, Endpoint, Fault, expect};
use crate::digest::{Digest, Mismatch};
use crate::reference::Reference;
use crate::store::StoreError;

const ACTIONS: &str = "pull,push";

/// Opens the content of a blob anew for each attempt.
pub type Open<'a> = &'a dyn Fn() -> Result<Box<dyn Read + 'a>, StoreError>;

impl Client {
    /// Whether the registry has a blob in the repository of a reference.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn has_blob(&self, reference: &Reference, blob: &Descriptor) -> Result<bool, RegistryError> {
        let digest = blob.digest();
        self.tell(
            reference,
            || format!("look for blob {digest} of {reference}"),
            |endpoint| {
                let found = self.retrying(|| {
                    let what = format!("blobs/{digest}");
                    let reply = self.once(&call(
                        endpoint,
                        reference,
                        "HEAD",
                        endpoint.url(reference.repository(), &what),
                    ))?;
                    if reply.status == 404 {
                        return Ok(false);
                    }
                    let reply = expect(self, reply, &[200])?;
                    // A blob of another size is not ours, whatever the registry calls it.
                    Ok(reply.length().is_none_or(|length| length == blob.size()))
                });
                Ok(found?)
            },
        )
    }

    /// Puts a blob into the repository of a reference. `open` gives its content, which is sent while it is verified: a
    /// registry commits it only if the digest is right.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        open: Open,
    ) -> Result<(), RegistryError> {
        let digest = blob.digest();
        self.tell(
            reference,
            || format!("push blob {digest} of {reference}"),
            |endpoint| {
                let mut stopped = None;
                let sent = self.retrying(|| {
                    let mut content = match open() {
                        Ok(content) => content,
                        Err(error) => {
                            stopped = Some(error);
                            return Ok(());
                        }
                    };
                    let session = self.begin_upload(endpoint, reference)?;
                    let url = session.with("digest", digest.as_ref());
                    let request = Request::new("PUT", url).header("content-type", "application/octet-stream");
                    self.put(endpoint, reference, request, blob.size(), digest, &mut content).map(drop)
                });
                match (sent, stopped) {
                    (_, Some(source)) => Err(stop(digest, source)),
                    (Err(RequestError::Content { source, .. }), _) => Err(stop(digest, (*source).into())),
                    (sent, None) => Ok(sent?),
                }
            },
        )
    }

    /// Puts a manifest or an index under the reference's tag or digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn put_manifest(
        &self,
        reference: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        self.tell(
            reference,
            || format!("push the manifest of {reference}"),
            |endpoint| {
                let digest = crate::digest::of(bytes);
                let what = format!("manifests/{}", reference.identifier());
                let sent = self.retrying(|| {
                    let url = endpoint.url(reference.repository(), &what);
                    let request = Request::new("PUT", url).header("content-type", media_type.to_string());
                    self.put(endpoint, reference, request, bytes.len() as u64, &digest, &mut &bytes[..])
                        .map(drop)
                });
                Ok(sent?)
            },
        )
    }

    /// Opens an upload; where its content goes is in the answer.
    fn begin_upload(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Url, RequestError> {
        let url = endpoint.url(reference.repository(), "blobs/uploads/");
        let mut call = call(endpoint, reference, "POST", url);
        call.request = call.request.header("content-length", "0");
        let reply = expect(self, self.once(&call)?, &[202])?;
        self.http.redirect(&reply)
    }

    /// Sends a body, with one login if it is refused.
    fn put(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        mut request: Request,
        size: u64,
        digest: &Digest,
        content: &mut dyn Read,
    ) -> Result<Reply, RequestError> {
        let own = request.url.origin() == endpoint.root().origin();
        let purpose =
            Call { request: request.clone(), ..call(endpoint, reference, "PUT", request.url.clone()) }
                .purpose();
        if own {
            request.own = endpoint.headers().clone();
            request.tls = endpoint.tls();
            request.authorization = self.auth.header(&self.http, &purpose)?;
        }
        let mut watched = Watched { inner: content, failed: None };
        let sent = self.http.send_body(&request, size, &mut watched);
        if let Some(mismatch) = watched.failed {
            return Err(super::download::content(request.url.to_string(), mismatch));
        }
        let reply = sent?;
        if reply.status == 401 && own {
            // The body is spent: learn, and let the next attempt send it.
            self.auth.refused(&self.http, &purpose, &reply, request.authorization.as_ref())?;
        }
        let reply = expect(self, self.sort_out(reply, &purpose.host)?, &[201])?;
        match reply.header("docker-content-digest") {
            Some(stored) if stored != digest.as_ref() && stored.starts_with("sha256:") => {
                Err(RequestError::Protocol {
                    url: reply.url.to_string(),
                    what: "stored under another digest",
                })
            }
            _ => Ok(reply),
        }
    }

    /// Does something at the first place that takes what is pushed: the registry itself, unless another is configured.
    fn tell<T>(
        &self,
        reference: &Reference,
        action: impl Fn() -> String,
        act: impl FnOnce(&Endpoint) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let registry = reference.registry();
        let endpoints = Endpoint::of(registry, &self.mirrors, &self.hosts, &self.plain, Action::Push)
            .map_err(|source| RegistryError::Name { registry: registry.to_owned(), source })?;
        let endpoint = &endpoints[0];
        act(endpoint).map_err(|fault| match fault {
            Fault::Stop(error) => error,
            Fault::Request(source) => RegistryError::Request {
                action: action(),
                endpoint: endpoint.to_string(),
                before: Vec::new(),
                source: Box::new(source),
            },
        })
    }
}

/// Remembers that the content turned out wrong, which the exchange itself reports as a failed body only.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    failed: Option<Mismatch>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let result = self.inner.read(buffer);
        if let Some(mismatch) = result.as_ref().err().and_then(Mismatch::inside) {
            self.failed = Some(mismatch.clone());
        }
        result
    }
}

fn call<'a>(endpoint: &'a Endpoint, reference: &'a Reference, method: &'static str, url: Url) -> Call<'a> {
    let request = Request::new(method, url);
    Call { endpoint, repository: reference.repository(), actions: ACTIONS, request }
}

fn stop(digest: &Digest, source: StoreError) -> Fault {
    Fault::Stop(RegistryError::Store { digest: digest.clone(), source: Box::new(source) })
}
