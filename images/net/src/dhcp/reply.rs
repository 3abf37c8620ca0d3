//! A server's message as the client understands it: an offer, an acknowledgement or a refusal, with everything in
//! it checked.

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use super::message::{Message, Op};
use super::option;
use crate::domain;
use crate::ipv4::{self, Cidr};

/// Message types (RFC 2132 9.6).
pub mod kind {
    /// A client looks for servers.
    pub const DISCOVER: u8 = 1;
    /// A server offers an address.
    pub const OFFER: u8 = 2;
    /// A client asks for that address, or for more time.
    pub const REQUEST: u8 = 3;
    /// A server gives it.
    pub const ACK: u8 = 5;
    /// A server refuses it.
    pub const NAK: u8 = 6;
}

/// Below IPv6's minimum an interface loses IPv6; 576 in particular is a common misconfiguration.
const SMALLEST_MTU: u16 = 1280;
/// A lease time of all ones never ends (RFC 2131 3.3).
const FOR_EVER: u32 = u32::MAX;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It would give this.
    Offer(Terms),
    /// It gives this.
    Ack(Terms),
    /// It refuses.
    Nak {
        /// The server.
        server: Ipv4Addr,
        /// Its reason, if it gave one.
        text: Option<String>,
    },
}

/// What a server gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The address, with its network's prefix.
    pub address: Cidr,
    /// The server.
    pub server: Ipv4Addr,
    /// For how long; none is for ever.
    pub duration: Option<Duration>,
    /// T1, if the server chose it.
    pub renew_after: Option<Duration>,
    /// T2, if the server chose it.
    pub rebind_after: Option<Duration>,
    /// Routes by option 121, else the first router of option 3 as the default route (RFC 3442: when the former
    /// is there the latter is ignored).
    pub routes: Vec<option::ClasslessRoute>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Search domains: option 119, else the domain name of option 15.
    pub search: Vec<String>,
    /// At least 1280.
    pub mtu: Option<u16>,
    /// A name for this host.
    pub hostname: Option<String>,
}

/// Why a message from a server is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// It comes from a client.
    #[error("not a server's message")]
    NotReply,
    /// No type, or one a client has no use for.
    #[error("message type {kind:?} is none a client waits for")]
    Kind {
        /// The type, if there is one.
        kind: Option<u8>,
    },
    /// No server identifier, which every reply must have.
    #[error("the server does not say who it is (option 54)")]
    NoServer,
    /// An address no host can have, or a mask with holes.
    #[error("{address} with mask {mask:?} is no host's address")]
    Address {
        /// The address given.
        address: Ipv4Addr,
        /// The mask given.
        mask: Option<Ipv4Addr>,
    },
    /// No lease time, or none worth the name.
    #[error("no lease time (option 51)")]
    NoLeaseTime,
}

/// Understands a message.
///
/// # Errors
/// Says what the message lacks; the client then goes on waiting for a better one.
pub fn parse(message: &Message) -> Result<Reply, ReplyError> {
    if message.op != Op::Reply {
        return Err(ReplyError::NotReply);
    }
    let get = |code: u8| message.options.get(&code).map(Vec::as_slice);
    let server = get(option::SERVER).and_then(option::address).filter(|a| ipv4::is_unicast(*a));
    let kind = match get(option::MESSAGE_TYPE) {
        Some([kind]) => Some(*kind),
        _ => None,
    };
    match kind {
        Some(kind::OFFER) => Ok(Reply::Offer(terms(message, server.ok_or(ReplyError::NoServer)?)?)),
        Some(kind::ACK) => Ok(Reply::Ack(terms(message, server.ok_or(ReplyError::NoServer)?)?)),
        Some(kind::NAK) => {
            let printable = |text: &str| text.chars().filter(|c| !c.is_control()).take(120).collect();
            let text = get(option::TEXT).and_then(option::text).map(printable);
            Ok(Reply::Nak { server: server.ok_or(ReplyError::NoServer)?, text })
        }
        kind => Err(ReplyError::Kind { kind }),
    }
}

fn terms(message: &Message, server: Ipv4Addr) -> Result<Terms, ReplyError> {
    let get = |code: u8| message.options.get(&code).map(Vec::as_slice);
    let seconds = |code: u8| get(code).and_then(option::u32);
    let span = |code: u8| seconds(code).map(|secs| Duration::from_secs(secs.into()));

    let mask = get(option::SUBNET_MASK).and_then(option::address);
    let prefix = match mask {
        Some(mask) => ipv4::prefix_of_mask(mask),
        // RFC 2132 3.3: the mask is optional.
        None => Some(ipv4::classful_prefix(message.yiaddr)),
    };
    let address = prefix
        .and_then(|prefix| Cidr::new(message.yiaddr, prefix).ok())
        .filter(|address| address.is_host_address())
        .ok_or(ReplyError::Address { address: message.yiaddr, mask })?;
    let lease_secs = seconds(option::LEASE_TIME).filter(|secs| *secs > 0).ok_or(ReplyError::NoLeaseTime)?;

    let routes = get(option::CLASSLESS_ROUTES).and_then(option::classless_routes).unwrap_or_else(|| {
        let routers = get(option::ROUTERS).map(option::addresses).unwrap_or_default();
        let default = |via| option::ClasslessRoute { to: Cidr::DEFAULT, via: Some(via) };
        routers.into_iter().take(1).map(default).collect()
    });
    let mut search = get(option::SEARCH).map(option::search).unwrap_or_default();
    if search.is_empty() {
        search.extend(get(option::DOMAIN).and_then(option::text).and_then(domain::name));
    }
    Ok(Terms {
        address,
        server,
        duration: (lease_secs != FOR_EVER).then(|| Duration::from_secs(lease_secs.into())),
        renew_after: span(option::RENEWAL_TIME),
        rebind_after: span(option::REBINDING_TIME),
        routes,
        dns: get(option::DNS).map(option::addresses).unwrap_or_default(),
        search,
        mtu: get(option::MTU).and_then(option::u16).filter(|mtu| *mtu >= SMALLEST_MTU),
        hostname: get(option::HOSTNAME).and_then(option::text).and_then(domain::hostname),
    })
}

#[cfg(test)]
mod tests;
