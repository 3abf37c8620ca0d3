//! Netlink's framing (netlink(7)): messages of header and body, attributes of type and value, everything in the
//! machine's byte order and padded to four bytes.

use std::net::Ipv4Addr;

/// Length of a message header.
const HEADER: usize = 16;
/// Length of an attribute header.
const ATTR_HEADER: usize = 4;

/// A message type: what a message without other meaning says.
pub const ERROR: u16 = 2;
/// End of a listing.
pub const DONE: u16 = 3;

/// Every request has this.
pub const REQUEST: u16 = 1;
/// Ask for a word when it is done.
pub const ACK: u16 = 4;
/// List everything.
pub const DUMP: u16 = 0x300;
/// Replace what exists.
pub const REPLACE: u16 = 0x100;
/// Make what does not.
pub const CREATE: u16 = 0x400;
/// The listing was torn by a change.
pub const INTERRUPTED: u16 = 0x10;
/// Attributes follow the error.
pub const ACK_TLVS: u16 = 0x200;
/// The error does not repeat the request.
pub const CAPPED: u16 = 0x100;

/// Bits of an attribute's type that are not its number.
const ATTR_FLAGS: u16 = 0xc000;

/// A request being built.
#[derive(Debug, Clone)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of this type with its fixed part; [`REQUEST`] is added to the flags.
    #[must_use]
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self { kind, flags: flags | REQUEST, body: fixed.to_vec() }
    }

    /// Adds an attribute. The values here are a few bytes long.
    #[must_use]
    pub fn attr(mut self, number: u16, value: &[u8]) -> Self {
        let len = (ATTR_HEADER + value.len()) as u16;
        self.body.extend(len.to_ne_bytes());
        self.body.extend(number.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute of one number.
    #[must_use]
    pub fn attr_u32(self, number: u16, value: u32) -> Self {
        self.attr(number, &value.to_ne_bytes())
    }

    /// Adds an attribute of one address.
    #[must_use]
    pub fn attr_address(self, number: u16, value: Ipv4Addr) -> Self {
        self.attr(number, &value.octets())
    }

    /// The bytes to send, with this sequence number.
    #[must_use]
    pub fn encode(&self, seq: u32) -> Vec<u8> {
        let len = (HEADER + self.body.len()) as u32;
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        out.extend(len.to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend(self.flags.to_ne_bytes());
        out.extend(seq.to_ne_bytes());
        out.extend(0u32.to_ne_bytes());
        out.extend(&self.body);
        out
    }
}

/// A message as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request it answers; 0 for news.
    pub seq: u32,
    /// Fixed part and attributes.
    pub body: &'a [u8],
}

/// The messages in what was received; ends at the first that is torn.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let body = bytes.get(HEADER..len)?;
        let message =
            Message { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, seq: u32_at(bytes, 8)?, body };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes after a fixed part of this length, as number and value; ends at the first that is torn.
pub fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(fixed.next_multiple_of(4)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let number = u16_at(bytes, 2)? & !ATTR_FLAGS;
        let value = bytes.get(ATTR_HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// A number of two bytes.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number of four bytes.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An attribute's value that is an IPv4 address.
#[must_use]
pub fn address(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

/// An attribute's value that is text with a zero byte at its end.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_built_is_read(
            kind: u16, flags: u16, seq: u32,
            fixed in vec(any::<u8>(), 3..4),
            attrs in vec((0u16..0x3fff, vec(any::<u8>(), 0..20)), 0..8),
        ) {
            let fixed = fixed.repeat(4);
            let mut request = Request::new(kind, flags, &fixed);
            for (number, value) in &attrs {
                request = request.attr(*number, value);
            }
            let bytes = [request.encode(seq), request.encode(seq)].concat();
            let all: Vec<Message<'_>> = messages(&bytes).collect();
            prop_assert_eq!(all.len(), 2);
            prop_assert_eq!((all[1].kind, all[1].flags, all[1].seq), (kind, flags | REQUEST, seq));
            prop_assert!(all[1].body.starts_with(&fixed));
            let read: Vec<(u16, Vec<u8>)> =
                attributes(all[1].body, fixed.len()).map(|(n, v)| (n, v.to_vec())).collect();
            prop_assert_eq!(read, attrs);
        }

        #[test]
        fn random_bytes_never_panic_and_come_to_an_end(bytes in vec(any::<u8>(), 0..200), small in vec(0u8..40, 0..200)) {
            for bytes in [bytes, small] {
                for message in messages(&bytes) {
                    for fixed in [0, 8, 12, 16] {
                        prop_assert!(attributes(message.body, fixed).count() <= bytes.len());
                    }
                }
                prop_assert!(messages(&bytes).count() <= bytes.len());
            }
        }
    }
}
