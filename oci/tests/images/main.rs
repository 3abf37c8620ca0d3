//! The crate from outside: pulling from a registry that misbehaves in every known way, from real registries, from
//! archives, by several processes at once.

mod archives;
mod choosing;
mod configured;
mod faults;
mod login;
mod peers;
mod processes;
mod pushing;
mod support;
