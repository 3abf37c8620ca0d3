use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn loopback_is_listed_with_its_address() {
    let mut netlink = Netlink::open().unwrap();
    let links = netlink.links().unwrap();
    let lo = links.iter().find(|link| link.name == "lo").unwrap();
    assert!(lo.loopback && lo.mac.is_none() && lo.index == 1, "{lo:?}");
    let addresses = netlink.addresses().unwrap();
    if lo.up {
        assert!(addresses.iter().any(|a| a.index == 1 && a.address.to_string() == "127.0.0.1/8"));
    }
    netlink.routes().unwrap();
}

#[test]
fn a_refusal_has_the_kernel_s_number() {
    let mut netlink = Netlink::open().unwrap();
    let error = netlink.execute("set link 2000000000 up", &link::set_up(2_000_000_000)).unwrap_err();
    let known = [rustix::io::Errno::NODEV, rustix::io::Errno::PERM];
    assert!(known.iter().any(|errno| error.is(*errno)), "{error:?}");
    assert_eq!(error.to_string(), "set link 2000000000 up");
    // The socket is in order afterwards.
    netlink.links().unwrap();
}

#[test]
fn a_refusal_may_come_with_words() {
    let request = link::set_up(7).encode(3);
    for capped in [false, true] {
        let mut body = (-22i32).to_ne_bytes().to_vec();
        body.extend(if capped { &request[..16] } else { &request[..] });
        body.extend(*b"\x0a\0\x01\0words\0\0\0");
        let flags = wire::ACK_TLVS | if capped { wire::CAPPED } else { 0 };
        let (source, words) = refusal(&Message { kind: wire::ERROR, flags, seq: 3, body: &body }).unwrap();
        assert_eq!(source.raw_os_error(), Some(22));
        assert_eq!(words.as_deref(), if cfg!(target_endian = "little") { Some("words") } else { None });
    }
}

#[test]
fn nothing_new_is_no_news() {
    assert_eq!(Events::open().unwrap().read().unwrap(), []);
}

proptest! {
    #[test]
    fn random_bodies_never_panic(body in vec(any::<u8>(), 0..160), small in vec(0u8..30, 0..160), flags: u16) {
        for body in [body, small] {
            for kind in [link::NEW, link::DEL] {
                let message = Message { kind, flags, seq: 0, body: &body };
                let _ = (understood(&message), link::parse(&message), address::parse(&message));
                let _ = (route::parse(&message), refusal(&message));
            }
        }
    }
}
