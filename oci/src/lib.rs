//! Container images: resolve a reference, pull what it means by digest, keep it, and hand it on.
//!
//! Invariant: no byte of a blob leaves this crate unchecked. Either the whole blob was hashed before the first byte is
//! handed out ([`store::Store::open_verified`], [`store::Store::read`]), or the reader hashes while it streams and
//! reports the mismatch before it reports the end ([`digest::Verifying`]); who streams commits only after
//! [`digest::Verifying::finish`] gave its [`digest::Proof`].
//!
//! ```text
//! reference::Reference            what was written, normalised
//!   | pull::resolve               the only function that asks *what*: tag -> digest, index -> platform
//! pull::Pinned                    reference, digest, media type, size
//!   | Store::pull                 the only function that asks *for bytes*: each blob is checked as it streams in
//! store::Store                    an OCI image layout, shared by processes
//!   | Store::image
//! pull::Image                     config, layers with their diff IDs
//! ```
//!
//! ```no_run
//! # use kit_oci::{layer::Layer, platform::Platform, pull, registry, store::Store};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open("/var/cache/kit/store")?;
//! let client = registry::Client::new(registry::Options::default());
//! let source = pull::Source::registry(&client);
//! let pinned = pull::resolve(&"busybox:1.37".parse()?, &Platform::linux_amd64(), &store, &source)?;
//! let image = store.pull(&pinned, &source)?;
//! for layer in &image.layers {
//!     let blob = store.stream_verified(layer.blob.digest(), Some(layer.blob.size()))?;
//!     let mut entries = Layer::open(blob, None)?;
//!     while let Some(entry) = entries.next()? {
//!         println!("{:?}", entry.change);
//!     }
//!     // Only with this proof may what was made of the entries be kept.
//!     let _proof = entries.finish()?.finish()?;
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod reference;

pub mod digest;

pub mod platform;

pub mod manifest;

pub mod store;

pub mod registry;

pub mod pull;

pub mod push;

pub mod image;

pub mod layer;

pub mod archive;

pub mod bundle;
