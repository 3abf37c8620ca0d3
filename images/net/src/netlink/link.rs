//! Network interfaces.

use super::wire::{self, Message, Request};

/// A link is new or has changed, or a request to change one.
pub const NEW: u16 = 16;
/// A link is gone.
pub const DEL: u16 = 17;
const GET: u16 = 18;
/// The multicast group of news about links (`RTMGRP_LINK`).
pub const GROUP: u32 = 1;

const FIXED: usize = 16;
const ATTR_ADDRESS: u16 = 1;
const ATTR_NAME: u16 = 3;
const ATTR_MTU: u16 = 4;
const ATTR_MASTER: u16 = 10;
const ATTR_INFO: u16 = 18;
const INFO_KIND: u16 = 1;

const FLAG_UP: u32 = 1;
const FLAG_LOOPBACK: u32 = 8;
const FLAG_RUNNING: u32 = 0x40;
const FLAG_LOWER_UP: u32 = 0x1_0000;
const FLAG_DORMANT: u32 = 0x2_0000;
/// A link just switched on is "running" until the kernel has looked: only both together are a carrier.
const FLAGS_CARRIER: u32 = FLAG_UP | FLAG_LOWER_UP;

/// Ethernet among the hardware types (`ARPHRD_ETHER`).
const ETHERNET: u16 = 1;

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when it is Ethernet's.
    pub mac: Option<[u8; 6]>,
    /// Loopback.
    pub loopback: bool,
    /// Switched on.
    pub up: bool,
    /// Switched on and connected, and not waiting for somebody to let it in (802.1X).
    pub carrier: bool,
    /// A carrier that the kernel has looked at. It may do so up to a second later; until then a link sends if it had its
    /// carrier when it was switched on, and drops what it is given if the carrier has come since.
    pub settled: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Part of a bridge, a bond or the like: addresses belong there.
    pub enslaved: bool,
    /// The driver of a device made of software (`veth`, `bridge`, `tun`, ..); none for hardware.
    pub kind: Option<String>,
}

/// Reads the description of a link.
#[must_use]
pub fn parse(message: &Message<'_>) -> Option<Link> {
    let body = message.body;
    let hardware = wire::u16_at(body, 2)?;
    let flags = wire::u32_at(body, 8)?;
    let carrier = flags & (FLAGS_CARRIER | FLAG_DORMANT) == FLAGS_CARRIER;
    let mut link = Link {
        index: wire::u32_at(body, 4)?,
        name: String::new(),
        mac: None,
        loopback: flags & FLAG_LOOPBACK != 0,
        up: flags & FLAG_UP != 0,
        carrier,
        settled: carrier && flags & FLAG_RUNNING != 0,
        mtu: 0,
        enslaved: false,
        kind: None,
    };
    for (number, value) in wire::attributes(body, FIXED) {
        match number {
            ATTR_NAME => link.name = wire::text(value)?.to_owned(),
            ATTR_ADDRESS if hardware == ETHERNET => link.mac = value.try_into().ok(),
            ATTR_MTU => link.mtu = wire::u32_at(value, 0)?,
            ATTR_MASTER => link.enslaved = true,
            ATTR_INFO => {
                let mut info = wire::attributes(value, 0);
                link.kind =
                    info.find(|(n, _)| *n == INFO_KIND).and_then(|(_, v)| wire::text(v)).map(str::to_owned);
            }
            _ => {}
        }
    }
    // A name is part of paths below /run and /sys.
    let usable = !matches!(link.name.as_str(), "" | "." | "..") && !link.name.contains('/');
    usable.then_some(link)
}

fn fixed(index: u32, flags: u32, change: u32) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// Lists every link.
#[must_use]
pub fn list() -> Request {
    Request::new(GET, wire::DUMP, &fixed(0, 0, 0))
}

/// Switches a link on.
#[must_use]
pub fn set_up(index: u32) -> Request {
    Request::new(NEW, wire::ACK, &fixed(index, FLAG_UP, FLAG_UP))
}

/// Sets a link's MTU in bytes.
#[must_use]
pub fn set_mtu(index: u32, mtu: u32) -> Request {
    Request::new(NEW, wire::ACK, &fixed(index, 0, 0)).attr_u32(ATTR_MTU, mtu)
}
