//! Start a machine, watch its console, wait for it, stop it; let it go and find it again.
//!
//! Invariant: this crate knows how to start a hypervisor and nothing of what runs inside, and a dead monitor never takes
//! its caller along.
//!
//! ```text
//! launch(&Machine, &Monitor) -> Running    checks (files, ports, name), then QEMU, paused until somebody listens
//!   Running::console() wait_for() send()   what it prints and is told
//!   Running::wait() stop() kill()          its end; Drop kills
//!   Running::detach() -> Detached          it goes on, its console written to a log
//! list() / attach(name) / stop(name)       any process of the same user finds it
//! ```
//!
//! ```no_run
//! # fn example(machine: &kit_spec::machine::Machine) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! let running = kit_machine::launch(machine, &kit_machine::Monitor::Qemu(Default::default()))?;
//! running.wait_for("kit: ready", Duration::from_secs(60))?;
//! running.stop(Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```

pub mod accelerator;
mod attach;
pub mod console;
mod deadline;
mod exit;
mod feed;
mod home;
mod launch;
mod pause;
mod process;
pub mod qemu;
pub mod qmp;
mod running;
mod sys;
mod transcript;
mod watch;

pub use attach::AttachError;
pub use exit::Exit;
pub use feed::{Match, WaitError};
pub use home::{Home, HomeError, Listed};
pub use launch::{LaunchError, Monitor};
pub use running::{Detached, Running, StopError};

use kit_spec::machine::{Machine, Name};
use std::time::Duration;

/// Starts a machine among the user's own; see [`Home::launch`].
///
/// # Errors
/// See [`LaunchError`].
pub fn launch(machine: &Machine, monitor: &Monitor) -> Result<Running, LaunchError> {
    Home::of_user()?.launch(machine, monitor)
}

/// Takes charge of a detached machine of the user's; see [`Home::attach`].
///
/// # Errors
/// See [`AttachError`].
pub fn attach(name: &Name) -> Result<Running, AttachError> {
    Home::of_user()?.attach(name)
}

/// The user's machines that run, by name; see [`Home::list`].
///
/// # Errors
/// See [`HomeError`].
pub fn list() -> Result<Vec<Listed>, HomeError> {
    Home::of_user()?.list()
}

/// Stops one of the user's machines, whoever is in charge of it; see [`Home::stop`].
///
/// # Errors
/// See [`AttachError`].
pub fn stop(name: &Name, grace: Duration) -> Result<Exit, AttachError> {
    Home::of_user()?.stop(name, grace)
}
