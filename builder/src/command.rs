//! The commands: each turns flags into options and makes one call.

pub mod build;
pub mod cache;
pub mod check;
pub mod image;
pub mod inspect;
pub mod lock;
pub mod machines;
pub mod run;
mod setup;
