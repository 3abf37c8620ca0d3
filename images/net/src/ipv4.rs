//! An IPv4 address with the length of its network's prefix, as in `10.0.0.2/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An address and its prefix length (0 to 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// What is wrong with a text that should be an address and a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CidrError {
    /// Not `ADDRESS/PREFIX`.
    #[error("not of the form 10.0.0.2/24")]
    Form,
    /// More bits than an address has.
    #[error("prefix length {0} is over 32")]
    Prefix(u8),
}

impl Cidr {
    /// The default route's destination.
    pub const DEFAULT: Self = Self { address: Ipv4Addr::UNSPECIFIED, prefix: 0 };

    /// An address with a prefix length.
    ///
    /// # Errors
    /// When the prefix is over 32.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, CidrError> {
        if prefix > 32 { Err(CidrError::Prefix(prefix)) } else { Ok(Self { address, prefix }) }
    }

    /// A network of one address.
    #[must_use]
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { address, prefix: 32 }
    }

    /// The address as written, host bits included.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Length of the prefix in bits, 0 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// The network: the same with the host bits cleared.
    #[must_use]
    pub fn network(self) -> Self {
        Self { address: Ipv4Addr::from(u32::from(self.address) & self.mask()), prefix: self.prefix }
    }

    /// The network's broadcast address; none below /30, where every address is a host's (RFC 3021).
    #[must_use]
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix <= 30).then(|| Ipv4Addr::from(u32::from(self.address) | !self.mask()))
    }

    /// Whether `address` is in this network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.address) & self.mask()
    }

    /// Whether an interface can have this address: unicast, and neither the network's own nor its broadcast
    /// address.
    #[must_use]
    pub fn is_host_address(self) -> bool {
        is_unicast(self.address)
            && self.prefix > 0
            && self
                .broadcast()
                .is_none_or(|all| self.address != all && self.address != self.network().address)
    }
}

/// Whether a host can have this address at all.
#[must_use]
pub fn is_unicast(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    // 0/8 is "this network", 127/8 loopback, 224/4 multicast, 240/4 reserved up to the broadcast address.
    first != 0 && first != 127 && first < 224
}

/// The prefix length that a netmask such as 255.255.255.0 stands for; none when its ones are not contiguous.
#[must_use]
pub fn prefix_of_mask(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (bits.count_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
}

/// The prefix length an address had before there were masks.
#[must_use]
pub fn classful_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError::Form)?;
        if !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(CidrError::Form);
        }
        Self::new(address.parse().map_err(|_| CidrError::Form)?, prefix.parse().map_err(|_| CidrError::Form)?)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["10.0.0.2/24", "0.0.0.0/0", "192.0.2.1/32"] {
            assert_eq!(cidr(text).to_string(), text);
        }
        for text in ["10.0.0.2", "10.0.0/24", "10.0.0.2/", "10.0.0.2/+4", "10.0.0.2/400", "/24", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Form), "{text}");
        }
        assert_eq!("10.0.0.2/33".parse::<Cidr>(), Err(CidrError::Prefix(33)));
    }

    #[test]
    fn some_addresses_are_no_host_s() {
        for (text, want) in [
            ("10.0.0.2/24", true),
            ("10.0.0.0/24", false),
            ("10.0.0.255/24", false),
            ("10.0.0.0/31", true),
            ("10.0.0.255/32", true),
            ("10.0.0.2/0", false),
            ("127.0.0.1/8", false),
            ("224.0.0.1/4", false),
            ("0.0.0.1/8", false),
            ("255.255.255.255/32", false),
        ] {
            assert_eq!(cidr(text).is_host_address(), want, "{text}");
        }
    }

    #[test]
    fn a_mask_with_holes_has_no_prefix() {
        assert_eq!(prefix_of_mask(Ipv4Addr::new(255, 255, 255, 0)), Some(24));
        assert_eq!(prefix_of_mask(Ipv4Addr::BROADCAST), Some(32));
        assert_eq!(prefix_of_mask(Ipv4Addr::UNSPECIFIED), Some(0));
        assert_eq!(prefix_of_mask(Ipv4Addr::new(255, 0, 255, 0)), None);
    }

    proptest! {
        #[test]
        fn a_network_contains_its_ends_and_nothing_beyond(bits: u32, prefix in 0u8..=32) {
            let net = Cidr::new(bits.into(), prefix).unwrap();
            let first = u32::from(net.network().address());
            let last = first | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            prop_assert!(net.contains(first.into()) && net.contains(last.into()));
            prop_assert!(first == 0 || !net.contains((first - 1).into()));
            prop_assert!(last == u32::MAX || !net.contains((last + 1).into()));
            prop_assert_eq!(net.to_string().parse::<Cidr>().unwrap(), net);
        }
    }
}
