//! `ip=` on the kernel's command line, in the forms of the kernel's own autoconfiguration (nfsroot.rst) and of
//! initrds. It takes the place of the whole configuration file: who edits the command line means it.
//!
//! ```text
//! ip=dhcp                 also on, any, both: DHCP on every physical Ethernet interface
//! ip=off                  also none: configure nothing
//! ip=DEVICE:dhcp[:MTU]    DHCP on this one
//! ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP
//! ```
//!
//! In the long form any field may be empty or left off at the end; `SERVER` (for NFS) and `NTP` are not used. Without
//! a device the first physical Ethernet interface is meant, without a netmask that of the address's class. `ip=` may
//! be given more than once. IPv6 addresses are refused.

use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;

use crate::config::{Hostname, Match, Rule, RuleRoute};
use crate::domain;
use crate::ipv4::{self, Cidr};

/// An `ip=` that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("ip={argument}: {kind}")]
pub struct CmdlineError {
    /// What stands after `ip=`.
    pub argument: String,
    /// What is wrong with it.
    pub kind: ArgumentError,
}

/// What is wrong with an argument.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// Too many colons.
    #[error("{count} fields, at most {MAX_FIELDS} have a meaning")]
    Fields {
        /// The number of fields.
        count: usize,
    },
    /// A field that cannot be what its place says.
    #[error("`{text}` is no {what}")]
    Field {
        /// What it should be.
        what: &'static str,
        /// As written.
        text: String,
    },
    /// A method that is not known here.
    #[error("`{text}`: only dhcp, on, any, both, off, none and static are known")]
    Method {
        /// As written.
        text: String,
    },
    /// IPv6.
    #[error("IPv6 is configured by the kernel itself, not here")]
    Ipv6,
    /// A static configuration without its address.
    #[error("no client address")]
    NoAddress,
}

const MAX_FIELDS: usize = 10;

/// What an `ip=` says of the way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Dhcp,
    Static,
}

/// The rules that the command line asks for; none when it has no `ip=`. What follows `--` is for init.
///
/// # Errors
/// Quotes the argument.
pub fn parse(cmdline: &str) -> Result<Option<Vec<Rule>>, CmdlineError> {
    let mut rules = None;
    for word in cmdline.split_ascii_whitespace().take_while(|word| *word != "--") {
        // `"ip=.."` and `ip=".."` are the same to the kernel.
        let word = word.trim_matches('"');
        let Some(argument) = word.strip_prefix("ip=") else { continue };
        let argument = argument.trim_matches('"');
        let rule = rule(argument).map_err(|kind| CmdlineError { argument: argument.to_owned(), kind })?;
        rules.get_or_insert_with(Vec::new).extend(rule);
    }
    Ok(rules)
}

fn rule(argument: &str) -> Result<Option<Rule>, ArgumentError> {
    if argument.contains('[') {
        return Err(ArgumentError::Ipv6);
    }
    let fields: Vec<&str> = argument.split(':').collect();
    match fields[..] {
        ["" | "off" | "none"] => Ok(None),
        [text] if text.parse::<Ipv4Addr>().is_err() => match method(text)? {
            Some(Method::Dhcp) => Ok(Some(Rule::dhcp_everywhere())),
            _ => Err(ArgumentError::NoAddress),
        },
        [device, text, ref rest @ ..]
            if !device.is_empty() && device.parse::<Ipv4Addr>().is_err() && rest.len() <= 1 =>
        {
            let matching = Match { name: Some(name(device)?), ..Match::default() };
            let dhcp = match method(text)? {
                Some(Method::Static) => return Err(ArgumentError::NoAddress),
                method => method.is_some(),
            };
            let mtu = rest.first().filter(|text| !text.is_empty()).map(|text| mtu(text)).transpose()?;
            Ok(Some(Rule { matching, dhcp, mtu, ..Rule::default() }))
        }
        _ => long(&fields).map(Some),
    }
}

