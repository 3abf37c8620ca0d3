//! What the tests share: a registry that does as it is told, and small images.

mod content;
mod peers;
mod server;

pub use content::{Content, descriptor, hex};
pub use peers::{DockerRegistry, installed, run, umoci_image};
pub use server::{Answer, Seen, Server};

use std::time::Duration;

use kit_oci::platform::Platform;
use kit_oci::pull::{self, Image, Pinned, PullError, Source};
use kit_oci::reference::Reference;
use kit_oci::registry::{Client, Options, Retry, Timeouts};
use kit_oci::store::Store;

/// A store in a directory that goes away.
pub struct Place {
    pub store: Store,
    _directory: tempfile::TempDir,
}

pub fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { store: Store::open(directory.path().join("store")).unwrap(), _directory: directory }
}

/// Options of somebody in a hurry.
pub fn hasty() -> Options {
    Options {
        timeouts: Timeouts { connect: Duration::from_secs(5), idle: Duration::from_millis(400) },
        retry: Retry { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(50) },
        ..Options::default()
    }
}

pub fn amd64() -> Platform {
    Platform::linux_amd64()
}

pub fn resolved(store: &Store, client: &Client, reference: &Reference) -> Result<Pinned, PullError> {
    pull::resolve(reference, &amd64(), store, &Source::registry(client))
}

/// Resolves and pulls.
pub fn pulled(store: &Store, client: &Client, reference: &Reference) -> Result<Image, PullError> {
    store.pull(&resolved(store, client, reference)?, &Source::registry(client))
}

/// An error as the user sees it, with all its causes, and as a debugger sees it.
pub fn shown(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The file names in a directory of the store, sorted.
pub fn files(store: &Store, below: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(store.path().join(below))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
