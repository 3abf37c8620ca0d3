//! rtnetlink, synchronous (rtnetlink(7)): links, addresses and IPv4 routes are listed, set up, added and deleted.
//!
//! ```text
//! wire      headers and attributes: built, and read with bounds
//! link, address, route    one object each: parse(&Message), and the requests about it
//! socket    sends a request, collects its answers
//! ```

pub mod wire;

pub mod link;

pub mod address;

pub mod route;

pub mod socket;
