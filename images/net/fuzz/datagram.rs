//! Any bytes, taken as what comes from a packet socket, are no answer or hold a payload.
#![no_main]

use kit_net::datagram::{UdpChecksum, payload_for_client};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for checksum in [UdpChecksum::Written, UdpChecksum::NotWritten] {
        if let Some(payload) = payload_for_client(bytes, checksum) {
            assert!(payload.len() <= bytes.len());
        }
    }
});
