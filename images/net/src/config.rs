//! `/etc/kit/net.json`: which interfaces get what.
//!
//! ```json
//! { "interfaces": [
//!     { "name": "eth0", "dhcp": true, "hostname_from_dhcp": true, "required": true },
//!     { "mac": "52:54:00:00:00:01", "addresses": ["10.0.0.2/24"], "gateway": "10.0.0.1", "dns": ["9.9.9.9"] },
//!     { "driver": "virtio_net", "mtu": 9000, "routes": [{ "to": "10.1.0.0/16", "via": "10.0.0.9", "metric": 5 }] }
//! ] }
//! ```
//!
//! An interface takes the first entry that matches it; `name` (which may hold `*` and `?`), `mac` and `driver` all
//! have to match where given, and an entry with none of them is for every physical Ethernet interface. An interface
//! that matches nothing is left alone. Without a file there is one entry: `{}`.
//!
//! `dhcp` is true unless there are `addresses`. Parsing touches no file, refuses keys it does not know and keys given
//! twice, and names the key in every error.

mod json;

use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;

use crate::domain;
use crate::ipv4::{Cidr, CidrError};
use json::{Json, Node};

/// Which interfaces a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// A name, in which `*` stands for any text and `?` for any character.
    pub name: Option<String>,
    /// A hardware address.
    pub mac: Option<[u8; 6]>,
    /// A kernel driver's name, as in `/sys/class/net/NAME/device/driver`.
    pub driver: Option<String>,
}

/// What interfaces that match get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which they are.
    pub matching: Match,
    /// Only the first of them, by number, gets it.
    pub first_only: bool,
    /// An address by DHCP.
    pub dhcp: bool,
    /// These addresses.
    pub addresses: Vec<Cidr>,
    /// These routes; a gateway is a default route.
    pub routes: Vec<RuleRoute>,
    /// This MTU in bytes, whatever DHCP says.
    pub mtu: Option<u32>,
    /// These name servers, before those of DHCP.
    pub dns: Vec<IpAddr>,
    /// These search domains, before those of DHCP.
    pub search: Vec<String>,
    /// A name for the host.
    pub hostname: Hostname,
    /// The node is not up without it.
    pub required: bool,
}

/// Where a host without a name gets one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hostname {
    /// Nowhere.
    #[default]
    Keep,
    /// From the DHCP server.
    FromDhcp,
    /// Here.
    Set(String),
}

/// A route that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRoute {
    /// The destination.
    pub to: Cidr,
    /// The router; none: on the link.
    pub via: Option<Ipv4Addr>,
    /// The metric, if it matters.
    pub metric: Option<u32>,
}

impl Rule {
    /// What applies when nothing is written: DHCP on every physical Ethernet interface.
    #[must_use]
    pub fn dhcp_everywhere() -> Self {
        Self { dhcp: true, ..Self::default() }
    }

    /// Whether an interface of this rule can get an address.
    #[must_use]
    pub fn wants_address(&self) -> bool {
        self.dhcp || !self.addresses.is_empty()
    }
}

