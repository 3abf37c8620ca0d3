//! Gives a node its IPv4 network: DHCP leases, static addresses, routes, `resolv.conf`; no byte from a network
//! or a file reaches the kernel or `resolv.conf` before it was parsed into a type that says it is in order.
//!
//! ```text
//! net.json, ip= --> config, cmdline --> Rule ..
//! netlink links --> select          --> a rule for each interface
//! dhcp::client (pure: state x event x now -> actions)  <-- frames, timers, carrier
//!      | Lease                                              shell: up
//! plan (pure: observed x desired -> steps)             --> netlink
//! ```
//!
//! Everything that decides is a pure function of its arguments; [`up`] is the shell that owns file
//! descriptors and waits in one `poll`. One process, one thread, no async.
//!
//! IPv6 is left to the kernel: it does SLAAC on its own (`accept_ra`) once a link is up, and nothing here
//! stands in its way; in particular an MTU below IPv6's minimum of 1280, which would turn IPv6 off on the
//! interface, is not taken from DHCP. Name servers in router advertisements (RDNSS) and DHCPv6 are not read.

#![deny(unsafe_code)]

pub mod clock;
pub mod domain;
pub mod ipv4;

pub mod datagram;
pub mod dhcp;

pub mod netlink;
pub mod plan;

pub mod cmdline;
pub mod config;
pub mod select;

pub mod resolv;
pub mod store;

pub mod sys;

pub mod up;

pub mod status;

pub mod cli;
