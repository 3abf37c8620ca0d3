use super::*;
use proptest::prelude::*;
use std::error::Error as _;

/// The messages of an error and its causes.
fn complaint(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let mut lines = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(error.to_string());
        cause = error.source();
    }
    lines.join(" / ")
}

#[test]
fn nothing_written_is_dhcp_everywhere() {
    assert_eq!(parse("{}").unwrap(), [Rule::dhcp_everywhere()]);
    assert_eq!(parse(r#"{"interfaces": [{}]}"#).unwrap(), [Rule::dhcp_everywhere()]);
    assert_eq!(parse(r#"{"interfaces": []}"#).unwrap(), []);
}

#[test]
fn every_key_is_read() {
    let rules = parse(
        r#"{"interfaces": [{
            "name": "eth*", "mac": "52:54:00:12:34:fF", "driver": "virtio_net",
            "dhcp": true, "addresses": ["10.0.0.2/24"], "gateway": "10.0.0.1",
            "routes": [{"to": "10.1.0.0/16", "via": "10.0.0.9", "metric": 5}, {"to": "default"}],
            "mtu": 9000, "dns": ["9.9.9.9", "2620:fe::fe"], "search": ["Example.org"],
            "hostname_from_dhcp": true, "required": true
        }]}"#,
    )
    .unwrap();
    let route = |to: &str, via: &str, metric| RuleRoute {
        to: to.parse().unwrap(),
        via: (!via.is_empty()).then(|| via.parse().unwrap()),
        metric,
    };
    assert_eq!(
        rules,
        [Rule {
            matching: Match {
                name: Some("eth*".into()),
                mac: Some([0x52, 0x54, 0, 0x12, 0x34, 0xff]),
                driver: Some("virtio_net".into()),
            },
            first_only: false,
            dhcp: true,
            addresses: vec!["10.0.0.2/24".parse().unwrap()],
            routes: vec![
                route("0.0.0.0/0", "10.0.0.1", None),
                route("10.1.0.0/16", "10.0.0.9", Some(5)),
                route("0.0.0.0/0", "", None),
            ],
            mtu: Some(9000),
            dns: vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()],
            search: vec!["example.org".into()],
            hostname: Hostname::FromDhcp,
            required: true,
        }]
    );
}

#[test]
fn addresses_turn_dhcp_off_unless_it_is_asked_for() {
    let rules = parse(r#"{"interfaces": [{"addresses": ["10.0.0.2/24"]}, {"dhcp": false}]}"#).unwrap();
    assert_eq!(
        rules.iter().map(|r| (r.dhcp, r.wants_address())).collect::<Vec<_>>(),
        [(false, true), (false, false)]
    );
}

#[test]
fn every_complaint_names_its_key() {
    let wrapped = |rule: &str| format!(r#"{{"interfaces": [{{}}, {rule}]}}"#);
    for (text, want) in [
        ("[]".into(), "the file: expected an object"),
        ("{".into(), "not valid JSON / EOF while parsing an object at line 1 column 1"),
        (r#"{"interface": []}"#.into(), "interface: unknown key (known: interfaces)"),
        (
            wrapped(r#"{"adress": 1}"#),
            "interfaces[1].adress: unknown key (known: name, mac, driver, dhcp, addresses, gateway, routes, mtu, \
             dns, search, hostname_from_dhcp, required)",
        ),
        (
            r#"{"interfaces": [{"mtu": 1500, "mtu": 9000}]}"#.into(),
            "not valid JSON / key `mtu` is given twice at line 1 column 35",
        ),
        (wrapped(r#"{"dhcp": "yes"}"#), "interfaces[1].dhcp: expected true or false"),
        (wrapped(r#"{"dhcp": null}"#), "interfaces[1].dhcp: expected true or false"),
        (wrapped(r#"{"mtu": 1.5}"#), "interfaces[1].mtu: expected a whole number"),
        (wrapped(r#"{"mtu": 67}"#), "interfaces[1].mtu: `67` / not from 68 to 65535"),
        (wrapped(r#"{"addresses": "10.0.0.2/24"}"#), "interfaces[1].addresses: expected a list"),
        (
            wrapped(r#"{"addresses": ["10.0.0.2/24", "10.0.0.3/33"]}"#),
            "interfaces[1].addresses[1]: `10.0.0.3/33` / prefix length 33 is over 32",
        ),
        (
            wrapped(r#"{"addresses": ["10.0.0.0/24"]}"#),
            "interfaces[1].addresses[0]: `10.0.0.0/24` / no address that an interface can have",
        ),
        (
            wrapped(r#"{"mac": "52:54:00:12:34"}"#),
            "interfaces[1].mac: `52:54:00:12:34` / not of the form 52:54:00:12:34:56",
        ),
        (
            wrapped(r#"{"dhcp": false, "gateway": "10.0.0.1"}"#),
            "interfaces[1].gateway: needs `addresses` or `dhcp` beside it",
        ),
        (wrapped(r#"{"gateway": "fe80::1"}"#), "interfaces[1].gateway: `fe80::1` / not an IPv4 address"),
        (wrapped(r#"{"routes": [{"via": "10.0.0.1"}]}"#), "interfaces[1].routes[0].to: missing"),
        (
            wrapped(r#"{"routes": [{"to": "10.1.2.3/16"}]}"#),
            "interfaces[1].routes[0].to: `10.1.2.3/16` / has bits beyond its prefix; the network is 10.1.0.0/16",
        ),
        (wrapped(r#"{"search": ["a b"]}"#), "interfaces[1].search[0]: `a b` / not a domain name"),
        (
            wrapped(r#"{"name": "../x"}"#),
            "interfaces[1].name: `../x` / not a name: 1 to 64 characters without blanks and slashes",
        ),
    ] {
        assert_eq!(complaint(&text), want);
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(?s).{0,100}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_value_at_any_key_is_parsed_or_refused(key in 0usize..12, value in "(\"[a-z0-9./:]{0,12}\"|[0-9]{1,12}|-1|null|true|\\[\\]|\\[\"[0-9./]{0,12}\"\\]|\\{\\})") {
        let _ = parse(&format!("{{\"interfaces\":[{{\"{}\":{value}}}]}}", RULE_KEYS[key]));
    }

    #[test]
    fn a_hardware_address_is_what_it_shows(bytes: [u8; 6]) {
        prop_assert_eq!(mac(&mac_text(bytes)), Ok(bytes));
    }
}
