//! Applies sysctl.d settings to `/proc/sys` at boot; one bad setting never keeps a good one from being
//! written, and only paths below the given root are ever opened for writing.
//!
//! ```text
//! *.conf bytes -- conf::parse --> Entry ..   (file:line, key, value | exclude, `-`)
//!              -- plan::plan  --> Setting .. (globs expanded, one value for each key)
//!              -- apply       --> Outcome    (what was written, and a warning for each that was not)
//! ```
//!
//! The grammar is that of sysctl.d(5): see [`conf`].

#![forbid(unsafe_code)]

pub mod conf;
pub mod glob;
pub mod plan;

pub mod apply;

pub mod cli;
