//! IPv4 and UDP headers (RFC 791, RFC 768) around a DHCP message: a client without an address sends and
//! receives them itself.

use std::net::Ipv4Addr;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// The port a DHCP server listens on.
pub const SERVER_PORT: u16 = 67;
/// The port a DHCP client listens on.
pub const CLIENT_PORT: u16 = 68;

/// Whether the UDP checksum of a received packet can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpChecksum {
    /// As sent over the wire.
    Written,
    /// A sender on this very machine left it to hardware that the packet never met (`TP_STATUS_CSUMNOTREADY`).
    NotWritten,
}

/// Wraps `payload` for broadcast from 0.0.0.0:68 to 255.255.255.255:67.
///
/// A payload that does not fit an IPv4 packet (over 65,507 bytes) is cut; no DHCP message comes near it.
#[must_use]
pub fn broadcast(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(usize::from(u16::MAX) - IP_HEADER - UDP_HEADER)];
    encode((Ipv4Addr::UNSPECIFIED, CLIENT_PORT), (Ipv4Addr::BROADCAST, SERVER_PORT), payload)
}

fn encode(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    // Both lengths fit: the caller has cut the payload.
    let udp_len = (UDP_HEADER + payload.len()) as u16;
    let ip_len = udp_len + IP_HEADER as u16;

    let mut packet = Vec::with_capacity(usize::from(ip_len));
    packet.extend([0x45, 0]); // version 4, five words of header; no service class
    packet.extend(ip_len.to_be_bytes());
    packet.extend([0; 4]); // identification, flags, fragment offset: never fragmented
    packet.extend([64, PROTOCOL_UDP]); // time to live
    packet.extend([0; 2]); // checksum
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = !fold(sum_words(&packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0; 2]);
    packet.extend(payload);
    let sum = !fold(pseudo_header(from.0, to.0, udp_len) + sum_words(&packet[IP_HEADER..]));
    // Zero means "no checksum": a sum of zero is sent as its other form.
    let sum = if sum == 0 { 0xffff } else { sum };
    packet[IP_HEADER + 6..IP_HEADER + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The payload of a packet that holds a whole, undamaged UDP datagram for port 68.
#[must_use]
pub fn payload_for_client(packet: &[u8], checksum: UdpChecksum) -> Option<&[u8]> {
    let header_len = usize::from(*packet.first()? & 0xf) * 4;
    if packet[0] >> 4 != 4 || header_len < IP_HEADER {
        return None;
    }
    let header = packet.get(..header_len)?;
    let total = usize::from(u16_at(header, 2));
    let fragment = u16_at(header, 6) & 0x3fff;
    if header[9] != PROTOCOL_UDP || fragment != 0 || fold(sum_words(header)) != 0xffff {
        return None;
    }

    // Ethernet pads short frames: what is past the packet's own length is not part of it.
    let udp = packet.get(header_len..total)?;
    let len = usize::from(u16_at(udp.get(..UDP_HEADER)?, 4));
    let udp = udp.get(..len)?;
    let payload = udp.get(UDP_HEADER..)?;
    if u16_at(udp, 2) != CLIENT_PORT {
        return None;
    }
    if checksum == UdpChecksum::Written && u16_at(udp, 6) != 0 {
        let (from, to) = (address_at(header, 12), address_at(header, 16));
        if fold(pseudo_header(from, to, len as u16) + sum_words(udp)) != 0xffff {
            return None;
        }
    }
    Some(payload)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// The part of a UDP checksum that covers the addresses (RFC 768).
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, udp_len: u16) -> u64 {
    sum_words(&from.octets()) + sum_words(&to.octets()) + u64::from(PROTOCOL_UDP) + u64::from(udp_len)
}

/// Sum of the 16-bit words, an odd last byte padded with zero (RFC 1071).
fn sum_words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_client(payload: &[u8]) -> Vec<u8> {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        encode((server, SERVER_PORT), (Ipv4Addr::new(10, 0, 0, 9), CLIENT_PORT), payload)
    }

    #[test]
    fn the_headers_are_those_of_the_rfcs() {
        // Computed by hand from RFC 791 and RFC 768.
        let packet = broadcast(b"abc");
        let want = [
            0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0x7a, 0xcf, 0, 0, 0, 0, 255, 255, 255, 255, //
            0, 68, 0, 67, 0, 11, 0x3a, 0xef, b'a', b'b', b'c',
        ];
        assert_eq!(packet, want);
    }

    #[test]
    fn padding_after_the_packet_is_not_payload() {
        let mut packet = to_client(b"x");
        packet.extend([0; 17]);
        assert_eq!(payload_for_client(&packet, UdpChecksum::Written), Some(&b"x"[..]));
    }

    #[test]
    fn only_whole_datagrams_for_the_client_get_through() {
        let good = to_client(b"hello");
        assert!(payload_for_client(&good[..good.len() - 1], UdpChecksum::Written).is_none());
        assert!(payload_for_client(&broadcast(b"hello"), UdpChecksum::Written).is_none());
        let mut fragment = good.clone();
        fragment[6] = 0x20;
        let sum = u16_at(&fragment, 10) - 0x2000;
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(payload_for_client(&fragment, UdpChecksum::Written).is_none());
    }

    #[test]
    fn a_checksum_that_nobody_wrote_is_not_checked() {
        let mut packet = to_client(b"hello");
        packet[IP_HEADER + 6] ^= 1;
        assert!(payload_for_client(&packet, UdpChecksum::Written).is_none());
        assert_eq!(payload_for_client(&packet, UdpChecksum::NotWritten), Some(&b"hello"[..]));
        packet[IP_HEADER + 6..IP_HEADER + 8].fill(0);
        assert_eq!(payload_for_client(&packet, UdpChecksum::Written), Some(&b"hello"[..]));
    }

    proptest! {
        #[test]
        fn what_is_wrapped_is_unwrapped(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
            let packet = to_client(&payload);
            prop_assert_eq!(payload_for_client(&packet, UdpChecksum::Written), Some(&payload[..]));
        }

        #[test]
        fn any_flipped_bit_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..40), at: prop::sample::Index, bit in 0u8..8) {
            let mut packet = to_client(&payload);
            // One flip away from zero is one flip away from "no checksum".
            prop_assume!(u16_at(&packet, IP_HEADER + 6).count_ones() > 1);
            let at = at.index(packet.len());
            packet[at] ^= 1 << bit;
            prop_assert_eq!(payload_for_client(&packet, UdpChecksum::Written), None);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), head in any::<bool>()) {
            let mut bytes = bytes;
            if head && bytes.len() > 10 {
                bytes[0] = 0x45;
                bytes[9] = PROTOCOL_UDP;
            }
            let _ = payload_for_client(&bytes, UdpChecksum::NotWritten);
        }
    }
}
