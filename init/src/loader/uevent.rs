//! Waiting for a device: drivers are loaded for what is there and for what appears, until it is found.

use super::LoaderError;
use super::cmdline::Cmdline;
use crate::{module, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Tries until something is found or the time that the command line gives is over.
pub(super) fn until<T>(
    cmdline: &Cmdline,
    mut found: impl FnMut() -> Option<T>,
) -> Result<Option<T>, LoaderError> {
    // Before the first look, so that nothing appears unheard.
    let socket = sys::uevent_socket().map_err(LoaderError::Uevent)?;
    let mut loader = module::Loader::new()?;
    if let Some(value) = found() {
        return Ok(Some(value));
    }
    all_devices(&mut loader);
    let end = Instant::now() + Duration::from_secs(cmdline.root_wait_secs);
    loop {
        if let Some(value) = found() {
            return Ok(Some(value));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait(&socket, left)? {
            return Ok(found());
        }
        module::Heard::from(&socket).aliases.iter().for_each(|alias| serve(&mut loader, alias));
    }
}

fn all_devices(loader: &mut module::Loader) {
    module::each_modalias(&mut |alias| serve(loader, alias));
}

/// One driver that cannot be loaded must not keep the others from it.
fn serve(loader: &mut module::Loader, alias: &str) {
    if let Err(error) = loader.alias(alias) {
        eprintln!("kit: loader: {error}: {}", error.source);
    }
}

fn wait(socket: &OwnedFd, left: Duration) -> Result<bool, LoaderError> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut fds, Some(&left)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(LoaderError::Uevent(error.into())),
    }
}
