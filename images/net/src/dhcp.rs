//! DHCPv4 (RFC 2131): the messages, what a server's reply says, the lease made of it, and the client as a pure
//! state machine.
//!
//! ```text
//! bytes -- message::decode --> Message -- reply::parse --> Reply { Offer | Ack (Terms) | Nak }
//!                                                            |
//!            Lease  <------------- client::Client::on(event, now, random) -> actions
//! ```

pub mod message;

pub mod option;

pub mod reply;

pub mod lease;

pub mod client;