/// What is wrong with the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not JSON, or a key twice; the source says in which line and column.
    #[error("not valid JSON")]
    Syntax {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A key that means nothing.
    #[error("{key}: unknown key (known: {known})")]
    Unknown {
        /// The key's path.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// A value of another type.
    #[error("{key}: expected {expected}")]
    Type {
        /// The key's path.
        key: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A value that cannot be.
    #[error("{key}: `{value}`")]
    Value {
        /// The key's path.
        key: String,
        /// As written.
        value: String,
        /// Why not.
        #[source]
        source: ValueError,
    },
    /// A required key that is not there.
    #[error("{key}: missing")]
    Missing {
        /// The key's path.
        key: String,
    },
    /// A gateway or route on an interface that gets no address.
    #[error("{key}: needs `addresses` or `dhcp` beside it")]
    NeedsAddress {
        /// The key's path.
        key: String,
    },
}

/// Why a value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// An address with a prefix.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// A network's own address, its broadcast address, or no unicast address.
    #[error("no address that an interface can have")]
    NotHost,
    /// An address.
    #[error("not an IPv4 address")]
    NotIpv4,
    /// An address of either family.
    #[error("not an IP address")]
    NotIp,
    /// A hardware address.
    #[error("not of the form 52:54:00:12:34:56")]
    NotMac,
    /// A domain name.
    #[error("not a domain name")]
    NotDomain,
    /// An interface or driver name.
    #[error("not a name: 1 to {max} characters without blanks and slashes")]
    NotName {
        /// The longest, in characters.
        max: usize,
    },
    /// A number out of its range.
    #[error("not from {least} to {most}")]
    Range {
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// A route's destination with host bits.
    #[error("has bits beyond its prefix; the network is {network}")]
    HostBits {
        /// What may have been meant.
        network: Cidr,
    },
}

/// The kernel's interface names are shorter (`IFNAMSIZ`), patterns may be longer.
const MAX_NAME: usize = 64;

/// Parses a configuration.
///
/// # Errors
/// Names the key.
pub fn parse(text: &str) -> Result<Vec<Rule>, ConfigError> {
    let value: Json = serde_json::from_str(text).map_err(|source| ConfigError::Syntax { source })?;
    let root = Node::root(&value).map(&["interfaces"])?;
    let Some(list) = root.get("interfaces") else { return Ok(vec![Rule::dhcp_everywhere()]) };
    list.list()?.iter().map(rule).collect()
}

const RULE_KEYS: [&str; 12] = [
    "name",
    "mac",
    "driver",
    "dhcp",
    "addresses",
    "gateway",
    "routes",
    "mtu",
    "dns",
    "search",
    "hostname_from_dhcp",
    "required",
];

fn rule(node: &Node<'_>) -> Result<Rule, ConfigError> {
    let map = node.map(&RULE_KEYS)?;
    let matching = Match {
        name: map.optional("name", name)?,
        mac: map.optional("mac", |n| n.parse_text(mac))?,
        driver: map.optional("driver", name)?,
    };
    let addresses = map.each("addresses", |n| n.parse_text(host_address))?;
    let dhcp = map.optional("dhcp", |n| n.bool())?.unwrap_or(addresses.is_empty());

    let mut routes = map.each("routes", route)?;
    let gateway = map.optional("gateway", |n| n.parse_text(ipv4))?;
    if let Some(via) = gateway {
        routes.insert(0, RuleRoute { to: Cidr::DEFAULT, via: Some(via), metric: None });
    }
    if !dhcp && addresses.is_empty() {
        for key in ["gateway", "routes"] {
            if let Some(node) = map.get(key) {
                return Err(ConfigError::NeedsAddress { key: node.path() });
            }
        }
    }
    let from_dhcp = map.optional("hostname_from_dhcp", |n| n.bool())?.unwrap_or(false);
    Ok(Rule {
        matching,
        first_only: false,
        dhcp,
        addresses,
        routes,
        mtu: map.optional("mtu", |n| n.number(68, 65_535))?,
        dns: map.each("dns", |n| n.parse_text(|text| text.parse().map_err(|_| ValueError::NotIp)))?,
        search: map.each("search", |n| n.parse_text(|t| domain::name(t).ok_or(ValueError::NotDomain)))?,
        hostname: if from_dhcp { Hostname::FromDhcp } else { Hostname::Keep },
        required: map.optional("required", |n| n.bool())?.unwrap_or(false),
    })
}

fn route(node: &Node<'_>) -> Result<RuleRoute, ConfigError> {
    let map = node.map(&["to", "via", "metric"])?;
    let to = map.get("to").ok_or_else(|| ConfigError::Missing { key: format!("{}.to", node.path()) })?;
    Ok(RuleRoute {
        to: to.parse_text(destination)?,
        via: map.optional("via", |n| n.parse_text(ipv4))?,
        metric: map.optional("metric", |n| n.number(0, u32::MAX))?,
    })
}

fn name(node: &Node<'_>) -> Result<String, ConfigError> {
    node.parse_text(|text| {
        let good = (1..=MAX_NAME).contains(&text.chars().count())
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
        good.then(|| text.to_owned()).ok_or(ValueError::NotName { max: MAX_NAME })
    })
}

fn destination(text: &str) -> Result<Cidr, ValueError> {
    if text == "default" {
        return Ok(Cidr::DEFAULT);
    }
    let to: Cidr = text.parse()?;
    let network = to.network();
    if to == network { Ok(to) } else { Err(ValueError::HostBits { network }) }
}

pub(crate) fn host_address(text: &str) -> Result<Cidr, ValueError> {
    let address: Cidr = text.parse()?;
    if address.is_host_address() { Ok(address) } else { Err(ValueError::NotHost) }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, ValueError> {
    let address: Ipv4Addr = text.parse().map_err(|_| ValueError::NotIpv4)?;
    if crate::ipv4::is_unicast(address) { Ok(address) } else { Err(ValueError::NotHost) }
}

fn mac(text: &str) -> Result<[u8; 6], ValueError> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or(ValueError::NotMac)?;
    }
    if parts.next().is_some() { Err(ValueError::NotMac) } else { Ok(mac) }
}

/// A hardware address as people write it.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests;