fn long(fields: &[&str]) -> Result<Rule, ArgumentError> {
    if fields.len() > MAX_FIELDS {
        return Err(ArgumentError::Fields { count: fields.len() });
    }
    let field = |i: usize| fields.get(i).copied().filter(|text| !text.is_empty());
    let address = |i: usize, what| field(i).map(|text| unicast(text, what)).transpose();

    let mut rule = Rule { first_only: field(5).is_none(), ..Rule::default() };
    rule.matching.name = field(5).map(name).transpose()?;
    if let Some(text) = field(4) {
        let hostname = domain::hostname(text);
        rule.hostname = Hostname::Set(hostname.ok_or_else(|| wrong("host name", text))?);
    }
    for i in [7, 8] {
        rule.dns.extend(address(i, "name server's address")?.map(IpAddr::V4));
    }

    let client = address(0, "client address")?;
    let method = field(6).map(method).transpose()?.flatten();
    if method == Some(Method::Dhcp) || (method.is_none() && client.is_none() && field(6).is_none()) {
        rule.dhcp = true;
        return Ok(rule);
    }
    let client = client.ok_or(ArgumentError::NoAddress)?;
    let prefix = field(3).map(netmask).transpose()?.unwrap_or_else(|| ipv4::classful_prefix(client));
    let address_and_prefix = Cidr::new(client, prefix).ok().filter(|address| address.is_host_address());
    rule.addresses
        .push(address_and_prefix.ok_or_else(|| wrong("address of a host", &format!("{client}/{prefix}")))?);
    let via = address(2, "gateway's address")?;
    rule.routes.extend(via.map(|via| RuleRoute { to: Cidr::DEFAULT, via: Some(via), metric: None }));
    Ok(rule)
}

/// None: off.
fn method(text: &str) -> Result<Option<Method>, ArgumentError> {
    match text {
        "dhcp" | "on" | "any" | "both" => Ok(Some(Method::Dhcp)),
        "static" => Ok(Some(Method::Static)),
        "off" | "none" => Ok(None),
        "dhcp6" | "auto6" | "either6" | "link6" => Err(ArgumentError::Ipv6),
        _ => Err(ArgumentError::Method { text: text.to_owned() }),
    }
}

fn wrong(what: &'static str, text: &str) -> ArgumentError {
    ArgumentError::Field { what, text: text.to_owned() }
}

fn unicast(text: &str, what: &'static str) -> Result<Ipv4Addr, ArgumentError> {
    text.parse().ok().filter(|a| ipv4::is_unicast(*a)).ok_or_else(|| wrong(what, text))
}

/// Dotted, or the number of bits.
fn netmask(text: &str) -> Result<u8, ArgumentError> {
    let dotted = text.parse().ok().and_then(ipv4::prefix_of_mask);
    let bits = text.parse().ok().filter(|bits| (1..=32).contains(bits));
    dotted.or(bits).ok_or_else(|| wrong("netmask", text))
}

fn mtu(text: &str) -> Result<u32, ArgumentError> {
    text.parse().ok().filter(|mtu| (68..=65_535).contains(mtu)).ok_or_else(|| wrong("MTU", text))
}

