//! What to change on an interface: a pure function of what it has and what it should have.
//!
//! Of what an interface has, only two things are ours to take away: the address of a lease that is no more, and
//! routes marked as a DHCP client's ([`Protocol::Dhcp`]). Everything else may be somebody else's and stays.
//! What should be there is set in any case, which also renews lifetimes and mends what others broke.

use std::fmt;
use std::net::Ipv4Addr;

use crate::clock::Time;
use crate::config::Rule;
use crate::dhcp::lease::Lease;
use crate::ipv4::Cidr;
use crate::netlink::route::{Protocol, Route};
use crate::netlink::wire::Request;
use crate::netlink::{address, link, route};

/// Base of the metrics: routes through interface N have 1000 + N, so that of several default routes the first
/// interface's is taken, and a route set by hand without a metric is preferred to all.
const METRIC: u32 = 1000;

/// What an interface should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// MTU in bytes, if it matters.
    pub mtu: Option<u32>,
    /// Addresses, each with its lifetime in seconds, or for ever.
    pub addresses: Vec<(Cidr, Option<u32>)>,
    /// Routes.
    pub routes: Vec<Route>,
}

/// What an interface has, as far as it is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// MTU in bytes.
    pub mtu: u32,
    /// Every address.
    pub addresses: Vec<Cidr>,
    /// Every route through it.
    pub routes: Vec<Route>,
    /// The address of the last lease.
    pub leased: Option<Cidr>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Switch the interface on.
    SwitchOn,
    /// Set the MTU.
    SetMtu(u32),
    /// Take an address away.
    RemoveAddress(Cidr),
    /// Set an address, with its lifetime in seconds.
    SetAddress(Cidr, Option<u32>),
    /// Take a route away.
    RemoveRoute(Route),
    /// Set a route.
    SetRoute(Route),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwitchOn => f.write_str("switch on"),
            Self::SetMtu(mtu) => write!(f, "set MTU {mtu}"),
            Self::RemoveAddress(address) => write!(f, "remove address {address}"),
            Self::SetAddress(address, _) => write!(f, "set address {address}"),
            Self::RemoveRoute(route) => write!(f, "remove route {route}"),
            Self::SetRoute(route) => write!(f, "set route {route}"),
        }
    }
}

impl Step {
    /// The request that makes this change on the interface of this number.
    #[must_use]
    pub fn request(&self, index: u32) -> Request {
        match self {
            Self::SwitchOn => link::set_up(index),
            Self::SetMtu(mtu) => link::set_mtu(index, *mtu),
            Self::RemoveAddress(address) => address::delete(index, *address),
            Self::SetAddress(address, lifetime) => address::replace(index, *address, *lifetime),
            Self::RemoveRoute(route) => route::delete(index, route),
            Self::SetRoute(route) => route::replace(index, route),
        }
    }

    /// Whether the change is to take something away, which then may be gone already.
    #[must_use]
    pub fn removes(&self) -> bool {
        matches!(self, Self::RemoveAddress(_) | Self::RemoveRoute(_))
    }
}

/// What the interface of this number should have by its rule and its lease.
#[must_use]
pub fn desired(index: u32, rule: &Rule, lease: Option<&Lease>, now: Time) -> Desired {
    let metric = METRIC.saturating_add(index);
    let mut addresses: Vec<(Cidr, Option<u32>)> = rule.addresses.iter().map(|a| (*a, None)).collect();
    let mut routes = Vec::new();
    let mut mtu = rule.mtu;

    if let Some(lease) = lease {
        mtu = mtu.or(lease.mtu.map(u32::from));
        // Whole seconds upwards: the kernel's end must not come before ours.
        let lifetime = lease.left(now).map(|left| u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX));
        addresses.push((lease.address, lifetime));
        let source = lease.address.address();
        routes.extend(lease.routes.iter().map(|r| {
            let on_link = needs_on_link(r.via, &[lease.address]);
            Route { to: r.to, via: r.via, on_link, metric, protocol: Protocol::Dhcp, source: Some(source) }
        }));
    }
    let networks: Vec<Cidr> = addresses.iter().map(|(address, _)| *address).collect();
    routes.extend(rule.routes.iter().map(|r| Route {
        to: r.to,
        via: r.via,
        on_link: needs_on_link(r.via, &networks),
        metric: r.metric.unwrap_or(metric),
        protocol: Protocol::Static,
        source: None,
    }));

    // One route to a destination; what an administrator wrote comes before what a server said.
    routes.sort_by_key(|r| r.protocol);
    let mut seen = Vec::new();
    routes.retain(|r| {
        let new = !seen.contains(&(r.to, r.metric));
        seen.push((r.to, r.metric));
        new
    });
    // A router has to be reachable before there are routes through it.
    routes.sort_by_key(|r| r.via.is_some());
    Desired { mtu, addresses, routes }
}

/// A router outside the interface's own networks is taken to be on the link: clouds give addresses with /32.
fn needs_on_link(via: Option<Ipv4Addr>, networks: &[Cidr]) -> bool {
    via.is_some_and(|via| !networks.iter().any(|network| network.contains(via)))
}

/// The changes that lead from the one to the other, in order: first what is to go, then what is to be.
#[must_use]
pub fn steps(observed: &Observed, desired: &Desired) -> Vec<Step> {
    let wanted = |address: &Cidr| desired.addresses.iter().any(|(a, _)| a == address);
    let mut steps = Vec::new();
    if let Some(mtu) = desired.mtu.filter(|mtu| *mtu != observed.mtu) {
        steps.push(Step::SetMtu(mtu));
    }
    for route in observed.routes.iter().filter(|r| r.protocol == Protocol::Dhcp) {
        // Setting a route replaces the one with its destination and metric.
        if !desired.routes.iter().any(|d| (d.to, d.metric) == (route.to, route.metric)) {
            steps.push(Step::RemoveRoute(*route));
        }
    }
    let gone = observed.leased.filter(|a| !wanted(a) && observed.addresses.contains(a));
    steps.extend(gone.map(Step::RemoveAddress));
    steps.extend(desired.addresses.iter().map(|(address, lifetime)| Step::SetAddress(*address, *lifetime)));
    steps.extend(desired.routes.iter().map(|route| Step::SetRoute(*route)));
    steps
}

#[cfg(test)]
mod tests;
