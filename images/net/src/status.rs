//! `kit-net status`: what the kernel and the kept leases say, for people and for programs.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::clock::Time;
use crate::config::mac_text;
use crate::dhcp::lease::Lease;
use crate::netlink::link::Link;
use crate::netlink::socket::{Error, Netlink};
use crate::store::Store;

/// All interfaces but loopback, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The interfaces.
    pub interfaces: Vec<InterfaceStatus>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its hardware address.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Switched on.
    pub up: bool,
    /// Connected.
    pub carrier: bool,
    /// Its IPv4 addresses, with prefix.
    pub addresses: Vec<String>,
    /// The IPv4 routes through it.
    pub routes: Vec<RouteStatus>,
    /// Its lease.
    pub lease: Option<LeaseStatus>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// The destination, with prefix.
    pub to: String,
    /// The router, if there is one.
    pub via: Option<String>,
    /// The metric.
    pub metric: u32,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// The address, with prefix.
    pub address: String,
    /// Who gave it.
    pub server: String,
    /// Seconds to its end; none: it has none.
    pub ends_in_secs: Option<u64>,
    /// Seconds until it is to be renewed.
    pub renews_in_secs: Option<u64>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
}

/// Looks.
///
/// # Errors
/// When the kernel does not list its interfaces; a lease that cannot be read is none.
pub fn look(state: &Path) -> Result<Status, Error> {
    let mut netlink = Netlink::open()?;
    let store = Store::new(state, Store::boot_id());
    let (links, addresses, routes) = (netlink.links()?, netlink.addresses()?, netlink.routes()?);
    let now = Time::now();
    let interface = |link: Link| {
        let index = link.index;
        let lease = link.mac.and_then(|mac| store.load(&link.name, mac, now).ok().flatten());
        InterfaceStatus {
            mac: link.mac.map(mac_text),
            mtu: link.mtu,
            up: link.up,
            carrier: link.carrier,
            addresses: addresses.iter().filter(|a| a.index == index).map(|a| a.address.to_string()).collect(),
            routes: routes
                .iter()
                .filter(|(i, _)| *i == index)
                .map(|(_, route)| RouteStatus {
                    to: route.to.to_string(),
                    via: route.via.map(|via| via.to_string()),
                    metric: route.metric,
                })
                .collect(),
            lease: lease.map(|lease| lease_status(&lease, now)),
            index,
            name: link.name,
        }
    };
    Ok(Status { interfaces: links.into_iter().filter(|link| !link.loopback).map(interface).collect() })
}

fn lease_status(lease: &Lease, now: Time) -> LeaseStatus {
    LeaseStatus {
        address: lease.address.to_string(),
        server: lease.server.to_string(),
        ends_in_secs: lease.left(now).map(|left| left.as_secs()),
        renews_in_secs: lease.term.map(|term| (term.renew - now).as_secs()),
        dns: lease.dns.iter().map(ToString::to_string).collect(),
        search: lease.search.clone(),
    }
}

/// For people.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in &self.interfaces {
            let state = match (i.up, i.carrier) {
                (false, _) => "off",
                (true, false) => "no carrier",
                (true, true) => "connected",
            };
            writeln!(f, "{}: {state}, {}, mtu {}", i.name, i.mac.as_deref().unwrap_or("no mac"), i.mtu)?;
            for address in &i.addresses {
                let leased = i.lease.as_ref().filter(|lease| lease.address == *address);
                match leased {
                    None => writeln!(f, "  {address}")?,
                    Some(lease) => writeln!(f, "  {address} {lease}")?,
                }
            }
            for route in &i.routes {
                let via = route.via.as_ref().map(|via| format!(" via {via}")).unwrap_or_default();
                writeln!(f, "  route {}{via} metric {}", route.to, route.metric)?;
            }
            for server in i.lease.iter().flat_map(|lease| &lease.dns) {
                writeln!(f, "  dns {server}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for LeaseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leased from {}", self.server)?;
        match (self.ends_in_secs, self.renews_in_secs) {
            (Some(end), Some(renew)) => write!(f, ", renews in {renew} s, ends in {end} s"),
            _ => write!(f, " for ever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_well_and_has_stable_keys() {
        let lease = LeaseStatus {
            address: "10.0.2.15/24".into(),
            server: "10.0.2.2".into(),
            ends_in_secs: Some(3600),
            renews_in_secs: Some(1800),
            dns: vec!["10.0.2.3".into()],
            search: vec![],
        };
        let status = Status {
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                index: 2,
                mac: Some("52:54:00:12:34:56".into()),
                mtu: 1500,
                up: true,
                carrier: true,
                addresses: vec!["10.0.2.15/24".into(), "10.9.0.1/16".into()],
                routes: vec![RouteStatus {
                    to: "0.0.0.0/0".into(),
                    via: Some("10.0.2.2".into()),
                    metric: 1002,
                }],
                lease: Some(lease),
            }],
        };
        assert_eq!(
            status.to_string(),
            "eth0: connected, 52:54:00:12:34:56, mtu 1500\n  \
             10.0.2.15/24 leased from 10.0.2.2, renews in 1800 s, ends in 3600 s\n  \
             10.9.0.1/16\n  \
             route 0.0.0.0/0 via 10.0.2.2 metric 1002\n  \
             dns 10.0.2.3\n"
        );
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            r#"{"interfaces":[{"name":"eth0","index":2,"mac":"52:54:00:12:34:56","mtu":1500,"up":true,"carrier":true,"addresses":["10.0.2.15/24","10.9.0.1/16"],"routes":[{"to":"0.0.0.0/0","via":"10.0.2.2","metric":1002}],"lease":{"address":"10.0.2.15/24","server":"10.0.2.2","ends_in_secs":3600,"renews_in_secs":1800,"dns":["10.0.2.3"],"search":[]}}]}"#
        );
    }

    #[test]
    fn this_machine_has_a_status() {
        let dir = tempfile::tempdir().unwrap();
        assert!(look(dir.path()).unwrap().interfaces.iter().all(|i| i.name != "lo" && i.lease.is_none()));
    }
}
