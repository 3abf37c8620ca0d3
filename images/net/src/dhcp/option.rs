//! The options that are used, and what is inside them.
//!
//! Each reader takes the bytes of a whole option. Where a list has a bad entry, that entry alone is left out
//! ([`addresses`], [`search`]); routes are all or nothing, since half a routing table is worse than none.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::domain;
use crate::ipv4::{self, Cidr};

/// Subnet mask (RFC 2132 3.3).
pub const SUBNET_MASK: u8 = 1;
/// Routers, best first (3.5).
pub const ROUTERS: u8 = 3;
/// Name servers (3.8).
pub const DNS: u8 = 6;
/// Host name (3.14).
pub const HOSTNAME: u8 = 12;
/// Domain name (3.17).
pub const DOMAIN: u8 = 15;
/// Interface MTU (5.1).
pub const MTU: u8 = 26;
/// Requested address (9.1).
pub const REQUESTED_ADDRESS: u8 = 50;
/// Lease time in seconds (9.2).
pub const LEASE_TIME: u8 = 51;
/// Message type (9.6).
pub const MESSAGE_TYPE: u8 = 53;
/// Server identifier (9.7).
pub const SERVER: u8 = 54;
/// Options the client would like (9.8).
pub const PARAMETERS: u8 = 55;
/// A server's words to a NAK (9.9).
pub const TEXT: u8 = 56;
/// Longest message the client reads (9.10).
pub const MAX_SIZE: u8 = 57;
/// T1 in seconds (9.11).
pub const RENEWAL_TIME: u8 = 58;
/// T2 in seconds (9.12).
pub const REBINDING_TIME: u8 = 59;
/// Client identifier (9.14).
pub const CLIENT_ID: u8 = 61;
/// Domain search list (RFC 3397).
pub const SEARCH: u8 = 119;
/// Classless static routes (RFC 3442).
pub const CLASSLESS_ROUTES: u8 = 121;

/// Name servers and search domains beyond these are left out; resolvers read three and six.
const MAX_LIST: usize = 8;
/// A table with more routes is not believed.
const MAX_ROUTES: usize = 64;

/// A number of four bytes.
#[must_use]
pub fn u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A number of two bytes.
#[must_use]
pub fn u16(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.try_into().ok()?))
}

/// One address.
#[must_use]
pub fn address(value: &[u8]) -> Option<Ipv4Addr> {
    u32(value).map(Ipv4Addr::from)
}

/// A list of unicast addresses; others and a torn last one are left out, repeated ones too.
#[must_use]
pub fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    let mut list = Vec::new();
    for found in value.chunks_exact(4).filter_map(address).filter(|a| ipv4::is_unicast(*a)) {
        if list.len() < MAX_LIST && !list.contains(&found) {
            list.push(found);
        }
    }
    list
}

/// Text, with the zero bytes that some servers add at the end taken off.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0'))
}

/// A route out of [`CLASSLESS_ROUTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClasslessRoute {
    /// The destination, without host bits.
    pub to: Cidr,
    /// The router; none: the destination is on the link itself (0.0.0.0 in the option).
    pub via: Option<Ipv4Addr>,
}

/// Reads classless static routes: prefix length, as many bytes of the destination as that needs, router.
#[must_use]
pub fn classless_routes(mut value: &[u8]) -> Option<Vec<ClasslessRoute>> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = value {
        let significant = usize::from(prefix.div_ceil(8));
        let (destination, rest) = rest.split_at_checked(significant)?;
        let (router, rest) = rest.split_at_checked(4)?;
        let mut octets = [0; 4];
        octets.get_mut(..significant)?.copy_from_slice(destination);
        let via = address(router).filter(|router| !router.is_unspecified());
        if via.is_some_and(|via| !ipv4::is_unicast(via)) || routes.len() == MAX_ROUTES {
            return None;
        }
        routes.push(ClasslessRoute { to: Cidr::new(octets.into(), *prefix).ok()?.network(), via });
        value = rest;
    }
    (!routes.is_empty()).then_some(routes)
}

/// Writes classless static routes.
#[must_use]
pub fn encode_classless_routes(routes: &[ClasslessRoute]) -> Vec<u8> {
    let mut out = Vec::new();
    for route in routes {
        let significant = usize::from(route.to.prefix().div_ceil(8));
        out.push(route.to.prefix());
        out.extend(&route.to.network().address().octets()[..significant]);
        out.extend(route.via.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    }
    out
}

/// Reads a domain search list: names in the compressed form of RFC 1035 4.1.4, offsets from the option's start.
///
/// Reading stops at the first thing that is no name; what came before counts.
#[must_use]
pub fn search(value: &[u8]) -> Vec<String> {
    let mut list = Vec::new();
    let mut at = 0;
    while at < value.len() && list.len() < MAX_LIST {
        let Some((name, next)) = name_at(value, at) else { break };
        if let Some(name) = domain::name(&name)
            && !list.contains(&name)
        {
            list.push(name);
        }
        at = next;
    }
    list
}

/// The name at an offset, and the offset after it. A pointer must lead backwards, so there is an end.
fn name_at(value: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let (mut at, mut next, mut floor) = (start, None, start);
    loop {
        let len = *value.get(at)?;
        match len >> 6 {
            0 if len == 0 => return Some((name, next.unwrap_or(at + 1))),
            0 => {
                let label = value.get(at + 1..at + 1 + usize::from(len))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                at += 1 + usize::from(len);
                if name.len() > 255 {
                    return None;
                }
            }
            3 => {
                let target = usize::from(len & 0x3f) << 8 | usize::from(*value.get(at + 1)?);
                next = next.or(Some(at + 2));
                if target >= floor {
                    return None;
                }
                (at, floor) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
