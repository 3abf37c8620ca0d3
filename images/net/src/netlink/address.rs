//! IPv4 addresses of interfaces.

use std::net::Ipv4Addr;

use super::wire::{self, Message, Request};
use crate::ipv4::Cidr;

const NEW: u16 = 20;
const DEL: u16 = 21;
const GET: u16 = 22;

const FIXED: usize = 8;
const ATTR_ADDRESS: u16 = 1;
const ATTR_LOCAL: u16 = 2;
const ATTR_BROADCAST: u16 = 4;
const ATTR_CACHEINFO: u16 = 6;

const FOR_EVER: u32 = u32::MAX;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The interface's number.
    pub index: u32,
    /// The address.
    pub address: Cidr,
}

/// Reads the description of an address.
#[must_use]
pub fn parse(message: &Message<'_>) -> Option<Assigned> {
    let body = message.body;
    let (family, prefix) = (*body.first()?, *body.get(1)?);
    let index = wire::u32_at(body, 4)?;
    let (mut local, mut peer) = (None, None);
    for (number, value) in wire::attributes(body, FIXED) {
        match number {
            ATTR_LOCAL => local = wire::address(value),
            ATTR_ADDRESS => peer = wire::address(value),
            _ => {}
        }
    }
    let address = Cidr::new(local.or(peer)?, prefix).ok()?;
    (i32::from(family) == libc::AF_INET).then_some(Assigned { index, address })
}

fn fixed(index: u32, prefix: u8) -> [u8; FIXED] {
    let mut fixed = [libc::AF_INET as u8, prefix, 0, 0, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    fixed
}

/// Lists every IPv4 address.
#[must_use]
pub fn list() -> Request {
    Request::new(GET, wire::DUMP, &fixed(0, 0))
}

/// Gives an interface an address, or an address it has a new lifetime: so many seconds, or for ever. The kernel
/// takes the address away when they are over, should nobody be there to do it.
#[must_use]
pub fn replace(index: u32, address: Cidr, lifetime_secs: Option<u32>) -> Request {
    let lifetime = lifetime_secs.unwrap_or(FOR_EVER).to_ne_bytes();
    let mut cache = [0; 16];
    cache[..4].copy_from_slice(&lifetime);
    cache[4..8].copy_from_slice(&lifetime);
    request(NEW, wire::ACK | wire::CREATE | wire::REPLACE, index, address)
        .attr_address(ATTR_BROADCAST, address.broadcast().unwrap_or(Ipv4Addr::UNSPECIFIED))
        .attr(ATTR_CACHEINFO, &cache)
}

/// Takes an address away.
#[must_use]
pub fn delete(index: u32, address: Cidr) -> Request {
    request(DEL, wire::ACK, index, address)
}

fn request(kind: u16, flags: u16, index: u32, address: Cidr) -> Request {
    Request::new(kind, flags, &fixed(index, address.prefix()))
        .attr_address(ATTR_LOCAL, address.address())
        .attr_address(ATTR_ADDRESS, address.address())
}
