//! What a client holds: an address and the rest of the terms, with the moments at which something is due.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::option::ClasslessRoute;
use super::reply::Terms;
use crate::clock::Time;
use crate::ipv4::Cidr;

/// A lease; what is stored under /run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The address, with its network's prefix.
    pub address: Cidr,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// When the request that was granted was sent: a lease counts from there (RFC 2131 4.4.1).
    pub acquired: Time,
    /// When what is due; none for a lease without end.
    pub term: Option<Term>,
    /// Routes to set while it lasts.
    pub routes: Vec<ClasslessRoute>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Search domains.
    pub search: Vec<String>,
    /// MTU for the interface.
    pub mtu: Option<u16>,
    /// A name for this host.
    pub hostname: Option<String>,
}

/// The moments of a lease that ends; acquired < T1 <= T2 < the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// T1: from here on the server that gave it is asked for more time.
    pub renew: Time,
    /// T2: from here on any server is asked.
    pub rebind: Time,
    /// The end: from here on the address is not ours.
    pub end: Time,
}

impl Lease {
    /// A lease on these terms, asked for at `acquired`.
    ///
    /// T1 and T2 are the server's if they are in order, else 1/2 and 7/8 of the duration (RFC 2131 4.4.5). T1 is
    /// brought forward by up to 1/16 of itself, by `random`, so that nodes started together do not renew together.
    #[must_use]
    pub fn new(terms: Terms, acquired: Time, random: u32) -> Self {
        let term = terms.duration.map(|duration| {
            let (renew, rebind) = match (terms.renew_after, terms.rebind_after) {
                (Some(t1), Some(t2)) if !t1.is_zero() && t1 < t2 && t2 < duration => (t1, t2),
                _ => (duration / 2, duration * 7 / 8),
            };
            let early = renew / 16 * (random % 1024) / 1024;
            Term { renew: acquired + (renew - early), rebind: acquired + rebind, end: acquired + duration }
        });
        Self {
            address: terms.address,
            server: terms.server,
            acquired,
            term,
            routes: terms.routes,
            dns: terms.dns,
            search: terms.search,
            mtu: terms.mtu,
            hostname: terms.hostname,
        }
    }

    /// Whether the lease is over.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        self.term.is_some_and(|term| now >= term.end)
    }

    /// What is left of it; none for a lease without end.
    #[must_use]
    pub fn left(&self, now: Time) -> Option<Duration> {
        self.term.map(|term| term.end - now)
    }
}
