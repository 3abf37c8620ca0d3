//! Fetching one blob into a part of the store, over as many connections, attempts and mirrors as it takes.

use std::ops::ControlFlow;
use std::thread;

use super::error::{RegistryError, RequestError, Transport};
use super::hosts::Action;
use super::http::{Reply, ReplyBody, Request};
use super::{Call, Client, Endpoint, Fault, expect};
use crate::digest::Mismatch;
use crate::reference::Reference;
use crate::store::{Part, StoreError};

const BUFFER_BYTES: usize = 128 << 10;
/// Bytes that count as progress, after which attempts are counted anew.
const PROGRESS_BYTES: u64 = 64 << 10;
/// Attempts altogether at one endpoint, progress or not.
const MAX_ATTEMPTS: u32 = 200;

/// What a caller is told: how many bytes are there. It may call the fetching off.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

impl Client {
    /// Fetches what a part still lacks, and puts the blob in place. What came is kept if it may be of use to a later
    /// attempt. A blob that turns out wrong is fetched anew once if its beginning came from elsewhere: from an earlier
    /// download or another mirror.
    ///
    /// # Errors
    /// [`RegistryError`]. More bytes than the part's size, and another digest, are errors of that endpoint.
    pub fn download(
        &self,
        reference: &Reference,
        part: Box<Part>,
        watch: Watch,
    ) -> Result<(), RegistryError> {
        let digest = part.digest().clone();
        let action = || format!("fetch blob {digest} of {reference}");
        let mut slot = Some(part);
        self.ask(reference, Action::Pull, action, |endpoint| {
            loop {
                let Some(mut part) = slot.take() else { return Ok(()) };
                let is_mixed = part.length() > 0;
                let filled = self.fill(endpoint, reference, &mut part, watch);
                if let Err(fault) = filled {
                    slot = Some(part);
                    return Err(fault);
                }
                match part.commit() {
                    Ok(()) => return Ok(()),
                    Err((part, StoreError::Content { source })) => {
                        slot = Some(part);
                        if !is_mixed {
                            let url =
                                endpoint.url(reference.repository(), &format!("blobs/{digest}")).to_string();
                            return Err(Fault::Request(RequestError::Content { url, source }));
                        }
                    }
                    Err((_, source)) => return Err(stop(&digest, source)),
                }
            }
        })
    }

    /// Fills a part from one endpoint, with retries.
    fn fill(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        part: &mut Part,
        watch: Watch,
    ) -> Result<(), Fault> {
        let (mut attempt, mut total) = (1, 1);
        while part.length() < part.size() {
            let before = part.length();
            let error = match self.fill_once(endpoint, reference, part, watch) {
                Ok(()) => break,
                Err(Fault::Request(error)) => error,
                Err(stop) => return Err(stop),
            };
            if part.length() >= before.saturating_add(PROGRESS_BYTES) {
                attempt = 1;
            }
            // A mirror that is not there has others behind it.
            let give_up = total >= MAX_ATTEMPTS || endpoint.is_mirror() && error.is_absent();
            let Some(pause) = self.retry.pause(attempt, &error).filter(|_| !give_up) else {
                return Err(error.into());
            };
            thread::sleep(pause);
            attempt += 1;
            total += 1;
        }
        Ok(())
    }

    /// One attempt, from where the part is.
    fn fill_once(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        part: &mut Part,
        watch: Watch,
    ) -> Result<(), Fault> {
        let url = endpoint.url(reference.repository(), &format!("blobs/{}", part.digest()));
        let mut request = Request::new("GET", url);
        if part.length() > 0 {
            request = request.header("range", format!("bytes={}-", part.length()));
        }
        let call = Call { endpoint, repository: reference.repository(), actions: "pull", request };
        let reply = self.once(&call)?;
        let announced = reply.length();
        let reply = match (reply.status, part.length()) {
            (206, offset) if offset > 0 => {
                check_range(&reply, offset, part.size())?;
                reply
            }
            (200, 0) => reply,
            // No ranges there: the whole comes again.
            (200, _) => {
                restart(part)?;
                reply
            }
            // What we have is not a beginning of what they have.
            (416, offset) if offset > 0 => {
                restart(part)?;
                return Err(transport(reply.into_body(), Transport::Cut { expected: part.size(), found: 0 }));
            }
            _ => expect(self, reply, &[200])?,
        };
        let expected = part.size() - part.length();
        if let Some(found) = announced.filter(|found| *found != expected) {
            return Err(RequestError::Size { url: reply.url.to_string(), expected, found }.into());
        }
        receive(reply, part, watch)
    }
}

/// Reads a body into a part, to its end and not a byte further.
fn receive(reply: Reply, part: &mut Part, watch: Watch) -> Result<(), Fault> {
    let url = reply.url.to_string();
    let mut body = reply.into_body();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (expected, found) = (part.size(), part.length());
        let count = match body.read(&mut buffer) {
            Ok(0) if found == expected => return Ok(()),
            Ok(0) => return Err(transport(body, Transport::Cut { expected, found })),
            Ok(count) => count,
            Err(error) if error.is_early_end() => {
                return Err(transport(body, Transport::Cut { expected, found }));
            }
            Err(error) => return Err(error.into()),
        };
        match part.append(&buffer[..count]) {
            Ok(()) => {}
            Err(StoreError::Content { source }) => return Err(RequestError::Content { url, source }.into()),
            Err(source) => return Err(stop(part.digest(), source)),
        }
        if watch(part.length()).is_break() {
            return Err(Fault::Stop(RegistryError::CalledOff { digest: part.digest().clone() }));
        }
    }
}

/// The bytes that come must go on where ours end (RFC 9110, section 14.4).
fn check_range(reply: &Reply, offset: u64, size: u64) -> Result<(), RequestError> {
    let url = || reply.url.to_string();
    let range = reply.header("content-range").and_then(|text| text.strip_prefix("bytes ")).and_then(|text| {
        let (range, total) = text.split_once('/')?;
        Some((range.split_once('-')?.0.parse::<u64>().ok()?, total.parse::<u64>().ok()))
    });
    match range {
        Some((from, _)) if from != offset => {
            Err(RequestError::Protocol { url: url(), what: "another range than the one that was asked for" })
        }
        Some((_, Some(found))) if found != size => {
            Err(RequestError::Size { url: url(), expected: size, found })
        }
        Some(_) => Ok(()),
        None => {
            Err(RequestError::Protocol { url: url(), what: "a partial answer that does not say which part" })
        }
    }
}

fn restart(part: &mut Part) -> Result<(), Fault> {
    let digest = part.digest().clone();
    part.restart().map_err(|source| stop(&digest, source))
}

fn stop(digest: &crate::digest::Digest, source: StoreError) -> Fault {
    Fault::Stop(RegistryError::Store { digest: digest.clone(), source: Box::new(source) })
}

fn transport(body: ReplyBody, source: Transport) -> Fault {
    Fault::Request(body.failed(source))
}

/// What a wrong blob is called where no download is involved.
pub(super) fn content(url: String, mismatch: Mismatch) -> RequestError {
    RequestError::Content { url, source: Box::new(mismatch) }
}
