//! The start itself: QEMU with its wires, up to the moment the guest goes on.

use super::{LaunchError, check};
use crate::accelerator::{HostCpu, decide};
use crate::console::Line;
use crate::deadline::Deadline;
use crate::exit::Exit;
use crate::feed::Feed;
use crate::home::Place;
use crate::pause::{ANSWER_WITHIN, wait_console};
use crate::process::Process;
use crate::qemu::{self, Ovmf, QemuOptions, Wiring, forward};
use crate::qmp::{Client, QmpError};
use crate::running::{KILL_WITHIN, Lifeline, Parts, Running, open_log};
use crate::sys::own_session_on_a_lifeline;
use crate::watch::last_words;
use kit_spec::machine::{Machine, Name};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long QEMU may take from its start to its greeting, on a host with much else to do.
const GREETING_WITHIN: Duration = Duration::from_secs(60);

/// All that a start needs, found and checked.
pub(super) struct Order<'a> {
    pub(super) machine: &'a Machine,
    pub(super) options: &'a QemuOptions,
    pub(super) program: &'a Path,
    pub(super) ovmf: Option<Ovmf>,
    pub(super) place: &'a Place,
}

/// A machine that goes, and that nobody watches yet.
pub(super) struct Started {
    child: Ward,
    process: Process,
    lifeline: Lifeline,
    line: Line,
    client: Client,
    log: File,
}

/// A child that is killed and reaped unless it is given away.
struct Ward(Option<Child>);

impl Drop for Ward {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a machine and has it go on once somebody is at its console.
pub(super) fn start(order: &Order<'_>) -> Result<Started, LaunchError> {
    let name = &order.machine.name;
    let (mut child, lifeline, console, monitor) = run(order)?;
    let pid = child.0.as_ref().map_or(0, Child::id);
    let process = Process::of_child(pid).map_err(wire("hold the process", name))?;
    order.place.record(order.machine, process.identity())?;
    let client = go(monitor).map_err(|error| match error {
        QmpError::Closed { .. } => ended(order, &mut child, &process),
        source => LaunchError::Monitor { name: name.clone(), source },
    })?;
    let log = open_log(&order.place.file("console.log")).map_err(wire("open the console's log", name))?;
    Ok(Started { child, process, lifeline, line: Line::new(name.clone(), console), client, log })
}

impl Started {
    /// Begins to watch it.
    pub(super) fn watch(mut self, name: &Name, place: Place) -> Result<Running, LaunchError> {
        let parts = Parts {
            name: name.clone(),
            place,
            process: self.process,
            child: self.child.0.take(),
            feed: Feed::new(name.clone()),
            line: self.line,
            client: self.client,
            log: self.log,
            lifeline: Some(self.lifeline),
        };
        Running::new(parts).map_err(wire("watch the monitor", name))
    }
}

/// Runs QEMU, connected on two sockets and a lifeline.
fn run(order: &Order<'_>) -> Result<(Ward, Lifeline, UnixStream, UnixStream), LaunchError> {
    let Order { machine, options, program, place, .. } = *order;
    let name = &machine.name;
    let ovmf = order.ovmf.as_ref().map(|ovmf| own_variables(ovmf, place)).transpose()?;
    let bind = |socket| UnixListener::bind(place.socket(socket)).map_err(wire("bind a socket", name));
    let (console, monitor, control) = (bind("console.sock")?, bind("monitor.sock")?, bind("control.sock")?);
    let wiring = Wiring {
        accelerator: options.accelerator.unwrap_or_else(|| decide(HostCpu::detect())),
        cpu: options.cpu.clone(),
        on_reboot: options.on_reboot,
        ovmf,
        console: console.as_raw_fd(),
        monitor: monitor.as_raw_fd(),
        control: control.as_raw_fd(),
        log: place.file("console.log"),
    };
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(wire("make a pipe", name))?;
    let shared = read.try_clone().map_err(wire("share a pipe", name))?;
    let lifeline = Lifeline { read, _write: write };
    let lock = place.share_lock().map_err(wire("share the lock", name))?;
    let words = File::create(place.file("qemu.log")).map_err(wire("make a log", name))?;

    let mut command = Command::new(program);
    command.args(qemu::args(machine, &wiring)).env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
    let inherit = vec![console.into(), monitor.into(), control.into(), lock];
    own_session_on_a_lifeline(&mut command, inherit, shared);

    let connect =
        |socket| UnixStream::connect(place.socket(socket)).map_err(wire("connect to a socket", name));
    let (console, monitor) = (connect("console.sock")?, connect("monitor.sock")?);
    let child = command.spawn().map_err(|source| LaunchError::Run { program: program.into(), source })?;
    // The command goes, and with it our copies of the listening sockets: if QEMU ends, the connections do.
    Ok((Ward(Some(child)), lifeline, console, monitor))
}

/// Waits for QEMU's greeting and lets the guest go on.
fn go(monitor: UnixStream) -> Result<Client, QmpError> {
    let mut client = Client::greet(monitor, GREETING_WITHIN)?;
    wait_console(&mut client, true)?;
    client.execute("cont", ANSWER_WITHIN)?;
    Ok(client)
}

/// Why QEMU hung up.
fn ended(order: &Order<'_>, child: &mut Ward, process: &Process) -> LaunchError {
    let gone = process.wait(Deadline::after(KILL_WITHIN)).unwrap_or(false);
    let status = child.0.as_mut().filter(|_| gone).and_then(|child| child.wait().ok());
    let words = last_words(&order.place.file("qemu.log"));
    let rule = |publish: &&_| words.contains(&format!("'{}'", forward(publish)));
    if let Some(publish) = check::published(order.machine).find(rule) {
        return LaunchError::PortInUse { publish: *publish };
    }
    LaunchError::Ended { name: order.machine.name.clone(), exit: Exit::of(status, None, words) }
}

/// The firmware with a copy of its variables that is the machine's own.
fn own_variables(ovmf: &Ovmf, place: &Place) -> Result<Ovmf, LaunchError> {
    let vars = place.file("vars.fd");
    let copied = std::fs::read(&ovmf.vars).and_then(|bytes| std::fs::write(&vars, bytes));
    let what = "the firmware's variables";
    copied.map_err(|source| LaunchError::File { what, path: ovmf.vars.clone(), source })?;
    Ok(Ovmf { code: ovmf.code.clone(), vars })
}

fn wire(doing: &'static str, name: &Name) -> impl FnOnce(io::Error) -> LaunchError {
    let name = name.clone();
    move |source| LaunchError::Wire { doing, name, source }
}
