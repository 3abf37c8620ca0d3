use super::*;
use crate::config::RuleRoute;
use crate::dhcp::lease::Term;
use crate::dhcp::option::ClasslessRoute;
use proptest::prelude::*;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn lease(address: &str, routes: &[(&str, &str)]) -> Lease {
    let at = Time::from_millis;
    Lease {
        address: cidr(address),
        server: ip("10.0.0.1"),
        acquired: at(0),
        term: Some(Term { renew: at(30_000), rebind: at(50_000), end: at(60_000) }),
        routes: routes
            .iter()
            .map(|(to, via)| ClasslessRoute { to: cidr(to), via: (!via.is_empty()).then(|| ip(via)) })
            .collect(),
        dns: vec![],
        search: vec![],
        mtu: Some(1400),
        hostname: None,
    }
}

fn shown(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

/// The interface after the steps.
fn after(observed: &Observed, steps: &[Step]) -> Observed {
    let mut now = observed.clone();
    for step in steps {
        match step {
            Step::SwitchOn => {}
            Step::SetMtu(mtu) => now.mtu = *mtu,
            Step::RemoveAddress(address) => now.addresses.retain(|a| a != address),
            Step::SetAddress(address, _) => {
                now.addresses.retain(|a| a != address);
                now.addresses.push(*address);
            }
            Step::RemoveRoute(route) => now.routes.retain(|r| r != route),
            Step::SetRoute(route) => {
                now.routes.retain(|r| (r.to, r.metric) != (route.to, route.metric));
                now.routes.push(*route);
            }
        }
    }
    now
}

#[test]
fn a_lease_gives_an_address_that_ends_and_a_default_route_by_number() {
    let lease = lease("10.0.0.5/24", &[("0.0.0.0/0", "10.0.0.1")]);
    let desired = desired(3, &Rule::dhcp_everywhere(), Some(&lease), Time::from_millis(10_500));
    assert_eq!(desired.addresses, [(cidr("10.0.0.5/24"), Some(50))]);
    assert_eq!(
        desired.routes,
        [Route {
            to: Cidr::DEFAULT,
            via: Some(ip("10.0.0.1")),
            on_link: false,
            metric: 1003,
            protocol: Protocol::Dhcp,
            source: Some(ip("10.0.0.5")),
        }]
    );
    let steps = steps(&Observed { mtu: 1500, ..Observed::default() }, &desired);
    assert_eq!(
        shown(&steps),
        ["set MTU 1400", "set address 10.0.0.5/24", "set route 0.0.0.0/0 via 10.0.0.1 metric 1003"]
    );
}

#[test]
fn a_router_outside_the_network_is_on_the_link_and_link_routes_come_first() {
    let lease = lease("10.128.0.2/32", &[("0.0.0.0/0", "10.128.0.1"), ("10.128.0.1/32", "")]);
    let desired = desired(2, &Rule::dhcp_everywhere(), Some(&lease), Time::from_millis(0));
    let routes: Vec<_> = desired.routes.iter().map(|r| (r.to.to_string(), r.on_link)).collect();
    assert_eq!(routes, [("10.128.0.1/32".into(), false), ("0.0.0.0/0".into(), true)]);
}

#[test]
fn what_is_written_down_comes_before_what_the_server_says() {
    let rule = Rule {
        mtu: Some(9000),
        routes: vec![RuleRoute { to: Cidr::DEFAULT, via: Some(ip("10.0.0.254")), metric: None }],
        ..Rule::dhcp_everywhere()
    };
    let lease = lease("10.0.0.5/24", &[("0.0.0.0/0", "10.0.0.1")]);
    let desired = desired(2, &rule, Some(&lease), Time::from_millis(0));
    assert_eq!(desired.mtu, Some(9000));
    assert_eq!(desired.routes.len(), 1);
    assert_eq!(
        (desired.routes[0].via, desired.routes[0].protocol),
        (Some(ip("10.0.0.254")), Protocol::Static)
    );
}

#[test]
fn a_lost_lease_takes_its_address_and_routes_along_and_nothing_else() {
    let lease = lease("10.0.0.5/24", &[("0.0.0.0/0", "10.0.0.1")]);
    let rule = Rule::dhcp_everywhere();
    let ours = desired(2, &rule, Some(&lease), Time::from_millis(0));
    let foreign = Route { protocol: Protocol::Other(2), to: cidr("10.0.0.0/24"), ..ours.routes[0] };
    let observed = Observed {
        mtu: 1500,
        addresses: vec![cidr("10.0.0.5/24"), cidr("192.168.1.1/24")],
        routes: vec![ours.routes[0], foreign],
        leased: Some(cidr("10.0.0.5/24")),
    };
    let steps = steps(&observed, &desired(2, &rule, None, Time::from_millis(0)));
    assert_eq!(
        shown(&steps),
        ["remove route 0.0.0.0/0 via 10.0.0.1 metric 1002", "remove address 10.0.0.5/24"]
    );
    let mut gone = observed.clone();
    gone.addresses.clear();
    gone.routes.clear();
    assert_eq!(super::steps(&gone, &Desired::default()), []);
}

#[test]
fn another_lease_takes_the_place_of_the_last() {
    let rule = Rule::dhcp_everywhere();
    let old =
        desired(2, &rule, Some(&lease("10.0.0.5/24", &[("0.0.0.0/0", "10.0.0.1")])), Time::from_millis(0));
    let observed = Observed {
        mtu: 1400,
        addresses: vec![cidr("10.0.0.5/24")],
        routes: old.routes,
        leased: Some(cidr("10.0.0.5/24")),
    };
    let new = lease("10.7.0.5/24", &[("0.0.0.0/0", "10.7.0.1")]);
    let steps = steps(&observed, &desired(2, &rule, Some(&new), Time::from_millis(0)));
    assert_eq!(
        shown(&steps),
        [
            "remove address 10.0.0.5/24",
            "set address 10.7.0.5/24",
            "set route 0.0.0.0/0 via 10.7.0.1 metric 1002",
        ]
    );
}

fn route() -> impl Strategy<Value = (String, String)> {
    let via = prop_oneof![Just(String::new()), "10\\.[0-3]\\.0\\.[1-9]"];
    (0u8..=32, 0u8..4, via).prop_map(|(prefix, net, via)| {
        (Cidr::new(Ipv4Addr::new(10, net, 0, 0), prefix).unwrap().network().to_string(), via)
    })
}

fn a_lease() -> impl Strategy<Value = Lease> {
    (0u8..4, 1u8..9, proptest::collection::vec(route(), 0..5)).prop_map(|(net, host, routes)| {
        let routes: Vec<(&str, &str)> = routes.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        lease(&format!("10.{net}.0.{host}/24"), &routes)
    })
}

proptest! {
    #[test]
    fn from_any_lease_the_steps_lead_to_the_next(first in a_lease(), second in proptest::option::of(a_lease())) {
        let rule = Rule { addresses: vec![cidr("192.168.0.2/24")], ..Rule::dhcp_everywhere() };
        let now = Time::from_millis(0);
        let one = desired(2, &rule, Some(&first), now);
        let empty = Observed { mtu: 1500, ..Observed::default() };
        let mut have = after(&empty, &steps(&empty, &one));
        have.leased = Some(first.address);

        let two = desired(2, &rule, second.as_ref(), now);
        let done = after(&have, &steps(&have, &two));
        let mut addresses = done.addresses.clone();
        addresses.sort();
        let mut wanted: Vec<Cidr> = two.addresses.iter().map(|(a, _)| *a).collect();
        wanted.sort();
        prop_assert_eq!(addresses, wanted);
        let sorted = |mut routes: Vec<Route>| { routes.sort(); routes };
        prop_assert_eq!(sorted(done.routes.clone()), sorted(two.routes.clone()));

        // Doing it again changes nothing.
        let again = Observed { leased: second.map(|l| l.address), ..done.clone() };
        let same = after(&again, &steps(&again, &two));
        prop_assert_eq!(sorted(same.routes), sorted(done.routes));
    }
}
