//! kitbuild: from a node file to a bootable image.
//!
//! Invariant: no clock, no unsorted directory and no undeclared environment is read while an image is assembled. What
//! comes out depends on the node file, its pinned inputs and the options, byte for byte.
//!
//! ```text
//! node files ── kit_spec::node ──▶ Node
//!   resolve::resolve             the only step that asks *what*: tags, versions            ──▶ Locked
//!   fetch::fetch                 the only step that asks *for bytes*, into the store
//!   image::{from_layers, ..}     verified blobs, unpacked once                             ──▶ Image
//!   assemble::assemble           everything in its place, and the boot plan                ──▶ Root
//!   format::write                one function a format                                     ──▶ Artifact
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod assemble;
pub mod build;
pub mod cli;
mod command;
pub mod contents;
pub mod fetch;
pub mod format;
pub mod image;
pub mod kernel;
pub mod layers;
pub mod oci_image;
pub mod oci_volume;
pub mod output;
pub mod report;
pub mod resolve;
pub mod root;
pub mod signals;
pub mod temporary;

/// Where bytes come from.
pub mod source {
    pub mod ar;
    pub mod deb;
    pub mod debian_root;
    pub mod recipe;
}
