use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// An acknowledgement of 10.0.0.5 by 10.0.0.1 for an hour, with more options or with some changed.
fn ack(options: &[(u8, &[u8])]) -> Message {
    let mut message = Message::reply(&Message::request(1, [2, 0, 0, 0, 0, 1]));
    message.yiaddr = Ipv4Addr::new(10, 0, 0, 5);
    let usual: [(u8, &[u8]); 4] =
        [(53, &[kind::ACK]), (54, &[10, 0, 0, 1]), (51, &[0, 0, 14, 16]), (1, &[255, 255, 255, 0])];
    for (code, value) in usual.iter().chain(options) {
        message.options.insert(*code, value.to_vec());
    }
    message
}

fn terms_of(message: &Message) -> Terms {
    match parse(message).unwrap() {
        Reply::Ack(terms) => terms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acknowledgement_gives_terms() {
    let terms = terms_of(&ack(&[
        (3, &[10, 0, 0, 1, 10, 0, 0, 2]),
        (6, &[9, 9, 9, 9, 1, 1, 1, 1]),
        (12, b"Node-7\0"),
        (15, b"example.org"),
        (26, &[5, 120]),
        (58, &[0, 0, 0, 60]),
        (59, &[0, 0, 0, 90]),
    ]));
    let via = Some(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(
        terms,
        Terms {
            address: "10.0.0.5/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            duration: Some(Duration::from_secs(3600)),
            renew_after: Some(Duration::from_secs(60)),
            rebind_after: Some(Duration::from_secs(90)),
            routes: vec![option::ClasslessRoute { to: Cidr::DEFAULT, via }],
            dns: vec![Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)],
            search: vec!["example.org".into()],
            mtu: Some(1400),
            hostname: Some("node-7".into()),
        }
    );
}

#[test]
fn classless_routes_replace_the_router() {
    let routers: (u8, &[u8]) = (3, &[10, 0, 0, 1]);
    let routes = terms_of(&ack(&[routers, (121, &[8, 10, 10, 0, 0, 9])])).routes;
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].to.to_string(), "10.0.0.0/8");
    assert_eq!(terms_of(&ack(&[routers, (121, &[8, 10])])).routes[0].to, Cidr::DEFAULT);
}

#[test]
fn a_search_list_replaces_the_domain_name() {
    assert_eq!(terms_of(&ack(&[(15, b"a.org"), (119, b"\x01b\x03org\0")])).search, ["b.org"]);
    assert_eq!(terms_of(&ack(&[(15, b"a.org\nnameserver 6.6.6.6")])).search, [""; 0]);
}

#[test]
fn an_address_without_mask_gets_its_class_s() {
    let mut message = ack(&[]);
    message.options.remove(&1);
    assert_eq!(terms_of(&message).address.prefix(), 8);
}

#[test]
fn a_lease_of_all_ones_has_no_end() {
    assert_eq!(terms_of(&ack(&[(51, &[255; 4])])).duration, None);
}

#[test]
fn an_mtu_that_would_cost_ipv6_is_not_taken() {
    assert_eq!(terms_of(&ack(&[(26, &[2, 64])])).mtu, None);
}

#[test]
fn a_refusal_may_say_why() {
    let reply = parse(&ack(&[(53, &[kind::NAK]), (56, b"wrong\x1b[2J network")])).unwrap();
    assert_eq!(
        reply,
        Reply::Nak { server: Ipv4Addr::new(10, 0, 0, 1), text: Some("wrong[2J network".into()) }
    );
}

#[test]
fn each_useless_message_has_its_error() {
    for (code, value, want) in [
        (53, &[1][..], ReplyError::Kind { kind: Some(1) }),
        (53, &[], ReplyError::Kind { kind: None }),
        (54, &[0, 0, 0, 0], ReplyError::NoServer),
        (51, &[0, 0, 0, 0], ReplyError::NoLeaseTime),
        (51, &[1], ReplyError::NoLeaseTime),
        (
            1,
            &[255, 0, 255, 0],
            ReplyError::Address {
                address: Ipv4Addr::new(10, 0, 0, 5),
                mask: Some(Ipv4Addr::new(255, 0, 255, 0)),
            },
        ),
    ] {
        assert_eq!(parse(&ack(&[(code, value)])), Err(want));
    }
    let mut message = ack(&[]);
    message.yiaddr = Ipv4Addr::LOCALHOST;
    assert!(matches!(parse(&message), Err(ReplyError::Address { .. })));
    message.op = Op::Request;
    assert_eq!(parse(&message), Err(ReplyError::NotReply));
}

proptest! {
    #[test]
    fn whatever_a_server_says_the_terms_are_in_order(
        yiaddr: u32,
        options in btree_map(prop::sample::select(vec![1u8, 3, 6, 12, 15, 26, 51, 54, 56, 58, 59, 119, 121]), vec(any::<u8>(), 0..40), 0..13),
        kind in 0u8..9,
    ) {
        let mut message = ack(&[]);
        message.yiaddr = yiaddr.into();
        message.options.extend(options);
        message.options.insert(53, vec![kind]);
        match parse(&message) {
            Ok(Reply::Offer(terms) | Reply::Ack(terms)) => {
                prop_assert!(terms.address.is_host_address());
                prop_assert!(terms.duration.is_none_or(|d| !d.is_zero()));
                prop_assert!(terms.mtu.is_none_or(|mtu| mtu >= 1280));
                prop_assert!(terms.search.iter().all(|name| domain::name(name).as_ref() == Some(name)));
            }
            Ok(Reply::Nak { text, .. }) => {
                prop_assert!(text.is_none_or(|text| !text.contains(char::is_control)));
            }
            Err(_) => {}
        }
    }
}
