//! Bytes of file systems and disks: archives, file systems, partition tables and boot images, written as streams.
//!
//! **Invariant:** `disk` knows bytes only; it knows no node and no image.
//!
//! Every writer is generic over [`std::io::Write`] (and [`std::io::Seek`] where a size is known only after the
//! bytes), takes contents as readers or closures of a stated length, and is deterministic: times, volume
//! identifiers and GUIDs are the caller's, nothing here reads a clock or a directory. What has to be computed before
//! a byte can be written (cluster chains, sector addresses) is a separate, pure `layout` step, so that two formats
//! can share one extent.

#![forbid(unsafe_code)]

mod calendar;
pub mod content;
pub mod window;

pub mod cpio;
pub mod fat;
pub mod gpt;
pub mod iso9660;
pub mod squashfs;
pub mod uki;
