//! Any bytes, taken as a DHCP message, are refused, or give terms that are in order.
#![no_main]

use kit_net::dhcp::message;
use kit_net::dhcp::reply::{self, Reply};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = message::decode(bytes) else { return };
    assert_eq!(message::decode(&message.encode()).ok().as_ref(), Some(&message));
    if let Ok(Reply::Offer(terms) | Reply::Ack(terms)) = reply::parse(&message) {
        assert!(terms.address.is_host_address());
    }
});
