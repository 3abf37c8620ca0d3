//! `kitc update`: other limits for a container that runs.
//!
//! The limits come as `linux.resources` of the specification, from a file or put together from options.
//! What they do not mention stays as it is.

use crate::cgroup;
use crate::state::{self, StateDir, Status};
use oci_spec::runtime::LinuxResources;
use std::path::Path;

/// Why limits could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// It has ended, or is not there yet.
    #[error("container not running: {id} is {}", status.word())]
    Status {
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
}

/// Changes the limits of a container.
pub fn update(root: &Path, id: &str, resources: &LinuxResources) -> Result<(), Error> {
    let dir = StateDir::open(root, id)?;
    let record = dir.read()?;
    let status = record.as_ref().map_or(Status::Creating, |r| r.status_now());
    let Some(mut record) = record.filter(|_| !matches!(status, Status::Creating | Status::Stopped)) else {
        return Err(Error::Status { id: id.to_owned(), status });
    };
    let before = record.cgroup.clone();
    let result = record.cgroup.update(resources);
    // What it was put into has to be known, whatever went wrong after that.
    if record.cgroup != before {
        dir.write(&record)?;
    }
    Ok(result?)
}
