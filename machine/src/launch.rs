//! From a description to a machine that runs.
//!
//! Everything that can be wrong is looked at before QEMU is started, since its own errors speak of options: the
//! program, the files, the ports, the name. Then the sockets are bound, QEMU inherits them and starts paused, and only
//! when it has greeted and has somebody at its console it goes on: not a byte is lost, and whatever fails until then
//! is an error of the launch, with QEMU's last words.

mod check;
mod start;

use crate::exit::Exit;
use crate::home::{Home, HomeError, Taking};
use crate::qemu::{self, FirmwareError, QemuOptions};
use crate::qmp::QmpError;
use crate::running::Running;
use kit_spec::artifact::Arch;
use kit_spec::machine::{Machine, Name, Publish};
use std::io;
use std::path::PathBuf;

/// What runs a machine.
#[derive(Clone, Debug)]
pub enum Monitor {
    /// QEMU.
    Qemu(QemuOptions),
}

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Of another architecture.
    #[error("machine `{name}` is of architecture {arch:?}: only amd64 machines can be started")]
    Arch {
        /// The machine.
        name: Name,
        /// What it is.
        arch: Arch,
    },
    /// There is no QEMU.
    #[error(
        "qemu-system-x86_64 is not in PATH: install the package qemu-system-x86, or name the program in KIT_QEMU"
    )]
    NoQemu,
    /// There is no UEFI firmware.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A file of the machine cannot be used.
    #[error("open {what} {path}", path = path.display())]
    File {
        /// What it is to the machine.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The name is taken.
    #[error("a machine `{name}` runs already{by}", by = pid.map(|pid| format!(", as process {pid}")).unwrap_or_default())]
    Taken {
        /// The name.
        name: Name,
        /// The monitor of the machine that has it, unless that is only just starting.
        pid: Option<u32>,
    },
    /// A host port is in use.
    #[error("host port {publish} is in use: publish the guest's port {guest} at another", guest = publish.guest)]
    PortInUse {
        /// The mapping.
        publish: Publish,
    },
    /// A host port cannot be listened on.
    #[error("listen on host port {publish}")]
    Port {
        /// The mapping.
        publish: Publish,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The machine's directory is of no use.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Something between this process and the monitor cannot be made.
    #[error("{doing} for machine `{name}`")]
    Wire {
        /// What was being done.
        doing: &'static str,
        /// The machine.
        name: Name,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("run {program}", program = program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The monitor ended before the machine was started.
    #[error("machine `{name}` did not start: {exit}")]
    Ended {
        /// The machine.
        name: Name,
        /// How, with the monitor's last words.
        exit: Exit,
    },
    /// The monitor runs but does not start the machine.
    #[error("machine `{name}` did not start")]
    Monitor {
        /// The machine.
        name: Name,
        /// What the monitor did instead.
        #[source]
        source: QmpError,
    },
}

impl Home {
    /// Starts a machine. It runs, with its console watched, when this returns.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn launch(&self, machine: &Machine, monitor: &Monitor) -> Result<Running, LaunchError> {
        let Monitor::Qemu(options) = monitor;
        let name = &machine.name;
        if machine.arch != Arch::Amd64 {
            return Err(LaunchError::Arch { name: name.clone(), arch: machine.arch });
        }
        let (kit_qemu, path) = (std::env::var_os("KIT_QEMU"), std::env::var_os("PATH"));
        let program = qemu::program(options.program.as_deref(), kit_qemu.as_deref(), path.as_deref())
            .ok_or(LaunchError::NoQemu)?;
        let machine = &check::with_absolute_paths(machine)?;
        check::files(machine)?;
        let ovmf = check::firmware(machine, options)?;
        let place = match self.take(name)? {
            Taking::Taken(place) => place,
            Taking::Busy(by) => {
                return Err(LaunchError::Taken { name: name.clone(), pid: by.map(|by| by.pid) });
            }
        };
        let started = check::ports(machine).and_then(|()| {
            start::start(&start::Order { machine, options, program: &program, ovmf, place: &place })
        });
        match started {
            Ok(started) => started.watch(name, place),
            Err(error) => {
                // The first error is the one to tell; what stays is removed by the next who looks.
                let _ = place.remove();
                Err(error)
            }
        }
    }
}
