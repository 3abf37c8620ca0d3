//! IPv4 routes of the main table.

use std::fmt;
use std::net::Ipv4Addr;

use super::wire::{self, Message, Request};
use crate::ipv4::Cidr;

const NEW: u16 = 24;
const DEL: u16 = 25;
const GET: u16 = 26;

const FIXED: usize = 12;
const ATTR_DST: u16 = 1;
const ATTR_OIF: u16 = 4;
const ATTR_GATEWAY: u16 = 5;
const ATTR_PRIORITY: u16 = 6;
const ATTR_PREFSRC: u16 = 7;
const ATTR_TABLE: u16 = 15;

const TABLE_MAIN: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
const FLAG_ONLINK: u32 = 4;

/// Who set a route; the kernel keeps this for us and so tells later which routes are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// An administrator (`RTPROT_STATIC`).
    Static,
    /// A DHCP client (`RTPROT_DHCP`).
    Dhcp,
    /// Anyone else.
    Other(u8),
}

impl Protocol {
    fn from_number(number: u8) -> Self {
        match number {
            libc::RTPROT_STATIC => Self::Static,
            16 => Self::Dhcp,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Static => libc::RTPROT_STATIC,
            Self::Dhcp => 16,
            Self::Other(other) => other,
        }
    }
}

/// A route through one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The destination, without host bits.
    pub to: Cidr,
    /// The router; none: the destination is on the link itself.
    pub via: Option<Ipv4Addr>,
    /// The router is on the link although no address of the interface says so.
    pub on_link: bool,
    /// Of two routes to one destination the one with less is taken.
    pub metric: u32,
    /// Who set it.
    pub protocol: Protocol,
    /// The source address for packets that have none yet.
    pub source: Option<Ipv4Addr>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " metric {}", self.metric)
    }
}

/// Reads the description of a route; none for those that are no unicast IPv4 route of the main table through one
/// interface. Gives the interface's number too.
#[must_use]
pub fn parse(message: &Message<'_>) -> Option<(u32, Route)> {
    let body = message.body;
    let &[family, prefix, _, _, table, protocol, _, kind] = body.get(..8)? else { return None };
    let flags = wire::u32_at(body, 8)?;
    let mut table = u32::from(table);
    let (mut to, mut via, mut source) = (Ipv4Addr::UNSPECIFIED, None, None);
    let (mut index, mut metric) = (None, 0);
    for (number, value) in wire::attributes(body, FIXED) {
        match number {
            ATTR_DST => to = wire::address(value)?,
            ATTR_GATEWAY => via = wire::address(value),
            ATTR_PREFSRC => source = wire::address(value),
            ATTR_OIF => index = wire::u32_at(value, 0),
            ATTR_PRIORITY => metric = wire::u32_at(value, 0)?,
            ATTR_TABLE => table = wire::u32_at(value, 0)?,
            _ => {}
        }
    }
    let ours = i32::from(family) == libc::AF_INET && table == u32::from(TABLE_MAIN) && kind == TYPE_UNICAST;
    let route = Route {
        to: Cidr::new(to, prefix).ok()?,
        via,
        on_link: flags & FLAG_ONLINK != 0,
        metric,
        protocol: Protocol::from_number(protocol),
        source,
    };
    Some((index?, route)).filter(|_| ours)
}

fn fixed(route: &Route) -> [u8; FIXED] {
    let scope = if route.via.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
    let mut fixed = [0; FIXED];
    fixed[..2].copy_from_slice(&[libc::AF_INET as u8, route.to.prefix()]);
    fixed[4..8].copy_from_slice(&[TABLE_MAIN, route.protocol.number(), scope, TYPE_UNICAST]);
    let flags = if route.on_link { FLAG_ONLINK } else { 0 };
    fixed[8..].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

/// Lists every IPv4 route.
#[must_use]
pub fn list() -> Request {
    let mut fixed = [0; FIXED];
    fixed[0] = libc::AF_INET as u8;
    Request::new(GET, wire::DUMP, &fixed)
}

/// Sets a route, in the place of one with the same destination and metric.
#[must_use]
pub fn replace(index: u32, route: &Route) -> Request {
    request(NEW, wire::ACK | wire::CREATE | wire::REPLACE, index, route)
}

/// Takes a route away.
#[must_use]
pub fn delete(index: u32, route: &Route) -> Request {
    request(DEL, wire::ACK, index, route)
}

fn request(kind: u16, flags: u16, index: u32, route: &Route) -> Request {
    let mut request = Request::new(kind, flags, &fixed(route))
        .attr_u32(ATTR_OIF, index)
        .attr_u32(ATTR_PRIORITY, route.metric);
    if route.to.prefix() > 0 {
        request = request.attr_address(ATTR_DST, route.to.network().address());
    }
    if let Some(via) = route.via {
        request = request.attr_address(ATTR_GATEWAY, via);
    }
    if let Some(source) = route.source {
        request = request.attr_address(ATTR_PREFSRC, source);
    }
    request
}
