//! The DHCP message on the wire (RFC 2131 section 2, options by RFC 2132 and RFC 3396).
//!
//! An option that occurs more than once is one long option, cut (RFC 3396): [`decode`] joins the parts,
//! [`Message::encode`] cuts what is over 255 bytes. When a server overloads the `file` and `sname` fields with
//! options (option 52), those are read after the options field, in that order (RFC 3396 section 5).
//! Only Ethernet hardware addresses are known.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use thiserror::Error;

/// The fixed fields, up to the magic cookie.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP relays may drop anything shorter (RFC 1542 section 2.1).
const SHORTEST_SENT: usize = 300;
/// The longest message that is read or announced as readable (option 57): what fits an Ethernet frame.
pub const MAX_MESSAGE: usize = 1472;

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

const PAD: u8 = 0;
const END: u8 = 255;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client.
    Request,
    /// A server.
    Reply,
}

/// Options by code, each whole. Pad, end and overload are not among them: they are the encoding's own.
pub type Options = BTreeMap<u8, Vec<u8>>;

/// A message; `sname` and `file` are not kept but for the options in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub op: Op,
    /// The transaction's number, chosen by the client.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The top bit asks for replies by broadcast.
    pub flags: u16,
    /// The client's address, when it has one and answers ARP for it.
    pub ciaddr: Ipv4Addr,
    /// The address given.
    pub yiaddr: Ipv4Addr,
    /// The next boot server.
    pub siaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: [u8; 6],
    /// The options.
    pub options: Options,
}

/// Bytes that are no DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Shorter than the fixed fields or longer than was announced.
    #[error("{len} bytes are no message's length (240 to {MAX_MESSAGE})")]
    Length {
        /// The number of bytes.
        len: usize,
    },
    /// The operation code.
    #[error("operation {op} is neither request nor reply")]
    Op {
        /// The code.
        op: u8,
    },
    /// Another kind of hardware address.
    #[error("hardware type {htype} with addresses of {hlen} bytes is not Ethernet")]
    Hardware {
        /// The type (ARP's).
        htype: u8,
        /// The address length in bytes.
        hlen: u8,
    },
    /// A BOOTP message, or something else.
    #[error("the magic cookie is missing")]
    Cookie,
    /// An option that goes past the end of its field.
    #[error("option {code} runs past the end of its field")]
    Option {
        /// The option's code.
        code: u8,
    },
}

/// Reads a message.
///
/// # Errors
/// Says in which way the bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if !(FIXED + COOKIE.len()..=MAX_MESSAGE).contains(&bytes.len()) {
        return Err(DecodeError::Length { len: bytes.len() });
    }
    let op = match bytes[0] {
        1 => Op::Request,
        2 => Op::Reply,
        op => return Err(DecodeError::Op { op }),
    };
    if (bytes[1], bytes[2]) != (1, 6) {
        return Err(DecodeError::Hardware { htype: bytes[1], hlen: bytes[2] });
    }
    if bytes[FIXED..FIXED + 4] != COOKIE {
        return Err(DecodeError::Cookie);
    }

    let mut options = Options::new();
    read_options(&bytes[FIXED + 4..], &mut options)?;
    let overload = options.remove(&OVERLOAD).and_then(|v| v.first().copied()).unwrap_or(0);
    if overload & 1 != 0 {
        read_options(&bytes[FILE], &mut options)?;
    }
    if overload & 2 != 0 {
        read_options(&bytes[SNAME], &mut options)?;
    }
    // An overload said inside an overloaded field means nothing.
    options.remove(&OVERLOAD);

    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    Ok(Message {
        op,
        xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        secs: u16::from_be_bytes([bytes[8], bytes[9]]),
        flags: u16::from_be_bytes([bytes[10], bytes[11]]),
        ciaddr: address(12),
        yiaddr: address(16),
        siaddr: address(20),
        giaddr: address(24),
        chaddr: [bytes[28], bytes[29], bytes[30], bytes[31], bytes[32], bytes[33]],
        options,
    })
}

/// Reads one field of options, appending to options already there. A field may end without an end mark.
fn read_options(mut field: &[u8], options: &mut Options) -> Result<(), DecodeError> {
    while let [code, rest @ ..] = field {
        match *code {
            PAD => field = rest,
            END => break,
            code => {
                let past = DecodeError::Option { code };
                let (&len, rest) = rest.split_first().ok_or(past)?;
                let (value, rest) = rest.split_at_checked(usize::from(len)).ok_or(past)?;
                options.entry(code).or_default().extend(value);
                field = rest;
            }
        }
    }
    Ok(())
}

impl Message {
    /// A message of a client with this hardware address; everything else is zero.
    #[must_use]
    pub fn request(xid: u32, chaddr: [u8; 6]) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self {
            op: Op::Request,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: none,
            yiaddr: none,
            siaddr: none,
            giaddr: none,
            chaddr,
            options: Options::new(),
        }
    }

    /// A server's answer to `request`, still without address and options.
    #[must_use]
    pub fn reply(request: &Self) -> Self {
        Self { op: Op::Reply, options: Options::new(), secs: 0, ..request.clone() }
    }

    /// The bytes; the message type comes first among the options, the rest by code.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SHORTEST_SENT);
        out.extend([if self.op == Op::Request { 1 } else { 2 }, 1, 6, 0]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr);
        out.resize(FIXED, 0);
        out.extend(COOKIE);
        if let Some(value) = self.options.get(&MESSAGE_TYPE) {
            write_option(&mut out, MESSAGE_TYPE, value);
        }
        for (&code, value) in &self.options {
            if !matches!(code, PAD | END | OVERLOAD | MESSAGE_TYPE) {
                write_option(&mut out, code, value);
            }
        }
        out.push(END);
        if out.len() < SHORTEST_SENT {
            out.resize(SHORTEST_SENT, PAD);
        }
        out
    }
}

fn write_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        out.extend([code, 0]);
    }
    for part in value.chunks(255) {
        out.extend([code, part.len() as u8]);
        out.extend(part);
    }
}

#[cfg(test)]
mod tests;
