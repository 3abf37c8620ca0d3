//! Which rule an interface falls under.

use crate::config::{Match, Rule};
use crate::netlink::link::Link;

/// What sysfs adds to what netlink says of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// There is hardware behind it, real or emulated (`/sys/class/net/NAME/device`).
    pub physical: bool,
    /// The driver of that hardware.
    pub driver: Option<String>,
}

/// The first rule that matches, by its place in the list.
///
/// Loopback and the ports of bridges and bonds match nothing.
#[must_use]
pub fn rule_for(rules: &[Rule], link: &Link, device: &Device) -> Option<usize> {
    if link.loopback || link.enslaved {
        return None;
    }
    rules.iter().position(|rule| matches(&rule.matching, link, device))
}

fn matches(matching: &Match, link: &Link, device: &Device) -> bool {
    let Match { name, mac, driver } = matching;
    if name.is_none() && mac.is_none() && driver.is_none() {
        return is_physical_ethernet(link, device);
    }
    name.as_ref().is_none_or(|pattern| glob(pattern.as_bytes(), link.name.as_bytes()))
        && mac.is_none_or(|mac| link.mac == Some(mac))
        && driver.as_ref().is_none_or(|driver| device.driver.as_ref() == Some(driver))
}

/// Ethernet with hardware behind it: no veth, bridge, tap, VLAN, bond.
fn is_physical_ethernet(link: &Link, device: &Device) -> bool {
    link.mac.is_some() && link.kind.is_none() && device.physical
}

/// `*` for any text, `?` for any one byte. A star is retried from its last place only: no pattern takes long.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                p += 1;
                retry = Some((p, n));
            }
            (Some(&want), Some(&have)) if want == b'?' || want == have => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, covered)) if covered < name.len() => {
                    (p, n) = (after, covered + 1);
                    retry = Some((after, n));
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            loopback: false,
            up: true,
            carrier: true,
            settled: true,
            mtu: 1500,
            enslaved: false,
            kind: None,
        }
    }

    fn named(name: &str) -> Rule {
        let matching = Match { name: Some(name.into()), ..Match::default() };
        Rule { matching, ..Rule::default() }
    }

    fn hardware() -> Device {
        Device { physical: true, driver: Some("virtio_net".into()) }
    }

    #[test]
    fn without_a_match_a_rule_is_for_physical_ethernet_only() {
        let rules = [Rule::dhcp_everywhere()];
        assert_eq!(rule_for(&rules, &link("eth0"), &hardware()), Some(0));
        assert_eq!(rule_for(&rules, &link("eth0"), &Device::default()), None);
        let veth = Link { kind: Some("veth".into()), ..link("eth0") };
        assert_eq!(rule_for(&rules, &veth, &hardware()), None);
        let infiniband = Link { mac: None, ..link("ib0") };
        assert_eq!(rule_for(&rules, &infiniband, &hardware()), None);
    }

    #[test]
    fn loopback_and_ports_match_nothing() {
        let rules = [named("*")];
        assert_eq!(rule_for(&rules, &Link { loopback: true, ..link("lo") }, &Device::default()), None);
        assert_eq!(rule_for(&rules, &Link { enslaved: true, ..link("eth0") }, &hardware()), None);
        assert_eq!(rule_for(&rules, &link("eth0"), &Device::default()), Some(0));
    }

    #[test]
    fn the_first_rule_counts_and_all_its_conditions() {
        let driver = Match { driver: Some("e1000".into()), ..named("eth*").matching };
        let mac = Match { mac: Some([2, 0, 0, 0, 0, 1]), ..Match::default() };
        let with = |matching| Rule { matching, ..Rule::default() };
        let rules = [with(driver), with(mac), named("eth0")];
        assert_eq!(rule_for(&rules, &link("eth0"), &hardware()), Some(1));
        let other = Link { mac: Some([9; 6]), ..link("eth0") };
        assert_eq!(rule_for(&rules, &other, &hardware()), Some(2));
        let e1000 = Device { driver: Some("e1000".into()), ..hardware() };
        assert_eq!(rule_for(&rules, &other, &e1000), Some(0));
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, want) in [
            ("eth*", "eth0", true),
            ("eth*", "veth0", false),
            ("*", "a", true),
            ("e?h0", "eth0", true),
            ("e*p?s*", "enp0s3", true),
            ("eth0", "eth01", false),
            ("****a", "aaaaaaaaaaaaaab", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
