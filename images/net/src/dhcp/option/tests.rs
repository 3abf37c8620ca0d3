use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn route(to: &str, via: &str) -> ClasslessRoute {
    ClasslessRoute { to: to.parse().unwrap(), via: (!via.is_empty()).then(|| via.parse().unwrap()) }
}

#[test]
fn destinations_take_as_many_bytes_as_their_prefix_needs() {
    // The table of RFC 3442, and a route on the link.
    for (bytes, want) in [
        (&[0, 10, 0, 0, 1][..], route("0.0.0.0/0", "10.0.0.1")),
        (&[8, 10, 10, 0, 0, 1], route("10.0.0.0/8", "10.0.0.1")),
        (&[24, 10, 0, 0, 10, 0, 0, 1], route("10.0.0.0/24", "10.0.0.1")),
        (&[16, 10, 17, 10, 0, 0, 1], route("10.17.0.0/16", "10.0.0.1")),
        (&[25, 10, 229, 0, 128, 10, 0, 0, 1], route("10.229.0.128/25", "10.0.0.1")),
        (&[32, 10, 198, 122, 47, 0, 0, 0, 0], route("10.198.122.47/32", "")),
    ] {
        assert_eq!(classless_routes(bytes), Some(vec![want]));
        assert_eq!(encode_classless_routes(&[want]), bytes);
    }
}

#[test]
fn a_routing_table_with_a_flaw_is_none() {
    for bytes in [&[][..], &[33, 1, 2, 3, 4, 5, 10, 0, 0, 1], &[8, 10, 10, 0, 0], &[8], &[0, 127, 0, 0, 1]] {
        assert_eq!(classless_routes(bytes), None, "{bytes:?}");
    }
    assert_eq!(classless_routes(&[0, 10, 0, 0, 1].repeat(65)), None);
}

#[test]
fn host_bits_of_a_destination_are_cleared() {
    assert_eq!(classless_routes(&[9, 10, 255, 10, 0, 0, 1]), Some(vec![route("10.128.0.0/9", "10.0.0.1")]));
}

#[test]
fn the_search_list_follows_its_pointers() {
    // The example of RFC 3397 section 2: eng.apple.com, then marketing. + pointer to apple.com.
    let bytes = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
    assert_eq!(search(bytes), ["eng.apple.com", "marketing.apple.com"]);
}

#[test]
fn a_search_list_that_goes_in_circles_ends() {
    for (bytes, want) in [
        (&b"\xc0\x00"[..], &[][..]),
        (b"\x01a\xc0\x00", &[]),
        (b"\x01a\x00\xc0\x03", &["a"]),
        (b"\x01a\x00\xc0\x09\x01b\x00", &["a"]),
        (b"\x01a\x00\x40b", &["a"]),
        (b"\x01a", &[]),
        (b"\x01a\x00\x01\n\x00\x01b\x00", &["a", "b"]),
    ] {
        assert_eq!(search(bytes), want, "{bytes:?}");
    }
}

#[test]
fn lists_of_addresses_are_unicast_without_repetition_and_bounded() {
    assert_eq!(
        addresses(&[10, 0, 0, 1, 10, 0, 0, 1, 224, 0, 0, 1, 9, 9, 9, 9, 7]),
        [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(9, 9, 9, 9)]
    );
    let many: Vec<u8> = (1..=20).flat_map(|i| [10, 0, 0, i]).collect();
    assert_eq!(addresses(&many).len(), MAX_LIST);
}

proptest! {
    #[test]
    fn routes_are_what_was_written(list in vec((any::<u32>(), 0u8..=32, any::<[u8; 3]>(), any::<bool>()), 1..20)) {
        let routes: Vec<ClasslessRoute> = list
            .into_iter()
            .map(|(bits, prefix, [a, b, c], on_link)| ClasslessRoute {
                to: Cidr::new(bits.into(), prefix).unwrap().network(),
                via: (!on_link).then(|| Ipv4Addr::new(10, a, b, c)),
            })
            .collect();
        prop_assert_eq!(classless_routes(&encode_classless_routes(&routes)), Some(routes));
    }

    #[test]
    fn random_bytes_never_panic_and_give_only_plain_names(bytes in vec(any::<u8>(), 0..300)) {
        let _ = (classless_routes(&bytes), addresses(&bytes), text(&bytes), u32(&bytes), u16(&bytes));
        for name in search(&bytes) {
            prop_assert_eq!(domain::name(&name), Some(name));
        }
    }

    #[test]
    fn name_like_bytes_never_panic(bytes in vec(prop_oneof![Just(0u8), Just(1), Just(0xc0), 0u8..8, b'a'..b'c'], 0..80)) {
        let _ = search(&bytes);
    }
}