fn name(text: &str) -> Result<String, ArgumentError> {
    let good = text.len() < 16 && !text.contains(['/', '*', '?']);
    good.then(|| text.to_owned()).ok_or_else(|| wrong("interface name", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(argument: &str) -> Rule {
        let rules = parse(&format!("console=ttyS0 ip={argument} quiet")).unwrap().unwrap();
        assert_eq!(rules.len(), 1);
        rules[0].clone()
    }

    fn named(name: &str) -> Match {
        Match { name: Some(name.into()), ..Match::default() }
    }

    #[test]
    fn a_line_without_it_says_nothing() {
        assert_eq!(parse("console=ttyS0 quiet -- ip=dhcp").unwrap(), None);
        assert_eq!(parse("").unwrap(), None);
    }

    #[test]
    fn one_word_is_a_method_for_all() {
        for word in ["dhcp", "on", "any", "\"dhcp\""] {
            assert_eq!(one(word), Rule::dhcp_everywhere());
        }
        for word in ["off", "none", ""] {
            assert_eq!(parse(&format!("ip={word}")).unwrap(), Some(vec![]));
        }
    }

    #[test]
    fn a_device_and_a_method() {
        assert_eq!(one("eth1:dhcp"), Rule { matching: named("eth1"), dhcp: true, ..Rule::default() });
        assert_eq!(one("eth1:dhcp:9000").mtu, Some(9000));
        assert!(!one("eth1:none").wants_address());
    }

    #[test]
    fn the_long_form_sets_everything() {
        assert_eq!(
            one("10.0.0.2::10.0.0.1:255.255.255.0:node1:eth0:none:9.9.9.9:1.1.1.1"),
            Rule {
                matching: named("eth0"),
                addresses: vec!["10.0.0.2/24".parse().unwrap()],
                routes: vec![RuleRoute {
                    to: Cidr::DEFAULT,
                    via: Some(Ipv4Addr::new(10, 0, 0, 1)),
                    metric: None
                }],
                dns: vec!["9.9.9.9".parse().unwrap(), "1.1.1.1".parse().unwrap()],
                hostname: Hostname::Set("node1".into()),
                ..Rule::default()
            }
        );
    }

    #[test]
    fn what_is_left_off_has_the_kernel_s_meaning() {
        let rule = one("192.168.7.2");
        assert_eq!(rule.addresses, ["192.168.7.2/24".parse().unwrap()]);
        assert!(rule.first_only && !rule.dhcp);
        assert_eq!(one("10.1.2.3:::16").addresses, ["10.1.2.3/16".parse().unwrap()]);
        assert_eq!(one(":::::eth0:dhcp"), Rule { matching: named("eth0"), dhcp: true, ..Rule::default() });
        assert!(one("::::node1::").dhcp);
        assert!(one("10.0.0.2::10.0.0.1:255.255.255.0::eth0:dhcp").dhcp);
    }

    #[test]
    fn it_may_be_given_for_several_devices() {
        let rules = parse("ip=eth0:dhcp ip=10.0.0.2:::24::eth1:none").unwrap().unwrap();
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn what_cannot_be_followed_is_quoted() {
        for (argument, want) in [
            ("fast", "ip=fast: `fast`: only dhcp, on, any, both, off, none and static are known"),
            ("static", "ip=static: no client address"),
            ("::::::static", "ip=::::::static: no client address"),
            ("::::::none", "ip=::::::none: no client address"),
            (
                "eth0:bootp",
                "ip=eth0:bootp: `bootp`: only dhcp, on, any, both, off, none and static are known",
            ),
            ("eth0:dhcp6", "ip=eth0:dhcp6: IPv6 is configured by the kernel itself, not here"),
            ("[fe80::1]:::64", "ip=[fe80::1]:::64: IPv6 is configured by the kernel itself, not here"),
            ("10.0.0.2:::255.0.255.0", "ip=10.0.0.2:::255.0.255.0: `255.0.255.0` is no netmask"),
            (
                "10.0.0.300:::24::eth0:none",
                "ip=10.0.0.300:::24::eth0:none: `10.0.0.300` is no client address",
            ),
            ("10.0.0.0:::24", "ip=10.0.0.0:::24: `10.0.0.0/24` is no address of a host"),
            ("10.0.0.2::gw:24", "ip=10.0.0.2::gw:24: `gw` is no gateway's address"),
            ("10.0.0.2:::24:a_b", "ip=10.0.0.2:::24:a_b: `a_b` is no host name"),
            ("1:2:3:4:5:6:7:8:9:10:11", "ip=1:2:3:4:5:6:7:8:9:10:11: 11 fields, at most 10 have a meaning"),
        ] {
            assert_eq!(parse(&format!("ip={argument}")).unwrap_err().to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(line in "(ip=|[a-z0-9.:\\[\\]\" -]){0,60}") {
            for rule in parse(&line).ok().flatten().unwrap_or_default() {
                prop_assert!(rule.addresses.iter().all(|a| a.is_host_address()));
            }
        }
    }
}
